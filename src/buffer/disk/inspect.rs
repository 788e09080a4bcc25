//! Looking at a buffer that nobody need own: what is in it, its records, and what is wrong.
//!
//! Nothing is changed, made, locked or set aside; every file is opened for reading alone. So it
//! may be done beside the process that owns the buffer, which goes on writing and deleting:
//! then only what is surely durable is shown, and a segment that is gone meanwhile was delivered.
//! What opening the buffer would do about what is found is not done, only told.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::ReadRecord;
use super::finding::{Finding, What};
use super::format::{CURSOR_BYTES, HEADER_BYTES, NoHeader, Promise, SegmentHeader, Slot};
use super::listing::{self, CursorFound, Listed};
use super::quarantine;
use super::recovery::{Last, wrong};
use super::scan::{self, Item, Scan, patiently};
use super::shared::{CURSOR, NEXT_SEGMENT};
use super::tail::Tail;
use crate::buffer::storage::{Directory, File};

/// A buffer as its files are.
pub struct Inspection {
    directory: Arc<dyn Directory>,
    is_in_use: bool,
    segments: Vec<Listed>,
    uuid: Option<[u8; 16]>,
    /// The first event not known to be delivered.
    pub first_seq: u64,
    /// One past the last event that may be shown.
    pub end_seq: u64,
    /// What the files take, in bytes.
    pub used_bytes: u64,
    /// Of these, what the quarantine takes.
    pub quarantine_bytes: u64,
    /// What is wrong with the cursor, or only looks like a segment.
    pub findings: Vec<Finding>,
}

/// Looks at the buffer in `directory`. With `is_in_use` another process writes there, and its
/// last group may not be durable yet.
///
/// Reads the last segment, at most 64 MiB or one record, and nothing of the others.
///
/// # Errors
/// The device's.
pub fn look(directory: Arc<dyn Directory>, is_in_use: bool) -> io::Result<Inspection> {
    // The cursor first: what it does not count as delivered is listed after it, if it is there.
    let cursor = patiently(|| listing::cursor(&*directory))?;
    let listing = patiently(|| listing::list(&*directory))?;
    let quarantine_bytes = quarantine::used_bytes(&*directory);
    let others = [CURSOR, NEXT_SEGMENT].map(|name| directory.stat(name));
    let others: u64 = others.iter().flatten().map(|stat| stat.bytes).sum();
    let segments: u64 = listing.segments.iter().map(|listed| listed.bytes).sum();
    let mut inspection = Inspection {
        directory,
        is_in_use,
        segments: listing.segments,
        uuid: None,
        first_seq: 0,
        end_seq: 0,
        used_bytes: segments + others + quarantine_bytes,
        quarantine_bytes,
        findings: listing.findings,
    };
    inspection.find_marks(&cursor)?;
    Ok(inspection)
}

impl Inspection {
    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Events that are neither delivered nor known to be lost.
    pub fn events(&self) -> u64 {
        self.end_seq.saturating_sub(self.first_seq)
    }

    /// Goes through the records that have events at `from_seq` or above, and what lies between.
    pub fn walk(&self, from_seq: u64) -> Walk<'_> {
        let behind = |pair: &&[Listed]| pair[1].base_seq <= from_seq;
        let skipped = self.segments.windows(2).take_while(behind).count();
        let segments = &self.segments[skipped..];
        let mut oldest_seq = segments.first().map_or(self.end_seq, |l| l.base_seq);
        if !self.is_in_use {
            // Whatever is missing before that was not deleted meanwhile, but is lost.
            oldest_seq = oldest_seq.min(self.first_seq);
        }
        Walk {
            inspection: self,
            segments,
            at: None,
            expected_seq: from_seq.max(oldest_seq.min(self.end_seq)),
            epoch: 0,
            found: VecDeque::new(),
        }
    }

    fn find_marks(&mut self, cursor: &CursorFound) -> io::Result<()> {
        let headers: Vec<_> = self.segments.iter().rev().take(HEADERS_MAX).collect();
        let headers: Vec<_> = headers
            .into_iter()
            .filter_map(|listed| Some((listed.clone(), header(&*self.directory, listed)?)))
            .collect();
        let slot = self.trusted(cursor, &headers);
        self.uuid = slot.map(|slot| slot.uuid).or_else(|| of_most(&headers));
        let mut newest_first = headers.into_iter();
        let last = newest_first
            .find(|(listed, (_, header, _))| wrong(header, listed, self.uuid).is_none());
        let (acked_seq, durable_seq) = slot.map_or((0, 0), |s| (s.acked_seq, s.durable_seq));
        let mut end_seq = 0;
        if let Some((listed, (file, header, _))) = last {
            let last = Last {
                base_seq: listed.base_seq,
                name: listed.name,
                file,
                header,
            };
            let tail = Tail::of(&last, slot.as_ref())?;
            let is_proof_needed = self.is_in_use && header.promise == Promise::Commit;
            end_seq = match is_proof_needed {
                true => tail.proven_seq.min(tail.end_seq),
                false => tail.end_seq,
            };
            if acked_seq > tail.end_seq {
                let what = What::CursorBeyondLog {
                    cursor_seq: acked_seq,
                    end_seq: tail.end_seq,
                };
                self.cursor_finding(what);
            }
        }
        let oldest_seq = self.segments.first().map_or(0, |listed| listed.base_seq);
        self.first_seq = slot.map_or(oldest_seq, |slot| slot.acked_seq);
        self.end_seq = end_seq.max(durable_seq).max(self.first_seq);
        Ok(())
    }

    /// The cursor's slot, unless it is that of another buffer.
    fn trusted(&mut self, cursor: &CursorFound, headers: &[(Listed, Head)]) -> Option<Slot> {
        let what = match cursor {
            _ if self.segments.is_empty() => return cursor.slot(),
            CursorFound::Missing => What::CursorMissing,
            CursorFound::Damaged => What::CursorDamaged,
            CursorFound::Slot(slot) => {
                let has_uuid = |(_, (_, header, _)): &(_, Head)| header.uuid == slot.uuid;
                if headers.is_empty() || headers.iter().any(has_uuid) {
                    return Some(*slot);
                }
                What::CursorForeign
            }
        };
        // A buffer that was never delivered from has none yet.
        if !(self.is_in_use && what == What::CursorMissing) {
            self.cursor_finding(what);
        }
        None
    }

    fn cursor_finding(&mut self, what: What) {
        let finding = Finding::whole(CURSOR.to_owned(), CURSOR_BYTES, what);
        self.findings.push(finding);
    }
}

/// How many of the newest segments are asked whose they are. More would have to be damaged at
/// once for this to differ from what opening the buffer finds.
const HEADERS_MAX: usize = 64;

/// An opened segment, its header, and whether both copies of that are whole.
type Head = (Arc<dyn File>, SegmentHeader, bool);

fn header(directory: &dyn Directory, listed: &Listed) -> Option<Head> {
    let opened = patiently(|| scan::open(directory, &listed.name)).ok()?;
    let (header, is_whole) = opened.1.ok()?;
    Some((opened.0, header, is_whole))
}

fn of_most(headers: &[(Listed, Head)]) -> Option<[u8; 16]> {
    let mut votes: BTreeMap<[u8; 16], u32> = BTreeMap::new();
    for (_, (_, header, _)) in headers {
        *votes.entry(header.uuid).or_default() += 1;
    }
    let winner = votes.into_iter().max_by_key(|(_, votes)| *votes);
    winner.map(|(uuid, _)| uuid)
}

/// One thing on the way through a buffer.
#[derive(Debug)]
pub enum Seen {
    /// A record. Its first events may be below where the walk was to begin.
    Record(ReadRecord),
    /// Something that is not as it should be; [`What::Gap`] is what it costs.
    Finding(Finding),
}

/// A way through the records of a buffer, oldest first.
pub struct Walk<'a> {
    inspection: &'a Inspection,
    /// Those still to be opened.
    segments: &'a [Listed],
    at: Option<(&'a Listed, Scan)>,
    /// The next event that should come.
    expected_seq: u64,
    /// The last segment's.
    epoch: u64,
    found: VecDeque<Seen>,
}

impl Iterator for Walk<'_> {
    type Item = Seen;

    /// What comes next. What the device does not read is damage like any other.
    fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(seen) = self.found.pop_front() {
                return Some(seen);
            }
            if self.at.is_some() {
                self.step();
            } else if !self.open_next() {
                return None;
            }
        }
    }
}

impl<'a> Walk<'a> {
    /// Opens the next segment, or says why not; false where there is none.
    fn open_next(&mut self) -> bool {
        let Some((listed, rest)) = self.segments.split_first() else {
            let end_seq = self.inspection.end_seq;
            if self.expected_seq < end_seq {
                self.lose(end_seq, CURSOR, 0);
            }
            return !self.found.is_empty();
        };
        self.segments = rest;
        let opened = patiently(|| scan::open(&*self.inspection.directory, &listed.name));
        let (file, found) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.gone(listed, &error);
                return true;
            }
        };
        match self.judge(listed, found) {
            Ok((header, is_whole)) => {
                if !is_whole {
                    let bytes = HEADER_BYTES as u64;
                    self.note(listed, (0, bytes), What::HeaderCopyDamaged);
                }
                self.epoch = header.epoch;
                let mut scan = Scan::new(file, header);
                scan.limit_seq = rest.first().map_or(u64::MAX, |next| next.base_seq);
                self.at = Some((listed, scan));
            }
            Err(what) => self.note(listed, (0, listed.bytes), what),
        }
        true
    }

    fn judge(
        &self,
        listed: &Listed,
        found: Result<(SegmentHeader, bool), NoHeader>,
    ) -> Result<(SegmentHeader, bool), What> {
        let (header, is_whole) = found.map_err(What::of)?;
        match wrong(&header, listed, self.inspection.uuid) {
            Some(what) => Err(what),
            None if header.epoch < self.epoch => Err(What::Stale {
                epoch: header.epoch,
            }),
            None => Ok((header, is_whole)),
        }
    }

    /// A segment that cannot be opened. One that the owner deleted meanwhile was delivered.
    fn gone(&mut self, listed: &Listed, error: &io::Error) {
        if self.inspection.is_in_use && error.kind() == io::ErrorKind::NotFound {
            let next = self.segments.first();
            let next_seq = next.map_or(self.inspection.end_seq, |next| next.base_seq);
            self.expected_seq = self.expected_seq.max(next_seq);
            return;
        }
        let error = error.to_string();
        self.note(listed, (0, listed.bytes), What::Unreadable { error });
    }

    /// One item of the segment that is open.
    fn step(&mut self) {
        let Some((listed, scan)) = &mut self.at else {
            return;
        };
        let listed = *listed;
        let offset = scan.place().0;
        let item = match scan.next_patiently() {
            Ok(item) => item,
            Err(error) => {
                let error = error.to_string();
                let rest = listed.bytes.saturating_sub(offset);
                self.note(listed, (offset, rest), What::Unreadable { error });
                self.at = None;
                return self.end_of(listed, offset, 0);
            }
        };
        match item {
            Item::Data(data) if data.end_seq() > self.inspection.end_seq => self.end(),
            Item::Data(data) => {
                self.lose_to(data.first_seq, listed, offset);
                if data.end_seq() > self.expected_seq {
                    self.expected_seq = data.end_seq();
                    self.found.push_back(Seen::Record(ReadRecord {
                        first_seq: data.first_seq,
                        count: data.count,
                        payload: data.payload,
                        epoch: data.origin_epoch,
                    }));
                }
            }
            Item::Commit { end_seq, .. } => {
                self.lose_to(end_seq.min(self.inspection.end_seq), listed, offset);
            }
            Item::Skipped => {}
            Item::Damage(damage) => {
                let place = (damage.from, damage.to - damage.from);
                self.note(listed, place, What::Damaged);
            }
            Item::End { offset, torn_bytes } => {
                self.at = None;
                self.end_of(listed, offset, torn_bytes);
            }
        }
    }

    /// Where a segment has no more records.
    fn end_of(&mut self, listed: &Listed, offset: u64, torn_bytes: u64) {
        let next = self.segments.first().map(|next| next.base_seq);
        // The owner may be writing just there.
        let is_written = next.is_none() && self.inspection.is_in_use;
        if torn_bytes > 0 && !is_written {
            let what = match next {
                // What was cut off by a crash is given up by the next segment's base seq.
                Some(next_seq) if next_seq > self.expected_seq => What::Damaged,
                _ => What::TornTail,
            };
            self.note(listed, (offset, torn_bytes), what);
        }
        let end_seq = next.unwrap_or(self.inspection.end_seq);
        self.lose_to(end_seq.min(self.inspection.end_seq), listed, offset);
    }

    /// The rest is not to be shown.
    fn end(&mut self) {
        self.at = None;
        self.segments = &[];
        self.expected_seq = self.inspection.end_seq;
    }

    fn lose_to(&mut self, seq: u64, listed: &Listed, offset: u64) {
        if self.expected_seq < seq {
            self.lose(seq, &listed.name, offset);
        }
    }

    fn lose(&mut self, to_seq: u64, file: &str, offset: u64) {
        let what = What::Gap {
            from_seq: self.expected_seq,
            to_seq,
        };
        self.expected_seq = to_seq;
        self.found.push_back(Seen::Finding(Finding {
            file: file.to_owned(),
            offset,
            bytes: 0,
            what,
            quarantined: None,
        }));
    }

    fn note(&mut self, listed: &Listed, (offset, bytes): (u64, u64), what: What) {
        self.found.push_back(Seen::Finding(Finding {
            file: listed.name.clone(),
            offset,
            bytes,
            what,
            quarantined: None,
        }));
    }
}

#[cfg(test)]
mod tests;
