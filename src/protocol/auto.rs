//! Octet counting and lines on one stream, told apart frame by frame.
//!
//! A frame is octet counted when it begins with what RFC 6587 and a syslog message together
//! demand: `NONZERO-DIGIT *9DIGIT SP "<" DIGIT`, with a count from 3 (the length of `<0>`) to
//! [`COUNT_MAX`]. Everything else is a line, so `2026-11-23 hello`, `42 apples` and a number of
//! any length stay text. (rsyslog takes every leading digit for a count and reports an error in
//! the text that follows; asking for the priority too leaves text alone, and a count that is
//! wrong costs one odd line and not the connection.)
//!
//! Where a chunk ends before the rule can decide, the few bytes are held; a stream that ends
//! there was a line.

use bytes::Bytes;

use super::body::{Body, limit};
use super::delimited::Lines;
use super::frames::{End, FrameError, Framer, Frames, OpenRun};
use super::octet_counted::{COUNT_DIGITS_MAX, COUNT_MAX};

/// Longest beginning of a frame that leaves the question open: all digits, space, `<`.
const HEAD_BYTES_MAX: usize = COUNT_DIGITS_MAX as usize + 2;

/// Smallest count that has room for a priority, `<0>`.
const COUNT_MIN: u64 = 3;

/// Tells octet counting and lines apart.
#[derive(Debug)]
pub(super) struct Auto {
    lines: Lines,
    body: Body,
    /// The beginning of a frame that is not decided yet.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
}

/// What the beginning of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Line,
    /// A count and where its message begins.
    Counted {
        count: u64,
        header: usize,
    },
    /// Not enough bytes.
    Open,
}

/// Applies the rule to the beginning of a frame.
fn classify(text: &[u8]) -> Verdict {
    if text.first() == Some(&b'0') {
        return Verdict::Line;
    }
    let window = &text[..text.len().min(usize::from(COUNT_DIGITS_MAX) + 1)];
    let digits = window
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 && !text.is_empty() || digits > usize::from(COUNT_DIGITS_MAX) {
        return Verdict::Line;
    }
    let count = text[..digits]
        .iter()
        .fold(0, |n, &digit| n * 10 + u64::from(digit - b'0'));
    match &text[digits..] {
        [b' ', b'<', b'0'..=b'9', ..] if (COUNT_MIN..=COUNT_MAX).contains(&count) => {
            Verdict::Counted {
                count,
                header: digits + 1,
            }
        }
        [] | [b' '] | [b' ', b'<'] => Verdict::Open,
        _ => Verdict::Line,
    }
}

impl Auto {
    /// A framer that keeps at most `max` bytes of a frame.
    pub(super) fn new(max: usize) -> Self {
        Auto {
            lines: Lines::new(max),
            body: Body::default(),
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
        }
    }

    /// Goes on with the frame that the last chunk border cut; gives the offset it came to.
    fn resume(&mut self, run: &mut OpenRun<'_>, left: &mut usize) -> Result<usize, FrameError> {
        let mut at = if self.head_len > 0 {
            self.decide(run)?
        } else {
            0
        };
        if self.lines.inside() && at < run.chunk.len() {
            *left -= 1;
            return Ok(self.lines.resume(run, at));
        }
        if !self.body.is_done() {
            run.lines = false;
            at = self.body.advance(run, at)?;
            *left -= usize::from(self.body.is_done());
        }
        Ok(at)
    }

    /// Looks at the held head together with the chunk; gives how much of the chunk was used up.
    fn decide(&mut self, run: &mut OpenRun<'_>) -> Result<usize, FrameError> {
        let held = usize::from(std::mem::take(&mut self.head_len));
        let mut text = [0; HEAD_BYTES_MAX + 1];
        let taken = run.chunk.len().min(text.len() - held);
        text[..held].copy_from_slice(&self.head[..held]);
        text[held..held + taken].copy_from_slice(&run.chunk[..taken]);
        match classify(&text[..held + taken]) {
            Verdict::Open => {
                self.hold(&text[..held + taken]);
                Ok(taken)
            }
            // Only what was held moves to the line: the chunk may end it, and begin the next.
            Verdict::Line => {
                self.lines.begin(&text[..held], run.frames);
                Ok(0)
            }
            Verdict::Counted { count, header } => {
                self.body.begin(count, limit(self.lines.max()), None);
                if let Some(early) = text[..held].get(header..) {
                    self.body.collect(early, run)?;
                }
                Ok(header.saturating_sub(held))
            }
        }
    }

    fn hold(&mut self, text: &[u8]) {
        self.head[..text.len()].copy_from_slice(text);
        self.head_len = text.len() as u8;
    }

    /// Adds the frames of the run's chunk; gives the offset it came to.
    fn parse(&mut self, run: &mut OpenRun<'_>, frames_max: usize) -> Result<usize, FrameError> {
        let chunk = run.chunk.clone();
        let mut left = frames_max;
        let mut at = self.resume(run, &mut left)?;
        while at < chunk.len() && left > 0 {
            match classify(&chunk[at..]) {
                Verdict::Line => {
                    at = match self.lines.leave_uncut(run, at, &mut left, true) {
                        Some(end) => end,
                        None => self.lines.scan::<true>(run, at, &mut left),
                    };
                }
                Verdict::Counted { count, header } => {
                    run.cut();
                    run.lines = false;
                    self.body.begin(count, limit(self.lines.max()), None);
                    at = self.body.advance(run, at + header)?;
                    left -= usize::from(self.body.is_done());
                }
                Verdict::Open => {
                    self.hold(&chunk[at..]);
                    at = chunk.len();
                }
            }
        }
        Ok(at)
    }
}

impl Framer for Auto {
    fn push_up_to(&mut self, chunk: Bytes, frames: &mut Frames, frames_max: usize) -> Bytes {
        if frames_max == 0 || chunk.is_empty() {
            return chunk;
        }
        let mut run = frames.open(chunk.clone());
        run.lines = true;
        let parsed = self.parse(&mut run, frames_max);
        run.close();
        let at = parsed.expect("lines and counts without a trailer cannot fail");
        chunk.slice(at..)
    }

    fn finish(&mut self, end: End, frames: &mut Frames) {
        let held = usize::from(std::mem::take(&mut self.head_len));
        if held > 0 {
            self.lines.begin(&self.head[..held], frames);
        }
        self.lines.finish(end, frames);
        if !self.body.is_done() {
            self.body.finish(end, frames);
        }
    }

    fn pending_bytes(&self) -> usize {
        usize::from(self.head_len) + self.lines.pending_bytes() + self.body.len()
    }

    fn take_pending(&mut self) -> Bytes {
        let held = usize::from(std::mem::take(&mut self.head_len));
        if held > 0 {
            return Bytes::copy_from_slice(&self.head[..held]);
        }
        let line = self.lines.take_pending();
        if line.is_empty() {
            self.body.take()
        } else {
            line
        }
    }
}
