//! Whole daemons in the simulated world: seeds, faults, and a judge.
//!
//! Each seed draws a configuration, senders, servers, collectors and faults ([`plan`]), runs a
//! daemon made by the service's own assembly ([`world`]) and judges what arrived ([`judge`]).
//! `SIM_SEED=7 cargo test --test main sim:: -- --nocapture` replays one seed and prints it;
//! `SIM_SEEDS=100000` runs so many.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // a run's summary is what one looks at

mod collector;
mod files;
mod judge;
mod outage;
mod plan;
mod sender;
mod server;
mod standing;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use marline::sim::FaultCounts;

use server::VisitCounts;
use world::Report;

/// Seeds in the suite.
const SEEDS: u64 = 600;
/// Seeds of the suite that must find a planted bug.
#[cfg(sim_bug)]
const FINDS: usize = 3;
/// Every which seed of the suite is run twice more, to see that it runs the same way.
const REPLAYED: usize = 3;
/// Failing seeds that are shown.
const FAILURES_SHOWN: usize = 10;

/// What many runs came to.
#[derive(Default)]
struct Summary {
    seeds: u64,
    virtual_time: Duration,
    turns: u64,
    happened: u64,
    sent: u64,
    delivered: u64,
    pauses: u64,
    unread_bytes: u64,
    replayed: u64,
    faults: FaultCounts,
    visits: VisitCounts,
    failures: Vec<(u64, String)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Result<Report, String>) {
        self.seeds += 1;
        match outcome {
            Ok(report) => {
                self.virtual_time += report.virtual_time;
                self.turns += report.turns;
                self.happened += report.happened;
                self.sent += report.sent;
                self.delivered += report.delivered;
                self.pauses += report.pauses;
                self.unread_bytes += report.unread_bytes;
                self.replayed += report.replayed;
                self.faults.add(&report.faults);
                self.visits.add(&report.visits);
            }
            Err(why) => self.failures.push((seed, why)),
        }
    }

    fn print(&self) {
        println!(
            "sim: {} seeds, {:.0?} of virtual time, {} turns, {} events of the world; \
             {} lines sent, {} delivered, {} checks with the memory full; \
             {} bytes died unread, {} events sent again; {}\nsim: faults: {}",
            self.seeds,
            self.virtual_time,
            self.turns,
            self.happened,
            self.sent,
            self.delivered,
            self.pauses,
            self.unread_bytes,
            self.replayed,
            self.visits,
            self.faults
        );
        for (seed, why) in self.failures.iter().take(FAILURES_SHOWN) {
            println!("sim: SIM_SEED={seed} failed: {why}");
        }
    }
}

fn run(seed: u64) -> Result<Report, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| world::run(seed)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_the_promises_of_delivery() {
    if let Some(seed) = variable("SIM_SEED") {
        println!("{}", plan::Plan::new(seed).describe());
        let report = run(seed).unwrap_or_else(|why| panic!("SIM_SEED={seed} failed: {why}"));
        println!("{report}");
        return;
    }
    let mut summary = Summary::default();
    for seed in 1..=variable("SIM_SEEDS").unwrap_or(SEEDS) {
        summary.add(seed, run(seed));
        if summary.failures.len() >= FAILURES_SHOWN {
            break;
        }
    }
    summary.print();
    let failed: Vec<u64> = summary.failures.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    let missing = summary.faults.missing();
    let missing: Vec<_> = missing.iter().filter(|it| !it.needs_lives()).collect();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
    let missing = summary.visits.missing();
    assert!(missing.is_empty(), "no visit was ever: {missing:?}");
    assert!(summary.pauses > 0, "the memory was never full");
    assert!(
        summary.unread_bytes > 0,
        "no collector died over what it had"
    );
    assert!(summary.replayed > 0, "nothing was ever sent again");
}

/// For a build with a planted bug (.ci/planted_bugs): the seeds must find it, more than once,
/// so that it is not luck that the next change of a plan takes away.
#[cfg(sim_bug)]
#[test]
fn a_planted_bug_is_found() {
    let seeds = 1..=variable("SIM_SEEDS").unwrap_or(SEEDS);
    let failing = seeds.filter_map(|seed| run(seed).err().map(|why| (seed, why)));
    let found: Vec<(u64, String)> = failing.take(FINDS).collect();
    for (seed, why) in &found {
        println!("sim: the planted bug is found at seed {seed}: {why}");
    }
    let count = found.len();
    assert_eq!(
        count, FINDS,
        "only {count} of {SEEDS} seeds find the planted bug"
    );
}

/// The report holds the trace: every call of the network, its time, and what came of it.
#[test]
fn a_seed_runs_the_same_way_twice() {
    for seed in (1..=SEEDS).step_by(REPLAYED) {
        let shown = |report: Result<Report, String>| report.map(|report| report.to_string());
        assert_eq!(shown(run(seed)), shown(run(seed)), "SIM_SEED={seed}");
    }
}
