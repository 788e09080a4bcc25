//! What goes wrong beneath a disk buffer of the real daemon, and what becomes of its events.
//!
//! Numbered events are posted to an `http` source whose sink has a disk buffer and a collector
//! that is away until it is told to listen (both are those of `crashes`). A fault is made for
//! real: a small file system, a limit, an errno or a delay by strace, a kill. Then the judge of
//! `crashes` counts: what was acknowledged has come, nothing else has, in order, as it was sent.

#![allow(clippy::print_stdout)] // what the runs came to is what one looks at

mod broken;
mod kills;
mod opening;
mod overload;
mod places;
mod replay;
mod room;
mod slow;
mod stops;
mod syncgate;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::crashes::collector::Collector;
use crate::crashes::judge::{Verdict, judge};
use crate::crashes::load::Client;
use crate::operator::{named, status};
use crate::process::{Daemon, Ended, PATIENCE};

/// An `http` source to a sink with the smallest disk buffer; more options of the sink may
/// follow.
fn config(collector: &Collector) -> String {
    let port = collector.port();
    format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n\
         [source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\nbusy_timeout = \"300ms\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:{port}\"\n\
         encode = \"raw\"\nretry.max_delay = \"1s\"\nbuffer.disk = \"8MiB\"\n"
    )
}

/// The same with these lines in `[daemon]`.
fn with_daemon(config: &str, lines: &str) -> String {
    config.replacen("[daemon]\n", &format!("[daemon]\n{lines}\n"), 1)
}

/// The same with the state elsewhere.
fn with_state(config: &str, state_dir: &Path) -> String {
    let line = format!("state_dir = \"{}\"", state_dir.display());
    config.replacen("state_dir = \"state\"", &line, 1)
}

/// A pipeline of its own beside all that, to a file; its source is `http`, too.
const BESIDE: &str = "[source.beside]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
     [pipeline.beside]\nfrom = [\"beside\"]\nto = [\"beside\"]\n\
     [sink.beside]\ntype = \"file\"\npath = \"{folder}/beside.log\"\nencode = \"raw\"\n";

/// Whether what does not use the disk buffer goes on.
fn check_beside(daemon: &Daemon) {
    let status = Client::new().exchange(daemon.address("source.beside", "http"), "beside\n");
    assert_eq!(status.unwrap(), 200);
}

fn http(daemon: &Daemon) -> SocketAddr {
    daemon.wait_for("started");
    daemon.address("source.in", "http")
}

/// Posts so many requests, each of which is to be answered with 200.
fn post_all(client: &mut Client, address: SocketAddr, requests: usize) {
    for _ in 0..requests {
        assert_eq!(client.post(address).unwrap(), 200);
    }
}

/// Posts until the answer is `status`, in at most so many requests.
fn post_until(client: &mut Client, address: SocketAddr, status: u16, requests_max: usize) {
    let mut answers = Vec::new();
    for _ in 0..requests_max {
        answers.push(client.post(address).unwrap());
        if answers.last() == Some(&status) {
            return;
        }
    }
    panic!("no {status} in {answers:?}");
}

/// Posts until there is no room. What has been taken in by then and cannot be written is not
/// answered; what comes after it is.
fn fill(client: &mut Client, address: SocketAddr) {
    client.patience = Some(Duration::from_secs(4));
    let mut answers = Vec::new();
    while !matches!(answers.last(), Some(None | Some(429))) {
        assert!(answers.len() < 60, "there is room for ever: {answers:?}");
        answers.push(client.post(address).ok());
    }
    client.patience = None;
    assert_eq!(client.post(address).unwrap(), 429, "full");
}

/// Waits for `is_so`.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until_delivered(collector: &Collector, client: &Client) {
    let start = Instant::now();
    while !collector.has_all(&client.acked) {
        let told = || collector.told(&client.acked);
        assert!(start.elapsed() < PATIENCE, "{}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The buffer's sink, as `marline status` shows it.
fn sink(daemon: &Daemon) -> Value {
    named(&status(daemon, &[])["sinks"], "out").clone()
}

/// A daemon on what an earlier one left delivers all that was acknowledged, and ends well.
fn last_life(folder: TempDir, config: &str, collector: Collector, client: &Client) -> Verdict {
    let daemon = Daemon::launch_in(folder, config, |_| {});
    daemon.wait_for("started");
    collector.listen();
    until_delivered(&collector, client);
    end(daemon, collector, client).1
}

/// The daemon ends well, and everything is as it was promised.
fn end(daemon: Daemon, collector: Collector, client: &Client) -> (Ended, Verdict) {
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log.last());
    let verdict = judged(&ended, collector, client);
    (ended, verdict)
}

/// The judge's word; with the log where it is a bad one.
fn judged(ended: &Ended, collector: Collector, client: &Client) -> Verdict {
    judge(client, &collector.end()).unwrap_or_else(|why| {
        let log: String = ended.log.iter().map(|line| format!("  {line}\n")).collect();
        panic!("{why}\nthe last log:\n{log}")
    })
}

/// Puts the daemon under strace, which makes `call` go wrong as `how` says. What it did is in
/// `strace.out` in the daemon's folder.
fn under_strace(command: &mut Command, call: &str, how: &str) {
    let folder = command.get_current_dir().unwrap().to_owned();
    let plain = std::mem::replace(command, strace(&folder.join("strace.out"), call, how));
    command.arg(plain.get_program()).args(plain.get_args());
    command.current_dir(folder);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
}

fn strace(out: &Path, call: &str, how: &str) -> Command {
    let mut command = Command::new("strace");
    // The daemon stays the child. Not with --seccomp-bpf: it loses count of the calls.
    command.args(["-D", "-f", "-qq", "-o"]).arg(out);
    command.args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:{how}")]);
    command
}

fn can_trace() -> bool {
    let mut probe = strace(Path::new("/dev/null"), "fsync", "error=EIO");
    let probe = probe.arg("true").output();
    probe.is_ok_and(|output| output.status.success())
}

/// Why a test that needs strace is skipped.
const NO_STRACE: &str = "strace cannot trace here";

/// How many calls strace has made go wrong.
fn injected(folder: &Path) -> usize {
    let text = std::fs::read_to_string(folder.join("strace.out")).unwrap_or_default();
    text.matches("(INJECTED)").count() + text.matches("(DELAYED)").count()
}
