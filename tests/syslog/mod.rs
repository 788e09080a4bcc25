//! The `syslog` source and the `syslog` encoding against real programs, field by field.
//!
//! The real daemon writes what it reads as JSON lines into a file; each test says what a program
//! was told to send and compares the fields. A program that is not on this machine is a loud
//! skip.

pub mod loggen;
mod logger;
mod messages;
mod python;
mod rsyslog;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Daemon, PATIENCE};
use crate::skips::skip;

/// A daemon that listens as `listen` says (an array's inside) and writes `out.jsonl`.
pub fn receiver(listen: &str, options: &str) -> Daemon {
    Daemon::start(&format!(
        "[source.in]\ntype = \"syslog\"\nlisten = [{listen}]\n{options}\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"file\"\npath = \"{{folder}}/out.jsonl\"\n"
    ))
}

/// The events that are in the file, once there are `count`.
pub fn events(daemon: &Daemon, count: usize) -> Vec<Value> {
    let path = daemon.path("out.jsonl");
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let events: Vec<Value> = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if events.len() >= count {
            assert_eq!(events.len(), count, "more came than was sent");
            return events;
        }
        let late = start.elapsed() > PATIENCE;
        assert!(!late, "{} of {count} events: {events:#?}", events.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether `event` has these fields with these values; a value of `None` is absent.
pub fn check(event: &Value, expected: &[(&str, Option<&str>)]) {
    for (field, value) in expected {
        assert_eq!(event[*field].as_str(), *value, "{field} of {event:#}");
    }
}

/// Whether the program is there; skips `test` where it is not.
pub fn has(program: &str, test: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        skip(test, &format!("there is no {program} on this machine"));
    }
    is_there
}

/// This machine's name, as programs write it.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().to_owned()
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A program in the background, ended with this.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `loggen` was unpacked: `MARLINE_LOGGEN`, else where `.ci/run` does it.
pub fn loggen_folder() -> Option<PathBuf> {
    let given = std::env::var_os("MARLINE_LOGGEN").map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/loggen");
    let folder = given.unwrap_or(here);
    folder.join("usr/bin/loggen").exists().then_some(folder)
}
