//! The machine of the counted framings: a header that announces a length, then the payload.
//!
//! A framing is its [`Header`]: how the length is read, byte by byte, and what may be wrong with
//! it. After an error the framer is deaf: there is no delimiter to find the way back by.

use bytes::Bytes;

use super::body::{Body, limit};
use super::frames::{End, FrameError, Framer, Frames, OpenRun};

/// What announces the length of a frame.
pub(super) trait Header: Default {
    /// The byte that must follow the payload.
    const TRAILER: Option<u8>;

    /// Reads one byte. Gives the length of the frame after the last byte of the header, and
    /// `None` before. `max` is the limit of a frame, in bytes.
    fn read(&mut self, byte: u8, max: u32) -> Result<Option<u64>, FrameError>;

    /// Bytes read so far.
    fn bytes(&self) -> u8;
}

/// Cuts at the lengths that `H` announces.
#[derive(Debug)]
pub(super) struct Counted<H> {
    max: u32,
    body: Body,
    state: State<H>,
}

#[derive(Debug)]
enum State<H> {
    Header(H),
    Body,
    Failed,
}

impl<H: Header> Counted<H> {
    pub(super) fn new(max: usize) -> Self {
        Counted {
            max: limit(max),
            body: Body::default(),
            state: State::Header(H::default()),
        }
    }

    /// Parses the run's chunk until `frames_max` frames ended; gives the offset it came to.
    fn parse(&mut self, run: &mut OpenRun<'_>, frames_max: usize) -> Result<usize, FrameError> {
        let chunk = run.chunk.clone();
        let mut left = frames_max;
        let mut at = 0;
        while at < chunk.len() && left > 0 {
            let ended = match &mut self.state {
                State::Failed => return Ok(chunk.len()),
                State::Body => {
                    at = self.body.advance(run, at)?;
                    self.body.is_done()
                }
                State::Header(header) => {
                    let length = header.read(chunk[at], self.max)?;
                    at += 1;
                    length.is_some_and(|length| self.begin(length, run))
                }
            };
            if ended {
                self.state = State::Header(H::default());
                left -= 1;
            }
        }
        Ok(at)
    }

    /// The header is read; gives whether the frame has ended with it.
    fn begin(&mut self, length: u64, run: &mut OpenRun<'_>) -> bool {
        if length == 0 && H::TRAILER.is_none() {
            run.frames.empty += 1;
            return true;
        }
        self.body.begin(length, self.max, H::TRAILER);
        self.state = State::Body;
        false
    }
}

impl<H: Header> Framer for Counted<H> {
    fn push_up_to(&mut self, chunk: Bytes, frames: &mut Frames, frames_max: usize) -> Bytes {
        let mut run = frames.open(chunk.clone());
        let parsed = self.parse(&mut run, frames_max);
        run.close();
        match parsed {
            Ok(at) => chunk.slice(at..),
            Err(error) => {
                self.body.take();
                self.state = State::Failed;
                frames.error = Some(error);
                Bytes::new()
            }
        }
    }

    fn finish(&mut self, end: End, frames: &mut Frames) {
        match &self.state {
            State::Failed => return,
            State::Header(header) => frames.skipped_bytes += u64::from(header.bytes()),
            State::Body => self.body.finish(end, frames),
        }
        self.state = State::Header(H::default());
    }

    fn pending_bytes(&self) -> usize {
        self.body.len()
    }

    fn take_pending(&mut self) -> Bytes {
        if !matches!(self.state, State::Failed) {
            self.state = State::Header(H::default());
        }
        self.body.take()
    }
}
