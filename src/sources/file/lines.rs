//! The bytes of one file, in their order, to events and places. Not a component.
//!
//! The framer of `protocol` cuts; this knows where in the file each cut is. A place that is given
//! out is one where a reader can begin anew: behind a whole event, never inside of one that was
//! not delivered. What is held back for the rest of a line or of an event lies behind it.

use bytes::Bytes;
use memchr::{memchr, memrchr};

use crate::protocol::{End, Framer, Frames, Framing, Run, framer};

use super::join::{Joiner, Piece, Rules};
use super::position::{Position, Print};

/// Reads one file.
pub struct Lines {
    framer: Box<dyn Framer>,
    joiner: Option<Joiner>,
    max_bytes: usize,
    /// The file's beginning, as far as it is known.
    pub head: Print,
    /// The next byte to read.
    offset: u64,
    /// Where the line under way begins, and what is before it.
    line: (u64, Print),
    /// The rest of a line is left out, of which an earlier reader delivered the first part.
    is_skipping: bool,
}

/// What some bytes gave.
#[derive(Default)]
pub struct Cut {
    /// Events, in order.
    pub pieces: Vec<Piece>,
    /// Behind them, where that is another place than before.
    pub position: Option<Position>,
}

impl Lines {
    /// Reads on from `position`.
    pub fn new(position: Position, max_bytes: usize, rules: Option<&Rules>) -> Lines {
        Lines {
            framer: framer(Framing::Lines, max_bytes),
            joiner: rules.map(Joiner::new),
            max_bytes,
            head: position.head,
            offset: position.offset,
            line: (position.offset, position.before),
            is_skipping: position.is_inside,
        }
    }

    /// The next byte to read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the line under way begins, and what is before it.
    pub fn line(&self) -> (u64, Print) {
        self.line
    }

    /// Whether an event waits for what comes next, and so for its time limit.
    pub fn has_open_event(&self) -> bool {
        let joiner = self.joiner.as_ref();
        joiner.is_some_and(|joiner| joiner.open_at().is_some())
    }

    /// Whether something was read that no event holds yet.
    pub fn holds(&self) -> bool {
        self.has_open_event() || self.framer.pending_bytes() > 0
    }

    /// Takes the next bytes. `frames` is scratch, and afterwards counts what was left out.
    pub fn push(&mut self, bytes: Bytes, frames: &mut Frames) -> Cut {
        let mut base = self.offset;
        self.offset += bytes.len() as u64;
        let Some(bytes) = self.skip(bytes, &mut base, frames) else {
            let position = self.at(self.offset, Print::default(), true);
            return Cut {
                pieces: Vec::new(),
                position: Some(position),
            };
        };
        let line_before = self.line;
        frames.leave_uncut(self.joiner.is_none());
        self.framer.push(bytes.clone(), frames);
        let newline = memrchr(b'\n', &bytes);
        if let Some(at) = newline {
            let whole = &bytes[..=at];
            self.line = (base + whole.len() as u64, Print::before(whole));
        }
        let mut cut = Cut {
            pieces: pieces(frames),
            position: newline.map(|_| self.at_line()),
        };
        if self.framer.pending_bytes() == 0 && self.offset > self.line.0 {
            cut.position = Some(self.at(self.offset, Print::before(&bytes), true));
        }
        if self.joiner.is_some() {
            self.join(&mut cut, &bytes, line_before, base);
        }
        cut
    }

    /// The file has come to its end, or nothing more is waited for: what is held is delivered.
    pub fn finish(&mut self, frames: &mut Frames) -> Cut {
        let line = self.line.0;
        self.framer.finish(End::Clean, frames);
        let mut cut = Cut {
            pieces: pieces(frames),
            position: Some(self.at(self.offset, Print::default(), false)),
        };
        if let Some(joiner) = &mut self.joiner {
            let mut joined = Vec::new();
            for piece in &cut.pieces {
                joiner.push(piece, line, &mut joined);
            }
            joiner.flush(&mut joined);
            cut.pieces = joined;
        }
        self.line = (self.offset, Print::default());
        cut
    }

    /// The open event's time is over: it is complete.
    pub fn flush(&mut self) -> Cut {
        let position = self.at_line();
        let mut cut = Cut::default();
        if let Some(joiner) = &mut self.joiner {
            joiner.flush(&mut cut.pieces);
            cut.position = Some(position);
        }
        cut
    }

    /// The file begins anew.
    pub fn restart(&mut self) {
        self.framer = framer(Framing::Lines, self.max_bytes);
        self.head = Print::default();
        self.offset = 0;
        self.line = (0, Print::default());
        self.is_skipping = false;
    }

    /// Leaves out the rest of a line; `None` while it goes on.
    fn skip(&mut self, bytes: Bytes, base: &mut u64, frames: &mut Frames) -> Option<Bytes> {
        if !self.is_skipping {
            return Some(bytes);
        }
        let Some(end) = memchr(b'\n', &bytes) else {
            frames.skipped_bytes += bytes.len() as u64;
            return None;
        };
        self.is_skipping = false;
        frames.skipped_bytes += end as u64;
        *base += end as u64 + 1;
        self.line = (*base, Print::before(&bytes[..=end]));
        Some(bytes.slice(end + 1..))
    }

    fn at(&self, offset: u64, before: Print, is_inside: bool) -> Position {
        Position {
            offset,
            head: self.head,
            before,
            is_inside,
            is_done: false,
        }
    }

    fn at_line(&self) -> Position {
        self.at(self.line.0, self.line.1, false)
    }

    /// Makes the lines of `cut` events, and moves its place before the one that is open. `line`
    /// is where the line began that the chunk, which begins at `base`, goes on with.
    fn join(&mut self, cut: &mut Cut, chunk: &Bytes, line: (u64, Print), base: u64) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let mut joined = Vec::new();
        for piece in &cut.pieces {
            let is_chunk = piece.bytes.as_ptr() == chunk.as_ptr();
            let start = if is_chunk { base } else { line.0 };
            joiner.push(piece, start, &mut joined);
        }
        cut.pieces = joined;
        let Some(open) = joiner.open_at() else {
            return;
        };
        cut.position = if open > base {
            let within = (open - base) as usize;
            Some(self.at(open, Print::before(&chunk[..within]), false))
        } else if open == line.0 {
            Some(self.at(line.0, line.1, false))
        } else {
            None
        };
    }
}

/// The runs of `frames` with their marks.
fn pieces(frames: &mut Frames) -> Vec<Piece> {
    let marks = std::mem::take(&mut frames.marks);
    let runs: Vec<Run> = frames.take_runs().collect();
    let piece = |(index, run): (usize, Run)| Piece {
        bytes: run.bytes,
        spans: run.spans,
        uncut: run.uncut,
        marks: marks
            .iter()
            .filter(|mark| mark.0 == index)
            .map(|mark| (mark.1, mark.2))
            .collect(),
        lines: run.lines,
    };
    runs.into_iter().enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Span;
    use regex::bytes::Regex;

    const TEXT: &str = "Alpha\n one\n\n two\r\nBeta\nGamma is far too long a line\n end\nDelta\n x";

    fn rules() -> Rules {
        Rules {
            starts: Some(Regex::new("^[A-Z]").unwrap()),
            continues: None,
            lines_max: 10,
            bytes_max: 100,
        }
    }

    fn texts(cut: &Cut) -> Vec<String> {
        let texts = cut.pieces.iter().flat_map(|piece| {
            let of = |span: &Span| String::from_utf8_lossy(span.of(&piece.bytes)).into_owned();
            piece.spans.iter().map(of)
        });
        texts.collect()
    }

    /// All events of `TEXT` by a reader that is given `step` bytes at a time and is replaced at
    /// the last place given out before byte `stop`.
    fn read(step: usize, stop: usize, rules: Option<&Rules>) -> Vec<String> {
        let mut frames = Frames::new();
        let mut lines = Lines::new(Position::default(), 12, rules);
        let (mut events, mut position) = (Vec::new(), Position::default());
        let mut at = 0;
        let mut is_first = true;
        while at < TEXT.len() {
            let end = (at + step).min(TEXT.len());
            let cut = lines.push(
                Bytes::copy_from_slice(&TEXT.as_bytes()[at..end]),
                &mut frames,
            );
            frames.clear();
            events.extend(texts(&cut));
            if let Some(there) = cut.position {
                position = there;
                let before = usize::from(there.before.len);
                let read = &TEXT.as_bytes()[..there.offset as usize];
                assert_eq!(Print::of(&read[read.len() - before..]), there.before);
            }
            at = end;
            if is_first && at >= stop {
                is_first = false;
                // What was not given out is read once more.
                lines = Lines::new(position, 12, rules);
                at = position.offset as usize;
            }
        }
        events.extend(texts(&lines.finish(&mut frames)));
        events
    }

    #[test]
    fn a_reader_that_is_replaced_anywhere_misses_and_repeats_nothing() {
        let plain = read(TEXT.len(), usize::MAX, None);
        let expected = [
            "Alpha",
            " one",
            " two",
            "Beta",
            "Gamma is far",
            " end",
            "Delta",
            " x",
        ];
        assert_eq!(plain, expected);
        let joined = read(TEXT.len(), usize::MAX, Some(&rules()));
        assert_eq!(joined.len(), 5, "{joined:?}");
        for step in 1..TEXT.len() {
            for stop in 0..TEXT.len() {
                assert_eq!(read(step, stop, None), plain, "{step} {stop}");
                let again = read(step, stop, Some(&rules()));
                let without_gaps = |events: &[String]| -> Vec<String> {
                    let lines = events.iter().map(|event| {
                        let lines: Vec<&str> = event.lines().filter(|it| !it.is_empty()).collect();
                        lines.join("\n")
                    });
                    lines.collect()
                };
                assert_eq!(without_gaps(&again), without_gaps(&joined), "{step} {stop}");
            }
        }
    }
}
