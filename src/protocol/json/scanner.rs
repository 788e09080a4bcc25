//! The validator behind the JSON functions: one pass, by hand, for speed.
//!
//! Strings are where the bytes are, so they are searched eight bytes at a time; whether there is
//! anything but ASCII is noticed on the way, and only then the text is checked to be UTF-8.
//! (Outside of strings every byte over 0x7f is an error anyway.)
//!
//! Errors are a unit inside, to keep results in registers; the place stays in the scanner.

use super::number;
use super::{DEPTH_MAX, FIELDS_MAX, Field, JsonError, Kind, NOT_AN_OBJECT};
use crate::protocol::frames::Span;

/// Something is wrong; the scanner knows what.
#[derive(Debug)]
pub(super) struct Wrong;

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// A position in a JSON text.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: u8,
    /// All words of strings, or-ed: a high bit tells of bytes over 0x7f.
    seen: u64,
    what: &'static str,
}

/// The first high bit that is set marks the first `"`, `\` or control character of the word.
/// (Mycroft's test: bytes after a hit may be marked wrongly, bytes before it never.) With one bit
/// turned over, a quote is the smallest byte that is no control character.
#[inline]
pub(super) fn special(word: u64) -> u64 {
    let turned = word ^ (ONES * 2);
    let low = turned.wrapping_sub(ONES * 0x21) & !turned;
    let backslash = word ^ (ONES * b'\\' as u64);
    (low | backslash.wrapping_sub(ONES) & !backslash) & HIGHS
}

/// The eight bytes at `at`, first byte lowest.
#[inline]
pub(super) fn word(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// Where a string ends whose inside begins at `start`, if it has no escapes. What was read is
/// or-ed into `seen`.
#[inline(always)]
fn plain_end(text: &[u8], start: usize, seen: &mut u64) -> Option<usize> {
    let (words, rest) = text.get(start..)?.as_chunks::<8>();
    let mut at = start;
    for word in words {
        let word = u64::from_le_bytes(*word);
        *seen |= word;
        let hits = special(word);
        if hits != 0 {
            return quote_in(word, hits).map(|index| at + index);
        }
        at += 8;
    }
    // The last bytes of the text, moved down; what is moved in is no quote.
    let moved = u64::from_le_bytes(*text.last_chunk::<8>()?);
    let word = moved.checked_shr(64 - 8 * rest.len() as u32)?;
    *seen |= word;
    quote_in(word, special(word)).map(|index| at + index)
}

/// The place in `word` of its first hit, where that is a quote.
#[inline(always)]
fn quote_in(word: u64, hits: u64) -> Option<usize> {
    let index = hits.trailing_zeros() / 8;
    (word >> (8 * index) & 0xff == u64::from(b'"')).then_some(index as usize)
}

/// A member of an object whose quote is at `at`, where it is the usual: no whitespace, no escapes,
/// and the value a string or a number. Anything else is for [`Scanner::members`] to read, and to
/// say what is wrong with it.
#[inline(always)]
fn plain_member(text: &[u8], at: usize, seen: &mut u64) -> Option<Field> {
    let key_end = plain_end(text, at + 1, seen)?;
    let start = key_end + 2;
    let &[b':', first] = text.get(key_end + 1..)?.first_chunk::<2>()? else {
        return None;
    };
    let (end, kind) = match first {
        b'"' => (plain_end(text, start + 1, seen)? + 1, Kind::String),
        b'-' | b'0'..=b'9' => number::scan(text, start).ok()?,
        _ => return None,
    };
    Some(Field {
        key: Span::new(at + 1, key_end),
        value: Span::new(start, end),
        kind,
        key_escaped: false,
        value_escaped: false,
    })
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Scanner {
            text,
            at: 0,
            depth: 0,
            seen: 0,
            what: "",
        }
    }

    /// What was wrong.
    pub(super) fn error(&self) -> JsonError {
        JsonError {
            offset: self.at,
            what: self.what,
        }
    }

    #[cold]
    fn wrong<T>(&mut self, what: &'static str) -> Result<T, Wrong> {
        self.what = if self.at >= self.text.len() {
            "text ends too early"
        } else {
            what
        };
        self.at = self.at.min(self.text.len());
        Err(Wrong)
    }

    /// One value, read by `parse`, and nothing else in the text.
    pub(super) fn document<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        let value = parse(self)?;
        if self.peek().is_some() {
            return self.wrong("more text after the value");
        }
        if self.seen & HIGHS != 0
            && let Err(error) = std::str::from_utf8(self.text)
        {
            self.at = error.valid_up_to();
            return self.wrong("invalid UTF-8");
        }
        Ok(value)
    }

    /// The next byte that is not whitespace; it stays next.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.text.get(self.at) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => self.peek_far(),
        }
    }

    /// As `peek`, where the next byte may be whitespace.
    fn peek_far(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    /// Enters an array or object, whose bracket is the next byte.
    #[inline]
    fn enter(&mut self) -> Result<(), Wrong> {
        if self.depth == DEPTH_MAX {
            return self.wrong("nested too deep");
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Leaves an array or object, whose bracket is the next byte.
    #[inline]
    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// An object, each of whose fields is handed to `found`.
    #[inline]
    pub(super) fn fields(&mut self, mut found: impl FnMut(Field)) -> Result<(), Wrong> {
        if self.peek() != Some(b'{') {
            return self.wrong(NOT_AN_OBJECT);
        }
        let mut count = 0;
        self.members(|scanner| {
            let text = scanner.text;
            let (mut at, mut seen) = (scanner.at, 0);
            while count < FIELDS_MAX {
                let field = match plain_member(text, at, &mut seen) {
                    Some(field) => field,
                    None => {
                        (scanner.at, scanner.seen) = (at, scanner.seen | seen);
                        scanner.field()?
                    }
                };
                count += 1;
                at = field.value.end as usize;
                found(field);
                // Another member, right behind the comma.
                if text.get(at..).and_then(<[u8]>::first_chunk) != Some(b",\"") {
                    (scanner.at, scanner.seen) = (at, scanner.seen | seen);
                    return Ok(());
                }
                at += 1;
            }
            scanner.at = at;
            scanner.wrong("too many fields")
        })
    }

    /// A member of any kind, whose quote is the next byte.
    #[cold]
    fn field(&mut self) -> Result<Field, Wrong> {
        let start = self.at + 1;
        let key_escaped = self.key()?;
        let key = Span::new(start, self.at - 1);
        self.colon()?;
        let start = self.at;
        let (kind, value_escaped) = self.value_here()?;
        Ok(Field {
            key,
            value: Span::new(start, self.at),
            kind,
            key_escaped,
            value_escaped,
        })
    }

    /// An object whose brace is the next byte; `member` reads one member of it.
    #[inline]
    fn members(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        self.enter()?;
        if self.peek() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.wrong("expected a key in quotes");
            }
            member(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.leave();
                    return Ok(());
                }
                _ => return self.wrong("expected ',' or '}'"),
            }
        }
    }

    /// An array whose bracket is the next byte; `element` reads one element of it.
    #[inline]
    pub(super) fn items(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        self.enter()?;
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(());
        }
        loop {
            self.peek();
            element(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.leave();
                    return Ok(());
                }
                _ => return self.wrong("expected ',' or ']'"),
            }
        }
    }

    /// An array, with its elements into `out`, of which there may be `max`.
    pub(super) fn elements(&mut self, out: &mut Vec<Span>, max: usize) -> Result<(), Wrong> {
        if self.peek() != Some(b'[') {
            return self.wrong("not a JSON array");
        }
        self.items(|scanner| {
            if out.len() == max {
                return scanner.wrong("too many elements");
            }
            let start = scanner.at;
            scanner.value_here()?;
            out.push(Span::new(start, scanner.at));
            Ok(())
        })
    }

    /// A key, whose quote is the next byte.
    #[inline]
    fn key(&mut self) -> Result<bool, Wrong> {
        self.at += 1;
        self.string()
    }

    /// A colon, and what whitespace is around it.
    #[inline]
    fn colon(&mut self) -> Result<(), Wrong> {
        if self.peek() != Some(b':') {
            return self.wrong("expected ':'");
        }
        self.at += 1;
        self.peek();
        Ok(())
    }

    /// A value of any kind, with whitespace before it.
    pub(super) fn value(&mut self) -> Result<Kind, Wrong> {
        self.peek();
        self.value_here().map(|(kind, _)| kind)
    }

    /// A value that begins at the next byte, and whether it is a string with escapes.
    #[inline]
    fn value_here(&mut self) -> Result<(Kind, bool), Wrong> {
        match self.text.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok((Kind::String, self.string()?))
            }
            Some(b'-' | b'0'..=b'9') => Ok((self.number()?, false)),
            _ => Ok((self.other_value()?, false)),
        }
    }

    fn other_value(&mut self) -> Result<Kind, Wrong> {
        match self.text.get(self.at) {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b't') => self.literal(b"true", Kind::Bool),
            Some(b'f') => self.literal(b"false", Kind::Bool),
            Some(b'n') => self.literal(b"null", Kind::Null),
            _ => self.wrong("expected a value"),
        }
    }

    fn object(&mut self) -> Result<Kind, Wrong> {
        self.members(|scanner| {
            scanner.key()?;
            scanner.colon()?;
            scanner.value_here().map(|_| ())
        })?;
        Ok(Kind::Object)
    }

    fn array(&mut self) -> Result<Kind, Wrong> {
        self.items(|scanner| scanner.value_here().map(|_| ()))?;
        Ok(Kind::Array)
    }

    #[inline]
    fn literal(&mut self, expected: &[u8], kind: Kind) -> Result<Kind, Wrong> {
        if !self.text[self.at..].starts_with(expected) {
            return self.wrong("expected a value");
        }
        self.at += expected.len();
        Ok(kind)
    }

    #[inline]
    fn number(&mut self) -> Result<Kind, Wrong> {
        match number::scan(self.text, self.at) {
            Ok((end, kind)) => {
                self.at = end;
                Ok(kind)
            }
            Err((at, what)) => {
                self.at = at;
                self.wrong(what)
            }
        }
    }

    /// The rest of a string after its opening quote; gives whether it contains escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, Wrong> {
        let mut seen = self.seen;
        if let Some(end) = plain_end(self.text, self.at, &mut seen) {
            (self.at, self.seen) = (end + 1, seen);
            return Ok(false);
        }
        self.string_rest()
    }

    /// The rest of a string with an escape or an error, or of a very short text.
    #[cold]
    fn string_rest(&mut self) -> Result<bool, Wrong> {
        let mut escaped = false;
        loop {
            self.plain();
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.wrong("control character in a string"),
            }
        }
    }

    /// Passes over what needs no attention in a string.
    fn plain(&mut self) {
        let mut at = self.at;
        while let Some(word) = word(self.text, at) {
            self.seen |= word;
            let hits = special(word);
            if hits != 0 {
                self.at = at + (hits.trailing_zeros() / 8) as usize;
                return;
            }
            at += 8;
        }
        // The last bytes of the text.
        while let Some(&byte) = self.text.get(at) {
            if byte < 0x20 || byte == b'"' || byte == b'\\' {
                break;
            }
            self.seen |= u64::from(byte);
            at += 1;
        }
        self.at = at;
    }

    /// An escape, whose backslash is the next byte.
    #[cold]
    fn escape(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        match self.text.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => return self.unicode_escape(),
            _ => return self.wrong("invalid escape"),
        }
        Ok(())
    }

    /// `\uXXXX`, whose `u` is the next byte. RFC 8259 lets a surrogate stand alone and warns of
    /// it; it is no character, so it is refused here as by serde_json.
    fn unicode_escape(&mut self) -> Result<(), Wrong> {
        match self.hex4()? {
            0xd800..=0xdbff => {
                if self.text.get(self.at) != Some(&b'\\') {
                    return self.wrong("lone surrogate in an escape");
                }
                self.at += 1;
                if self.text.get(self.at) != Some(&b'u') {
                    return self.wrong("lone surrogate in an escape");
                }
                match self.hex4()? {
                    0xdc00..=0xdfff => Ok(()),
                    _ => self.wrong("lone surrogate in an escape"),
                }
            }
            0xdc00..=0xdfff => self.wrong("lone surrogate in an escape"),
            _ => Ok(()),
        }
    }

    /// The four digits after the `u` that is the next byte.
    fn hex4(&mut self) -> Result<u32, Wrong> {
        self.at += 1;
        let mut value = 0;
        for _ in 0..4 {
            let digit = self
                .text
                .get(self.at)
                .and_then(|&byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return self.wrong("invalid escape");
            };
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }
}
