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
    spare: Mutex<Vec<Box<[u8]>>>,
    meter: Option<Arc<dyn Meter>>,
}

impl ChunkPool {
    /// An empty pool that reports to `meter`.
    pub fn new(meter: Option<Arc<dyn Meter>>) -> Self {
        ChunkPool {
            home: Arc::new(Home {
                spare: Mutex::new(Vec::new()),
                meter,
            }),
        }
    }

    /// A chunk of [`CHUNK_BYTES`] to read into; its old content is unspecified. Dropped, it
    /// goes back to the pool.
    pub fn lend(&self) -> Chunk {
        let spare = self.home.spare().pop();
        Chunk {
            buffer: spare.unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice()),
            home: Arc::clone(&self.home),
        }
    }

    /// Chunks that lie unused.
    pub fn spare_count(&self) -> usize {
        self.home.spare().len()
    }
}

impl Home {
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
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
        let mut spare = self.home.spare();
        if spare.len() < SPARE_CHUNKS_MAX {
            spare.push(buffer);
        }
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

/// Unused chunks that are kept; more than that goes back to the allocator. 2 MiB.
const SPARE_CHUNKS_MAX: usize = 8;

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
        let lent: Vec<Chunk> = (0..20).map(|_| pool.lend()).collect();
        drop(lent);
        assert_eq!(pool.spare_count(), SPARE_CHUNKS_MAX);
        assert_eq!(pool.lend().keep(0), Bytes::new());
        assert_eq!(pool.spare_count(), SPARE_CHUNKS_MAX);
    }
}
