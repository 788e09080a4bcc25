//! Too little of something: descriptors for sinks, processor time for a load ten times too
//! large.
//!
//! What lacks is waited for, the rest goes on, and memory has a plateau.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    Collector, Daemon, check_memory, crowd, few_descriptors, line, peak, relay, relay_before,
};
use crate::process::PATIENCE;

/// Waits until the file holds `text`.
fn until_written(path: &std::path::Path, text: &str) {
    let start = Instant::now();
    while std::fs::read_to_string(path).unwrap_or_default() != text {
        assert!(
            start.elapsed() < PATIENCE,
            "{} lacks {text:?}",
            path.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn f_126_a_sink_without_a_descriptor_waits_and_says_what_to_do() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "")
        .replace("[\"out\"]", "[\"out\", \"disk\"]")
        + "[sink.disk]\ntype = \"file\"\nencode = \"raw\"\n\
           path = \"{folder}/{{ .message }}.log\"\n";
    let daemon = Daemon::launch(&config, few_descriptors);
    let (address, mut first, mut reader) = relay_before(&daemon, &collector);
    until_written(&daemon.folder().join("before.log"), "before\n");
    let crowd = crowd(address);
    daemon.wait_for("accept_failed");
    first.write_all(b"late\n").unwrap();
    assert_eq!(line(&mut reader), b"late", "the other sink goes on");
    let told = daemon.wait_for("sink_trouble").to_string();
    for part in ["late.log", "too many open files", "LimitNOFILE"] {
        assert!(told.contains(part), "{told}");
    }
    // The place of the collector's connection may go to one of the crowd.
    drop(reader);
    first.write_all(b"later\n").unwrap();
    thread::sleep(Duration::from_millis(300));
    drop(crowd);
    let mut reader = collector.accept();
    assert_eq!(line(&mut reader), b"later");
    until_written(&daemon.folder().join("late.log"), "late\n");
    until_written(&daemon.folder().join("later.log"), "later\n");
    drop((first, reader));
    daemon.stop();
}

#[test]
fn f_124_ten_times_the_load_that_fits_keeps_its_plateau() {
    const LASTS: Duration = Duration::from_secs(6);
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0\", \"udp://127.0.0.1:0", &collector, "");
    let daemon = Daemon::start(&config);
    let (stream, datagrams) = (
        daemon.tcp_address("source.in"),
        daemon.address("source.in", "udp"),
    );
    let mut reader = collector.accept();
    let before = peak(&daemon);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for _ in 0..4 {
        let over = Arc::clone(&is_over);
        senders.push(thread::spawn(move || {
            let mut stream = TcpStream::connect(stream).unwrap();
            let lines = b"a line of many\n".repeat(4000);
            while !over.load(Ordering::Relaxed) && stream.write_all(&lines).is_ok() {}
        }));
        let over = Arc::clone(&is_over);
        senders.push(thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            while !over.load(Ordering::Relaxed) {
                // In bursts: the machine has other tests to run.
                for _ in 0..20 {
                    let _ = socket.send_to(&[b'd'; 1000], datagrams);
                }
                thread::sleep(Duration::from_micros(500));
            }
        }));
    }
    // A few MB a second are taken, of hundreds.
    let start = Instant::now();
    let (mut buffer, mut half) = (vec![0; 1 << 15], None);
    while start.elapsed() < LASTS {
        let _ = reader.read(&mut buffer).unwrap();
        thread::sleep(Duration::from_millis(5));
        if start.elapsed() > LASTS / 2 {
            half.get_or_insert_with(|| peak(&daemon));
        }
    }
    check_memory(&daemon, before);
    let grown = peak(&daemon).saturating_sub(half.unwrap()); // the kernel counts roughly
    assert!(grown < 8 << 20, "{grown} bytes more in the second half");
    is_over.store(true, Ordering::Relaxed);
    let draining = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    daemon.stop();
    draining.join().unwrap().unwrap();
}
