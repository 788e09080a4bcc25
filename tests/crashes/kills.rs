//! `kill -9` at the n-th call of a kind, for every n until a run is no longer killed, and at
//! random moments.
//!
//! strace ends the process when a thread of it enters its n-th call of that kind; each thread
//! counts by itself. What is printed is a table: call, largest n, runs, lost, doubled.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{Progress, Run, run};
use crate::process::Daemon;
use crate::skips::skip;

/// The calls by which a buffer changes what is on the disk, and those by which the rest of the
/// daemon talks to the world.
const CALLS: &[&str] = &[
    "pwrite64",
    "fdatasync",
    "fsync",
    "renameat,renameat2",
    "unlinkat",
    "ftruncate",
    "fallocate",
    "write",
];

/// Kills at random moments.
const RANDOM_KILLS: u64 = 100;
/// After so many kills in a row of one call, only every fifth is tried.
const STRIDE_FROM: usize = 200;
const STRIDE: usize = 5;
/// No call is made more often than that by one thread in a run.
const CALLS_MAX: usize = 2_000;

fn tracer(call: &str, n: usize) -> Command {
    let mut command = Command::new("strace");
    // Not with --seccomp-bpf: it loses count, and only `when=1` ever comes.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={n}")]);
    command
}

/// Puts the daemon under the tracer.
fn traced(command: &mut Command, call: &str, n: usize) {
    let plain = std::mem::replace(command, tracer(call, n));
    command.arg(plain.get_program()).args(plain.get_args());
    if let Some(folder) = plain.get_current_dir() {
        command.current_dir(folder);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
}

fn can_trace() -> bool {
    let probe = tracer("fsync", 1).arg("true").output();
    probe.is_ok_and(|output| output.status.success())
}

fn killed_at(call: &str, n: usize) -> Run {
    let folder = tempfile::tempdir().unwrap();
    run(
        folder,
        "state",
        |command| traced(command, call, n),
        |_, _| {},
        |_| {},
    )
}

#[test]
fn f_002_killed_at_every_call_that_changes_the_disk() {
    const NAME: &str = "f_002_killed_at_every_call_that_changes_the_disk";
    if !can_trace() {
        return skip(NAME, "strace cannot trace here");
    }
    let mut most = 0;
    println!("call                 largest n  runs  acknowledged  lost  doubled at most");
    for call in CALLS {
        let (mut n, mut runs, mut acked, mut doubled) = (1, 0, 0, 0);
        loop {
            let run = killed_at(call, n);
            runs += 1;
            acked += run.verdict.acked;
            doubled = doubled.max(run.verdict.doubled);
            if !run.was_killed {
                break;
            }
            n += if n >= STRIDE_FROM { STRIDE } else { 1 };
            assert!(n < CALLS_MAX, "{call} is made without end");
        }
        let last = n - 1;
        println!("{call:<20} {last:>9}  {runs:>4}  {acked:>12}     0  {doubled:>15}");
        most = most.max(last);
    }
    assert!(most >= 10, "the runs were ended at hardly any call");
}

#[test]
fn f_001_killed_at_random_moments_under_load() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut killed, mut doubled) = (0, 0);
    for _ in 0..RANDOM_KILLS {
        let random = &mut random;
        let kill = move |daemon: &Daemon, progress: &Progress| {
            progress.random_moment(random);
            daemon.try_signal(Signal::SIGKILL);
        };
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder, "state", |_| {}, kill, |_| {});
        killed += u64::from(run.was_killed);
        doubled = doubled.max(run.verdict.doubled);
    }
    println!("{RANDOM_KILLS} random moments: {killed} killed, 0 lost, {doubled} doubled at most");
    assert!(killed > RANDOM_KILLS / 4, "only {killed} runs were killed");
}
