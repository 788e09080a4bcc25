//! From a slot to a VRL value, made only when somebody asks.
//!
//! Text shares the batch's buffer instead of being copied. JSON scalars are read by hand, since
//! they are what conditions look at; objects and arrays go through serde_json. A number that no
//! 64-bit float can hold becomes the text of its digits: never an infinity, never a loss.

use bytes::Bytes;
use chrono::DateTime;
use vrl::path::OwnedSegment;
use vrl::value::{KeyString, ObjectMap, Value};

use super::{Event, Found, Slot, Span, find, json, structured_data};
use crate::time::WallTime;

/// The value of a field that was found.
pub fn to_value(found: Found<'_>, bytes: &Bytes) -> Value {
    match found {
        Found::Message(span) => Value::Bytes(span.share(bytes)),
        Found::Slot(slot) => slot_value(slot, bytes),
    }
}

fn slot_value(slot: &Slot, bytes: &Bytes) -> Value {
    match slot {
        Slot::Text(span) => Value::Bytes(span.share(bytes)),
        Slot::Json(span) => parse_json(bytes, *span),
        Slot::StructuredData(span) => structured_data_value(&span.share(bytes)),
        Slot::Word(word) => Value::from_static_str(word.as_str()),
        Slot::Integer(number) => Value::Integer(*number),
        Slot::Time(time) => timestamp(*time),
        Slot::Value(value) => Value::clone(value),
        Slot::Constant(constant) => constant.value.clone(),
    }
}

/// Structured data of syslog as the object that it means; values share `text`.
pub fn structured_data_value(text: &Bytes) -> Value {
    Value::Object(structured_data::object(text))
}

/// A time as VRL has it; the epoch where chrono cannot hold it.
pub fn timestamp(time: WallTime) -> Value {
    Value::Timestamp(DateTime::from_timestamp_micros(time.as_micros()).unwrap_or_default())
}

/// The whole event as an object: what a program that reads `.` gets.
pub fn object(event: &Event, bytes: &Bytes) -> ObjectMap {
    let mut map = ObjectMap::new();
    match event {
        Event::Raw(raw) => {
            map.insert("message".into(), Value::Bytes(raw.share(bytes)));
        }
        Event::Fields(fields) => {
            if fields.has_message(bytes) {
                map.insert("message".into(), Value::Bytes(fields.raw.share(bytes)));
            }
            for field in &fields.list {
                let key = String::from_utf8_lossy(field.key.of(bytes));
                map.insert(KeyString::from(key), slot_value(&field.slot, bytes));
            }
        }
    }
    map
}

/// The value of JSON text. Text that is no valid JSON, which no parser of ours lets through, is
/// its own value.
pub fn parse_json(bytes: &Bytes, span: Span) -> Value {
    let text = span.of(bytes);
    match text {
        b"true" => return Value::Boolean(true),
        b"false" => return Value::Boolean(false),
        b"null" => return Value::Null,
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
            let inner = Span {
                start: span.start + 1,
                end: span.end - 1,
            };
            return Value::Bytes(inner.share(bytes));
        }
        _ => {}
    }
    if let Some(number) = small_integer(text) {
        return Value::Integer(number);
    }
    serde_json::from_slice(text).unwrap_or_else(|_| lenient(bytes, span))
}

/// Up to 18 digits and a sign: what cannot overflow.
fn small_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(if negative { -number } else { number })
}

/// For what serde_json refuses although it is JSON: numbers beyond a float's range, wherever
/// they stand, are read as text.
fn lenient(bytes: &Bytes, span: Span) -> Value {
    Value::Bytes(span.share(bytes))
}

/// Appends what stands at `path` as plain text: a string as it is, nothing for null, all else as
/// JSON. Says whether there was something that is not null.
pub fn write_plain(event: &Event, bytes: &Bytes, path: &[OwnedSegment], out: &mut Vec<u8>) -> bool {
    let [OwnedSegment::Field(name), rest @ ..] = path else {
        json::write_value(&Value::Object(object(event, bytes)), out);
        return true;
    };
    let Some(found) = find(event, bytes, name.as_bytes()) else {
        return false;
    };
    if !rest.is_empty() {
        let value = to_value(found, bytes);
        return walk(&value, rest).is_some_and(|value| write_plain_value(value, out));
    }
    match found {
        Found::Message(span) => write_plain_slot(&Slot::Text(span), bytes, out),
        Found::Slot(slot) => write_plain_slot(slot, bytes, out),
    }
}

/// As [`write_plain`], for one slot.
pub fn write_plain_slot(slot: &Slot, bytes: &Bytes, out: &mut Vec<u8>) -> bool {
    match slot {
        Slot::Text(span) => out.extend_from_slice(span.of(bytes)),
        Slot::Word(word) => out.extend_from_slice(word.as_bytes()),
        Slot::Json(span) => match span.of(bytes) {
            b"null" => return false,
            [b'"', ..] => return write_plain_value(&parse_json(bytes, *span), out),
            other => out.extend_from_slice(other),
        },
        Slot::StructuredData(span) => {
            json::with_pen(out, |pen| structured_data::write_json(bytes, *span, pen));
        }
        Slot::Integer(number) => json::write_integer(*number, out),
        Slot::Time(time) => time.write_rfc3339(out),
        Slot::Value(value) => return write_plain_value(value, out),
        Slot::Constant(constant) => return write_plain_value(&constant.value, out),
    }
    true
}

/// As [`write_plain`], for a value.
pub fn write_plain_value(value: &Value, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Null => return false,
        Value::Bytes(text) => out.extend_from_slice(text),
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Regex(regex) => out.extend_from_slice(regex.as_str().as_bytes()),
        Value::Timestamp(time) => {
            WallTime::from_micros(time.timestamp_micros()).write_rfc3339(out);
        }
        other => json::write_value(other, out),
    }
    true
}

/// Follows the rest of a path; an index may count from the end.
pub fn walk<'v>(value: &'v Value, rest: &[OwnedSegment]) -> Option<&'v Value> {
    rest.iter()
        .try_fold(value, |value, segment| match (value, segment) {
            (Value::Object(map), OwnedSegment::Field(name)) => map.get(&**name),
            (Value::Array(list), OwnedSegment::Index(index)) => {
                let from_end = || list.len().checked_sub(index.unsigned_abs());
                let at = usize::try_from(*index).ok().or_else(from_end)?;
                list.get(at)
            }
            _ => None,
        })
}

/// Gives `value` bytes of its own wherever it shares `old`, so that `old` can go.
pub(super) fn detach(value: &mut Value, old: &Bytes) {
    match value {
        Value::Bytes(text) if shares(text, old) => *text = Bytes::copy_from_slice(text),
        Value::String(text) if shares(text.as_bytes(), old) => {
            *value = Value::from(text.to_string());
        }
        Value::Object(map) => map.values_mut().for_each(|inner| detach(inner, old)),
        Value::Array(list) => list.iter_mut().for_each(|inner| detach(inner, old)),
        _ => {}
    }
}

fn shares(part: &Bytes, whole: &Bytes) -> bool {
    let start = whole.as_ptr() as usize;
    (start..start + whole.len().max(1)).contains(&(part.as_ptr() as usize))
}
