//! What a seed means: the configuration, who sends, serves and collects what, what goes wrong.
//!
//! Drawn before anything runs, so that it can be printed. Lines carry their sender and number,
//! end in `.`, and hold a `~` where the filter of the configuration leaves them out.

use std::time::Duration;

use marline::sim::{Fault, FaultPlan, Random};
use marline::transport::Endpoint;

use super::files::Filing;
use super::http::Receiving;
use super::server::Serving;

/// Where the daemon listens.
pub const TCP_IN: &str = "127.0.0.1:5514";
pub const UDP_IN: &str = "127.0.0.1:5515";
pub const UNIX_IN: &str = "/run/in.sock";
/// A name that the resolver knows.
pub const HOST: &str = "collector.example.net";

pub struct Plan {
    pub seed: u64,
    pub filters: bool,
    pub ack: &'static str,
    pub memory_bytes: usize,
    pub senders: Vec<Sending>,
    pub sinks: Vec<Sinking>,
    /// The servers that the daemon fetches from, and the file sink that what they send goes to.
    pub servers: Vec<Serving>,
    pub fetched: Filing,
    pub faults: FaultPlan,
    /// Connections to collectors may be reset, by the network or by them.
    pub resets: bool,
    /// Collectors reset connections without reading what their kernels have acknowledged.
    /// What is kept for them then is a small part of the memory.
    pub dies_unread: bool,
    /// The config changes then, and changes back, and so on.
    pub reloads: Vec<Duration>,
    /// Stop then, whoever still sends.
    pub stop_after: Option<Duration>,
    /// For whatever is drawn while it runs.
    pub random: Random,
}

/// One sender.
#[derive(Clone)]
pub struct Sending {
    pub to: Endpoint,
    pub is_datagram: bool,
    pub lines: Vec<Vec<u8>>,
    /// The last line has no newline.
    pub is_cut_short: bool,
    /// Resets its connection after so many bytes.
    pub resets_at: Option<usize>,
    pub begins_at: Duration,
    /// The longest pause between two pieces.
    pub pause_max: Duration,
    /// The longest piece.
    pub piece_max: usize,
}

/// One sink.
#[derive(Clone)]
pub enum Sinking {
    Socket(Collecting),
    File(Filing),
    Http(Receiving),
}

/// One socket sink, and who is at its other end.
#[derive(Clone)]
pub struct Collecting {
    pub name: &'static str,
    pub at: Endpoint,
    pub address: String,
    pub is_required: bool,
    /// The most that it reads at once.
    pub read_max: usize,
    pub pause_max: Duration,
    /// It is not there before.
    pub comes_at: Duration,
}

/// How many seeds of a thousand are pressed: more comes than goes, by streams alone, into little
/// memory. There sources pause and resume all the time.
const PRESSED: u16 = 300;

/// How many of those with resets have collectors that die over unread bytes.
const DYING: u16 = 500;

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let resets = random.chance(500);
        let mut faults = FaultPlan::seeded(&mut random);
        if !resets {
            faults = faults.with(Fault::Reset, 0).with(Fault::AcceptAborted, 0);
        }
        let dies_unread = resets && random.chance(DYING);
        let is_pressed = random.chance(PRESSED);
        let has_two_sinks = random.chance(300);
        let sinks = if has_two_sinks {
            &["a", "b"][..]
        } else {
            &["a"]
        };
        let sinks = sinks
            .iter()
            .map(|name| sink(name, is_pressed, &mut random))
            .collect();
        let (fewest, most) = if is_pressed { (4, 8) } else { (1, 6) };
        let senders = random.between(fewest, most);
        let senders = (0..senders).map(|id| sending(id, is_pressed, &mut random));
        let senders = senders.collect();
        let servers = random.between(0, 2);
        let servers = (0..servers).map(|id| serving(id, &mut random)).collect();
        Plan {
            seed,
            filters: random.chance(300),
            ack: random.pick(&["delivered", "delivered", "received"]),
            memory_bytes: match (dies_unread, is_pressed) {
                (true, _) => 64 << 20,
                (false, true) => random.between(4, 32) * 1024,
                (false, false) => random.between(16, 128) * 1024,
            },
            senders,
            sinks,
            servers,
            fetched: Filing::new("fetched", "json", &mut random),
            faults,
            resets,
            dies_unread,
            reloads: reloads(seed),
            stop_after: random
                .chance(300)
                .then(|| random.span(Duration::ZERO, Duration::from_secs(1))),
            random,
        }
    }

    /// The configuration file.
    pub fn config(&self) -> String {
        let steps = match self.filters {
            true => "steps = [{ drop_if = 'contains(string!(.message), \"~\")' }]\n",
            false => "",
        };
        let to: Vec<String> = self.sinks.iter().map(Sinking::route).collect();
        let mut text = format!(
            "[source.in]\ntype = \"socket\"\nframing = \"lines\"\nack = \"{}\"\n\
             listen = [\"tcp://{TCP_IN}\", \"unix://{UNIX_IN}\", \"udp://{UDP_IN}\"]\n\
             [pipeline.main]\nfrom = [\"in\"]\n{steps}to = [{}]\n",
            self.ack,
            to.join(", ")
        );
        let buffer = if self.dies_unread { "8MiB" } else { "64KiB" };
        self.sinks
            .iter()
            .for_each(|sink| text += &sink.table(buffer));
        if !self.servers.is_empty() {
            let addresses = self.servers.iter();
            let addresses = addresses.map(|it| format!("\"{}\"", it.address));
            let addresses: Vec<String> = addresses.collect();
            text += &format!(
                "[source.pull]\ntype = \"fetch\"\nframing = \"whole\"\nevery = \"1s\"\n\
                 timeout = \"3s\"\naddresses = [{}]\n\
                 [pipeline.fetched]\nfrom = [\"pull\"]\nto = [\"fetched\"]\n",
                addresses.join(", ")
            );
            text += &self.fetched.table();
        }
        text
    }

    /// What the config says after so many reloads: another pipeline reads beside, or not, and
    /// the one that is judged has a step more, or not. What comes out of it is the same.
    pub fn config_after(&self, reloads: usize) -> String {
        let text = self.config();
        if reloads.is_multiple_of(2) {
            return text;
        }
        let step = "{ drop_if = '.message == \"nobody says this\"' }";
        let text = match self.filters {
            true => text.replacen("steps = [", &format!("steps = [{step}, "), 1),
            false => text.replacen(
                "from = [\"in\"]\n",
                &format!("from = [\"in\"]\nsteps = [{step}]\n"),
                1,
            ),
        };
        text + "[pipeline.beside]\nfrom = [\"in\"]\nto = [\"beside\"]\n\
                [sink.beside]\ntype = \"discard\"\n"
    }

    /// For whoever looks at one seed.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "seed {}: {} bytes of memory, resets {}, unread deaths {}, stop after {:?}, {:?}\n{}",
            self.seed,
            self.memory_bytes,
            self.resets,
            self.dies_unread,
            self.stop_after,
            self.faults,
            self.config()
        );
        for (id, sender) in self.senders.iter().enumerate() {
            let bytes: usize = sender.lines.iter().map(|line| line.len() + 1).sum();
            text += &format!(
                "sender {id}: {} lines, {bytes} bytes to {}, begins {:?}, resets {:?}\n",
                sender.lines.len(),
                sender.to,
                sender.begins_at,
                sender.resets_at
            );
        }
        for (id, server) in self.servers.iter().enumerate() {
            text += &format!(
                "server {id}: up to {} bytes, in pieces of up to {}, after up to {:?} each\n",
                server.bytes_max, server.piece_max, server.pause_max
            );
        }
        text
    }
}

impl Sinking {
    pub fn name(&self) -> &'static str {
        match self {
            Sinking::Socket(sink) => sink.name,
            Sinking::File(sink) => sink.name,
            Sinking::Http(sink) => sink.name,
        }
    }

    pub fn is_required(&self) -> bool {
        match self {
            Sinking::Socket(sink) => sink.is_required,
            Sinking::File(sink) => sink.is_required,
            Sinking::Http(sink) => sink.is_required,
        }
    }

    pub fn route(&self) -> String {
        let name = self.name();
        match self.is_required() {
            true => format!("\"{name}\""),
            false => format!("{{ sink = \"{name}\", required = false }}"),
        }
    }

    /// Its table in the configuration.
    pub fn table(&self, buffer: &str) -> String {
        match self {
            Sinking::Socket(sink) => format!(
                "[sink.{}]\ntype = \"socket\"\naddress = \"{}\"\nencode = \"raw\"\n\
                 buffer.memory = \"{buffer}\"\nretry.max_delay = \"4s\"\n",
                sink.name, sink.address
            ),
            Sinking::File(sink) => sink.table(),
            Sinking::Http(sink) => sink.table(buffer),
        }
    }
}

fn sink(name: &'static str, is_pressed: bool, random: &mut Random) -> Sinking {
    if !is_pressed && random.chance(250) {
        return Sinking::File(Filing::new(name, "raw", random));
    }
    socket_sink(name, is_pressed, random)
}

/// A socket sink, and its collector.
pub fn socket_sink(name: &'static str, is_pressed: bool, random: &mut Random) -> Sinking {
    let is_first = name == "a";
    let port = if is_first { 6001 } else { 6002 };
    let ip = Endpoint::Ip(([127, 0, 0, 1], port).into());
    let path = format!("/run/{name}.sock");
    let (at, address) = match random.below(4) {
        0 => (ip, format!("tcp://{HOST}:{port}")),
        1 => (
            Endpoint::Unix(path.clone().into()),
            format!("unix://{path}"),
        ),
        _ => (ip, format!("tcp://127.0.0.1:{port}")),
    };
    let is_late = random.chance(300);
    let (reads, pauses): (&[usize], &[u64]) = match is_pressed {
        true => (&[2000, 8000], &[30_000, 100_000]),
        false => (&[100, 2000, 65_536], &[100, 2000, 30_000]),
    };
    Sinking::Socket(Collecting {
        name,
        at,
        address,
        is_required: is_first || random.chance(600),
        read_max: random.pick(reads),
        pause_max: Duration::from_micros(random.pick(pauses)),
        comes_at: random.span(
            Duration::ZERO,
            Duration::from_millis(if is_late { 8000 } else { 0 }),
        ),
    })
}

fn serving(id: usize, random: &mut Random) -> Serving {
    let (path, port) = (format!("/run/server{id}.sock"), 7000 + id as u16);
    let (at, address) = match random.chance(300) {
        true => (
            Endpoint::Unix(path.clone().into()),
            format!("unix://{path}"),
        ),
        false => (
            Endpoint::Ip(([127, 0, 0, 1], port).into()),
            format!("tcp://{HOST}:{port}"),
        ),
    };
    Serving {
        at,
        address,
        bytes_max: random.pick(&[50, 5000]),
        piece_max: random.pick(&[1, 100, 5000]),
        pause_max: Duration::from_micros(random.pick(&[100, 2000, 50_000])),
        visits: random.between(1, 4),
    }
}

fn sending(id: usize, is_pressed: bool, random: &mut Random) -> Sending {
    let (to, is_datagram) = match random.below(8) {
        0 if !is_pressed => (Endpoint::Ip(UDP_IN.parse().unwrap()), true),
        1 | 2 => (Endpoint::Unix(UNIX_IN.into()), false),
        _ => (Endpoint::Ip(TCP_IN.parse().unwrap()), false),
    };
    let (fewest, most, longest) = match is_pressed {
        true => random.pick(&[(20, 60, 4000), (1000, 4000, 8)]),
        false => (1, 40, 200),
    };
    let count = random.between(fewest, most);
    let lines: Vec<Vec<u8>> = (0..count)
        .map(|number| line(id, number, longest, random))
        .collect();
    let bytes = lines.iter().map(|line| line.len() + 1).sum();
    let (pauses, pieces): (&[u64], &[usize]) = match is_pressed {
        true => (&[50, 1000], &[1000, 20_000]),
        false => (&[50, 1000, 20_000], &[1, 30, 1000, 20_000]),
    };
    Sending {
        to,
        is_datagram,
        lines,
        is_cut_short: random.chance(200),
        resets_at: random.chance(200).then(|| random.below(bytes)),
        begins_at: random.span(Duration::ZERO, Duration::from_millis(200)),
        pause_max: Duration::from_micros(random.pick(pauses)),
        piece_max: random.pick(pieces),
    }
}

fn line(sender: usize, number: usize, longest: usize, random: &mut Random) -> Vec<u8> {
    let mark = if random.chance(300) { "~" } else { "" };
    let filler = "x".repeat(random.below(longest));
    format!("s{sender}-{number}-{mark}{filler}.").into_bytes()
}

/// When a seed reloads: half of them do, one to six times. Drawn apart, so that everything else
/// that a seed means stays.
fn reloads(seed: u64) -> Vec<Duration> {
    let mut random = Random::new(seed ^ 0x4E10_AD00);
    if random.chance(500) {
        return Vec::new();
    }
    let times = (0..random.between(1, 6)).map(|_| random.span(Duration::ZERO, RELOADS_LAST));
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times
}

/// No reload comes later.
const RELOADS_LAST: Duration = Duration::from_secs(2);
