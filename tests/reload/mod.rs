//! Reloads of the real daemon: what changes, what is kept, and what must not be lost.
//!
//! Events are numbered, so that each is known to have come once, and say which source or which
//! form of a pipeline they went through. Numbers are those of docs/FAULTS.md.

mod buffers;
mod difference;
mod failing;
mod keeping;
mod load;
mod restart;
mod sinks;
mod stopping;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Daemon, PATIENCE};

/// What a reload answers: its text and its exit code.
struct Answer {
    text: String,
    code: i32,
}

/// `marline reload`.
fn reload(daemon: &Daemon) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_marline"))
        .args(["reload", "--socket", "state/admin.sock"])
        .current_dir(daemon.folder())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let code = output.status.code().unwrap();
    Answer { text, code }
}

/// A reload that must go well, to this configuration; answers what it says.
fn reload_to(daemon: &Daemon, config: &str) -> String {
    daemon.write_config(config);
    let answer = reload(daemon);
    assert_eq!(answer.code, 0, "{}", answer.text);
    answer.text
}

/// Asks the admin socket without a process of its own: for many reloads.
fn ask(daemon: &Daemon, request: &str) -> String {
    let mut socket = UnixStream::connect(daemon.path("state/admin.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let length = if request.starts_with("POST") {
        "content-length: 0\r\n"
    } else {
        ""
    };
    socket
        .write_all(format!("{head}{length}\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn quick_reload(daemon: &Daemon) {
    let answer = ask(daemon, "POST /reload");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// The answer to `GET /status/debug`.
fn status(daemon: &Daemon) -> Value {
    let answer = ask(daemon, "GET /status/debug");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = body.find('{').map(|at| &body[at..]).unwrap();
    let body = &body[..=body.rfind('}').unwrap()];
    serde_json::from_str(body).unwrap()
}

/// The component of that name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut entries = list.as_array().unwrap().iter();
    let found = entries.find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// Waits until `holds`.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn free_udp_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A collector over TCP that keeps the lines of all its connections.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU64>,
}

impl Collector {
    fn start() -> Collector {
        Collector::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn on(listener: TcpListener) -> Collector {
        let collector = Collector {
            address: listener.local_addr().unwrap(),
            lines: Arc::default(),
            connections: Arc::default(),
        };
        let kept = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                kept.connections.fetch_add(1, Ordering::Relaxed);
                let lines = Arc::clone(&kept.lines);
                std::thread::spawn(move || {
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        lines.lock().unwrap().push(line);
                    }
                });
            }
        });
        collector
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for so many lines, and a moment for one too many.
    fn wait_for(&self, count: usize) -> Vec<String> {
        let text = format!("{count} lines");
        until(&text, || self.count() >= count);
        std::thread::sleep(Duration::from_millis(50));
        self.lines()
    }
}

/// How often each number came, by the number in `"message":"N"` or in the line itself.
fn tally<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeMap<u64, u64> {
    let mut tally = BTreeMap::new();
    for line in lines {
        let number = line.rsplit_once(' ').map_or(line.as_str(), |it| it.1);
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let number = digits
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        *tally.entry(number).or_default() += 1;
    }
    tally
}

/// Every number below `count` came once.
fn check_once(lines: &[String], count: u64) {
    let tally = tally(lines);
    let lost: Vec<u64> = (0..count).filter(|it| !tally.contains_key(it)).collect();
    let doubled: Vec<u64> = tally
        .iter()
        .filter(|it| *it.1 > 1)
        .map(|it| *it.0)
        .collect();
    assert!(
        lost.is_empty() && doubled.is_empty(),
        "lost {} of {count}, {:?}…; doubled {:?}…",
        lost.len(),
        &lost[..lost.len().min(5)],
        &doubled[..doubled.len().min(5)]
    );
}

/// Sends numbered lines over one connection until it is told to stop.
struct Load {
    sent: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn tcp(to: SocketAddr) -> Load {
        let mut stream = TcpStream::connect(to).unwrap();
        Load::start(move |text| stream.write_all(text.as_bytes()).unwrap())
    }

    /// One datagram for each line.
    fn udp(to: SocketAddr) -> Load {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        Load::start(move |text| {
            for line in text.lines() {
                socket.send(line.as_bytes()).unwrap();
            }
        })
    }

    /// A connection of its own for each ten lines, each closed in order.
    fn connects(to: SocketAddr) -> Load {
        Load::start(move |text| {
            let mut stream = TcpStream::connect(to).expect("nobody is turned away");
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        })
    }

    fn start(mut send: impl FnMut(&str) + Send + 'static) -> Load {
        let (sent, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ends) = (Arc::clone(&sent), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let from = counted.load(Ordering::Relaxed);
                let text: String = (from..from + 10).map(|it| format!("n {it}\n")).collect();
                send(&text);
                counted.store(from + 10, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Load {
            sent,
            is_over,
            thread,
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends no more; answers how many lines it has sent.
    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// A relay from TCP at `listen` to `to`, with these steps.
fn relay(listen: SocketAddr, to: SocketAddr, steps: &str) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://{listen}\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nsteps = [{steps}]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n"
    )
}
