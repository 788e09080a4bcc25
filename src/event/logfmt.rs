//! logfmt out: `key=value` pairs with a space between, in one pass into a buffer.
//!
//! A value of letters, digits and signs stands bare; anything else, and the empty text, is
//! quoted with JSON's escapes, so that a line never breaks. Objects and arrays are their JSON,
//! quoted. In a key, what would end it becomes `_`. A raw event has the same fields as in JSON.

use super::{Batch, Event, Field, Slot, json, write_plain_slot};

/// Appends `event` as one line without a newline.
pub fn write(batch: &Batch, event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    match event {
        Event::Raw(raw) => write_shared(batch, Some(Slot::Text(*raw)), |_| false, start, out),
        Event::Fields(fields) => {
            let bytes = &batch.bytes;
            if !fields.parsed {
                let message = fields.has_message(bytes).then_some(Slot::Text(fields.raw));
                let taken = |name: &str| fields.position(bytes, name.as_bytes()).is_some();
                write_shared(batch, message, taken, start, out);
            }
            for Field { key, slot } in &fields.list {
                write_pair(key.of(bytes), slot, batch, start, out);
            }
        }
    }
}

/// What a raw event has beside what was set on it.
fn write_shared(
    batch: &Batch,
    message: Option<Slot>,
    taken: impl Fn(&str) -> bool,
    start: usize,
    out: &mut Vec<u8>,
) {
    if let Some(message) = message {
        write_pair(b"message", &message, batch, start, out);
    }
    if !taken("timestamp") {
        write_pair(b"timestamp", &Slot::Time(batch.received), batch, start, out);
    }
    let host = batch.origin.host();
    if !host.is_empty() && !taken("host") {
        write_key(b"host", start, out);
        write_value(host.as_bytes(), out);
    }
    if !taken("source") {
        write_key(b"source", start, out);
        write_value(batch.origin.source.as_bytes(), out);
    }
}

fn write_pair(key: &[u8], slot: &Slot, batch: &Batch, start: usize, out: &mut Vec<u8>) {
    write_key(key, start, out);
    match slot {
        Slot::Text(span) => write_value(span.of(&batch.bytes), out),
        Slot::Json(span) => match span.of(&batch.bytes) {
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                write_value(inner, out);
            }
            [b'"' | b'{' | b'[', ..] => write_unescaped(slot, batch, out),
            scalar => out.extend_from_slice(scalar),
        },
        _ => write_unescaped(slot, batch, out),
    }
}

/// A value that is no range of the batch as it stands.
fn write_unescaped(slot: &Slot, batch: &Batch, out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    if write_plain_slot(slot, &batch.bytes, &mut plain) {
        write_value(&plain, out);
    } else {
        out.extend_from_slice(b"null");
    }
}

fn write_key(key: &[u8], start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b' ');
    }
    if key.is_empty() {
        out.push(b'_');
    }
    if key.iter().copied().all(is_plain) && key.is_ascii() {
        out.extend_from_slice(key);
        out.push(b'=');
        return;
    }
    for chunk in key.utf8_chunks() {
        let clean = chunk
            .valid()
            .bytes()
            .map(|byte| if is_plain(byte) { byte } else { b'_' });
        out.extend(clean);
        if !chunk.invalid().is_empty() {
            out.push(b'_');
        }
    }
    out.push(b'=');
}

fn write_value(text: &[u8], out: &mut Vec<u8>) {
    // The word is quoted where it is a text, since bare it stands for no value.
    let bare = !text.is_empty() && text != b"null" && text.iter().copied().all(is_plain);
    if bare && std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(text);
    } else {
        json::write_text(text, out);
    }
}

/// Neither blank, control, quote, backslash nor the sign between key and value.
fn is_plain(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !matches!(byte, b'"' | b'=' | b'\\')
}
