//! The watchdog, and signals: all reactors are one daemon.
//!
//! Whatever is sent to the process, or told by it, is for all of its reactors.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    Collector, DEDUPE, check_order, file_sink, lines_of, name_at, pipeline, send_over, socket_sink,
    source, stop_well, table, until,
};
use crate::process::{Daemon, PATIENCE, Systemd};

const WORKERS: usize = 3;
/// Several times the period at which the watchdog is fed.
const SILENCE: Duration = Duration::from_secs(1);

/// A program that goes on for ever, as far as anybody can wait, with a long list.
const LOOP: &str = "{ vrl = '''list = array!(parse_json!(string!(.message)))\n\
    for_each(list) -> |_, _| { for_each(list) -> |_, _| {\n\
    for_each(list) -> |_, _| { .n = 1 } } }''' }";

#[test]
fn any_reactor_that_is_stuck_stops_the_watchdog() {
    for seat in 0..WORKERS {
        let collector = Collector::start();
        // A step that remembers puts the pipeline where the name says.
        let name = name_at("pipeline", "stuck", seat, WORKERS);
        let config = table(WORKERS, "")
            + &source("tcp://127.0.0.1:0")
            + &pipeline(&name, "in", &format!("{DEDUPE}, {LOOP}"), "out")
            + &socket_sink("out", collector.address);
        let systemd = Systemd::new();
        let daemon = Daemon::launch(&config, |command| systemd.watch(command));
        systemd.hear_ready();
        let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
        sender.write_all(b"[1, 2]\n").unwrap();
        assert_eq!(collector.wait_for(1), ["[1, 2]"]);
        systemd.hear_watchdog(5);
        let long = format!("[{}0]\n", "0,".repeat(20_000));
        sender.write_all(long.as_bytes()).unwrap();
        let start = Instant::now();
        while systemd.hear_within(SILENCE).is_some() {
            assert!(
                start.elapsed() < PATIENCE,
                "fed although worker {seat} is stuck"
            );
        }
        // What systemd does then: WatchdogSignal=SIGABRT.
        daemon.signal(Signal::SIGABRT);
        daemon.wait();
    }
}

/// With no panic and nothing stuck it is fed for as long as the daemon lives, a stop included.
#[test]
fn the_watchdog_is_fed_while_all_turn() {
    let collector = Collector::start();
    let config = table(WORKERS, "")
        + &source("tcp://127.0.0.1:0")
        + &pipeline("p", "in", "", "out")
        + &socket_sink("out", collector.address);
    let systemd = Systemd::new();
    let daemon = Daemon::launch(&config, |command| systemd.watch(command));
    systemd.hear_ready();
    send_over(daemon.tcp_address("source.in"), 8, 100);
    systemd.hear_watchdog(10);
    stop_well(daemon);
    assert_eq!(collector.wait_for(800).len(), 800);
}

/// Files that were moved away are opened anew, whichever reactor has them; a reload reaches all.
#[test]
fn usr1_and_hup_reach_what_any_reactor_has() {
    let names: Vec<String> = (0..WORKERS)
        .map(|at| name_at("sink", "f", at, WORKERS))
        .collect();
    let config = |more: &str| {
        let mut config = table(WORKERS, "") + &source("tcp://127.0.0.1:0");
        for name in &names {
            config += &pipeline(&format!("p{name}"), "in", more, name);
            config += &file_sink(name);
        }
        config
    };
    let daemon = Daemon::start(&config(""));
    let to = daemon.tcp_address("source.in");
    let is_reopened = |round: usize, send: &dyn Fn()| {
        for name in &names {
            lines_of(&daemon.path(&format!("{name}.log")), 12);
            let aside = daemon.path(&format!("{name}.log.{round}"));
            std::fs::rename(daemon.path(&format!("{name}.log")), aside).unwrap();
        }
        send();
        until("files are opened anew", || {
            send_over(to, 1, 4);
            let path = |name: &String| daemon.path(&format!("{name}.log"));
            names.iter().all(|name| path(name).exists())
        });
    };
    send_over(to, 6, 4);
    is_reopened(0, &|| daemon.signal(Signal::SIGUSR1));
    send_over(to, 6, 4);
    is_reopened(1, &|| daemon.signal(Signal::SIGHUP));
    // What is new is in force on all of them.
    daemon.write_config(&config(
        "{ drop_if = 'starts_with(string!(.message), \"c 7\")' }",
    ));
    daemon.signal(Signal::SIGHUP);
    until("both reloads", || daemon.records("reloaded").len() == 2);
    for _ in 0..WORKERS * 6 {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(b"c 7 n 0\nc 8 n 0\n").unwrap();
        super::close(stream);
    }
    let ended = stop_well(daemon);
    for name in &names {
        let lines = lines_of(&ended.folder.path().join(format!("{name}.log")), 0);
        assert_eq!(lines.iter().filter(|line| *line == "c 7 n 0").count(), 0);
        assert_eq!(
            lines.iter().filter(|line| *line == "c 8 n 0").count(),
            WORKERS * 6
        );
    }
}

/// The second signal hurries all of them, the third ends at once.
#[test]
fn three_signals_end_it_at_once() {
    let config = table(WORKERS, "stop_timeout = \"1m\"")
        + &source("tcp://127.0.0.1:0")
        + &pipeline("p", "in", "", "out")
        + &socket_sink("out", super::free_port());
    for signals in [2, 3] {
        let daemon = Daemon::start(&config);
        send_over_without_end(daemon.tcp_address("source.in"));
        for sent in 0..signals {
            daemon.try_signal(Signal::SIGTERM);
            if sent == 0 {
                daemon.wait_for("stopping");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let ended = daemon.wait();
        assert_eq!(ended.code(), 1, "{:?}", ended.log.last());
        assert!(
            ended.took < Duration::from_secs(8),
            "{signals}: {:?}",
            ended.took
        );
    }
}

fn send_over_without_end(to: std::net::SocketAddr) {
    for connection in 0..9 {
        let mut stream = TcpStream::connect(to).unwrap();
        stream
            .write_all(super::text_of(connection, 0..5).as_bytes())
            .unwrap();
    }
}

/// Standing still is no death: all go on where they were.
#[test]
fn all_reactors_go_on_after_they_were_stopped() {
    let collector = Collector::start();
    let config = table(WORKERS, "")
        + &source("tcp://127.0.0.1:0")
        + &pipeline(&name_at("pipeline", "p", 1, WORKERS), "in", DEDUPE, "out")
        + &socket_sink("out", collector.address);
    let daemon = Daemon::start(&config);
    let to = daemon.tcp_address("source.in");
    daemon.signal(Signal::SIGSTOP);
    let sending = std::thread::spawn(move || send_over(to, 6, 40));
    std::thread::sleep(Duration::from_millis(100));
    daemon.signal(Signal::SIGCONT);
    sending.join().unwrap();
    stop_well(daemon);
    check_order(&collector.wait_for(240), 6, 40);
}
