//! The real binary with several reactors (`daemon.workers`): what there is one of, what is of all.
//!
//! Every line says which connection it was sent over and where it stands there, so that each is
//! known to have come once and in its order. Owners go by the hash of the name: names are made
//! here for the owner that a test is about. Whatever is looked at, is so from outside: files,
//! collectors, answers, `/proc`.

mod acks;
mod listeners;
mod order;
mod owners;
mod pressure;
mod reloading;
mod signals;
mod single;
mod stopping;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{Daemon, Ended, PATIENCE};

/// The `[daemon]` table for so many reactors, with these lines.
fn table(workers: usize, more: &str) -> String {
    format!(
        "[daemon]\nworkers = {workers}\nstate_dir = \"state\"\nlog.format = \"json\"\n\
         log.level = \"debug\"\n{more}\n"
    )
}

/// A TCP source called `in`.
fn source(listen: &str) -> String {
    format!("[source.in]\ntype = \"socket\"\nlisten = [\"{listen}\"]\n")
}

/// A pipeline from `from` to `to` with these steps.
fn pipeline(name: &str, from: &str, steps: &str, to: &str) -> String {
    format!("[pipeline.{name}]\nfrom = [\"{from}\"]\nsteps = [{steps}]\nto = [\"{to}\"]\n")
}

/// A sink that writes the file `NAME.log`.
fn file_sink(name: &str) -> String {
    format!("[sink.{name}]\ntype = \"file\"\npath = \"{{folder}}/{name}.log\"\nencode = \"raw\"\n")
}

/// A sink that sends to a collector.
fn socket_sink(name: &str, to: SocketAddr) -> String {
    format!(
        "[sink.{name}]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n\
         retry.max_delay = \"1s\"\n"
    )
}

const DEDUPE: &str = "{ dedupe = { fields = [\"message\"], window = \"10m\" } }";

/// The reactor that has the one `label` (`sink.archive`), as it is documented.
fn owner_of(label: &str, workers: usize) -> usize {
    crc32c::crc32c(label.as_bytes()) as usize % workers
}

/// A name that begins with `stem`, whose owner among `workers` is `seat`.
fn name_at(kind: &str, stem: &str, seat: usize, workers: usize) -> String {
    let names = (0..).map(|number| format!("{stem}{number}"));
    let mut names = names.filter(|name| owner_of(&format!("{kind}.{name}"), workers) == seat);
    names.next().unwrap()
}

/// SIGTERM, and the end of it; nothing may have panicked.
fn stop(daemon: Daemon) -> Ended {
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    let is_bad = |record: &&serde_json::Value| record.to_string().contains("panicked");
    assert_eq!(ended.log.iter().find(is_bad), None);
    ended
}

/// As [`stop`], where nothing was lost.
fn stop_well(daemon: Daemon) -> Ended {
    let ended = stop(daemon);
    let is_told = |record: &&serde_json::Value| record["level"] != "debug";
    let log = || {
        ended
            .log
            .iter()
            .filter(is_told)
            .map(|it| format!("  {it}\n"))
    };
    assert_eq!(ended.code(), 0, "\n{}", log().collect::<String>());
    ended
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

/// The lines of a file, once there are so many of them.
fn lines_of(path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read(path).unwrap_or_default();
    let start = Instant::now();
    while memchr::memchr_iter(b'\n', &read()).count() < count {
        let found = memchr::memchr_iter(b'\n', &read()).count();
        assert!(start.elapsed() < PATIENCE, "{found} of {count} in {path:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    String::from_utf8(read())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The lines `c CONNECTION n NUMBER` of one connection.
fn text_of(connection: usize, numbers: std::ops::Range<u64>) -> String {
    let line = |number| format!("c {connection} n {number}\n");
    numbers.map(line).collect()
}

/// Connections that are open at once: each sends `count` lines in several writes, in turn, and
/// then closes in order.
fn send_over(to: SocketAddr, connections: usize, count: u64) {
    const WRITES: u64 = 4;
    let mut streams: Vec<_> = (0..connections)
        .map(|_| TcpStream::connect(to).unwrap())
        .collect();
    for write in 0..WRITES {
        let numbers = count * write / WRITES..count * (write + 1) / WRITES;
        for (connection, stream) in streams.iter_mut().enumerate() {
            let text = text_of(connection, numbers.clone());
            stream.write_all(text.as_bytes()).unwrap();
        }
    }
    streams.into_iter().for_each(close);
}

/// Returns when the peer has closed, too.
fn close(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The numbers of each connection, in the order in which they came.
fn by_connection<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeMap<usize, Vec<u64>> {
    let mut all = BTreeMap::<usize, Vec<u64>>::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, connection, _, number] = words[..] else {
            panic!("strange: {line}")
        };
        let numbers = all.entry(connection.parse().unwrap()).or_default();
        numbers.push(number.parse().unwrap());
    }
    all
}

/// Each connection's lines came once and in their order: so many of each.
fn check_order(lines: &[String], connections: usize, count: u64) {
    let all = by_connection(lines);
    assert_eq!(all.len(), connections, "connections");
    for (connection, numbers) in all {
        let expected: Vec<u64> = (0..count).collect();
        assert!(
            numbers == expected,
            "connection {connection}: {}",
            told(&numbers, count)
        );
    }
}

/// Each of the lines came once, in whatever order.
fn check_once(lines: &[String], sent: &[u64]) {
    let mut all = by_connection(lines);
    for (connection, count) in sent.iter().enumerate() {
        let mut numbers = all.remove(&connection).unwrap_or_default();
        numbers.sort_unstable();
        let expected: Vec<u64> = (0..*count).collect();
        assert!(
            numbers == expected,
            "connection {connection}: {}",
            told(&numbers, *count)
        );
    }
}

/// What is wrong with these numbers.
fn told(numbers: &[u64], count: u64) -> String {
    let mut times = BTreeMap::<u64, u64>::new();
    numbers
        .iter()
        .for_each(|number| *times.entry(*number).or_default() += 1);
    let lost: Vec<u64> = (0..count).filter(|it| !times.contains_key(it)).collect();
    let doubled: Vec<u64> = times
        .iter()
        .filter(|it| *it.1 > 1)
        .map(|it| *it.0)
        .collect();
    let turned: Vec<_> = numbers
        .windows(2)
        .filter(|it| it[0] > it[1])
        .take(5)
        .collect();
    format!(
        "{} of {count} lost, from {:?}; {} doubled, from {:?}; out of order: {turned:?}",
        lost.len(),
        &lost[..lost.len().min(5)],
        doubled.len(),
        &doubled[..doubled.len().min(5)]
    )
}

/// A collector over TCP that keeps the lines of all its connections.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    fn start() -> Collector {
        Collector::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn on(listener: TcpListener) -> Collector {
        let collector = Collector {
            address: listener.local_addr().unwrap(),
            lines: Arc::default(),
        };
        let kept = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
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

    /// The lines, once there are so many.
    fn wait_for(&self, count: usize) -> Vec<String> {
        let start = Instant::now();
        while self.count() < count {
            let came = self.count();
            assert!(start.elapsed() < PATIENCE, "{came} of {count} lines came");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.lines.lock().unwrap().clone()
    }
}

/// Sends numbered lines, each load as a connection of its own number, until told to stop.
struct Load {
    sent: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Over one connection, closed in order at the end.
    fn steady(number: usize, to: SocketAddr) -> Load {
        let mut stream = Some(TcpStream::connect(to).unwrap());
        Load::start(number, move |text| match text {
            Some(text) => stream.as_mut().unwrap().write_all(text.as_bytes()).unwrap(),
            None => close(stream.take().unwrap()),
        })
    }

    /// Over one connection for each ten lines, closed in order.
    fn connects(number: usize, to: SocketAddr) -> Load {
        Load::start(number, move |text| {
            let Some(text) = text else { return };
            let mut stream = TcpStream::connect(to).expect("nobody is turned away");
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
                .read_to_end(&mut Vec::new())
                .expect("closed in order");
        })
    }

    fn start(number: usize, mut send: impl FnMut(Option<&str>) + Send + 'static) -> Load {
        let (sent, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ends) = (Arc::clone(&sent), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let from = counted.load(Ordering::Relaxed);
                send(Some(&text_of(number, from..from + 10)));
                counted.store(from + 10, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            send(None);
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

/// Posts `body` over a connection of its own; the status code of the answer.
///
/// # Errors
/// There was no answer.
fn post(to: SocketAddr, body: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.get(9..12).and_then(|digits| digits.parse().ok());
    code.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// Asks the admin socket; the whole answer.
fn ask(daemon: &Daemon, request: &str) -> String {
    let mut socket = UnixStream::connect(daemon.path("state/admin.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// A reload that must go well, to this configuration.
fn reload_to(daemon: &Daemon, config: &str) {
    daemon.write_config(config);
    let answer = ask(daemon, "POST /reload");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// How many of the daemon's descriptors are open at what `is_it` says of their names.
fn descriptors(daemon: &Daemon, is_it: impl Fn(&str) -> bool) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap();
    let names = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    names.filter(|name| is_it(&name.to_string_lossy())).count()
}

/// The names of the daemon's threads.
fn threads(daemon: &Daemon) -> Vec<String> {
    let all = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let names = all.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}
