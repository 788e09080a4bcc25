//! Reloads and stops that meet, and reloads that come in a storm.
//!
//! Signals come at several distances, so that they meet a reload in each of its phases.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Collector, Load, check_once, free_port, relay, reload, until};
use crate::process::Daemon;

/// SIGHUP and SIGTERM in both orders, 0 to 20 ms apart: the stop wins, and nothing is lost.
#[test]
fn f_019_a_stop_wins_over_a_reload_whichever_comes_first() {
    for gap in [0, 1, 2, 3, 5, 8, 13, 20] {
        let (collector, listen) = (Collector::start(), free_port());
        let daemon = Daemon::start(&relay(listen, collector.address, ""));
        let mut sender = TcpStream::connect(listen).unwrap();
        sender.write_all(b"n 0\nn 1\n").unwrap();
        daemon.wait_for("connection_opened");
        daemon.write_config(&relay(listen, collector.address, "{ set = { a = 1 } }"));
        daemon.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(gap));
        let ended = daemon.stop();
        assert_eq!(ended.code(), 0);
        check_once(&collector.wait_for(2), 2);
    }
    // A drain that takes a while, and signals into it.
    let (listen, nowhere) = (free_port(), free_port());
    let own = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nstop_timeout = \"2s\"\n";
    let daemon = Daemon::start(&format!("{own}{}", relay(listen, nowhere, "")));
    let mut sender = TcpStream::connect(listen).unwrap();
    sender.write_all(b"n 0\n").unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("stopping");
    let began = Instant::now();
    daemon.write_config("nonsense");
    for _ in 0..10 {
        daemon.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.wait_for("reload_ignored");
    let answer = reload(&daemon);
    assert_eq!(answer.code, 75, "{}", answer.text);
    let ended = daemon.wait();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the reloads held the stop up"
    );
    assert!(!ended.log.iter().any(|it| it["event"] == "reload_failed"));
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (1, 1));
}

/// Signals every ten milliseconds under load, each with another config: the last one counts.
#[test]
fn f_027_a_storm_of_reloads_is_merged_and_the_last_config_wins() {
    const SIGNALS: u64 = 300;
    let (collector, listen) = (Collector::start(), free_port());
    let form = |form: u64| {
        let steps = format!("{{ drop_if = '.message == \"form {form}\"' }}");
        relay(listen, collector.address, &steps)
    };
    let daemon = Daemon::start(&form(0));
    let load = Load::tcp(listen);
    for round in 1..=SIGNALS {
        daemon.write_config(&form(round));
        daemon.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(10));
    }
    // What is asked last is answered when the last config runs.
    let answer = reload(&daemon);
    assert_eq!(answer.code, 0, "{}", answer.text);
    let reloads = daemon.records("reloaded").len() as u64;
    assert!((2..=SIGNALS + 1).contains(&reloads), "{reloads} reloads");
    let sent = load.stop();
    check_once(&collector.wait_for(sent as usize), sent);
    let mut sender = TcpStream::connect(listen).unwrap();
    sender
        .write_all(format!("form {SIGNALS}\nform 7\nn {sent}\n").as_bytes())
        .unwrap();
    until("the last line", || collector.count() as u64 == sent + 2);
    assert!(collector.lines().contains(&"form 7".to_owned()));
    assert_eq!(daemon.stop().code(), 0);
}
