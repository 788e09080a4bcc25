//! The bytes of the disk buffer (docs/BUFFER_FORMAT.md, version 1): encoding and decoding.
//!
//! Pure: no files, no state. Whatever bytes come in, decoding answers or refuses; it never
//! panics. Nothing here decides what a refusal means; that depends on where the bytes stood.

use crate::time::WallTime;

/// Bytes of a segment's header; it stands twice.
pub(super) const HEADER_BYTES: usize = 64;
/// Where its second copy is: in another block of the device.
pub(super) const SECOND_HEADER_AT: usize = 4096;
/// Where the first record of a segment is.
pub(super) const RECORDS_AT: u64 = (SECOND_HEADER_AT + HEADER_BYTES) as u64;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Bytes of a commit record, header and payload.
pub(super) const COMMIT_BYTES: usize = RECORD_HEADER_BYTES + 24;
/// Bytes of a copied record's payload that say which epoch gave its events their numbers.
pub(super) const ORIGIN_BYTES: usize = 8;
/// Bytes of the cursor file.
pub(super) const CURSOR_BYTES: u64 = 2 * SLOT_STRIDE;
/// Where the second slot of the cursor is.
pub(super) const SLOT_STRIDE: u64 = 4096;
/// Bytes of a slot that are used.
pub(super) const SLOT_BYTES: usize = 64;
/// How every record begins; for finding the next one after damage.
pub(super) const RECORD_MAGIC: [u8; 4] = [0xA7, 0xD3, 0x5C, 0x9E];
/// The longest payload of a record, in bytes: a body of 16 MiB with what belongs to it.
pub const PAYLOAD_BYTES_MAX: usize = (16 << 20) + (64 << 10);

const SEGMENT_MAGIC: &[u8; 8] = b"MARLSEG1";
const CURSOR_MAGIC: &[u8; 8] = b"MARLCUR1";
const VERSION: u16 = 1;
const COPIED: u8 = 0x80;
const CLOSED: u32 = 4;

/// What its writer promised about a file, as it stands in the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nothing is synced.
    Os,
    /// Synced now and then.
    Interval,
    /// Synced before it was acknowledged.
    Commit,
}

impl Promise {
    fn of(flags: u32) -> Promise {
        match flags & 3 {
            2 => Promise::Commit,
            1 => Promise::Interval,
            _ => Promise::Os,
        }
    }
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub promise: Promise,
    /// The buffer it belongs to.
    pub uuid: [u8; 16],
    pub epoch: u64,
    /// The number of its first event.
    pub base_seq: u64,
    /// Nanoseconds since 1970; information only.
    pub made_nanos: u64,
}

/// Why a segment's header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Not the magic, or a checksum that is not right.
    Damaged,
    /// A header of another version.
    Version(u16),
}

impl SegmentHeader {
    /// The header of a segment that is made now; the marks are its epoch and its base seq.
    pub fn new(
        promise: Promise,
        uuid: [u8; 16],
        (epoch, base_seq): (u64, u64),
        now: WallTime,
    ) -> SegmentHeader {
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        SegmentHeader {
            promise,
            uuid,
            epoch,
            base_seq,
            made_nanos: micros.saturating_mul(1000),
        }
    }

    /// One copy of the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.promise as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.uuid);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base_seq.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.made_nanos.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Puts both copies at the head of a segment.
    pub fn put(&self, head: &mut [u8]) {
        let copy = self.encode();
        for at in [0, SECOND_HEADER_AT] {
            head[at..at + HEADER_BYTES].copy_from_slice(&copy);
        }
    }

    /// The header of a file that begins with `head`, and whether both copies are whole.
    pub fn find(head: &[u8]) -> Result<(SegmentHeader, bool), NoHeader> {
        let copy = |at: usize| match head.get(at..at + HEADER_BYTES) {
            Some(bytes) => SegmentHeader::decode(bytes),
            None => Err(NoHeader::Damaged),
        };
        match (copy(0), copy(SECOND_HEADER_AT)) {
            (Ok(first), second) => Ok((first, second == Ok(first))),
            (Err(NoHeader::Damaged), Ok(second)) => Ok((second, false)),
            (Err(NoHeader::Damaged), second) => second.map(|header| (header, false)),
            (version, _) => version.map(|header| (header, false)),
        }
    }

    fn decode(bytes: &[u8]) -> Result<SegmentHeader, NoHeader> {
        if &bytes[0..8] != SEGMENT_MAGIC || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(NoHeader::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(NoHeader::Version(version));
        }
        Ok(SegmentHeader {
            promise: Promise::of(u32_at(bytes, 12)),
            uuid: uuid_at(bytes, 16),
            epoch: u64_at(bytes, 32),
            base_seq: u64_at(bytes, 40),
            made_nanos: u64_at(bytes, 48),
        })
    }

    /// What the checksums of its records begin from.
    pub fn seed(&self) -> u32 {
        seed(&self.uuid, self.epoch)
    }
}

/// What the checksums of all records of one epoch of one buffer begin from.
pub(super) fn seed(uuid: &[u8; 16], epoch: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(uuid), &epoch.to_le_bytes())
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordType {
    /// Events.
    Data,
    /// The end of a group.
    Commit,
    /// Something of a later time; its length is known, so it is skipped.
    Other(u8),
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub payload_bytes: usize,
    pub first_seq: u64,
    /// Events in it.
    pub count: u32,
    pub kind: RecordType,
    /// Whether recovery copied it; then its payload begins with the epoch of its events.
    pub is_copied: bool,
    /// Whether the payload stands as it was given; this version knows no other.
    pub is_plain: bool,
    pub payload_crc: u32,
}

impl RecordHeader {
    /// The 32 bytes of it.
    pub fn encode(&self, seed: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..8].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20] = match self.kind {
            RecordType::Data => 1,
            RecordType::Commit => 3,
            RecordType::Other(number) => number,
        };
        bytes[21] = if self.is_copied { COPIED } else { 0 };
        bytes[24..28].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = header_crc(&bytes, seed);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if a whole and right one is there.
    pub fn decode(bytes: &[u8], seed: u32) -> Option<RecordHeader> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        let is_one = bytes[0..4] == RECORD_MAGIC && header_crc(bytes, seed) == u32_at(bytes, 28);
        let payload_bytes = u32_at(bytes, 4) as usize;
        if !is_one || payload_bytes > PAYLOAD_BYTES_MAX || bytes[22..24] != [0, 0] {
            return None;
        }
        let header = RecordHeader {
            payload_bytes,
            first_seq: u64_at(bytes, 8),
            count: u32_at(bytes, 16),
            kind: match bytes[20] {
                1 => RecordType::Data,
                3 => RecordType::Commit,
                number => RecordType::Other(number),
            },
            is_copied: bytes[21] & COPIED != 0,
            is_plain: bytes[21] & !COPIED == 0,
            payload_crc: u32_at(bytes, 24),
        };
        header.first_seq.checked_add(header.count.into())?;
        Some(header)
    }

    /// The first seq behind it.
    pub fn end_seq(&self) -> u64 {
        // Decoding and the writer refuse what would wrap.
        self.first_seq.saturating_add(self.count.into())
    }

    /// What it takes in a segment, in bytes.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.payload_bytes)
    }
}

/// What a record with this payload takes in a segment, in bytes.
pub(super) fn record_bytes(payload_bytes: usize) -> u64 {
    (RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)) as u64
}

fn header_crc(bytes: &[u8], seed: u32) -> u32 {
    #[cfg(sim_bug = "length_outside_checksum")]
    return crc32c::crc32c_append(crc32c::crc32c_append(seed, &bytes[..4]), &bytes[8..28]);
    #[cfg(not(sim_bug = "length_outside_checksum"))]
    crc32c::crc32c_append(seed, &bytes[..28])
}

/// The payload of a commit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// The first seq of the group that it ends.
    pub group_first_seq: u64,
    /// What the group takes before this record.
    pub group_bytes: u64,
    /// Everything below was durable before the group was written.
    pub durable_seq: u64,
}

impl Commit {
    /// Appends the record that ends a group; `end_seq` is the next event's number.
    pub fn encode(&self, end_seq: u64, seed: u32, out: &mut Vec<u8>) {
        let mut payload = [0; COMMIT_BYTES - RECORD_HEADER_BYTES];
        payload[0..8].copy_from_slice(&self.group_first_seq.to_le_bytes());
        payload[8..16].copy_from_slice(&self.group_bytes.to_le_bytes());
        payload[16..24].copy_from_slice(&self.durable_seq.to_le_bytes());
        let header = RecordHeader {
            payload_bytes: payload.len(),
            first_seq: end_seq,
            count: 0,
            kind: RecordType::Commit,
            is_copied: false,
            is_plain: true,
            payload_crc: crc32c::crc32c_append(seed, &payload),
        };
        out.extend_from_slice(&header.encode(seed));
        out.extend_from_slice(&payload);
    }

    /// The payload, where it is as long as one.
    pub fn decode(payload: &[u8]) -> Option<Commit> {
        (payload.len() == COMMIT_BYTES - RECORD_HEADER_BYTES).then(|| Commit {
            group_first_seq: u64_at(payload, 0),
            group_bytes: u64_at(payload, 8),
            durable_seq: u64_at(payload, 16),
        })
    }
}

/// Appends a data record. With `origin_epoch` it is a copy of one that had it.
pub(super) fn encode_data(
    record: &super::Record,
    origin_epoch: Option<u64>,
    seed: u32,
    out: &mut Vec<u8>,
) {
    let origin = origin_epoch.map(u64::to_le_bytes);
    let origin = origin.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    let payload_crc = crc32c::crc32c_append(seed, origin);
    let header = RecordHeader {
        payload_bytes: origin.len() + record.payload.len(),
        first_seq: record.first_seq,
        count: record.count,
        kind: RecordType::Data,
        is_copied: origin_epoch.is_some(),
        is_plain: true,
        payload_crc: crc32c::crc32c_append(payload_crc, &record.payload),
    };
    let end = out.len() + header.record_bytes() as usize;
    out.extend_from_slice(&header.encode(seed));
    out.extend_from_slice(origin);
    out.extend_from_slice(&record.payload);
    out.resize(end, 0);
}

/// One slot of the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Grows by one with each writing.
    pub generation: u64,
    pub uuid: [u8; 16],
    pub epoch: u64,
    /// Everything below is delivered and may go.
    pub acked_seq: u64,
    /// Everything below was durable when this was written.
    pub durable_seq: u64,
    pub promise: Promise,
    /// Whether nothing at or above `acked_seq` was ever delivered.
    pub is_closed: bool,
}

impl Slot {
    /// The used bytes of the slot.
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..8].copy_from_slice(CURSOR_MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.uuid);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.acked_seq.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.durable_seq.to_le_bytes());
        let flags = self.promise as u32 | if self.is_closed { CLOSED } else { 0 };
        bytes[56..60].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The slot at the start of `bytes`, if a whole and right one is there.
    pub fn decode(bytes: &[u8]) -> Option<Slot> {
        let bytes = bytes.get(..SLOT_BYTES)?;
        let is_one =
            &bytes[0..8] == CURSOR_MAGIC && crc32c::crc32c(&bytes[..60]) == u32_at(bytes, 60);
        let slot = Slot {
            generation: u64_at(bytes, 8),
            uuid: uuid_at(bytes, 16),
            epoch: u64_at(bytes, 32),
            acked_seq: u64_at(bytes, 40),
            durable_seq: u64_at(bytes, 48),
            promise: Promise::of(u32_at(bytes, 56)),
            is_closed: u32_at(bytes, 56) & CLOSED != 0,
        };
        is_one.then_some(slot)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn uuid_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes[at..at + 16]);
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const HEADER: SegmentHeader = SegmentHeader {
        promise: Promise::Commit,
        uuid: [7; 16],
        epoch: 3,
        base_seq: 1000,
        made_nanos: 5,
    };

    #[test]
    fn a_header_reads_back_and_one_copy_is_enough() {
        let mut twice = vec![0; RECORDS_AT as usize];
        HEADER.put(&mut twice);
        assert_eq!(SegmentHeader::find(&twice), Ok((HEADER, true)));
        for bit in 0..HEADER_BYTES * 8 {
            twice[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::find(&twice), Ok((HEADER, false)), "{bit}");
            twice[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..HEADER_BYTES {
            let found = SegmentHeader::find(&twice[..length]);
            assert_eq!(found, Err(NoHeader::Damaged));
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut later = HEADER.encode();
        later[8] = 2;
        let crc = crc32c::crc32c(&later[..60]);
        later[60..].copy_from_slice(&crc.to_le_bytes());
        let found = SegmentHeader::find(&later);
        assert_eq!(found, Err(NoHeader::Version(2)));
    }

    #[test]
    fn every_bit_of_a_record_is_under_a_checksum_that_the_epoch_seeds() {
        let record = super::super::Record {
            first_seq: 9,
            count: 2,
            payload: Bytes::from_static(b"thirteen byte"),
        };
        let (seed, mut bytes) = (HEADER.seed(), Vec::new());
        encode_data(&record, Some(4), seed, &mut bytes);
        assert_eq!(bytes.len() as u64, record_bytes(ORIGIN_BYTES + 13));
        let whole = |bytes: &[u8], seed| {
            let header = RecordHeader::decode(bytes, seed)?;
            let payload = bytes.get(32..32 + header.payload_bytes)?;
            (crc32c::crc32c_append(seed, payload) == header.payload_crc).then_some(header)
        };
        let header = whole(&bytes, seed).unwrap();
        assert!(header.is_copied && header.is_plain && header.end_seq() == 11);
        let other = SegmentHeader { epoch: 4, ..HEADER };
        assert_eq!(RecordHeader::decode(&bytes, other.seed()), None);
        for bit in 0..(32 + ORIGIN_BYTES + 13) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(whole(&bytes, seed), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn f_062_a_record_that_would_pass_the_last_number_is_none() {
        let mut header = RecordHeader {
            payload_bytes: 0,
            first_seq: u64::MAX - 2,
            count: 2,
            kind: RecordType::Data,
            is_copied: false,
            is_plain: true,
            payload_crc: 0,
        };
        assert!(RecordHeader::decode(&header.encode(1), 1).is_some());
        header.count = 3;
        assert_eq!(RecordHeader::decode(&header.encode(1), 1), None);
    }

    #[test]
    fn a_slot_reads_back_and_no_damaged_one_passes() {
        let slot = Slot {
            generation: 8,
            uuid: [9; 16],
            epoch: 2,
            acked_seq: 5,
            durable_seq: 6,
            promise: Promise::Interval,
            is_closed: true,
        };
        let mut bytes = slot.encode();
        assert_eq!(Slot::decode(&bytes), Some(slot));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
