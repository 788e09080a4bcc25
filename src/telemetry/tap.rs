//! Log records for whoever wants them as they come: the source `internal`.
//!
//! An observer of all records. A [`Listener`] has a queue of its own, bounded by
//! [`WAITING_MAX`] and [`WAITING_BYTES_MAX`]: what comes while it is full is dropped and
//! counted, for nobody who logs ever waits. Storms are held back here as they are in front of
//! the writer: what a record causes may be a record again, and so at most one warning or error
//! of its kind in ten seconds, and a hundred of the others. Without a listener it costs one
//! load of a number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layer::Observer;
use super::record::{Level, Record, Value};
use super::storm::{Report, Storms, Verdict};
use crate::time::{Clock, Instant, SystemClock};

/// Records that wait for one listener.
pub const WAITING_MAX: usize = 4096;
/// Their bytes, by an estimate.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// What calls a listener: it must not wait, and is called once until the next [`Listener::take`].
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Shows records to listeners.
#[derive(Default)]
pub struct Tap {
    ears: Mutex<Vec<Arc<Ear>>>,
    count: AtomicUsize,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    /// Listens to records of `level` and more important ones, until the answer is dropped.
    pub fn listen(self: &Arc<Self>, level: Level, wake: Wake) -> Listener {
        let ear = Arc::new(Ear {
            level,
            wake,
            clock: Box::new(SystemClock::new()),
            state: Mutex::default(),
        });
        let mut ears = lock(&self.ears);
        ears.push(Arc::clone(&ear));
        self.count.store(ears.len(), Ordering::Relaxed);
        Listener {
            tap: Arc::clone(self),
            ear,
        }
    }

    fn forget(&self, ear: &Arc<Ear>) {
        let mut ears = lock(&self.ears);
        ears.retain(|known| !Arc::ptr_eq(known, ear));
        self.count.store(ears.len(), Ordering::Relaxed);
    }
}

impl Observer for Tap {
    fn observe(&self, record: &Record) -> Result<(), String> {
        if self.count.load(Ordering::Relaxed) > 0 {
            lock(&self.ears).iter().for_each(|ear| ear.hear(record));
        }
        Ok(())
    }
}

/// One who listens; dropping it ends that.
pub struct Listener {
    tap: Arc<Tap>,
    ear: Arc<Ear>,
}

impl Listener {
    /// What has come since the last call, at most `most` records.
    pub fn take(&self, most: usize) -> Vec<Record> {
        self.ear.take(most)
    }

    /// When a count of what was held back is due; to be asked after each `take`.
    pub fn next_report(&self) -> Option<std::time::Duration> {
        let deadline = lock(&self.ear.state).storms.deadline()?;
        Some(deadline.since(self.ear.clock.now()))
    }

    /// Records dropped so far for want of room.
    pub fn dropped_in_all(&self) -> u64 {
        lock(&self.ear.state).all_dropped
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tap.forget(&self.ear);
    }
}

struct Ear {
    level: Level,
    wake: Wake,
    clock: Box<dyn Clock + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    storms: Storms,
    /// Called, and not come yet.
    is_called: bool,
    dropped: u64,
    all_dropped: u64,
}

impl Ear {
    fn hear(&self, record: &Record) {
        if record.level > self.level {
            return;
        }
        let mut state = lock(&self.state);
        match state.storms.judge(record, self.clock.now()) {
            Verdict::Write(0) => state.push(record.clone()),
            Verdict::Write(held_back) => {
                let mut record = record.clone();
                record.fields.push(("suppressed", Value::Uint(held_back)));
                state.push(record);
            }
            // The listener works out anew when it has to look for the count.
            Verdict::Suppress => {}
        }
        if !std::mem::replace(&mut state.is_called, true) {
            drop(state);
            (self.wake)();
        }
    }

    fn take(&self, most: usize) -> Vec<Record> {
        let mut state = lock(&self.state);
        state.is_called = false;
        let now: Instant = self.clock.now();
        let wall = self.clock.wall();
        for report in state.storms.due(now) {
            state.push(report.record(wall));
        }
        let count = state.waiting.len().min(most);
        let mut taken: Vec<Record> = state.waiting.drain(..count).collect();
        let bytes: usize = taken.iter().map(bytes_of).sum();
        state.waiting_bytes -= bytes;
        // What is left needs no other call: who takes comes again.
        state.is_called = !state.waiting.is_empty();
        if state.dropped > 0 && !taken.is_empty() {
            let dropped = std::mem::take(&mut state.dropped);
            let text = format!("{dropped} records dropped: what takes them as events was too slow");
            let mut record = Record::own(wall, Level::Warn, "log_dropped", text);
            record.fields.push(("count", Value::Uint(dropped)));
            taken.push(record);
        }
        taken
    }
}

impl State {
    fn push(&mut self, record: Record) {
        let bytes = bytes_of(&record);
        let is_full =
            self.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX;
        if is_full {
            self.dropped += 1;
            self.all_dropped += 1;
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(record);
    }
}

impl Report {
    fn record(self, wall: crate::time::WallTime) -> Record {
        let text = format!("{} more of {}", self.suppressed, self.what);
        let mut record = Record::own(wall, Level::Warn, "log_suppressed", text);
        record.component = self.component;
        record.fields.push(("count", Value::Uint(self.suppressed)));
        record.fields.push(("of", Value::Text(self.what)));
        record
    }
}

fn bytes_of(record: &Record) -> usize {
    let text = |value: &Value| match value {
        Value::Text(text) => text.len(),
        _ => 8,
    };
    let fields: usize = record
        .fields
        .iter()
        .map(|(_, value)| 32 + text(value))
        .sum();
    128 + record.component.len() + record.event.len() + record.message.len() + fields
}

/// Nothing foreign runs under the locks, so a poisoned one still holds whole entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn record(level: Level, callsite: usize) -> Record {
        let own = Record::own(WallTime::default(), level, "event", "text".to_owned());
        Record { callsite, ..own }
    }

    fn listening() -> (Arc<Tap>, Listener, Arc<AtomicUsize>) {
        let tap = Arc::<Tap>::default();
        let calls = Arc::<AtomicUsize>::default();
        let called = Arc::clone(&calls);
        let wake = Box::new(move || {
            called.fetch_add(1, Ordering::SeqCst);
        });
        let listener = tap.listen(Level::Info, wake);
        (tap, listener, calls)
    }

    #[test]
    fn a_listener_is_called_once_and_takes_what_is_important_enough() {
        let (tap, listener, calls) = listening();
        for level in [Level::Debug, Level::Info, Level::Error] {
            tap.observe(&record(level, level as usize)).unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let taken = listener.take(10);
        let levels: Vec<Level> = taken.iter().map(|record| record.level).collect();
        assert_eq!(levels, [Level::Info, Level::Error]);
        tap.observe(&record(Level::Info, 7)).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        drop(listener);
        tap.observe(&record(Level::Info, 8)).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_dropped_is_told() {
        let (tap, listener, _) = listening();
        for callsite in 0..WAITING_MAX + 5 {
            tap.observe(&record(Level::Warn, callsite)).unwrap();
        }
        assert!(listener.dropped_in_all() >= 5);
        let taken = listener.take(usize::MAX);
        assert!(taken.len() <= WAITING_MAX + 1);
        let last = taken.last().unwrap();
        assert_eq!(last.event, "log_dropped");
    }

    #[test]
    fn a_storm_is_one_record_and_its_count_is_due() {
        let (tap, listener, _) = listening();
        for _ in 0..1000 {
            tap.observe(&record(Level::Warn, 1)).unwrap();
        }
        assert_eq!(listener.take(usize::MAX).len(), 1);
        assert!(listener.next_report().is_some());
    }
}
