//! Storm limits: the same thing said again and again is counted instead of written.
//!
//! The same thing is: same place in the code, same component, same `reason`. Of warnings and
//! errors one is written in [`WINDOW`]; of the rest [`BURST_QUIET`], so that a start with many
//! listeners is shown in full. Debug and trace are never held back. What was held back is
//! added as a count to the next record of its kind, or reported when its window is over. The
//! table is bounded: where it is full, its oldest window is reported early.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::record::{Level, Record, Value};
use crate::time::{Duration, Instant};

/// How long a kind of record is remembered.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Warnings and errors of one kind in a window.
pub const BURST_LOUD: u64 = 1;
/// Info records of one kind in a window.
pub const BURST_QUIET: u64 = 100;
/// Kinds remembered at a time.
pub const KINDS_MAX: usize = 1024;

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write it; this many of its kind were held back since the last one.
    Write(u64),
    /// Count it.
    Suppress,
}

/// A kind's window that is over with records held back.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose records they were.
    pub component: String,
    /// What they said.
    pub what: String,
    /// How many.
    pub suppressed: u64,
}

/// One kind of record in its window.
#[derive(Debug)]
struct Kind {
    start: Instant,
    written: u64,
    suppressed: u64,
    component: String,
    what: String,
}

/// The kinds of the last window.
#[derive(Debug, Default)]
pub struct Storms {
    kinds: HashMap<u64, Kind>,
    /// Reports of windows that were ended early to make room.
    early: Vec<Report>,
}

impl Storms {
    /// Decides about `record` and remembers it.
    pub fn judge(&mut self, record: &Record, now: Instant) -> Verdict {
        let burst = match record.level {
            Level::Error | Level::Warn => BURST_LOUD,
            Level::Info => BURST_QUIET,
            Level::Debug | Level::Trace => return Verdict::Write(0),
        };
        let key = key(record);
        if !self.kinds.contains_key(&key) && self.kinds.len() >= KINDS_MAX {
            self.make_room();
        }
        let kind = self
            .kinds
            .entry(key)
            .or_insert_with(|| Kind::of(record, now));
        let held_back = kind.suppressed;
        if now - kind.start >= WINDOW {
            *kind = Kind::of(record, now);
            kind.written = 1;
            return Verdict::Write(held_back);
        }
        if kind.written < burst {
            kind.written += 1;
            return Verdict::Write(0);
        }
        kind.suppressed += 1;
        Verdict::Suppress
    }

    /// When the next report is due; `None` while nothing is held back.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.early.is_empty() {
            return Some(Instant::ZERO);
        }
        let waiting = self.kinds.values().filter(|kind| kind.suppressed > 0);
        waiting.map(|kind| kind.start + WINDOW).min()
    }

    /// Reports and forgets the windows that are over.
    pub fn due(&mut self, now: Instant) -> Vec<Report> {
        let mut reports = std::mem::take(&mut self.early);
        self.kinds.retain(|_, kind| {
            let is_over = now - kind.start >= WINDOW;
            if is_over && kind.suppressed > 0 {
                reports.push(kind.report());
            }
            !is_over
        });
        reports
    }

    fn make_room(&mut self) {
        let oldest = self.kinds.iter().min_by_key(|(_, kind)| kind.start);
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return;
        };
        let kind = self.kinds.remove(&key);
        self.early.extend(
            kind.filter(|kind| kind.suppressed > 0)
                .map(|kind| kind.report()),
        );
    }
}

impl Kind {
    fn of(record: &Record, now: Instant) -> Kind {
        let name = if record.event.is_empty() {
            &record.message
        } else {
            &record.event
        };
        Kind {
            start: now,
            written: 0,
            suppressed: 0,
            component: record.component.clone(),
            what: name.clone(),
        }
    }

    fn report(&self) -> Report {
        Report {
            component: self.component.clone(),
            what: self.what.clone(),
            suppressed: self.suppressed,
        }
    }
}

fn key(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.callsite.hash(&mut hasher);
    record.component.hash(&mut hasher);
    if let Some(Value::Text(reason)) = record.field("reason") {
        reason.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn warning(callsite: usize) -> Record {
        let text = "cannot accept".to_owned();
        let own = Record::own(WallTime::default(), Level::Warn, "accept_failed", text);
        Record { callsite, ..own }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn one_warning_in_a_window_then_a_count() {
        let mut storms = Storms::default();
        assert_eq!(storms.judge(&warning(1), at(0)), Verdict::Write(0));
        for second in 0..10 {
            assert_eq!(storms.judge(&warning(1), at(second)), Verdict::Suppress);
        }
        assert_eq!(storms.judge(&warning(2), at(1)), Verdict::Write(0));
        assert_eq!(storms.judge(&warning(1), at(10)), Verdict::Write(10));
        assert_eq!(storms.deadline(), None);
    }

    #[test]
    fn a_storm_that_ends_is_reported() {
        let mut storms = Storms::default();
        storms.judge(&warning(1), at(5));
        storms.judge(&warning(1), at(6));
        assert_eq!(storms.deadline(), Some(at(15)));
        assert_eq!(storms.due(at(14)), []);
        let reports = storms.due(at(15));
        assert_eq!(reports.len(), 1);
        assert_eq!(
            (reports[0].what.as_str(), reports[0].suppressed),
            ("accept_failed", 1)
        );
        assert_eq!(storms.deadline(), None);
    }

    #[test]
    fn different_reasons_are_different_kinds() {
        let mut storms = Storms::default();
        let mut refused = warning(1);
        refused
            .fields
            .push(("reason", Value::Text("refused".to_owned())));
        assert_eq!(storms.judge(&warning(1), at(0)), Verdict::Write(0));
        assert_eq!(storms.judge(&refused, at(0)), Verdict::Write(0));
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let mut storms = Storms::default();
        for callsite in 0..KINDS_MAX + 100 {
            let second = callsite as u64 / 1000;
            storms.judge(&warning(callsite), at(second));
            storms.judge(&warning(callsite), at(second));
        }
        assert_eq!(storms.kinds.len(), KINDS_MAX);
        let total: u64 = storms
            .due(at(100))
            .iter()
            .map(|report| report.suppressed)
            .sum();
        assert_eq!(total, (KINDS_MAX + 100) as u64);
    }
}
