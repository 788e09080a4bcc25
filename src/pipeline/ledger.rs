//! The two exact ledgers: every event is somewhere, and the books say where.
//!
//! A pipeline's `received` and `produced` events are `passed`, `filtered{step}`,
//! `dropped{reason}`, `dead_lettered` or `in_flight`. A sink's `accepted` and `recovered`
//! events are `delivered`, `dropped{reason}`, `dead_lettered`, `buffered` or `in_flight`. Both
//! hold at every instant, because every move is one call here that takes from one account and
//! gives to another. Counts are of events, never of bytes.
//!
//! They meet where pipelines feed sinks: what a sink accepted is the sum of what the routes of
//! all pipelines sent it.
//!
//! With several reactors each keeps books of its own, which balance by themselves. What one has
//! *handed* to another left its books, and the other has *taken* it *over* into its own: both
//! are there so that the sum over all counts each event once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts by name; the names are step labels or drop reasons, a fixed few per component. Copies
/// go to other threads.
pub type Tally = BTreeMap<Arc<str>, u64>;

/// A counter that is read while others hold it.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds `events`.
    pub fn add(&self, events: u64) {
        self.0.set(self.0.get() + events);
    }

    /// Takes `events` away again; never below zero.
    pub fn sub(&self, events: u64) {
        debug_assert!(
            self.0.get() >= events,
            "a ledger account cannot go below zero"
        );
        self.0.set(self.0.get().saturating_sub(events));
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counts by name that can be added to while shared.
#[derive(Debug, Default)]
pub struct Tallies(RefCell<Tally>);

impl Tallies {
    /// Adds `events` under `name`.
    pub fn add(&self, name: &str, events: u64) {
        if events == 0 {
            return;
        }
        let mut tally = self.0.borrow_mut();
        match tally.get_mut(name) {
            Some(count) => *count += events,
            None => {
                tally.insert(name.into(), events);
            }
        }
    }

    /// The sum over all names.
    pub fn total(&self) -> u64 {
        self.0.borrow().values().sum()
    }

    /// A copy, for records.
    pub fn snapshot(&self) -> Tally {
        self.0.borrow().clone()
    }
}

/// The books of one pipeline.
#[derive(Debug, Default)]
pub struct PipelineLedger {
    /// Events handed over by sources and by pipelines this one reads from.
    pub received: Count,
    /// Events that a step made out of others (`split`), beyond those it was given.
    pub produced: Count,
    /// Events that left for at least one sink or pipeline.
    pub passed: Count,
    /// Events a step was told to leave out, by step label; `to` where no route wanted them.
    pub filtered: Tallies,
    /// Events lost, by reason.
    pub dropped: Tallies,
    /// Events sent to `errors_to`.
    pub dead_lettered: Count,
    /// Events through the steps that wait for room in the sinks.
    pub in_flight: Count,
    /// Events among those received that another reactor had received first (not an account).
    pub taken_over: Count,
    /// Events a step could not work on and passed on marked, by step label (not an account).
    pub failed: Tallies,
}

impl PipelineLedger {
    /// Whether both sides are equal.
    pub fn balances(&self) -> bool {
        let given = self.received.get() + self.produced.get();
        let accounted = self.passed.get()
            + self.filtered.total()
            + self.dropped.total()
            + self.dead_lettered.get()
            + self.in_flight.get();
        given == accounted
    }
}

/// The books of one sink.
#[derive(Debug, Default)]
pub struct SinkLedger {
    /// Events admitted to the sink's buffer in this run.
    pub accepted: Count,
    /// Events found in the buffer at the start of this run.
    pub recovered: Count,
    /// Events that reached their destination.
    pub delivered: Count,
    /// Events given up, by reason.
    pub dropped: Tallies,
    /// Events the destination refused that went to the dead letters.
    pub dead_lettered: Count,
    /// Events in the buffer.
    pub buffered: Count,
    /// Events the sink has taken out and not settled yet.
    pub in_flight: Count,
    /// Events that went over to the sink on another reactor.
    pub handed: Count,
    /// Events among those accepted that another reactor had accepted first (not an account).
    pub taken_over: Count,
    /// Bytes of events delivered, before encoding (not an account).
    pub delivered_bytes: Count,
    /// Attempts that failed and are made again (not an account).
    pub retries: Count,
    /// Events sent again although they had arrived (not an account).
    pub replayed: Count,
}

impl SinkLedger {
    /// Whether both sides are equal.
    pub fn balances(&self) -> bool {
        let given = self.accepted.get() + self.recovered.get();
        let accounted = self.delivered.get()
            + self.dropped.total()
            + self.dead_lettered.get()
            + self.buffered.get()
            + self.in_flight.get()
            + self.handed.get();
        given == accounted
    }

    /// Events that are not settled yet.
    pub fn open(&self) -> u64 {
        self.buffered.get() + self.in_flight.get()
    }

    /// Whether nothing is left to be settled.
    pub fn is_settled(&self) -> bool {
        self.buffered.get() == 0 && self.in_flight.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_notices_one_missing_event() {
        let books = SinkLedger::default();
        books.accepted.add(3);
        books.delivered.add(2);
        assert!(!books.balances());
        books.dropped.add("shutdown", 1);
        assert!(books.balances() && books.is_settled());
    }
}
