//! The jobs of a disk queue: one that writes, one that reads, one that keeps the cursor.
//!
//! Each has its part of the log, which goes with the job and comes back with what became of it;
//! while it is away no second job of its kind is submitted. After every change [`Inner::advance`]
//! looks what there is to do. A job that is lost, by a panic, takes its part of the log with it:
//! the buffer has failed then, for good, and says so.

use std::rc::Rc;

use crate::buffer::disk::{
    CommitError, Committed, Durability, Evicted, GROUP_BYTES, KeepError, Keeper, Kept, ReadOutcome,
    ReadRecord, Reader, Record as LogRecord, Recovered, Settings, Writer,
};
use crate::event::codec;
use crate::pipeline::part::{Making as PartMaking, Part, Picked, Record};
use crate::pipeline::queue::WhenFull;
use crate::telemetry::events::{BufferDamaged, BufferFailed, BufferFull, BufferRecovered};
use crate::time::Duration;

use super::state::State;
use super::{Closing, Inner, release};

/// Runs a job on a storage thread and then calls back from the turn with what it did; with
/// `None` when it was lost.
pub type Submit = Rc<dyn Fn(&'static str, Job, Box<dyn FnOnce(Option<Done>)>)>;

type Job = Box<dyn FnOnce() -> Done + Send>;

/// A part of the log, with what became of its job.
pub enum Done {
    /// A group was written, or not.
    Wrote(Box<Writer>, Result<Committed, CommitError>),
    /// What was written before was synced, or the next segment was made; or not.
    Synced(Box<Writer>, Result<(), CommitError>),
    /// Records were read, or not.
    Read(Box<Reader>, std::io::Result<ReadOutcome>),
    /// What is delivered was written down, or not.
    Kept(Box<Keeper>, Result<Kept, KeepError>),
    /// The oldest segments were deleted, or not.
    Evicted(Box<Keeper>, Result<Evicted, KeepError>),
    /// The log was put in order for the next start; else why not.
    Closed(Result<(), String>),
}

/// The parts of the log that are not with a job, and what is to be done with them.
pub(super) struct Lanes {
    writer: Option<Box<Writer>>,
    reader: Option<Box<Reader>>,
    keeper: Option<Box<Keeper>>,
    /// Jobs under way.
    jobs: u32,
    /// The last commit found no room.
    pub(super) is_full: bool,
    /// Commits that failed in a row.
    failures: u32,
    /// No commit is tried before a timer has fired.
    is_paused: bool,
    /// What is written is to be synced; a timer says so.
    wants_sync: bool,
    is_sync_armed: bool,
    /// Bytes in the segment that is written, as far as known here.
    segment_fill: u64,
    is_next_made: bool,
    /// What the cursor on disk says.
    kept_seq: u64,
    /// Bytes delivered since.
    acked_bytes: usize,
    is_keep_due: bool,
    is_keep_armed: bool,
    /// No reading is tried before a timer has fired.
    is_read_paused: bool,
    read_failures: u32,
}

impl Lanes {
    pub(super) fn new(
        writer: Writer,
        reader: Reader,
        keeper: Keeper,
        recovered: &Recovered,
    ) -> Lanes {
        Lanes {
            writer: Some(Box::new(writer)),
            reader: Some(Box::new(reader)),
            keeper: Some(Box::new(keeper)),
            jobs: 0,
            is_full: false,
            failures: 0,
            is_paused: false,
            wants_sync: false,
            is_sync_armed: false,
            segment_fill: 0,
            is_next_made: false,
            kept_seq: recovered.first_seq,
            acked_bytes: 0,
            is_keep_due: false,
            is_keep_armed: false,
            is_read_paused: false,
            read_failures: 0,
        }
    }

    /// So many bytes more are delivered.
    pub(super) fn note_acked(&mut self, bytes: usize) {
        self.acked_bytes += bytes;
        let enough = if self.is_full {
            KEEP_BYTES / 8
        } else {
            KEEP_BYTES
        };
        self.is_keep_due |= self.acked_bytes >= enough;
    }
}

impl Inner {
    /// Submits every job that there is something to do for.
    pub(super) fn advance(&self) {
        if self.is_closing() {
            return self.end();
        }
        self.write();
        self.read();
        self.keep();
    }

    fn submit(&self, label: &'static str, job: Job) {
        self.lanes.borrow_mut().jobs += 1;
        let weak = self.this.clone();
        let then = move |done| {
            if let Some(inner) = weak.upgrade() {
                inner.lanes.borrow_mut().jobs -= 1;
                inner.ended(done);
                inner.advance();
            }
        };
        (self.submit)(label, job, Box::new(then));
    }

    fn ended(&self, done: Option<Done>) {
        match done {
            Some(Done::Wrote(writer, result)) => {
                self.lanes.borrow_mut().writer = Some(writer);
                self.wrote(result);
            }
            Some(Done::Synced(writer, result)) => {
                self.lanes.borrow_mut().writer = Some(writer);
                match result {
                    Ok(()) => self.healed(),
                    Err(error) => {
                        // A buffer that refuses everything gets no commit that would show that
                        // the device is well again: the sync has to.
                        self.lanes.borrow_mut().wants_sync = true;
                        self.not_written(&error);
                    }
                }
            }
            Some(Done::Read(reader, result)) => {
                self.lanes.borrow_mut().reader = Some(reader);
                self.was_read(result);
            }
            Some(Done::Kept(keeper, result)) => {
                self.lanes.borrow_mut().keeper = Some(keeper);
                self.was_kept(result);
            }
            Some(Done::Evicted(keeper, result)) => {
                self.lanes.borrow_mut().keeper = Some(keeper);
                self.made_room(result);
            }
            Some(Done::Closed(result)) => self.closed(result),
            None => {
                let why = "a storage job was lost; restart the daemon".to_owned();
                self.log_failure(&why);
                self.fail(why);
            }
        }
    }

    fn after(&self, delay: Duration, call: impl FnOnce(&Inner) + 'static) {
        let weak = self.this.clone();
        let call = move || {
            if let Some(inner) = weak.upgrade() {
                call(&inner);
                inner.advance();
            }
        };
        drop(self.scheduler.call_after(delay, Box::new(call)));
    }

    fn write(&self) {
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
                    Done::Synced(writer, Ok(()))
                }),
            ),
        }
    }

    fn wrote(&self, result: Result<Committed, CommitError>) {
        match result {
            Ok(committed) => self.committed(&committed),
            Err(error) => {
                self.state.borrow_mut().not_committed();
                self.not_written(&error);
            }
        }
    }

    fn committed(&self, committed: &Committed) {
        self.used_bytes.set(committed.used_bytes);
        {
            let mut lanes = self.lanes.borrow_mut();
            if committed.begun.is_some() {
                (lanes.segment_fill, lanes.is_next_made) = (0, false);
            }
            lanes.is_full = false;
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
    fn healed(&self) {
        if std::mem::take(&mut self.lanes.borrow_mut().failures) > 0 {
            *self.failure.borrow_mut() = None;
            BufferRecovered { sink: &self.name }.log();
        }
    }

    /// In `interval` mode, what was written is synced so much later.
    fn arm_sync(&self) {
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

    fn not_written(&self, error: &CommitError) {
        #[cfg(sim_bug = "drop_on_full")]
        if matches!(error, CommitError::Full { .. }) {
            return self.drop_on_full();
        }
        if let CommitError::Full { .. } = error {
            let is_news = !std::mem::replace(&mut self.lanes.borrow_mut().is_full, true);
            if is_news {
                BufferFull {
                    sink: &self.name,
                    why: error,
                }
                .log();
            }
            if self.when_full.get() == WhenFull::DropOldest {
                self.evict();
            }
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

    /// A planted bug, for the tests of durability to find: what finds no room is forgotten.
    #[cfg(sim_bug = "drop_on_full")]
    fn drop_on_full(&self) {
        let claims = self.state.borrow_mut().take_durable_claims();
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

    pub(super) fn log_failure(&self, why: &str) {
        BufferFailed {
            sink: &self.name,
            why,
        }
        .log();
    }

    fn pause(&self, delay: Duration) {
        if !std::mem::replace(&mut self.lanes.borrow_mut().is_paused, true) {
            self.after(delay, |inner| inner.lanes.borrow_mut().is_paused = false);
        }
    }

    /// Whoever waits for room need wait no longer for the pause to end.
    pub(super) fn has_room(&self) {
        self.lanes.borrow_mut().is_paused = self.failure.borrow().is_some();
    }

    fn read(&self) {
        let (from, until) = {
            let state = self.state.borrow();
            let lanes = self.lanes.borrow();
            if !state.wants_read() || lanes.is_read_paused || lanes.reader.is_none() {
                return;
            }
            (state.read_seq, state.durable_seq)
        };
        let Some(mut reader) = self.lanes.borrow_mut().reader.take() else {
            return;
        };
        self.state.borrow_mut().is_reading = true;
        self.submit(
            "disk buffer read",
            Box::new(move || {
                let result = reader.read(from, until, READ_BYTES);
                Done::Read(reader, result)
            }),
        );
    }

    fn was_read(&self, result: std::io::Result<ReadOutcome>) {
        self.state.borrow_mut().is_reading = false;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                let mut lanes = self.lanes.borrow_mut();
                lanes.read_failures += 1;
                lanes.is_read_paused = true;
                if lanes.read_failures == 1 {
                    self.log_failure(&format!("cannot read the disk buffer: {error}"));
                }
                drop(lanes);
                let resume = |inner: &Inner| inner.lanes.borrow_mut().is_read_paused = false;
                return self.after(READ_PAUSE, resume);
            }
        };
        self.lanes.borrow_mut().read_failures = 0;
        for finding in &outcome.findings {
            BufferDamaged {
                sink: &self.name,
                what: finding,
                is_alarm: finding.what.is_alarm(),
            }
            .log();
        }
        for gap in &outcome.gaps {
            self.skip(gap.from_seq, gap.to_seq);
        }
        for record in outcome.records {
            self.take_read(record);
        }
        let mut state = self.state.borrow_mut();
        state.read_seq = state.read_seq.max(outcome.next_seq);
        drop(state);
        if let Some(port) = self.port() {
            port.ready();
        }
    }

    /// The events from `from` to before `to` cannot be had.
    fn skip(&self, from: u64, to: u64) {
        let (events, claims) = {
            let mut state = self.state.borrow_mut();
            // What was evicted meanwhile is booked already.
            let from = from.max(state.read_seq);
            if to <= from {
                return;
            }
            state.acked.add(from, to);
            (to - from, state.claims_below(to))
        };
        self.lost(events, claims, DAMAGED);
    }

    fn take_read(&self, read: ReadRecord) {
        let end = read.first_seq + u64::from(read.count);
        let from = self.state.borrow().read_seq.max(read.first_seq);
        if end <= from {
            return;
        }
        let Some(port) = self.port() else { return };
        let payload = self.memory.hold(read.payload);
        let decoded = codec::decode(payload, &mut self.names.borrow_mut());
        let decoded = match decoded {
            Ok(decoded) if decoded.batch.len() == read.count as usize => decoded,
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "it holds another number of events than its header says".to_owned(),
                };
                let what = format!("the record of event {}: {why}", read.first_seq);
                BufferDamaged {
                    sink: &self.name,
                    what: &what,
                    is_alarm: true,
                }
                .log();
                return self.skip(from, end);
            }
        };
        let skipped = (from - read.first_seq) as u32;
        let selection = (skipped > 0).then(|| (skipped..read.count).collect());
        let bytes = decoded.batch.weight_bytes();
        let (lost, claim) = self.state.borrow_mut().claim_of(from);
        debug_assert!(lost.is_empty(), "a claim was passed over");
        let part = Part::new(PartMaking {
            picked: Picked::new(Rc::new(decoded.batch), selection),
            bytes,
            port,
            via: (!decoded.pipeline.is_empty()).then(|| self.vias.of(&decoded.pipeline)),
            claim,
            record: Some(Record {
                uuid: self.state.borrow().uuid,
                epoch: read.epoch,
                first_seq: from,
                count: read.count - skipped,
            }),
        });
        let mut state = self.state.borrow_mut();
        state.push_read(part);
        state.read_seq = end;
    }

    fn keep(&self) {
        let (mut keeper, acked, durable) = {
            let lanes = &mut *self.lanes.borrow_mut();
            let state = self.state.borrow();
            let acked = state.acked.through();
            if acked <= lanes.kept_seq {
                return;
            }
            if !lanes.is_keep_due {
                let is_armed = std::mem::replace(&mut lanes.is_keep_armed, true);
                return if !is_armed {
                    self.arm_keep()
                };
            }
            let Some(keeper) = lanes.keeper.take() else {
                return;
            };
            (lanes.is_keep_due, lanes.acked_bytes) = (false, 0);
            (keeper, acked, state.durable_seq)
        };
        self.submit(
            "disk buffer cursor",
            Box::new(move || {
                let result = keeper.keep(acked, durable);
                Done::Kept(keeper, result)
            }),
        );
    }

    fn arm_keep(&self) {
        self.after(KEEP_PAUSE, |inner| {
            let mut lanes = inner.lanes.borrow_mut();
            (lanes.is_keep_armed, lanes.is_keep_due) = (false, true);
        });
    }

    fn was_kept(&self, result: Result<Kept, KeepError>) {
        match result {
            Ok(kept) => {
                self.lanes.borrow_mut().kept_seq = kept.acked_seq;
                self.used_bytes.set(kept.used_bytes);
                if kept.freed_bytes > 0 {
                    self.has_room();
                }
            }
            Err(error) => self.log_failure(&error.to_string()),
        }
    }

    /// Deletes the oldest segment, whoever has not had it.
    fn evict(&self) {
        let Some(mut keeper) = self.lanes.borrow_mut().keeper.take() else {
            return;
        };
        let durable = self.state.borrow().durable_seq;
        self.submit(
            "disk buffer eviction",
            Box::new(move || {
                let result = keeper.evict(1, durable);
                Done::Evicted(keeper, result)
            }),
        );
    }

    fn made_room(&self, result: Result<Evicted, KeepError>) {
        match result {
            Ok(made) => {
                self.used_bytes.set(made.used_bytes);
                let mut lanes = self.lanes.borrow_mut();
                lanes.kept_seq = lanes.kept_seq.max(made.upto_seq);
                drop(lanes);
                self.evicted(made.upto_seq);
                if made.freed_bytes > 0 {
                    self.has_room();
                }
            }
            Err(error) => self.log_failure(&error.to_string()),
        }
    }

    /// The end, once no job is under way: what is delivered is noted, the last segment closed.
    pub(super) fn end(&self) {
        if self.lanes.borrow().jobs > 0 {
            return;
        }
        // A commit that was under way when the end was asked for may have failed.
        let left = self.state.borrow_mut().take_unwritten();
        left.into_iter().for_each(|part| part.evicted("shutdown"));
        let (writer, keeper) = {
            let mut lanes = self.lanes.borrow_mut();
            drop(lanes.reader.take());
            (lanes.writer.take(), lanes.keeper.take())
        };
        let (Some(writer), Some(keeper)) = (writer, keeper) else {
            return self.closed(Ok(()));
        };
        let (acked, durable) = {
            let state = self.state.borrow();
            (state.acked.through(), state.durable_seq)
        };
        self.submit(
            "disk buffer end",
            Box::new(move || {
                let written = writer.close().map_err(|error| error.to_string());
                let kept = keeper
                    .close(acked, durable)
                    .map_err(|error| error.to_string());
                Done::Closed(written.and(kept))
            }),
        );
    }

    fn closed(&self, result: Result<(), String>) {
        if let Err(why) = result {
            self.log_failure(&why);
        }
        let promise = match &mut *self.closing.borrow_mut() {
            Closing::Asked(promise) => promise.take(),
            Closing::Open => None,
        };
        if let Some(promise) = promise {
            promise.callback(());
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
        let records = state.next_group(GROUP_BYTES);
        if !records.is_empty() {
            let bytes = records.iter().map(LogRecord::disk_bytes);
            self.segment_fill += bytes.sum::<u64>();
            return Some(Work::Commit(records));
        }
        if std::mem::take(&mut self.wants_sync) {
            return Some(Work::Sync);
        }
        let is_due = self.segment_fill >= settings.segment_bytes / 4 * 3;
        if is_due && !std::mem::replace(&mut self.is_next_made, true) {
            return Some(Work::Prepare);
        }
        None
    }
}

/// The cursor is written so long after the first event that it could pass, and at the latest
/// after so many bytes: a crash repeats no more than that, and what the sink had.
const KEEP_PAUSE: Duration = Duration::from_secs(1);
const KEEP_BYTES: usize = 8 << 20;
/// Payload that one job reads.
const READ_BYTES: usize = 1 << 20;
/// A read that failed is tried again after this.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Where there is no room, and nothing here makes any, it is tried again after this.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// A device that fails gets one more attempt at once, and then one after each such pause.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
const FAILURES_BORNE: u32 = 1;
/// The reason under which events are counted that were damaged on the disk.
const DAMAGED: &str = "damaged";
