//! Opening a buffer: from whatever is in its folder to a log that can be read and written.
//!
//! The steps are those of docs/BUFFER_FORMAT.md, "Recovery". Only the last segment is read
//! ([`super::tail`]), so the time does not depend on the backlog. Nothing of an earlier process
//! is changed but by rename and unlink, and each step can be cut off anywhere and done again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::error::OpenError;
use super::finding::{Finding, What};
use super::format::{CURSOR_BYTES, HEADER_BYTES, Promise, SegmentHeader, Slot};
use super::listing::{self, CursorFound, Listed};
use super::quarantine;
use super::scan::{self, patiently, read_full};
use super::shared::{CURSOR, LOCK, NEXT_CURSOR, NEXT_SEGMENT, Shared, Table, segment_name, unlink};
use super::tail::{self, Tail};
use super::writer::{Current, next_epoch};
use super::{Keeper, Opened, Reader, Recovered, Settings, Writer};
use crate::buffer::storage::{Directory, File, Lock, Open};
use crate::time::WallTime;

/// Opens the buffer in `directory` for reading and writing, and makes it where nothing is.
///
/// # Errors
/// [`OpenError`]; nothing is lost then, and opening it again later may succeed.
pub fn open(
    directory: Arc<dyn Directory>,
    settings: Settings,
    now: WallTime,
) -> Result<Opened, OpenError> {
    let lock = take_lock(&*directory)?;
    let recovery = Recovery {
        quarantine_bytes: quarantine::used_bytes(&*directory),
        directory,
        settings,
        now,
        findings: Vec::new(),
        segments_opened: 0,
    };
    recovery.run(lock)
}

fn take_lock(directory: &dyn Directory) -> Result<Box<dyn Lock>, OpenError> {
    let note = format!("process {}\n", std::process::id());
    directory.lock(LOCK, note.as_bytes()).map_err(|error| {
        if error.kind() != io::ErrorKind::WouldBlock {
            return io_error("lock", LOCK)(error);
        }
        let mut by = vec![0; NOTE_BYTES_MAX];
        let opened = directory.open(LOCK, Open::Read);
        let read = opened.and_then(|file| read_full(&*file, &mut by, 0));
        by.truncate(read.unwrap_or(0));
        let by = String::from_utf8_lossy(&by).trim().to_owned();
        OpenError::InUse { by }
    })
}

/// The error of trying `what` on the file `name`.
pub(super) fn io_error(what: &'static str, name: &str) -> impl FnOnce(io::Error) -> OpenError {
    let name = name.to_owned();
    move |error| OpenError::Io { what, name, error }
}

struct Recovery {
    directory: Arc<dyn Directory>,
    settings: Settings,
    now: WallTime,
    findings: Vec<Finding>,
    segments_opened: u32,
    quarantine_bytes: u64,
}

/// The last segment, opened.
pub(super) struct Last {
    pub base_seq: u64,
    pub name: String,
    pub file: Arc<dyn File>,
    pub header: SegmentHeader,
}

/// Where the log goes on.
struct Marks {
    first_seq: u64,
    next_seq: u64,
    proven_seq: u64,
    epoch: u64,
    /// Whether nothing that is there was ever delivered.
    is_closed: bool,
}

impl Recovery {
    fn run(mut self, lock: Box<dyn Lock>) -> Result<Opened, OpenError> {
        let found = patiently(|| listing::cursor(&*self.directory));
        let cursor = found.map_err(io_error("read", CURSOR))?;
        let mut segments = self.list()?;
        let slot = self.trusted(&cursor, &segments)?;
        let uuid = self.uuid(slot.as_ref(), &segments);
        let last = self.last(&mut segments, uuid)?;
        let tail = match &last {
            Some(last) => {
                Some(Tail::of(last, slot.as_ref()).map_err(io_error("read", &last.name))?)
            }
            None => None,
        };
        self.note_tail(last.as_ref(), tail.as_ref());
        let marks = self.marks(slot.as_ref(), &segments, last.as_ref(), tail.as_ref())?;
        let mut table = Table::default();
        table.released_seq = marks.first_seq;
        table.quarantine_bytes = self.quarantine_bytes;
        table.cursor_bytes = match cursor {
            CursorFound::Missing => 0,
            CursorFound::Damaged | CursorFound::Slot(_) => CURSOR_BYTES,
        };
        let uuid = uuid.unwrap_or(self.settings.new_uuid);
        let shared = Shared::new(self.directory.clone(), self.settings, uuid, table, lock);
        let shared = Arc::new(shared);
        self.enter(&shared, &segments, &marks);
        let keeper = self.delete_delivered(&shared, &marks, slot.as_ref());
        let current = match (&last, &tail) {
            (Some(last), Some(tail)) if last.header.promise != Promise::Os => {
                self.copy_tail(&shared, last, tail, &marks)?
            }
            _ => None,
        };
        let is_synced = last.is_none_or(|last| last.header.promise != Promise::Os);
        Ok(self.opened(shared, &marks, current, keeper, is_synced))
    }

    /// The segments by name; what an earlier process was making is removed.
    fn list(&mut self) -> Result<Vec<Listed>, OpenError> {
        let listing = patiently(|| listing::list(&*self.directory));
        let listing = listing.map_err(io_error("list", "the folder"))?;
        for name in [NEXT_SEGMENT, NEXT_CURSOR] {
            if listing.others.iter().any(|other| other == name) {
                unlink(&*self.directory, name).map_err(io_error("remove", name))?;
            }
        }
        self.findings.extend(listing.findings);
        Ok(listing.segments)
    }

    /// The cursor's slot, unless it belongs to another buffer than all the segments.
    fn trusted(
        &mut self,
        cursor: &CursorFound,
        segments: &[Listed],
    ) -> Result<Option<Slot>, OpenError> {
        let what = match cursor {
            _ if segments.is_empty() => return Ok(cursor.slot()),
            CursorFound::Missing => What::CursorMissing,
            CursorFound::Damaged => What::CursorDamaged,
            CursorFound::Slot(slot) => {
                // The last segment agrees unless something is wrong; then all are asked.
                let has_uuid = |header: &SegmentHeader| header.uuid == slot.uuid;
                let mut newest_first = segments.iter().rev();
                if newest_first.any(|listed| self.header(listed).is_some_and(|h| has_uuid(&h))) {
                    return Ok(Some(*slot));
                }
                let is_ours = |listed| self.header(listed).is_some();
                if !segments.iter().any(is_ours) {
                    return Ok(Some(*slot));
                }
                What::CursorForeign
            }
        };
        let bytes = CURSOR_BYTES;
        self.findings
            .push(Finding::whole(CURSOR.to_owned(), bytes, what));
        Ok(None)
    }

    /// Whose buffer this is: the cursor's word, else that of most of the segments.
    fn uuid(&mut self, slot: Option<&Slot>, segments: &[Listed]) -> Option<[u8; 16]> {
        if let Some(slot) = slot {
            return Some(slot.uuid);
        }
        let ends = [segments.first()?, segments.last()?];
        let [first, last] = ends.map(|listed| self.header(listed).map(|header| header.uuid));
        if first == last && first.is_some() {
            return first;
        }
        let mut votes: BTreeMap<[u8; 16], u32> = BTreeMap::new();
        for header in segments.iter().filter_map(|listed| self.header(listed)) {
            *votes.entry(header.uuid).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let mut headers = segments.iter().filter_map(|listed| self.header(listed));
        let winner = headers.find(|header| votes.get(&header.uuid) == Some(&most));
        winner.map(|header| header.uuid)
    }

    /// The header of a segment, if it has a valid one.
    fn header(&self, listed: &Listed) -> Option<SegmentHeader> {
        let opened = patiently(|| scan::open(&*self.directory, &listed.name));
        let (_, found) = opened.ok()?;
        found.ok().map(|(header, _)| header)
    }

    /// The last segment that is one. Those behind it, which are not, leave the log.
    fn last(
        &mut self,
        segments: &mut Vec<Listed>,
        uuid: Option<[u8; 16]>,
    ) -> Result<Option<Last>, OpenError> {
        while let Some(listed) = segments.last().cloned() {
            self.segments_opened += 1;
            let opened = patiently(|| scan::open(&*self.directory, &listed.name));
            let (file, found) = opened.map_err(io_error("open", &listed.name))?;
            let what = match found {
                Ok((header, is_whole)) => match wrong(&header, &listed, uuid) {
                    None => {
                        if !is_whole {
                            let bytes = HEADER_BYTES as u64;
                            let what = What::HeaderCopyDamaged;
                            let finding = Finding::whole(listed.name.clone(), bytes, what);
                            self.findings.push(finding);
                        }
                        return Ok(Some(Last {
                            base_seq: listed.base_seq,
                            name: listed.name,
                            file,
                            header,
                        }));
                    }
                    Some(what) => what,
                },
                Err(found) => What::of(found),
            };
            if let What::Version { version } = what {
                let file = listed.name;
                return Err(OpenError::Version { file, version });
            }
            self.set_aside(&listed, what)?;
            segments.pop();
        }
        Ok(None)
    }

    fn set_aside(&mut self, listed: &Listed, what: What) -> Result<(), OpenError> {
        let used_bytes = &mut self.quarantine_bytes;
        let bytes_max = self.settings.quarantine_bytes_max();
        let room = |bytes| {
            let has_room = used_bytes.saturating_add(bytes) <= bytes_max;
            *used_bytes += if has_room { bytes } else { 0 };
            has_room
        };
        let (name, bytes) = (&listed.name, listed.bytes);
        let taken = quarantine::take(&*self.directory, room, name, bytes, &what);
        let quarantined = taken.map_err(io_error("set aside", name))?;
        self.findings.push(Finding {
            quarantined,
            ..Finding::whole(name.clone(), bytes, what)
        });
        Ok(())
    }

    fn note_tail(&mut self, last: Option<&Last>, tail: Option<&Tail>) {
        let (Some(last), Some(tail)) = (last, tail) else {
            return;
        };
        let Some(torn) = tail.torn else { return };
        self.findings.push(Finding {
            file: last.name.clone(),
            offset: torn.from,
            bytes: torn.to - torn.from,
            // What was proven durable and is not there was promised.
            what: if tail.proven_seq > tail.end_seq {
                What::Damaged
            } else {
                What::TornTail
            },
            quarantined: None,
        });
    }

    fn marks(
        &mut self,
        slot: Option<&Slot>,
        segments: &[Listed],
        last: Option<&Last>,
        tail: Option<&Tail>,
    ) -> Result<Marks, OpenError> {
        let end_seq = tail.map_or(0, |tail| tail.end_seq);
        let (acked_seq, durable_seq) = slot.map_or((0, 0), |s| (s.acked_seq, s.durable_seq));
        if acked_seq > end_seq {
            let bytes = CURSOR_BYTES;
            let what = What::CursorBeyondLog {
                cursor_seq: acked_seq,
                end_seq,
            };
            self.findings
                .push(Finding::whole(CURSOR.to_owned(), bytes, what));
        }
        let next_seq = end_seq.max(acked_seq).max(durable_seq);
        let oldest_seq = segments.first().map_or(next_seq, |listed| listed.base_seq);
        let last_epoch = last.map_or(0, |last| last.header.epoch);
        let epoch = next_epoch(last_epoch.max(slot.map_or(0, |slot| slot.epoch)), self.now);
        let exhausted = |what| OpenError::Exhausted { what };
        if next_seq == u64::MAX {
            return Err(exhausted("sequence"));
        }
        Ok(Marks {
            first_seq: slot.map_or(oldest_seq, |slot| slot.acked_seq),
            next_seq,
            proven_seq: tail.map_or(0, |tail| tail.proven_seq),
            epoch: epoch
                .filter(|epoch| *epoch < u64::MAX)
                .ok_or(exhausted("epoch"))?,
            // A process that came after the one that closed it may have delivered something.
            is_closed: slot.is_some_and(|slot| slot.is_closed && last_epoch <= slot.epoch),
        })
    }

    /// Deletes what was deleted before and came back, or was about to be. The cursor was read
    /// and is not known to be on the disk, so it is written first. It may fail: then the keeper
    /// does it later.
    fn delete_delivered(
        &mut self,
        shared: &Arc<Shared>,
        marks: &Marks,
        slot: Option<&Slot>,
    ) -> Keeper {
        let mut keeper = Keeper::new(shared.clone(), marks.epoch, slot);
        let below = shared.table().below(marks.first_seq);
        if below.is_empty() {
            return keeper;
        }
        // The tail is not copied yet: what is not proven must not be said to be durable.
        let durable_seq = slot.map_or(0, |slot| slot.durable_seq);
        let durable_seq = durable_seq.max(marks.proven_seq).max(marks.first_seq);
        let _ = keeper.keep(marks.first_seq, durable_seq);
        let findings = below.iter().map(|entry| {
            Finding::whole(segment_name(entry.base_seq), entry.bytes, What::Resurrected)
        });
        self.findings.extend(findings);
        keeper
    }

    fn enter(&self, shared: &Shared, segments: &[Listed], marks: &Marks) {
        let mut table = shared.table();
        for (index, listed) in segments.iter().enumerate() {
            // Of the others the reader learns it from their heads.
            let is_last = index + 1 == segments.len();
            let proven_seq = if is_last { marks.proven_seq } else { 0 };
            table.enter(listed.base_seq, listed.bytes, proven_seq);
        }
    }

    /// Writes the records that are not proven durable anew; answers the segment they are in.
    fn copy_tail(
        &mut self,
        shared: &Shared,
        last: &Last,
        tail: &Tail,
        marks: &Marks,
    ) -> Result<Option<Current>, OpenError> {
        let from_seq = tail.proven_seq.max(marks.first_seq);
        if tail.end_seq <= from_seq {
            return Ok(None);
        }
        let copied = tail::copy(shared, last, from_seq, marks.epoch, self.now);
        let copied = copied.map_err(io_error("copy the end of", &last.name))?;
        self.findings.extend(copied.findings);
        Ok(copied.current)
    }

    fn opened(
        self,
        shared: Arc<Shared>,
        marks: &Marks,
        current: Option<Current>,
        mut keeper: Keeper,
        is_synced: bool,
    ) -> Opened {
        let events = marks.next_seq - marks.first_seq;
        if marks.is_closed && events > 0 {
            keeper.reopen(marks.next_seq);
        }
        let proven_seq = if is_synced {
            marks.next_seq
        } else {
            marks.proven_seq
        };
        let recovered = Recovered {
            uuid: shared.uuid,
            epoch: marks.epoch,
            first_seq: marks.first_seq,
            next_seq: marks.next_seq,
            events,
            may_repeat: if marks.is_closed { 0 } else { events },
            used_bytes: shared.used_bytes(),
            findings: self.findings,
            segments_opened: self.segments_opened,
        };
        let (epoch, next_seq) = (marks.epoch, marks.next_seq);
        Opened {
            sizer: shared.sizer(),
            writer: Writer::new(shared.clone(), epoch, next_seq, proven_seq, current),
            reader: Reader::new(shared),
            keeper,
            recovered,
        }
    }
}

/// What is wrong with a valid header where it stands.
pub(super) fn wrong(
    header: &SegmentHeader,
    listed: &Listed,
    uuid: Option<[u8; 16]>,
) -> Option<What> {
    if uuid.is_some_and(|uuid| uuid != header.uuid) {
        return Some(What::Foreign);
    }
    let base_seq = header.base_seq;
    (base_seq != listed.base_seq).then_some(What::Misnamed { base_seq })
}

/// The most that is read of a lock's note, in bytes.
const NOTE_BYTES_MAX: usize = 256;
