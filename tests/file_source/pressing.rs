//! More than fits: many files and a sink that stands still, many files at a start.
//!
//! What is held does not grow with the number of files, and what was left waits where it is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::Duration;

use super::logger::line;
use super::{Place, append};
use crate::process::Daemon;

/// A daemon that sends to `listener`, which nobody accepts from yet.
fn sending(place: Place, listener: &TcpListener, encode: &str) -> Daemon {
    let address = listener.local_addr().unwrap();
    let sink = format!(
        "[sink.out]\ntype = \"socket\"\naddress = \"tcp://{address}\"\n\
         encode = \"{encode}\"\nbuffer.memory = \"1MiB\"\n"
    );
    let config = place.config();
    let config = format!("{}{sink}", &config[..config.find("[sink.out]").unwrap()]);
    let daemon = Daemon::launch_in(place.folder, &config, |_| {});
    daemon.wait_for("started");
    daemon
}

#[test]
fn what_is_held_does_not_grow_with_the_number_of_files() {
    const FILES: u64 = 400;
    const LINES: u64 = 1700;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new("inotify").with("max_open_files = 20");
    for file in 0..FILES {
        let text: String = (file * LINES..(file + 1) * LINES).map(line).collect();
        append(&place.log(&format!("{file}.app.log")), &text);
    }
    let daemon = sending(place, &listener, "raw");
    std::thread::sleep(Duration::from_secs(4));
    let process = format!("/proc/{}", daemon.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    let peak = peak.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let open = fs::read_dir(format!("{process}/fd")).unwrap().count();
    // The source's window of 16 MiB, and a job's eight chunks.
    assert!(peak.unwrap() < 80_000, "{peak:?} KiB");
    assert!(open < 100, "{open} descriptors");
    let (stream, _) = listener.accept().unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut numbers: Vec<u64> = lines
        .take((FILES * LINES) as usize)
        .map(|line| super::logger::number(&line).unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..FILES * LINES));
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn an_event_is_not_over_because_the_sink_stands_still() {
    const EVENTS: usize = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new("inotify")
        .with("multiline = { continue = '^\\s', timeout = \"100ms\" }")
        .in_json();
    let pad = "x".repeat(100);
    let event = |n: usize| format!("{n} {pad}\n goes on\n and on");
    let text: String = (0..EVENTS).map(|n| event(n) + "\n").collect();
    append(&place.log("a.log"), &text);
    let daemon = sending(place, &listener, "json");
    std::thread::sleep(Duration::from_secs(1));
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    for n in 0..EVENTS {
        let value: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(value["message"], event(n));
        if n % 8000 == 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn files_that_were_there_at_the_start_are_begun_at_their_ends() {
    const FILES: u64 = 3000;
    let place = Place::new("inotify").with("start = \"end\"");
    for file in 0..FILES {
        append(&place.log(&format!("{file}.app.log")), "old\n");
    }
    let running = place.start();
    // The first walk is over then; what comes during it counts as old.
    running.daemon.wait_for("file_followed");
    // Something comes again and again, so that one walk follows the other.
    for n in 0..40 {
        append(&running.log(&format!("new{n}.app.log")), &line(n));
        std::thread::sleep(Duration::from_millis(20));
    }
    running.wait_for_lines(40);
    std::thread::sleep(Duration::from_secs(1));
    let (place, _) = running.stop();
    let old = place.lines().iter().filter(|line| *line == "old").count();
    assert_eq!(old, 0, "of {FILES} files");
}

#[test]
fn what_an_empty_file_gets_after_the_start_is_read_from_the_first_byte_on() {
    for watch in super::WATCHES {
        let place = Place::new(watch).with("start = \"end\"");
        append(&place.log("a.log"), "");
        append(&place.log("b.log"), "old\nha");
        let running = place.start();
        std::thread::sleep(Duration::from_millis(300));
        append(&running.log("a.log"), &(line(0) + &line(1)));
        running.wait_for_lines(2);
        append(&running.log("b.log"), &format!("lf\n{}", line(2)));
        running.wait_for_lines(3);
        running.stop().0.check_exact(3);
    }
}
