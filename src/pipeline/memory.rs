//! The memory budget: one number for all that events pin, counted in bytes as allocated.
//!
//! Whoever allocates for events adds, and the permit that travels with the bytes subtracts when
//! the last holder drops them, on whatever thread that is. Nothing here refuses an allocation:
//! sources ask [`Memory::is_full`] before they read on, so the overshoot is bounded by one read
//! per connection that was being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The budget, shared by everything that allocates for events.
#[derive(Clone, Debug)]
pub struct Memory {
    used_bytes: Arc<AtomicUsize>,
    limit_bytes: Arc<AtomicUsize>,
}

impl Memory {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Memory {
            used_bytes: Arc::default(),
            limit_bytes: Arc::new(AtomicUsize::new(limit_bytes)),
        }
    }

    /// Counts `bytes` as in use.
    pub fn add(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` as free again.
    pub fn sub(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The same bytes, counted as in use until their last holder drops them.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        self.add(bytes.len());
        Bytes::from_owner(Held {
            bytes,
            memory: self.clone(),
        })
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// The limit is another one from now on. What is in use above it stays in use.
    pub fn set_limit(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Whether sources must stop reading.
    pub fn is_full(&self) -> bool {
        self.used_bytes() >= self.limit_bytes()
    }

    /// Whether sources that stopped may go on: a tenth of the limit below it, so that a budget
    /// at its brim does not flap.
    pub fn has_room(&self) -> bool {
        let limit_bytes = self.limit_bytes();
        self.used_bytes() < limit_bytes - limit_bytes / 10
    }
}

/// Bytes that are counted until it is dropped.
struct Held {
    bytes: Bytes,
    memory: Memory,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.sub(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_the_last_slice_is_gone() {
        let memory = Memory::new(100);
        let bytes = memory.hold(Bytes::from_static(b"0123456789"));
        let slice = bytes.slice(3..5);
        drop(bytes);
        assert_eq!((&slice[..], memory.used_bytes()), (&b"34"[..], 10));
        drop(slice);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn full_and_room_leave_a_gap() {
        let memory = Memory::new(100);
        memory.add(100);
        assert!(memory.is_full() && !memory.has_room());
        memory.sub(5);
        assert!(!memory.is_full() && !memory.has_room());
        memory.sub(6);
        assert!(memory.has_room());
    }
}
