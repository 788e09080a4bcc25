//! What a bit that has turned on the disk may cost: exactly the lines whose bytes it is among.
//!
//! Of a disk buffer that is the record which it is in, header or payload (docs/BUFFER_FORMAT.md),
//! and nothing where it is in a commit record, a segment's header, the cursor or what is reserved.
//! The records are found here by their headers alone, with nothing of the code under test. Of a
//! file sink it is the line; and the next one too, where the bit was in the newline between them.

use std::collections::BTreeSet;

use marline::sim::Flipped;

use super::Lives;
use super::poster::parse;

/// The lines of one sink that turned bits may have cost.
#[derive(Default)]
pub struct Stake {
    /// Those of records in its disk buffer.
    pub records: BTreeSet<(usize, usize)>,
    /// Those of its files.
    pub lines: BTreeSet<(usize, usize)>,
}

impl Stake {
    pub fn of(lives: &Lives, name: &str) -> Stake {
        let (buffer, file) = (format!("/state/buffer/{name}/"), format!("/{name}.log"));
        let mut stake = Stake::default();
        for flipped in lives.outside.storage.flipped() {
            if flipped.path.starts_with(&buffer) && flipped.path.ends_with(".seg") {
                let payload = payload_of(&flipped.before, flipped.bit / 8);
                stake.records.extend(lines_in(lives, payload));
            } else if flipped.path.contains(&file) {
                stake.lines.extend(lines_at(&flipped));
            }
        }
        stake
    }
}

/// Where the first record of a segment is.
const RECORDS_AT: usize = 4160;
/// Bytes of a record's header, and how it begins.
const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 4] = [0xA7, 0xD3, 0x5C, 0x9E];

/// The payload of the record that the byte belongs to; nothing where there is none.
fn payload_of(segment: &[u8], byte: usize) -> &[u8] {
    let mut at = RECORDS_AT;
    while let Some(header) = segment.get(at..at + HEADER_BYTES) {
        let length = header[4..8].iter().rev();
        let length = length.fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let payload = segment.get(at + HEADER_BYTES..at + HEADER_BYTES + length);
        match payload.filter(|_| header.starts_with(&MAGIC)) {
            Some(payload) if byte < at + HEADER_BYTES + length => {
                return if byte < at { &[] } else { payload };
            }
            Some(_) => at += HEADER_BYTES + length.next_multiple_of(8),
            None => at += 8,
        }
    }
    &[]
}

fn lines_in(lives: &Lives, payload: &[u8]) -> BTreeSet<(usize, usize)> {
    let posters = lives.posters.iter();
    let lines = posters.flat_map(|poster| poster.plan.requests.iter().flatten());
    let there = lines.filter(|line| memchr::memmem::find(payload, line).is_some());
    there.filter_map(|line| parse(line)).collect()
}

/// The line that the byte is in, and the next one where it is the newline between them.
fn lines_at(flipped: &Flipped) -> BTreeSet<(usize, usize)> {
    let byte = flipped.bit / 8;
    let mut end = 0;
    let lines = flipped.before.split_inclusive(|it| *it == b'\n');
    let hit = lines.filter(|line| {
        let start = end;
        end += line.len();
        let is_behind_newline = start == byte + 1;
        (start..end).contains(&byte) || is_behind_newline
    });
    let hit = hit.map(|line| line.strip_suffix(b"\n").unwrap_or(line));
    hit.filter_map(parse).collect()
}
