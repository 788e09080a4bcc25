//! What framers have in common: their trait, and what one push gives.
//!
//! [`Frames`] is the caller's, and its allocations are reused from push to push. A push gives
//! at most two runs: one with the frame that the last chunk border cut, and one that is the
//! chunk itself, with every whole frame in it as a range.
//!
//! Marks are rare, so they stand beside the runs and cost nothing where there are none.

use std::fmt;

use bytes::Bytes;

/// The longest chunk that one run can point into: ranges are 32 bits wide.
pub const CHUNK_BYTES_MAX: usize = u32::MAX as usize;

/// Span allocations that [`Frames`] keeps for reuse.
const SPARE_MAX: usize = 4;

/// A range of bytes: of a run's `bytes`, or of the text that a parser was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The span of `start..end`; both must be at most [`CHUNK_BYTES_MAX`].
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(
            start <= end && end <= CHUNK_BYTES_MAX,
            "span {start}..{end}"
        );
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The span as a range of indices.
    #[inline]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of `text` that the span covers; `text` is what the span was made for.
    #[inline]
    pub fn of(self, text: &[u8]) -> &[u8] {
        &text[self.range()]
    }
}

/// Frames that lie in the same bytes, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The chunk that was pushed, or the joined bytes of one frame that a chunk border cut.
    pub bytes: Bytes,
    /// One range of `bytes` per frame; none is empty. None at all where lines are left uncut.
    pub spans: Vec<Span>,
    /// Lines that nobody has cut apart: all that the run has.
    pub uncut: Option<Uncut>,
    /// Every frame is a line: there is no newline in it, and where exactly one byte lies
    /// between two frames it is one. Who writes lines need not look at the bytes again.
    pub lines: bool,
}

impl Run {
    /// How many frames it has.
    pub fn len(&self) -> usize {
        self.uncut.map_or(self.spans.len(), |uncut| uncut.count)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its frames, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let uncut = self
            .uncut
            .map_or(&[][..], |uncut| uncut.span.of(&self.bytes));
        let lines = uncut.split_inclusive(|byte| *byte == b'\n');
        let spans = self.spans.iter().map(|span| span.of(&self.bytes));
        lines.map(|line| &line[..line.len() - 1]).chain(spans)
    }
}

/// Lines that lie side by side and have only been counted: each is of one byte at least, has no
/// CR in it and ends with one LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncut {
    /// From the first byte of the first to behind the LF of the last.
    pub span: Span,
    /// How many.
    pub count: usize,
}

/// Something a frame's reader must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Longer than the limit: the frame is its first part.
    Truncated,
    /// The stream ended inside the frame, with the reason.
    Incomplete(&'static str),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed in order.
    Clean,
    /// The stream was cut off (reset, time limit, ...); the reason goes into the mark.
    Cut(&'static str),
}

/// The reason in the mark of a counted frame that a clean end of stream cut short.
pub(super) const ENDED_INSIDE: &str = "the stream ended inside a counted frame";

/// What a peer did that a framer cannot go on after: the connection is to be closed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A count or length does not begin with the digit it must begin with.
    CountStart(u8),
    /// A netstring length with a superfluous leading zero.
    LeadingZero,
    /// Another byte than the one that must follow a count.
    AfterCount {
        /// The byte that must follow.
        expected: u8,
        /// The byte that came.
        found: u8,
    },
    /// A count that no message has: too many digits, or too large a number.
    CountTooLarge,
    /// A frame longer than `max_message`, where the framing does not truncate.
    TooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// A netstring that does not end with a comma.
    MissingComma(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FrameError::CountStart(found) => {
                write!(
                    f,
                    "frame does not start with a count, found {}",
                    Shown(found)
                )
            }
            FrameError::LeadingZero => f.write_str("frame length has a leading zero"),
            FrameError::AfterCount { expected, found } => {
                write!(
                    f,
                    "count is followed by {}, not by {}",
                    Shown(found),
                    Shown(expected)
                )
            }
            FrameError::CountTooLarge => f.write_str("frame count is out of range"),
            FrameError::TooLong { max } => {
                write!(f, "frame is longer than max_message ({max} bytes)")
            }
            FrameError::MissingComma(found) => {
                write!(f, "netstring ends with {}, not with ','", Shown(found))
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// A peer's byte, fit for a log line: as a character where that is printable ASCII, else in hex.
struct Shown(u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ b' '..=b'~' => write!(f, "'{}'", char::from(byte)),
            byte => write!(f, "byte 0x{byte:02x}"),
        }
    }
}

/// Cuts one stream into frames. One framer per connection, per direction.
pub trait Framer {
    /// Takes the next bytes of the stream and adds every frame that they complete.
    fn push(&mut self, chunk: Bytes, frames: &mut Frames) {
        let mut rest = chunk;
        while rest.len() > CHUNK_BYTES_MAX {
            let piece = rest.split_to(CHUNK_BYTES_MAX);
            self.push_up_to(piece, frames, usize::MAX);
        }
        let unparsed = self.push_up_to(rest, frames, usize::MAX);
        debug_assert!(
            unparsed.is_empty(),
            "a push without a limit parses everything"
        );
    }

    /// As `push`, but stops after `frames_max` frames (empty ones counted) and gives back what
    /// it did not look at. For callers that may change the framing between two frames, or that
    /// bound their work per turn. `chunk` is at most [`CHUNK_BYTES_MAX`] long.
    fn push_up_to(&mut self, chunk: Bytes, frames: &mut Frames, frames_max: usize) -> Bytes;

    /// The stream has ended: adds the frame that was under way, if any. The framer is then as
    /// good as new, but one that failed stays failed.
    fn finish(&mut self, end: End, frames: &mut Frames);

    /// Bytes held of a frame that is not complete yet.
    fn pending_bytes(&self) -> usize;

    /// Hands over the bytes of the frame under way and forgets them, for a change of protocol.
    /// Counts and delimiters that were already read are not among them.
    fn take_pending(&mut self) -> Bytes;
}

/// What a push gave. Reused: [`Frames::clear`] before the next push, or take the runs.
#[derive(Debug, Default)]
pub struct Frames {
    /// The frames, in order.
    pub runs: Vec<Run>,
    /// Marks of some frames: index of the run, index of the span in it, mark.
    pub marks: Vec<(usize, usize, Mark)>,
    /// Frames without a byte in them; they are in no run.
    pub empty: u64,
    /// Bytes that are in no frame and are no delimiter: the rest of truncated frames, and
    /// counts whose frame never began.
    pub skipped_bytes: u64,
    /// Frames marked [`Mark::Truncated`].
    pub truncated: u64,
    /// Set once the peer broke the framing: close the connection with it.
    pub error: Option<FrameError>,
    spare: Vec<Vec<Span>>,
    leaves_uncut: bool,
}

impl Frames {
    /// No frames yet.
    pub fn new() -> Self {
        Frames::default()
    }

    /// From now on many lines on end may be left uncut, for who may never ask where each begins.
    pub fn leave_uncut(&mut self, may_be: bool) {
        self.leaves_uncut = may_be;
    }

    /// Number of frames in the runs.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }

    /// Whether there is no frame. Counts and `error` may be set all the same.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Every frame, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.runs.iter().flat_map(Run::iter)
    }

    /// Takes the runs out; marks and counts stay until [`Frames::clear`]. The allocation of the
    /// list is kept, those of the spans go with the runs (see [`Frames::recycle`]).
    pub fn take_runs(&mut self) -> std::vec::Drain<'_, Run> {
        self.runs.drain(..)
    }

    /// Takes back the allocation of a run's spans, to be used again.
    pub fn recycle(&mut self, mut spans: Vec<Span>) {
        if spans.capacity() > 0 && self.spare.len() < SPARE_MAX {
            spans.clear();
            self.spare.push(spans);
        }
    }

    /// Forgets everything, lets go of the chunks and keeps the allocations.
    pub fn clear(&mut self) {
        while let Some(run) = self.runs.pop() {
            self.recycle(run.spans);
        }
        self.marks.clear();
        self.empty = 0;
        self.skipped_bytes = 0;
        self.truncated = 0;
        self.error = None;
    }

    /// A run over `chunk`, to be closed after its last frame.
    pub(super) fn open(&mut self, chunk: Bytes) -> OpenRun<'_> {
        let spans = self.spare.pop().unwrap_or_default();
        OpenRun {
            frames: self,
            chunk,
            spans,
            uncut: None,
            lines: false,
        }
    }

    /// A frame of its own run.
    pub(super) fn add_joined(&mut self, bytes: Bytes, mark: Option<Mark>) {
        debug_assert!(!bytes.is_empty());
        let mut spans = self.spare.pop().unwrap_or_default();
        spans.push(Span::new(0, bytes.len()));
        if let Some(mark) = mark {
            self.mark_next(mark);
        }
        self.runs.push(Run {
            bytes,
            spans,
            uncut: None,
            lines: false,
        });
    }

    /// Marks the frame that [`Frames::add_joined`] is about to add.
    pub(super) fn mark_next(&mut self, mark: Mark) {
        self.mark(0, mark);
    }

    /// Marks span `span` of the run that will be pushed next.
    fn mark(&mut self, span: usize, mark: Mark) {
        self.truncated += u64::from(mark == Mark::Truncated);
        self.marks.push((self.runs.len(), span, mark));
    }
}

/// The run over the chunk that is being pushed. It must be closed.
pub(super) struct OpenRun<'a> {
    pub(super) frames: &'a mut Frames,
    pub(super) chunk: Bytes,
    spans: Vec<Span>,
    uncut: Option<Uncut>,
    /// What becomes [`Run::lines`].
    pub(super) lines: bool,
}

impl OpenRun<'_> {
    /// A frame that lies in the chunk and is not empty.
    #[inline]
    pub(super) fn add(&mut self, start: usize, end: usize) {
        debug_assert!(start < end && end <= self.chunk.len());
        debug_assert!(self.uncut.is_none(), "lines before a frame are cut");
        self.spans.push(Span::new(start, end));
    }

    /// A frame that lies in the chunk, with a mark.
    #[cold]
    pub(super) fn add_marked(&mut self, start: usize, end: usize, mark: Mark) {
        self.cut();
        self.frames.mark(self.spans.len(), mark);
        self.add(start, end);
    }

    /// Whether lines may be left uncut: if they come first, and for this caller.
    pub(super) fn may_leave_uncut(&self) -> bool {
        self.frames.leaves_uncut && self.spans.is_empty() && self.uncut.is_none()
    }

    /// Leaves the lines of the chunk in `start..end` uncut, `count` of them.
    pub(super) fn leave_uncut(&mut self, start: usize, end: usize, count: usize) {
        debug_assert!(self.may_leave_uncut());
        let span = Span::new(start, end);
        self.uncut = Some(Uncut { span, count });
    }

    /// Cuts the lines apart that were left uncut: other frames come behind them.
    #[cold]
    pub(super) fn cut(&mut self) {
        let Some(Uncut { span, .. }) = self.uncut.take() else {
            return;
        };
        let mut start = span.start as usize;
        for end in memchr::memchr_iter(b'\n', span.of(&self.chunk)) {
            let end = span.start as usize + end;
            self.spans.push(Span::new(start, end));
            start = end + 1;
        }
    }

    /// The frame that the last chunk border cut: it comes before every frame of this chunk.
    pub(super) fn add_joined(&mut self, bytes: Bytes, mark: Option<Mark>) {
        debug_assert!(self.spans.is_empty(), "a joined frame comes first");
        self.frames.add_joined(bytes, mark);
    }

    /// Ends the run.
    pub(super) fn close(self) {
        if self.spans.is_empty() && self.uncut.is_none() {
            self.frames.recycle(self.spans);
        } else {
            self.frames.runs.push(Run {
                bytes: self.chunk,
                spans: self.spans,
                uncut: self.uncut,
                lines: self.lines,
            });
        }
    }
}
