//! The bounded queue between those who log and the writer.
//!
//! One lock, held for the time of a push or a take. Records wait as the bytes that will be
//! written. A full queue drops what comes ([`QUEUE_BYTES_MAX`], [`QUEUE_RECORDS_MAX`]) and
//! counts it; the count is written as a record of its own once there is room. Storms are held
//! back here, before formatting.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::format::Format;
use super::layer::Observer;
use super::record::{Level, Record, Value};
use super::storm::{Report, Storms, Verdict};
use crate::time::{Clock, Duration, Instant};

/// The most bytes that wait for the writer.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// The most records that wait for the writer.
pub const QUEUE_RECORDS_MAX: usize = 8192;

/// Records on their way to the writer.
pub struct Queue {
    format: Format,
    clock: Box<dyn Clock + Send + Sync>,
    state: Mutex<State>,
    /// Told when there is something to write, or a report will be due earlier than before.
    filled: Condvar,
    /// Told when everything taken has been written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Whether the writer is busy with what it took.
    is_writing: bool,
    /// Dropped and not reported yet.
    dropped: u64,
    dropped_in_all: u64,
    storms: Storms,
    is_closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// An empty queue of records in `format`.
    pub fn new(format: Format, clock: Box<dyn Clock + Send + Sync>) -> Queue {
        Queue {
            format,
            clock,
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Waits until there is something to write and takes all of it; `None` once the queue is
    /// closed and empty. The one before counts as written by this call.
    pub fn take(&self) -> Option<VecDeque<Vec<u8>>> {
        let mut state = self.lock();
        state.is_writing = false;
        loop {
            let mut taken = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
            self.report(&mut state, &mut taken);
            if !taken.is_empty() {
                state.is_writing = true;
                return Some(taken);
            }
            self.written.notify_all();
            if state.is_closed {
                return None;
            }
            state = match state.storms.deadline() {
                None => self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => self.wait_until(state, deadline),
            };
        }
    }

    fn wait_until<'a>(&self, state: MutexGuard<'a, State>, at: Instant) -> MutexGuard<'a, State> {
        let waited = self.filled.wait_timeout(state, at - self.clock.now());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Counts records that the output did not take.
    pub fn lost(&self, records: u64) {
        let mut state = self.lock();
        state.dropped += records;
        state.dropped_in_all += records;
    }

    /// Waits at most `limit` until all is written.
    pub fn flush(&self, limit: Duration) -> bool {
        let is_busy = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
        let waited = self.written.wait_timeout_while(self.lock(), limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lets the writer end when it has written what is there.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
    }

    /// Records dropped since the start, reported or not.
    pub fn dropped_in_all(&self) -> u64 {
        self.lock().dropped_in_all
    }

    /// A panic while the lock was held leaves nothing half done that matters for a log.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State, record: &Record) {
        let bytes = self.format(record);
        let is_full = state.waiting.len() >= QUEUE_RECORDS_MAX
            || state.waiting_bytes + bytes.len() > QUEUE_BYTES_MAX;
        if is_full {
            state.dropped += 1;
            state.dropped_in_all += 1;
            return;
        }
        state.waiting_bytes += bytes.len();
        state.waiting.push_back(bytes);
        self.filled.notify_one();
    }

    /// Adds the counts of what was held back, and of what was dropped: that one only behind
    /// another record, because an output that has failed would fail on the count as well, and
    /// so for ever.
    fn report(&self, state: &mut State, taken: &mut VecDeque<Vec<u8>>) {
        for report in state.storms.due(self.clock.now()) {
            taken.push_back(self.format(&self.suppressed(report)));
        }
        if taken.is_empty() || state.dropped == 0 {
            return;
        }
        let dropped = std::mem::take(&mut state.dropped);
        let text = format!("{dropped} log records dropped: the output was too slow or failed");
        let mut record = Record::own(self.clock.wall(), Level::Warn, "log_dropped", text);
        record.fields.push(("count", Value::Uint(dropped)));
        taken.push_back(self.format(&record));
    }

    fn format(&self, record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.format.write(record, &mut bytes);
        bytes
    }

    fn suppressed(&self, report: Report) -> Record {
        let Report {
            component,
            what,
            suppressed,
        } = report;
        let text = format!("{suppressed} more of {what}");
        let mut record = Record::own(self.clock.wall(), Level::Warn, "log_suppressed", text);
        record.component = component;
        record.fields.push(("count", Value::Uint(suppressed)));
        record.fields.push(("of", Value::Text(what)));
        record
    }
}

impl Observer for Queue {
    fn observe(&self, record: &Record) -> Result<(), String> {
        let mut state = self.lock();
        match state.storms.judge(record, self.clock.now()) {
            Verdict::Write(0) => self.push(&mut state, record),
            Verdict::Write(held_back) => {
                let mut record = record.clone();
                record.fields.push(("suppressed", Value::Uint(held_back)));
                self.push(&mut state, &record);
            }
            // The writer works out anew how long it may sleep.
            Verdict::Suppress => self.filled.notify_one(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::time::WallTime;

    #[derive(Clone, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Clock for Hand {
        fn now(&self) -> Instant {
            Instant::from_nanos(self.0.load(Ordering::SeqCst))
        }
        fn wall(&self) -> WallTime {
            WallTime::default()
        }
    }

    fn info(text: &str) -> Record {
        Record::own(WallTime::default(), Level::Debug, "", text.to_owned())
    }

    fn texts(queue: &Queue) -> Vec<String> {
        let taken = queue.take().expect("not closed");
        taken
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    #[test]
    fn a_full_queue_drops_counts_and_says_so() {
        let queue = Queue::new(Format::Logfmt, Box::new(Hand::default()));
        for _ in 0..QUEUE_RECORDS_MAX + 5 {
            queue.observe(&info("x")).expect("never fails");
        }
        assert_eq!(queue.dropped_in_all(), 5);
        let first = texts(&queue);
        assert_eq!(first.len(), QUEUE_RECORDS_MAX + 1);
        let last = &first[QUEUE_RECORDS_MAX];
        assert!(
            last.contains("event=log_dropped") && last.contains("count=5"),
            "{last}"
        );
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = Queue::new(Format::Logfmt, Box::new(Hand::default()));
        let long = "x".repeat(1000);
        for _ in 0..2000 {
            queue.observe(&info(&long)).expect("never fails");
        }
        let bytes: usize = texts(&queue).iter().rev().skip(1).map(String::len).sum();
        assert!(bytes <= QUEUE_BYTES_MAX, "{bytes}");
        assert!(queue.dropped_in_all() > 900);
    }

    #[test]
    fn a_failed_output_is_not_told_of_its_failure_alone() {
        let queue = Queue::new(Format::Logfmt, Box::new(Hand::default()));
        queue.observe(&info("one")).expect("never fails");
        assert_eq!(texts(&queue).len(), 1);
        queue.lost(1);
        queue.close();
        assert!(queue.take().is_none());
        assert_eq!(queue.dropped_in_all(), 1);
    }

    #[test]
    fn a_storm_is_one_line_and_a_count() {
        let clock = Hand::default();
        let queue = Queue::new(Format::Logfmt, Box::new(clock.clone()));
        let mut record = info("cannot accept");
        record.level = Level::Warn;
        for _ in 0..1000 {
            queue.observe(&record).expect("never fails");
        }
        assert_eq!(texts(&queue).len(), 1);
        clock.0.store(10_000_000_000, Ordering::SeqCst);
        let report = texts(&queue);
        assert_eq!(report.len(), 1);
        assert!(report[0].contains("event=log_suppressed"), "{report:?}");
        assert!(
            report[0].contains("message=\"999 more of cannot accept\""),
            "{report:?}"
        );
    }
}
