//! Buffers that output was written into, to be written into again.
//!
//! A fast sink encodes half a megabyte at a time, and what was sent stays for a while, until it has
//! arrived and need not be sent again. From the allocator such a buffer is new pages each time,
//! which the kernel has to clear: an eighth of what a line costs.
//!
//! One store for the whole process: a buffer comes back from whatever thread lets go of it last,
//! and many at once when a peer has acknowledged much. What lies unused is bounded by
//! [`SPARE_BYTES_MAX`], and what was not needed for a while goes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Smaller buffers are left to the allocator.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

/// All buffers together that lie unused, in bytes of their capacity: as much as one source may
/// have outstanding.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// So often it is looked for buffers that nobody needs.
const LOANS_PER_REVIEW: u32 = 64;

static SPARE: Mutex<Spare> = Mutex::new(Spare {
    buffers: Vec::new(),
    fewest: 0,
    loans: 0,
});

/// Buffers nobody uses, the last used on top because it is still in the processor's cache.
struct Spare {
    buffers: Vec<Vec<u8>>,
    /// The fewest there were since the last review.
    fewest: usize,
    /// Loans since then.
    loans: u32,
}

impl Spare {
    fn lend(&mut self) -> Option<Vec<u8>> {
        self.loans += 1;
        if self.loans == LOANS_PER_REVIEW {
            self.loans = 0;
            // From the bottom, where the coldest are.
            self.buffers.drain(..self.fewest.div_ceil(2));
            self.fewest = self.buffers.len();
        }
        let buffer = self.buffers.pop();
        self.fewest = self.fewest.min(self.buffers.len());
        buffer
    }

    fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        if self.bytes() + buffer.capacity() <= SPARE_BYTES_MAX {
            self.buffers.push(buffer);
        }
    }

    fn bytes(&self) -> usize {
        self.buffers.iter().map(Vec::capacity).sum()
    }
}

/// An empty buffer with room for `bytes`, and some more where it is a large one.
pub(super) fn with_room(bytes: usize) -> Vec<u8> {
    if bytes < BUFFER_BYTES_MIN {
        return Vec::with_capacity(bytes);
    }
    let lent = spare().lend();
    match lent {
        Some(buffer) if buffer.capacity() >= bytes => buffer,
        // Reads are not all of one size, and a buffer that grows is copied.
        _ => Vec::with_capacity(bytes + bytes / 4),
    }
}

/// What `buffer` holds, as shared bytes. A large one comes back when the last of them is dropped;
/// one that is mostly empty comes back at once, and its content is copied out.
pub(super) fn share(buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() < BUFFER_BYTES_MIN {
        return Bytes::from(buffer);
    }
    if buffer.len() < buffer.capacity() / 4 {
        let bytes = Bytes::copy_from_slice(&buffer);
        spare().give_back(buffer);
        return bytes;
    }
    Bytes::from_owner(Lent(buffer))
}

fn spare() -> MutexGuard<'static, Spare> {
    // No call leaves the list broken, so a poisoned lock is still good.
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer that bytes are slices of.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        spare().give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_and_a_mostly_empty_one_holds_nothing_up() {
        // Other tests of the process use the store, too: what is looked at is one buffer.
        let mut buffer = with_room(BUFFER_BYTES_MIN);
        assert!(buffer.is_empty() && buffer.capacity() >= BUFFER_BYTES_MIN);
        buffer.resize(BUFFER_BYTES_MIN, b'x');
        let at = buffer.as_ptr();
        let bytes = share(buffer);
        assert_eq!(bytes.as_ptr(), at, "copied");
        let slice = bytes.slice(1..5);
        drop(bytes);
        assert_eq!(slice, "xxxx", "it stays while a slice is there");

        let mut buffer = with_room(BUFFER_BYTES_MIN);
        buffer.extend_from_slice(b"few");
        let at = buffer.as_ptr();
        let bytes = share(buffer);
        assert_eq!(bytes, "few");
        assert_ne!(bytes.as_ptr(), at, "it holds the whole buffer");
    }

    fn store() -> Spare {
        Spare {
            buffers: Vec::new(),
            fewest: 0,
            loans: 0,
        }
    }

    #[test]
    fn what_lies_unused_is_bounded_and_what_nobody_needs_goes() {
        let mut spare = store();
        let large = || vec![0_u8; 1 << 20];
        (0..20).for_each(|_| spare.give_back(large()));
        assert_eq!(spare.bytes(), SPARE_BYTES_MAX);
        assert!(
            spare.buffers.iter().all(Vec::is_empty),
            "nothing stays in them"
        );
        // One at a time is needed; the others go, half of them at each review.
        for _ in 0..20 * LOANS_PER_REVIEW {
            let lent = spare.lend().unwrap_or_else(large);
            spare.give_back(lent);
        }
        assert!(spare.buffers.len() <= 2, "{}", spare.buffers.len());
    }
}
