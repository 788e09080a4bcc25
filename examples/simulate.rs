//! Runs whole daemons in the simulated world: `simulate [--seeds N] [--from K]`, `--seed S`.
//!
//! The same world, seeds and judge as the test suite's (`tests/sim`). Prints what was run, what
//! went wrong on purpose and how often, and the seeds that broke a promise; ends with 1 if one
//! did, and with 2 for arguments that it does not know.

#![allow(clippy::print_stdout, clippy::print_stderr)] // it is a command

use std::process::ExitCode;
use std::time::Instant;

#[path = "../tests/sim/mod.rs"]
mod sim;

use sim::suite;

const USAGE: &str = "usage: simulate [--seeds N] [--from K] | --seed S\n\
    --seeds N  runs N seeds, 2000 where it is not given\n\
    --from K   begins with seed K, 1 where it is not given\n\
    --seed S   runs one seed and says what it means";

/// What to run.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    One(u64),
    Many { from: u64, seeds: u64 },
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Order::One(seed)) => run_one(seed),
        Ok(Order::Many { from, seeds }) => run_many(from, seeds),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Order, String> {
    let (mut one, mut from, mut seeds) = (None, None, None);
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--seed" => &mut one,
            "--seeds" => &mut seeds,
            "--from" => &mut from,
            _ => return Err(format!("unknown argument {name:?}")),
        };
        let value = arguments.next().ok_or(format!("{name} needs a number"))?;
        let number = value.parse::<u64>();
        *place = Some(number.map_err(|error| format!("{name} {value:?}: {error}"))?);
    }
    match (one, from, seeds) {
        (Some(seed), None, None) => Ok(Order::One(seed)),
        (Some(_), ..) => Err("--seed stands alone".to_owned()),
        (None, from, seeds) => Ok(Order::Many {
            from: from.unwrap_or(1),
            seeds: seeds.unwrap_or(sim::SEEDS),
        }),
    }
}

fn run_one(seed: u64) -> ExitCode {
    println!("{}", suite::describe(seed));
    match suite::run(seed) {
        Ok(report) => {
            println!("seed {seed} keeps every promise: {report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("seed {seed} failed: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run_many(from: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let summary = suite::run_seeds(from, from.saturating_add(seeds.saturating_sub(1)));
    println!(
        "{summary}\nsim: {} seeds took {:.1?}",
        summary.seeds,
        began.elapsed()
    );
    let missing = summary.missing();
    if !missing.is_empty() {
        println!("sim: in these seeds never happened: {missing:?}");
    }
    let Some((seed, _)) = summary.failures.first() else {
        println!("sim: every seed keeps every promise");
        return ExitCode::SUCCESS;
    };
    println!(
        "sim: {} seeds failed; to see one again:",
        summary.failures.len()
    );
    println!("  cargo run --release --example simulate -- --seed {seed}");
    ExitCode::FAILURE
}
