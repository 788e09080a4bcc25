//! The lane that writes: groups of parts, syncs, the next segment; and what a failure does.
//!
//! One commit is under way at a time; what comes in meanwhile is the next. No room is no failure:
//! it is tried again when some was made. A failing device is tried once more at once, and then
//! every five seconds, and whoever waits for durability is told.

use super::lanes::{Done, Lanes};
use super::state::State;
use super::{Inner, release};
use crate::buffer::disk::{
    CommitError, Committed, Durability, GROUP_BYTES, Record as LogRecord, Settings,
};
use crate::pipeline::part::Part;
use crate::pipeline::queue::WhenFull;
use crate::telemetry::events::{BufferFailed, BufferFull, BufferRecovered};
use crate::time::Duration;

impl Inner {
    pub(super) fn write(&self) {
        let now = self.scheduler.wall();
        let (mut writer, work) = {
            let lanes = &mut *self.lanes.borrow_mut();
            if lanes.is_paused {
                return;
            }
            let Some(writer) = lanes.writer.take() else {
                return;
            };
            let work = lanes.next_work(&mut self.state.borrow_mut(), &self.settings.get());
            match work {
                Some(work) => (writer, work),
                None => {
                    lanes.writer = Some(writer);
                    return;
                }
            }
        };
        match work {
            Work::Commit(records) => self.submit(
                "disk buffer commit",
                Box::new(move || {
                    let result = writer.commit(&records, now);
                    Done::Wrote(writer, result)
                }),
            ),
            Work::Sync => self.submit(
                "disk buffer sync",
                Box::new(move || {
                    let result = writer.sync(now);
                    Done::Synced(writer, result)
                }),
            ),
            // Without it the commit that needs the segment makes it, and says why it cannot.
            Work::Prepare => self.submit(
                "disk buffer segment",
                Box::new(move || {
                    let _ = writer.prepare();
                    Done::Prepared(writer)
                }),
            ),
        }
    }

    pub(super) fn wrote(&self, result: Result<Committed, CommitError>) {
        match result {
            Ok(committed) => self.committed(&committed),
            Err(error) => {
                self.state.borrow_mut().not_committed();
                self.not_written(&error);
            }
        }
    }

    pub(super) fn committed(&self, committed: &Committed) {
        self.used_bytes.set(committed.used_bytes);
        {
            let mut lanes = self.lanes.borrow_mut();
            if committed.begun.is_some() {
                (lanes.segment_fill, lanes.is_next_made) = (0, false);
            }
            lanes.is_full = false;
            lanes.is_cursor_due |= !std::mem::replace(&mut lanes.is_cursor_asked, true);
        }
        self.healed();
        let claims = self.state.borrow_mut().committed(committed);
        release(claims.into_iter(), None);
        self.arm_sync();
        if let Some(port) = self.port() {
            port.ready();
            port.settled();
        }
    }

    /// The device has done what it was asked.
    pub(super) fn healed(&self) {
        if self.is_lost.get() {
            return;
        }
        if std::mem::take(&mut self.lanes.borrow_mut().failures) > 0 {
            *self.failure.borrow_mut() = None;
            BufferRecovered { sink: &self.name }.log();
        }
    }

    /// In `interval` mode, what was written is synced so much later.
    pub(super) fn arm_sync(&self) {
        let Durability::Interval(interval) = self.settings.get().durability else {
            return;
        };
        if !std::mem::replace(&mut self.lanes.borrow_mut().is_sync_armed, true) {
            self.after(interval, |inner| {
                let mut lanes = inner.lanes.borrow_mut();
                (lanes.is_sync_armed, lanes.wants_sync) = (false, true);
            });
        }
    }

    pub(super) fn not_written(&self, error: &CommitError) {
        #[cfg(sim_bug = "drop_on_full")]
        if matches!(error, CommitError::Full { .. }) {
            return self.drop_on_full();
        }
        if let CommitError::Full { .. } = error {
            self.lanes.borrow_mut().is_full = true;
            if self.is_full_news() {
                BufferFull {
                    sink: &self.name,
                    why: error,
                }
                .log();
            }
            match self.when_full.get() {
                WhenFull::Block => {}
                WhenFull::DropNewest => self.crowd_out(),
                WhenFull::DropOldest => self.evict(),
            }
            self.let_go_of_delivered();
            return self.pause(FULL_PAUSE);
        }
        let failures = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.failures += 1;
            lanes.failures
        };
        let why = error.to_string();
        if failures <= FAILURES_BORNE {
            self.log_failure(&why);
            return;
        }
        if self.failure.borrow().is_none() {
            self.log_failure(&why);
        }
        self.fail(why);
        self.pause(FAILED_PAUSE);
    }

    /// What finds no room is dropped, and its sources are told: nobody waits for room here.
    fn crowd_out(&self) {
        let parts = self.state.borrow_mut().take_unwritten();
        parts.into_iter().for_each(Part::crowded_out);
        // Nothing is left whose writing would show that a device that had failed is well: what
        // comes next has to, and is not refused for that.
        if !self.is_lost.get() {
            *self.failure.borrow_mut() = None;
        }
    }

    /// A planted bug, for the tests of durability to find: what finds no room is forgotten.
    #[cfg(sim_bug = "drop_on_full")]
    pub(super) fn drop_on_full(&self) {
        let claims = self.state.borrow_mut().take_durable_answers();
        release(claims.into_iter(), None);
        let parts = self.state.borrow_mut().take_unwritten();
        for part in parts {
            if let Some(port) = self.port() {
                port.ledger().buffered.sub(part.len());
                port.ledger().delivered.add(part.len());
            }
            drop(part.spilled());
        }
    }

    /// A buffer that drops what is oldest is full all the time, one that blocks now and then.
    pub(super) fn is_full_news(&self) -> bool {
        let now = self.scheduler.now();
        let told = &mut self.lanes.borrow_mut().full_told;
        let is_news = told.is_none_or(|told| now.since(told) >= FULL_TOLD_EVERY);
        if is_news {
            *told = Some(now);
        }
        is_news
    }

    /// Where everything on disk is delivered, and only kept by the sink for another time, room
    /// for what comes goes before: the sink keeps it in memory all the same. Without this a small
    /// buffer waits for ever, since what is kept goes only when more comes.
    pub(super) fn let_go_of_delivered(&self) {
        let Some(port) = self.port() else { return };
        let unwritten = self.state.borrow().unwritten_events();
        let books = port.ledger();
        let is_delivered = books.in_flight.get() == 0 && books.buffered.get() == unwritten;
        if is_delivered && !port.has_pledges() {
            self.let_go_of_all();
        }
    }

    /// What is on disk need not stay there.
    pub(super) fn let_go_of_all(&self) {
        let mut state = self.state.borrow_mut();
        let durable_seq = state.durable_seq;
        state.acked.add(0, durable_seq);
        self.lanes.borrow_mut().is_keep_due = true;
    }

    pub(super) fn log_failure(&self, why: &str) {
        BufferFailed {
            sink: &self.name,
            why,
        }
        .log();
    }

    pub(super) fn pause(&self, delay: Duration) {
        if !std::mem::replace(&mut self.lanes.borrow_mut().is_paused, true) {
            self.after(delay, Inner::try_again);
        }
    }

    /// The pause is over. Where nothing waits to be written, only what comes next can find out
    /// whether there is room.
    fn try_again(&self) {
        let mut lanes = self.lanes.borrow_mut();
        lanes.is_paused = false;
        lanes.is_full &= self.state.borrow().has_unwritten();
        drop(lanes);
        if let Some(port) = self.port() {
            port.settled();
        }
    }

    /// Whoever waits for room need wait no longer for the pause to end.
    pub(super) fn has_room(&self) {
        if self.failure.borrow().is_none() {
            self.try_again();
        }
    }
}

/// What the writer is to do next.
enum Work {
    Commit(Vec<LogRecord>),
    Sync,
    Prepare,
}

impl Lanes {
    fn next_work(&mut self, state: &mut State, settings: &Settings) -> Option<Work> {
        // Before the next commit: where one follows the other there is never none.
        if std::mem::take(&mut self.wants_sync) {
            return Some(Work::Sync);
        }
        let records = state.next_group(GROUP_BYTES);
        if !records.is_empty() {
            let bytes = records.iter().map(LogRecord::disk_bytes);
            self.segment_fill += bytes.sum::<u64>();
            return Some(Work::Commit(records));
        }
        let is_due = self.segment_fill >= settings.segment_bytes / 4 * 3;
        if is_due && !std::mem::replace(&mut self.is_next_made, true) {
            return Some(Work::Prepare);
        }
        None
    }
}

/// Between two records of a buffer that is full.
const FULL_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Where there is no room, and nothing here makes any, it is tried again after this.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// A device that fails gets one more attempt at once, and then one after each such pause.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
const FAILURES_BORNE: u32 = 1;
