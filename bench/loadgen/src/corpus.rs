//! Corpora: files of unique, realistic lines, the same for the same seed on every machine.
//!
//! Each line has its number in it (`seq`), so that a lost or doubled one can be named. The sum
//! of a corpus adds a hash per line, so that it does not depend on their order.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};

use memchr::memchr_iter;

use crate::Outcome;

const WORDS: &[&str] = &[
    "accepted",
    "authorized",
    "cache",
    "certificate",
    "closed",
    "cluster",
    "connection",
    "disk",
    "drained",
    "expires",
    "failed",
    "for",
    "from",
    "heartbeat",
    "index",
    "joined",
    "lost",
    "miss",
    "node",
    "opened",
    "order",
    "payment",
    "peer",
    "query",
    "queue",
    "reading",
    "rebuilt",
    "request",
    "restarted",
    "retry",
    "root",
    "scheduled",
    "session",
    "shipped",
    "slow",
    "soon",
    "threshold",
    "timeout",
    "upstream",
    "usage",
    "user",
    "while",
    "worker",
];
const APPS: &[&str] = &[
    "app-api", "auth", "billing", "cron", "dockerd", "haproxy", "kernel", "nginx", "postgres",
    "redis", "sshd", "worker",
];
const HOSTS: &[&str] = &[
    "web-01",
    "web-02",
    "db-01",
    "db-02",
    "edge-1.example.net",
    "edge-2.example.net",
    "10.1.2.3",
    "cache-7",
];
const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const PATHS: &[&str] = &[
    "/",
    "/index.html",
    "/api/v1/users",
    "/api/v1/orders?limit=50",
    "/static/app.js",
    "/login",
    "/healthz",
    "/search?q=rust",
];
const LEVELS: &[&str] = &["debug", "info", "info", "info", "warn", "error"];
const CODES: &[u32] = &[200, 200, 200, 201, 301, 304, 404, 500];

/// A xorshift generator: fast, seeded, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn sentence(&mut self) -> String {
        let count = 6 + self.below(14);
        let words: Vec<&str> = (0..count).map(|_| self.pick(WORDS)).collect();
        words.join(" ")
    }
}

/// Appends line number `seq` of `kind` to `line`.
fn compose(kind: &str, random: &mut Random, seq: u64, line: &mut String) -> std::fmt::Result {
    let (hour, minute) = (seq / 3_600_000 % 24, seq / 60_000 % 60);
    let (second, milli) = (seq / 1000 % 60, seq % 1000);
    let time = format_args!("{hour:02}:{minute:02}:{second:02}").to_string();
    let priority = 8 * (16 + random.below(8)) + random.below(8);
    let (host, app) = (random.pick(HOSTS), random.pick(APPS));
    let pid = 100 + random.below(30_000);
    let text = random.sentence();
    match kind {
        "syslog5424" => writeln!(
            line,
            "<{priority}>1 2026-11-23T{time}.{milli:03}Z {host} {app} {pid} ID{} \
             [meta@32473 seq=\"{seq}\" zone=\"eu-{}\"] {text}",
            random.below(999),
            random.below(9)
        ),
        "syslog3164" => {
            writeln!(
                line,
                "<{priority}>Nov 23 {time} {host} {app}[{pid}]: seq={seq} {text}"
            )
        }
        "json" => writeln!(
            line,
            "{{\"ts\":\"2026-11-23T{time}.{milli:03}Z\",\"seq\":{seq},\"level\":\"{}\",\
             \"host\":\"{host}\",\"app\":\"{app}\",\"pid\":{pid},\"status\":{},\
             \"latency_ms\":{}.{},\"message\":\"{text}\"}}",
            random.pick(LEVELS),
            random.pick(CODES),
            random.below(900),
            random.below(10)
        ),
        "apache" => writeln!(
            line,
            "{}.{}.{}.{} - {} [23/Nov/2026:{time} +0000] \"{} {} HTTP/1.1\" {} {} \
             \"https://example.com{}\" \"Mozilla/5.0 (X11; Linux x86_64) seq/{seq}\"",
            1 + random.below(223),
            random.below(255),
            random.below(255),
            random.below(255),
            random.pick(&["-", "alice", "bob"]),
            random.pick(METHODS),
            random.pick(PATHS),
            random.pick(CODES),
            random.below(100_000),
            random.pick(PATHS)
        ),
        _ => writeln!(line, "{seq:012} {text}"),
    }
}

/// Writes at least `bytes` bytes of whole lines to `file`.
pub fn write(kind: &str, bytes: usize, file: &str, seed: u64) -> Outcome {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut random = Random(
        seed.wrapping_mul(2_654_435_761)
            .wrapping_add(88_172_645_463_325_252),
    );
    let (mut lines, mut total, mut line) = (0, 0, String::new());
    while total < bytes {
        line.clear();
        compose(kind, &mut random, lines, &mut line)?;
        out.write_all(line.as_bytes())?;
        total += line.len();
        lines += 1;
    }
    out.flush()?;
    println!("{{\"lines\":{lines},\"bytes\":{total}}}");
    Ok(())
}

/// Prints the number of lines of `file` and their sum.
pub fn sum(file: &str) -> Outcome {
    let data = std::fs::read(file)?;
    let (mut lines, mut total, mut start) = (0u64, 0u64, 0);
    for end in memchr_iter(b'\n', &data) {
        total = total.wrapping_add(hash(&data[start..end]));
        lines += 1;
        start = end + 1;
    }
    println!("{{\"lines\":{lines},\"sum\":\"{total:016x}\"}}");
    Ok(())
}

/// FNV-1a with its high bits folded in.
pub fn hash(line: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = line.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 29)
}
