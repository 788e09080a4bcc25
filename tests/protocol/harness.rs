//! Feeds framers and gathers what they give into one comparable value.
//!
//! Every push is checked for the invariants of `Frames` on the way: ranges lie in their bytes,
//! in order and not empty; marks name frames; what is held stays bounded.

use bytes::Bytes;
use marline::protocol::{End, FrameError, Frames, Framing, Mark, Run, framer};

/// What a stream came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Every frame with its marks.
    pub frames: Vec<(Vec<u8>, Vec<Mark>)>,
    pub empty: u64,
    pub skipped_bytes: u64,
    pub error: Option<FrameError>,
}

impl Outcome {
    /// The frames alone, as text.
    pub fn texts(&self) -> Vec<String> {
        let texts = self
            .frames
            .iter()
            .map(|(bytes, _)| String::from_utf8_lossy(bytes).into());
        texts.collect()
    }

    /// Adds what one push gave.
    pub fn add(&mut self, frames: &Frames) {
        check(frames);
        let first = self.frames.len();
        self.frames
            .extend(frames.iter().map(|frame| (frame.to_vec(), Vec::new())));
        for &(run, span, mark) in &frames.marks {
            let before: usize = frames.runs[..run].iter().map(Run::len).sum();
            self.frames[first + before + span].1.push(mark);
        }
        self.empty += frames.empty;
        self.skipped_bytes += frames.skipped_bytes;
        if self.error.is_none() {
            self.error.clone_from(&frames.error);
        }
    }
}

/// What [`Run::lines`] promises.
fn are_lines(run: &Run) -> bool {
    let between = run.spans.windows(2).all(|pair| {
        let gap = &run.bytes[pair[0].end as usize..pair[1].start as usize];
        gap.len() > 1 || gap == b"\n"
    });
    between
        && run
            .spans
            .iter()
            .all(|span| !span.of(&run.bytes).contains(&b'\n'))
}

/// The invariants of one push.
fn check(frames: &Frames) {
    assert!(
        frames.runs.len() <= 2,
        "{} runs in one push",
        frames.runs.len()
    );
    for run in &frames.runs {
        assert!(!run.is_empty(), "a run without a frame");
        assert_eq!(run.iter().count(), run.len());
        if run.uncut.is_some() {
            assert!(
                run.spans.is_empty() && run.lines,
                "lines and other frames: {run:?}"
            );
            assert!(
                run.iter()
                    .all(|line| !line.is_empty() && !line.contains(&b'\r'))
            );
        }
        let mut at = 0;
        for span in &run.spans {
            assert!(
                span.start >= at && span.end > span.start,
                "{span:?} after {at}"
            );
            assert!(
                span.end as usize <= run.bytes.len(),
                "{span:?} of {}",
                run.bytes.len()
            );
            at = span.end;
        }
        assert!(!run.lines || are_lines(run), "not lines: {run:?}");
    }
    let truncated = frames
        .marks
        .iter()
        .filter(|(.., mark)| *mark == Mark::Truncated)
        .count();
    assert_eq!(truncated as u64, frames.truncated);
}

/// Feeds the pieces to a fresh framer and ends the stream.
pub fn feed<'a>(
    kind: Framing,
    max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    end: End,
) -> Outcome {
    let mut framer = framer(kind, max);
    let mut frames = Frames::new();
    let mut outcome = Outcome::default();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece), &mut frames);
        outcome.add(&frames);
        frames.clear();
        // A line that is not decided holds its CR as well; auto at most 12 bytes of a count.
        assert!(
            framer.pending_bytes() <= max.max(12) + 1,
            "{}",
            framer.pending_bytes()
        );
    }
    framer.finish(end, &mut frames);
    outcome.add(&frames);
    assert_eq!(framer.pending_bytes(), 0, "nothing is held after the end");
    outcome
}

/// As [`feed`], for who lets lines be uncut; says also in how many pushes they were.
pub fn feed_leaving_uncut<'a>(
    kind: Framing,
    max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Outcome, usize) {
    let mut framer = framer(kind, max);
    let mut frames = Frames::new();
    frames.leave_uncut(true);
    let (mut outcome, mut uncut) = (Outcome::default(), 0);
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece), &mut frames);
        uncut += usize::from(frames.runs.iter().any(|run| run.uncut.is_some()));
        outcome.add(&frames);
        frames.clear();
    }
    framer.finish(End::Clean, &mut frames);
    outcome.add(&frames);
    (outcome, uncut)
}

/// Feeds the stream in one piece and ends it in order.
pub fn feed_whole(kind: Framing, max: usize, stream: &[u8]) -> Outcome {
    feed(kind, max, [stream], End::Clean)
}

/// As `feed`, but asks for one frame at a time.
pub fn feed_one_by_one(kind: Framing, max: usize, stream: &[u8], end: End) -> Outcome {
    let mut framer = framer(kind, max);
    let mut frames = Frames::new();
    let mut outcome = Outcome::default();
    let mut rest = Bytes::copy_from_slice(stream);
    while !rest.is_empty() {
        let before = rest.len();
        rest = framer.push_up_to(rest, &mut frames, 1);
        let came = frames.len() as u64 + frames.empty;
        assert!(came <= 1, "{came} frames where one was asked for");
        assert!(
            rest.len() < before,
            "no progress at {before} bytes from the end"
        );
        outcome.add(&frames);
        frames.clear();
    }
    framer.finish(end, &mut frames);
    outcome.add(&frames);
    outcome
}

/// Splits the stream behind each of the offsets, which ascend.
pub fn cut<'a>(stream: &'a [u8], offsets: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for &offset in offsets {
        pieces.push(&stream[start..offset]);
        start = offset;
    }
    pieces.push(&stream[start..]);
    pieces
}

/// A small generator (xorshift64*): the same numbers from the same seed on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize) % limit
    }

    /// Up to `count` offsets of a stream, ascending.
    pub fn offsets(&mut self, len: usize, count: usize) -> Vec<usize> {
        let mut offsets: Vec<usize> = (0..count).map(|_| self.below(len + 1)).collect();
        offsets.sort_unstable();
        offsets
    }
}
