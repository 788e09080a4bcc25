//! A batch as bytes and back: the payload of a record of a disk buffer.
//!
//! What is kept is the event before encoding, with its batch's source, pipeline, peer and
//! received time, so that a later configuration may write it in another form. The usual payload
//! is lines that nobody has cut apart: one copy of the chunk's bytes, and how many there are. Other
//! raw lines take a byte or two each. What is read back points into the payload; nothing is
//! copied out of it.
//!
//! ```text
//! payload  version u8 = 1 or 2 | flags u8 (bit 0: lines; bit 1, version 2: uncut)
//!          source | pipeline | peer: text | received: signed, µs | bytes: text
//!          number of events | events, none where uncut
//! text     length | bytes          number  LEB128, at most 10 bytes     signed  number, zigzag
//! event    length of raw << 2 | gap << 1 | fielded     gap: signed distance of its start from
//!          one past the end of the one before (the first: from 0); absent where it is 0
//! fielded  u8 (bit 0: parsed) | number of fields | fields
//! field    u8 (bits 0-1 key: 0 name, 1 span, 2 JSON; bits 2-4 slot: 0 text, 1 JSON, 2 integer,
//!          3 time, 4 value, 5 constant, 6 structured data) | key | slot
//! ```
//! `values.rs` has values and shared names. All spans lie in `bytes`, else it is damage.

mod names;
mod shared;
mod values;
mod wire;

use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Event, Events, Field, Fielded, Fields, Key, Move, Run, Slot, Span, runs};
use crate::time::WallTime;

pub use names::NameCache;
pub use wire::DecodeError;

use shared::{Numbers, OneConstant, Table};
use wire::{Reader, VARINT_BYTES_MAX, put_signed, put_text, put_varint};

/// The newest version of payloads; all before it are read, too.
pub const VERSION: u8 = 2;

/// The version of payloads that list their events, which is what the first marlines read.
const VERSION_LISTED: u8 = 1;

/// Flag of the payload: [`Batch::lines`].
const LINES: u8 = 1;
/// Flag of the payload: its bytes are the events, each with a newline behind it.
const UNCUT: u8 = 2;
/// Flag of a fielded event: [`Fields::parsed`].
const PARSED: u8 = 1;

/// Bits of an event's head.
const FIELDED: u64 = 1;
const GAP: u64 = 2;

/// Kinds of keys, in the low bits of a field's head.
const KEY_NAME: u8 = 0;
const KEY_SPAN: u8 = 1;
const KEY_JSON: u8 = 2;
const KEY_BITS: u8 = 2;

/// Kinds of slots, in the bits above.
const SLOT_TEXT: u8 = 0;
const SLOT_JSON: u8 = 1;
const SLOT_INTEGER: u8 = 2;
const SLOT_TIME: u8 = 3;
const SLOT_VALUE: u8 = 4;
const SLOT_CONSTANT: u8 = 5;
const SLOT_STRUCTURED_DATA: u8 = 6;

/// An event's head and its gap, in bytes: 34 bits each at most.
const EVENT_HEAD_BYTES_MAX: usize = 10;

/// Appends the payload of the events at `picked`, or of all, that came through `pipeline`.
///
/// # Panics
/// When an index is none of the batch, or when the bytes that the events point at are beyond
/// 4 GiB, which takes events that overlap each other out of order.
pub fn encode(batch: &Batch, picked: Option<&[u32]>, pipeline: &str, out: &mut Vec<u8>) {
    match picked {
        None => match batch.events.lines() {
            Some(lines) => write_uncut(batch, lines, pipeline, out),
            None => write(batch, batch.events.iter(), pipeline, out),
        },
        Some(picked) => {
            let events = picked.iter().map(|index| &batch.events[*index as usize]);
            write(batch, events, pipeline, out);
        }
    }
}

/// An upper bound of what [`encode`] appends, in bytes; for making room.
///
/// # Panics
/// When an index is none of the batch.
pub fn encoded_bytes_max(batch: &Batch, picked: Option<&[u32]>, pipeline: &str) -> usize {
    let texts = batch.origin.source.len() + batch.origin.peer.len() + pipeline.len();
    // Three lengths of texts, received time, length of the bytes, number of events.
    let head = 2 + 6 * VARINT_BYTES_MAX + texts;
    head + match picked {
        None => match batch.events.lines() {
            Some(lines) => lines.len(),
            None => batch.events.iter().map(event_bytes_max).sum(),
        },
        Some(picked) => {
            let events = picked.iter().map(|index| &batch.events[*index as usize]);
            events.map(event_bytes_max).sum()
        }
    }
}

/// What a payload holds.
#[derive(Debug)]
pub struct Decoded {
    /// The events; every span and every text of a value points into the payload.
    pub batch: Batch,
    /// The pipeline that the events came through.
    pub pipeline: Arc<str>,
}

/// Reads a payload. `names` is kept from one payload to the next.
///
/// No count is believed before the bytes for it are seen. The events and fields of a hostile
/// payload take at most some 32 times its length, the objects and arrays within their values
/// what such values take anywhere.
///
/// # Errors
/// The payload is of another version, or it is damaged; then where and how.
pub fn decode(payload: Bytes, names: &mut NameCache) -> Result<Decoded, DecodeError> {
    let mut reader = Reader::new(&payload)?;
    let version = reader.byte()?;
    let flags = match version {
        VERSION_LISTED => reader.flags(LINES)?,
        VERSION => reader.flags(LINES | UNCUT)?,
        _ => return Err(DecodeError::Version(version)),
    };
    let source = reader.text()?;
    let pipeline = reader.text()?;
    let peer = reader.text()?;
    let origin = names.origin(source, peer);
    let pipeline = names.name(pipeline);
    let received = WallTime::from_micros(reader.signed()?);
    let bounds = reader.chunk()?;
    let events = match flags & UNCUT {
        0 => Decoder::new(reader, names, bounds).events()?.into(),
        _ => uncut(reader, bounds, &payload)?,
    };
    Ok(Decoded {
        batch: Batch {
            origin,
            received,
            bytes: payload,
            events,
            lines: flags & LINES != 0,
        },
        pipeline,
    })
}

fn write<'a, I>(batch: &'a Batch, events: I, pipeline: &str, out: &mut Vec<u8>)
where
    I: ExactSizeIterator<Item = &'a Event> + Clone,
{
    let runs = runs(events.clone(), &batch.bytes);
    let live = runs.iter().map(Run::len).sum::<usize>();
    assert!(u32::try_from(live).is_ok(), "events of {live} bytes");
    out.push(VERSION_LISTED);
    out.push(if batch.lines { LINES } else { 0 });
    put_shared(batch, pipeline, out);
    put_varint(live as u64, out);
    out.reserve(live + 3 * events.len());
    for run in &runs {
        out.extend_from_slice(run.of(&batch.bytes));
    }
    put_varint(events.len() as u64, out);
    let mut encoder = Encoder::new(out);
    let mut events = events;
    let mut to = 0;
    for run in &runs {
        let from = run.start;
        for event in events.by_ref().take(run.events) {
            encoder.event(event, Move { from, to });
        }
        to += run.len() as u32;
    }
}

fn write_uncut(batch: &Batch, lines: Span, pipeline: &str, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(LINES | UNCUT);
    put_shared(batch, pipeline, out);
    put_text(lines.of(&batch.bytes), out);
    put_varint(batch.events.len() as u64, out);
}

fn put_shared(batch: &Batch, pipeline: &str, out: &mut Vec<u8>) {
    put_text(batch.origin.source.as_bytes(), out);
    put_text(pipeline.as_bytes(), out);
    put_text(batch.origin.peer.as_bytes(), out);
    put_signed(batch.received.as_micros(), out);
}

/// The lines that `bounds` is of, which are counted: their number decides what is settled.
fn uncut(mut reader: Reader<'_>, bounds: Span, payload: &Bytes) -> Result<Events, DecodeError> {
    let text = bounds.of(payload);
    let said = reader.varint()?;
    let count = memchr::memchr_iter(b'\n', text).count();
    if said != count as u64 || !text.ends_with(b"\n") {
        return Err(reader.damage("another number of lines than it says"));
    }
    match reader.rest() {
        0 => Ok(Events::uncut(payload.clone(), bounds, count)),
        _ => Err(reader.damage("bytes after the last line")),
    }
}

/// Writes events, and knows what they have shared so far.
struct Encoder<'a, 'o> {
    out: &'o mut Vec<u8>,
    /// Where the next raw event starts if it is a line after the last one.
    next: i64,
    names: Numbers<&'a str>,
    constants: Numbers<OneConstant<'a>>,
}

impl<'a, 'o> Encoder<'a, 'o> {
    fn new(out: &'o mut Vec<u8>) -> Encoder<'a, 'o> {
        Encoder {
            out,
            next: 0,
            names: Numbers::default(),
            constants: Numbers::default(),
        }
    }

    fn event(&mut self, event: &'a Event, moved: Move) {
        let raw = moved.shift(event.raw());
        let gap = i64::from(raw.start) - self.next;
        self.next = i64::from(raw.end) + 1;
        let fielded = match event {
            Event::Raw(_) => 0,
            Event::Fields(_) => FIELDED,
        };
        let head = (raw.len() as u64) << 2 | fielded;
        if gap == 0 {
            put_varint(head, self.out);
        } else {
            put_varint(head | GAP, self.out);
            put_signed(gap, self.out);
        }
        if let Event::Fields(fields) = event {
            self.fields(fields, raw, moved);
        }
    }

    fn fields(&mut self, fields: &'a Fields, raw: Span, moved: Move) {
        self.out.push(if fields.parsed { PARSED } else { 0 });
        put_varint(fields.list.len() as u64, self.out);
        let mut cursor = Cursor(i64::from(raw.start));
        for Field { key, slot } in &fields.list {
            self.out.push(key_kind(key) | slot_kind(slot) << KEY_BITS);
            match key {
                Key::Static(name) => self.names.put(name.as_str(), self.out, put_name),
                Key::Shared(name) => self.names.put(&***name, self.out, put_name),
                Key::Span(span) | Key::Json(span) => cursor.put(moved.shift(*span), self.out),
            }
            match slot {
                Slot::Text(span) | Slot::Json(span) | Slot::StructuredData(span) => {
                    cursor.put(moved.shift(*span), self.out);
                }
                Slot::Integer(number) => put_signed(*number, self.out),
                Slot::Time(time) => put_signed(time.as_micros(), self.out),
                Slot::Value(value) => values::put(value, self.out),
                Slot::Word(word) => {
                    let word = OneConstant::Word(word);
                    self.constants.put(word, self.out, OneConstant::put);
                }
                Slot::Constant(constant) => {
                    let constant = OneConstant::Constant(constant);
                    self.constants.put(constant, self.out, OneConstant::put);
                }
            }
        }
    }
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    put_text(name.as_bytes(), out);
}

fn key_kind(key: &Key) -> u8 {
    match key {
        Key::Static(_) | Key::Shared(_) => KEY_NAME,
        Key::Span(_) => KEY_SPAN,
        Key::Json(_) => KEY_JSON,
    }
}

fn slot_kind(slot: &Slot) -> u8 {
    match slot {
        Slot::Text(_) => SLOT_TEXT,
        Slot::Json(_) => SLOT_JSON,
        Slot::Integer(_) => SLOT_INTEGER,
        Slot::Time(_) => SLOT_TIME,
        Slot::Value(_) => SLOT_VALUE,
        Slot::Word(_) | Slot::Constant(_) => SLOT_CONSTANT,
        Slot::StructuredData(_) => SLOT_STRUCTURED_DATA,
    }
}

/// Where the last span of an event ended: the next one is near.
struct Cursor(i64);

impl Cursor {
    fn put(&mut self, span: Span, out: &mut Vec<u8>) {
        put_signed(i64::from(span.start) - self.0, out);
        put_varint(span.len() as u64, out);
        self.0 = i64::from(span.end);
    }
}

/// Its bytes, the newline before the next, and what is written of it.
fn event_bytes_max(event: &Event) -> usize {
    let head = EVENT_HEAD_BYTES_MAX + 1;
    match event {
        Event::Raw(span) => span.len() + head,
        Event::Fields(fields) => {
            let list = fields.list.iter().map(field_bytes_max).sum::<usize>();
            fields.reach().len() + head + 1 + VARINT_BYTES_MAX + list
        }
    }
}

fn field_bytes_max(field: &Field) -> usize {
    let key = match &field.key {
        Key::Static(name) => name.len(),
        Key::Shared(name) => name.len(),
        Key::Span(_) | Key::Json(_) => 0,
    };
    let slot = match &field.slot {
        Slot::Word(word) => word.len(),
        Slot::Value(value) => values::bytes_max(value),
        Slot::Constant(constant) => values::bytes_max(&constant.value),
        Slot::Text(_) | Slot::Json(_) | Slot::StructuredData(_) => 0,
        Slot::Integer(_) | Slot::Time(_) => 0,
    };
    // The field's head; a place or number and a length for each; the kind of a word.
    1 + 2 * VARINT_BYTES_MAX + key + 1 + 2 * VARINT_BYTES_MAX + slot
}

/// Reads events.
struct Decoder<'r, 'n> {
    reader: Reader<'r>,
    names: &'n mut NameCache,
    /// The bytes that spans may point at.
    bounds: Span,
    /// As in [`Encoder`].
    next: i64,
    keys: Table<Key>,
    constants: Table<Arc<super::Constant>>,
}

impl<'r, 'n> Decoder<'r, 'n> {
    fn new(reader: Reader<'r>, names: &'n mut NameCache, bounds: Span) -> Decoder<'r, 'n> {
        names.begin();
        Decoder {
            reader,
            names,
            bounds,
            next: i64::from(bounds.start),
            keys: Table::default(),
            constants: Table::default(),
        }
    }

    fn events(mut self) -> Result<Vec<Event>, DecodeError> {
        let count = self.reader.count(1)?;
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            let event = self.event()?;
            events.push(event);
        }
        match self.reader.rest() {
            0 => Ok(events),
            _ => Err(self.reader.damage("bytes after the last event")),
        }
    }

    #[inline]
    fn event(&mut self) -> Result<Event, DecodeError> {
        let head = self.reader.varint()?;
        let mut start = self.next;
        if head & GAP != 0 {
            start = start.saturating_add(self.reader.signed()?);
        }
        let raw = self.span(start, head >> 2)?;
        self.next = i64::from(raw.end) + 1;
        if head & FIELDED == 0 {
            return Ok(Event::Raw(raw));
        }
        self.fields(raw).map(Event::Fields)
    }

    /// A span of the payload, which must lie within the bytes.
    #[inline]
    fn span(&self, start: i64, len: u64) -> Result<Span, DecodeError> {
        let bounds = i64::from(self.bounds.start)..=i64::from(self.bounds.end);
        let end = i64::try_from(len).map_or(i64::MAX, |len| start.saturating_add(len));
        if bounds.contains(&start) && bounds.contains(&end) {
            Ok(Span {
                start: start as u32,
                end: end as u32,
            })
        } else {
            Err(self.reader.damage("a span beyond the bytes"))
        }
    }

    fn near(&mut self, cursor: &mut Cursor) -> Result<Span, DecodeError> {
        let start = cursor.0.saturating_add(self.reader.signed()?);
        let len = self.reader.varint()?;
        let span = self.span(start, len)?;
        cursor.0 = i64::from(span.end);
        Ok(span)
    }

    fn fields(&mut self, raw: Span) -> Result<Fielded, DecodeError> {
        let parsed = self.reader.flags(PARSED)? == PARSED;
        // A field's head, key and slot take a byte each.
        let count = self.reader.count(3)?;
        let mut fielded = Fielded::empty(raw, parsed);
        fielded.list.reserve(count);
        let mut cursor = Cursor(i64::from(raw.start));
        for _ in 0..count {
            let field = self.field(&mut cursor)?;
            fielded.list.push(field);
        }
        Ok(fielded)
    }

    fn field(&mut self, cursor: &mut Cursor) -> Result<Field, DecodeError> {
        let head = self.reader.byte()?;
        let key = match head & ((1 << KEY_BITS) - 1) {
            KEY_NAME => self.name()?,
            KEY_SPAN => Key::Span(self.near(cursor)?),
            KEY_JSON => Key::Json(self.near(cursor)?),
            _ => return Err(self.reader.damage("an unknown kind of key")),
        };
        let slot = match head >> KEY_BITS {
            SLOT_TEXT => Slot::Text(self.near(cursor)?),
            SLOT_JSON => Slot::Json(self.near(cursor)?),
            SLOT_INTEGER => Slot::Integer(self.reader.signed()?),
            SLOT_TIME => Slot::Time(WallTime::from_micros(self.reader.signed()?)),
            SLOT_VALUE => Slot::Value(Box::new(values::read(&mut self.reader, self.names)?)),
            SLOT_CONSTANT => Slot::Constant(self.constant()?),
            SLOT_STRUCTURED_DATA => Slot::StructuredData(self.near(cursor)?),
            _ => return Err(self.reader.damage("an unknown kind of slot")),
        };
        Ok(Field { key, slot })
    }

    fn name(&mut self) -> Result<Key, DecodeError> {
        if let Some(known) = self.keys.known(&mut self.reader)? {
            return Ok(known);
        }
        let name = self.names.key(self.reader.text()?);
        Ok(self.keys.add(Key::Shared(name)))
    }

    fn constant(&mut self) -> Result<Arc<super::Constant>, DecodeError> {
        if let Some(known) = self.constants.known(&mut self.reader)? {
            return Ok(known);
        }
        let value = values::read(&mut self.reader, self.names)?;
        Ok(self.constants.add(Arc::new(super::Constant::new(value))))
    }
}

#[cfg(test)]
mod tests;
