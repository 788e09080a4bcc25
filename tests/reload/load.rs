//! Many reloads, under load and by the thousand: nothing is lost, doubled, or left behind.
//!
//! What was measured is printed: `cargo test --test main reload::load -- --nocapture`.

#![allow(clippy::print_stdout)] // what was measured is for whoever asks

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Collector, Load, check_once, free_port, named, quick_reload, status, until};
use crate::process::Daemon;

/// Two sources, of which one stays; a pipeline, a sink and a source that change.
fn form(number: u64, stays: SocketAddr, changes: SocketAddr, to: [SocketAddr; 2]) -> String {
    let other = number % 2;
    format!(
        "[source.stays]\ntype = \"socket\"\nlisten = [\"tcp://{stays}\"]\n\
         [source.changes]\ntype = \"socket\"\nlisten = [\"tcp://{changes}\"]\n\
         max_message = \"{}KiB\"\n\
         [pipeline.one]\nfrom = [\"stays\"]\nsteps = [{{ drop_if = '.message == \"{other}\"' }}]\n\
         to = [\"first\"]\n\
         [pipeline.two]\nfrom = [\"changes\"]\nto = [\"second\"]\n\
         [sink.first]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n\
         [sink.second]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n\
         retry.max_delay = \"{}s\"\n\
         [sink.some{other}]\ntype = \"discard\"\n\
         [pipeline.some{other}]\nfrom = [\"stays\"]\nto = [\"some{other}\"]\n",
        64 + other,
        to[0],
        to[1],
        30 + other,
    )
}

/// The connections of a port with both their ends, as `ss` shows them.
fn established(port: SocketAddr) -> Vec<String> {
    let filter = format!("sport = :{}", port.port());
    let output = Command::new("ss").args(["-Htn", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ends = |line: &str| {
        line.split_whitespace()
            .skip(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut all: Vec<String> = text.lines().map(ends).collect();
    all.sort();
    all
}

#[test]
fn two_hundred_reloads_under_load_lose_and_double_nothing() {
    let (stays, changes) = (free_port(), free_port());
    let (first, second) = (Collector::start(), Collector::start());
    let to = [first.address, second.address];
    let daemon = Daemon::start(&form(0, stays, changes, to));
    let loads = [Load::tcp(stays), Load::connects(changes)];
    let _idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(stays).unwrap())
        .collect();
    until("all are open", || established(stays).len() == 21);
    let before = established(stays);
    for number in 1..=200 {
        daemon.write_config(&form(number, stays, changes, to));
        quick_reload(&daemon);
    }
    assert_eq!(
        established(stays),
        before,
        "connections of an unchanged listener"
    );
    let [one, two] = loads.map(Load::stop);
    check_once(&first.wait_for(one as usize), one);
    check_once(&second.wait_for(two as usize), two);
    println!(
        "200 reloads, {one} lines over one connection, {two} over {}",
        two / 10
    );
    assert_eq!(
        first.connections.load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
}

/// What a daemon holds: descriptors, handlers, timers, and its memory in bytes.
fn held(daemon: &Daemon) -> (BTreeMap<&'static str, u64>, u64) {
    let report = status(daemon);
    let debug = &report["debug"];
    let timers = debug["timers"].as_array().unwrap().iter();
    let timers = timers.map(|it| it["count"].as_u64().unwrap_or(0)).sum();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap();
    let pending = debug["pending"].as_array().unwrap().len() as u64;
    let held = BTreeMap::from([
        ("descriptors", descriptors.count() as u64),
        ("sources", debug["reactor"]["sources"].as_u64().unwrap()),
        ("tasks", debug["reactor"]["tasks"].as_u64().unwrap()),
        ("timers", timers),
        ("pending", pending),
    ]);
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", daemon.id())).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (held, pages * 4096)
}

#[test]
fn f_038_a_thousand_reloads_leave_nothing_behind() {
    let (stays, changes) = (free_port(), free_port());
    let collector = Collector::start();
    let to = [collector.address; 2];
    let daemon = Daemon::start(&form(0, stays, changes, to));
    let reload = |number: u64| {
        daemon.write_config(&form(number, stays, changes, to));
        quick_reload(&daemon);
    };
    // What is allocated once is allocated by then.
    (1..=200).for_each(reload);
    let settled = |what: &str, expected: Option<&BTreeMap<&'static str, u64>>| {
        let (mut last, mut memory) = held(&daemon);
        until(what, || {
            let (now, bytes) = held(&daemon);
            let is_same = now == *expected.unwrap_or(&last);
            (last, memory) = (now, bytes);
            std::thread::sleep(Duration::from_millis(20));
            is_same
        });
        (last, memory)
    };
    let (before, memory_before) = settled("it is quiet", None);
    (201..=1_200).for_each(reload);
    let (after, memory_after) = settled("it holds what it held", Some(&before));
    assert_eq!(after, before);
    let grown = memory_after.saturating_sub(memory_before);
    println!("1 000 reloads: {before:?}; memory {memory_before} B, then {grown} B more");
    assert!(grown < 16 << 20, "{grown} bytes more");
    let report = status(&daemon);
    assert_eq!(report["sinks"].as_array().unwrap().len(), 3);
    named(&report["sinks"], "some0");
    assert_eq!(daemon.stop().code(), 0);
}

/// As many connections as this process and the daemon may have.
#[test]
fn f_036_a_crowd_of_connections_stays_and_the_loop_goes_on() {
    let (limit, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    // Other tests run beside in this process.
    let count = (limit.min(20_000) / 2)
        .saturating_sub(1_000)
        .clamp(100, 9_000) as usize;
    let (stays, changes) = (free_port(), free_port());
    let collector = Collector::start();
    let to = [collector.address; 2];
    let daemon = Daemon::start(&form(0, stays, changes, to));
    let crowd: Vec<TcpStream> = (0..count)
        .map(|_| TcpStream::connect(stays).unwrap())
        .collect();
    let open = || named(&status(&daemon)["sources"], "stays")["connections"]["open"].clone();
    until("all are open", || open() == count);
    let load = Load::tcp(stays);
    let began = Instant::now();
    for number in 1..=10 {
        daemon.write_config(&form(number, stays, changes, to));
        quick_reload(&daemon);
    }
    let (took, report) = (began.elapsed(), status(&daemon));
    let pause = report["debug"]["reactor"]["lag_peak_seconds"]
        .as_f64()
        .unwrap();
    println!("{count} connections: ten reloads took {took:?}, the longest turn {pause} s");
    assert_eq!(open(), count + 1);
    let sent = load.stop();
    until("all lines", || collector.count() as u64 == sent);
    drop(crowd);
    assert_eq!(daemon.stop().code(), 0);
}
