//! Latency: lines that carry the time at which they were sent, through the subject and back.
//!
//! Sender and receiver share one clock, this process's. The sender spins for the last
//! microseconds before a line is due, because a sleep is not that exact.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::{Outcome, connect};

/// What `latency` does.
pub struct Run {
    /// Where the subject sends to.
    pub listen: String,
    /// Where the subject listens.
    pub send: String,
    pub lines_per_second: f64,
    pub seconds: f64,
    pub is_syslog: bool,
}

/// How long lines may be on their way when the last has been sent.
const TAIL: Duration = Duration::from_millis(1500);
/// The last stretch before a line is due, spent spinning.
const SPIN: Duration = Duration::from_micros(80);

/// Sends at a steady rate and prints the quantiles of what it took.
pub fn measure(run: &Run) -> Outcome {
    let listener = TcpListener::bind(&run.listen)?;
    let origin = Instant::now();
    let (seen, samples) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || receive(stream, origin, &seen));
        }
    });
    let mut stream = connect(&run.send)?;
    let start = Instant::now();
    let total = (run.lines_per_second * run.seconds) as u64;
    for number in 0..total {
        wait_until(
            start,
            Duration::from_secs_f64(number as f64 / run.lines_per_second),
        );
        stream.write_all(line(run, origin.elapsed().as_nanos()).as_bytes())?;
    }
    thread::sleep(TAIL);
    print(total, &samples);
    Ok(())
}

fn line(run: &Run, nanos: u128) -> String {
    let head = if run.is_syslog {
        "<134>1 2026-11-23T00:00:00Z h app 1 - - "
    } else {
        ""
    };
    format!("{head}LAT={nanos} some ordinary message text of a usual length to carry around\n")
}

fn wait_until(start: Instant, due: Duration) {
    loop {
        let left = due.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            thread::sleep(left - SPIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

fn receive(stream: TcpStream, origin: Instant, seen: &Sender<u64>) {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|count| count > 0)
    {
        let now = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let sent = memmem::find(&line, b"LAT=").and_then(|at| number(&line[at + 4..]));
        if sent.is_some_and(|sent| seen.send(now.saturating_sub(sent)).is_err()) {
            return;
        }
        line.clear();
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

fn print(total: u64, samples: &Receiver<u64>) {
    let mut nanos: Vec<u64> = samples.try_iter().collect();
    nanos.sort_unstable();
    let micros = |quantile: f64| {
        let last = nanos.len().saturating_sub(1) as f64;
        nanos
            .get((last * quantile) as usize)
            .map_or(0.0, |nanos| *nanos as f64 / 1e3)
    };
    println!(
        "{{\"n\":{},\"sent\":{total},\"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\
         \"p999_us\":{:.1},\"max_us\":{:.1}}}",
        nanos.len(),
        micros(0.5),
        micros(0.9),
        micros(0.99),
        micros(0.999),
        micros(1.0)
    );
}
