//! A disk that is slow: what does not use it is as quick as ever, and nothing piles up.
//!
//! strace holds up every fdatasync. It stops the daemon at every other call as well, so what is
//! measured is compared with the same under strace and without the delay.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{
    Daemon, NO_STRACE, PATIENCE, can_trace, config, end, http, injected, under_strace, until,
};
use crate::crashes::collector::Collector;
use crate::crashes::load::{Client, line};
use crate::faults::peak;
use crate::process::Systemd;
use crate::skips::skip;

/// Lines that are measured.
const LINES: usize = 400;

/// How long lines take to the file of a sink beside, while requests keep the disk buffer's
/// syncs going, each of which takes so much longer: median and 99th of a hundred.
fn latencies(sync_micros: u64) -> (Duration, Duration) {
    let collector = Collector::new();
    collector.listen();
    let config = config(&collector)
        + "[source.quick]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
           [pipeline.quick]\nfrom = [\"quick\"]\nto = [\"quick\"]\n\
           [sink.quick]\ntype = \"file\"\npath = \"{folder}/state/quick.log\"\nencode = \"raw\"\n";
    let systemd = Systemd::new();
    let daemon = Daemon::launch(&config, |command| {
        let how = format!("delay_enter={sync_micros}");
        under_strace(command, "fdatasync", &how);
        systemd.watch(command);
    });
    let address = http(&daemon);
    systemd.hear_ready();
    let mut client = Client::new();
    let is_over = AtomicBool::new(false);
    let mut taken = std::thread::scope(|scope| {
        let (over, client) = (&is_over, &mut client);
        let posting = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.post(address).unwrap(), 200);
            }
        });
        let taken = lines_beside(&daemon);
        // What was said meanwhile is old.
        while systemd.hear_within(Duration::from_millis(1)).is_some() {}
        systemd.hear_watchdog(5);
        is_over.store(true, Ordering::Relaxed);
        posting.join().unwrap();
        taken
    });
    assert!(injected(daemon.folder()) > 3, "no sync was held up");
    super::until_delivered(&collector, &client);
    end(daemon, collector, &client);
    taken.sort();
    (taken[LINES / 2], taken[LINES * 99 / 100])
}

/// Sends one line after the other, each when the one before has come.
fn lines_beside(daemon: &Daemon) -> Vec<Duration> {
    let mut sender = TcpStream::connect(daemon.tcp_address("source.quick")).unwrap();
    sender.set_nodelay(true).unwrap();
    let path = daemon.path("state/quick.log");
    let (mut written, mut taken) = (0, Vec::new());
    for _ in 0..LINES {
        let start = Instant::now();
        sender.write_all(b"quick\n").unwrap();
        written += b"quick\n".len() as u64;
        while std::fs::metadata(&path).map_or(0, |file| file.len()) < written {
            assert!(start.elapsed() < PATIENCE, "a line does not come");
            std::thread::sleep(Duration::from_micros(50));
        }
        taken.push(start.elapsed());
        // So that the lines are spread over several syncs.
        std::thread::sleep(Duration::from_millis(3));
    }
    taken
}

#[test]
fn f_047_a_sync_that_takes_long_is_nothing_to_what_does_not_wait_for_it() {
    const NAME: &str = "f_047_a_sync_that_takes_long_is_nothing_to_what_does_not_wait_for_it";
    if !can_trace() {
        return skip(NAME, NO_STRACE);
    }
    // The machine has other work, which comes and goes: one quiet moment in three is enough,
    // and a reactor that waits for the disk would have none.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (quick, slow) = (latencies(1), latencies(300_000));
        println!("median, 99th: {quick:?} with quick syncs, {slow:?} with syncs of 300 ms");
        seen.push((quick, slow));
        if slow.1 < Duration::from_millis(10).max(quick.1 * 2) {
            return;
        }
    }
    panic!("lines wait for the disk: {seen:?}");
}

#[test]
fn f_061_a_disk_slower_than_the_input_holds_the_sender_up_and_memory_is_flat() {
    const NAME: &str = "f_061_a_disk_slower_than_the_input_holds_the_sender_up";
    const LINES: u64 = 48_000;
    if !can_trace() {
        return skip(NAME, NO_STRACE);
    }
    let collector = Collector::new();
    collector.listen();
    let config = config(&collector)
        .replace("type = \"http\"", "type = \"socket\"")
        .replace("busy_timeout = \"300ms\"\n", "")
        + "buffer.memory = \"8MiB\"\n";
    let daemon = Daemon::launch(&config, |command| {
        under_strace(command, "fdatasync", "delay_enter=100000");
    });
    daemon.wait_for("started");
    let before = peak(&daemon);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    let mut longest = Duration::ZERO;
    for first in (0..LINES).step_by(500) {
        let lines: String = (first..first + 500).map(line).collect();
        let start = Instant::now();
        sender.write_all(lines.as_bytes()).unwrap();
        longest = longest.max(start.elapsed());
    }
    let client = Client {
        issued: LINES,
        acked: std::iter::once(0..LINES).collect(),
        ..Client::new()
    };
    until("all delivered", || collector.has_all(&client.acked));
    let grown = peak(&daemon).saturating_sub(before);
    println!("memory grew by {grown} bytes; half a megabyte was taken in {longest:?} at most");
    assert!(
        longest > Duration::from_millis(50),
        "nobody was held up: {longest:?}"
    );
    // 8 MiB in the buffer, twice while they are encoded, and as much again on their way out.
    assert!(grown < 40 << 20, "{grown} bytes more");
    drop(sender);
    end(daemon, collector, &client);
}
