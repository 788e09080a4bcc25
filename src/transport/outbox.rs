//! The write queue of one connection: what is to be written, in order, and how far it got.
//!
//! No IO happens here. Writes are kept as the [`Bytes`] they came in, never copied; a partial
//! write cuts the front part exactly. Positions are [`Mark`]s, bytes since the connection's
//! start, so `queued == end - written` holds at every moment. An outbox that was never written to
//! owns no memory: ten thousand idle connections have one each. An empty one owns no parts.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A position in a connection's output: bytes since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u64);

/// Bytes that wait for the socket.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Made by the first push.
    queue: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// None of the parts is empty.
    parts: VecDeque<Bytes>,
    /// The sum of the parts' lengths.
    queued: usize,
    /// Bytes the kernel has taken.
    written: u64,
}

impl Outbox {
    /// Appends a part; an empty one is nothing.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.queued += part.len();
            queue.parts.push_back(part);
        }
    }

    /// Bytes that are not yet written.
    pub fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.queued)
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.queued_bytes() == 0
    }

    /// The position after the last byte pushed.
    pub fn end(&self) -> Mark {
        let end = |queue: &Queue| queue.written + queue.queued as u64;
        Mark(self.queue.as_deref().map_or(0, end))
    }

    /// The position up to which the kernel has taken the bytes.
    pub fn written(&self) -> Mark {
        Mark(self.queue.as_ref().map_or(0, |queue| queue.written))
    }

    /// Calls `write` with the front of the queue: at most [`SLICES_MAX`] parts, cut off behind
    /// the part that reaches [`WRITE_BYTES`].
    pub fn with_slices<T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        // Most flushes have a few parts; 4 KiB of empty slices are not set up for them.
        if self.parts().len() <= FEW {
            self.slices::<FEW, T>(write)
        } else {
            self.slices::<SLICES_MAX, T>(write)
        }
    }

    /// Calls `take` with the front of the queue, at most `bytes_max` of it, whoever the parts
    /// came from.
    pub fn with_front<T>(&self, bytes_max: usize, take: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut left = bytes_max;
        for (slice, part) in slices.iter_mut().zip(self.parts()) {
            let bytes = part.len().min(left);
            *slice = IoSlice::new(&part[..bytes]);
            count += 1;
            left -= bytes;
            if left == 0 {
                break;
            }
        }
        take(&slices[..count])
    }

    fn parts(&self) -> Iter<'_, Bytes> {
        let parts = self.queue.as_ref().map(|queue| queue.parts.iter());
        parts.unwrap_or_default()
    }

    fn slices<const N: usize, T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); N];
        let mut count = 0;
        let mut bytes = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts()) {
            *slice = IoSlice::new(part);
            count += 1;
            bytes += part.len();
            if bytes >= WRITE_BYTES {
                break;
            }
        }
        write(&slices[..count])
    }

    /// The kernel has taken the first `bytes`.
    pub fn advance(&mut self, bytes: usize) {
        let queued = self.queued_bytes();
        assert!(bytes <= queued, "more was written than was queued");
        if let Some(queue) = &mut self.queue {
            queue.advance(bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn is_made(&self) -> bool {
        self.queue.is_some()
    }

    /// Drops what is not yet written; the positions stay.
    pub fn clear(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.parts = VecDeque::new();
            queue.queued = 0;
        }
    }
}

impl Queue {
    fn advance(&mut self, bytes: usize) {
        self.queued -= bytes;
        self.written += bytes as u64;
        let mut left = bytes;
        while left > 0 {
            let front = self
                .parts
                .front_mut()
                .expect("the parts sum up to `queued`");
            if front.len() > left {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.parts.pop_front();
        }
        if self.parts.is_empty() && self.parts.capacity() > IDLE_PARTS {
            self.parts = VecDeque::new();
        }
    }
}

/// Parts in one write; Linux takes up to 1024 (UIO_MAXIOV).
const SLICES_MAX: usize = 256;
const FEW: usize = 16;

/// A write stops gathering parts once it has so many bytes.
const WRITE_BYTES: usize = 512 * 1024;

/// Room for so many parts is kept by an empty outbox that is in use.
const IDLE_PARTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(outbox: &Outbox) -> Vec<u8> {
        outbox.with_slices(|slices| slices.iter().flat_map(|s| s.to_vec()).collect())
    }

    #[test]
    fn c_307_a_partial_write_of_any_length_keeps_the_rest_exactly() {
        let text: Vec<u8> = (0..=255).collect();
        for part_len in [1, 2, 3, 7, 64, 256] {
            for write_len in [1, 2, 5, 63, 256] {
                let mut outbox = Outbox::default();
                text.chunks(part_len)
                    .for_each(|part| outbox.push(Bytes::copy_from_slice(part)));
                let mut seen = Vec::new();
                while !outbox.is_empty() {
                    let wire = gathered(&outbox);
                    let taken = write_len.min(wire.len());
                    seen.extend_from_slice(&wire[..taken]);
                    outbox.advance(taken);
                    assert_eq!(outbox.written(), Mark(seen.len() as u64));
                    assert_eq!(outbox.end(), Mark(256));
                }
                assert_eq!(seen, text, "parts of {part_len}, writes of {write_len}");
            }
        }
    }

    #[test]
    fn a_write_gathers_many_parts_and_stops_at_its_limits() {
        let mut outbox = Outbox::default();
        (0..1000).for_each(|_| outbox.push(Bytes::from_static(b"x")));
        assert_eq!(outbox.with_slices(|slices| slices.len()), SLICES_MAX);
        let mut outbox = Outbox::default();
        (0..20).for_each(|_| outbox.push(Bytes::from(vec![0; 100_000])));
        assert_eq!(outbox.with_slices(|slices| slices.len()), 6);
    }

    #[test]
    fn empty_parts_are_nothing_and_an_empty_outbox_owns_no_parts() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::new());
        outbox.advance(0);
        outbox.clear();
        assert!(!outbox.is_made(), "nothing was written");
        assert_eq!((outbox.end(), outbox.written()), (Mark(0), Mark(0)));
        (0..100).for_each(|_| outbox.push(Bytes::from_static(b"ab")));
        outbox.advance(200);
        let room = outbox.queue.as_ref().map(|queue| queue.parts.capacity());
        assert_eq!((outbox.end(), room), (Mark(200), Some(0)));
    }

    #[test]
    fn what_is_cleared_was_never_to_be_written() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|_| outbox.push(Bytes::from_static(b"abc")));
        outbox.advance(4);
        outbox.clear();
        assert_eq!((outbox.queued_bytes(), outbox.end()), (0, Mark(4)));
        assert!(gathered(&outbox).is_empty());
    }

    #[test]
    #[should_panic(expected = "more was written than was queued")]
    fn writing_more_than_was_queued_is_caught() {
        Outbox::default().advance(1);
    }
}
