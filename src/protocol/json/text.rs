//! The inside of JSON strings: escapes taken out and put in.
//!
//! Both directions look for the next byte that needs attention and copy what lies before it in
//! one piece. Neither can fail: what is not UTF-8 on the way out, and what is no valid escape on
//! the way in (a scanned text has none), becomes U+FFFD.

use memchr::memchr;

use super::scanner::{special, word};

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the text that `content`, the inside of a JSON string, stands for.
pub fn unescape(content: &[u8], out: &mut Vec<u8>) {
    let mut rest = content;
    while let Some(backslash) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        rest = unescape_one(&rest[backslash + 1..], out);
    }
    out.extend_from_slice(rest);
}

/// One escape, after its backslash; gives what follows it.
fn unescape_one<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (simple, rest) = match text {
        [byte @ (b'"' | b'\\' | b'/'), rest @ ..] => (*byte, rest),
        [b'b', rest @ ..] => (0x08, rest),
        [b'f', rest @ ..] => (0x0c, rest),
        [b'n', rest @ ..] => (b'\n', rest),
        [b'r', rest @ ..] => (b'\r', rest),
        [b't', rest @ ..] => (b'\t', rest),
        [b'u', rest @ ..] => return unescape_unicode(rest, out),
        rest => {
            out.extend_from_slice(REPLACEMENT);
            return rest;
        }
    };
    out.push(simple);
    rest
}

/// The digits of `\uXXXX` and, after a leading surrogate, a second escape.
fn unescape_unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((unit, rest)) = hex4(text) else {
        out.extend_from_slice(REPLACEMENT);
        return text;
    };
    let pair = rest.strip_prefix(b"\\u").and_then(hex4);
    let (code, rest) = match (unit, pair) {
        (0xd800..=0xdbff, Some((low @ 0xdc00..=0xdfff, rest))) => {
            (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), rest)
        }
        _ => (unit, rest),
    };
    match char::from_u32(code) {
        Some(character) => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        None => out.extend_from_slice(REPLACEMENT),
    }
    rest
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut value = 0;
    for &digit in digits {
        value = value << 4 | char::from(digit).to_digit(16)?;
    }
    Some((value, rest))
}

/// Appends `bytes` as the inside of a JSON string, without quotes around it. Each maximal part
/// that is not UTF-8 becomes U+FFFD, as by `String::from_utf8_lossy`.
pub fn escape_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len());
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(text) => return escape_text(text.as_bytes(), out),
            Err(error) => {
                let (valid, invalid) = rest.split_at(error.valid_up_to());
                escape_text(valid, out);
                out.extend_from_slice(REPLACEMENT);
                // No length: the text ends inside a character.
                rest = &invalid[error.error_len().unwrap_or(invalid.len())..];
            }
        }
    }
}

/// Appends `bytes` as a JSON string with its quotes; see [`escape_into`].
pub fn string_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_into(bytes, out);
    out.push(b'"');
}

fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    while let Some(at) = next_special(text, copied) {
        out.extend_from_slice(&text[copied..at]);
        escape_byte(text[at], out);
        copied = at + 1;
    }
    out.extend_from_slice(&text[copied..]);
}

/// Offset of the first byte from `from` on that a JSON string cannot hold as it is.
#[inline]
fn next_special(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = word(text, at) {
        let hits = special(word);
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let last = text[at..]
        .iter()
        .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    last.map(|offset| at + offset)
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            return out.extend_from_slice(&digits);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
