//! The jobs of a disk queue: one that writes, one that reads, one that keeps the cursor.
//!
//! Each has its part of the log, which goes with the job and comes back with what became of it;
//! while it is away no second job of its kind is submitted. After every change [`Inner::advance`]
//! looks what there is to do. A job that is lost, by a panic, takes its part of the log with it:
//! the buffer has failed then, for good, and says so.

use std::rc::Rc;

use super::{Closing, Inner};
use crate::buffer::disk::{
    CommitError, Committed, Evicted, KeepError, Keeper, Kept, ReadOutcome, Reader, Recovered,
    Writer,
};
use crate::pipeline::queue::SHUTDOWN;
use crate::time::{Duration, Instant};

/// Runs a job on a storage thread and then calls back from the turn with what it did; with
/// `None` when it was lost.
pub type Submit = Rc<dyn Fn(&'static str, Job, Box<dyn FnOnce(Option<Done>)>)>;

pub(super) type Job = Box<dyn FnOnce() -> Done + Send>;

/// A part of the log, with what became of its job.
pub enum Done {
    /// A group was written, or not.
    Wrote(Box<Writer>, Result<Committed, CommitError>),
    /// What was written before was synced, or not.
    Synced(Box<Writer>, Result<(), CommitError>),
    /// The next segment was made, or not: the commit that needs it says why.
    Prepared(Box<Writer>),
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
    pub(super) writer: Option<Box<Writer>>,
    pub(super) reader: Option<Box<Reader>>,
    pub(super) keeper: Option<Box<Keeper>>,
    /// Jobs under way.
    pub(super) jobs: u32,
    /// The last commit found no room.
    pub(super) is_full: bool,
    /// When that was said last.
    pub(super) full_told: Option<Instant>,
    /// Commits that failed in a row.
    pub(super) failures: u32,
    /// No commit is tried before a timer has fired.
    pub(super) is_paused: bool,
    /// What is written is to be synced; a timer says so.
    pub(super) wants_sync: bool,
    pub(super) is_sync_armed: bool,
    /// Bytes in the segment that is written, as far as known here.
    pub(super) segment_fill: u64,
    pub(super) is_next_made: bool,
    /// What the cursor on disk says.
    pub(super) kept_seq: u64,
    /// The keeper has been asked for a cursor, which takes room that may be gone later.
    pub(super) is_cursor_asked: bool,
    pub(super) is_cursor_due: bool,
    /// Bytes delivered since.
    pub(super) acked_bytes: usize,
    pub(super) is_keep_due: bool,
    pub(super) is_keep_armed: bool,
    /// No reading is tried before a timer has fired.
    pub(super) is_read_paused: bool,
    pub(super) read_failures: u32,
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
            full_told: None,
            failures: 0,
            is_paused: false,
            wants_sync: false,
            is_sync_armed: false,
            segment_fill: 0,
            is_next_made: false,
            kept_seq: recovered.first_seq,
            is_cursor_asked: false,
            is_cursor_due: false,
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

    pub(super) fn submit(&self, label: &'static str, job: Job) {
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

    pub(super) fn ended(&self, done: Option<Done>) {
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
            Some(Done::Prepared(writer)) => self.lanes.borrow_mut().writer = Some(writer),
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
            // At the end of the process nobody waits for a job that hangs.
            None if self.is_closing() => {}
            None => {
                let why = "a storage job was lost; restart the daemon".to_owned();
                self.log_failure(&why);
                self.is_lost.set(true);
                self.fail(why);
            }
        }
    }

    pub(super) fn after(&self, delay: Duration, call: impl FnOnce(&Inner) + 'static) {
        let weak = self.this.clone();
        let call = move || {
            if let Some(inner) = weak.upgrade() {
                call(&inner);
                inner.advance();
            }
        };
        drop(self.scheduler.call_after(delay, Box::new(call)));
    }

    /// The end, once no job is under way: what is delivered is noted, the last segment closed.
    pub(super) fn end(&self) {
        if self.lanes.borrow().jobs > 0 {
            return;
        }
        // A commit that was under way when the end was asked for may have failed.
        let left = self.state.borrow_mut().take_unwritten();
        left.into_iter().for_each(|part| part.evicted(SHUTDOWN));
        // And one that went well has made parts ready for a sink that is no more.
        self.leave();
        let (writer, keeper) = {
            let mut lanes = self.lanes.borrow_mut();
            drop(lanes.reader.take());
            (lanes.writer.take(), lanes.keeper.take())
        };
        let (Some(writer), Some(keeper)) = (writer, keeper) else {
            return self.closed(Ok(()));
        };
        let (acked, durable, is_whole) = {
            let state = self.state.borrow();
            let acked = state.acked.through();
            (acked, state.durable_seq, state.is_left_whole())
        };
        self.submit(
            "disk buffer end",
            Box::new(move || {
                let written = writer.close().map_err(|error| error.to_string());
                let kept = match is_whole {
                    true => keeper.close(acked, durable),
                    false => keeper.leave(acked, durable),
                };
                Done::Closed(written.and(kept.map_err(|error| error.to_string())))
            }),
        );
    }

    pub(super) fn closed(&self, result: Result<(), String>) {
        if let Err(why) = result {
            self.log_failure(&why);
        }
        let asked = self.closing.replace(Closing::Closed);
        if let Closing::Asked(promises) = asked {
            promises.into_iter().for_each(|promise| {
                promise.callback(());
            });
        }
    }
}

/// The cursor is written so long after the first event that it could pass, and at the latest
/// after so many bytes: a crash repeats no more than that, and what the sink had.
pub(super) const KEEP_PAUSE: Duration = Duration::from_secs(1);
pub(super) const KEEP_BYTES: usize = 8 << 20;
