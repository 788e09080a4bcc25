//! The buffers that sockets are read into, shared by all connections of a reactor.
//!
//! A connection has no read buffer of its own: a read borrows a chunk from the pool, so ten
//! thousand idle connections hold none. A read that fills at least a quarter of the chunk
//! hands the chunk itself over as [`Bytes`], without a copy, and its memory comes back to the
//! pool when the last slice is dropped, on whatever thread; a shorter one is copied out to its
//! exact size, so that a 100-byte line cannot pin 256 KiB. What is handed over is counted by
//! the [`Meter`] as allocated (chunk or copy) until the last slice is gone.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Counts bytes that received data occupy, from hand-over to the drop of the last slice.
pub trait Meter: Send + Sync {
    /// `bytes` more are held.
    fn grow(&self, bytes: usize);
    /// `bytes` are free again; called on the thread that dropped the last slice.
    fn shrink(&self, bytes: usize);
}

/// Lends chunks; a clone lends from the same pool.
#[derive(Clone)]
pub struct ChunkPool {
    home: Arc<Home>,
}

struct Home {
    /// Chunks nobody uses. Locked for a push or a pop, by the reactor's thread nearly always.
    spare: Mutex<Spare>,
    meter: Option<Arc<dyn Meter>>,
}

/// Chunks nobody uses, the last used on top because it is still in the processor's cache.
///
/// A chunk from the allocator costs more than what is read into it, for the kernel has to clear
/// its pages; so enough are kept for a burst, and those that were not needed for a while go.
#[derive(Default)]
struct Spare {
    chunks: Vec<Box<[u8]>>,
    /// The fewest there were since the last review.
    fewest: usize,
    /// Loans since then.
    loans: u32,
}

impl ChunkPool {
    /// An empty pool that reports to `meter`.
    pub fn new(meter: Option<Arc<dyn Meter>>) -> Self {
        ChunkPool {
            home: Arc::new(Home {
                spare: Mutex::new(Spare::default()),
                meter,
            }),
        }
    }

    /// A chunk of [`CHUNK_BYTES`] to read into; its old content is unspecified. Dropped, it
    /// goes back to the pool.
    pub fn lend(&self) -> Chunk {
        let spare = self.home.spare().lend();
        Chunk {
            buffer: spare.unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice()),
            home: Arc::clone(&self.home),
        }
    }

    /// Chunks that lie unused.
    pub fn spare_count(&self) -> usize {
        self.home.spare().chunks.len()
    }
}

impl Spare {
    fn lend(&mut self) -> Option<Box<[u8]>> {
        self.loans += 1;
        if self.loans == LOANS_PER_REVIEW {
            self.loans = 0;
            self.drop_unneeded();
        }
        let chunk = self.chunks.pop();
        self.fewest = self.fewest.min(self.chunks.len());
        chunk
    }

    fn give_back(&mut self, chunk: Box<[u8]>) {
        if self.chunks.len() < SPARE_CHUNKS_MAX {
            self.chunks.push(chunk);
        }
    }

    /// Half of what lay here unused all the time; from the bottom, where the coldest are.
    fn drop_unneeded(&mut self) {
        let unneeded = self.fewest.saturating_sub(SPARE_CHUNKS_MIN).div_ceil(2);
        self.chunks.drain(..unneeded);
        self.fewest = self.chunks.len();
    }
}

impl Home {
    fn spare(&self) -> std::sync::MutexGuard<'_, Spare> {
        // A push or pop cannot leave the list broken, so a poisoned lock is still good.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.grow(bytes);
        }
    }

    fn shrink(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.shrink(bytes);
        }
    }
}

/// A chunk on loan.
pub struct Chunk {
    buffer: Box<[u8]>,
    home: Arc<Home>,
}

impl Chunk {
    /// The first `filled` bytes as shared bytes.
    pub fn keep(self, filled: usize) -> Bytes {
        debug_assert!(filled <= self.buffer.len());
        if filled == 0 {
            return Bytes::new();
        }
        if filled >= CHUNK_BYTES / 4 {
            self.home.grow(CHUNK_BYTES);
            return Bytes::from_owner(Kept {
                chunk: self,
                filled,
            });
        }
        if self.home.meter.is_none() {
            return Bytes::copy_from_slice(&self.buffer[..filled]);
        }
        self.home.grow(filled);
        Bytes::from_owner(Copied {
            bytes: self.buffer[..filled].into(),
            home: Arc::clone(&self.home),
        })
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.home.spare().give_back(buffer);
    }
}

/// A chunk that received bytes live in.
struct Kept {
    chunk: Chunk,
    filled: usize,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.chunk.buffer[..self.filled]
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.chunk.home.shrink(CHUNK_BYTES);
    }
}

/// A copy of exact size, counted.
struct Copied {
    bytes: Box<[u8]>,
    home: Arc<Home>,
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.home.shrink(self.bytes.len());
    }
}

/// The size of a chunk: as much as one read takes from one connection in one turn.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Unused chunks that are kept; more than that goes back to the allocator. 16 MiB, what one
/// source may have outstanding.
const SPARE_CHUNKS_MAX: usize = 64;

/// Unused chunks that are kept for good. 1 MiB.
const SPARE_CHUNKS_MIN: usize = 4;

/// After so many loans the pool looks which chunks it did not need.
const LOANS_PER_REVIEW: u32 = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Held(AtomicUsize);

    impl Meter for Held {
        fn grow(&self, bytes: usize) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        fn shrink(&self, bytes: usize) {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn metered() -> (ChunkPool, Arc<Held>) {
        let held = Arc::new(Held::default());
        (ChunkPool::new(Some(held.clone())), held)
    }

    #[test]
    fn a_long_read_hands_the_chunk_over_and_its_memory_comes_back() {
        let (pool, held) = metered();
        let mut chunk = pool.lend();
        chunk[..3].copy_from_slice(b"abc");
        let place = chunk.as_ptr();
        let bytes = chunk.keep(CHUNK_BYTES / 4);
        assert_eq!(bytes.as_ptr(), place, "copied");
        assert_eq!(held.0.load(Ordering::Relaxed), CHUNK_BYTES);
        let slice = bytes.slice(..3);
        drop(bytes);
        assert_eq!((&slice[..], pool.spare_count()), (&b"abc"[..], 0));
        drop(slice);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
        assert_eq!(pool.lend().as_ptr(), place, "not reused");
    }

    #[test]
    fn a_short_read_is_copied_to_its_size() {
        let (pool, held) = metered();
        let mut chunk = pool.lend();
        chunk[..4].copy_from_slice(b"line");
        let bytes = chunk.keep(4);
        assert_eq!(pool.spare_count(), 1);
        assert_eq!(
            (&bytes[..], held.0.load(Ordering::Relaxed)),
            (&b"line"[..], 4)
        );
        drop(bytes);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_pool_keeps_a_bounded_number_of_unused_chunks() {
        let pool = ChunkPool::new(None);
        let lent: Vec<Chunk> = (0..SPARE_CHUNKS_MAX + 6).map(|_| pool.lend()).collect();
        drop(lent);
        assert_eq!(pool.spare_count(), SPARE_CHUNKS_MAX);
        assert_eq!(pool.lend().keep(0), Bytes::new());
        assert_eq!(pool.spare_count(), SPARE_CHUNKS_MAX);
    }

    #[test]
    fn chunks_that_are_not_needed_any_more_go_back_to_the_allocator() {
        let pool = ChunkPool::new(None);
        let burst: Vec<Chunk> = (0..SPARE_CHUNKS_MAX).map(|_| pool.lend()).collect();
        drop(burst);
        let two_at_a_time = |loans: u32| {
            (0..loans / 2).for_each(|_| drop([pool.lend(), pool.lend()]));
        };
        two_at_a_time(2 * LOANS_PER_REVIEW);
        let left = pool.spare_count();
        assert!(
            (SPARE_CHUNKS_MAX / 4..SPARE_CHUNKS_MAX).contains(&left),
            "{left}"
        );
        two_at_a_time(10 * LOANS_PER_REVIEW);
        // Those on loan at a review are not counted as unneeded.
        let left = pool.spare_count();
        assert!(
            (SPARE_CHUNKS_MIN..SPARE_CHUNKS_MIN + 4).contains(&left),
            "{left}"
        );
    }
}
