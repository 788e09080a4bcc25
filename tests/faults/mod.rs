//! Faults around the real daemon: signals at bad moments, bytes from hell, missing descriptors.
//!
//! Each starts the binary, provokes the fault, and sees that the daemon survives it or ends as
//! documented, and that what is not concerned goes on. Numbers are those of docs/FAULTS.md.

mod input;
mod start;
mod stop;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::telemetry_process::process::{Daemon, PATIENCE};

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

/// A relay of lines from `listen` to `collector`, with these lines in `[daemon]`.
fn relay(listen: &str, collector: &Collector, daemon: &str) -> String {
    let to = collector.address();
    format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n{daemon}\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"{listen}\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n"
    )
}

/// Resident memory of a process, in bytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
