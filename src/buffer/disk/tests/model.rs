//! The disk log against a model of a few lines, over random operations with crashes among them.
//!
//! The model knows which record each number was promised for. The disk fails by the seed's plan,
//! loses power or the process at any call, and has bits turned. After each life: nothing
//! promised is missing but what a turned bit hit, nothing is there that was never written, all
//! is in order, and no epoch has given one number to two events. Every failure says its seed;
//! `DISK_SEED=n cargo test --lib disk::tests::model` runs that one alone.
#![allow(
    clippy::print_stdout,
    reason = "what the seeds came to is seen with --nocapture"
)]

use std::collections::{BTreeMap, HashMap};

use rustix::io::Errno;

use super::*;
use crate::buffer::disk::format::{Promise, RECORDS_AT, Slot};
use crate::buffer::disk::shared::CURSOR;
use crate::buffer::disk::writer::write_all;
use crate::buffer::storage::Open as OpenAs;
use crate::sim::{Death, DeathPoint, Fault, FaultCounts, FaultPlan, Moment, StorageCall};

/// Seeds of the suite.
const SEEDS: u64 = 400;
/// Operations of one seed.
const OPERATIONS: usize = 120;

/// What stands twice in a segment, and so is not turned here.
const HEAD_BYTES: usize = RECORDS_AT as usize;

type Text = (u32, Bytes);

/// What the log must hold, by the first number of each record.
#[derive(Default)]
struct Model {
    log: BTreeMap<u64, Text>,
    /// The number of the next event.
    end_seq: u64,
    /// Below it a power cut may lose nothing.
    safe_seq: u64,
    /// Ranges whose file failed before they were synced, with `interval`: they may be lost.
    doubtful: Vec<(u64, u64)>,
    /// The largest mark that was ever to be kept, and the largest that was.
    acked_seq: u64,
    kept_seq: u64,
    /// All that was ever tried to be written.
    tried: HashMap<u64, Vec<Text>>,
    /// Which event each epoch gave a number to.
    ids: HashMap<(u64, u64), Bytes>,
    /// Whether no power cut can take an epoch back.
    are_epochs_new: bool,
    /// Bits that were turned, each of which may cost a record, and records that were lost.
    flips: usize,
    lost: usize,
}

impl Model {
    fn commit(&mut self, records: &[Record]) {
        for record in records {
            let text = (record.count, record.payload.clone());
            self.log.insert(record.first_seq, text);
            self.end_seq = record.first_seq + u64::from(record.count);
        }
    }

    fn read(&mut self, record: &ReadRecord) -> Result<(), String> {
        let seq = record.first_seq;
        let text = (record.count, record.payload.clone());
        match self.log.get(&seq) {
            Some(expected) if *expected == text => {}
            other => {
                let name = |(count, text): &Text| format!("{count} of {:?}", text.slice(..10));
                let (got, other) = (name(&text), other.map(name));
                return Err(format!("event {seq}: {got} instead of {other:?}"));
            }
        }
        let owner = self
            .ids
            .entry((record.epoch, seq))
            .or_insert(text.1.clone());
        if *owner != text.1 && self.are_epochs_new {
            return Err(format!("epoch {} gave {seq} to two events", record.epoch));
        }
        Ok(())
    }

    /// A gap costs the records in it; whole ones, and no more than bits were turned.
    fn lose(&mut self, gap: &Gap) -> Result<(), String> {
        let there = self.log.range(gap.from_seq..gap.to_seq);
        let lost: Vec<u64> = there.map(|(seq, _)| *seq).collect();
        let is_safe = |seq: &&u64| !self.doubtful.iter().any(|(f, t)| (f..t).contains(seq));
        self.lost += lost.iter().filter(is_safe).count();
        lost.iter().for_each(|seq| drop(self.log.remove(seq)));
        if self.lost > self.flips {
            return Err(format!(
                "{gap:?} loses {lost:?}, {} bits turned",
                self.flips
            ));
        }
        Ok(())
    }

    /// Something failed: what is not synced may never be.
    fn doubt(&mut self) {
        if self.safe_seq < self.end_seq {
            self.doubtful.push((self.safe_seq, self.end_seq));
        }
    }

    /// After a new start, all that is there is known to be: `found` is all of it.
    fn start(
        &mut self,
        found: &[ReadRecord],
        recovered: &Recovered,
        is_cut: bool,
    ) -> Result<(), String> {
        let (first, next) = (recovered.first_seq, recovered.next_seq);
        if !is_cut {
            self.safe_seq = self.end_seq;
        }
        if first > self.acked_seq {
            return Err(format!(
                "reading begins at {first}, acked {}",
                self.acked_seq
            ));
        }
        if next < self.safe_seq && self.flips == 0 && self.doubtful.is_empty() {
            return Err(format!(
                "the log ends at {next}, promised {}",
                self.safe_seq
            ));
        }
        // Above what was promised, what is there is as good as what is not. What the cursor has
        // passed may come again, if that was read from a cache.
        let promised = self.safe_seq.min(next);
        self.log.retain(|seq, _| *seq < promised.max(first));
        for record in found {
            let text = (record.count, record.payload.clone());
            let tried = self.tried.get(&record.first_seq);
            if !tried.is_some_and(|tried| tried.contains(&text)) {
                return Err(format!("event {} was never written", record.first_seq));
            }
            if record.first_seq >= promised {
                self.log.insert(record.first_seq, text);
            }
        }
        (self.end_seq, self.safe_seq) = (next, next);
        Ok(())
    }
}

/// A seed's world.
struct Run {
    disk: SimStorage,
    random: Random,
    settings: Settings,
    plan: FaultPlan,
    model: Model,
    life: Option<Life>,
    /// Records that are not committed yet, in the order of their numbers.
    pending: Vec<Record>,
    /// How many records were made, to tell them apart.
    made: u64,
    start_seq: u64,
    /// How often what was not synced was lost, up to the last start.
    cuts: u64,
    /// What the clock says, in microseconds.
    wall: i64,
}

struct Life {
    opened: Opened,
    number: u64,
    /// Where reading goes on.
    read_seq: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let disk = SimStorage::new(random.fork());
        let durability = random.pick(&[
            Durability::Commit,
            Durability::Commit,
            Durability::Commit,
            Durability::Interval(Duration::from_secs(1)),
        ]);
        let mut plan = FaultPlan::quiet();
        for fault in FAULTS {
            if random.chance(400) {
                plan = plan.with(fault, random.between(1, 60) as u16);
            }
        }
        let mut run = Run {
            settings: tiny(durability),
            plan,
            model: Model::default(),
            life: None,
            pending: Vec::new(),
            made: 0,
            start_seq: 0,
            cuts: 0,
            wall: 0,
            disk,
            random,
        };
        run.model.are_epochs_new = durability == Durability::Commit;
        if run.random.chance(300) {
            run.begin_at(u64::MAX - 4_000);
        }
        run
    }

    /// A buffer whose first event has this number.
    fn begin_at(&mut self, seq: u64) {
        let slot = Slot {
            generation: 1,
            uuid: [7; 16],
            epoch: u64::MAX - 1_000_000,
            acked_seq: seq,
            durable_seq: seq,
            promise: Promise::Commit,
            is_closed: true,
        };
        let folder = folder(&self.disk);
        let file = folder.open(CURSOR, OpenAs::Create(0o600)).unwrap();
        write_all(&*file, &slot.encode(), 0).unwrap();
        file.sync().unwrap();
        folder.sync().unwrap();
        let model = &mut self.model;
        (model.end_seq, model.safe_seq) = (seq, seq);
        (model.acked_seq, model.kept_seq) = (seq, seq);
        self.start_seq = seq;
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..OPERATIONS {
            self.disk.plan_faults(self.plan.clone());
            self.operation()?;
            let is_over = self
                .life
                .as_ref()
                .is_some_and(|life| life.number != self.disk.life());
            if is_over {
                self.end();
            }
        }
        self.disk.die_at(None);
        self.disk.kill();
        self.end();
        self.start(true)?;
        self.read(usize::MAX)?;
        let life = self.life.as_ref().unwrap();
        match life.read_seq == self.model.end_seq {
            true => Ok(()),
            false => Err(format!("read up to {}", life.read_seq)),
        }
    }

    fn operation(&mut self) -> Result<(), String> {
        if self.life.is_none() {
            return self.start(false);
        }
        match self.random.below(100) {
            0..=29 => self.append(),
            30..=54 => self.commit()?,
            55..=69 => {
                let bytes_max = self.random.pick(&[1, 300, 100_000]);
                self.read(bytes_max)?;
            }
            70..=79 => self.keep()?,
            80..=81 => self.evict()?,
            82..=84 => self.sync(),
            85..=86 => drop(self.life.as_mut().map(|life| life.opened.writer.prepare())),
            87..=90 => self.flip(),
            91..=92 => {
                self.disk.crash();
            }
            93..=94 => self.disk.kill(),
            95..=97 => self.plan_death(),
            _ => self.close(),
        }
        Ok(())
    }

    fn append(&mut self) {
        for _ in 0..self.random.between(1, 4) {
            let last = self.pending.last();
            let first_seq = last.map_or(self.model.end_seq, |last| {
                last.first_seq + u64::from(last.count)
            });
            let count = self.random.between(1, 5) as u32;
            self.made += 1;
            let length = self.random.pick(&[0, 1, 20, 300, 1500]);
            let text = format!("record {} ", self.made);
            let payload: Vec<u8> = text.bytes().cycle().take(length + text.len()).collect();
            let record = Record {
                first_seq,
                count,
                payload: payload.into(),
            };
            let tried = self.model.tried.entry(first_seq).or_default();
            tried.push((count, record.payload.clone()));
            self.pending.push(record);
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let now = self.wall();
        let Some(life) = self.life.as_mut().filter(|_| !self.pending.is_empty()) else {
            return Ok(());
        };
        let taken = self.random.between(1, self.pending.len());
        let records = &self.pending[..taken];
        match life.opened.writer.commit(records, now) {
            Ok(committed) => {
                self.model.commit(records);
                if committed.durable_seq != self.model.end_seq {
                    return Err(format!("{committed:?} instead of {}", self.model.end_seq));
                }
                if self.settings.durability == Durability::Commit {
                    self.model.safe_seq = self.model.end_seq;
                }
                self.pending.drain(..taken);
                Ok(())
            }
            Err(CommitError::Refused { why, seq }) => Err(format!("{seq} refused: {why}")),
            Err(CommitError::Full { .. } | CommitError::Failed { .. }) => {
                self.model.doubt();
                Ok(())
            }
        }
    }

    fn sync(&mut self) {
        let now = self.wall();
        let Some(life) = &mut self.life else { return };
        match life.opened.writer.sync(now) {
            Ok(()) => self.model.safe_seq = self.model.end_seq,
            Err(_) => self.model.doubt(),
        }
    }

    fn read(&mut self, bytes_max: usize) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        if self.random.chance(50) {
            life.read_seq = self.model.kept_seq.max(life.opened.recovered.first_seq);
        }
        let end_seq = self.model.end_seq;
        let Ok(outcome) = life.opened.reader.read(life.read_seq, end_seq, bytes_max) else {
            return Ok(());
        };
        check_order(&outcome, life.read_seq)?;
        for record in &outcome.records {
            self.model.read(record)?;
        }
        for gap in &outcome.gaps {
            self.model.lose(gap)?;
        }
        life.read_seq = outcome.next_seq;
        Ok(())
    }

    fn keep(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        let low = self.model.kept_seq.min(life.read_seq);
        let acked_seq = low + self.random.below((life.read_seq - low + 1) as usize) as u64;
        self.model.acked_seq = self.model.acked_seq.max(acked_seq);
        if let Ok(kept) = life.opened.keeper.keep(acked_seq, self.model.end_seq) {
            self.model.kept_seq = self.model.kept_seq.max(kept.acked_seq);
            if kept.acked_seq > self.model.acked_seq {
                return Err(format!("{kept:?}, acked {}", self.model.acked_seq));
            }
        }
        Ok(())
    }

    fn evict(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        // Whatever comes of it, all but the segment in use may be gone.
        let before = self.model.acked_seq;
        self.model.acked_seq = self.model.acked_seq.max(self.model.end_seq);
        let bytes = self.random.pick(&[1, 5_000, 50_000]);
        if let Ok(evicted) = life.opened.keeper.evict(bytes, self.model.end_seq) {
            self.model.kept_seq = self.model.kept_seq.max(evicted.upto_seq);
            self.model.acked_seq = before.max(evicted.upto_seq);
            life.read_seq = life.read_seq.max(evicted.upto_seq);
        }
        Ok(())
    }

    /// Turns one bit of a record, or of the cursor, of which there are two.
    fn flip(&mut self) {
        let files: Vec<(String, usize)> = files(&self.disk)
            .into_iter()
            .filter(|(name, _)| name.ends_with(".seg"))
            .map(|(name, bytes)| {
                let filled = bytes.iter().rposition(|byte| *byte != 0);
                (name, filled.map_or(0, |last| last + 1))
            })
            .filter(|(_, filled)| *filled > HEAD_BYTES)
            .collect();
        if files.is_empty() || !self.random.chance(300) {
            return;
        }
        let (name, filled) = &files[self.random.below(files.len())];
        let bit = self.random.between(HEAD_BYTES * 8, filled * 8 - 1);
        if self.disk.flip(&format!("{FOLDER}/{name}"), bit) {
            self.model.flips += 1;
        }
    }

    /// A clock that is set back now and then; where an epoch may be lost with what was not
    /// synced it only goes on.
    fn wall(&mut self) -> WallTime {
        self.wall += 1 + self.random.below(1_000) as i64;
        if self.settings.durability == Durability::Commit && self.random.chance(100) {
            self.wall = self.random.below(1_000_000) as i64;
        }
        WallTime::from_micros(self.wall)
    }

    fn plan_death(&mut self) {
        let call = self.random.pick(&DEADLY);
        self.disk.die_at(Some(DeathPoint {
            call,
            number: self.disk.calls_of(call) + self.random.between(1, 4) as u64,
            moment: self.random.pick(&[Moment::Before, Moment::After]),
            death: self.random.pick(&[Death::Killed, Death::PowerCut]),
        }));
    }

    fn close(&mut self) {
        let Some(life) = self.life.take() else { return };
        let Opened { writer, keeper, .. } = life.opened;
        if writer.close().is_ok() {
            self.model.safe_seq = self.model.end_seq;
        }
        self.model.acked_seq = self.model.acked_seq.max(life.read_seq);
        drop(keeper.close(life.read_seq, self.model.end_seq));
        if life.number == self.disk.life() {
            self.disk.kill();
        }
        self.end();
    }

    /// What was only in memory is gone with the life.
    fn end(&mut self) {
        self.life = None;
        self.pending.clear();
    }

    fn start(&mut self, is_quiet: bool) -> Result<(), String> {
        if is_quiet {
            self.disk.plan_faults(FaultPlan::quiet());
        }
        let number = self.disk.life();
        let Ok(folder) = self
            .disk
            .of_this_life()
            .root(Path::new(FOLDER), Some(0o700))
        else {
            return Ok(());
        };
        let now = self.wall();
        let mut opened = match open(folder, self.settings, now) {
            Ok(opened) => opened,
            Err(error) if is_quiet => return Err(error.to_string()),
            Err(_) => {
                if self.disk.life() == number {
                    self.disk.kill();
                }
                return Ok(());
            }
        };
        // The state is looked at on a disk that works, or this would be a test of the model.
        self.disk.plan_faults(FaultPlan::quiet());
        let recovered = &opened.recovered;
        let (mut at, end_seq) = (recovered.first_seq, recovered.next_seq);
        let (mut found, mut gaps) = (Vec::new(), Vec::new());
        while at < end_seq {
            let Ok(outcome) = opened.reader.read(at, end_seq, usize::MAX) else {
                return Ok(());
            };
            check_order(&outcome, at)?;
            at = outcome.next_seq;
            found.extend(outcome.records);
            gaps.extend(outcome.gaps);
        }
        let counts = self.disk.fault_counts();
        let cuts = counts.of(Fault::PowerCut) + counts.of(Fault::CacheDropped);
        self.model.start(&found, recovered, cuts > self.cuts)?;
        self.cuts = cuts;
        for gap in &gaps {
            self.model.lose(gap)?;
        }
        for record in &found {
            self.model.read(record)?;
        }
        let read_seq = recovered.first_seq;
        self.life = Some(Life {
            opened,
            number,
            read_seq,
        });
        Ok(())
    }
}

/// Records and gaps follow one another, and the next number is behind both.
fn check_order(outcome: &ReadOutcome, from_seq: u64) -> Result<(), String> {
    let mut spans: Vec<(u64, u64)> = outcome
        .records
        .iter()
        .map(|record| (record.first_seq, record.first_seq + u64::from(record.count)))
        .chain(outcome.gaps.iter().map(|gap| (gap.from_seq, gap.to_seq)))
        .collect();
    let records = outcome.records.iter().map(|record| record.first_seq);
    spans.sort_unstable();
    let is_whole = spans.windows(2).all(|pair| pair[0].1 == pair[1].0)
        && spans.last().is_none_or(|last| last.1 == outcome.next_seq)
        && records.is_sorted();
    match is_whole && outcome.next_seq >= from_seq {
        true => Ok(()),
        false => Err(format!(
            "from {from_seq}: {spans:?}, next {}",
            outcome.next_seq
        )),
    }
}

const FAULTS: [Fault; 6] = [
    Fault::PartialAppend,
    Fault::DiskFull,
    Fault::DiskFailed,
    Fault::ReadFailed,
    Fault::SyncFailed,
    Fault::SyncBroken,
];

const DEADLY: [StorageCall; 8] = [
    StorageCall::Open,
    StorageCall::Write,
    StorageCall::Sync,
    StorageCall::DirectorySync,
    StorageCall::Rename,
    StorageCall::Unlink,
    StorageCall::Truncate,
    StorageCall::Allocate,
];

fn seeds() -> std::ops::Range<u64> {
    let one = std::env::var("DISK_SEED").ok();
    let one = one.map(|seed| seed.parse::<u64>().unwrap());
    one.map_or(1..SEEDS + 1, |seed| seed..seed + 1)
}

/// For a build with a planted bug (.ci/planted_bugs): the seeds must find it.
#[cfg(sim_bug)]
#[test]
fn a_planted_bug_is_found() {
    let failing = seeds().filter_map(|seed| Run::new(seed).run().err().map(|why| (seed, why)));
    let found: Vec<(u64, String)> = failing.take(2).collect();
    for (seed, why) in &found {
        println!("sim: the planted bug is found at seed {seed}: {why}");
    }
    assert!(found.len() == 2, "found by {} seeds", found.len());
}

#[test]
fn the_log_is_the_model_through_every_crash() {
    let mut counts = FaultCounts::default();
    let mut failures = Vec::new();
    let (mut lost, mut committed) = (0, 0);
    for seed in seeds() {
        let mut run = Run::new(seed);
        if let Err(why) = run.run() {
            let durability = run.settings.durability;
            failures.push(format!("seed {seed}, {durability:?}: {why}"));
        }
        counts.add(&run.disk.fault_counts());
        lost += run.model.lost;
        committed += run.model.end_seq - run.start_seq;
    }
    println!("model: {committed} events, {lost} records lost to turned bits, {counts}");
    let shown = failures.len().min(10);
    let shown = failures[..shown].join("\n  ");
    assert!(failures.is_empty(), "{} seeds:\n  {shown}", failures.len());
    if seeds().count() > 1 {
        let wanted = FAULTS
            .into_iter()
            .chain([Fault::PowerCut, Fault::ProcessKilled]);
        let missing: Vec<Fault> = wanted.filter(|fault| counts.of(*fault) == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
        assert!(lost > 0, "no turned bit hit a record");
    }
}

/// An error of the simulated disk after the end of a life is the machine's, not the log's.
#[test]
fn a_life_that_is_over_answers_errors_and_never_panics() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 60);
    disk.kill();
    let failed = opened.writer.commit(&group(60, 1), NOW).err().unwrap();
    let CommitError::Failed { error, .. } = failed else {
        panic!("{failed}");
    };
    assert_eq!(Errno::from_io_error(&error), Some(Errno::STALE));
    assert!(opened.reader.read(0, 60, 9).is_err());
    assert!(opened.keeper.keep(30, 60).is_err());
    let settings = tiny(Durability::Commit);
    assert!(open(folder(&disk), settings, NOW).is_ok());
}
