//! JSON read into ranges: the fields of an object, the elements of an array.
//!
//! [`scan`] checks the whole text against RFC 8259 and lists the top-level fields as they stand
//! in it; no value is built, no string is copied. What passes here also passes `serde_json`, and
//! the other way round (nesting, number range, surrogates and UTF-8 included; a differential
//! test holds them together), so a value can be built later from its range, if somebody asks.
//!
//! Not here: values, and what duplicate keys mean (the list has them all, in order).

mod elements;
mod number;
mod scanner;
mod text;

use std::fmt;

pub use elements::{ELEMENTS_MAX, elements};
pub use text::{escape_into, string_into, unescape};

use super::frames::{CHUNK_BYTES_MAX, Span};
use scanner::Scanner;

/// Deepest nesting of arrays and objects that is accepted; one less than serde_json's limit of
/// 128, which counts the level that it refuses.
pub const DEPTH_MAX: u8 = 127;

/// Most top-level fields of one object: more than fit into a message of 64 KiB.
pub const FIELDS_MAX: usize = 16_384;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number without fraction and exponent; it may be too large for 64 bits.
    Integer,
    /// A number with a fraction or an exponent; finite as a 64-bit float.
    Float,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// What an error says of a text that is JSON but no object.
pub const NOT_AN_OBJECT: &str = "not a JSON object";

/// One field of an object, as ranges of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, without its quotes.
    pub key: Span,
    /// The value as it stands: JSON text, a string with its quotes.
    pub value: Span,
    /// What the value is.
    pub kind: Kind,
    /// The key contains escapes: compare and show it by [`unescape`].
    pub key_escaped: bool,
    /// The value is a string that contains escapes.
    pub value_escaped: bool,
}

impl Field {
    /// The content of a string value, without its quotes; of another value, all of it.
    pub fn content(&self) -> Span {
        match self.kind {
            Kind::String => Span {
                start: self.value.start + 1,
                end: self.value.end - 1,
            },
            _ => self.value,
        }
    }
}

/// Why a text is not JSON, or not the JSON that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Offset in bytes of what is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Checks that `text` is one JSON object, all of it, and lists its top-level fields in `out`
/// (cleared first; after an error it holds the fields before it). Whitespace around is allowed.
pub fn scan(text: &[u8], out: &mut Vec<Field>) -> Result<(), JsonError> {
    out.clear();
    scan_each(text, |field| out.push(field))
}

/// As [`scan`], handing each field to `found` as soon as it is read. What is wrong behind it is
/// not known then: after an error all that was found is to be forgotten.
#[inline]
pub fn scan_each(text: &[u8], found: impl FnMut(Field)) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(check_length(text)?);
    scanner
        .document(|scanner| scanner.fields(found))
        .map_err(|_| scanner.error())
}

/// Checks that `text` is one JSON value of any kind, all of it, and says of which.
pub fn validate(text: &[u8]) -> Result<Kind, JsonError> {
    let mut scanner = Scanner::new(check_length(text)?);
    scanner
        .document(Scanner::value)
        .map_err(|_| scanner.error())
}

/// Spans are 32 bits wide.
fn check_length(text: &[u8]) -> Result<&[u8], JsonError> {
    if text.len() > CHUNK_BYTES_MAX {
        return Err(JsonError {
            offset: CHUNK_BYTES_MAX,
            what: "text is longer than 4 GiB",
        });
    }
    Ok(text)
}
