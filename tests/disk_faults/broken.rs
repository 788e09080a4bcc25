//! A disk that breaks: once, for ever, into a read-only one; and a folder that goes away.
//!
//! What cannot be made durable is answered with 503, what can be read is delivered, the rest of the
//! daemon goes on.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::places::Place;
use super::{
    BESIDE, Daemon, NO_STRACE, can_trace, check_beside, config, end, http, injected, last_life,
    post_all, post_until, sink, under_strace, until_delivered, with_daemon, with_state,
};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;
use crate::faults::processor_seconds;
use crate::skips::skip;

#[test]
fn f_042_one_failure_costs_a_segment_and_no_event() {
    const NAME: &str = "f_042_one_failure_costs_a_segment_and_no_event";
    if !can_trace() {
        return skip(NAME, NO_STRACE);
    }
    let mut failures = 0;
    for call in ["fdatasync", "pwrite64"] {
        for n in [1, 2, 3, 5, 8] {
            let collector = Collector::new();
            let config = config(&collector);
            let daemon = Daemon::launch(&config, |command| {
                under_strace(command, call, &format!("error=EIO:when={n}"));
            });
            // The very first write is the lock's note.
            let Some(address) = daemon.try_http_address() else {
                assert_eq!(daemon.wait().code(), 1);
                continue;
            };
            let mut client = Client::new();
            for request in 0..12 {
                if request == 6 {
                    collector.listen();
                }
                // Each storage thread counts by itself: two failures in a row may be two.
                let answer = client.post(address).unwrap();
                assert!(matches!(answer, 200 | 503), "{call} {n}: {answer}");
            }
            until_delivered(&collector, &client);
            let count = injected(daemon.folder());
            let told = daemon.records("buffer_failed").len();
            assert!(client.refused == 0 || count > 1, "{call} {n}: {count}");
            assert!(count == 0 || told > 0, "{call} {n}: nobody was told");
            failures += count;
            let (ended, verdict) = end(daemon, collector, &client);
            assert_eq!(verdict.doubled, 0, "{call} {n}");
            assert_eq!(ended.sink("out", "dropped"), 0, "{call} {n}");
        }
    }
    println!("{failures} calls failed; nothing lost, nothing twice");
    assert!(failures >= 8, "hardly anything failed");
}

#[test]
fn f_043_while_every_sync_fails_nothing_is_acknowledged_and_the_rest_goes_on() {
    const NAME: &str = "f_043_while_every_sync_fails_nothing_is_acknowledged";
    if !can_trace() {
        return skip(NAME, NO_STRACE);
    }
    let collector = Collector::new();
    let config = config(&collector) + BESIDE;
    let limited = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&limited, |command| {
        under_strace(command, "fdatasync,fsync", "error=EIO:when=6+");
    });
    let address = http(&daemon);
    let mut client = Client::new();
    post_until(&mut client, address, 503, 60);
    check_broken(&daemon, &mut client, "Input/output error");
    assert!(!client.acked.is_empty(), "something was durable before");
    // What was acknowledged can be read, and is delivered.
    collector.listen();
    until_delivered(&collector, &client);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(
        ended.code(),
        1,
        "what was never durable is lost, and the end says so"
    );
    crate::process::check_ledgers(&ended.log);
    last_life(ended.folder, &config, collector, &client);
}

/// Nothing more is acknowledged, the status says why, the rest goes on, nothing spins or storms.
fn check_broken(daemon: &Daemon, client: &mut Client, why: &str) {
    let address = http(daemon);
    let acked = client.acked.len();
    for _ in 0..5 {
        let answer = client.post(address).unwrap();
        assert!(matches!(answer, 503 | 429), "{answer}");
    }
    assert_eq!(client.acked.len(), acked);
    check_beside(daemon);
    let seen = sink(daemon);
    assert_eq!(seen["state"], "failing", "{seen:#}");
    assert!(
        seen["buffer"]["trouble"].to_string().contains(why),
        "{seen:#}"
    );
    let (busy, lines) = (
        processor_seconds(daemon),
        daemon.records("buffer_failed").len(),
    );
    std::thread::sleep(Duration::from_secs(2));
    let busy = processor_seconds(daemon) - busy;
    assert!(busy < 0.5, "{busy} s of processor time in 2 s");
    let lines = daemon.records("buffer_failed").len() - lines;
    assert!(lines <= 2, "{lines} lines in 2 s");
}

#[test]
fn f_046_a_file_system_that_turns_read_only_fails_the_buffer_and_keeps_what_it_has() {
    const NAME: &str = "f_046_a_file_system_that_turns_read_only_fails_the_buffer";
    let made = Place::ext4(&[], "errors=remount-ro");
    let place = match made {
        Ok(place) => place,
        Err(why) => return skip(NAME, &why),
    };
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", place.device());
    let collector = Collector::new();
    let config = with_state(&(config(&collector) + BESIDE), &place.path().join("state"));
    let limited = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&limited, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, 8);
    if let Err(error) = std::fs::write(&trigger, "by a test") {
        return skip(NAME, &format!("{trigger}: {error}"));
    }
    post_until(&mut client, address, 503, 40);
    check_broken(&daemon, &mut client, "disk buffer");
    collector.listen();
    until_delivered(&collector, &client);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.code(), 1);
    place.unmount().unwrap();
    place.mount("errors=continue").unwrap();
    last_life(ended.folder, &config, collector, &client);
}

#[test]
fn f_048_a_folder_that_is_moved_is_followed_and_nothing_is_written_where_it_was() {
    let collector = Collector::new();
    let config = config(&collector);
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, 4);
    let (place, moved) = (daemon.path("state/buffer"), daemon.path("moved"));
    std::fs::rename(&place, &moved).unwrap();
    post_all(&mut client, address, 8);
    assert!(!place.exists(), "something was made where the folder was");
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    std::fs::rename(&moved, &place).unwrap();
    let verdict = last_life(ended.folder, &config, collector, &client);
    assert_eq!(verdict.doubled, 0);
}

#[test]
fn f_048_a_folder_that_is_deleted_fails_the_buffer_and_is_not_made_again() {
    let collector = Collector::new();
    let config = config(&collector) + BESIDE;
    let limited = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&limited, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, 4);
    let place = daemon.path("state/buffer");
    std::fs::remove_dir_all(&place).unwrap();
    // At the latest when the segment in use is full.
    post_until(&mut client, address, 503, 12);
    check_broken(&daemon, &mut client, "No such file");
    assert!(!place.exists());
    // What was deleted is gone; the books say so, and what is left comes.
    collector.listen();
    super::until("the rest came", || {
        sink(&daemon)["ledger"]["delivered"] != 0
    });
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    crate::process::check_ledgers(&ended.log);
    assert!(!ended.folder.path().join("state/buffer").exists());
    let ended = Daemon::launch_in(ended.folder, &config, |_| {});
    ended.wait_for("started");
    assert_eq!(ended.stop().code(), 0, "the next start makes a new one");
}
