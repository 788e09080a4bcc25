//! The writer: groups of records go to the end of the log, and a commit answers when they count.
//!
//! A group is encoded into one buffer with its commit record and written by one call. On failure
//! nothing of it counts and the caller commits it again; what the failure means for the file is
//! decided here (docs/BUFFER_FORMAT.md, "What a commit does"). A file that failed is never
//! touched again. The writer never writes to a file of an earlier process.

use std::io;
use std::sync::Arc;

use super::error::CommitError;
use super::format::{COMMIT_BYTES, Commit, Promise, RECORDS_AT, SegmentHeader, encode_data, seed};
use super::shared::{FILE_MODE, NEXT_SEGMENT, Shared, segment_name, unlink};
use super::{Record, format};
use crate::buffer::storage::{File, Open};
use crate::time::WallTime;

/// Appends to one buffer.
pub struct Writer {
    shared: Arc<Shared>,
    promise: Promise,
    epoch: u64,
    /// The number of the next event: everything below counts.
    next_seq: u64,
    /// Everything below is known to be on the disk.
    proven_seq: u64,
    /// The segment that is written; none before the first group and after a failure.
    current: Option<Current>,
    prepared: Option<Prepared>,
    /// Whether something was renamed and the directory not synced since.
    is_directory_dirty: bool,
    /// The group as it is written, with room for a segment's head before it.
    buffer: Vec<u8>,
}

/// The segment that is written.
pub(super) struct Current {
    file: Arc<dyn File>,
    /// In the table.
    id: u64,
    base_seq: u64,
    /// Where the next group goes.
    offset: u64,
    /// Its length, with what is reserved.
    bytes: u64,
    /// Whether something was written and not synced since.
    is_dirty: bool,
}

impl Current {
    /// A segment under its name, everything in it synced.
    pub fn new(file: Arc<dyn File>, id: u64, base_seq: u64, offset: u64, bytes: u64) -> Current {
        Current {
            file,
            id,
            base_seq,
            offset,
            bytes,
            is_dirty: false,
        }
    }
}

/// A segment that was made ahead of need; it has no head yet.
struct Prepared {
    file: Arc<dyn File>,
    bytes: u64,
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Everything below counts: it is durable, or with `interval` and `os` written.
    pub durable_seq: u64,
    /// The epoch it was written in.
    pub epoch: u64,
    /// What the buffer's files take, in bytes.
    pub used_bytes: u64,
    /// The segment that was begun for it, if one was.
    pub begun: Option<SegmentInfo>,
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The number of its first event.
    pub base_seq: u64,
    /// What it takes, in bytes.
    pub bytes: u64,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        epoch: u64,
        next_seq: u64,
        proven_seq: u64,
        current: Option<Current>,
    ) -> Writer {
        Writer {
            promise: shared.settings().promise(),
            shared,
            epoch,
            next_seq,
            proven_seq,
            current,
            prepared: None,
            is_directory_dirty: false,
            buffer: Vec::new(),
        }
    }

    /// The number that the next record must begin with.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Writes `records` as one group. They begin with [`Writer::next_seq`] and follow one another
    /// without a hole; no payload is longer than [`super::Settings::payload_bytes_max`]. A
    /// group of [`super::GROUP_BYTES`] is a good one; a larger one gets a segment of its size.
    ///
    /// # Errors
    /// Nothing of the group counts then, and the same records, with more behind them, are to be
    /// committed again: a number belongs to its event from the first attempt on.
    pub fn commit(&mut self, records: &[Record], now: WallTime) -> Result<Committed, CommitError> {
        let end_seq = self.check(records)?;
        let old_bytes = self.current.as_ref().map_or(0, |current| current.offset);
        self.encode(records, end_seq);
        let group_bytes = self.buffer.len() as u64 - RECORDS_AT;
        let is_fitting = old_bytes + group_bytes <= self.shared.settings().segment_bytes;
        let begun = if self.current.is_some() && is_fitting {
            self.append(now)?;
            None
        } else {
            Some(self.begin(now)?)
        };
        self.next_seq = end_seq;
        if self.promise == Promise::Commit {
            self.proven_seq = end_seq;
            self.note_proven();
        }
        self.trim_buffer();
        Ok(Committed {
            durable_seq: end_seq,
            epoch: self.epoch,
            used_bytes: self.shared.used_bytes(),
            begun,
        })
    }

    /// Whether the records are a group that may follow; answers the next seq behind them.
    fn check(&self, records: &[Record]) -> Result<u64, CommitError> {
        let mut next_seq = self.next_seq;
        let bytes_max = self.shared.settings().payload_bytes_max();
        for record in records {
            let refused = |why| CommitError::Refused {
                why,
                seq: record.first_seq,
            };
            if record.first_seq != next_seq {
                return Err(refused("its number does not follow the last one"));
            }
            if record.count == 0 {
                return Err(refused("it has no events"));
            }
            if record.payload.len() > bytes_max {
                return Err(refused("it is larger than a record may be"));
            }
            next_seq = next_seq
                .checked_add(record.count.into())
                .ok_or_else(|| refused("the numbers are used up"))?;
        }
        if records.is_empty() {
            return Err(CommitError::Refused {
                why: "the group has no records",
                seq: next_seq,
            });
        }
        Ok(next_seq)
    }

    /// Puts the group and its commit record into the buffer, behind room for a segment's head.
    fn encode(&mut self, records: &[Record], end_seq: u64) {
        let seed = seed(&self.shared.uuid, self.epoch);
        let bytes: u64 = records.iter().map(Record::disk_bytes).sum();
        self.buffer.clear();
        self.buffer
            .reserve(RECORDS_AT as usize + bytes as usize + COMMIT_BYTES);
        self.buffer.resize(RECORDS_AT as usize, 0);
        for record in records {
            encode_data(record, None, seed, &mut self.buffer);
        }
        let commit = Commit {
            group_first_seq: self.next_seq,
            group_bytes: bytes,
            durable_seq: self.proven_seq,
        };
        commit.encode(end_seq, seed, &mut self.buffer);
    }

    /// Writes the group behind the last one.
    fn append(&mut self, now: WallTime) -> Result<(), CommitError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let group = &self.buffer[RECORDS_AT as usize..];
        let end = current.offset + group.len() as u64;
        if let Err(error) = write_all(&*current.file, group, current.offset) {
            let error = CommitError::of("write to a segment", error);
            self.take_back(&error, now);
            return Err(error);
        }
        current.is_dirty = true;
        if self.promise == Promise::Commit {
            let synced = sync(current).map_err(failed("sync a segment"));
            if synced.is_err() {
                self.poison(now);
                return synced;
            }
        }
        current.offset = end;
        if end > current.bytes {
            current.bytes = end;
            let id = current.id;
            self.shared.table().change(id, |entry| entry.bytes = end);
        }
        Ok(())
    }

    /// After a group was not written to its end: without room its beginning is cut off, so that
    /// nothing of it is behind a shorter one that takes its place. All else costs the file.
    fn take_back(&mut self, error: &CommitError, now: WallTime) {
        let Some(current) = &mut self.current else {
            return;
        };
        let is_full = matches!(error, CommitError::Full { .. });
        if !is_full || current.file.truncate(current.offset).is_err() {
            self.poison(now);
            return;
        }
        current.bytes = current.offset;
        let (id, bytes) = (current.id, current.bytes);
        self.shared.table().change(id, |entry| entry.bytes = bytes);
    }

    /// Gives the file up for ever. What it has below `next_seq` still counts.
    fn poison(&mut self, now: WallTime) {
        self.current = None;
        // At the last epoch the next segment is refused, not this.
        self.epoch = next_epoch(self.epoch, now).unwrap_or(u64::MAX);
    }

    /// Writes the group as the first one of a new segment, which then is the current one.
    fn begin(&mut self, now: WallTime) -> Result<SegmentInfo, CommitError> {
        if self.epoch == u64::MAX {
            let why = "the epochs of the buffer are used up";
            let seq = self.next_seq;
            return Err(CommitError::Refused { why, seq });
        }
        self.settle_current(now)?;
        let (uuid, marks) = (self.shared.uuid, (self.epoch, self.next_seq));
        let header = SegmentHeader::new(self.promise, uuid, marks, now);
        header.put(&mut self.buffer);
        let offset = self.buffer.len() as u64;
        let Prepared { file, bytes } = self.make(offset)?;
        let mut begun = Current {
            file,
            id: 0,
            base_seq: self.next_seq,
            offset,
            bytes: bytes.max(offset),
            is_dirty: true,
        };
        // The new name may be there whatever comes of it, and ends the old segment.
        let old = self.current.take();
        let placed = self.place(&mut begun);
        if let Some(old) = old {
            self.give_back(&old);
        }
        if let Err(error) = placed {
            // A file under the final name holds nothing that counts; the next attempt's takes
            // its place.
            self.discard_next();
            self.poison(now);
            return Err(error);
        }
        let info = SegmentInfo {
            base_seq: begun.base_seq,
            bytes: begun.bytes,
        };
        begun.id = self
            .shared
            .table()
            .enter(info.base_seq, info.bytes, self.proven_seq);
        self.current = Some(begun);
        Ok(info)
    }

    /// Before the current segment is left: in interval mode nobody syncs it later.
    fn settle_current(&mut self, now: WallTime) -> Result<(), CommitError> {
        if self.promise != Promise::Interval || self.current.is_none() {
            return Ok(());
        }
        let synced = self.sync_files();
        if let Err(error) = synced {
            self.poison(now);
            return Err(error);
        }
        self.proven_seq = self.next_seq;
        self.note_proven();
        Ok(())
    }

    /// A file for the next segment with `needed` bytes reserved, or what a segment takes.
    fn make(&mut self, needed: u64) -> Result<Prepared, CommitError> {
        match self.prepared.take() {
            Some(prepared) if prepared.bytes >= needed => return Ok(prepared),
            Some(_) | None => self.discard_next(),
        }
        let bytes = needed.max(self.shared.settings().segment_bytes);
        if !self.has_room_for(bytes) {
            let error = io::Error::new(io::ErrorKind::QuotaExceeded, "its size is used up");
            let what = "begin a segment";
            return Err(CommitError::Full { what, error });
        }
        let made = self.reserve(bytes);
        if made.is_err() {
            self.discard_next();
        }
        let file = made.map_err(|error| CommitError::of("make a segment", error))?;
        self.shared.table().prepared_bytes = bytes;
        Ok(Prepared { file, bytes })
    }

    /// Whether a segment of so many bytes may be made. Where it may not, what the current one has
    /// reserved and not used goes first; and where everything is delivered, the current one can
    /// go as soon as it has a successor, so one may be made beyond the size: a buffer that was
    /// made smaller would be full for ever otherwise.
    fn has_room_for(&self, bytes: u64) -> bool {
        let size = self.shared.settings().size_bytes;
        let fits = || self.shared.used_bytes().saturating_add(bytes) <= size;
        if fits() {
            return true;
        }
        if let Some(current) = &self.current {
            self.give_back(current);
        }
        fits() || self.shared.table().released_seq >= self.next_seq && self.next_seq > 0
    }

    fn reserve(&self, bytes: u64) -> io::Result<Arc<dyn File>> {
        let create = Open::Create(FILE_MODE);
        let file = self.shared.directory.open(NEXT_SEGMENT, create)?;
        match file.allocate(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            other => other.map(|()| file),
        }
    }

    /// Removes `next.new`. What cannot be removed now is at the next start.
    fn discard_next(&mut self) {
        self.prepared = None;
        let _ = unlink(&*self.shared.directory, NEXT_SEGMENT);
        self.shared.table().prepared_bytes = 0;
    }

    /// Fills the file, and gives it its name in place of the current one: after this it counts.
    fn place(&mut self, begun: &mut Current) -> Result<(), CommitError> {
        let of = |what| move |error| CommitError::of(what, error);
        write_all(&*begun.file, &self.buffer, 0).map_err(of("write to a new segment"))?;
        if self.promise == Promise::Commit {
            sync(begun).map_err(failed("sync a new segment"))?;
        }
        let name = segment_name(begun.base_seq);
        self.shared
            .directory
            .rename(NEXT_SEGMENT, &name)
            .map_err(of("name a new segment"))?;
        self.shared.table().prepared_bytes = 0;
        self.is_directory_dirty = true;
        if self.promise == Promise::Commit {
            self.sync_directory()?;
        }
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), CommitError> {
        let synced = self.shared.directory.sync();
        synced.map_err(failed("sync the folder"))?;
        self.is_directory_dirty = false;
        Ok(())
    }

    /// Cuts off what the segment did not use. It is only room: failing costs nothing else.
    fn give_back(&self, current: &Current) {
        if current.bytes > current.offset && current.file.truncate(current.offset).is_ok() {
            let bytes = current.offset;
            let mut table = self.shared.table();
            table.change(current.id, |entry| entry.bytes = bytes);
        }
    }

    /// Makes everything that was committed durable; for [`super::Durability::Interval`].
    ///
    /// # Errors
    /// What was written since the last good one may not survive a power cut. The file is given
    /// up; the next commit begins another.
    pub fn sync(&mut self, now: WallTime) -> Result<(), CommitError> {
        let synced = self.sync_files();
        if synced.is_err() {
            self.poison(now);
            return synced;
        }
        // With `os` the segments before were never synced, so nothing is known of them.
        if self.promise != Promise::Os {
            self.proven_seq = self.next_seq;
            self.note_proven();
        }
        Ok(())
    }

    fn sync_files(&mut self) -> Result<(), CommitError> {
        if let Some(current) = self.current.as_mut().filter(|current| current.is_dirty) {
            sync(current).map_err(failed("sync a segment"))?;
        }
        if self.is_directory_dirty {
            self.sync_directory()?;
        }
        Ok(())
    }

    fn note_proven(&self) {
        if let Some(current) = &self.current {
            let proven_seq = self.proven_seq;
            let mut table = self.shared.table();
            table.change(current.id, |entry| entry.proven_seq = proven_seq);
        }
    }

    /// Makes the next segment ahead of need, once the current one is three quarters full, so
    /// that no commit waits for it. Call it when no commit waits. Answers whether it made one.
    ///
    /// # Errors
    /// There is no room for it or the device failed; a commit that needs it will try again.
    pub fn prepare(&mut self) -> Result<bool, CommitError> {
        let bytes = self.shared.settings().segment_bytes;
        let is_due = |current: &Current| current.offset >= bytes / 4 * 3;
        if self.prepared.is_some() || !self.current.as_ref().is_some_and(is_due) {
            return Ok(false);
        }
        self.prepared = Some(self.make(bytes)?);
        Ok(true)
    }

    /// Ends writing: everything is synced whatever the durability, and a last commit record
    /// says so, which spares the next start copying the tail.
    ///
    /// # Errors
    /// The device failed; everything that was committed counts as before.
    pub fn close(mut self) -> Result<(), CommitError> {
        if self.prepared.is_some() {
            self.discard_next();
        }
        self.sync_files()?;
        if self.promise != Promise::Os {
            self.proven_seq = self.next_seq;
            self.note_proven();
        }
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let seed = seed(&self.shared.uuid, self.epoch);
        self.buffer.clear();
        let commit = Commit {
            group_first_seq: self.next_seq,
            group_bytes: 0,
            durable_seq: self.proven_seq,
        };
        commit.encode(self.next_seq, seed, &mut self.buffer);
        write_all(&*current.file, &self.buffer, current.offset)
            .map_err(|error| CommitError::of("end a segment", error))?;
        current.offset += format::record_bytes(COMMIT_BYTES - format::RECORD_HEADER_BYTES);
        self.give_back(&current);
        sync(&mut current).map_err(failed("sync a segment"))
    }

    /// A group far larger than usual leaves no large buffer behind.
    fn trim_buffer(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
    }
}

/// A sync that failed is a failure whatever its errno: the file has lost data.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> CommitError {
    move |error| CommitError::Failed { what, error }
}

/// Syncs a segment.
fn sync(current: &mut Current) -> io::Result<()> {
    #[cfg(not(sim_bug = "no_fsync"))]
    current.file.sync()?;
    current.is_dirty = false;
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all(file: &dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// An epoch that nobody had: larger than the last, and on another machine or in another
/// restored snapshot another one, by the time.
pub(super) fn next_epoch(last: u64, now: WallTime) -> Option<u64> {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    Some(last.checked_add(1)?.max(micros))
}

/// What is kept of the writer's buffer between commits, in bytes.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
