//! Sources that need no network, with the real daemon: what it is given on standard input, what
//! commands print, the journal, and what it says itself.
//!
//! Lines are numbered where it matters, so that each is known to have come once and in order.
//! Processes are looked for in /proc: none may be left behind, ended or not.

mod exec;
mod internal;
mod journald;
mod stdin;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::{Daemon, PATIENCE};

/// A pipeline `main` from the source `in` to a file of raw lines.
const TO_FILE: &str = r#"
[pipeline.main]
from = ["in"]
to = ["out"]

[sink.out]
type = "file"
path = "{folder}/out.log"
encode = "raw"
"#;

/// The same with the events as JSON.
fn to_json_file() -> String {
    TO_FILE.replace("\"raw\"", "\"json\"")
}

/// The lines of a file; none where it is not there.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The lines that the daemon has written so far, once `wanted` is content with them.
fn lines_when(daemon: &Daemon, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let path = daemon.path("out.log");
    let start = Instant::now();
    loop {
        let lines = lines(&path);
        if wanted(&lines) {
            return lines;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} in {lines:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `is_so`.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What /proc says of a process: its state and its parent; `None` when there is none.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything (proc(5)).
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?.chars().next()?;
    Some((state, rest.next()?.parse().ok()?))
}

/// Whether the process is there, ended or not.
fn is_there(pid: u32) -> bool {
    state_and_parent(pid).is_some()
}

/// The children of a process.
fn children(of: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let with_state = pids.filter_map(|pid| Some((pid, state_and_parent(pid)?)));
    with_state
        .filter(|(_, (_, parent))| *parent == of)
        .map(|(pid, (state, _))| (pid, state))
        .collect()
}

/// That the numbers from 1 to `last` are there, each once and in order.
fn check_numbers(lines: &[String], last: usize) {
    let wrong = lines
        .iter()
        .zip(1..)
        .find(|(line, number): &(&String, usize)| **line != number.to_string());
    assert_eq!(wrong, None);
    assert_eq!(lines.len(), last);
}
