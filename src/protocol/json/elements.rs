//! The elements of an array inside a JSON text, for splitting a body into events.
//!
//! The way down to the array is by [`scan`], so every object on it is checked as a whole, and
//! an element is only given out once its whole body turned out to be JSON.

use super::scanner::Scanner;
use super::{Field, JsonError, Kind, NOT_AN_OBJECT, check_length, scan, unescape};
use crate::protocol::frames::Span;

/// Most elements of one array that is split.
pub const ELEMENTS_MAX: usize = 1_000_000;

/// Checks that `text` is JSON, all of it, and gives the elements of the array that is found by
/// going down the `path` of keys; an empty path means that the text is the array. Of equal keys
/// the last counts. Spans are of `text`.
pub fn elements(text: &[u8], path: &[&str]) -> Result<Vec<Span>, JsonError> {
    let mut fields = Vec::new();
    let mut array = Span::new(0, check_length(text)?.len());
    for (level, key) in path.iter().enumerate() {
        let inside = array.of(text);
        scan(inside, &mut fields).map_err(|error| moved(error, array))?;
        let found = fields
            .iter()
            .rev()
            .find(|field| has_key(inside, field, key));
        let Some(field) = found else {
            return Err(JsonError {
                offset: array.start as usize,
                what: "no such field",
            });
        };
        let last = level + 1 == path.len();
        if field.kind != if last { Kind::Array } else { Kind::Object } {
            let offset = (array.start + field.value.start) as usize;
            let what = if last {
                "not a JSON array"
            } else {
                NOT_AN_OBJECT
            };
            return Err(JsonError { offset, what });
        }
        array = Span {
            start: array.start + field.value.start,
            end: array.start + field.value.end,
        };
    }
    let mut spans = Vec::new();
    let mut scanner = Scanner::new(array.of(text));
    scanner
        .document(|scanner| scanner.elements(&mut spans, ELEMENTS_MAX))
        .map_err(|_| moved(scanner.error(), array))?;
    for span in &mut spans {
        span.start += array.start;
        span.end += array.start;
    }
    Ok(spans)
}

/// An error in the part of the text that `part` covers, as one of the text.
fn moved(error: JsonError, part: Span) -> JsonError {
    JsonError {
        offset: error.offset + part.start as usize,
        ..error
    }
}

fn has_key(text: &[u8], field: &Field, key: &str) -> bool {
    if !field.key_escaped {
        return field.key.of(text) == key.as_bytes();
    }
    let mut unescaped = Vec::new();
    unescape(field.key.of(text), &mut unescaped);
    unescaped == key.as_bytes()
}
