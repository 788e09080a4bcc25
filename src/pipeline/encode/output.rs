//! What was encoded, on its way to be written: slices of batches and of one buffer, in order.
//!
//! The buffer is one for all payloads that are written into it between two [`Output::take`]s, and
//! has room from the start for what they take if they are like the last ones.

use std::ops::Range;

use bytes::Bytes;

use super::{COPY_MAX, spare};
use crate::event::Span;

/// What was encoded: slices of batches and one buffer, in order.
#[derive(Debug, Default)]
pub struct Output {
    pieces: Vec<Piece>,
    /// What is encoded and not sliced.
    pub(super) buffer: Vec<u8>,
    /// Where the part of the buffer begins that is in no piece yet.
    open: usize,
    /// Bytes in `pieces` that are slices.
    sliced: usize,
    /// Payloads in the buffer.
    pub(super) payloads: usize,
    /// How long a payload was the last time, on average, in bytes.
    usual_bytes: usize,
    /// How long the buffer was at most, in bytes; what was long ago counts for less and less.
    most_bytes: usize,
    /// Payloads are built here where their length must be known first.
    pub(super) scratch: Vec<u8>,
}

/// How far an output had come.
pub(super) struct Checkpoint {
    pieces: usize,
    buffer_bytes: usize,
    open: usize,
    sliced: usize,
    /// How many bytes there were.
    pub(super) bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Slice(Bytes),
    Buffer(Range<usize>),
}

impl Output {
    /// Nothing yet.
    pub fn new() -> Output {
        Output::default()
    }

    /// Makes room for so many payloads like the last ones.
    pub(super) fn begin(&mut self, payloads: usize) {
        self.make_room(payloads.saturating_mul(self.usual_bytes));
    }

    /// The same where more will follow: for as much as there was of late, if that is more, and
    /// for `bytes_max` at most.
    pub(super) fn begin_within(&mut self, payloads: usize, bytes_max: usize) {
        let bytes = payloads.saturating_mul(self.usual_bytes);
        self.make_room(bytes.max(self.most_bytes).min(bytes_max));
    }

    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer = spare::with_room(bytes);
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.sliced + self.buffer.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what was encoded, in order; for datagrams one piece per event.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.cut_open();
        if let Some(usual_bytes) = self.buffer.len().checked_div(self.payloads) {
            self.usual_bytes = usual_bytes + 1;
            self.most_bytes = (self.most_bytes - self.most_bytes / 8).max(self.buffer.len());
        }
        self.payloads = 0;
        let buffer = spare::share(std::mem::take(&mut self.buffer));
        self.open = 0;
        self.sliced = 0;
        let pieces = self.pieces.drain(..).map(|piece| match piece {
            Piece::Slice(slice) => slice,
            Piece::Buffer(range) => buffer.slice(range),
        });
        pieces.collect()
    }

    /// Where the output stands, for [`Output::undo`].
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            pieces: self.pieces.len(),
            buffer_bytes: self.buffer.len(),
            open: self.open,
            sliced: self.sliced,
            bytes: self.len(),
        }
    }

    /// Takes back what was appended since.
    pub(super) fn undo(&mut self, before: &Checkpoint) {
        self.pieces.truncate(before.pieces);
        self.buffer.truncate(before.buffer_bytes);
        self.open = before.open;
        self.sliced = before.sliced;
    }

    /// Appends what is lines already, each with its newline.
    pub(super) fn lines(&mut self, bytes: &Bytes, lines: Span) {
        if lines.len() <= COPY_MAX {
            self.buffer.extend_from_slice(lines.of(bytes));
        } else {
            self.slice(lines.share(bytes));
        }
    }

    pub(super) fn slice(&mut self, bytes: Bytes) {
        self.cut_open();
        self.sliced += bytes.len();
        self.pieces.push(Piece::Slice(bytes));
    }

    /// Ends the piece that is being written into the buffer, if there is one.
    fn cut_open(&mut self) {
        if self.open < self.buffer.len() {
            self.cut();
        }
    }

    /// Ends a piece, even an empty one.
    pub(super) fn cut(&mut self) {
        self.pieces
            .push(Piece::Buffer(self.open..self.buffer.len()));
        self.open = self.buffer.len();
    }
}
