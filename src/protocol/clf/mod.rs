//! Access logs: the common and the combined format of Apache and nginx, read into ranges.
//!
//! ```text
//! 192.0.2.1 - alice [23/Nov/2026:18:42:00 +0000] "GET /a HTTP/1.1" 200 5123 "-" "curl/8.5"
//! ```
//!
//! What is `-` is absent. What stands behind the user agent (nginx's default configuration
//! appends a forwarded-for field) goes as it is into `extra`. Client-made text cannot move the
//! other fields: both servers escape a quote inside quotes, and the time is taken from right
//! before the first quote, so a user name with spaces or brackets in it stays a user name.

mod time;

use std::fmt;

use memchr::{memchr, memrchr_iter};

pub use time::{TIME_BYTES, rfc3339_into, unix_seconds};

use super::frames::{CHUNK_BYTES_MAX, Span};
use super::scan::{find_byte, find_either};

/// Most digits of an integer field: it fits into 64 bits with a sign.
pub const DIGITS_MAX: usize = 18;

/// Most fields of a line: a request in its parts, and all the others.
pub const FIELDS_MAX: usize = 12;

/// Longest request method, in bytes.
const METHOD_BYTES_MAX: usize = 32;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    Text,
    /// Decimal digits, at most [`DIGITS_MAX`].
    Integer,
    /// A text in the place of the time, for [`unix_seconds`].
    Time,
}

/// What fields are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The client's address or name.
    Host,
    /// The client's user by RFC 1413.
    Ident,
    /// The user by authentication.
    User,
    /// When the request came.
    Timestamp,
    /// The request's method.
    Method,
    /// The request's path and query.
    Path,
    /// The request's protocol with its version.
    Protocol,
    /// All of the request, where it is not a method, a path and a protocol.
    Request,
    /// The status of the answer.
    Status,
    /// Bytes of the answer.
    Size,
    /// The page that the client came from.
    Referer,
    /// The client's program.
    Agent,
    /// What stands behind the agent.
    Extra,
}

impl Name {
    /// All of them as texts, in order.
    pub const TEXTS: [&str; 13] = [
        "host",
        "ident",
        "user",
        "timestamp",
        "method",
        "path",
        "protocol",
        "request",
        "status",
        "size",
        "referer",
        "agent",
        "extra",
    ];

    /// As a text.
    pub const fn as_str(self) -> &'static str {
        Name::TEXTS[self as usize]
    }
}

/// One field that is there, as a range of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it is called.
    pub name: Name,
    /// The value, without quotes or brackets.
    pub value: Span,
    /// What the value is.
    pub kind: Kind,
    /// The value contains escapes; see [`unescape`].
    pub escaped: bool,
}

/// Why a text is not an access-log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClfError {
    /// Offset in bytes of what is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for ClfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for ClfError {}

fn wrong(offset: usize, what: &'static str) -> ClfError {
    ClfError { offset, what }
}

/// Lists the fields of an access-log line in `out` (cleared first), in the order of the line.
pub fn parse(text: &[u8], out: &mut Vec<Field>) -> Result<(), ClfError> {
    out.clear();
    parse_each(text, out)
}

/// Who is given the fields of a line. A trait and no closure, so that it can say
/// `#[inline(always)]`: where the kind of a field is known nobody asks for it again.
pub trait Found {
    /// A field that is there.
    fn found(&mut self, field: Field);
}

impl Found for Vec<Field> {
    fn found(&mut self, field: Field) {
        self.push(field);
    }
}

/// As [`parse`], handing each field to `found`; no name comes twice. After an error all that was
/// found is to be forgotten.
#[inline]
pub fn parse_each(text: &[u8], found: &mut impl Found) -> Result<(), ClfError> {
    if text.len() > CHUNK_BYTES_MAX {
        return Err(wrong(CHUNK_BYTES_MAX, "text is longer than 4 GiB"));
    }
    let mut line = Line {
        text,
        at: 0,
        has_escapes: memchr(b'\\', text).is_some(),
        found,
    };
    line.client()?;
    line.request()?;
    line.number(Name::Status)?;
    line.number(Name::Size)?;
    if line.at < text.len() {
        line.quoted(Name::Referer)?;
        line.quoted(Name::Agent)?;
    }
    line.rest()
}

/// A line that is being read.
struct Line<'a, F> {
    text: &'a [u8],
    at: usize,
    /// There is a backslash somewhere: most lines have none.
    has_escapes: bool,
    found: &'a mut F,
}

impl<F: Found> Line<'_, F> {
    /// Adds a field unless it is absent.
    #[inline(always)]
    fn add(&mut self, name: Name, start: usize, end: usize, kind: Kind) {
        let value = Span::new(start, end);
        let bytes = value.of(self.text);
        if bytes != b"-" {
            let escaped = self.has_escapes && memchr(b'\\', bytes).is_some();
            self.found.found(Field {
                name,
                value,
                kind,
                escaped,
            });
        }
    }

    /// `host ident user [timestamp] `, all that stands before the first quote.
    fn client(&mut self) -> Result<(), ClfError> {
        let quote = self.quote(0);
        let quote = quote.ok_or(wrong(self.text.len(), "no request in quotes"))?;
        let head = self.text[..quote]
            .strip_suffix(b"] ")
            .ok_or(wrong(quote, "no time in brackets before the request"))?;
        let bracket = blank_and_bracket(head).ok_or(wrong(0, "no time in brackets"))?;
        let blank = |from| find_byte(self.text, from, b' ').filter(|&at| at < bracket);
        let blanks = blank(0).and_then(|first| Some((first, blank(first + 1)?)));
        let Some((first, second)) = blanks else {
            return Err(wrong(0, "expected host, ident and user before the time"));
        };
        if first == 0 || second == first + 1 || second + 1 == bracket {
            return Err(wrong(0, "empty host, ident or user"));
        }
        self.add(Name::Host, 0, first, Kind::Text);
        self.add(Name::Ident, first + 1, second, Kind::Text);
        self.add(Name::User, second + 1, bracket, Kind::Text);
        self.add(Name::Timestamp, bracket + 2, head.len(), Kind::Time);
        self.at = quote;
        Ok(())
    }

    /// The request, in its parts where it has them.
    fn request(&mut self) -> Result<(), ClfError> {
        let value = self.in_quotes()?;
        let start = value.start as usize;
        let request = value.of(self.text);
        match request_parts(request) {
            Some((method_end, path_end)) => {
                self.add(Name::Method, start, start + method_end, Kind::Text);
                self.add(
                    Name::Path,
                    start + method_end + 1,
                    start + path_end,
                    Kind::Text,
                );
                self.add(
                    Name::Protocol,
                    start + path_end + 1,
                    value.end as usize,
                    Kind::Text,
                );
            }
            None => self.add(Name::Request, start, value.end as usize, Kind::Text),
        }
        Ok(())
    }

    /// A space, then digits or `-`.
    #[inline(always)]
    fn number(&mut self, name: Name) -> Result<(), ClfError> {
        self.space()?;
        let start = self.at;
        let rest = &self.text[start..];
        let mut digits = 0;
        while let Some(b'0'..=b'9') = rest.get(digits) {
            digits += 1;
        }
        let is_absent = rest.first() == Some(&b'-');
        let len = if is_absent { 1 } else { digits };
        let ends = matches!(rest.get(len), None | Some(b' '));
        if !(1..=DIGITS_MAX).contains(&len) || !ends {
            return Err(wrong(start, "expected a number"));
        }
        self.at += len;
        self.add(name, start, self.at, Kind::Integer);
        Ok(())
    }

    /// A space, then text in quotes.
    fn quoted(&mut self, name: Name) -> Result<(), ClfError> {
        self.space()?;
        let value = self.in_quotes()?;
        self.add(name, value.start as usize, value.end as usize, Kind::Text);
        Ok(())
    }

    fn space(&mut self) -> Result<(), ClfError> {
        if self.text.get(self.at) != Some(&b' ') {
            return Err(wrong(self.at, "expected a space"));
        }
        self.at += 1;
        Ok(())
    }

    /// The inside of the quotes that begin here.
    fn in_quotes(&mut self) -> Result<Span, ClfError> {
        let start = self.at + 1;
        if self.text.get(self.at) != Some(&b'"') {
            return Err(wrong(self.at, "expected a quote"));
        }
        let end = self.quote(start);
        let end = end.ok_or(wrong(self.at, "quote without end"))?;
        self.at = end + 1;
        Ok(Span::new(start, end))
    }

    /// Offset of the first quote from `from` on that no backslash escapes.
    #[inline(always)]
    fn quote(&self, from: usize) -> Option<usize> {
        if self.has_escapes {
            return unescaped_quote(self.text, from);
        }
        // Texts in quotes are long: this is what `memchr` is for.
        memchr(b'"', self.text.get(from..)?).map(|offset| from + offset)
    }

    /// What other fields a server was configured to append.
    fn rest(&mut self) -> Result<(), ClfError> {
        if self.at < self.text.len() {
            self.space()?;
        }
        if self.at < self.text.len() {
            self.add(Name::Extra, self.at, self.text.len(), Kind::Text);
        }
        Ok(())
    }
}

/// Offset of the last ` [`.
fn blank_and_bracket(text: &[u8]) -> Option<usize> {
    let mut brackets = memrchr_iter(b'[', text);
    let bracket = brackets.find(|&at| at > 0 && text[at - 1] == b' ')?;
    Some(bracket - 1)
}

/// As [`Line::quote`], where there are backslashes.
#[inline(never)] // there are none in most lines
fn unescaped_quote(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at <= text.len() {
        at = find_either(text, at, b'"', b'\\')?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
    None
}

/// Where the method and the path of `METHOD PATH HTTP/1.1` end.
fn request_parts(request: &[u8]) -> Option<(usize, usize)> {
    let method_end = find_byte(request, 0, b' ')?;
    let method = &request[..method_end];
    let path_end = find_byte(request, method_end + 1, b' ')?;
    let protocol = request[path_end + 1..].strip_prefix(b"HTTP/")?;
    let version = |&byte: &u8| byte.is_ascii_digit() || byte == b'.';
    let known = (1..=METHOD_BYTES_MAX).contains(&method_end)
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
        && path_end > method_end + 1
        && !protocol.is_empty()
        && protocol.iter().all(version);
    known.then_some((method_end, path_end))
}

/// Appends the text that an escaped value stands for: `\"`, `\\`, `\n` and its like, and `\xHH`
/// as a byte. Other escapes stay as they are.
pub fn unescape(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(backslash) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let (byte, after) = match &rest[backslash + 1..] {
            [byte @ (b'"' | b'\\'), after @ ..] => (*byte, after),
            [b'b', after @ ..] => (0x08, after),
            [b'n', after @ ..] => (b'\n', after),
            [b'r', after @ ..] => (b'\r', after),
            [b't', after @ ..] => (b'\t', after),
            [b'v', after @ ..] => (0x0b, after),
            [b'x', high, low, after @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0), after)
            }
            after => (b'\\', after),
        };
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
