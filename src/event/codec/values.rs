//! VRL values as bytes and back, every kind, exactly.
//!
//! ```text
//! value    u8 kind, then: 0 null | 1 false | 2 true | 3 integer: signed | 4 float: 8 bytes,
//!          little endian, its bits | 5 time: seconds signed, nanoseconds number | 6 bytes: text
//!          7 string: text | 8 regex: text | 9 array: number of values, values
//!          10 object: number of members, each a text and a value
//! ```
//! Values nest at most [`DEPTH_MAX`] deep: what is deeper is written as the text of its JSON.
//! A regex that this marline would not compile within its bounds is read as its text, which is
//! what every encoding prints of it.

use chrono::DateTime;
use vrl::value::{KeyString, ObjectMap, Value};

use super::names::NameCache;
use super::wire::{DecodeError, Reader, VARINT_BYTES_MAX, put_signed, put_text, put_varint};
use crate::event::json;

/// How many arrays and objects may lie within each other: twice what a JSON text may have, since
/// a program may put parsed text deeper into an event.
pub(super) const DEPTH_MAX: usize = 256;

/// Room made at once for the elements of an array, whose count is only a claim: an array within
/// an array could claim the same bytes again.
const ARRAY_FIRST_ROOM: usize = 16;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const FLOAT: u8 = 4;
const TIMESTAMP: u8 = 5;
const BYTES: u8 = 6;
const STRING: u8 = 7;
const REGEX: u8 = 8;
const ARRAY: u8 = 9;
const OBJECT: u8 = 10;

/// Appends a value.
pub(super) fn put(value: &Value, out: &mut Vec<u8>) {
    put_at(value, 0, out);
}

/// Appends a word as the string it is to programs.
pub(super) fn put_word(word: &str, out: &mut Vec<u8>) {
    put_kind_text(STRING, word.as_bytes(), out);
}

fn put_kind_text(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    put_text(text, out);
}

fn put_at(value: &Value, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Boolean(false) => out.push(FALSE),
        Value::Boolean(true) => out.push(TRUE),
        Value::Integer(number) => {
            out.push(INTEGER);
            put_signed(*number, out);
        }
        Value::Float(number) => {
            out.push(FLOAT);
            out.extend_from_slice(&number.into_inner().to_bits().to_le_bytes());
        }
        Value::Timestamp(time) => {
            out.push(TIMESTAMP);
            put_signed(time.timestamp(), out);
            put_varint(u64::from(time.timestamp_subsec_nanos()), out);
        }
        Value::Bytes(text) => put_kind_text(BYTES, text, out),
        Value::String(text) => put_kind_text(STRING, text.as_bytes(), out),
        Value::Regex(regex) => put_kind_text(REGEX, regex.as_str().as_bytes(), out),
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => {
            put_kind_text(STRING, &json_of(value), out);
        }
        Value::Array(list) => {
            out.push(ARRAY);
            put_varint(list.len() as u64, out);
            list.iter().for_each(|inner| put_at(inner, depth + 1, out));
        }
        Value::Object(map) => {
            out.push(OBJECT);
            put_varint(map.len() as u64, out);
            for (key, inner) in map {
                put_text(key.as_bytes(), out);
                put_at(inner, depth + 1, out);
            }
        }
    }
}

fn json_of(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    json::write_value(value, &mut text);
    text
}

/// An upper bound of what [`put`] appends, in bytes.
pub(super) fn bytes_max(value: &Value) -> usize {
    bytes_max_at(value, 0)
}

fn bytes_max_at(value: &Value, depth: usize) -> usize {
    // The kind and a number or a length; a time has two.
    let own = 1 + 2 * VARINT_BYTES_MAX;
    own + match value {
        Value::Bytes(text) => text.len(),
        Value::String(text) => text.len(),
        Value::Regex(regex) => regex.as_str().len(),
        Value::Array(_) | Value::Object(_) if depth == DEPTH_MAX => json_of(value).len(),
        Value::Array(list) => list
            .iter()
            .map(|inner| bytes_max_at(inner, depth + 1))
            .sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| VARINT_BYTES_MAX + key.len() + bytes_max_at(inner, depth + 1))
            .sum(),
        _ => 0,
    }
}

/// Reads a value; its texts share the payload.
pub(super) fn read(reader: &mut Reader<'_>, names: &mut NameCache) -> Result<Value, DecodeError> {
    read_at(reader, names, 0)
}

fn read_at(
    reader: &mut Reader<'_>,
    names: &mut NameCache,
    depth: usize,
) -> Result<Value, DecodeError> {
    Ok(match reader.byte()? {
        NULL => Value::Null,
        FALSE => Value::Boolean(false),
        TRUE => Value::Boolean(true),
        INTEGER => Value::Integer(reader.signed()?),
        FLOAT => {
            let number = f64::from_bits(u64::from_le_bytes(reader.array()?));
            let number = number.try_into();
            Value::Float(number.map_err(|_| reader.damage("a float that is no number"))?)
        }
        TIMESTAMP => read_timestamp(reader)?,
        BYTES => Value::Bytes(reader.share()?),
        STRING => {
            let text = reader.share()?.try_into();
            Value::String(text.map_err(|_| reader.damage("a string is not UTF-8"))?)
        }
        REGEX => match reader.text()? {
            text if let Some(regex) = names.regex(text) => Value::from(regex),
            text => Value::from(text),
        },
        ARRAY | OBJECT if depth == DEPTH_MAX => {
            return Err(reader.damage("values nested too deep"));
        }
        ARRAY => {
            let count = reader.count(1)?;
            let mut list = Vec::with_capacity(count.min(ARRAY_FIRST_ROOM));
            for _ in 0..count {
                list.push(read_at(reader, names, depth + 1)?);
            }
            Value::Array(list)
        }
        OBJECT => {
            let mut map = ObjectMap::new();
            // A key and a value take a byte each.
            for _ in 0..reader.count(2)? {
                let key = KeyString::from(reader.text()?);
                map.insert(key, read_at(reader, names, depth + 1)?);
            }
            Value::Object(map)
        }
        _ => return Err(reader.damage("an unknown kind of value")),
    })
}

fn read_timestamp(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let seconds = reader.signed()?;
    let nanos = u32::try_from(reader.varint()?).ok();
    match nanos.and_then(|nanos| DateTime::from_timestamp(seconds, nanos)) {
        Some(time) => Ok(Value::Timestamp(time)),
        None => Err(reader.damage("a time that is none")),
    }
}
