//! What a seed of several lives means: who posts what, the sinks, how each life ends.
//!
//! Drawn before anything runs, so that it can be printed. Every line carries its sender, its
//! number and its checksum, so the judge knows each for what it is.

use std::collections::BTreeMap;
use std::time::Duration;

use marline::sim::{Death, Fault, FaultPlan, Moment, Random, StorageCall};
use marline::transport::Endpoint;

use super::super::files::Filing;
use super::super::http::Receiving;
use super::super::plan::{Collecting, Sinking, socket_sink};
use super::form::{Form, Way};
use super::poster::{Posting, line};

pub struct Plan {
    pub seed: u64,
    pub posters: Vec<Posting>,
    pub sinks: Vec<Sinking>,
    /// What those that are no files become where they are moved, and where they are retyped.
    pub others: BTreeMap<&'static str, [Sinking; 2]>,
    /// The sink that is beside them in some forms.
    pub beside: Collecting,
    /// When the configuration changes, and to what.
    pub reloads: Vec<(Duration, Form)>,
    /// The `buffer.durability` of those that have a disk buffer, by name.
    pub disks: BTreeMap<&'static str, &'static str>,
    /// How each life but the last ends.
    pub deaths: Vec<Dying>,
    pub faults: FaultPlan,
    /// Connections to collectors may be reset, by the network or by them.
    pub resets: bool,
    /// Collectors reset connections without reading what their kernels have acknowledged. Where
    /// the daemon dies then before it has sent that again, it is lost: nobody can know of it.
    pub dies_unread: bool,
    pub memory_bytes: usize,
    /// For whatever is drawn while it runs.
    pub random: Random,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub struct Dying {
    pub death: Death,
    pub when: When,
    /// How long it is until the next life begins.
    pub pause: Duration,
}

/// When it does.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long after its beginning.
    After(Duration),
    /// At so many calls of a kind, those of its start among them.
    Call(StorageCall, u64, Moment),
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        // Other draws than those of a single life with the same seed.
        let mut random = Random::new(seed ^ 0x6c69_7665_7300_0000);
        let mut more = Random::new(seed ^ 0x7265_6c6f_6164_0000);
        let (faults, [resets, dies_unread]) = faults(&mut random, &mut more);
        let names = if random.chance(300) {
            &["a", "b"][..]
        } else {
            &["a"]
        };
        let deaths = random.between(1, 4);
        let deaths: Vec<_> = (0..deaths).map(|_| dying(&mut random)).collect();
        let is_cut = deaths.iter().any(|it| it.death == Death::PowerCut);
        let sinks = names.iter().map(|name| sink(name, is_cut, &mut random));
        let mut sinks: Vec<Sinking> = sinks.collect();
        let reloads = reloads(&sinks, &mut more);
        let is_pressed = !reloads.is_empty() && more.chance(PRESSED);
        if is_pressed || (dies_unread && more.chance(PRESSED_DYING)) {
            sinks.iter_mut().for_each(press);
        }
        let others = sinks.iter().filter(|it| !matches!(it, Sinking::File(_)));
        let others = others.map(|it| (it.name(), others_of(it, &mut more)));
        let others: BTreeMap<_, _> = others.collect();
        let disks = names.iter().filter_map(|name| {
            let durability = random.pick(&["commit", "commit", "commit", "interval:200ms", "os"]);
            random.chance(600).then_some((*name, durability))
        });
        let disks = disks.collect();
        let posters = random.between(1, 4);
        let posters = (0..posters).map(|id| {
            let longest = random.pick(&[4, 60, 900]);
            posting(id, if is_pressed { 4000 } else { longest }, &mut random)
        });
        let posters = posters.collect();
        Plan {
            seed,
            posters,
            reloads,
            sinks,
            others,
            beside: socket("beside", BESIDE_PORT, true, &mut more),
            disks,
            deaths,
            faults,
            resets,
            dies_unread,
            memory_bytes: match dies_unread {
                true => 64 << 20,
                false => random.between(32, 512) * 1024,
            },
            random,
        }
    }

    /// Whether the sink `name` holds its sources up.
    pub fn is_required(&self, name: &str) -> bool {
        let mut sinks = self.sinks.iter();
        sinks.any(|sink| sink.name() == name && sink.is_required())
    }

    /// The sink `name` as it is in a form, and every form of it that there is.
    fn sinking(&self, sink: &Sinking, way: Way) -> Sinking {
        match (way, self.others.get(sink.name())) {
            (Way::Moved, Some([moved, _])) => moved.clone(),
            (Way::Retyped, Some([_, retyped])) => retyped.clone(),
            _ => sink.clone(),
        }
    }

    /// Everything that anything is sent to.
    pub fn all_sinks(&self) -> Vec<Sinking> {
        let others = self.others.values().flatten().cloned();
        let beside = Sinking::Socket(self.beside.clone());
        let base = self.sinks.iter().cloned();
        base.chain(others).chain([beside]).collect()
    }

    /// The configuration file.
    pub fn config(&self, form: &Form) -> String {
        let beside = form.has_beside.then(|| "\"beside\"".to_owned());
        let to = self.sinks.iter().map(Sinking::route).chain(beside);
        let mut text = format!(
            "{}[pipeline.main]\nfrom = [{}]\nto = [{}]\n",
            form.web.tables(),
            form.web.from(),
            to.collect::<Vec<_>>().join(", ")
        );
        let buffer = if self.dies_unread { "8MiB" } else { "64KiB" };
        if form.has_beside {
            text += &Sinking::Socket(self.beside.clone()).table(buffer);
        }
        for sink in &self.sinks {
            let way = form.way(sink.name());
            let table = self.sinking(sink, way).table(buffer);
            text += &match way {
                Way::Tuned => tuned(&table),
                _ => table,
            };
            if let Some(durability) = self.disks.get(sink.name()) {
                text += &format!(
                    "buffer.disk = \"{DISK_SIZE}\"\nbuffer.durability = \"{durability}\"\n"
                );
            }
        }
        text
    }

    /// A small one in which nothing goes wrong but that lives end: for runs that differ in
    /// nothing else.
    #[cfg(test)]
    pub fn small(deaths: Vec<Dying>) -> Plan {
        let mut random = Random::new(1);
        let Sinking::Socket(mut sink) = socket_sink("a", false, &mut random) else {
            unreachable!("it is a socket's")
        };
        sink.at = Endpoint::Ip(([127, 0, 0, 1], 6001).into());
        sink.address = "tcp://127.0.0.1:6001".to_owned();
        sink.comes_at = Duration::ZERO;
        let longest = random.pick(&[4, 60, 900]);
        let mut posting = posting(0, longest, &mut random);
        posting.requests.truncate(SMALL_REQUESTS);
        Plan {
            seed: 1,
            posters: vec![posting],
            sinks: vec![Sinking::Socket(sink)],
            others: BTreeMap::new(),
            beside: socket("beside", BESIDE_PORT, true, &mut Random::new(1)),
            reloads: Vec::new(),
            disks: BTreeMap::from([("a", "commit")]),
            deaths,
            faults: FaultPlan::quiet(),
            resets: false,
            dies_unread: false,
            memory_bytes: 1 << 20,
            random,
        }
    }

    /// For whoever looks at one seed.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "seed {}: {} bytes of memory, resets {}, unread deaths {}, {:?}\n{}",
            self.seed,
            self.memory_bytes,
            self.resets,
            self.dies_unread,
            self.faults,
            self.config(&Form::default())
        );
        for (at, form) in &self.reloads {
            text += &format!("reload at {at:?}: {form:?}\n");
        }
        for (id, poster) in self.posters.iter().enumerate() {
            let lines: Vec<usize> = poster.requests.iter().map(Vec::len).collect();
            text += &format!("poster {id}: requests of {lines:?} lines\n");
        }
        for (life, death) in self.deaths.iter().enumerate() {
            text += &format!("life {life}: {death:?}\n");
        }
        text
    }
}

/// Sixteen segments, and little enough that making one takes no time here.
const DISK_SIZE: &str = "8MiB";

/// How much is posted in the small plan.
#[cfg(test)]
const SMALL_REQUESTS: usize = 6;

/// What goes wrong; whether connections are reset, and collectors die over unread bytes.
fn faults(random: &mut Random, more: &mut Random) -> (FaultPlan, [bool; 2]) {
    let resets = random.chance(300);
    let mut faults = FaultPlan::seeded(random);
    if !resets {
        faults = faults.with(Fault::Reset, 0).with(Fault::AcceptAborted, 0);
    }
    if random.chance(100) {
        faults = faults.with(Fault::BitFlipped, 500);
    }
    let dies_unread = resets && more.chance(DYING);
    if dies_unread {
        // The judge goes by the order of connections, and by who they belonged to.
        let plan = faults.with(Fault::AcceptDelayed, 0);
        faults = plan.with(Fault::AcceptRefused, 0);
    }
    (faults, [resets, dies_unread])
}

/// How many of those with resets have collectors that die over unread bytes.
const DYING: u16 = 700;

/// How many seeds of a thousand reload, how often at most, and until when.
const RELOADED: u16 = 600;
const RELOADS_MAX: usize = 6;
const RELOADS_LAST: Duration = Duration::from_secs(4);

/// How many of them have collectors that are slower than what comes, which is much, so that
/// something is always on its way to them, and most of it not even written.
const PRESSED: u16 = 250;

/// How many of those whose collectors die over unread bytes have slow ones.
const PRESSED_DYING: u16 = 700;

/// Where the sink is that is beside the others, and where others are moved to.
const BESIDE_PORT: u16 = 6003;
const MOVED_PORT: u16 = 6010;
const RETYPED_PORT: u16 = 6020;

/// Makes the collector of a socket sink slow.
fn press(sink: &mut Sinking) {
    if let Sinking::Socket(sink) = sink {
        sink.read_max = PRESSED_READ_MAX;
        sink.pause_max = Duration::from_millis(100);
    }
}

const PRESSED_READ_MAX: usize = 4000;

/// A sink's table with another option.
fn tuned(table: &str) -> String {
    match table.contains("retry.max_delay") {
        true => table.replace("retry.max_delay = \"4s\"", "retry.max_delay = \"3s\""),
        false => format!("{table}max_open_files = 100\n"),
    }
}

/// A socket sink at a port of this host.
fn socket(name: &'static str, port: u16, is_required: bool, random: &mut Random) -> Collecting {
    Collecting {
        name,
        at: Endpoint::Ip(([127, 0, 0, 1], port).into()),
        address: format!("tcp://127.0.0.1:{port}"),
        is_required,
        read_max: random.pick(&[100, 2000, 65_536]),
        pause_max: Duration::from_micros(random.pick(&[100, 2000, 30_000])),
        comes_at: Duration::ZERO,
    }
}

/// What a sink becomes where it is moved, and where it is retyped.
fn others_of(sink: &Sinking, random: &mut Random) -> [Sinking; 2] {
    let (name, is_required) = (sink.name(), sink.is_required());
    let number = if name == "a" { 1 } else { 2 };
    let socket = |port, random: &mut Random| {
        Sinking::Socket(socket(name, port + number, is_required, random))
    };
    let http = |port, random: &mut Random| {
        Sinking::Http(Receiving::new(name, port + number, is_required, random))
    };
    match sink {
        Sinking::Http(_) => [http(MOVED_PORT, random), socket(RETYPED_PORT, random)],
        _ => [socket(MOVED_PORT, random), http(RETYPED_PORT, random)],
    }
}

fn reloads(sinks: &[Sinking], random: &mut Random) -> Vec<(Duration, Form)> {
    if !random.chance(RELOADED) {
        return Vec::new();
    }
    let names = sinks.iter().map(|sink| match sink {
        Sinking::File(_) => (sink.name(), 2),
        _ => (sink.name(), Way::ALL.len()),
    });
    let names: Vec<_> = names.collect();
    let count = random.between(1, RELOADS_MAX);
    let mut times: Vec<_> = (0..count)
        .map(|_| random.span(Duration::ZERO, RELOADS_LAST))
        .collect();
    times.sort();
    let forms = times.into_iter().map(|at| (at, Form::new(&names, random)));
    forms.collect()
}

fn sink(name: &'static str, is_cut: bool, random: &mut Random) -> Sinking {
    if random.chance(HTTP) {
        let (port, is_required) = match name {
            "a" => (6001, true),
            _ => (6002, random.chance(600)),
        };
        return Sinking::Http(Receiving::new(name, port, is_required, random));
    }
    if random.chance(650) {
        let mut filing = Filing::new(name, "raw", random);
        filing.is_synced = random.chance(700);
        // Where each rename is kept or undone by itself (no journal does that), a power cut in a
        // rotation can leave two files of one number, and compressing one overwrites the other.
        filing.is_compressed &= !is_cut;
        filing.is_required = name == "a" || random.chance(600);
        return Sinking::File(filing);
    }
    socket_sink(name, false, random)
}

/// How many sinks of a thousand are `http`.
const HTTP: u16 = 200;

fn dying(random: &mut Random) -> Dying {
    let calls = [
        StorageCall::Write,
        StorageCall::Write,
        StorageCall::Sync,
        StorageCall::Sync,
        StorageCall::Open,
        StorageCall::Rename,
        StorageCall::DirectorySync,
    ];
    let when = match random.chance(500) {
        true => When::After(random.span(Duration::ZERO, Duration::from_millis(600))),
        false => When::Call(
            random.pick(&calls),
            random.between(1, 12) as u64,
            random.pick(&[Moment::Before, Moment::After]),
        ),
    };
    Dying {
        death: random.pick(&[Death::Killed, Death::PowerCut]),
        when,
        pause: random.span(Duration::ZERO, Duration::from_secs(3)),
    }
}

/// Who posts lines of up to `longest` bytes and what tells them apart.
fn posting(id: usize, longest: usize, random: &mut Random) -> Posting {
    let mut number = 0;
    let requests = (0..random.between(2, 20)).map(|_| {
        let lines = (0..random.between(1, 12)).map(|_| {
            let filler = "x".repeat(random.below(longest));
            number += 1;
            line(id, number - 1, &filler)
        });
        lines.collect()
    });
    Posting {
        requests: requests.collect(),
        begins_at: random.span(Duration::ZERO, Duration::from_millis(100)),
        pause_max: Duration::from_micros(random.pick(&[50, 2000, 20_000])),
        piece_max: random.pick(&[50, 2000, 20_000]),
    }
}
