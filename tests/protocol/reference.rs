//! Slow and obvious twins of the framers: they see the whole stream at once.
//!
//! Written from the rules (DESIGN, RFC 6587), not from the framers.

use marline::protocol::{End, FrameError, Framing, Mark};

use super::harness::Outcome;

/// What the framing must make of the whole stream.
pub fn reference(kind: Framing, max: usize, stream: &[u8], end: End) -> Outcome {
    let mut twin = Twin {
        max,
        end,
        outcome: Outcome::default(),
    };
    match kind {
        Framing::Lines => twin.delimited(stream, b'\n'),
        Framing::Nul => twin.delimited(stream, 0),
        Framing::OctetCounted => twin.octet_counted(stream),
        Framing::Auto => twin.auto(stream),
        Framing::LengthU32 => twin.length_u32(stream),
        Framing::Netstring => twin.netstring(stream),
        Framing::Whole => twin.whole(stream),
        Framing::Datagram => twin.datagram(stream),
    }
    twin.outcome
}

struct Twin {
    max: usize,
    end: End,
    outcome: Outcome,
}

impl Twin {
    /// A frame whose end was seen.
    fn frame(&mut self, content: &[u8]) {
        if content.is_empty() {
            self.outcome.empty += 1;
        } else if content.len() <= self.max {
            self.outcome.frames.push((content.to_vec(), vec![]));
        } else {
            let first = content[..self.max].to_vec();
            self.outcome.frames.push((first, vec![Mark::Truncated]));
            self.outcome.skipped_bytes += (content.len() - self.max) as u64;
        }
    }

    fn fail(&mut self, error: FrameError) {
        self.outcome.error = Some(error);
    }

    fn delimited(&mut self, stream: &[u8], delimiter: u8) {
        let mut rest = stream;
        while let Some(at) = rest.iter().position(|&byte| byte == delimiter) {
            self.frame(line_content(&rest[..at], delimiter));
            rest = &rest[at + 1..];
        }
        self.unended_line(rest, delimiter);
    }

    /// What stands behind the last delimiter.
    fn unended_line(&mut self, rest: &[u8], delimiter: u8) {
        if rest.is_empty() {
            return;
        }
        let mut marks = vec![];
        // Given up as too long before the end came: then the end says nothing new.
        let certain = line_content(rest, delimiter).len();
        if let (End::Cut(reason), true) = (self.end, certain <= self.max) {
            marks.push(Mark::Incomplete(reason));
        }
        if rest.len() > self.max {
            marks.push(Mark::Truncated);
            self.outcome.skipped_bytes += (rest.len() - self.max) as u64;
        }
        let kept = rest[..rest.len().min(self.max)].to_vec();
        self.outcome.frames.push((kept, marks));
    }

    /// `length` bytes of payload at the beginning of `rest`; gives what follows, if the frame
    /// is complete.
    fn counted<'a>(&mut self, rest: &'a [u8], length: usize) -> Option<&'a [u8]> {
        if rest.len() >= length {
            self.frame(&rest[..length]);
            return Some(&rest[length..]);
        }
        if rest.len() >= self.max && length > self.max {
            self.outcome
                .frames
                .push((rest[..self.max].to_vec(), vec![Mark::Truncated]));
            self.outcome.skipped_bytes += (rest.len() - self.max) as u64;
        } else {
            self.incomplete(rest);
        }
        None
    }

    /// A counted frame of which `part` came.
    fn incomplete(&mut self, part: &[u8]) {
        let reason = match self.end {
            End::Clean => "the stream ended inside a counted frame",
            End::Cut(reason) => reason,
        };
        if part.is_empty() {
            self.outcome.empty += 1;
        } else {
            self.outcome
                .frames
                .push((part.to_vec(), vec![Mark::Incomplete(reason)]));
        }
    }

    fn octet_counted(&mut self, stream: &[u8]) {
        let mut rest = stream;
        while !rest.is_empty() {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if rest[0] == b'0' {
                return self.fail(FrameError::LeadingZero);
            } else if digits == 0 {
                return self.fail(FrameError::CountStart(rest[0]));
            } else if digits > 10 {
                return self.fail(FrameError::CountTooLarge);
            } else if digits == rest.len() {
                self.outcome.skipped_bytes += digits as u64;
                return;
            } else if rest[digits] != b' ' {
                let found = rest[digits];
                return self.fail(FrameError::AfterCount {
                    expected: b' ',
                    found,
                });
            }
            let count = decimal(&rest[..digits]);
            if count > u64::from(u32::MAX) {
                return self.fail(FrameError::CountTooLarge);
            }
            match self.counted(&rest[digits + 1..], count as usize) {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    fn auto(&mut self, stream: &[u8]) {
        let mut rest = stream;
        while !rest.is_empty() {
            if let Some((header, count)) = syslog_count(rest) {
                match self.counted(&rest[header..], count as usize) {
                    Some(after) => rest = after,
                    None => return,
                }
            } else if let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
                self.frame(line_content(&rest[..at], b'\n'));
                rest = &rest[at + 1..];
            } else {
                return self.unended_line(rest, b'\n');
            }
        }
    }

    fn length_u32(&mut self, stream: &[u8]) {
        let mut rest = stream;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > self.max {
                return self.fail(FrameError::TooLong { max: self.max });
            }
            match self.counted(after, length) {
                Some(after) => rest = after,
                None => return,
            }
        }
        self.outcome.skipped_bytes += rest.len() as u64;
    }

    fn netstring(&mut self, stream: &[u8]) {
        let mut rest = stream;
        while !rest.is_empty() {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            for len in 1..=digits {
                if rest[0] == b'0' && len > 1 {
                    return self.fail(FrameError::LeadingZero);
                }
                if decimal(&rest[..len]) > self.max as u64 {
                    return self.fail(FrameError::TooLong { max: self.max });
                }
            }
            if digits == rest.len() {
                self.outcome.skipped_bytes += digits as u64;
                return;
            }
            match rest[digits] {
                found if digits == 0 => return self.fail(FrameError::CountStart(found)),
                b':' => {}
                found => {
                    return self.fail(FrameError::AfterCount {
                        expected: b':',
                        found,
                    });
                }
            }
            let (length, after) = (decimal(&rest[..digits]) as usize, &rest[digits + 1..]);
            match after.get(length) {
                Some(b',') => self.frame(&after[..length]),
                Some(&found) => return self.fail(FrameError::MissingComma(found)),
                None => return self.incomplete(after),
            }
            rest = &after[length + 1..];
        }
    }

    fn whole(&mut self, stream: &[u8]) {
        let before = self.outcome.frames.len();
        self.frame(stream);
        if let (End::Cut(reason), Some((_, marks))) =
            (self.end, self.outcome.frames.get_mut(before))
        {
            marks.insert(0, Mark::Incomplete(reason));
        }
    }

    fn datagram(&mut self, stream: &[u8]) {
        let content = stream.strip_suffix(b"\n");
        self.frame(content.map_or(stream, |text| line_content(text, b'\n')));
    }
}

/// A line without the CR before its LF.
fn line_content(line: &[u8], delimiter: u8) -> &[u8] {
    if delimiter == b'\n' {
        line.strip_suffix(b"\r").unwrap_or(line)
    } else {
        line
    }
}

fn decimal(digits: &[u8]) -> u64 {
    let text = std::str::from_utf8(digits).unwrap();
    text.parse().unwrap_or(u64::MAX)
}

/// A count with its space, where `<` and a digit follow: its length in bytes, and its value.
fn syslog_count(text: &[u8]) -> Option<(usize, u64)> {
    let space = text.iter().take(11).position(|&byte| byte == b' ')?;
    let digits = &text[..space];
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = decimal(digits);
    let follows = matches!(&text[space + 1..], [b'<', b'0'..=b'9', ..]);
    (follows && (3..=u64::from(u32::MAX)).contains(&count)).then_some((space + 1, count))
}
