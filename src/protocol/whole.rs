//! Everything until the end of the stream is one frame.
//!
//! For sources whose content is a document and not a stream of messages. The frame comes at the
//! end, so that it can carry the mark of how the stream ended; over the limit the rest is
//! counted and dropped.

use bytes::Bytes;

use super::carry::Carry;
use super::frames::{End, Framer, Frames, Mark};

/// Gathers a stream into one frame.
#[derive(Debug)]
pub(super) struct Whole {
    max: usize,
    carry: Carry,
    /// Bytes past the limit.
    skipped: u64,
}

impl Whole {
    /// A framer that keeps at most `max` bytes (`max_body`).
    pub(super) fn new(max: usize) -> Self {
        Whole {
            max,
            carry: Carry::default(),
            skipped: 0,
        }
    }
}

impl Framer for Whole {
    fn push_up_to(&mut self, chunk: Bytes, _frames: &mut Frames, frames_max: usize) -> Bytes {
        if frames_max == 0 {
            return chunk;
        }
        let kept = chunk.len().min(self.max - self.carry.len());
        self.carry.extend(&chunk[..kept], self.max);
        self.skipped += (chunk.len() - kept) as u64;
        Bytes::new()
    }

    fn finish(&mut self, end: End, frames: &mut Frames) {
        let skipped = std::mem::take(&mut self.skipped);
        let whole = self.carry.take();
        if whole.is_empty() {
            frames.empty += 1;
            return;
        }
        frames.skipped_bytes += skipped;
        if let End::Cut(reason) = end {
            frames.mark_next(Mark::Incomplete(reason));
        }
        frames.add_joined(whole, (skipped > 0).then_some(Mark::Truncated));
    }

    fn pending_bytes(&self) -> usize {
        self.carry.len()
    }

    fn take_pending(&mut self) -> Bytes {
        self.skipped = 0;
        self.carry.take()
    }
}
