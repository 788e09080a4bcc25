//! The end of the log: what of the last segment counts, and writing anew what is not proven.
//!
//! What an earlier process wrote and never heard to be durable may be in the page cache and not
//! on the disk, and syncing its file again proves nothing (a failed write-back is forgotten). So
//! the unproven records, normally one group, are copied into a segment of this epoch. It
//! replaces the old one by rename where that had nothing else.

use std::io;
use std::sync::Arc;

use super::Record;
use super::finding::{Finding, What};
use super::format::{Commit, Promise, RECORDS_AT, SegmentHeader, Slot, encode_data};
use super::quarantine;
use super::recovery::Last;
use super::scan::{Damage, DataItem, Item, Scan, WINDOW_BYTES};
use super::shared::{FILE_MODE, NEXT_SEGMENT, Shared, segment_name, unlink};
use super::writer::{Current, write_all};
use crate::buffer::storage::{File, Open};
use crate::time::WallTime;

/// What the last segment's records came to.
pub(super) struct Tail {
    /// Behind its last valid record.
    pub end_seq: u64,
    /// Everything below was durable once.
    pub proven_seq: u64,
    /// What is behind the last valid record and not zero.
    pub torn: Option<Damage>,
}

impl Tail {
    /// Goes through the last segment. The cursor's word counts where it was given in commit mode.
    ///
    /// # Errors
    /// The device's, unless only a place in the middle cannot be read: that counts as damage.
    pub fn of(last: &Last, slot: Option<&Slot>) -> io::Result<Tail> {
        let mut scan = Scan::new(last.file.clone(), last.header);
        let mut tail = Tail {
            end_seq: last.base_seq,
            proven_seq: last.base_seq,
            torn: None,
        };
        loop {
            match scan.next_patiently()? {
                Item::Data(data) => {
                    tail.end_seq = data.end_seq();
                    tail.torn = None;
                }
                Item::Commit { end_seq, commit } => {
                    tail.end_seq = tail.end_seq.max(end_seq);
                    tail.proven_seq = tail.proven_seq.max(commit.durable_seq.min(end_seq));
                    tail.torn = None;
                }
                Item::Skipped => {}
                Item::Damage(damage) => tail.note(damage),
                Item::End { offset, torn_bytes } => {
                    if torn_bytes > 0 {
                        let to = offset + torn_bytes;
                        tail.note(Damage { from: offset, to });
                    }
                    break;
                }
            }
        }
        let word = slot.filter(|slot| slot.promise == Promise::Commit);
        let durable_seq = word.map_or(0, |slot| slot.durable_seq);
        tail.proven_seq = tail.proven_seq.max(durable_seq);
        Ok(tail)
    }

    fn note(&mut self, damage: Damage) {
        let from = self.torn.map_or(damage.from, |torn| torn.from);
        let to = damage.to.max(from);
        self.torn = Some(Damage { from, to });
    }
}

/// What copying came to.
pub(super) struct Copied {
    /// The segment with the copies, to be written on; none where there was nothing to copy.
    pub current: Option<Current>,
    pub findings: Vec<Finding>,
}

/// Copies the records of `last` that end above `from_seq` into a new segment.
///
/// # Errors
/// The device's, or no room. The old segment is as it was.
pub(super) fn copy(
    shared: &Shared,
    last: &Last,
    from_seq: u64,
    epoch: u64,
    now: WallTime,
) -> io::Result<Copied> {
    let mut findings = Vec::new();
    let mut scan = Scan::new(last.file.clone(), last.header);
    let mut copy: Option<Copy<'_>> = None;
    let (mut damage, mut expected_seq): (Option<Damage>, u64) = (None, from_seq);
    loop {
        let (data, end_seq) = match scan.next_patiently()? {
            Item::Data(data) if data.end_seq() > from_seq => {
                let end_seq = data.end_seq();
                (Some(data), end_seq)
            }
            Item::Commit { end_seq, .. } if end_seq > from_seq => (None, end_seq),
            Item::Damage(more) => {
                let from = damage.map_or(more.from, |damage: Damage| damage.from);
                damage = Some(Damage { from, to: more.to });
                continue;
            }
            Item::End { .. } => break,
            Item::Data(_) | Item::Commit { .. } | Item::Skipped => {
                damage = None;
                continue;
            }
        };
        let first_seq = data.as_ref().map_or(end_seq, |data| data.first_seq);
        if let Some(damage) = damage.take().filter(|_| first_seq > expected_seq) {
            findings.push(keep(shared, last, damage, (expected_seq, first_seq)));
        }
        expected_seq = end_seq;
        if let Some(data) = data {
            let copy = match &mut copy {
                Some(copy) => copy,
                None => {
                    let base_seq = from_seq.min(data.first_seq);
                    copy.insert(Copy::begin(shared, base_seq, epoch, now)?)
                }
            };
            copy.add(data)?;
        }
    }
    let Some(copy) = copy else {
        let current = None;
        return Ok(Copied { current, findings });
    };
    let what = What::TailCopied {
        events: copy.events,
    };
    findings.push(Finding::whole(last.name.clone(), 0, what));
    let current = Some(copy.end(expected_seq)?);
    Ok(Copied { current, findings })
}

fn keep(shared: &Shared, last: &Last, damage: Damage, lost: (u64, u64)) -> Finding {
    Finding {
        file: last.name.clone(),
        offset: damage.from,
        bytes: damage.to - damage.from,
        what: What::Damaged,
        quarantined: quarantine::copy(shared, &*last.file, last.base_seq, damage, lost),
    }
}

/// A segment that records are copied into.
struct Copy<'a> {
    shared: &'a Shared,
    file: Arc<dyn File>,
    header: SegmentHeader,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// Where it goes.
    offset: u64,
    events: u64,
    /// What is reserved, in bytes.
    bytes: u64,
}

impl<'a> Copy<'a> {
    fn begin(shared: &'a Shared, base_seq: u64, epoch: u64, now: WallTime) -> io::Result<Copy<'a>> {
        unlink(&*shared.directory, NEXT_SEGMENT)?;
        let file = shared
            .directory
            .open(NEXT_SEGMENT, Open::Create(FILE_MODE))?;
        // Where it cannot be reserved the writes say whether there is room.
        let bytes = shared.settings().segment_bytes;
        let reserved = file.allocate(bytes).is_ok();
        let header = SegmentHeader::new(
            shared.settings().promise(),
            shared.uuid,
            (epoch, base_seq),
            now,
        );
        let mut buffer = vec![0; RECORDS_AT as usize];
        header.put(&mut buffer);
        Ok(Copy {
            shared,
            file,
            buffer,
            header,
            offset: 0,
            events: 0,
            bytes: if reserved { bytes } else { 0 },
        })
    }

    fn add(&mut self, data: DataItem) -> io::Result<()> {
        self.events += u64::from(data.count);
        let record = Record {
            first_seq: data.first_seq,
            count: data.count,
            payload: data.payload,
        };
        let origin = Some(data.origin_epoch);
        encode_data(&record, origin, self.header.seed(), &mut self.buffer);
        if self.buffer.len() >= WINDOW_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all(&*self.file, &self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the segment durable and part of the log.
    fn end(mut self, end_seq: u64) -> io::Result<Current> {
        let base_seq = self.header.base_seq;
        let group_bytes = self.offset + self.buffer.len() as u64 - RECORDS_AT;
        let commit = Commit {
            group_first_seq: base_seq,
            group_bytes,
            durable_seq: base_seq,
        };
        commit.encode(end_seq, self.header.seed(), &mut self.buffer);
        self.flush()?;
        self.file.sync()?;
        let directory = &*self.shared.directory;
        directory.rename(NEXT_SEGMENT, &segment_name(base_seq))?;
        directory.sync()?;
        let bytes = self.bytes.max(self.offset);
        let id = self.shared.table().enter(base_seq, bytes, end_seq);
        Ok(Current::new(self.file, id, base_seq, self.offset, bytes))
    }
}
