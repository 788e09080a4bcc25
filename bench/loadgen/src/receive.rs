//! Receivers: count lines, bytes and the time from the first to the last of them.
//!
//! A receiver is done when it has the lines that it expects, when nothing has come for the
//! idle time after the first byte, or when nothing has come at all for two minutes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memmem};

use crate::Outcome;
use crate::corpus::hash;

/// How long a receiver waits for a first byte.
const FIRST_LIMIT: Duration = Duration::from_secs(120);
/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long connections may still read what they have when the count is complete.
const SETTLE: Duration = Duration::from_millis(300);

/// What has come so far, on all connections.
struct Tally {
    start: Instant,
    lines: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    sum: AtomicU64,
    /// Nanoseconds since the start; 0 before the first byte.
    first: AtomicU64,
    last: AtomicU64,
}

impl Tally {
    fn new() -> Arc<Tally> {
        Arc::new(Tally {
            start: Instant::now(),
            lines: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn add(&self, lines: u64, bytes: usize) {
        let now = self.now();
        // Only the first of all threads sets it.
        let _ = self.first.compare_exchange(0, now, SeqCst, SeqCst);
        self.bytes.fetch_add(bytes as u64, SeqCst);
        self.lines.fetch_add(lines, SeqCst);
        self.last.store(self.now(), SeqCst);
    }

    fn wait(&self, expect: u64, idle_seconds: f64) {
        loop {
            thread::sleep(LOOK);
            let last = self.last.load(SeqCst);
            let silent = Duration::from_nanos(self.now().saturating_sub(last));
            let limit = if last == 0 {
                FIRST_LIMIT
            } else {
                Duration::from_secs_f64(idle_seconds)
            };
            if self.lines.load(SeqCst) >= expect || silent > limit {
                return;
            }
        }
    }

    fn print(&self) {
        let nanos = self.last.load(SeqCst) - self.first.load(SeqCst);
        println!(
            "{{\"recv_lines\":{},\"recv_bytes\":{},\"requests\":{},\"secs\":{:.4},\
             \"sum\":\"{:016x}\"}}",
            self.lines.load(SeqCst),
            self.bytes.load(SeqCst),
            self.requests.load(SeqCst),
            nanos as f64 / 1e9,
            self.sum.load(SeqCst)
        );
    }
}

/// Serves each connection to `address` on a thread of its own, for ever.
fn accept(address: &str, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Outcome {
    let listener = TcpListener::bind(address)?;
    eprintln!("ready");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

/// Receives lines over TCP; `verify` adds up a hash of each.
pub fn tcp(address: &str, expect: u64, idle_seconds: f64, verify: bool) -> Outcome {
    let tally = Tally::new();
    let shared = Arc::clone(&tally);
    accept(address, move |stream| read_lines(&shared, stream, verify))?;
    tally.wait(expect, idle_seconds);
    if verify {
        thread::sleep(SETTLE);
    }
    tally.print();
    Ok(())
}

fn read_lines(tally: &Tally, mut stream: TcpStream, verify: bool) {
    let mut buffer = vec![0; 256 << 10];
    let mut carried = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let chunk = &buffer[..count];
        if verify {
            carried.extend_from_slice(chunk);
            tally.sum.fetch_add(take_sum(&mut carried), SeqCst);
        }
        tally.add(memchr_iter(b'\n', chunk).count() as u64, count);
    }
}

/// Takes the whole lines out of `carried` and adds up their hashes.
fn take_sum(carried: &mut Vec<u8>) -> u64 {
    let (mut start, mut sum) = (0, 0u64);
    for end in memchr_iter(b'\n', carried) {
        sum = sum.wrapping_add(hash(&carried[start..end]));
        start = end + 1;
    }
    carried.drain(..start);
    sum
}

/// Receives lines as bodies of HTTP requests and answers each with 200.
pub fn http(address: &str, expect: u64, idle_seconds: f64) -> Outcome {
    let tally = Tally::new();
    let shared = Arc::clone(&tally);
    accept(address, move |stream| while_open(&shared, stream))?;
    tally.wait(expect, idle_seconds);
    tally.print();
    Ok(())
}

fn while_open(tally: &Tally, stream: TcpStream) {
    let mut stream = BufReader::with_capacity(128 << 10, stream);
    while let Ok(body) = request(&mut stream) {
        let numbered = memmem::find_iter(&body, b"seq").count() as u64;
        let lines = memchr_iter(b'\n', &body).count() as u64;
        tally.requests.fetch_add(1, SeqCst);
        tally.add(if numbered > 0 { numbered } else { lines }, body.len());
        if stream
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .is_err()
        {
            return;
        }
    }
}

/// Reads one request and gives its body.
fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut length, mut is_chunked, mut line) = (0, false, String::new());
    loop {
        let text = header(stream, &mut line)?;
        if text.is_empty() {
            break;
        }
        if let Some(rest) = text.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap_or(0);
        }
        is_chunked |= text.starts_with("transfer-encoding:");
        if text.starts_with("expect:") {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            let size = header(stream, &mut line)?;
            let size = usize::from_str_radix(&size, 16).unwrap_or(0);
            let start = body.len();
            body.resize(start + size + 2, 0);
            stream.read_exact(&mut body[start..])?;
            body.truncate(start + size);
            if size == 0 {
                return Ok(body);
            }
        }
    }
    body.resize(length, 0);
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// One line of a head, in lower case and without its end.
fn header(stream: &mut BufReader<TcpStream>, line: &mut String) -> std::io::Result<String> {
    line.clear();
    if stream.read_line(line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_ascii_lowercase())
}
