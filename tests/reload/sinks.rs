//! Sinks that change, go and come: their buffers stay, their events are not lost.
//!
//! Some sinks have nobody to deliver to, so that they have a backlog when they change.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{Collector, check_once, free_port, named, relay, reload_to, status, until};
use crate::process::Daemon;

/// Sends numbered lines and waits until the sink `out` has taken them in.
fn send(daemon: &Daemon, to: std::net::SocketAddr, numbers: std::ops::Range<u64>) {
    let mut sender = TcpStream::connect(to).unwrap();
    let end = numbers.end;
    let text: String = numbers.map(|it| format!("n {it}\n")).collect();
    sender.write_all(text.as_bytes()).unwrap();
    until("all is taken in", || {
        let report = status(daemon);
        let ledger = &named(&report["sinks"], "out")["ledger"];
        ledger["accepted"].as_u64().unwrap() + ledger["recovered"].as_u64().unwrap() >= end
    });
}

#[test]
fn f_029_a_sink_with_a_backlog_goes_on_to_its_new_address() {
    let (listen, nowhere) = (free_port(), free_port());
    let collector = Collector::start();
    for buffer in ["", "buffer.disk = \"8MiB\"\n"] {
        let before = collector.count();
        let config = |to| format!("{}{buffer}", relay(listen, to, ""));
        let daemon = Daemon::start(&config(nowhere));
        send(&daemon, listen, 0..10_000);
        let text = reload_to(&daemon, &config(collector.address));
        let changed = "kept 2, changed: sink.out (address), added: none, removed: none\n";
        assert_eq!(text, changed);
        let lines = collector.wait_for(before + 10_000);
        check_once(&lines[before..], 10_000);
        let ended = daemon.stop();
        assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 10_000));
    }
}

#[test]
fn f_033_a_reload_does_not_wait_for_a_sink_that_fails() {
    let (listen, nowhere) = (free_port(), free_port());
    // One that refuses, and one that takes connections and reads nothing.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    for to in [nowhere, stuck.local_addr().unwrap()] {
        let config = |drop: &str| relay(listen, to, drop);
        let daemon = Daemon::start(&config(""));
        send(&daemon, listen, 0..1_000);
        reload_to(&daemon, &config("{ drop_if = '.message == \"a\"' }"));
        let collector = Collector::start();
        reload_to(&daemon, &relay(listen, collector.address, ""));
        for reloaded in daemon.records("reloaded") {
            // Each takes some milliseconds; to wait for the sink would be the stop's limit.
            let took = reloaded["took_ms"].as_u64().unwrap();
            assert!(took < 3_000, "{reloaded}");
        }
        drop(daemon);
    }
}

#[test]
fn c_408_what_is_added_starts_and_what_is_removed_delivers_what_it_has_and_goes() {
    let (listen, first, second) = (free_port(), Collector::start(), Collector::start());
    let two = |to: &str| {
        format!(
            "{}[sink.spare]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
            relay(listen, first.address, "").replace("to = [\"out\"]", to),
            second.address
        )
    };
    let with = two("to = [\"out\", \"spare\"]");
    let without = relay(listen, first.address, "");
    let daemon = Daemon::start(&with);
    send(&daemon, listen, 0..5_000);
    let text = reload_to(&daemon, &without);
    let changed = "kept 2, changed: pipeline.main (to), added: none, removed: sink.spare\n";
    assert_eq!(text, changed);
    let removed = daemon.wait_for("sink_removed");
    assert_eq!(
        (&removed["component"], &removed["dropped"]),
        (&"sink.spare".into(), &0.into())
    );
    check_once(&second.wait_for(5_000), 5_000);
    check_once(&first.wait_for(5_000), 5_000);
    let report = status(&daemon);
    assert_eq!(report["sinks"].as_array().unwrap().len(), 1);
    // It may come back.
    reload_to(&daemon, &with);
    send(&daemon, listen, 5_000..5_010);
    check_once(&second.wait_for(5_010), 5_010);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn what_a_removed_sink_cannot_deliver_is_counted_and_said() {
    let (listen, nowhere, collector) = (free_port(), free_port(), Collector::start());
    let own = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nstop_timeout = \"500ms\"\n";
    let with = format!(
        "{own}{}[sink.spare]\ntype = \"socket\"\naddress = \"tcp://{nowhere}\"\n",
        relay(listen, collector.address, "").replace("to = [\"out\"]", "to = [\"out\", \"spare\"]")
    );
    let daemon = Daemon::start(&with);
    send(&daemon, listen, 0..100);
    reload_to(
        &daemon,
        &format!("{own}{}", relay(listen, collector.address, "")),
    );
    let removed = daemon.wait_for("sink_removed");
    assert_eq!(removed["dropped"], 100, "{removed}");
    assert_eq!(removed["level"], "warn", "{removed}");
    send(&daemon, listen, 100..200);
    check_once(&collector.wait_for(200), 200);
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("spare", "dropped")), (0, 100));
}

#[test]
fn f_031_a_disk_buffer_goes_by_the_sinks_name_and_a_rename_is_said() {
    let (listen, nowhere) = (free_port(), free_port());
    let config = |name: &str, sink: &str| {
        format!(
            "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://{listen}\"]\n\
             [pipeline.main]\nfrom = [\"in\"]\nto = [\"{name}\"]\n\
             [sink.{name}]\n{sink}\nencode = \"raw\"\nbuffer.disk = \"8MiB\"\n"
        )
    };
    let socket = format!("type = \"socket\"\naddress = \"tcp://{nowhere}\"");
    let daemon = Daemon::start(&config("out", &socket));
    send(&daemon, listen, 0..1_000);
    // A rename: the backlog stays where it is, and the log says whose it was and what to do.
    let text = reload_to(&daemon, &config("other", &socket));
    assert!(
        text.contains("added: sink.other, removed: sink.out"),
        "{text}"
    );
    let left = daemon.wait_for("buffer_left");
    assert_eq!(
        (&left["component"], &left["events"]),
        (&"sink.out".into(), &1_000.into())
    );
    let message = left["message"].as_str().unwrap();
    assert!(
        message.contains("marline buffer requeue out --to SINK"),
        "{message}"
    );
    // The old name again, of another type: it takes the backlog on.
    let file = "type = \"file\"\npath = \"{folder}/out.log\"";
    reload_to(&daemon, &config("out", file));
    let path = daemon.path("out.log");
    let lines = || {
        std::fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .count()
    };
    until("the backlog is in the file", || lines() == 1_000);
    let numbers: Vec<String> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    check_once(&numbers, 1_000);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_start_says_which_disk_buffers_belong_to_nobody() {
    let listen = free_port();
    let config = relay(listen, free_port(), "");
    let daemon = Daemon::launch(&config, |command| {
        let folder = command
            .get_current_dir()
            .unwrap()
            .join("state/buffer/former");
        std::fs::create_dir_all(folder).unwrap();
    });
    daemon.wait_for("started");
    let orphaned = daemon.wait_for("buffer_orphaned");
    assert_eq!(orphaned["name"], "former");
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn standard_output_changes_its_form_without_losing_a_line() {
    let listen = free_port();
    let config = |encode: &str| {
        format!(
            "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://{listen}\"]\n\
             [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
             [sink.out]\ntype = \"file\"\npath = \"{{folder}}/out.log\"\nencode = {encode}\n"
        )
    };
    let daemon = Daemon::start(&config("\"raw\""));
    let load = super::Load::tcp(listen);
    for round in 1..=10 {
        let encode = format!("{{ template = \"form{round} {{{{ .message }}}}\" }}");
        let text = reload_to(&daemon, &config(&encode));
        assert!(
            text.starts_with("kept 2, changed: sink.out (encode)"),
            "{text}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = load.stop();
    let ended = daemon.stop();
    let text = std::fs::read_to_string(ended.folder.path().join("out.log")).unwrap();
    let lines: Vec<String> = text.lines().map(String::from).collect();
    check_once(&lines, sent);
    assert!(
        lines.last().unwrap().starts_with("form10 "),
        "{:?}",
        lines.last()
    );
    assert_eq!(ended.code(), 0);
}
