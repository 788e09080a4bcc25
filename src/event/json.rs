//! JSON out: events, values and strings as RFC 8259 text, in one pass into a buffer.
//!
//! JSON slots are copied as they stand; neighbours that stood side by side in the original are
//! copied in one piece. Text is escaped by hand, in bulk between the bytes that need it, because
//! this room imports no protocol. Invalid UTF-8 becomes U+FFFD, one per maximal broken part.

use std::cell::OnceCell;

use vrl::value::Value;

use super::{Batch, Event, Field, Fields, Key, Slot, Span, structured_data};
use crate::time::WallTime;

/// Writes the events of one batch; what they share is rendered once.
pub struct Writer<'a> {
    batch: &'a Batch,
    /// `"timestamp":…,"host":…,"source":…`, for raw events; made for the first one.
    envelope: OnceCell<Vec<u8>>,
}

impl<'a> Writer<'a> {
    /// A writer for the events of `batch`.
    pub fn new(batch: &'a Batch) -> Writer<'a> {
        Writer {
            batch,
            envelope: OnceCell::new(),
        }
    }

    /// Appends `event` as one JSON object without a newline.
    pub fn write(&self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Raw(raw) => {
                out.extend_from_slice(b"{\"message\":");
                write_text(raw.of(&self.batch.bytes), out);
                out.push(b',');
                out.extend_from_slice(self.envelope.get_or_init(|| envelope(self.batch)));
                out.push(b'}');
            }
            Event::Fields(fields) if fields.parsed => {
                out.push(b'{');
                write_list(&fields.list, &self.batch.bytes, out);
                out.push(b'}');
            }
            Event::Fields(fields) => self.write_marked(fields, out),
        }
    }

    /// A raw event with marks or set fields: a set field takes the place of what it is called.
    fn write_marked(&self, fields: &Fields, out: &mut Vec<u8>) {
        let bytes = &self.batch.bytes;
        let taken = |name: &str| fields.position(bytes, name.as_bytes()).is_some();
        out.push(b'{');
        if !taken("message") {
            out.extend_from_slice(b"\"message\":");
            write_text(fields.raw.of(bytes), out);
        }
        if ["timestamp", "host", "source"].into_iter().any(taken) {
            write_envelope(self.batch, taken, out);
        } else {
            separate(out);
            out.extend_from_slice(self.envelope.get_or_init(|| envelope(self.batch)));
        }
        if !fields.list.is_empty() {
            separate(out);
            write_list(&fields.list, bytes, out);
        }
        out.push(b'}');
    }
}

/// A comma, unless the object was only just opened.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
}

fn envelope(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    write_envelope(batch, |_| false, &mut out);
    out
}

/// Appends the shared members but those that are `taken`.
fn write_envelope(batch: &Batch, taken: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
    if !taken("timestamp") {
        separate(out);
        out.extend_from_slice(b"\"timestamp\":");
        write_time(batch.received, out);
    }
    let host = batch.origin.host();
    if !host.is_empty() && !taken("host") {
        separate(out);
        out.extend_from_slice(b"\"host\":");
        write_text(host.as_bytes(), out);
    }
    if !taken("source") {
        separate(out);
        out.extend_from_slice(b"\"source\":");
        write_text(batch.origin.source.as_bytes(), out);
    }
}

/// The members of an object, separated by commas, without braces.
fn write_list(list: &[Field], bytes: &[u8], out: &mut Vec<u8>) {
    let mut index = 0;
    while let Some(field) = list.get(index) {
        if index > 0 {
            out.push(b',');
        }
        if let Some(first) = member_span(field, bytes) {
            let (whole, count) = run(first, &list[index..], bytes);
            out.extend_from_slice(whole.of(bytes));
            index += count;
            continue;
        }
        write_key(&field.key, bytes, out);
        out.push(b':');
        write_slot(&field.slot, bytes, out);
        index += 1;
    }
}

/// The span of `"key":value` where the original has exactly that.
fn member_span(field: &Field, bytes: &[u8]) -> Option<Span> {
    match (&field.key, &field.slot) {
        (Key::Json(key), Slot::Json(value))
            if key.end + 2 == value.start && bytes[key.end as usize + 1] == b':' =>
        {
            Some(Span {
                start: key.start - 1,
                end: value.end,
            })
        }
        _ => None,
    }
}

/// How far members go on that stand side by side in the original with one comma between.
fn run(first: Span, list: &[Field], bytes: &[u8]) -> (Span, usize) {
    let mut whole = first;
    let mut count = 1;
    for field in &list[1..] {
        match member_span(field, bytes) {
            Some(next) if next.start == whole.end + 1 && bytes[whole.end as usize] == b',' => {
                whole.end = next.end;
                count += 1;
            }
            _ => break,
        }
    }
    (whole, count)
}

fn write_key(key: &Key, bytes: &[u8], out: &mut Vec<u8>) {
    match key {
        Key::Json(span) => {
            out.push(b'"');
            out.extend_from_slice(span.of(bytes));
            out.push(b'"');
        }
        other => write_text(other.of(bytes), out),
    }
}

/// Appends a slot as JSON.
pub fn write_slot(slot: &Slot, bytes: &[u8], out: &mut Vec<u8>) {
    match slot {
        Slot::Text(span) => write_text(span.of(bytes), out),
        Slot::Json(span) => out.extend_from_slice(span.of(bytes)),
        Slot::StructuredData(span) => structured_data::write_json(span.of(bytes), out),
        Slot::Word(word) => write_text(word.as_bytes(), out),
        Slot::Integer(number) => write_integer(*number, out),
        Slot::Time(time) => write_time(*time, out),
        Slot::Value(value) => write_value(value, out),
        Slot::Constant(constant) => out.extend_from_slice(&constant.json),
    }
}

/// Appends a VRL value as JSON; times as RFC 3339 in UTC with microseconds.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bytes(text) => write_text(text, out),
        Value::String(text) => write_text(text.as_bytes(), out),
        Value::Regex(regex) => write_text(regex.as_str().as_bytes(), out),
        Value::Integer(number) => write_integer(*number, out),
        Value::Float(number) => write_float(number.into_inner(), out),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Timestamp(time) => {
            write_time(WallTime::from_micros(time.timestamp_micros()), out);
        }
        Value::Null => out.extend_from_slice(b"null"),
        Value::Array(list) => {
            out.push(b'[');
            for (index, inner) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(inner, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (index, (key, inner)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key.as_bytes(), out);
                out.push(b':');
                write_value(inner, out);
            }
            out.push(b'}');
        }
    }
}

fn write_time(time: WallTime, out: &mut Vec<u8>) {
    out.push(b'"');
    time.write_rfc3339(out);
    out.push(b'"');
}

/// Appends `number` in decimal.
pub fn write_integer(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// JSON has no infinity and no NaN: both are `null`, as serde_json has it.
fn write_float(number: f64, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, &number).expect("writing into a Vec cannot fail");
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if std::str::from_utf8(text).is_ok() {
        escape(text, out);
    } else {
        for chunk in text.utf8_chunks() {
            escape(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{FFFD}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// Appends valid UTF-8 with quotes, backslashes and control characters escaped.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = find_special(rest) {
        out.extend_from_slice(&rest[..at]);
        write_escaped(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The first byte below 0x20, `"` or `\`; eight bytes at a time.
fn find_special(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut chunks = text.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let hits = (control | quote | backslash) & HIGHS;
        if hits != 0 {
            // A borrow can only raise false hits above the lowest true one.
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let tail = chunks.remainder();
    tail.iter()
        .position(|byte| is_special(*byte))
        .map(|index| at + index)
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
