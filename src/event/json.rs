//! JSON out: events, values and strings as RFC 8259 text, in one pass.
//!
//! JSON slots are copied as they stand; neighbours that stood side by side in the original are
//! copied in one piece. The short pieces that an event is made of are written by a [`Pen`]. Text
//! is escaped by hand, in bulk between the bytes that need it, because this room imports no
//! protocol. Invalid UTF-8 becomes U+FFFD, one per maximal broken part.

mod pen;

use std::cell::{OnceCell, RefCell};

use vrl::value::Value;

use super::eight::{find_special, is_plain};
use super::fields::MESSAGE;
use super::names::name;
use super::{Batch, Event, Field, Fields, Key, Slot, Span, structured_data};
use crate::time::WallTime;

pub(super) use pen::Pen;
use pen::Room;

/// Writes the events of one batch; what they share is rendered once.
pub struct Writer<'a> {
    batch: &'a Batch,
    /// `"timestamp":…,"host":…,"source":…`, for raw events; made for the first one.
    envelope: OnceCell<Vec<u8>>,
    room: RefCell<Room>,
}

impl<'a> Writer<'a> {
    /// A writer for the events of `batch`.
    pub fn new(batch: &'a Batch) -> Writer<'a> {
        Writer {
            batch,
            envelope: OnceCell::new(),
            room: RefCell::new(Room::new()),
        }
    }

    /// Appends `event` as one JSON object. Says whether JSON was copied as it stood in the
    /// original: only there can a newline be in it, between two members of a value.
    pub fn write(&self, event: &Event, out: &mut Vec<u8>) -> bool {
        let mut room = self.room.borrow_mut();
        let mut pen = Pen::new(&mut room, out);
        match event {
            Event::Raw(raw) => {
                pen.name(b'{', &MESSAGE);
                pen.text(&self.batch.bytes, *raw);
                self.write_envelope(b',', &mut pen);
                pen.byte(b'}');
            }
            Event::Fields(fields) if fields.parsed => {
                let separator = write_list(&fields.list, &self.batch.bytes, b'{', &mut pen);
                pen.close(separator);
            }
            Event::Fields(fields) => self.write_marked(fields, &mut pen),
        }
        pen.finish()
    }

    /// A raw event with marks or set fields: a set field takes the place of what it is called.
    fn write_marked(&self, fields: &Fields, pen: &mut Pen<'_>) {
        let bytes = &self.batch.bytes;
        let taken = |name: &str| fields.position(bytes, name.as_bytes()).is_some();
        let mut separator = b'{';
        if !taken(&MESSAGE) {
            pen.name(separator, &MESSAGE);
            pen.text(bytes, fields.raw);
            separator = b',';
        }
        if ["timestamp", "host", "source"].into_iter().any(taken) {
            separator = write_shared(self.batch, taken, separator, pen);
        } else {
            self.write_envelope(separator, pen);
            separator = b',';
        }
        separator = write_list(&fields.list, bytes, separator, pen);
        pen.close(separator);
    }

    /// The shared members, all of them.
    fn write_envelope(&self, separator: u8, pen: &mut Pen<'_>) {
        let envelope = self.envelope.get_or_init(|| {
            let mut envelope = Vec::new();
            with_pen(&mut envelope, |pen| {
                write_shared(self.batch, |_| false, b',', pen);
            });
            envelope
        });
        pen.byte(separator);
        pen.copy(envelope.get(1..).unwrap_or_default());
    }
}

/// Lets `write` append to `out` with a pen.
pub(super) fn with_pen(out: &mut Vec<u8>, write: impl FnOnce(&mut Pen<'_>)) {
    let mut room = Room::new();
    let mut pen = Pen::new(&mut room, out);
    write(&mut pen);
    pen.finish();
}

/// Writes the shared members but those that are `taken`, the first of them after `separator`;
/// answers what comes before the next member.
fn write_shared(
    batch: &Batch,
    taken: impl Fn(&str) -> bool,
    mut separator: u8,
    pen: &mut Pen<'_>,
) -> u8 {
    if !taken("timestamp") {
        pen.name(separator, name!("timestamp"));
        pen.time(batch.received);
        separator = b',';
    }
    let host = batch.origin.host();
    if !host.is_empty() && !taken("host") {
        pen.name(separator, name!("host"));
        pen.text_of(host.as_bytes());
        separator = b',';
    }
    if !taken("source") {
        pen.name(separator, name!("source"));
        pen.text_of(batch.origin.source.as_bytes());
        separator = b',';
    }
    separator
}

/// Writes the members of an object, the first of them after `separator`; answers what comes
/// before the next member: a comma, or `separator` where there was none.
fn write_list(list: &[Field], bytes: &[u8], mut separator: u8, pen: &mut Pen<'_>) -> u8 {
    let mut rest = list;
    while let [field, behind @ ..] = rest {
        rest = behind;
        if let Key::Static(name) = &field.key {
            pen.name(separator, name);
        } else if let Some(first) = member_span(field, bytes) {
            let (whole, count) = run(first, behind, bytes);
            pen.byte(separator);
            pen.piece(bytes, whole);
            rest = &behind[count..];
            separator = b',';
            continue;
        } else {
            write_key(&field.key, separator, bytes, pen);
        }
        write_slot(&field.slot, bytes, pen);
        separator = b',';
    }
    separator
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

/// How far members go on that stand side by side in the original with one comma between, and how
/// many they are beside the first.
fn run(first: Span, behind: &[Field], bytes: &[u8]) -> (Span, usize) {
    let mut whole = first;
    let mut count = 0;
    for field in behind {
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

/// Writes a name between `separator` and a colon.
#[inline(never)]
fn write_key(key: &Key, separator: u8, bytes: &[u8], pen: &mut Pen<'_>) {
    match key {
        Key::Static(name) => return pen.name(separator, name),
        Key::Shared(name) => {
            pen.byte(separator);
            pen.text_of(name.as_bytes());
        }
        Key::Span(name) => {
            pen.byte(separator);
            pen.text(bytes, *name);
        }
        Key::Json(name) => {
            pen.byte(separator);
            pen.byte(b'"');
            pen.piece(bytes, *name);
            pen.byte(b'"');
        }
    }
    pen.byte(b':');
}

/// Writes a slot.
#[inline(always)]
fn write_slot(slot: &Slot, bytes: &[u8], pen: &mut Pen<'_>) {
    match slot {
        Slot::Text(span) => pen.text(bytes, *span),
        Slot::Json(span) => pen.piece(bytes, *span),
        Slot::StructuredData(span) => structured_data::write_json(bytes, *span, pen),
        Slot::Word(word) => pen.word(word),
        Slot::Integer(number) => pen.integer(*number),
        Slot::Time(time) => pen.time(*time),
        Slot::Value(value) => pen.value(value),
        Slot::Constant(constant) => pen.copy(&constant.json),
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
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        write_rest(text, out);
    }
    out.push(b'"');
}

/// Appends a text with bytes that are not ASCII or have to be escaped.
#[inline(never)]
fn write_rest(text: &[u8], out: &mut Vec<u8>) {
    if std::str::from_utf8(text).is_ok() {
        return escape(text, out);
    }
    for chunk in text.utf8_chunks() {
        escape(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
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

#[cfg(test)]
mod tests;
