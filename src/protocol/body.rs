//! The payload of a frame whose length was announced: shared by the counted framings.
//!
//! The announced length decides how much is skipped, never how much is allocated. What is over
//! the limit is skipped exactly; the number is 64 bits wide and survives every cut.
//!
//! A trailer (the comma of a netstring) is gathered with the payload, checked, and left out of
//! the frame: a frame with a wrong trailer is never handed out.

use bytes::Bytes;

use super::carry::Carry;
use super::frames::{ENDED_INSIDE, End, FrameError, Frames, Mark, OpenRun};

/// A payload under way.
#[derive(Debug, Default)]
pub(super) struct Body {
    carry: Carry,
    /// Bytes after the kept part that belong to the frame and are skipped.
    skip: u64,
    /// Bytes of the frame that are gathered, its trailer included; 0 once it is added.
    keep: u32,
    trailer: Option<u8>,
}

impl Body {
    /// A frame of `length` bytes of which at most `max` are kept; one of them must be there.
    pub(super) fn begin(&mut self, length: u64, max: u32, trailer: Option<u8>) {
        debug_assert!(self.is_done());
        let kept = u32::try_from(length).unwrap_or(u32::MAX).min(max);
        self.skip = length - u64::from(kept);
        self.keep = kept + u32::from(trailer.is_some());
        self.trailer = trailer;
        debug_assert!(self.keep > 0);
    }

    /// Whether no byte of the frame is missing any more.
    pub(super) fn is_done(&self) -> bool {
        self.keep == 0 && self.skip == 0
    }

    /// Takes what belongs to the frame from the chunk at `at`, and gives the offset after it.
    /// The frame is added once its kept part is complete.
    pub(super) fn advance(
        &mut self,
        run: &mut OpenRun<'_>,
        at: usize,
    ) -> Result<usize, FrameError> {
        let here = run.chunk.len() - at;
        let keep = self.keep as usize;
        let mut next = at;
        if keep > 0 && self.carry.is_empty() && here >= keep {
            next += keep;
            self.add_whole(run, at, next)?;
        } else if keep > 0 {
            let chunk = run.chunk.clone();
            next += self.collect(&chunk[at..], run)?;
        }
        Ok(next + self.pass_over(run, next))
    }

    /// The kept part lies in the chunk.
    fn add_whole(
        &mut self,
        run: &mut OpenRun<'_>,
        at: usize,
        end: usize,
    ) -> Result<(), FrameError> {
        self.keep = 0;
        let end = end - self.trailing(run.chunk[end - 1])?;
        match self.mark() {
            Some(mark) => run.add_marked(at, end, mark),
            None if at == end => run.frames.empty += 1,
            None => run.add(at, end),
        }
        Ok(())
    }

    /// Copies what belongs to the kept part from `part`; gives the number of bytes.
    pub(super) fn collect(
        &mut self,
        part: &[u8],
        run: &mut OpenRun<'_>,
    ) -> Result<usize, FrameError> {
        let keep = self.keep as usize;
        let wanted = keep - self.carry.len();
        let taken = part.len().min(wanted);
        self.carry.extend(&part[..taken], keep);
        if taken < wanted {
            return Ok(taken);
        }
        self.keep = 0;
        let last = self
            .carry
            .last()
            .expect("a frame has at least one byte to gather");
        let len = self.carry.len() - self.trailing(last)?;
        self.carry.truncate(len);
        let joined = self.carry.take();
        if joined.is_empty() {
            run.frames.empty += 1;
        } else {
            run.add_joined(joined, self.mark());
        }
        Ok(taken)
    }

    /// Length of the trailer, which must be the `last` byte.
    fn trailing(&self, last: u8) -> Result<usize, FrameError> {
        match self.trailer {
            Some(trailer) if trailer != last => Err(FrameError::MissingComma(last)),
            Some(_) => Ok(1),
            None => Ok(0),
        }
    }

    /// Skips what is left of a truncated frame, once its kept part is complete.
    fn pass_over(&mut self, run: &mut OpenRun<'_>, at: usize) -> usize {
        if self.keep > 0 || self.skip == 0 {
            return 0;
        }
        let here = run.chunk.len() - at;
        let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(here);
        self.skip -= passed as u64;
        run.frames.skipped_bytes += passed as u64;
        passed
    }

    fn mark(&self) -> Option<Mark> {
        (self.skip > 0).then_some(Mark::Truncated)
    }

    /// The stream ended inside the frame: what has come of it is an incomplete frame, at a clean
    /// end too, for the count says that there was more.
    pub(super) fn finish(&mut self, end: End, frames: &mut Frames) {
        let reason = match end {
            End::Clean => ENDED_INSIDE,
            End::Cut(reason) => reason,
        };
        let gathering = self.keep > 0;
        let part = self.take();
        if !part.is_empty() {
            frames.add_joined(part, Some(Mark::Incomplete(reason)));
        } else if gathering {
            frames.empty += 1;
        }
    }

    /// Hands over what has come of the frame and forgets the frame.
    pub(super) fn take(&mut self) -> Bytes {
        self.keep = 0;
        self.skip = 0;
        self.carry.take()
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.carry.len()
    }
}

/// A limit of frames as the counted framings keep it: with room for a trailer in 32 bits.
pub(super) fn limit(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX).min(u32::MAX - 1)
}
