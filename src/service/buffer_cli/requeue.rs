//! `marline buffer requeue OLD --to NEW`: the backlog of one buffer goes to another one's end.
//!
//! Both buffers are owned while it works. A group of records is durable in NEW before the cursor
//! of OLD passes it, so whatever ends this program, nothing is lost, and doing it again repeats
//! at most that one group: a MiB, or one record. Records are copied as they stand, with source,
//! peer, pipeline and time; where OLD was in the middle of one, the rest of it.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::disk::{
    self, CommitError, Durability, GROUP_BYTES, OpenError, Opened, ReadOutcome, ReadRecord, Record,
    Settings,
};
use crate::buffer::storage::{Directory, Mode, Storage};
use crate::buffer::storage_sys::SystemStorage;
use crate::event::codec::{self, NameCache};
use crate::service::buffers::random_uuid;
use crate::service::cli::{EXIT_USAGE, answer, complain};
use crate::time::{Clock, SystemClock};

use super::{EXIT_DAMAGED, EXIT_IN_USE, EXIT_IO, State, Stop, cannot_open};

/// The mode of a buffer's folder.
const FOLDER_MODE: Mode = 0o700;

/// The size of a buffer whose size no configuration says, in bytes: that of the device.
const SIZE_UNBOUNDED: u64 = i64::MAX as u64;

/// How often one read that the device fails is made. The reader passes over a place that failed
/// some times, so this many mean that nothing can be read at all.
const READ_ATTEMPTS: u32 = 64;

/// Moves everything from the buffer of `old` to that of `new`.
pub(super) fn requeue(state: &State, old: &str, new: &str) -> Result<u8, Stop> {
    if old == new {
        let message = format!("the buffer of `{old}` cannot be moved to itself");
        return Err(Stop::new(
            EXIT_USAGE,
            message,
            "name another sink after --to",
        ));
    }
    let from = state.open(old)?.directory;
    owned(&state.path())?;
    let to = target(state, new)?;
    let from = open(old, from, settings(None))?;
    let to = open(new, to, settings(size_of(state, new)))?;
    let mut moving = Moving {
        new,
        seq: from.recovered.first_seq,
        from,
        to,
        names: NameCache::new(),
        clock: SystemClock::new(),
        moved: 0,
        lost: 0,
    };
    let done = moving.run();
    let (moved, lost) = (moving.moved, moving.lost);
    let ended = moving.end();
    // Also before an error: it is done, whatever came after.
    answer(&format!("moved {moved} events from `{old}` to `{new}`\n"));
    done.and(ended)?;
    if lost > 0 {
        complain(&format!(
            "warning: {lost} events of `{old}` were damaged and could not be moved\n"
        ));
        return Ok(EXIT_DAMAGED);
    }
    Ok(0)
}

/// The files made here must be the daemon's.
fn owned(path: &Path) -> Result<(), Stop> {
    let owner = std::fs::metadata(path).map_err(|error| cannot_open(path, &error))?;
    let user = nix::unistd::Uid::effective().as_raw();
    if owner.uid() == user {
        return Ok(());
    }
    let message = format!(
        "{} belongs to user {}, this is user {user}: files made now could not be opened by \
         the daemon",
        path.display(),
        owner.uid()
    );
    let help = format!("sudo -u '#{}' marline buffer requeue ...", owner.uid());
    Err(Stop::new(EXIT_USAGE, message, &help))
}

/// The folder of the buffer that gets the events, made where the sink has none yet.
fn target(state: &State, new: &str) -> Result<Arc<dyn Directory>, Stop> {
    match state.has_sink(new) {
        Some(true) => {}
        Some(false) => {
            let message = format!("the configuration has no sink `{new}`");
            let help = "nobody would deliver what is moved there";
            return Err(Stop::new(EXIT_USAGE, message, help));
        }
        // Without a configuration a slip of the pen would make a buffer that nobody reads.
        None => return Ok(state.open(new)?.directory),
    }
    let path = state.path();
    let make = || {
        let buffers = SystemStorage.root(&path, None)?;
        let made = buffers.directory(new, Some(FOLDER_MODE))?;
        buffers.sync()?;
        Ok(made)
    };
    make().map_err(|error: io::Error| cannot_open(&path.join(new), &error))
}

/// The size that the configuration gives the buffer of a sink, in bytes.
fn size_of(state: &State, sink: &str) -> Option<u64> {
    let sinks = &state.config.as_ref()?.sinks;
    let sink = sinks.iter().find(|known| &*known.name == sink)?;
    sink.options.maybe_size("buffer.disk")
}

fn settings(size_bytes: Option<u64>) -> Settings {
    let size_bytes = size_bytes.unwrap_or(SIZE_UNBOUNDED);
    Settings::new(size_bytes, Durability::Commit, random_uuid())
}

fn open(sink: &str, directory: Arc<dyn Directory>, settings: Settings) -> Result<Opened, Stop> {
    let opened = disk::open(directory, settings, SystemClock::new().wall());
    let opened = opened.map_err(|error| {
        let message = format!("cannot open the buffer of `{sink}`: {error}");
        match error {
            OpenError::InUse { .. } => {
                let help = "stop marline first: a buffer has one owner at a time";
                Stop::new(EXIT_IN_USE, message, help)
            }
            _ => Stop::new(EXIT_IO, message, ""),
        }
    })?;
    for finding in &opened.recovered.findings {
        complain(&format!("note: {sink}/{finding}\n"));
    }
    Ok(opened)
}

/// The way from one buffer to the other.
struct Moving<'a> {
    new: &'a str,
    from: Opened,
    to: Opened,
    /// The first event that is not moved.
    seq: u64,
    names: NameCache,
    clock: SystemClock,
    moved: u64,
    lost: u64,
}

impl Moving<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        let end = self.from.recovered.next_seq;
        while self.seq < end {
            let read = self.read(end)?;
            for gap in &read.gaps {
                self.lost += gap.to_seq - gap.from_seq;
            }
            self.commit(&read.records)?;
            self.seq = read.next_seq;
            let kept = self.from.keeper.keep(self.seq, end);
            kept.map_err(|error| Stop::new(EXIT_IO, error, AGAIN))?;
        }
        Ok(())
    }

    fn read(&mut self, end: u64) -> Result<ReadOutcome, Stop> {
        let mut attempt = 1;
        loop {
            match self.from.reader.read(self.seq, end, GROUP_BYTES) {
                Ok(read) => return Ok(read),
                Err(_) if attempt < READ_ATTEMPTS => attempt += 1,
                Err(error) => return Err(Stop::io("cannot read the buffer", &error)),
            }
        }
    }

    /// Makes the records durable in the other buffer, by its numbers.
    fn commit(&mut self, records: &[ReadRecord]) -> Result<(), Stop> {
        let mut next_seq = self.to.writer.next_seq();
        let first_seq = next_seq;
        let mut group = Vec::with_capacity(records.len());
        for record in records {
            let (count, payload) = self.rest_of(record);
            group.push(Record {
                first_seq: next_seq,
                count,
                payload,
            });
            next_seq = next_seq.saturating_add(u64::from(count));
        }
        if group.is_empty() {
            return Ok(());
        }
        let committed = self.to.writer.commit(&group, self.clock.wall());
        committed.map_err(|error| self.refused(&error))?;
        self.moved += next_seq - first_seq;
        Ok(())
    }

    /// A record without the events that were delivered already. One that cannot be taken apart
    /// goes as a whole: doubles, not loss.
    fn rest_of(&mut self, record: &ReadRecord) -> (u32, Bytes) {
        let whole = (record.count, record.payload.clone());
        let Some(done) = self
            .seq
            .checked_sub(record.first_seq)
            .filter(|done| *done > 0)
        else {
            return whole;
        };
        let decoded = codec::decode(record.payload.clone(), &mut self.names);
        let Ok(decoded) = decoded else {
            return whole;
        };
        let rest: Vec<u32> = (done as u32..record.count).collect();
        if decoded.batch.len() != record.count as usize {
            return whole;
        }
        let mut payload = Vec::new();
        codec::encode(&decoded.batch, Some(&rest), &decoded.pipeline, &mut payload);
        (rest.len() as u32, payload.into())
    }

    fn refused(&self, error: &CommitError) -> Stop {
        let new = self.new;
        let message = |error: &dyn fmt::Display| format!("cannot write to `{new}`: {error}");
        match error {
            CommitError::Full { error, .. } => Stop::new(
                EXIT_IO,
                message(error),
                "there is no more room: enlarge its `buffer.disk`, or free the device, or let \
                 marline deliver what is there; then do this again for the rest",
            ),
            CommitError::Failed { error, .. } => Stop::new(EXIT_IO, message(error), AGAIN),
            CommitError::Refused { .. } => Stop::new(
                EXIT_IO,
                message(error),
                "a record may take a quarter of a buffer: enlarge its `buffer.disk`",
            ),
        }
    }

    /// Leaves both buffers as a daemon that was stopped does.
    fn end(self) -> Result<(), Stop> {
        let failed = |error: &dyn fmt::Display| Stop::new(EXIT_IO, error, AGAIN);
        let Opened {
            writer,
            keeper,
            recovered,
            ..
        } = self.to;
        let next_seq = writer.next_seq();
        writer.close().map_err(|error| failed(&error))?;
        // Otherwise some may have been delivered before, which must stay known.
        if recovered.may_repeat == 0 {
            let closed = keeper.close(recovered.first_seq, next_seq);
            closed.map_err(|error| failed(&error))?;
        }
        let from = self.from;
        from.writer.close().map_err(|error| failed(&error))?;
        let (seq, end) = (self.seq, from.recovered.next_seq);
        let closed = match from.recovered.may_repeat == 0 || seq == end {
            true => from.keeper.close(seq, end),
            false => from.keeper.leave(seq, end),
        };
        closed.map_err(|error| failed(&error))
    }
}

const AGAIN: &str = "do it again: what is moved stays moved, at most one group is doubled";
