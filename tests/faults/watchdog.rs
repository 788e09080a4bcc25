//! The watchdog, and time that passes while the daemon does not run.
//!
//! The watchdog is fed from the reactor's own turn, so a reactor that is stuck is seen; a disk
//! that is stuck holds up no turn.

use std::fs::DirEntry;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Collector, Daemon, line, relay};
use crate::process::{PATIENCE, Systemd};
use crate::skips::skip;

/// Clock ticks of processor time that the daemon has used.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |index| {
        fields
            .split(' ')
            .nth(index)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    field(11) + field(12)
}

/// Thirty times the period at which an idle daemon feeds.
const SILENCE: Duration = Duration::from_secs(3);

#[test]
fn f_131_a_reactor_that_is_stuck_does_not_feed_the_watchdog() {
    let collector = Collector::start();
    let program = "list = array!(parse_json!(string!(.message)))\n\
         for_each(list) -> |_, _| { for_each(list) -> |_, _| {\n\
         for_each(list) -> |_, _| { .n = 1 } } }";
    let config = relay("tcp://127.0.0.1:0", &collector, "").replace(
        "from = [\"in\"]",
        &format!("from = [\"in\"]\nsteps = [{{ vrl = '''{program}''' }}]"),
    );
    let systemd = Systemd::new();
    let daemon = Daemon::launch(&config, |command| systemd.watch(command));
    systemd.hear_ready();
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(b"[1, 2]\n").unwrap();
    assert_eq!(
        line(&mut collector.accept()),
        b"[1, 2]",
        "a short list is soon done"
    );
    systemd.hear_watchdog(3);

    let long = format!("[{}0]\n", "0,".repeat(20_000));
    sender.write_all(long.as_bytes()).unwrap();
    let start = Instant::now();
    while systemd.hear_within(SILENCE).is_some() {
        assert!(start.elapsed() < 2 * PATIENCE, "fed although it is stuck");
    }
    let used = ticks(&daemon);
    assert_eq!(systemd.hear_within(SILENCE), None);
    assert!(ticks(&daemon) > used, "it was not stuck but asleep");

    // What systemd does then: WatchdogSignal=SIGABRT.
    daemon.signal(Signal::SIGABRT);
    assert_eq!(daemon.wait().status.signal(), Some(Signal::SIGABRT as i32));
}

#[test]
fn f_131_a_disk_that_is_stuck_does_not_keep_the_watchdog_from_being_fed() {
    const NAME: &str = "f_131_a_disk_that_is_stuck_does_not_keep_the_watchdog_from_being_fed";
    let tracer = || {
        let mut command = Command::new("strace");
        command.args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
        ]);
        // Ten minutes, in microseconds: until the tracer is killed.
        command.args(["-e", "inject=fdatasync:delay_enter=600000000"]);
        command
    };
    let probe = tracer().arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip(NAME, "strace cannot trace here");
    }
    let config = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"file\"\npath = \"{folder}/out.log\"\n\
         encode = \"raw\"\nsync = \"always\"\n";
    let systemd = Systemd::new();
    let daemon = Daemon::launch(config, |command| {
        let traced = std::mem::replace(command, tracer());
        command.arg(traced.get_program()).args(traced.get_args());
        command.current_dir(traced.get_current_dir().unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        systemd.watch(command);
    });
    systemd.hear_ready();
    let tracer = Tracer::of(&daemon);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(b"to the disk\n").unwrap();
    let start = Instant::now();
    while !is_disk_stuck(&daemon) {
        assert!(start.elapsed() < PATIENCE, "no thread is held up");
        systemd.hear_watchdog(1);
    }
    systemd.hear_watchdog(20);
    assert!(is_disk_stuck(&daemon));
    drop((tracer, sender));
    wait_until_untraced(&daemon);
    let folder = daemon.folder().to_owned();
    let ended = daemon.stop();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(
        std::fs::read(folder.join("out.log")).unwrap(),
        b"to the disk\n"
    );
}

/// Whether a thread of the daemon's is held up by a tracer.
fn is_disk_stuck(daemon: &Daemon) -> bool {
    let stats = of_each_thread(daemon, "stat");
    let mut stats = stats.iter();
    stats.any(|stat| stat.contains("(disk-") && state(stat) == "t")
}

/// Until the system has let all threads go that a dead tracer held: a signal that comes before
/// may have been handed to that tracer, and then is lost with it.
fn wait_until_untraced(daemon: &Daemon) {
    let start = Instant::now();
    let is_traced = |status: &String| tracer_of(status) != Some(0);
    while of_each_thread(daemon, "status").iter().any(is_traced) {
        assert!(start.elapsed() < PATIENCE, "the tracer holds on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file of proc(5) of each thread of the daemon's that has not ended meanwhile.
fn of_each_thread(daemon: &Daemon, file: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let path = |thread: std::io::Result<DirEntry>| thread.unwrap().path().join(file);
    threads
        .filter_map(|thread| std::fs::read_to_string(path(thread)).ok())
        .collect()
}

/// Who traces the thread whose status this is; 0 is nobody (proc_pid_status(5)).
fn tracer_of(status: &str) -> Option<i32> {
    let mut lines = status.lines();
    let id = lines.find_map(|line| line.strip_prefix("TracerPid:"))?;
    id.trim().parse().ok()
}

/// The state of a process or thread (proc_pid_stat(5)).
fn state(stat: &str) -> &str {
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').next().unwrap()
}

/// Who traces the daemon; killed when it is dropped, which soon lets the daemon go.
pub struct Tracer(Pid);

impl Tracer {
    pub fn of(daemon: &Daemon) -> Tracer {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        let id = tracer_of(&status).filter(|id| *id > 0);
        Tracer(Pid::from_raw(id.expect("somebody traces the daemon")))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
    }
}

#[test]
fn f_011_stopped_and_continued_nobody_is_taken_for_idle() {
    const LIMIT: Duration = Duration::from_secs(3);
    let relays: Vec<_> = ["epoll", "poll", "select"]
        .into_iter()
        .map(|poller| {
            let collector = Collector::start();
            let config = relay(
                "tcp://127.0.0.1:0",
                &collector,
                &format!("poller = \"{poller}\""),
            )
            .replace(
                "[pipeline",
                &format!("idle_timeout = \"{}s\"\n[pipeline", LIMIT.as_secs()),
            );
            let daemon = Daemon::start(&config);
            let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
            sender.write_all(b"before\n").unwrap();
            let mut reader = collector.accept();
            assert_eq!(line(&mut reader), b"before", "{poller}");
            // Not more than likely: it waits when it is stopped, and has nothing else to do.
            std::thread::sleep(Duration::from_millis(300));
            daemon.signal(Signal::SIGSTOP);
            wait_until_stopped(&daemon);
            sender.write_all(b"meanwhile\n").unwrap();
            (poller, daemon, sender, reader)
        })
        .collect();
    std::thread::sleep(LIMIT + LIMIT / 2);
    for (poller, daemon, mut sender, mut reader) in relays {
        daemon.signal(Signal::SIGCONT);
        assert_eq!(line(&mut reader), b"meanwhile", "{poller}");
        sender.write_all(b"after\n").unwrap();
        assert_eq!(line(&mut reader), b"after", "{poller}");
        drop((sender, reader));
        let ended = daemon.stop();
        let is_idle = |record: &&serde_json::Value| record.to_string().contains("idle");
        assert_eq!(ended.log.iter().find(is_idle), None, "{poller}");
    }
}

/// A signal is only sent by `kill`; until it is heeded, the daemon may still read.
fn wait_until_stopped(daemon: &Daemon) {
    let start = Instant::now();
    let path = format!("/proc/{}/stat", daemon.id());
    while state(&std::fs::read_to_string(&path).unwrap()) != "T" {
        assert!(start.elapsed() < PATIENCE, "not stopped");
        std::thread::sleep(Duration::from_millis(5));
    }
}
