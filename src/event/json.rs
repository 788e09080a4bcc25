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
        if let Some(first) = member_span(field, bytes) {
            if index > 0 {
                out.push(b',');
            }
            let (whole, count) = run(first, &list[index..], bytes);
            out.extend_from_slice(whole.of(bytes));
            index += count;
            continue;
        }
        // What surrounds a name, in as few pieces as there can be.
        out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        write_name(&field.key, bytes, out);
        out.extend_from_slice(b"\":");
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

/// Appends a name without its quotes.
fn write_name(key: &Key, bytes: &[u8], out: &mut Vec<u8>) {
    let name = key.of(bytes);
    match key {
        Key::Json(_) | Key::Static(_) => out.extend_from_slice(name),
        Key::Shared(_) | Key::Span(_) if is_plain(name) => out.extend_from_slice(name),
        Key::Shared(_) | Key::Span(_) => write_rest(name, out),
    }
}

/// Appends one of marline's own words, in which there is nothing to escape.
fn write_word(word: &'static str, out: &mut Vec<u8>) {
    debug_assert!(is_plain(word.as_bytes()), "{word}");
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends a slot as JSON.
pub fn write_slot(slot: &Slot, bytes: &[u8], out: &mut Vec<u8>) {
    match slot {
        Slot::Text(span) => write_text(span.of(bytes), out),
        Slot::Json(span) => out.extend_from_slice(span.of(bytes)),
        Slot::StructuredData(span) => structured_data::write_json(span.of(bytes), out),
        Slot::Word(word) => write_word(word, out),
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

/// Whether nothing of `text` has to be escaped, and all is ASCII.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let (words, _) = text.as_chunks::<8>();
    // All of it, for a text that is not plain is rare.
    let marks = words.iter().fold(0, |marks, word| {
        let word = u64::from_le_bytes(*word);
        marks | special(word) | word
    });
    let last = last_word(text);
    (marks | special(last) | last) & HIGHS == 0
}

/// The last eight bytes of a text; all of a shorter one, in any order and some of them twice.
#[inline]
fn last_word(text: &[u8]) -> u64 {
    if let Some(last) = text.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << 32;
    }
    match text {
        [first, .., last] => {
            let middle = text[text.len() / 2];
            (BLANKS << 24) | u64::from(*first) | u64::from(middle) << 8 | u64::from(*last) << 16
        }
        [only] => (BLANKS << 8) | u64::from(*only),
        [] => BLANKS,
    }
}

/// The first byte that has to be escaped, eight bytes at a time.
fn find_special(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let hits = special(u64::from_le_bytes(*word)) & HIGHS;
        if hits != 0 {
            return Some(index * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let at = rest.iter().position(is_special)?;
    Some(text.len() - rest.len() + at)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const BLANKS: u64 = ONES * 0x20;

/// Sets the high bit of bytes below 0x20, `"` and `\`. A borrow can only raise false hits above
/// the lowest true one. With one bit turned over, a quote is the smallest byte that is no control
/// character.
#[inline]
fn special(word: u64) -> u64 {
    let turned = word ^ (ONES * 2);
    let low = turned.wrapping_sub(ONES * 0x21) & !turned;
    let backslash = word ^ (ONES * u64::from(b'\\'));
    low | backslash.wrapping_sub(ONES) & !backslash
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
mod tests {
    use super::*;

    /// By the letter of RFC 8259, byte by byte.
    fn slowly(text: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        for character in String::from_utf8_lossy(text).chars() {
            match character {
                '"' | '\\' | '\0'..='\u{1f}' => write_escaped(character as u8, &mut out),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.push(b'"');
        out
    }

    #[test]
    fn a_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for len in 0..40 {
            let mut text = vec![b'a'; len];
            let check = |text: &[u8]| {
                let mut out = Vec::new();
                write_text(text, &mut out);
                assert_eq!(out, slowly(text), "{text:?}");
            };
            check(&text);
            for at in 0..len {
                for byte in [
                    0, 0x1f, b' ', b'!', b'"', b'#', b'\\', b']', 0x7f, 0x80, 0xff,
                ] {
                    text[at] = byte;
                    check(&text);
                }
                text[at] = b'a';
            }
            let mut text = vec![b'"'; len];
            check(&text);
            text.fill(0xc3);
            check(&text);
        }
    }
}
