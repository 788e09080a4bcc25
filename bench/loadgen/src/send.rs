//! Senders: a file's lines over TCP, UDP or HTTP.
//!
//! Over TCP each connection has a contiguous share of whole lines and ends with a half-close;
//! it is done when the subject has closed too, so that what was measured has been read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use memchr::{memchr, memchr_iter};

use crate::{Outcome, connect, pace};

/// The bytes of one write.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a subject may take to close after the last byte.
const CLOSE_LIMIT: Duration = Duration::from_secs(300);

/// What `send-tcp` does.
pub struct Tcp {
    pub address: String,
    pub file: String,
    /// How often each connection sends its share.
    pub repeat: u64,
    pub connections: usize,
    /// Of all connections together; 0 is as fast as possible.
    pub lines_per_second: f64,
}

/// Sends the file over TCP.
pub fn tcp(run: &Tcp) -> Outcome {
    let data = std::fs::read(&run.file)?;
    let shares = shares(&data, run.connections);
    let rate = run.lines_per_second / run.connections as f64;
    let start = Instant::now();
    thread::scope(|scope| {
        let one = |share| scope.spawn(move || send_share(&run.address, share, run.repeat, rate));
        let threads: Vec<_> = shares.into_iter().map(one).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic in a sender"))
    })?;
    let lines = memchr_iter(b'\n', &data).count() as u64 * run.repeat;
    let bytes = data.len() as u64 * run.repeat;
    let secs = start.elapsed().as_secs_f64();
    println!("{{\"sent_bytes\":{bytes},\"sent_lines\":{lines},\"secs\":{secs:.4}}}");
    Ok(())
}

/// Cuts `data` into `count` runs of whole lines of about the same size.
fn shares(data: &[u8], count: usize) -> Vec<&[u8]> {
    let line_end = |at: usize| memchr(b'\n', &data[at..]).map_or(data.len(), |n| at + n + 1);
    let inner = (1..count).map(|index| line_end(data.len() * index / count));
    let cuts: Vec<usize> = inner.chain([data.len()]).collect();
    let mut start = 0;
    let share = |end: &usize| std::mem::replace(&mut start, *end)..*end;
    cuts.iter().map(share).map(|range| &data[range]).collect()
}

fn send_share(address: &str, share: &[u8], repeat: u64, rate: f64) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    for _ in 0..repeat {
        if rate > 0.0 {
            send_paced(&mut stream, share, rate)?;
        } else {
            share
                .chunks(CHUNK_BYTES)
                .try_for_each(|chunk| stream.write_all(chunk))?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(CLOSE_LIMIT))?;
    let mut answer = [0; 1024];
    while stream.read(&mut answer).is_ok_and(|count| count > 0) {}
    Ok(())
}

/// The most lines of one write of a paced sender.
const PACED_LINES: usize = 64;

fn send_paced(stream: &mut TcpStream, share: &[u8], rate: f64) -> std::io::Result<()> {
    let (start, mut sent, mut at) = (Instant::now(), 0, 0);
    while at < share.len() {
        let ends = memchr_iter(b'\n', &share[at..]).take(PACED_LINES);
        let (count, last) = ends.fold((0, share.len() - at - 1), |(n, _), end| (n + 1, end));
        stream.write_all(&share[at..=at + last])?;
        (sent, at) = (sent + count, at + last + 1);
        pace(start, sent, rate);
    }
    Ok(())
}

/// Lines sent between two looks at the clock.
const UDP_BURST: u64 = 32;

/// Sends `lines` lines as datagrams, from the start again where the file is shorter.
pub fn udp(address: &str, file: &str, lines: u64, rate: f64) -> Outcome {
    let data = std::fs::read(file)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    let start = Instant::now();
    let all = data
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .cycle();
    let mut sent = 0;
    for line in all.take(usize::try_from(lines)?) {
        // A refused datagram is lost like any other.
        let _ = socket.send(line);
        sent += 1;
        if sent % UDP_BURST == 0 {
            pace(start, sent, rate);
        }
    }
    println!(
        "{{\"sent_lines\":{sent},\"secs\":{:.4}}}",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What `send-http` does.
pub struct Http {
    pub address: String,
    pub path: String,
    pub file: String,
    pub lines_per_request: usize,
    pub connections: usize,
}

/// Posts the file in bodies of a few lines, each connection waiting for its answers.
pub fn http(run: &Http) -> Outcome {
    let data = std::fs::read(&run.file)?;
    let bodies = bodies(&data, run.lines_per_request);
    let (next, refused) = (AtomicUsize::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        let one = |_| scope.spawn(|| post(run, &bodies, &next, &refused));
        let threads: Vec<_> = (0..run.connections).map(one).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic in a sender"))
    })?;
    println!(
        "{{\"sent_lines\":{},\"requests\":{},\"bad\":{},\"secs\":{:.4}}}",
        memchr_iter(b'\n', &data).count(),
        bodies.len(),
        refused.load(Relaxed),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn bodies(data: &[u8], lines: usize) -> Vec<&[u8]> {
    let ends: Vec<usize> = memchr_iter(b'\n', data).map(|end| end + 1).collect();
    let mut cuts: Vec<usize> = ends
        .chunks(lines.max(1))
        .map(|ends| ends[ends.len() - 1])
        .collect();
    cuts.insert(0, 0);
    cuts.windows(2)
        .map(|pair| &data[pair[0]..pair[1]])
        .collect()
}

fn post(run: &Http, bodies: &[&[u8]], next: &AtomicUsize, bad: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(16 << 10, connect(&run.address)?);
    while let Some(body) = bodies.get(next.fetch_add(1, Relaxed)) {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n",
            run.path,
            run.address,
            body.len()
        );
        stream
            .get_mut()
            .write_all(&[head.as_bytes(), body].concat())?;
        let status = answer(&mut stream)?;
        bad.fetch_add(u64::from(!(200..300).contains(&status)), Relaxed);
    }
    Ok(())
}

/// Reads one answer and gives its status.
fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<u32> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(rest) = text.strip_prefix("http/1.1 ") {
            status = rest
                .split(' ')
                .next()
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
        }
        if let Some(rest) = text.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap_or(0);
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(status)
}
