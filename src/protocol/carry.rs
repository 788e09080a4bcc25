//! The bytes of a frame that a chunk border cut.
//!
//! Not a general buffer: it grows only by bytes that arrived, never past its limit, and its
//! memory goes with the frame, so an idle connection between two frames holds none.

use bytes::Bytes;

/// Smallest allocation, in bytes: most cut frames are log lines.
const FIRST_BYTES: usize = 256;

/// Bytes of one frame under way.
#[derive(Debug, Default)]
pub(super) struct Carry {
    bytes: Vec<u8>,
}

impl Carry {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn last(&self) -> Option<u8> {
        self.bytes.last().copied()
    }

    /// Adds `part`; the whole must stay within `limit` bytes, and so does the allocation.
    pub(super) fn extend(&mut self, part: &[u8], limit: usize) {
        let len = self.bytes.len() + part.len();
        debug_assert!(len <= limit, "{len} bytes over the limit of {limit}");
        if len > self.bytes.capacity() {
            let doubled = (self.bytes.capacity() * 2).max(FIRST_BYTES).min(limit);
            self.bytes
                .reserve_exact(doubled.max(len) - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
    }

    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Hands the bytes over, memory and all.
    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.bytes))
    }
}
