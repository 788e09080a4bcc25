//! More than fits: a sink that is stopped, and what the senders, the memory and the lines do.
//!
//! The receiver is this test binary in a process of its own, so that it can be stopped like
//! any program; it keeps one bit of each line.

#![allow(clippy::print_stdout)] // the receiving process answers there

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{
    Collector, Daemon, check_memory, check_memory_with, line, peak, processor_seconds, relay,
    relay_to,
};

/// Bytes of a numbered line, its newline included.
const LINE_BYTES: usize = 1024;

/// A line that says its number and can be checked.
fn numbered(number: u64) -> Vec<u8> {
    let letter = b'a' + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u8;
    let mut line = format!("{number:010} ").into_bytes();
    line.resize(LINE_BYTES - 1, letter);
    line.push(b'\n');
    line
}

/// Set in the process that receives.
const RECEIVER: &str = "MARLINE_TEST_RECEIVER";

/// What a receiver has seen: a bit of each line, and how many were not as they were sent.
#[derive(Default)]
struct Seen {
    lines: Vec<bool>,
    count: u64,
    again: u64,
    bad: u64,
}

impl Seen {
    fn take(&mut self, line: &[u8]) {
        let number = std::str::from_utf8(&line[..10]).ok();
        let number = number.and_then(|text| text.parse::<u64>().ok());
        let Some(number) = number.filter(|number| numbered(*number) == line) else {
            self.bad += 1;
            return;
        };
        let index = number as usize;
        if self.lines.len() <= index {
            self.lines.resize(index + 1, false);
        }
        match std::mem::replace(&mut self.lines[index], true) {
            true => self.again += 1,
            false => self.count += 1,
        }
    }
}

/// The body of the receiving process; as a test of its own it does nothing.
#[test]
fn receiver() {
    if std::env::var_os(RECEIVER).is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nlistening {}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let all = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&all);
            thread::spawn(move || {
                let mut reader = BufReader::with_capacity(1 << 18, stream);
                let mut line = Vec::new();
                // A line that a reset has cut off comes again on the next connection.
                while reader
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|_| line.ends_with(b"\n"))
                {
                    seen.lock().unwrap().take(&line);
                    line.clear();
                }
            });
        }
    });
    for _ in std::io::stdin().lines() {
        let seen = seen.lock().unwrap();
        println!("seen {} {} {}", seen.count, seen.again, seen.bad);
    }
}

/// A receiving process; killed when dropped.
struct Receiver {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Receiver {
    fn start() -> Receiver {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::floods::receiver", "--nocapture"])
            .env(RECEIVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let address = answer(&mut says, "listening ");
        Receiver {
            child,
            asks,
            says,
            address: address.parse().unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Lines that came, that came again, and that were not as they were sent.
    fn seen(&mut self) -> [u64; 3] {
        self.asks.write_all(b"?\n").unwrap();
        let said = answer(&mut self.says, "seen ");
        let mut numbers = said.split(' ').map(|number| number.parse().unwrap());
        std::array::from_fn(|_| numbers.next().unwrap())
    }
}

fn answer(says: &mut impl BufRead, start: &str) -> String {
    let lines = says.lines().map(Result::unwrap);
    let mut found = lines.filter_map(|line| line.strip_prefix(start).map(str::to_owned));
    found.next().expect("the receiver has ended")
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Both fail where the process has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Threads that send `lines` numbered lines on so many connections; the bytes sent so far.
fn offer(to: SocketAddr, connections: u64, lines: u64) -> Arc<AtomicU64> {
    let sent = Arc::new(AtomicU64::new(0));
    for first in 0..connections {
        let sent = Arc::clone(&sent);
        thread::spawn(move || {
            let mut stream = TcpStream::connect(to).unwrap();
            let numbers: Vec<u64> = (first..lines).step_by(connections as usize).collect();
            for some in numbers.chunks(64) {
                let bytes: Vec<u8> = some.iter().flat_map(|number| numbered(*number)).collect();
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        });
    }
    sent
}

/// How long the receiver is stopped.
const STOPPED: Duration = Duration::from_secs(30);

/// What a sink keeps for a replay: half of its buffer's 64 MiB.
const KEPT_BYTES_MAX: u64 = 32 << 20;

#[test]
fn f_081_a_stopped_sink_holds_its_senders_up_and_every_line_comes_when_it_goes_on() {
    const LINES: u64 = 1 << 20;
    let mut receiver = Receiver::start();
    let daemon = Daemon::start(&relay_to("tcp://127.0.0.1:0", receiver.address, ""));
    let before = peak(&daemon);
    let sent = offer(daemon.tcp_address("source.in"), 20, LINES);
    let start = Instant::now();
    while receiver.seen()[0] == 0 {
        assert!(start.elapsed() < STOPPED, "nothing comes");
        thread::sleep(Duration::from_millis(5));
    }
    receiver.signal(Signal::SIGSTOP);
    thread::sleep(STOPPED / 3);
    let (held_at, busy) = (sent.load(Ordering::Relaxed), processor_seconds(&daemon));
    thread::sleep(STOPPED * 2 / 3);
    assert!(
        held_at < LINES * LINE_BYTES as u64 / 2,
        "nobody was held up"
    );
    assert_eq!(sent.load(Ordering::Relaxed), held_at, "it went on");
    let busy = processor_seconds(&daemon) - busy;
    assert!(busy < 2.0, "{busy} s of processor time while nothing moves");
    check_memory_with(&daemon, before, KEPT_BYTES_MAX);
    receiver.signal(Signal::SIGCONT);
    let start = Instant::now();
    let seen = loop {
        let seen = receiver.seen();
        if seen[0] == LINES {
            break seen;
        }
        assert!(
            start.elapsed() < STOPPED * 6,
            "of {LINES} lines came {seen:?}"
        );
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(seen[2], 0, "lines that are not as they were sent");
    check_memory_with(&daemon, before, KEPT_BYTES_MAX);
    daemon.stop();
}

#[test]
fn f_124_what_is_kept_of_a_chunk_does_not_keep_the_chunk() {
    // Of 256 KiB one line of 2 KiB is kept, and waits: 4 MiB of 512 altogether.
    const CHUNKS: usize = 2048;
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "memory = \"4GiB\"")
        .replace(
            "from =",
            "steps = [{ keep_if = 'starts_with(string!(.message), \"keep\")' }]\nfrom =",
        )
        .replace(
            "type = \"socket\"\nlisten",
            "type = \"socket\"\nack = \"received\"\nlisten",
        )
        + "buffer.memory = \"4GiB\"\n";
    let daemon = Daemon::start(&config);
    let mut reader = collector.accept();
    let before = peak(&daemon);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    let filler = [vec![b'x'; 32_767], vec![b'\n']].concat();
    for number in 0..CHUNKS {
        let mut kept = format!("keep {number} ").into_bytes();
        kept.resize(2047, b'k');
        kept.push(b'\n');
        sender.write_all(&filler.repeat(7)).unwrap();
        sender.write_all(&kept).unwrap();
        sender.write_all(&filler[2048..]).unwrap();
    }
    sender.shutdown(std::net::Shutdown::Write).unwrap();
    // Closed by the daemon once it has taken everything in.
    let _ = std::io::Read::read(&mut sender, &mut [0]);
    check_memory(&daemon, before);
    for number in 0..CHUNKS {
        let text = line(&mut reader);
        assert!(text.starts_with(format!("keep {number} k").as_bytes()));
    }
    drop((sender, reader));
    daemon.stop();
}
