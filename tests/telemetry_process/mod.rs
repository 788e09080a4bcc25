//! The log of the real daemon: when nobody reads it, when it cannot be written, and in each of
//! its formats.
//!
//! These tests own the daemon's stderr, which is why they start it themselves.

mod journal;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{self, Daemon, PATIENCE};

/// A daemon's config that relays lines to a listener of the test, from a known port.
fn relay(listen: u16, to: &TcpListener, daemon: &str) -> String {
    let to = to.local_addr().unwrap();
    format!(
        "[daemon]\nstate_dir = \"state\"\n{daemon}\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:{listen}\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n"
    )
}

/// A port that was free a moment ago: for daemons whose log the test cannot read it from.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes the daemon log a lot, then sees a line through it.
fn disturb_and_relay(port: u16, sink: &TcpListener) {
    // Two records each: far more than a pipe holds.
    for _ in 0..500 {
        drop(connect(port));
    }
    let mut sender = connect(port);
    sender.write_all(b"still alive\n").unwrap();
    let (mut out, _) = sink.accept().unwrap();
    out.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = [0; 12];
    out.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"still alive\n");
}

const CHATTY: &str = "log.format = \"json\"\nlog.level = \"trace\"";

#[test]
fn f_127_a_log_that_nobody_reads_stops_nothing() {
    let (port, sink) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (unread, stderr) = std::io::pipe().unwrap();
    let daemon = Daemon::launch(&relay(port, &sink, CHATTY), |command| {
        command.stderr(Stdio::from(OwnedFd::from(stderr)));
    });
    disturb_and_relay(port, &sink);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    drop(unread);
}

#[test]
fn f_127_a_closed_log_stops_nothing() {
    let (port, sink) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (reader, stderr) = std::io::pipe().unwrap();
    drop(reader);
    let daemon = Daemon::launch(&relay(port, &sink, CHATTY), |command| {
        command.stderr(Stdio::from(OwnedFd::from(stderr)));
    });
    disturb_and_relay(port, &sink);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().status.code(), Some(0));
}

#[test]
fn a_relay_keeps_its_books() {
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = relay(0, &sink, "log.format = \"json\"");
    let daemon = Daemon::start(&config);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(b"one\ntwo\nthree\n").unwrap();
    drop(sender);
    let (mut out, _) = sink.accept().unwrap();
    out.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = [0; 14];
    out.read_exact(&mut lines).unwrap();
    assert_eq!(&lines, b"one\ntwo\nthree\n");
    let ended = daemon.stop();
    assert_eq!(ended.status.code(), Some(0));
    let counts = process::last_of_each(&ended.log, "sink_counts", "sink");
    assert_eq!(process::count(counts[0], "delivered"), 3);
}

#[test]
fn each_format_of_the_config_is_used() {
    let starts = |format: &str, start: &str| {
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = relay(0, &sink, &format!("log.format = \"{format}\""));
        let daemon = Daemon::launch(&config, |_| {});
        let is_start = |line: &str| line.contains(start);
        daemon.wait_until(start, |record| match record.as_str() {
            Some(line) => is_start(line),
            None => is_start(&record.to_string()),
        });
    };
    starts("json", "\"event\":\"starting\"");
    starts(
        "logfmt",
        " level=info component=daemon event=starting message=",
    );
    starts("human", " INFO  daemon         marline ");
}
