//! One datagram, one frame.
//!
//! A line end after the last byte (LF or CR LF) is not part of the frame: `logger`, `nc` and
//! many devices send one, and it would be the only difference to the same message over TCP.
//! A datagram that is longer than the limit is cut and marked; one that the kernel cut already
//! is the transport's to report.

use bytes::Bytes;

use super::frames::{End, Framer, Frames, Mark};

/// Gives each chunk as a frame.
#[derive(Debug)]
pub(super) struct Datagram {
    max: usize,
}

impl Datagram {
    /// A framer for datagrams of up to `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Datagram { max }
    }
}

impl Framer for Datagram {
    fn push(&mut self, chunk: Bytes, frames: &mut Frames) {
        self.push_up_to(chunk, frames, 1);
    }

    fn push_up_to(&mut self, chunk: Bytes, frames: &mut Frames, frames_max: usize) -> Bytes {
        if frames_max == 0 {
            return chunk;
        }
        let len = without_line_end(&chunk).len();
        if len == 0 {
            frames.empty += 1;
        } else if len > self.max {
            frames.skipped_bytes += (len - self.max) as u64;
            frames.add_joined(chunk.slice(..self.max), Some(Mark::Truncated));
        } else {
            frames.add_joined(chunk.slice(..len), None);
        }
        Bytes::new()
    }

    fn finish(&mut self, _end: End, _frames: &mut Frames) {}

    fn pending_bytes(&self) -> usize {
        0
    }

    fn take_pending(&mut self) -> Bytes {
        Bytes::new()
    }
}

fn without_line_end(datagram: &[u8]) -> &[u8] {
    match datagram {
        [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] => text,
        text => text,
    }
}
