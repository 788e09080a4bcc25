//! Frames behind a length of four bytes, big endian.
//!
//! A binary length that is wrong cannot be told from one that is merely large, so a frame over
//! the limit ends the connection, as soon as its length is read and before any of its payload
//! is kept. Length 0 is an empty frame.

use super::counted::{Counted, Header};
use super::frames::FrameError;

/// Bytes of the length.
const LENGTH_BYTES: u8 = 4;

/// Cuts at big-endian lengths.
pub(super) type LengthU32 = Counted<BigEndian>;

/// A length under way.
#[derive(Debug, Default)]
pub(super) struct BigEndian {
    value: u32,
    bytes: u8,
}

impl Header for BigEndian {
    const TRAILER: Option<u8> = None;

    fn read(&mut self, byte: u8, max: u32) -> Result<Option<u64>, FrameError> {
        self.value = self.value << 8 | u32::from(byte);
        self.bytes += 1;
        if self.bytes < LENGTH_BYTES {
            return Ok(None);
        }
        let length = u64::from(self.value);
        if length > u64::from(max) {
            Err(FrameError::TooLong { max: max as usize })
        } else {
            Ok(Some(length))
        }
    }

    fn bytes(&self) -> u8 {
        self.bytes
    }
}
