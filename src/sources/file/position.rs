//! Which file it is, and how far it has been read: what a checkpoint says. Not a component.
//!
//! A file is known by its inode and by a *print* of its first bytes, so that an inode that
//! another file has got is seen, and so is a file that was cut and written anew. A place in it
//! is known by its offset and by a print of the bytes before it, so that a file with the same
//! beginning, a banner say, is not taken for it. Both prints are checksums of content: they
//! find mistakes, not malice; whoever can write the log can write what he likes into it.

use crate::buffer::storage::Inode;

/// Bytes of a file's beginning that its print is of, or as many as there are.
pub const HEAD_BYTES: usize = 1024;
/// Bytes before a place that its print is of, at most.
pub const BEFORE_BYTES: usize = 256;

/// A checksum of some bytes, and how many they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// CRC-32C.
    pub crc: u32,
    /// Number of bytes.
    pub len: u16,
}

impl Print {
    /// The print of `bytes`, 64 KiB at most.
    pub fn of(bytes: &[u8]) -> Print {
        debug_assert!(bytes.len() <= usize::from(u16::MAX));
        Print {
            crc: crc32c::crc32c(bytes),
            len: bytes.len() as u16,
        }
    }

    /// The print of the last bytes of `bytes`, as it stands before a place.
    pub fn before(bytes: &[u8]) -> Print {
        Print::of(&bytes[bytes.len().saturating_sub(BEFORE_BYTES)..])
    }

    /// Whether `bytes` begin with what this is the print of.
    pub fn begins(self, bytes: &[u8]) -> bool {
        let head = bytes.get(..usize::from(self.len));
        head.is_some_and(|head| Print::of(head) == self)
    }

    /// Whether it is of nothing.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it; of a compressed file, as they are when unpacked.
    pub offset: u64,
    /// The print of the file's beginning.
    pub head: Print,
    /// The print of what is right before the place.
    pub before: Print,
    /// The place is inside of a line whose first part was delivered and whose rest is left out.
    pub is_inside: bool,
    /// The file is compressed and was read to its end: it is not read again.
    pub is_done: bool,
}

/// What is remembered of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Which file it was.
    pub inode: Inode,
    /// How far its events were acknowledged.
    pub position: Position,
    /// When it was last there, in seconds since 1970.
    pub seen_seconds: u32,
}
