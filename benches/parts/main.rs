//! What the parts cost, each alone: framing, syslog, JSON, access logs, chains of Deferreds,
//! timers, turns of the reactor.
//!
//! `cargo bench --bench parts -- [FILTER]`; the filter is a part of a name. Prints the least and
//! the median of some rounds, in nanoseconds of processor time per unit, and the budget where
//! there is one. Nothing fails here: a machine that others use too makes every number larger.
//! What the whole daemon costs per line is measured by `bench/`.
#![allow(clippy::print_stdout)] // the table is what it is for
#![allow(clippy::unwrap_used)] // a part that does not work has no time

mod chains;
mod measure;
mod texts;
mod turns;

fn main() {
    // `cargo bench` adds a `--bench` of its own.
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let table = measure::Table::new(words.next());
    texts::framing(&table);
    texts::syslog(&table);
    texts::json(&table);
    texts::access_logs(&table);
    chains::measure(&table);
    turns::timers(&table);
    turns::turns(&table);
}
