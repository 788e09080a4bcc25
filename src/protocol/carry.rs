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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocation_stays_within_the_limit_and_goes_with_the_frame() {
        let mut carry = Carry::default();
        for len in 1..=1000 {
            carry.extend(b"x", 1000);
            assert_eq!(carry.len(), len);
            assert!(carry.bytes.capacity() <= 1000, "{}", carry.bytes.capacity());
        }
        assert_eq!(carry.take().len(), 1000);
        assert_eq!(carry.bytes.capacity(), 0);
    }

    #[test]
    fn growing_byte_by_byte_allocates_rarely() {
        let mut carry = Carry::default();
        let mut allocations = 0;
        for _ in 0..65_536 {
            let before = carry.bytes.capacity();
            carry.extend(b"x", 1 << 24);
            allocations += u32::from(carry.bytes.capacity() != before);
        }
        assert_eq!(allocations, 9, "256 bytes, doubled eight times");
    }
}
