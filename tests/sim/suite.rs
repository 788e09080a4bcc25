//! Many seeds, on as many threads as there are cores, and what they came to.
//!
//! One seed is one run, by itself and always the same: an odd one of a daemon that lives once
//! ([`world`]), an even one of a daemon with several lives ([`lives`]). The tests and
//! `examples/simulate.rs` run them by the same functions.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use marline::sim::{Death, FaultCounts};

use super::http::{Reply, ReplyCounts};
use super::lives;
use super::lives::form::FormCounts;
use super::plan;
use super::server::VisitCounts;
use super::world;

/// Failing seeds that are shown; after so many no more are run.
pub const FAILURES_SHOWN: usize = 10;

/// What a good run came to.
pub enum Report {
    OneLife(world::Report),
    SeveralLives(lives::Report),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::OneLife(report) => report.fmt(f),
            Report::SeveralLives(report) => report.fmt(f),
        }
    }
}

/// Runs a seed.
pub fn run(seed: u64) -> Result<Report, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| match seed % 2 {
        1 => world::run(seed).map(Report::OneLife),
        _ => lives::run(seed).map(Report::SeveralLives),
    }));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// What a seed means.
pub fn describe(seed: u64) -> String {
    match seed % 2 {
        1 => plan::Plan::new(seed).describe(),
        _ => lives::plan::Plan::new(seed).describe(),
    }
}

/// Runs `each` for the seeds from `first` to `last`, on all cores, until it says that it is
/// enough; a seed once begun is ended.
pub fn for_all_seeds(first: u64, last: u64, each: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return;
            }
            if !each(seed) {
                next.store(last.saturating_add(1), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// Runs the seeds from `first` to `last`.
pub fn run_seeds(first: u64, last: u64) -> Summary {
    let summary = Mutex::new(Summary::default());
    for_all_seeds(first, last, |seed| {
        let outcome = run(seed);
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.add(seed, outcome);
        summary.failures.len() < FAILURES_SHOWN
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort();
    summary
}

/// What many runs came to, in whatever order.
#[derive(Default)]
pub struct Summary {
    pub seeds: u64,
    virtual_time: Duration,
    turns: u64,
    happened: u64,
    sent: u64,
    delivered: u64,
    reloads: u64,
    pauses: u64,
    unread_bytes: u64,
    replayed: u64,
    faults: FaultCounts,
    visits: VisitCounts,
    lives: LifeCounts,
    pub failures: Vec<(u64, String)>,
}

/// What the runs of several lives came to.
#[derive(Default)]
struct LifeCounts {
    runs: u64,
    killed: u64,
    cut: u64,
    /// Lives that ended on a call of the disk, and those of them that had not begun.
    on_call: u64,
    in_start: u64,
    /// Starts that failed with the disk.
    starts_failed: u64,
    acked: u64,
    doubled: u64,
    pieces: u64,
    forms: FormCounts,
    replies: ReplyCounts,
    unread_bytes: u64,
    unknowable: u64,
    flipped: u64,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Result<Report, String>) {
        self.seeds += 1;
        match outcome {
            Ok(Report::OneLife(report)) => {
                self.virtual_time += report.virtual_time;
                self.turns += report.turns;
                self.happened += report.happened;
                self.sent += report.sent;
                self.delivered += report.delivered;
                self.reloads += report.reloads;
                self.pauses += report.pauses;
                self.unread_bytes += report.unread_bytes;
                self.replayed += report.replayed;
                self.faults.add(&report.faults);
                self.visits.add(&report.visits);
            }
            Ok(Report::SeveralLives(report)) => {
                self.virtual_time += report.virtual_time;
                self.turns += report.turns;
                self.happened += report.happened;
                self.faults.add(&report.faults);
                self.lives.add(&report);
            }
            Err(why) => self.failures.push((seed, why)),
        }
    }

    /// What has never happened and should have.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let faults = self.faults.missing();
        missing.extend(faults.iter().map(|fault| format!("{fault:?}")));
        let visits = self.visits.missing();
        missing.extend(visits.iter().map(|visit| format!("a visit {visit}")));
        let lives = &self.lives;
        let counts = [
            (self.pauses, "the memory is full"),
            (self.reloads, "the config changes"),
            (self.unread_bytes, "a collector dies over what it had"),
            (self.replayed, "an event is sent again"),
            (lives.killed, "a life ends by a kill"),
            (lives.cut, "a life ends by a power cut"),
            (lives.on_call, "a life ends on a call"),
            (lives.in_start, "a life ends in its start"),
            (lives.starts_failed, "a start fails"),
            (lives.doubled, "a line comes twice"),
            (lives.pieces, "a line is cut off"),
            (
                lives.unread_bytes,
                "a collector of several lives dies over what it had",
            ),
            (
                lives.unknowable,
                "a line is lost of which nobody could know",
            ),
        ];
        let never = counts.into_iter().filter(|(count, _)| *count == 0);
        missing.extend(never.map(|(_, what)| what.to_owned()));
        missing.extend(lives.forms.missing());
        let replies = Reply::ALL
            .iter()
            .filter(|it| !lives.replies.contains_key(it));
        missing.extend(replies.map(|reply| format!("a request is {reply:?}")));
        missing
    }
}

impl LifeCounts {
    fn add(&mut self, report: &lives::Report) {
        self.runs += 1;
        for ended in &report.ended {
            match ended.death {
                Death::Killed => self.killed += 1,
                Death::PowerCut => self.cut += 1,
            }
            self.on_call += u64::from(ended.on.is_some());
            self.in_start += u64::from(ended.in_start);
        }
        self.starts_failed += report.starts_failed;
        self.acked += report.acked;
        self.doubled += report.doubled;
        self.pieces += report.pieces;
        self.forms.add(&report.forms);
        for (reply, count) in &report.replies {
            *self.replies.entry(*reply).or_default() += count;
        }
        self.unread_bytes += report.unread_bytes;
        self.unknowable += report.unknowable;
        self.flipped += report.flipped;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sim: {} seeds, {:.0?} of virtual time, {} turns, {} events of the world; \
             {} lines sent, {} delivered, {} reloads, {} checks with the memory full; {} bytes \
             died unread, {} events sent again; {}",
            self.seeds,
            self.virtual_time,
            self.turns,
            self.happened,
            self.sent,
            self.delivered,
            self.reloads,
            self.pauses,
            self.unread_bytes,
            self.replayed,
            self.visits,
        )?;
        let lives = &self.lives;
        writeln!(
            f,
            "sim: {} runs of several lives, {} killed, {} by a power cut, {} of these on a call of \
             the disk, {} in their start; {} starts failed with the disk; {} lines acknowledged, \
             {} came again, {} pieces; {} bytes died unread, {} lines lost so; {} \
             lost with turned bits",
            lives.runs,
            lives.killed,
            lives.cut,
            lives.on_call,
            lives.in_start,
            lives.starts_failed,
            lives.acked,
            lives.doubled,
            lives.pieces,
            lives.unread_bytes,
            lives.unknowable,
            lives.flipped
        )?;
        writeln!(f, "sim: {}", lives.forms)?;
        writeln!(f, "sim: requests: {:?}", lives.replies)?;
        write!(f, "sim: faults: {}", self.faults)?;
        for (seed, why) in self.failures.iter().take(FAILURES_SHOWN) {
            write!(f, "\nsim: SIM_SEED={seed} failed: {why}")?;
        }
        Ok(())
    }
}
