//! Frames that end with a delimiter: lines (LF, with one CR before it removed) and NUL.
//!
//! A frame's length is counted without its delimiter, so a line of exactly `max` bytes passes
//! whether it ends with LF or CR LF. Of a longer one the first `max` bytes are a frame marked
//! truncated, made as soon as the excess is seen; the rest is skipped up to the delimiter.
//!
//! A CR is part of the delimiter only where LF follows. So the carry may hold `max` bytes and a
//! CR that is not decided yet, and skipping holds back the count of a CR likewise.

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memrchr};

use super::carry::Carry;
use super::frames::{End, Framer, Frames, Mark, OpenRun};
use super::plain_lines;

/// Fewer bytes of lines than this are cut apart at once.
const UNCUT_BYTES_MIN: usize = 4096;

/// Lines that end with LF or CR LF.
pub(super) type Lines = Delimited<b'\n'>;
/// Frames that end with a NUL byte.
pub(super) type Nul = Delimited<0>;

/// Cuts at each `DELIMITER`; LF takes one CR before it along.
#[derive(Debug)]
pub(super) struct Delimited<const DELIMITER: u8> {
    max: usize,
    carry: Carry,
    skip: Skip,
}

/// Whether the rest of a truncated frame is being skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    No,
    /// Skipping; the last byte was a CR (not counted yet: it may belong to the delimiter).
    Rest {
        held_cr: bool,
    },
}

impl<const DELIMITER: u8> Delimited<DELIMITER> {
    /// A framer for frames of up to `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Delimited {
            max,
            carry: Carry::default(),
            skip: Skip::No,
        }
    }

    /// The limit of a frame, in bytes.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Whether a frame is under way.
    pub(super) fn inside(&self) -> bool {
        !self.carry.is_empty() || self.skip != Skip::No
    }

    /// Takes bytes that another framer found to be the beginning of a frame.
    pub(super) fn begin(&mut self, head: &[u8], frames: &mut Frames) {
        debug_assert!(!self.inside());
        self.keep(head, frames);
    }

    /// Goes on with the frame under way, at offset `from` of the chunk; gives the offset after
    /// it, which is the end of the chunk where the frame does not end in it.
    pub(super) fn resume(&mut self, run: &mut OpenRun<'_>, from: usize) -> usize {
        let chunk = run.chunk.clone();
        match memchr(DELIMITER, &chunk[from..]) {
            Some(found) => {
                self.complete(&chunk[from..from + found], run);
                from + found + 1
            }
            None => {
                self.keep(&chunk[from..], run.frames);
                chunk.len()
            }
        }
    }

    /// Adds the frames of the chunk from offset `from` on, where a frame begins, and gives the
    /// offset it came to. Stops after `left` frames, and with `STOP` also where a frame begins
    /// with a digit from 1 to 9 (but never before the first).
    #[inline]
    pub(super) fn scan<const STOP: bool>(
        &mut self,
        run: &mut OpenRun<'_>,
        from: usize,
        left: &mut usize,
    ) -> usize {
        // A local handle keeps the bytes' address in registers through the loop.
        let chunk = run.chunk.clone();
        let mut start = from;
        for found in memchr_iter(DELIMITER, &chunk[from..]) {
            let next = from + found + 1;
            let end = without_cr::<DELIMITER>(&chunk, start, next - 1);
            // One comparison for both rare cases: empty wraps around to the largest number.
            if (end - start).wrapping_sub(1) < self.max {
                run.add(start, end);
            } else {
                self.add_unusual(run, start, end);
            }
            start = next;
            *left -= 1;
            if *left == 0 || (STOP && matches!(chunk.get(next), Some(b'1'..=b'9'))) {
                return next;
            }
        }
        self.keep_last(run, start);
        chunk.len()
    }

    /// Leaves the lines of the chunk from offset `from` on uncut, where a line begins, and gives
    /// the offset behind the last one; `None` where they have to be cut apart. With `counted`
    /// that is also so where one of them might begin with an octet count.
    pub(super) fn leave_uncut(
        &self,
        run: &mut OpenRun<'_>,
        from: usize,
        left: &mut usize,
        counted: bool,
    ) -> Option<usize> {
        if DELIMITER != b'\n' || !run.may_leave_uncut() {
            return None;
        }
        let end = from + memrchr(DELIMITER, &run.chunk[from..])? + 1;
        if end - from < UNCUT_BYTES_MIN || *left < end - from {
            return None;
        }
        let count = plain_lines::count(&run.chunk[from..end], self.max, counted)?;
        *left -= count;
        run.leave_uncut(from, end, count);
        Some(end)
    }

    /// Keeps the beginning of a frame that the chunk's end cuts; one that is too long already is
    /// a frame of the chunk.
    fn keep_last(&mut self, run: &mut OpenRun<'_>, start: usize) {
        let len = run.chunk.len() - start;
        let held_cr = DELIMITER == b'\n' && len > 0 && run.chunk.last() == Some(&b'\r');
        if len > self.max + usize::from(held_cr) {
            run.add_marked(start, start + self.max, Mark::Truncated);
            run.frames.skipped_bytes += (len - self.max - usize::from(held_cr)) as u64;
            self.skip = Skip::Rest { held_cr };
        } else {
            self.carry.extend(&run.chunk[start..], self.max + 1);
        }
    }

    /// A whole frame of the chunk that is empty or too long.
    #[cold]
    fn add_unusual(&mut self, run: &mut OpenRun<'_>, start: usize, end: usize) {
        if start == end {
            run.frames.empty += 1;
        } else {
            run.add_marked(start, start + self.max, Mark::Truncated);
            run.frames.skipped_bytes += (end - start - self.max) as u64;
        }
    }

    /// Keeps or skips more bytes of the frame under way, whose delimiter has not come.
    fn keep(&mut self, part: &[u8], frames: &mut Frames) {
        if part.is_empty() {
            return;
        }
        let len = self.carry.len() + part.len();
        let open_cr = DELIMITER == b'\n' && part.last() == Some(&b'\r');
        if let Skip::Rest { held_cr } = self.skip {
            let counted = part.len() + usize::from(held_cr) - usize::from(open_cr);
            frames.skipped_bytes += counted as u64;
            self.skip = Skip::Rest { held_cr: open_cr };
        } else if len <= self.max + usize::from(open_cr) {
            self.carry.extend(part, self.max + 1);
        } else {
            self.give_up(part, frames);
            frames.skipped_bytes += (len - self.max - usize::from(open_cr)) as u64;
            self.skip = Skip::Rest { held_cr: open_cr };
        }
    }

    /// Adds the first `max` bytes of carry and `part` as a truncated frame.
    fn give_up(&mut self, part: &[u8], frames: &mut Frames) {
        self.carry.truncate(self.max);
        self.carry
            .extend(&part[..self.max - self.carry.len()], self.max);
        frames.add_joined(self.carry.take(), Some(Mark::Truncated));
    }

    /// The delimiter came after `part`, in a frame under way.
    fn complete(&mut self, part: &[u8], run: &mut OpenRun<'_>) {
        let last = part.last().copied().or(self.carry.last());
        if let Skip::Rest { held_cr } = self.skip {
            let all = part.len() + usize::from(held_cr);
            let cr = DELIMITER == b'\n' && (last == Some(b'\r') || part.is_empty() && held_cr);
            run.frames.skipped_bytes += (all - usize::from(cr)) as u64;
            self.skip = Skip::No;
            return;
        }
        let cr = DELIMITER == b'\n' && last == Some(b'\r');
        let len = self.carry.len() + part.len() - usize::from(cr);
        if len > self.max {
            self.give_up(part, run.frames);
            run.frames.skipped_bytes += (len - self.max) as u64;
        } else if len == 0 {
            self.carry.take();
            run.frames.empty += 1;
        } else {
            self.carry.extend(part, self.max + 1);
            self.carry.truncate(len);
            run.add_joined(self.carry.take(), None);
        }
    }
}

/// The end of a frame whose delimiter is at `end`: before the CR that belongs to an LF.
#[inline]
fn without_cr<const DELIMITER: u8>(chunk: &[u8], start: usize, end: usize) -> usize {
    if DELIMITER == b'\n' && end > start && chunk[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

impl<const DELIMITER: u8> Framer for Delimited<DELIMITER> {
    fn push_up_to(&mut self, chunk: Bytes, frames: &mut Frames, frames_max: usize) -> Bytes {
        if frames_max == 0 || chunk.is_empty() {
            return chunk;
        }
        let mut run = frames.open(chunk.clone());
        run.lines = DELIMITER == b'\n';
        let mut left = frames_max;
        let mut at = 0;
        if self.inside() {
            at = self.resume(&mut run, 0);
            left -= 1;
        }
        if let Some(end) = self.leave_uncut(&mut run, at, &mut left, false) {
            at = end;
        }
        if left > 0 && at < chunk.len() {
            at = self.scan::<false>(&mut run, at, &mut left);
        }
        run.close();
        chunk.slice(at..)
    }

    fn finish(&mut self, end: End, frames: &mut Frames) {
        match std::mem::replace(&mut self.skip, Skip::No) {
            Skip::Rest { held_cr } => frames.skipped_bytes += u64::from(held_cr),
            Skip::No if self.carry.is_empty() => {}
            Skip::No => {
                if let End::Cut(reason) = end {
                    frames.mark_next(Mark::Incomplete(reason));
                }
                if self.carry.len() > self.max {
                    frames.skipped_bytes += (self.carry.len() - self.max) as u64;
                    self.give_up(&[], frames);
                } else {
                    frames.add_joined(self.carry.take(), None);
                }
            }
        }
    }

    fn pending_bytes(&self) -> usize {
        self.carry.len()
    }

    fn take_pending(&mut self) -> Bytes {
        self.skip = Skip::No;
        self.carry.take()
    }
}
