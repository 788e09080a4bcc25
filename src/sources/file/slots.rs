//! The form of a checkpoint file: a header, then a slot for each file, each kept twice.
//!
//! ```text
//! 0    64 bytes  "marline file checkpoints 1\n", filled up with NUL
//! 64   slot 0: copy A, copy B, 64 bytes each      192  slot 1: …
//!
//! copy: sequence u64 | device u64 | inode u64 | offset u64 | head crc u32 | before crc u32 |
//!       head len u16 | before len u16 | flags u16 | 0 u16 | seen u32 | 0 u32 | 0 u32 | crc u32
//! ```
//!
//! Numbers are little endian; the last crc is CRC-32C of the 60 bytes before it. A copy of
//! zeros is free. The n-th writing of a slot goes to copy n mod 2, so a write that is cut off
//! leaves the one before it. Of two good copies the one with the greater sequence counts; of a
//! slot with a damaged copy the other one: the file is then read again from an earlier place,
//! or from its beginning where both are damaged. Nothing is lost by that, only repeated; but
//! with `start = "end"` a file of which nothing is left is begun at its end.

use crate::buffer::storage::Inode;

use super::position::{Position, Print, Remembered};

/// The length of a copy.
pub const COPY_BYTES: usize = 64;
/// The length of the header.
pub const HEADER_BYTES: usize = 64;
const MAGIC: &[u8] = b"marline file checkpoints 1\n";
const IS_INSIDE: u16 = 1;
const IS_DONE: u16 = 2;

/// What a checkpoint file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What is remembered, each with the sequence of its last writing.
    pub entries: Vec<(u64, Remembered)>,
    /// Slots of which nothing can be read.
    pub lost: u64,
    /// Slots of which one copy cannot be read.
    pub damaged: u64,
}

/// The header of a new file.
pub fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header
}

/// Where copy `sequence` of slot `slot` is in the file.
pub fn offset_of(slot: usize, sequence: u64) -> u64 {
    let copy = (sequence & 1) as usize;
    (HEADER_BYTES + (slot * 2 + copy) * COPY_BYTES) as u64
}

/// Reads a whole checkpoint file; `None` where it is none of this form.
pub fn parse(bytes: &[u8]) -> Option<Parsed> {
    let slots = bytes.strip_prefix(&header())?;
    let mut parsed = Parsed::default();
    for slot in slots.chunks(2 * COPY_BYTES) {
        let mut copies = slot.chunks(COPY_BYTES).map(decode);
        let (a, b) = (copies.next(), copies.next());
        let (a, b) = (a.unwrap_or(Copy::Free), b.unwrap_or(Copy::Free));
        let is_damaged = a == Copy::Damaged || b == Copy::Damaged;
        let good = [a, b].into_iter().filter_map(|copy| match copy {
            Copy::Good(sequence, remembered) => Some((sequence, remembered)),
            Copy::Free | Copy::Damaged => None,
        });
        match good.max_by_key(|(sequence, _)| *sequence) {
            Some(entry) => {
                parsed.entries.push(entry);
                parsed.damaged += u64::from(is_damaged);
            }
            None => parsed.lost += u64::from(is_damaged),
        }
    }
    Some(parsed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    Free,
    Damaged,
    Good(u64, Remembered),
}

/// One copy.
pub fn encode(sequence: u64, remembered: &Remembered) -> [u8; COPY_BYTES] {
    let Remembered {
        inode,
        position,
        seen_seconds,
    } = remembered;
    let mut flags = 0;
    flags |= if position.is_inside { IS_INSIDE } else { 0 };
    flags |= if position.is_done { IS_DONE } else { 0 };
    let mut copy = [0; COPY_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&sequence.to_le_bytes());
    put(&inode.device.to_le_bytes());
    put(&inode.number.to_le_bytes());
    put(&position.offset.to_le_bytes());
    put(&position.head.crc.to_le_bytes());
    put(&position.before.crc.to_le_bytes());
    put(&position.head.len.to_le_bytes());
    put(&position.before.len.to_le_bytes());
    put(&flags.to_le_bytes());
    put(&[0; 2]);
    put(&seen_seconds.to_le_bytes());
    let crc = crc32c::crc32c(&copy[..COPY_BYTES - 4]);
    copy[COPY_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    copy
}

fn decode(bytes: &[u8]) -> Copy {
    if bytes.iter().all(|byte| *byte == 0) {
        return Copy::Free;
    }
    let Ok(copy) = <&[u8; COPY_BYTES]>::try_from(bytes) else {
        return Copy::Damaged;
    };
    let number = |at: usize, len: usize| {
        let bytes = copy[at..at + len].iter().rev();
        bytes.fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
    };
    if number(COPY_BYTES - 4, 4) != u64::from(crc32c::crc32c(&copy[..COPY_BYTES - 4])) {
        return Copy::Damaged;
    }
    let print = |crc, len| Print {
        crc: number(crc, 4) as u32,
        len: number(len, 2) as u16,
    };
    let flags = number(44, 2) as u16;
    let remembered = Remembered {
        inode: Inode {
            device: number(8, 8),
            number: number(16, 8),
        },
        position: Position {
            offset: number(24, 8),
            head: print(32, 40),
            before: print(36, 42),
            is_inside: flags & IS_INSIDE != 0,
            is_done: flags & IS_DONE != 0,
        },
        seen_seconds: number(48, 4) as u32,
    };
    Copy::Good(number(0, 8), remembered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(offset: u64) -> Remembered {
        Remembered {
            inode: Inode {
                device: 0x1122_3344_5566_7788,
                number: u64::MAX - 1,
            },
            position: Position {
                offset,
                head: Print::of(b"head"),
                before: Print::of(b"before"),
                is_inside: true,
                is_done: offset > 100,
            },
            seen_seconds: 1_795_459_319,
        }
    }

    /// Two slots; the first was written twice.
    fn file() -> Vec<u8> {
        let mut file = header().to_vec();
        file.extend(encode(8, &remembered(20)));
        file.extend(encode(7, &remembered(10)));
        file.extend([0; COPY_BYTES]);
        file.extend(encode(1, &remembered(200)));
        file
    }

    #[test]
    fn what_was_written_last_counts() {
        let entries = vec![(8, remembered(20)), (1, remembered(200))];
        let parsed = parse(&file()).unwrap();
        assert_eq!(
            (parsed.entries, parsed.lost, parsed.damaged),
            (entries, 0, 0)
        );
    }

    #[test]
    fn every_flipped_bit_is_seen_and_costs_one_copy_at_most() {
        let good = file();
        for bit in HEADER_BYTES * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(&bad).unwrap();
            assert_eq!(parsed.lost + parsed.damaged, 1, "bit {bit}");
            let firsts: Vec<u64> = parsed.entries.iter().map(|(seq, _)| *seq).collect();
            let expected: &[u64] = match bit / 8 / COPY_BYTES {
                1 => &[7, 1],     // the copy before it
                2 | 3 => &[8, 1], // one that did not count
                _ => &[8],
            };
            assert_eq!(firsts, expected, "bit {bit}");
        }
    }

    #[test]
    fn any_cut_leaves_the_whole_slots_before_it() {
        let good = file();
        assert_eq!(parse(&good[..HEADER_BYTES - 1]), None);
        for len in HEADER_BYTES..good.len() {
            let parsed = parse(&good[..len]).unwrap();
            let whole = (len - HEADER_BYTES) / COPY_BYTES;
            assert_eq!(parsed.entries.len(), usize::from(whole >= 1), "{len}");
        }
        assert_eq!(parse(b"something else"), None);
    }
}
