//! Whole daemons in the simulated world: seeds, faults, and a judge.
//!
//! Each seed draws a configuration, senders, servers, collectors and faults ([`plan`]), runs a
//! daemon made by the service's own assembly ([`world`]) and judges what arrived ([`judge`]);
//! every second one of a daemon that is killed and loses its power ([`lives`]).
//! `SIM_SEED=7 cargo test --test main sim:: -- --nocapture` replays one seed and prints it;
//! `SIM_SEEDS=100000` runs so many. `cargo run --release --example simulate` does the same.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // a run's summary is what one looks at

mod collector;
mod files;
mod http;
mod judge;
pub(crate) mod lives;
#[cfg(test)]
mod outage;
mod plan;
mod sender;
mod server;
#[cfg(test)]
mod standing;
pub(crate) mod suite;
pub mod world;

#[cfg(test)]
use std::sync::Mutex;

#[cfg(test)]
use marline::telemetry::capture::Capture;
#[cfg(test)]
use marline::telemetry::record::Level;

/// Seeds in the suite.
pub(crate) const SEEDS: u64 = 2000;
/// Seeds of the suite that must find a planted bug.
#[cfg(all(test, sim_bug))]
const FINDS: usize = 3;
/// Every which seed of the suite is run twice more, to see that it runs the same way.
#[cfg(test)]
const REPLAYED: u64 = 7;

#[cfg(test)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_the_promises_of_delivery() {
    if let Some(seed) = variable("SIM_SEED") {
        println!("{}", suite::describe(seed));
        let capture = Capture::start();
        let report = suite::run(seed);
        for record in capture.take_all() {
            if record.level <= Level::Info {
                println!("log: {record:?}");
            }
        }
        let report = report.unwrap_or_else(|why| panic!("SIM_SEED={seed} failed: {why}"));
        println!("{report}");
        return;
    }
    let summary = suite::run_seeds(1, variable("SIM_SEEDS").unwrap_or(SEEDS));
    println!("{summary}");
    let failed: Vec<u64> = summary.failures.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    let missing = summary.missing();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

/// For a build with a planted bug (.ci/planted_bugs): the seeds must find it, more than once,
/// so that it is not luck that the next change of a plan takes away.
#[cfg(sim_bug)]
#[test]
fn a_planted_bug_is_found() {
    let seeds = 1..=variable("SIM_SEEDS").unwrap_or(SEEDS);
    let failing = seeds.filter_map(|seed| suite::run(seed).err().map(|why| (seed, why)));
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
    let different = Mutex::new(Vec::new());
    suite::for_all_seeds(1, SEEDS / REPLAYED, |number| {
        let seed = number * REPLAYED;
        let shown = || suite::run(seed).map(|report| report.to_string());
        let (first, second) = (shown(), shown());
        if first != second {
            let mut different = different.lock().unwrap();
            different.push(format!("seed {seed}: {first:?}\nand then {second:?}"));
        }
        true
    });
    let different = different.into_inner().unwrap();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
