//! What a seed of several lives means: who posts what, the sinks, how each life ends.
//!
//! Drawn before anything runs, so that it can be printed. Every line carries its sender, its
//! number and its checksum, so the judge knows each for what it is.

use std::collections::BTreeMap;
use std::time::Duration;

use marline::sim::{Death, Fault, FaultPlan, Moment, Random, StorageCall};
#[cfg(test)]
use marline::transport::Endpoint;

use super::super::files::Filing;
use super::super::plan::{Sinking, socket_sink};
use super::poster::{Posting, line};

/// Where the daemon listens.
pub const HTTP_IN: &str = "127.0.0.1:8080";

pub struct Plan {
    pub seed: u64,
    pub posters: Vec<Posting>,
    pub sinks: Vec<Sinking>,
    /// The `buffer.durability` of those that have a disk buffer, by name.
    pub disks: BTreeMap<&'static str, &'static str>,
    /// How each life but the last ends.
    pub deaths: Vec<Dying>,
    pub faults: FaultPlan,
    /// Connections to collectors may be reset by the network. A collector that resets one over
    /// what it has not read, while the daemon dies, loses what nobody can know of.
    pub resets: bool,
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
        let resets = random.chance(300);
        let mut faults = FaultPlan::seeded(&mut random);
        if !resets {
            faults = faults.with(Fault::Reset, 0).with(Fault::AcceptAborted, 0);
        }
        if random.chance(100) {
            faults = faults.with(Fault::BitFlipped, 500);
        }
        let names = if random.chance(300) {
            &["a", "b"][..]
        } else {
            &["a"]
        };
        let deaths = random.between(1, 4);
        let deaths: Vec<_> = (0..deaths).map(|_| dying(&mut random)).collect();
        let is_cut = deaths.iter().any(|it| it.death == Death::PowerCut);
        let sinks = names.iter().map(|name| sink(name, is_cut, &mut random));
        let sinks = sinks.collect();
        let disks = names.iter().filter_map(|name| {
            let durability = random.pick(&["commit", "commit", "commit", "interval:200ms", "os"]);
            random.chance(600).then_some((*name, durability))
        });
        let disks = disks.collect();
        let posters = random.between(1, 4);
        let posters = (0..posters).map(|id| posting(id, &mut random)).collect();
        Plan {
            seed,
            posters,
            sinks,
            disks,
            deaths,
            faults,
            resets,
            memory_bytes: random.between(32, 512) * 1024,
            random,
        }
    }

    /// Whether the sink `name` holds its sources up.
    pub fn is_required(&self, name: &str) -> bool {
        let mut sinks = self.sinks.iter();
        sinks.any(|sink| sink.name() == name && sink.is_required())
    }

    /// The configuration file.
    pub fn config(&self) -> String {
        let to: Vec<String> = self.sinks.iter().map(Sinking::route).collect();
        let mut text = format!(
            "[source.web]\ntype = \"http\"\nlisten = [\"tcp://{HTTP_IN}\"]\n\
             [pipeline.main]\nfrom = [\"web\"]\nto = [{}]\n",
            to.join(", ")
        );
        for sink in &self.sinks {
            text += &sink.table("64KiB");
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
        let mut posting = posting(0, &mut random);
        posting.requests.truncate(SMALL_REQUESTS);
        Plan {
            seed: 1,
            posters: vec![posting],
            sinks: vec![Sinking::Socket(sink)],
            disks: BTreeMap::from([("a", "commit")]),
            deaths,
            faults: FaultPlan::quiet(),
            resets: false,
            memory_bytes: 1 << 20,
            random,
        }
    }

    /// For whoever looks at one seed.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "seed {}: {} bytes of memory, resets {}, {:?}\n{}",
            self.seed,
            self.memory_bytes,
            self.resets,
            self.faults,
            self.config()
        );
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

fn sink(name: &'static str, is_cut: bool, random: &mut Random) -> Sinking {
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

fn posting(id: usize, random: &mut Random) -> Posting {
    let mut number = 0;
    let longest = random.pick(&[4, 60, 900]);
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
