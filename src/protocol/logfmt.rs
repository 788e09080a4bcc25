//! logfmt: `level=info msg="hello world" retry`, read into ranges and written.
//!
//! There is no standard; this reads what its writers write. Pairs are separated by spaces. A key
//! has no space, `=` or `"` in it. A value is bare (up to the next space) or quoted, with the
//! escapes of JSON. A key alone is a flag. A text without any `=` is no logfmt but a sentence,
//! and refused, or each of its words would become a field.
//!
//! Values may hold any bytes; nothing is unescaped here (see [`super::json::unescape`]).

use std::fmt;

use memchr::memchr2;

use super::frames::{CHUNK_BYTES_MAX, Span};
use super::json;

/// Most pairs of one text.
pub const PAIRS_MAX: usize = 4096;

/// One pair, as ranges of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Span,
    /// The value without its quotes; empty for a flag.
    pub value: Span,
    /// What the value looks like.
    pub form: Form,
    /// A quoted value that contains escapes.
    pub escaped: bool,
}

impl Pair {
    /// Whether the value stood in quotes: then it is text, whatever it looks like.
    pub fn quoted(&self) -> bool {
        self.form == Form::Quoted
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `key`: no value at all.
    Flag,
    /// `key=value`.
    Bare,
    /// `key="value"`.
    Quoted,
}

/// Why a text is not logfmt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogfmtError {
    /// Offset in bytes of what is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for LogfmtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for LogfmtError {}

/// Lists the pairs of `text` in `out` (cleared first), in their order, duplicates included.
pub fn parse(text: &[u8], out: &mut Vec<Pair>) -> Result<(), LogfmtError> {
    out.clear();
    if text.len() > CHUNK_BYTES_MAX {
        return Err(wrong(CHUNK_BYTES_MAX, "text is longer than 4 GiB"));
    }
    let mut at = skip_spaces(text, 0);
    while at < text.len() {
        if out.len() == PAIRS_MAX {
            return Err(wrong(at, "too many pairs"));
        }
        let (pair, end) = pair(text, at)?;
        out.push(pair);
        at = skip_spaces(text, end);
    }
    if out.iter().all(|pair| pair.form == Form::Flag) {
        return Err(wrong(0, "no key=value pair"));
    }
    Ok(())
}

fn wrong(offset: usize, what: &'static str) -> LogfmtError {
    LogfmtError { offset, what }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn skip_spaces(text: &[u8], from: usize) -> usize {
    let spaces = text[from..]
        .iter()
        .take_while(|&&byte| is_space(byte))
        .count();
    from + spaces
}

/// The pair that begins at `start`; gives the offset after it too.
fn pair(text: &[u8], start: usize) -> Result<(Pair, usize), LogfmtError> {
    let ends_key = |&byte: &u8| byte == b'=' || byte == b'"' || is_space(byte);
    let key_end = text[start..]
        .iter()
        .position(ends_key)
        .map_or(text.len(), |len| start + len);
    let key = Span::new(start, key_end);
    let value_start = key_end + 1;
    match text.get(key_end) {
        Some(b'"') => Err(wrong(key_end, "quote in a key")),
        Some(b'=') if key.is_empty() => Err(wrong(start, "value without a key")),
        Some(b'=') if text.get(value_start) == Some(&b'"') => {
            let (value, escaped) = quoted(text, value_start + 1)?;
            let end = value.end as usize + 1;
            if text.get(end).is_some_and(|&byte| !is_space(byte)) {
                return Err(wrong(end, "text right behind a quoted value"));
            }
            Ok((
                Pair {
                    key,
                    value,
                    form: Form::Quoted,
                    escaped,
                },
                end,
            ))
        }
        Some(b'=') => {
            let rest = &text[value_start..];
            let len = rest
                .iter()
                .position(|&byte| is_space(byte))
                .unwrap_or(rest.len());
            let value = Span::new(value_start, value_start + len);
            Ok((
                Pair {
                    key,
                    value,
                    form: Form::Bare,
                    escaped: false,
                },
                value_start + len,
            ))
        }
        _ => {
            let value = Span::new(key_end, key_end);
            Ok((
                Pair {
                    key,
                    value,
                    form: Form::Flag,
                    escaped: false,
                },
                key_end,
            ))
        }
    }
}

/// The inside of a quoted value that begins at `start`, and whether it contains escapes.
fn quoted(text: &[u8], start: usize) -> Result<(Span, bool), LogfmtError> {
    let mut escaped = false;
    let mut at = start;
    while let Some(offset) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += offset;
        if text[at] == b'"' {
            return Ok((Span::new(start, at), escaped));
        }
        escaped = true;
        at += 2;
    }
    Err(wrong(start - 1, "quote without end"))
}

/// Appends `key=value`, so that it reads back as one pair: a value that needs it is quoted, with
/// U+FFFD for what is not UTF-8; bytes that a key cannot have become `_`.
pub fn pair_into(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    key_into(key, out);
    out.push(b'=');
    if is_bare(value) {
        out.extend_from_slice(value);
    } else {
        json::string_into(value, out);
    }
}

fn key_into(key: &[u8], out: &mut Vec<u8>) {
    let in_key = |byte: u8| byte > b' ' && !matches!(byte, b'=' | b'"' | 0x7f);
    if key.is_empty() {
        out.push(b'_');
    }
    for chunk in key.utf8_chunks() {
        let valid = chunk.valid().bytes();
        out.extend(valid.map(|byte| if in_key(byte) { byte } else { b'_' }));
        out.extend(chunk.invalid().iter().map(|_| b'_'));
    }
}

/// Whether a value can stand without quotes.
fn is_bare(value: &[u8]) -> bool {
    let plain = |&byte: &u8| byte > b' ' && !matches!(byte, b'=' | b'"' | 0x7f);
    !value.is_empty() && value.iter().all(plain) && std::str::from_utf8(value).is_ok()
}
