//! The keeper: writes down how far the log is delivered, and deletes what is.
//!
//! The cursor is written before anything is deleted by it, and never counts further than what
//! is durable: a reader that was ahead of the log would see numbers given twice. A cursor file
//! whose write or sync failed is made anew beside the old one, because a later sync of the same
//! file proves nothing.

use std::io;
use std::sync::Arc;

use super::error::{KeepError, is_full};
use super::format::{CURSOR_BYTES, Promise, SLOT_STRIDE, Slot};
use super::shared::{CURSOR, Entry, FILE_MODE, NEXT_CURSOR, Shared, segment_name, unlink};
use super::writer::write_all;
use crate::buffer::storage::{File, Open};

/// Writes down what is delivered in one buffer.
pub struct Keeper {
    shared: Arc<Shared>,
    epoch: u64,
    /// The mark that is on the disk.
    acked_seq: u64,
    generation: u64,
    /// The cursor, if it is there and was never refused anything.
    file: Option<Arc<dyn File>>,
    /// Whether something was unlinked and the directory not synced since.
    is_directory_dirty: bool,
}

/// What keeping came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Everything below is delivered, durably so.
    pub acked_seq: u64,
    /// What deleted segments took, in bytes.
    pub freed_bytes: u64,
    /// What the buffer's files take now, in bytes.
    pub used_bytes: u64,
    /// The number of the first event that is still on disk, if a segment is.
    pub oldest_seq: Option<u64>,
}

/// What giving up the oldest segments came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Everything below is gone, durably so; it counts as delivered or as dropped.
    pub upto_seq: u64,
    /// What the deleted segments took, in bytes; 0 where only the segment in use is left.
    pub freed_bytes: u64,
    /// What the buffer's files take now, in bytes.
    pub used_bytes: u64,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, epoch: u64, slot: Option<&Slot>) -> Keeper {
        Keeper {
            shared,
            epoch,
            acked_seq: slot.map_or(0, |slot| slot.acked_seq),
            generation: slot.map_or(0, |slot| slot.generation),
            // An old cursor is not written either: nobody knows what its syncs were worth.
            file: None,
            is_directory_dirty: false,
        }
    }

    /// Takes back that the cursor was closed. It may fail: then the start after this one may say
    /// that fewer events are repeated than are.
    pub(super) fn reopen(&mut self, durable_seq: u64) {
        let _ = self.put(self.acked_seq, durable_seq, false);
    }

    /// Makes it durable that everything below `acked_seq` is delivered, and deletes the segments
    /// that are wholly below. A mark above `durable_seq`, the writer's, counts as that; one below
    /// an earlier one as the earlier one. Where nothing is new no system call is made.
    ///
    /// # Errors
    /// Nothing was deleted that the cursor on disk does not allow. Call it again later.
    pub fn keep(&mut self, acked_seq: u64, durable_seq: u64) -> Result<Kept, KeepError> {
        self.advance(acked_seq.min(durable_seq), durable_seq, false)?;
        let (below, has_segments) = {
            let table = self.shared.table();
            (table.below(self.acked_seq), !table.segments().is_empty())
        };
        // The mark was read, from a cache perhaps: nothing goes by it before it is written. And
        // there is a first cursor before there is anything to say, while there is room for it.
        let is_read = !below.is_empty() && self.file.is_none();
        let is_first = has_segments && self.generation == 0;
        if is_read || is_first {
            self.put(self.acked_seq, durable_seq, false)?;
        }
        let freed_bytes = self.delete(&below)?;
        let table = self.shared.table();
        Ok(Kept {
            acked_seq: self.acked_seq,
            freed_bytes,
            used_bytes: table.used_bytes(),
            oldest_seq: table.segments().first().map(|entry| entry.base_seq),
        })
    }

    /// Gives up the oldest segments until they made at least `bytes` free, or only the one in
    /// use is left. The cursor passes them durably first.
    ///
    /// # Errors
    /// As of [`Keeper::keep`].
    pub fn evict(&mut self, bytes: u64, durable_seq: u64) -> Result<Evicted, KeepError> {
        let mut freed = 0;
        let mut upto_seq = self.acked_seq;
        {
            let table = self.shared.table();
            for pair in table.segments().windows(2) {
                if freed >= bytes || pair[1].base_seq > durable_seq {
                    break;
                }
                freed += pair[0].bytes;
                upto_seq = upto_seq.max(pair[1].base_seq);
            }
        }
        let kept = self.keep(upto_seq, durable_seq)?;
        Ok(Evicted {
            upto_seq: kept.acked_seq,
            freed_bytes: kept.freed_bytes,
            used_bytes: kept.used_bytes,
        })
    }

    /// Writes down for the next start that nothing at or above `acked_seq` was ever delivered.
    ///
    /// # Errors
    /// The next start repeats more than it must.
    pub fn close(self, acked_seq: u64, durable_seq: u64) -> Result<(), KeepError> {
        self.end(acked_seq, durable_seq, true)
    }

    /// As [`Keeper::close`], where something at or above `acked_seq` may have been delivered.
    ///
    /// # Errors
    /// As there.
    pub fn leave(self, acked_seq: u64, durable_seq: u64) -> Result<(), KeepError> {
        self.end(acked_seq, durable_seq, false)
    }

    fn end(mut self, acked_seq: u64, durable_seq: u64, is_closed: bool) -> Result<(), KeepError> {
        if self.shared.table().segments().is_empty() {
            return Ok(());
        }
        self.advance(acked_seq.min(durable_seq), durable_seq, is_closed)?;
        let below = self.shared.table().below(self.acked_seq);
        self.delete(&below).map(drop)
    }

    fn advance(
        &mut self,
        acked_seq: u64,
        durable_seq: u64,
        is_closed: bool,
    ) -> Result<(), KeepError> {
        let acked_seq = acked_seq.max(self.acked_seq);
        if acked_seq == self.acked_seq && !is_closed {
            return Ok(());
        }
        self.put(acked_seq, durable_seq, is_closed)
    }

    /// Writes the cursor.
    fn put(&mut self, acked_seq: u64, durable_seq: u64, is_closed: bool) -> Result<(), KeepError> {
        crate::durability_assert!(
            acked_seq <= durable_seq,
            "the cursor would count to {acked_seq}, the log is durable to {durable_seq}"
        );
        let slot = Slot {
            generation: self.generation + 1,
            uuid: self.shared.uuid,
            epoch: self.epoch,
            acked_seq: if cfg!(sim_bug = "cursor_ahead") {
                durable_seq
            } else {
                acked_seq
            },
            durable_seq,
            promise: self.shared.settings().promise(),
            is_closed,
        };
        self.write(&slot).map_err(|error| KeepError {
            what: "write",
            name: CURSOR.to_owned(),
            error,
        })?;
        self.generation = slot.generation;
        self.acked_seq = acked_seq;
        let mut table = self.shared.table();
        table.released_seq = table.released_seq.max(acked_seq);
        table.cursor_bytes = CURSOR_BYTES;
        Ok(())
    }

    fn write(&mut self, slot: &Slot) -> io::Result<()> {
        // Out of its place while it is written: one that fails is not written again.
        let Some(file) = self.file.take() else {
            self.file = match self.make(slot) {
                Err(error) if is_full(&error) => return self.write_old(slot).or(Err(error)),
                made => Some(made?),
            };
            return Ok(());
        };
        self.overwrite(&*file, slot)?;
        self.file = Some(file);
        Ok(())
    }

    /// Without room for a new file the mark goes to the old one: else what is delivered could
    /// never be deleted, and there would never be room. What its earlier syncs were worth nobody
    /// knows, but this slot is written now, and the next try is a new file again.
    fn write_old(&self, slot: &Slot) -> io::Result<()> {
        let file = self.shared.directory.open(CURSOR, Open::Write)?;
        self.overwrite(&*file, slot)
    }

    fn overwrite(&self, file: &dyn File, slot: &Slot) -> io::Result<()> {
        let offset = slot.generation % 2 * SLOT_STRIDE;
        write_all(file, &slot.encode(), offset)?;
        self.sync(file)
    }

    /// Makes the cursor's file anew, with one slot, in place of what is there.
    fn make(&self, slot: &Slot) -> io::Result<Arc<dyn File>> {
        let directory = &*self.shared.directory;
        unlink(directory, NEXT_CURSOR)?;
        let made = self.fill_new(slot);
        if made.is_err() {
            // It would take room that there is not.
            let _ = unlink(directory, NEXT_CURSOR);
        }
        let file = made?;
        directory.rename(NEXT_CURSOR, CURSOR)?;
        if self.shared.settings().promise() != Promise::Os {
            directory.sync()?;
        }
        Ok(file)
    }

    fn fill_new(&self, slot: &Slot) -> io::Result<Arc<dyn File>> {
        let directory = &*self.shared.directory;
        let file = directory.open(NEXT_CURSOR, Open::Create(FILE_MODE))?;
        let mut slots = vec![0; CURSOR_BYTES as usize];
        let at = (slot.generation % 2 * SLOT_STRIDE) as usize;
        let bytes = slot.encode();
        slots[at..at + bytes.len()].copy_from_slice(&bytes);
        write_all(&*file, &slots, 0)?;
        self.sync(&*file)?;
        Ok(file)
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        match self.shared.settings().promise() {
            Promise::Os => Ok(()),
            Promise::Interval | Promise::Commit => file.sync(),
        }
    }

    /// Deletes segments that the cursor has passed; answers what they took, in bytes.
    fn delete(&mut self, segments: &[Entry]) -> Result<u64, KeepError> {
        let mut freed_bytes = 0;
        for entry in segments {
            let name = segment_name(entry.base_seq);
            if let Err(error) = unlink(&*self.shared.directory, &name) {
                let what = "delete";
                return Err(KeepError { what, name, error });
            }
            self.shared.table().remove(entry.id);
            freed_bytes += entry.bytes;
            self.is_directory_dirty = true;
        }
        if self.is_directory_dirty && self.shared.settings().promise() != Promise::Os {
            let synced = self.shared.directory.sync();
            synced.map_err(|error| KeepError {
                what: "sync",
                name: "the folder".to_owned(),
                error,
            })?;
        }
        self.is_directory_dirty = false;
        Ok(freed_bytes)
    }
}
