//! Lines to events that span several: stack traces, wrapped records. Not a component.
//!
//! A line begins an event or belongs to the one before; patterns say which. An event within one
//! chunk is one range of it, newlines and all; only one that is still open at a chunk's end is
//! copied. Bounds: [`Rules::lines_max`] lines and [`Rules::bytes_max`] bytes an event; at either
//! the event ends and the next line begins another, so nothing is cut off. So it is behind a line
//! that was cut.

use bytes::Bytes;
use regex::bytes::Regex;

use crate::protocol::{Mark, Span, Uncut};

/// Which lines belong together.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A line that matches begins an event; where it is absent every line does that does not
    /// match `continues`.
    pub starts: Option<Regex>,
    /// A line that matches belongs to the event before it.
    pub continues: Option<Regex>,
    /// Lines of one event at most.
    pub lines_max: usize,
    /// Bytes of one event at most.
    pub bytes_max: usize,
}

impl Rules {
    fn begins(&self, line: &[u8]) -> bool {
        let is = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.is_match(line));
        match (is(&self.starts), is(&self.continues)) {
            (Some(true), _) => true,
            (Some(false), None) => false,
            (_, continues) => continues != Some(true),
        }
    }
}

/// Events that lie in the same bytes.
#[derive(Debug, Default)]
pub struct Piece {
    /// A chunk, or the copy of one event.
    pub bytes: Bytes,
    /// The events.
    pub spans: Vec<Span>,
    /// Lines that are all its events, and that nobody has cut apart.
    pub uncut: Option<Uncut>,
    /// Marks of events, by their index.
    pub marks: Vec<(usize, Mark)>,
    /// Every event is one line.
    pub lines: bool,
}

/// Joins the lines of one file.
#[derive(Debug)]
pub struct Joiner {
    rules: Rules,
    open: Option<Event>,
}

/// An event that may go on.
#[derive(Debug)]
struct Event {
    /// Where it begins in the file.
    start: u64,
    text: Vec<u8>,
    lines: usize,
    mark: Option<Mark>,
}

/// Lines of a run that follow each other and are one event so far.
#[derive(Clone, Copy)]
struct Range {
    span: Span,
    lines: usize,
    mark: Option<Mark>,
}

impl Joiner {
    /// Nothing is open yet.
    pub fn new(rules: &Rules) -> Joiner {
        Joiner {
            rules: rules.clone(),
            open: None,
        }
    }

    /// Where the event begins that is not complete, in the file.
    pub fn open_at(&self) -> Option<u64> {
        self.open.as_ref().map(|event| event.start)
    }

    /// Takes the lines of `piece`, whose bytes begin at `base` in the file, and adds the events
    /// that they complete.
    pub fn push(&mut self, piece: &Piece, base: u64, out: &mut Vec<Piece>) {
        let mut whole = Piece {
            bytes: piece.bytes.clone(),
            ..Piece::default()
        };
        let mut current: Option<Range> = None;
        let mut marks = piece.marks.iter().peekable();
        for (index, span) in piece.spans.iter().enumerate() {
            let mark = marks.next_if(|(at, _)| *at == index).map(|(_, mark)| *mark);
            let line = Range {
                span: *span,
                lines: 1,
                mark,
            };
            if !self.rules.begins(span.of(&piece.bytes)) {
                match &mut current {
                    Some(range) if self.fits(*range, line) => {
                        range.span.end = span.end;
                        range.lines += 1;
                        range.mark = range.mark.or(mark);
                        continue;
                    }
                    None if self.extend(line, &piece.bytes) => continue,
                    _ => {}
                }
            }
            self.flush(out);
            whole.add(current.replace(line));
        }
        let last = current;
        if let Some(range) = last {
            self.open = Some(Event {
                start: base + u64::from(range.span.start),
                text: range.span.of(&piece.bytes).to_vec(),
                lines: range.lines,
                mark: range.mark,
            });
        }
        if !whole.spans.is_empty() {
            out.push(whole);
        }
    }

    fn fits(&self, range: Range, line: Range) -> bool {
        let bytes = (line.span.end - range.span.start) as usize;
        let has_room = range.lines < self.rules.lines_max && bytes <= self.rules.bytes_max;
        has_room && range.mark.is_none()
    }

    /// Adds a line to the open event, if there is one that takes it.
    fn extend(&mut self, line: Range, bytes: &Bytes) -> bool {
        let Some(event) = &mut self.open else {
            return false;
        };
        let total = event.text.len() + 1 + line.span.len();
        let has_room = event.lines < self.rules.lines_max && total <= self.rules.bytes_max;
        if !has_room || event.mark.is_some() {
            return false;
        }
        event.text.push(b'\n');
        event.text.extend_from_slice(line.span.of(bytes));
        event.lines += 1;
        event.mark = event.mark.or(line.mark);
        true
    }

    /// The open event is complete.
    pub fn flush(&mut self, out: &mut Vec<Piece>) {
        let Some(event) = self.open.take() else {
            return;
        };
        let span = Span::new(0, event.text.len());
        out.push(Piece {
            bytes: Bytes::from(event.text),
            spans: vec![span],
            uncut: None,
            marks: event.mark.into_iter().map(|mark| (0, mark)).collect(),
            lines: false,
        });
    }
}

impl Piece {
    fn add(&mut self, range: Option<Range>) {
        let Some(range) = range else { return };
        self.marks
            .extend(range.mark.map(|mark| (self.spans.len(), mark)));
        self.spans.push(range.span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of `text`, cut into chunks after each `|`.
    fn joined(starts: Option<&str>, continues: Option<&str>, text: &str) -> Vec<String> {
        let regex = |text: &str| Regex::new(text).unwrap();
        let mut joiner = Joiner::new(&Rules {
            starts: starts.map(regex),
            continues: continues.map(regex),
            lines_max: 3,
            bytes_max: 20,
        });
        let mut out = Vec::new();
        for chunk in text.split('|') {
            let bytes = Bytes::from(chunk.to_owned());
            let mut spans = Vec::new();
            let mut at = 0;
            for line in chunk.split_inclusive('\n') {
                spans.push(Span::new(at, at + line.trim_end().len()));
                at += line.len();
            }
            let piece = Piece {
                bytes,
                spans,
                ..Piece::default()
            };
            joiner.push(&piece, 0, &mut out);
        }
        joiner.flush(&mut out);
        let texts = out.iter().flat_map(|piece| {
            let of = |span: &Span| String::from_utf8_lossy(span.of(&piece.bytes)).into_owned();
            piece.spans.iter().map(of)
        });
        texts.collect()
    }

    #[test]
    fn lines_are_joined_the_same_however_the_chunks_are_cut() {
        let check = |starts, continues, text: &str, expected: &[&str]| {
            assert_eq!(joined(starts, continues, text), expected, "{text}");
            let cut = text.replace('\n', "\n|");
            assert_eq!(joined(starts, continues, &cut), expected, "{cut}");
        };
        let starts = Some("^[A-Z]");
        check(
            starts,
            None,
            "A\n b\n c\nB\nC\n d\n",
            &["A\n b\n c", "B", "C\n d"],
        );
        check(starts, None, " x\n y\nA\n", &[" x\n y", "A"]);
        check(None, Some(r"^\s"), "a\n b\nc\n", &["a\n b", "c"]);
        check(
            starts,
            Some(r"^\s"),
            "A\n b\nc\n d\nB\n",
            &["A\n b", "c\n d", "B"],
        );
        check(
            starts,
            None,
            "A\n b\n c\n d\n e\n",
            &["A\n b\n c", " d\n e"],
        );
        check(
            starts,
            None,
            "A\n 34567890\n 34567890\n 3\n",
            &["A\n 34567890", " 34567890\n 3"],
        );
    }

    #[test]
    fn a_mark_stays_with_its_event() {
        let rules = Rules {
            starts: Some(Regex::new("^A").unwrap()),
            continues: None,
            lines_max: 9,
            bytes_max: 99,
        };
        let mut joiner = Joiner::new(&rules);
        let piece = Piece {
            bytes: Bytes::from_static(b"A\nb\nA\nc\nA\n"),
            spans: (0..5).map(|n| Span::new(2 * n, 2 * n + 1)).collect(),
            uncut: None,
            marks: vec![(3, Mark::Truncated)],
            lines: true,
        };
        let mut out = Vec::new();
        joiner.push(&piece, 100, &mut out);
        assert_eq!(joiner.open_at(), Some(108));
        assert_eq!(out[0].marks, [(1, Mark::Truncated)]);
    }
}
