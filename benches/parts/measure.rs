//! How a part is measured: processor time of the process, over a fixed number of iterations.
//!
//! How many iterations a round has is found once, before the rounds, so that a round takes some
//! [`ROUND_NS`]. What an iteration needs is made before the clock is read, a group at a time.

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};

/// Rounds of a part; the table has the least and the median of them.
const ROUNDS: usize = 11;

/// What a round takes, in nanoseconds of processor time.
const ROUND_NS: u64 = 50_000_000;

/// The least that is measured between two readings of the clock, in nanoseconds: a reading is a
/// system call, and takes some 300.
const GROUP_NS: u64 = 200_000;

/// Most iterations in a group, so that what they need stays in the cache.
const GROUP_MAX: usize = 1024;

/// What an iteration consists of.
pub struct Part<'a> {
    /// `framing lines`.
    pub name: &'a str,
    /// What is counted: `line`, `turn`.
    pub unit: &'static str,
    /// Units in one iteration.
    pub units: usize,
    /// Bytes that one iteration works through; 0 where that says nothing.
    pub bytes: usize,
    /// Nanoseconds that a unit may take.
    pub budget_ns: Option<u32>,
}

/// The parts that were asked for, and their table.
pub struct Table {
    filter: Option<String>,
}

impl Table {
    /// A table of the parts with `filter` in their names.
    pub fn new(filter: Option<String>) -> Table {
        println!(
            "{:32}{:>6}{:>10}{:>10}{:>8}{:>8}",
            "part", "unit", "min ns", "median", "GB/s", "budget"
        );
        Table { filter }
    }

    /// Measures `work`, for each iteration of which `prepare` makes what it needs.
    pub fn measure<S, R>(
        &self,
        part: &Part<'_>,
        mut prepare: impl FnMut() -> S,
        mut work: impl FnMut(S) -> R,
    ) {
        let is_wanted = |filter: &String| part.name.contains(filter.as_str());
        if !self.filter.as_ref().is_none_or(is_wanted) {
            return;
        }
        let mut run = |group: usize| {
            let prepared: Vec<S> = (0..group).map(|_| prepare()).collect();
            let began = processor_ns();
            for state in prepared {
                black_box(work(state));
            }
            processor_ns() - began
        };
        let mut group = 1;
        while run(group) < GROUP_NS && group < GROUP_MAX {
            group *= 2;
        }
        let groups = (ROUND_NS / run(group).max(1)).max(1);
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let total: u64 = (0..groups).map(|_| run(group)).sum();
                total as f64 / (groups as usize * group * part.units) as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        part.print(rounds[0], rounds[ROUNDS / 2]);
    }
}

impl Part<'_> {
    fn print(&self, min: f64, median: f64) {
        let rate = match self.bytes {
            0 => String::new(),
            // Bytes per nanosecond are gigabytes per second.
            bytes => format!("{:.2}", bytes as f64 / self.units as f64 / min),
        };
        let budget = self.budget_ns.map(|ns| ns.to_string()).unwrap_or_default();
        let (name, unit) = (self.name, self.unit);
        println!("{name:32}{unit:>6}{min:10.1}{median:10.1}{rate:>8}{budget:>8}");
    }
}

/// Processor time of this process, user and system, in nanoseconds.
fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
