//! The lines that are sent round and round: made up once, shared by all reactors, only read.
//!
//! They are sent as a stream, so that a chunk ends where it is full and not where a line does.
//! How many lines a piece of the stream has ended is known from their places alone, which is
//! what the framer's answer is compared with.

use bytes::Bytes;
use clap::ValueEnum;

use crate::sources::generate;
use crate::time::WallTime;

/// Lines before they come again. About a megabyte and a half: more than the innermost caches.
const LINES: u64 = 8192;

/// What the lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Look {
    /// Lines that nobody looks into
    Raw,
    /// Syslog messages (RFC 5424)
    Syslog,
    /// A JSON object each
    Json,
    /// Access logs of a web server
    Apache,
}

impl Look {
    /// All of them.
    pub const ALL: [Look; 4] = [Look::Raw, Look::Syslog, Look::Json, Look::Apache];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Look::Raw => "raw",
            Look::Syslog => "syslog",
            Look::Json => "json",
            Look::Apache => "apache",
        }
    }
}

/// The lines of one measurement.
pub struct Corpus {
    text: Bytes,
    /// Where each line ends, its newline included.
    ends: Vec<usize>,
}

impl Corpus {
    /// Lines that look like this, as of `wall`.
    pub fn new(look: Look, wall: WallTime) -> Corpus {
        let format = match look {
            Look::Raw | Look::Syslog => "syslog",
            Look::Json => "json",
            Look::Apache => "access_log",
        };
        Corpus::of(generate::text(format, LINES, wall))
    }

    fn of(text: Bytes) -> Corpus {
        let newlines = memchr::memchr_iter(b'\n', &text);
        let ends = newlines.map(|at| at + 1).collect();
        Corpus { text, ends }
    }

    /// Fills `chunk` with the stream from `at` on; answers where that ends, and how many lines
    /// end in it.
    pub fn fill(&self, at: usize, chunk: &mut [u8]) -> (usize, u64) {
        let (mut at, mut filled, mut lines) = (at, 0, 0);
        while filled < chunk.len() {
            let bytes = (chunk.len() - filled).min(self.text.len() - at);
            let piece = &self.text[at..at + bytes];
            chunk[filled..filled + bytes].copy_from_slice(piece);
            filled += bytes;
            lines += self.ended(at + bytes) - self.ended(at);
            at = (at + bytes) % self.text.len();
        }
        (at, lines)
    }

    /// The bytes from `at` to the end of the line that it is in; none where a line begins there.
    pub fn rest_of_line(&self, at: usize) -> usize {
        match self.ended(at) as usize {
            line if line == 0 && at == 0 => 0,
            line if line > 0 && self.ends[line - 1] == at => 0,
            line => self.ends[line] - at,
        }
    }

    /// The bytes of the `lines` lines that begin at `at`; of fewer where these would be more than
    /// `bytes_max` or go beyond the last one.
    pub fn bytes_of_lines(&self, at: usize, lines: u64, bytes_max: usize) -> usize {
        let fitting = self.ended(at.saturating_add(bytes_max));
        let last = (self.ended(at) + lines).min(fitting);
        let end = match last {
            0 => 0,
            last => self.ends[last as usize - 1],
        };
        end.saturating_sub(at)
    }

    /// Lines that have ended before the place `at`.
    fn ended(&self, at: usize) -> u64 {
        self.ends.partition_point(|end| *end <= at) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(text: &'static str) -> Corpus {
        Corpus::of(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn the_stream_goes_round_and_its_lines_are_counted_wherever_it_is_cut() {
        let corpus = corpus("a\nbcd\nef\n");
        let whole = b"a\nbcd\nef\na\nbcd\nef\na\nbcd\nef\n";
        for begin in 0..9 {
            for bytes in 1..18 {
                let mut chunk = vec![0; bytes];
                let (end, lines) = corpus.fill(begin, &mut chunk);
                let expected = &whole[begin..begin + bytes];
                assert_eq!(chunk, expected);
                assert_eq!(end, (begin + bytes) % 9);
                let newlines = expected.iter().filter(|byte| **byte == b'\n');
                assert_eq!(lines, newlines.count() as u64, "{begin} {bytes}");
            }
        }
    }

    #[test]
    fn a_line_that_was_begun_has_a_rest() {
        let corpus = corpus("a\nbcd\nef\n");
        let rests = (0..9).map(|at| corpus.rest_of_line(at));
        assert_eq!(rests.collect::<Vec<_>>(), [0, 1, 0, 3, 2, 1, 0, 2, 1]);
    }

    #[test]
    fn whole_lines_are_taken_within_both_limits() {
        let corpus = corpus("a\nbcd\nef\n");
        let check = |at, lines, most, expected| {
            assert_eq!(corpus.bytes_of_lines(at, lines, most), expected, "{at}");
        };
        check(0, 2, 99, 6);
        check(0, 2, 5, 2);
        check(0, 2, 1, 0);
        check(2, 1, 99, 4);
        check(6, 5, 99, 3);
        check(2, 0, 99, 0);
    }

    #[test]
    fn every_look_has_lines() {
        for look in Look::ALL {
            let corpus = Corpus::new(look, WallTime::from_micros(0));
            assert_eq!(corpus.ends.len() as u64, LINES);
            assert_eq!(corpus.ends.last(), Some(&corpus.text.len()));
            let value = look.to_possible_value();
            assert_eq!(
                value.map(|it| it.get_name().to_owned()),
                Some(look.word().into())
            );
        }
    }
}
