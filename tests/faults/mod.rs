//! Faults around the real daemon: signals at bad moments, bytes from hell, missing descriptors.
//!
//! Each starts the binary, provokes the fault, and sees that the daemon survives it or ends as
//! documented, and that what is not concerned goes on. Numbers are those of docs/FAULTS.md.

mod floods;
mod hostile;
mod input;
mod resets;
mod shortage;
mod start;
mod stop;
pub mod watchdog;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::process::{Daemon, PATIENCE};

/// What comes out: a listener that a daemon's sink connects to.
struct Collector(TcpListener);

impl Collector {
    fn start() -> Collector {
        Collector(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection, to read lines from.
    fn accept(&self) -> BufReader<TcpStream> {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }
}

/// The next line, without its newline.
fn line(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap();
    assert_eq!(line.pop(), Some(b'\n'), "no whole line came");
    line
}

/// Relays one line; gives the source's address, the sender and the reader at the sink.
fn relay_before(
    daemon: &Daemon,
    collector: &Collector,
) -> (SocketAddr, TcpStream, BufReader<TcpStream>) {
    daemon.wait_for("started");
    let address = daemon.tcp_address("source.in");
    let mut sender = TcpStream::connect(address).unwrap();
    sender.write_all(b"before\n").unwrap();
    let mut reader = collector.accept();
    assert_eq!(line(&mut reader), b"before");
    (address, sender, reader)
}

/// Connections that say nothing, more than a daemon with few descriptors can take.
fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(address).unwrap();
    (0..100).map(connect).collect()
}

/// A relay of lines from `listen` to `collector`, with these lines in `[daemon]`.
fn relay(listen: &str, collector: &Collector, daemon: &str) -> String {
    relay_to(listen, collector.address(), daemon)
}

/// The same, to whoever listens there.
fn relay_to(listen: &str, to: SocketAddr, daemon: &str) -> String {
    format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n{daemon}\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"{listen}\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n"
    )
}

/// Has the daemon start with 64 descriptors.
fn few_descriptors(command: &mut Command) {
    let path = command.get_args().last().unwrap().to_owned();
    let folder = command.get_current_dir().unwrap().to_owned();
    *command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" run --config \"$1\""]);
    command
        .arg(env!("CARGO_BIN_EXE_marline"))
        .arg(path)
        .current_dir(folder)
        .stderr(Stdio::piped());
}

/// How much memory any flood may cost at most.
const SLACK_BYTES: u64 = 64 << 20;

/// The most memory that was ever resident of a process, in bytes.
pub fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Checks that the process never took more than the slack since it had taken `before`.
pub fn check_memory(daemon: &Daemon, before: u64) {
    check_memory_with(daemon, before, 0);
}

/// As [`check_memory`], where a sink may hold `held` bytes.
fn check_memory_with(daemon: &Daemon, before: u64, held: u64) {
    let after = peak(daemon);
    assert!(
        after < before + held + SLACK_BYTES,
        "{before} bytes became {after}"
    );
}

/// Processor time of a process so far, in seconds of 100 ticks.
pub fn processor_seconds(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
