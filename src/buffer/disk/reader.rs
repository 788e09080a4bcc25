//! The reader: records in order, below the mark that the writer answered, whatever the disk holds.
//!
//! It never reads at or above that mark: what is not durable may vanish in a crash, and its
//! numbers then go to other events. What cannot be read becomes a [`Gap`], exactly once for one
//! who reads on; a call answers records or gaps, or an error of the device, and never nothing
//! while there is something below the mark. An error is worth trying again; a place that fails
//! [`READ_ATTEMPTS`] times running counts as damaged.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::finding::{Finding, What};
use super::format::{NoHeader, Promise};
use super::quarantine;
use super::scan::{self, Damage, DataItem, Item, READ_ATTEMPTS, Scan, is_unreadable};
use super::shared::{Entry, Shared, segment_name};
use crate::buffer::storage::Open;

/// Reads one buffer.
pub struct Reader {
    shared: Arc<Shared>,
    at: Option<At>,
    /// The base seq and the epoch of the furthest segment that was opened.
    furthest: (u64, u64),
    failing: Failing,
}

/// The segment that is being read.
struct At {
    entry: Entry,
    scan: Scan,
    /// Places to go back to, with the seq that is expected there, a [`MARK_BYTES`] apart.
    marks: Vec<(u64, u64)>,
    /// What could not be read since the last valid record.
    damage: Option<Damage>,
}

/// A place that cannot be read.
#[derive(Default)]
struct Failing {
    /// The segment's id and the offset in it.
    place: (u64, u64),
    attempts: u32,
}

/// What a read came to.
#[derive(Debug, Default)]
pub struct ReadOutcome {
    /// The records, in order.
    pub records: Vec<ReadRecord>,
    /// Numbers that are lost, in order; none of them is in `records`.
    pub gaps: Vec<Gap>,
    /// Files that were not as they should be, for the log.
    pub findings: Vec<Finding>,
    /// Where to read on.
    pub next_seq: u64,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// The number of its first event. It may be below where reading was to begin.
    pub first_seq: u64,
    /// How many events it has.
    pub count: u32,
    /// The events. It holds the chunk that it is a slice of, at most 1 MiB or its own size.
    pub payload: Bytes,
    /// The epoch that gave the events their numbers: uuid, this and a number name an event
    /// for ever.
    pub epoch: u64,
}

/// Events that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from_seq: u64,
    /// The first behind them.
    pub to_seq: u64,
    /// Where their bytes are kept, if there were any and there was room.
    pub quarantined: Option<String>,
    /// Whether they are known to have been durable once, so that somebody was promised them.
    pub acked_data_damaged: bool,
}

/// What one call is to come to.
struct Asked {
    /// Nothing at or above it.
    until_seq: u64,
    /// What may still be read, in bytes; none when there is enough.
    room: Option<usize>,
}

/// What became of one step of reading.
enum Step {
    /// The next one may do more.
    On,
    /// There is enough for this call.
    Enough,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Reader {
        Reader {
            shared,
            at: None,
            furthest: (0, 0),
            failing: Failing::default(),
        }
    }

    /// Records from `from_seq` on, below `until_seq`, which is a mark of the writer's: at most
    /// `bytes_max` of payload, but at least one record or gap where there is any. What
    /// was given up meanwhile ([`super::Keeper::evict`]) is passed over and is no gap.
    ///
    /// # Errors
    /// The device's. Nothing has moved; the same call can be made again.
    pub fn read(
        &mut self,
        from_seq: u64,
        until_seq: u64,
        bytes_max: usize,
    ) -> io::Result<ReadOutcome> {
        let mut out = ReadOutcome {
            next_seq: from_seq,
            ..ReadOutcome::default()
        };
        if let Some(at) = &mut self.at {
            at.scan.refresh();
        }
        let mut asked = Asked {
            until_seq,
            room: Some(bytes_max),
        };
        loop {
            let released_seq = self.shared.table().released_seq;
            out.next_seq = out.next_seq.max(released_seq);
            if out.next_seq >= until_seq {
                return Ok(out);
            }
            match self.step(&mut asked, &mut out) {
                Ok(Step::On) => {}
                Ok(Step::Enough) => return Ok(out),
                // It comes again at the next call; what was read is not read twice.
                Err(_) if !out.records.is_empty() || !out.gaps.is_empty() => return Ok(out),
                Err(error) => return Err(error),
            }
        }
    }

    fn step(&mut self, asked: &mut Asked, out: &mut ReadOutcome) -> io::Result<Step> {
        let until_seq = asked.until_seq;
        let (entry, successor) = self.shared.table().holding(out.next_seq);
        let end_seq = successor.map_or(until_seq, |seq| seq.min(until_seq));
        let Some(entry) = entry else {
            let is_promised = self.shared.settings().promise() == Promise::Commit;
            out.lose(end_seq, None, is_promised);
            return Ok(Step::On);
        };
        if !self.is_at(&entry, out.next_seq) && !self.go(entry, successor, end_seq, out)? {
            return Ok(Step::On);
        }
        let Some(at) = &mut self.at else {
            return Ok(Step::On);
        };
        at.scan.limit_seq = successor.unwrap_or(u64::MAX);
        let place = at.scan.place();
        match at.scan.next() {
            Ok(item) => {
                self.failing.attempts = 0;
                Ok(self.take((item, place), end_seq, asked, out))
            }
            Err(error) => {
                let error = self.failing.note((at.entry.id, place.0), error)?;
                let damage = at.scan.skip(error)?;
                at.note(damage);
                Ok(Step::On)
            }
        }
    }

    fn is_at(&self, entry: &Entry, next_seq: u64) -> bool {
        let is_before = |at: &At| at.entry.id == entry.id && at.scan.place().1 <= next_seq;
        self.at.as_ref().is_some_and(is_before)
    }

    /// Takes one item of the segment.
    fn take(
        &mut self,
        (item, place): (Item, (u64, u64)),
        end_seq: u64,
        asked: &mut Asked,
        out: &mut ReadOutcome,
    ) -> Step {
        let Some(at) = &mut self.at else {
            return Step::On;
        };
        match item {
            Item::Data(data) => at.take(&self.shared, (data, place), asked, out),
            Item::Commit { end_seq: seq, .. } => {
                if seq > out.next_seq {
                    at.lose(&self.shared, seq.min(asked.until_seq), out);
                }
                at.damage = None;
                Step::On
            }
            Item::Skipped => Step::On,
            Item::Damage(damage) => {
                at.note(damage);
                Step::On
            }
            Item::End { offset, torn_bytes } => {
                if torn_bytes > 0 {
                    at.note(Damage {
                        from: offset,
                        to: offset + torn_bytes,
                    });
                }
                at.lose_to_end(&self.shared, end_seq, out);
                Step::On
            }
        }
    }

    /// Opens the segment that has `out.next_seq`, or goes back in it. `false`: there is nothing
    /// to be read of it, which `out` says.
    fn go(
        &mut self,
        entry: Entry,
        successor: Option<u64>,
        end_seq: u64,
        out: &mut ReadOutcome,
    ) -> io::Result<bool> {
        if let Some(at) = self.at.as_mut().filter(|at| at.entry.id == entry.id) {
            at.go_back(out.next_seq);
            return Ok(true);
        }
        self.at = None;
        let name = segment_name(entry.base_seq);
        let opened = scan::open(&*self.shared.directory, &name);
        let (file, found) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.cannot_open(entry, &name, error, out)?;
                return Ok(false);
            }
        };
        match self.judge(&entry, found) {
            Ok((header, is_whole)) => {
                if !is_whole {
                    let bytes = super::format::HEADER_BYTES as u64;
                    let what = What::HeaderCopyDamaged;
                    out.findings.push(Finding::whole(name, bytes, what));
                }
                self.furthest = self.furthest.max((entry.base_seq, header.epoch));
                if let Some(seq) = successor.filter(|_| header.promise == Promise::Commit) {
                    let mut table = self.shared.table();
                    table.change(entry.id, |entry| entry.proven_seq = seq);
                }
                self.at = Some(At::new(entry, Scan::new(file, header)));
                Ok(true)
            }
            Err(what) => {
                self.set_aside(entry, name, what, end_seq, out);
                Ok(false)
            }
        }
    }

    /// Whether the header is that of the segment.
    fn judge(
        &self,
        entry: &Entry,
        found: Result<(super::format::SegmentHeader, bool), NoHeader>,
    ) -> Result<(super::format::SegmentHeader, bool), What> {
        let (header, is_whole) = found.map_err(What::of)?;
        let (base_seq, epoch) = self.furthest;
        if header.uuid != self.shared.uuid {
            return Err(What::Foreign);
        }
        if header.base_seq != entry.base_seq {
            let base_seq = header.base_seq;
            return Err(What::Misnamed { base_seq });
        }
        if entry.base_seq > base_seq && header.epoch < epoch {
            let epoch = header.epoch;
            return Err(What::Stale { epoch });
        }
        Ok((header, is_whole))
    }

    /// A segment that cannot be opened: deleted meanwhile, or missing, or in the way.
    fn cannot_open(
        &mut self,
        entry: Entry,
        name: &str,
        error: io::Error,
        out: &mut ReadOutcome,
    ) -> io::Result<()> {
        let is_there = |other: &Entry| other.id == entry.id;
        if !self.shared.table().segments().iter().any(is_there) {
            return Ok(());
        }
        let text = error.to_string();
        if error.kind() != io::ErrorKind::NotFound {
            let error = self.failing.note((entry.id, u64::MAX), error)?;
            let file = self.shared.directory.open(name, Open::Read)?;
            scan::readable_behind(&*file, 0, error)?;
        }
        self.shared.table().remove(entry.id);
        let what = What::Unreadable { error: text };
        out.findings
            .push(Finding::whole(name.to_owned(), entry.bytes, what));
        Ok(())
    }

    /// A file that is not the segment it should be: it leaves the log.
    fn set_aside(
        &mut self,
        entry: Entry,
        name: String,
        what: What,
        end_seq: u64,
        out: &mut ReadOutcome,
    ) {
        let room = quarantine::room(&self.shared);
        let directory = &*self.shared.directory;
        let quarantined = if matches!(what, What::Version { .. }) {
            // A later program's: it stays where that program looks for it.
            None
        } else {
            // Where it cannot be moved it stays, and is found again at the next start.
            quarantine::take(directory, room, &name, entry.bytes, &what).unwrap_or(None)
        };
        self.shared.table().remove(entry.id);
        let is_promised = self.shared.settings().promise() == Promise::Commit;
        out.lose(end_seq, quarantined.clone(), is_promised);
        out.findings.push(Finding {
            quarantined,
            ..Finding::whole(name, entry.bytes, what)
        });
    }
}

impl At {
    fn new(entry: Entry, scan: Scan) -> At {
        At {
            entry,
            marks: vec![scan.place()],
            scan,
            damage: None,
        }
    }

    /// Takes one record, which was found at `place`.
    fn take(
        &mut self,
        shared: &Shared,
        (data, place): (DataItem, (u64, u64)),
        asked: &mut Asked,
        out: &mut ReadOutcome,
    ) -> Step {
        self.mark(place);
        if data.first_seq > out.next_seq {
            self.lose(shared, data.first_seq.min(asked.until_seq), out);
        }
        if data.end_seq() <= out.next_seq {
            self.damage = None;
            return Step::On;
        }
        let left = asked
            .room
            .and_then(|room| room.checked_sub(data.payload.len()));
        let is_too_much = left.is_none() && !out.records.is_empty();
        if data.end_seq() > asked.until_seq || is_too_much {
            self.scan.go_to(place);
            return Step::Enough;
        }
        self.damage = None;
        asked.room = left;
        out.next_seq = data.end_seq();
        out.records.push(ReadRecord {
            first_seq: data.first_seq,
            count: data.count,
            payload: data.payload,
            epoch: data.origin_epoch,
        });
        if left.is_some() {
            Step::On
        } else {
            Step::Enough
        }
    }

    fn mark(&mut self, place: (u64, u64)) {
        let last = self.marks.last().map_or(0, |mark| mark.0);
        if place.0 >= last + MARK_BYTES {
            self.marks.push(place);
        }
    }

    fn go_back(&mut self, seq: u64) {
        let marks = self.marks.iter().rev();
        let mark = marks.copied().find(|mark| mark.1 <= seq);
        self.scan.go_to(mark.unwrap_or(self.marks[0]));
        self.damage = None;
    }

    /// Some more bytes that are no record.
    fn note(&mut self, damage: Damage) {
        let before = self.damage.unwrap_or(damage);
        self.damage = Some(Damage {
            from: before.from.min(damage.from),
            to: before.to.max(damage.to),
        });
    }

    /// Before a valid record: what is between is lost. With no damage between, an earlier
    /// recovery knew of it.
    fn lose(&self, shared: &Shared, to_seq: u64, out: &mut ReadOutcome) {
        let quarantined = self.keep_damage(shared, to_seq, out.next_seq);
        let is_promised = self.damage.is_some() && to_seq <= self.proven_seq(shared);
        out.lose(to_seq, quarantined, is_promised);
    }

    /// Behind the last valid record: what should be there is lost.
    fn lose_to_end(&mut self, shared: &Shared, to_seq: u64, out: &mut ReadOutcome) {
        let quarantined = self.keep_damage(shared, to_seq, out.next_seq);
        let is_promised = to_seq <= self.proven_seq(shared);
        out.lose(to_seq, quarantined, is_promised);
        self.damage = None;
    }

    fn keep_damage(&self, shared: &Shared, to_seq: u64, from_seq: u64) -> Option<String> {
        let (file, base_seq) = (&*self.scan.file, self.entry.base_seq);
        let damage = self.damage?;
        quarantine::copy(shared, file, base_seq, damage, (from_seq, to_seq))
    }

    fn proven_seq(&self, shared: &Shared) -> u64 {
        let table = shared.table();
        let segments = table.segments().iter();
        let mut own = segments.filter(|entry| entry.id == self.entry.id);
        own.next().map_or(0, |entry| entry.proven_seq)
    }
}

impl Failing {
    /// One more failure at `place`, answered when there were enough of them.
    ///
    /// # Errors
    /// The same, while it is worth trying again.
    fn note(&mut self, place: (u64, u64), error: io::Error) -> io::Result<io::Error> {
        if self.place != place {
            self.attempts = 0;
        }
        self.place = place;
        self.attempts += 1;
        if self.attempts < READ_ATTEMPTS || !is_unreadable(&error) {
            return Err(error);
        }
        self.attempts = 0;
        Ok(error)
    }
}

impl ReadOutcome {
    fn lose(&mut self, to_seq: u64, quarantined: Option<String>, acked_data_damaged: bool) {
        if to_seq > self.next_seq {
            self.gaps.push(Gap {
                from_seq: self.next_seq,
                to_seq,
                quarantined,
                acked_data_damaged,
            });
            self.next_seq = to_seq;
        }
    }
}

impl What {
    /// What a missing header makes of a segment.
    pub(super) fn of(found: NoHeader) -> What {
        match found {
            NoHeader::Damaged => What::NoHeader,
            NoHeader::Version(version) => What::Version { version },
        }
    }
}

/// How far apart the places are that can be gone back to, in bytes.
const MARK_BYTES: u64 = 1 << 20;
