//! Structured data, `[id name="value" …][…]` (RFC 5424, 6.3): where it ends.
//!
//! The values stay as they are in the text, with their escapes. More lenient than the RFC in what
//! does not make the meaning doubtful: several blanks between parameters, a blank before the
//! closing bracket, a bare `]` within quotes.

use super::{SyslogError, wrong};
use crate::protocol::scan::{find_any, find_either};

/// Most digits of a sequence number that is read.
const SEQUENCE_DIGITS_MAX: usize = 18;

/// Reads elements from `at` on, where a bracket is. Gives the offset after the last one, and
/// `meta sequenceId` (RFC 5424, 7.3.1) where it is there.
pub(super) fn read(text: &[u8], at: usize) -> Result<(usize, Option<u64>), SyslogError> {
    let mut sequence = None;
    let mut at = at;
    while text.get(at) == Some(&b'[') {
        let id = name(text, at + 1)?;
        let is_meta = &text[at + 1..id] == b"meta";
        at = id;
        loop {
            let before = at;
            while text.get(at) == Some(&b' ') {
                at += 1;
            }
            match text.get(at) {
                Some(b']') => break,
                Some(_) if at > before => {}
                Some(_) => return Err(wrong(at, "expected a blank between parameters")),
                None => return Err(wrong(at, "structured data without end")),
            }
            let (equals, end) = parameter(text, at)?;
            if is_meta && &text[at..equals] == b"sequenceId" {
                sequence = number(&text[equals + 2..end - 1]);
            }
            at = end;
        }
        at += 1;
    }
    Ok((at, sequence))
}

/// The bytes that no name holds.
static NAME_ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < ends.len() {
        ends[byte] = matches!(byte as u8, b'=' | b']' | b'"' | 0..=b' ' | 0x7f);
        byte += 1;
    }
    ends
};

/// The offset after a name that begins at `at`: an SD-ID or a PARAM-NAME.
fn name(text: &[u8], at: usize) -> Result<usize, SyslogError> {
    match find_any(text, at, &NAME_ENDS) {
        Some(end) if end == at => Err(wrong(at, "expected a name in structured data")),
        Some(end) => Ok(end),
        None => Err(wrong(text.len(), "structured data without end")),
    }
}

/// `name="value"` that begins at `at`: the offset of the sign between, and of what comes after.
fn parameter(text: &[u8], at: usize) -> Result<(usize, usize), SyslogError> {
    let equals = name(text, at)?;
    if text.get(equals..equals + 2) != Some(b"=\"") {
        return Err(wrong(equals, "expected `=\"` after a name"));
    }
    let mut end = equals + 2;
    while end <= text.len()
        && let Some(found) = find_either(text, end, b'"', b'\\')
    {
        if text[found] == b'"' {
            return Ok((equals, found + 1));
        }
        end = found + 2;
    }
    Err(wrong(equals + 1, "quote without end"))
}

fn number(digits: &[u8]) -> Option<u64> {
    let valid = (1..=SEQUENCE_DIGITS_MAX).contains(&digits.len());
    if !valid || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
    Some(digits.iter().fold(0, value))
}
