//! No room: the file system is full, files have a limit; and records that fit nowhere.
//!
//! A full disk is a full buffer: who comes is refused or waits, and it heals by itself, be it by
//! room from outside or by what is delivered.

use std::io::Write;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::places::Place;
use super::{
    BESIDE, Daemon, check_beside, config, end, fill, http, last_life, post_all, sink, until,
    until_delivered, with_daemon, with_state,
};
use crate::crashes::collector::Collector;
use crate::crashes::load::{Client, EVENTS, line};
use crate::skips::skip;

#[test]
fn f_039_a_full_file_system_is_a_full_buffer_and_heals_when_there_is_room() {
    const NAME: &str = "f_039_a_full_file_system_is_a_full_buffer_and_heals_when_there_is_room";
    let place = match Place::tmpfs("4m") {
        Ok(place) => place,
        Err(why) => return skip(NAME, &why),
    };
    let collector = Collector::new();
    let config = with_state(&(config(&collector) + BESIDE), &place.path().join("state"));
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    fill(&mut client, address);
    let full = daemon.wait_for("buffer_full");
    assert!(full.to_string().contains("o space left"), "{full}");
    assert_eq!(client.post(address).unwrap(), 429, "full stays full");
    check_beside(&daemon);
    place.resize("64m");
    let mut answer = client.post(address).unwrap();
    until("room again", || {
        answer = client.post(address).unwrap();
        answer == 200
    });
    collector.listen();
    until_delivered(&collector, &client);
    let (ended, verdict) = end(daemon, collector, &client);
    assert_eq!(ended.sink("out", "dropped"), 0);
    assert_eq!(verdict.doubled, 0);
}

#[test]
fn f_039_a_full_file_system_is_made_room_on_by_delivering() {
    const NAME: &str = "f_039_a_full_file_system_is_made_room_on_by_delivering";
    let place = match Place::tmpfs("4m") {
        Ok(place) => place,
        Err(why) => return skip(NAME, &why),
    };
    let collector = Collector::new();
    let config = with_state(&config(&collector), &place.path().join("state"));
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    fill(&mut client, address);
    // Others take the last byte; what is delivered then must be enough to go on with.
    place.fill();
    collector.listen();
    until_delivered(&collector, &client);
    until("room again", || client.post(address).unwrap() == 200);
    until_delivered(&collector, &client);
    end(daemon, collector, &client);
}

#[test]
fn f_039_after_a_restart_on_a_full_file_system_delivering_makes_room_too() {
    const NAME: &str = "f_039_after_a_restart_on_a_full_file_system_delivering_makes_room_too";
    let place = match Place::tmpfs("4m") {
        Ok(place) => place,
        Err(why) => return skip(NAME, &why),
    };
    let collector = Collector::new();
    let config = with_state(&config(&collector), &place.path().join("state"));
    let config = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    fill(&mut client, address);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(
        ended.code(),
        1,
        "what found no room is lost, and the end says so"
    );
    place.fill();
    let daemon = Daemon::launch_in(ended.folder, &config, |_| {});
    let address = http(&daemon);
    client.connection = None;
    collector.listen();
    until_delivered(&collector, &client);
    until("room again", || client.post(address).unwrap() == 200);
    until_delivered(&collector, &client);
    end(daemon, collector, &client);
}

#[test]
fn f_041_a_limit_of_file_sizes_is_a_full_buffer_and_ends_nobody() {
    let collector = Collector::new();
    let config = config(&collector) + BESIDE;
    let daemon = Daemon::launch(&config, |command| {
        let path = command.get_args().last().unwrap().to_owned();
        let folder = command.get_current_dir().unwrap().to_owned();
        *command = std::process::Command::new("sh");
        // 600 blocks of 512 bytes: less than a segment takes, and than one request needs.
        command.args(["-c", "ulimit -S -f 600; exec \"$0\" run --config \"$1\""]);
        command.arg(env!("CARGO_BIN_EXE_marline")).arg(path);
        command
            .current_dir(folder)
            .stderr(std::process::Stdio::piped());
    });
    let address = http(&daemon);
    let mut client = Client::new();
    fill(&mut client, address);
    assert!(client.acked.is_empty());
    let full = daemon.wait_for("buffer_full");
    assert!(full.to_string().contains("too large"), "{full}");
    check_beside(&daemon);
    // The limit is lifted from outside, as an operator would.
    let id = daemon.id().to_string();
    let mut prlimit = std::process::Command::new("prlimit");
    let lifted = prlimit.args(["--pid", &id, "--fsize=unlimited:"]).status();
    if !lifted.is_ok_and(|status| status.success()) {
        const NAME: &str = "f_041_a_limit_of_file_sizes_is_a_full_buffer_and_ends_nobody";
        return skip(NAME, "prlimit cannot lift the limit");
    }
    until("room again", || client.post(address).unwrap() == 200);
    collector.listen();
    until_delivered(&collector, &client);
    end(daemon, collector, &client);
}

#[test]
fn f_058_a_record_that_fits_nowhere_is_refused_for_good_and_the_queue_goes_on() {
    let collector = Collector::new();
    let config = config(&collector)
        .replace("from = [\"in\"]", "from = [\"in\", \"lines\"]")
        .replace(
            "[pipeline",
            "[source.lines]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
             max_message = \"8MiB\"\n[pipeline",
        );
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, 2);
    // A buffer of 8 MiB takes records of 2 MiB.
    let large = "x".repeat(3 << 20) + "\n";
    let answer = Client::new().exchange(address, &large).unwrap();
    assert_eq!(
        answer, 422,
        "to send it again is of no use, and the answer says so"
    );
    let mixed = line(client.issued) + &large + &line(client.issued + 1);
    assert_eq!(Client::new().exchange(address, &mixed).unwrap(), 422);
    client.acked.push(client.issued..client.issued + 2);
    client.issued += EVENTS;
    let mut lines = TcpStream::connect(daemon.tcp_address("source.lines")).unwrap();
    lines.write_all(large.as_bytes()).unwrap();
    lines.write_all(line(client.issued).as_bytes()).unwrap();
    client.acked.push(client.issued..client.issued + 1);
    client.issued += EVENTS;
    until("the third is dropped", || {
        sink(&daemon)["ledger"]["dropped"]["too_large"] == 3
    });
    collector.listen();
    until_delivered(&collector, &client);
    post_all(&mut client, address, 2);
    until_delivered(&collector, &client);
    drop(lines);
    let (ended, _) = end(daemon, collector, &client);
    assert_eq!(ended.sink("out", "dropped"), 3);
}

#[test]
fn f_039_a_start_without_room_says_so_and_that_it_may_be_tried_again() {
    const NAME: &str = "f_039_a_start_without_room_says_so_and_that_it_may_be_tried_again";
    let place = match Place::tmpfs("4m") {
        Ok(place) => place,
        Err(why) => return skip(NAME, &why),
    };
    let collector = Collector::new();
    let config = with_state(&config(&collector), &place.path().join("state"));
    let daemon = Daemon::launch(&config, |_| {});
    let mut client = Client::new();
    post_all(&mut client, http(&daemon), 2);
    daemon.signal(Signal::SIGKILL);
    let ended = daemon.wait();
    let ballast = place.fill();
    // The unproven end of the log is to be copied before anybody may read it.
    let ended = Daemon::launch_in(ended.folder, &config, |_| {}).wait();
    assert_eq!(ended.code(), 75, "{:#?}", ended.log);
    let failed = ended.log.iter().find(|it| it["event"] == "start_failed");
    let text = failed.unwrap().to_string();
    for part in ["sink.out", "o space left", "free some space"] {
        assert!(text.contains(part), "{text}");
    }
    std::fs::remove_file(ballast).unwrap();
    last_life(ended.folder, &config, collector, &client);
}
