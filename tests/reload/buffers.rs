//! Buffers whose options change: larger, smaller, to the disk and back, with events in them.
//!
//! The sink's address leads nowhere at first, so that its buffer holds what the tests count.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use super::{Collector, check_once, free_port, named, relay, reload_to, status, until};
use crate::process::Daemon;

/// The sink's own report.
fn sink(daemon: &Daemon) -> serde_json::Value {
    named(&status(daemon)["sinks"], "out").clone()
}

/// A number that is so often more than what is read at once.
const LINE_BYTES: usize = 1_000;

/// Sends long numbered lines.
fn send(to: SocketAddr, numbers: std::ops::Range<u64>) -> TcpStream {
    let mut sender = TcpStream::connect(to).unwrap();
    let pad = "x".repeat(LINE_BYTES);
    let text: String = numbers.map(|it| format!("{pad} {it}\n")).collect();
    sender.write_all(text.as_bytes()).unwrap();
    sender
}

fn wait_for_accepted(daemon: &Daemon, events: u64) {
    until("all is taken in", || {
        sink(daemon)["ledger"]["accepted"] == events
    });
}

/// A disk buffer that grows and shrinks, also below what it holds: full then, until that is
/// gone. The same over a restart, which has a size of its own.
#[test]
fn f_032_the_size_of_a_disk_buffer_changes_up_and_down() {
    let (listen, nowhere, collector) = (free_port(), free_port(), Collector::start());
    let config = |to, size: &str| format!("{}buffer.disk = \"{size}\"\n", relay(listen, to, ""));
    let daemon = Daemon::start(&config(nowhere, "64MiB"));
    let _sender = send(listen, 0..20_000);
    wait_for_accepted(&daemon, 20_000);
    // Twenty megabytes are in it: half of that, twice that, and back.
    for (size, bytes) in [("8MiB", 8 << 20), ("128MiB", 128 << 20), ("8MiB", 8 << 20)] {
        let text = reload_to(&daemon, &config(nowhere, size));
        assert!(
            text.starts_with("kept 2, changed: sink.out (buffer.disk)"),
            "{text}"
        );
        let buffer = sink(&daemon)["buffer"].clone();
        assert_eq!(buffer["capacity_bytes"], bytes, "{buffer:#}");
        assert_eq!(buffer["events"], 20_000, "{buffer:#}");
    }
    // What comes now waits, and is not lost.
    let _more = send(listen, 20_000..20_500);
    reload_to(&daemon, &config(collector.address, "8MiB"));
    check_once(&collector.wait_for(20_500), 20_500);
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (0, 0));
}

#[test]
fn f_032_the_size_of_a_buffer_in_memory_changes_up_and_down() {
    let (listen, nowhere, collector) = (free_port(), free_port(), Collector::start());
    let config = |to, size: &str| format!("{}buffer.memory = \"{size}\"\n", relay(listen, to, ""));
    let daemon = Daemon::start(&config(nowhere, "16MiB"));
    let _sender = send(listen, 0..500);
    wait_for_accepted(&daemon, 500);
    for (size, bytes) in [
        ("64KiB", 64 << 10),
        ("32MiB", 32 << 20),
        ("64KiB", 64 << 10),
    ] {
        reload_to(&daemon, &config(nowhere, size));
        let buffer = sink(&daemon)["buffer"].clone();
        assert_eq!(buffer["capacity_bytes"], bytes, "{buffer:#}");
        assert_eq!(buffer["events"], 500, "{buffer:#}");
    }
    reload_to(&daemon, &config(collector.address, "64KiB"));
    let _more = send(listen, 500..1_000);
    check_once(&collector.wait_for(1_000), 1_000);
    assert_eq!(daemon.stop().code(), 0);
}

/// From memory to the disk at once, so that what waits survives; back in order.
#[test]
fn a_backlog_moves_to_the_disk_and_comes_back_in_its_order() {
    let (listen, nowhere, collector) = (free_port(), free_port(), Collector::start());
    let memory = |to| relay(listen, to, "");
    let disk = |to| format!("{}buffer.disk = \"16MiB\"\n", memory(to));
    let daemon = Daemon::start(&memory(nowhere));
    let _first = send(listen, 0..1_000);
    wait_for_accepted(&daemon, 1_000);
    reload_to(&daemon, &disk(nowhere));
    let _second = send(listen, 1_000..2_000);
    wait_for_accepted(&daemon, 2_000);
    // To memory, with two thousand on the disk, and to the disk again, and to memory.
    reload_to(&daemon, &memory(nowhere));
    let _third = send(listen, 2_000..3_000);
    wait_for_accepted(&daemon, 3_000);
    reload_to(&daemon, &disk(nowhere));
    let _fourth = send(listen, 3_000..4_000);
    wait_for_accepted(&daemon, 4_000);
    reload_to(&daemon, &memory(nowhere));
    reload_to(&daemon, &memory(collector.address));
    let lines = collector.wait_for(4_000);
    check_once(&lines, 4_000);
    let numbers: Vec<u64> = lines
        .iter()
        .map(|it| it.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "the order has changed");
    // The disk buffer was left in order: it opens anew, and is empty.
    reload_to(&daemon, &disk(collector.address));
    let opened = daemon.records("buffer_opened");
    assert_eq!(opened.last().unwrap()["recovered"], 0, "{opened:?}");
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (0, 0));
}

/// What was moved to the disk is there at the next start.
#[test]
fn what_was_moved_to_the_disk_survives_the_process() {
    let (listen, nowhere) = (free_port(), free_port());
    let disk = format!("{}buffer.disk = \"16MiB\"\n", relay(listen, nowhere, ""));
    let daemon = Daemon::start(&relay(listen, nowhere, ""));
    let sender = send(listen, 0..1_000);
    wait_for_accepted(&daemon, 1_000);
    reload_to(&daemon, &disk);
    drop(sender);
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (0, 0));
    assert_eq!(ended.sink("out", "buffered"), 1_000);
}
