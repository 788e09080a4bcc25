//! Going through one segment, record by record, over whatever its bytes are.
//!
//! A [`Scan`] answers one [`Item`] at a time. Damage is an item like any other, and what comes
//! after it is found again by the record's magic and both checksums. Each step goes forward by 8
//! bytes or more, or answers [`Item::End`], so every walk is bounded by the file's length. The
//! only errors are those of the device; then nothing has moved and the same step can be tried
//! again. Bytes are read in windows; payloads are slices of them, not copies.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::format::{
    Commit, NoHeader, ORIGIN_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RECORDS_AT, RecordHeader,
    RecordType, SegmentHeader, u64_at,
};
use crate::buffer::storage::{Directory, File, Open};

/// What stands at some place of a segment.
#[derive(Debug)]
pub(super) enum Item {
    /// A record of events.
    Data(DataItem),
    /// The end of a group.
    Commit {
        /// The next event's number.
        end_seq: u64,
        commit: Commit,
    },
    /// A record of a kind that is not known here.
    Skipped,
    /// Bytes that are no valid record.
    Damage(Damage),
    /// No valid record from here on.
    End {
        /// Where.
        offset: u64,
        /// How many bytes from there to the last that is not zero; 0 is a proper end.
        torn_bytes: u64,
    },
}

/// A record of events.
#[derive(Debug)]
pub(super) struct DataItem {
    pub first_seq: u64,
    pub count: u32,
    /// Without the origin of a copied one.
    pub payload: Bytes,
    /// The epoch that gave its events their numbers.
    pub origin_epoch: u64,
}

impl DataItem {
    /// The first seq behind it.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub from: u64,
    pub to: u64,
}

/// A walk through a segment.
pub(super) struct Scan {
    pub file: Arc<dyn File>,
    pub header: SegmentHeader,
    /// Records that begin at this seq or above do not count; the next segment has them.
    pub limit_seq: u64,
    seed: u32,
    /// Where the next step looks.
    offset: u64,
    /// The smallest seq that the next record can have.
    expected_seq: u64,
    window: Window,
}

/// Opens the segment `name` and reads its header; says whether both copies are whole.
pub(super) fn open(
    directory: &dyn Directory,
    name: &str,
) -> io::Result<(Arc<dyn File>, Result<(SegmentHeader, bool), NoHeader>)> {
    let file = directory.open(name, Open::Read)?;
    let mut head = vec![0; RECORDS_AT as usize];
    let count = read_full(&*file, &mut head, 0)?;
    let found = SegmentHeader::find(&head[..count]);
    Ok((file, found))
}

impl Scan {
    /// A walk from the first record.
    pub fn new(file: Arc<dyn File>, header: SegmentHeader) -> Scan {
        let file_bytes = file.metadata().map_or(u64::MAX, |metadata| metadata.bytes);
        Scan {
            window: Window::new(usize::try_from(file_bytes).unwrap_or(usize::MAX)),
            file,
            limit_seq: u64::MAX,
            seed: header.seed(),
            offset: RECORDS_AT,
            expected_seq: header.base_seq,
            header,
        }
    }

    /// Where the next step looks, and which seq it expects there.
    pub fn place(&self) -> (u64, u64) {
        (self.offset, self.expected_seq)
    }

    /// Goes to a place that [`Scan::place`] answered before.
    pub fn go_to(&mut self, (offset, expected_seq): (u64, u64)) {
        self.offset = offset;
        self.expected_seq = expected_seq;
    }

    /// Forgets what was read ahead: the file may have grown since.
    pub fn refresh(&mut self) {
        self.window.forget();
    }

    /// Goes over the place here, which could not be read, as over damage, to one that can be.
    ///
    /// # Errors
    /// Nothing behind it can be read either: then it is not this place that is broken, but the
    /// device, and what is on it may come back.
    pub fn skip(&mut self, error: io::Error) -> io::Result<Damage> {
        let from = self.offset;
        let to = readable_behind(&*self.file, from, error)?;
        self.offset = to;
        Ok(Damage { from, to })
    }

    /// The next item, tried as often as is sensible; a place that cannot be read is damage.
    pub fn next_patiently(&mut self) -> io::Result<Item> {
        match patiently(|| self.next()) {
            Err(error) if is_unreadable(&error) => self.skip(error).map(Item::Damage),
            other => other,
        }
    }

    /// The next item. After `End` the walk stays where it is.
    pub fn next(&mut self) -> io::Result<Item> {
        let head = self
            .window
            .at(&*self.file, self.offset, RECORD_HEADER_BYTES)?;
        match RecordHeader::decode(&head, self.seed) {
            Some(header) if header.first_seq >= self.limit_seq => Ok(Item::End {
                offset: self.offset,
                torn_bytes: 0,
            }),
            Some(header) if self.can_follow(&header) => self.record(header),
            _ => self.search(),
        }
    }

    fn can_follow(&self, header: &RecordHeader) -> bool {
        header.first_seq >= self.expected_seq && header.first_seq < self.limit_seq
    }

    /// The item of the valid header here; the length in it can be trusted.
    fn record(&mut self, header: RecordHeader) -> io::Result<Item> {
        let payload_at = self.offset + RECORD_HEADER_BYTES as u64;
        let payload = self
            .window
            .at(&*self.file, payload_at, header.payload_bytes)?;
        let is_whole = payload.len() == header.payload_bytes
            && crc32c::crc32c_append(self.seed, &payload) == header.payload_crc;
        let from = self.offset;
        self.offset += header.record_bytes();
        match is_whole.then(|| self.item(&header, payload)).flatten() {
            Some(item) => {
                self.expected_seq = header.end_seq();
                Ok(item)
            }
            None => Ok(Item::Damage(Damage {
                from,
                to: self.offset,
            })),
        }
    }

    /// What a record with right checksums is; none where this version cannot tell.
    fn item(&self, header: &RecordHeader, mut payload: Bytes) -> Option<Item> {
        match header.kind {
            RecordType::Data if !header.is_plain || header.count == 0 => None,
            RecordType::Data => {
                let mut origin_epoch = self.header.epoch;
                if header.is_copied {
                    let origin = payload.get(..ORIGIN_BYTES)?;
                    origin_epoch = u64_at(origin, 0);
                    payload = payload.slice(ORIGIN_BYTES..);
                }
                Some(Item::Data(DataItem {
                    first_seq: header.first_seq,
                    count: header.count,
                    payload,
                    origin_epoch,
                }))
            }
            RecordType::Commit => Some(Item::Commit {
                end_seq: header.first_seq,
                commit: Commit::decode(&payload)?,
            }),
            RecordType::Other(_) if header.count == 0 => Some(Item::Skipped),
            RecordType::Other(_) => None,
        }
    }

    /// From a place where no valid record is: the damage up to the next one, or the end.
    fn search(&mut self) -> io::Result<Item> {
        let from = self.offset;
        let (mut at, mut torn_to) = (from, from);
        loop {
            let chunk = self.window.at(&*self.file, at, WINDOW_BYTES_MIN)?;
            if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
                torn_to = at + last as u64 + 1;
            }
            let first = usize::from(at == from) * 8;
            let magics =
                memchr::memmem::find_iter(chunk.get(first..).unwrap_or(&[]), &RECORD_MAGIC);
            let places: Vec<u64> = magics
                .map(|found| at + (first + found) as u64)
                .filter(|place| place % 8 == 0)
                .collect();
            for place in places {
                let head = self.window.at(&*self.file, place, RECORD_HEADER_BYTES)?;
                let header = RecordHeader::decode(&head, self.seed);
                if header.is_some_and(|header| self.can_follow(&header)) {
                    self.offset = place;
                    return Ok(Item::Damage(Damage { from, to: place }));
                }
            }
            if chunk.len() < WINDOW_BYTES_MIN {
                return Ok(Item::End {
                    offset: from,
                    torn_bytes: torn_to - from,
                });
            }
            at += chunk.len() as u64;
        }
    }
}

/// A stretch of a file that was read at once.
struct Window {
    read_bytes: usize,
    at: u64,
    bytes: Bytes,
}

impl Window {
    fn new(file_bytes: usize) -> Window {
        Window {
            read_bytes: file_bytes.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES),
            at: 0,
            bytes: Bytes::new(),
        }
    }

    fn forget(&mut self) {
        self.bytes = Bytes::new();
    }

    /// `length` bytes from `offset` on; fewer where the file ends.
    fn at(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.held(offset, length) {
            return Ok(bytes);
        }
        let mut buffer = vec![0; length.max(self.read_bytes)];
        let count = read_full(file, &mut buffer, offset)?;
        buffer.truncate(count);
        self.at = offset;
        self.bytes = buffer.into();
        Ok(self.bytes.slice(..length.min(count)))
    }

    fn held(&self, offset: u64, length: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.at)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

/// Where behind `from`, which could not be read, the file can be read again.
///
/// # Errors
/// Nowhere.
pub(super) fn readable_behind(file: &dyn File, from: u64, error: io::Error) -> io::Result<u64> {
    let file_bytes = file.metadata()?.bytes;
    let block = from / UNREADABLE_BYTES * UNREADABLE_BYTES;
    let mut bytes = UNREADABLE_BYTES;
    loop {
        let to = block.saturating_add(bytes);
        if to >= file_bytes {
            return Err(error);
        }
        match file.read_at(&mut [0], to) {
            Ok(_) => return Ok(to),
            Err(error) if is_unreadable(&error) => bytes = bytes.saturating_mul(2),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the device could not read something, as opposed to anything else that went wrong.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

/// Tries to read something as often as is sensible.
pub(super) fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..READ_ATTEMPTS {
        match read() {
            Err(error) if is_unreadable(&error) => {}
            other => return other,
        }
    }
    read()
}

/// Reads until the buffer is full or the file ends; answers how much.
pub(super) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// The least that is read at once, in bytes. A multiple of 8, so that no magic is cut in two.
pub(super) const WINDOW_BYTES_MIN: usize = 64 << 10;

/// What is read at once by who reads on and on, in bytes.
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// How often one place is tried to be read before it counts as damaged.
pub(super) const READ_ATTEMPTS: u32 = 8;

/// What is given up at once where nothing can be read, in bytes: the block of a device.
pub(super) const UNREADABLE_BYTES: u64 = 4096;
