//! Where the text lies that a step reads: in the batch's bytes, or beside them.
//!
//! In the batch, what is found in it becomes spans. A text of its own (unescaped, or made by a
//! step before) is shared by the values found in it.

use bytes::Bytes;
use vrl::value::Value;

use super::Reason;
use crate::event::{
    Event, Field, Found, Key, Name, Slot, Span, find, parse_json, structured_data_value,
    write_plain_slot,
};
use crate::protocol;

/// A text and where it lies.
#[derive(Debug)]
pub(in crate::steps) enum Place<'a> {
    /// A span of the batch's bytes.
    Batch(&'a Bytes, Span),
    /// Bytes of its own.
    Own(Bytes),
}

impl<'a> Place<'a> {
    /// The field `message` of an event.
    pub fn message(event: &Event, bytes: &'a Bytes) -> Result<Place<'a>, Reason> {
        match event {
            Event::Raw(span) => Ok(Place::Batch(bytes, *span)),
            Event::Fields(_) => match find(event, bytes, b"message") {
                Some(found) => Place::text(found, bytes),
                None => Err("there is no field `message`".into()),
            },
        }
    }

    /// The text of a field.
    fn text(found: Found<'_>, bytes: &'a Bytes) -> Result<Place<'a>, Reason> {
        let slot = match found {
            Found::Message(span) | Found::Slot(&Slot::Text(span)) => {
                return Ok(Place::Batch(bytes, span));
            }
            Found::Slot(slot) => slot,
        };
        let text = match slot {
            Slot::Json(span) if span.of(bytes).starts_with(b"\"") => parse_json(bytes, *span),
            Slot::Value(value) => Value::clone(value),
            Slot::Constant(constant) => constant.value.clone(),
            _ => Value::Null,
        };
        match text.as_bytes() {
            Some(text) => Ok(Place::Own(text.clone())),
            None => Err("the field `message` is not a text".into()),
        }
    }

    /// A field's value as JSON text.
    pub fn json(found: Found<'_>, bytes: &'a Bytes) -> Place<'a> {
        match found {
            Found::Message(span) | Found::Slot(&(Slot::Text(span) | Slot::Json(span))) => {
                Place::Batch(bytes, span)
            }
            Found::Slot(slot) => {
                let mut text = Vec::new();
                // A text is JSON already, as in `message`; anything else is written as JSON.
                write_plain_slot(slot, bytes, &mut text);
                Place::Own(Bytes::from(text))
            }
        }
    }

    /// A part of this text.
    pub fn part(&self, part: protocol::Span) -> Place<'a> {
        match self {
            Place::Batch(bytes, span) => Place::Batch(bytes, ours(part).within(*span)),
            Place::Own(own) => Place::Own(ours(part).share(own)),
        }
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Place::Batch(bytes, span) => span.of(bytes),
            Place::Own(own) => own,
        }
    }

    /// Where it lies in the batch, or `whole` where it does not.
    pub fn raw(&self, whole: Span) -> Span {
        match self {
            Place::Batch(_, span) => *span,
            Place::Own(_) => whole,
        }
    }

    /// A part of it as a slot of text.
    #[inline]
    pub fn text_slot(&self, part: protocol::Span) -> Slot {
        match self {
            Place::Batch(_, span) => Slot::Text(ours(part).within(*span)),
            Place::Own(own) => shared_text(own, part),
        }
    }

    /// Adds a part of it as a field of text; see [`add`].
    #[inline(always)]
    pub fn add_text(&self, list: &mut Vec<Field>, name: &'static Name, part: protocol::Span) {
        match self {
            Place::Batch(_, span) => add_span(list, name, ours(part).within(*span)),
            Place::Own(own) => add(list, name, shared_text(own, part)),
        }
    }

    /// A part of it as a slot of valid JSON.
    #[inline]
    pub fn json_slot(&self, part: protocol::Span) -> Slot {
        match self {
            Place::Batch(_, span) => Slot::Json(ours(part).within(*span)),
            Place::Own(own) => Slot::Value(Box::new(parse_json(own, ours(part)))),
        }
    }

    /// A part of it as a slot of structured data of syslog.
    #[inline]
    pub fn structured_data_slot(&self, part: protocol::Span) -> Slot {
        match self {
            Place::Batch(_, span) => Slot::StructuredData(ours(part).within(*span)),
            Place::Own(own) => structured_value(own, part),
        }
    }

    /// A part of it as a key; of JSON that has no escapes, or of plain text.
    #[inline]
    pub fn key(&self, part: protocol::Span, json: bool) -> Key {
        match self {
            Place::Batch(_, span) if json => Key::Json(ours(part).within(*span)),
            Place::Batch(_, span) => Key::Span(ours(part).within(*span)),
            Place::Own(own) => shared_key(ours(part).of(own)),
        }
    }
}

/// Adds a field of text of the batch; see [`add`].
#[inline(never)]
fn add_span(list: &mut Vec<Field>, name: &'static Name, span: Span) {
    add(list, name, Slot::Text(span));
}

/// Adds a field that is a number; see [`add`].
#[inline(never)]
pub(in crate::steps) fn add_integer(list: &mut Vec<Field>, name: &'static Name, number: i64) {
    add(list, name, Slot::Integer(number));
}

/// Adds a field that is one of marline's own words; see [`add`].
#[inline(never)]
pub(in crate::steps) fn add_word(list: &mut Vec<Field>, name: &'static Name, word: &'static Name) {
    add(list, name, Slot::Word(word));
}

/// Adds a field that is not in `list` yet.
///
/// Where `Vec::push` might find no room it has to keep the field elsewhere, to drop it then, and to
/// copy it, which takes longer than to make it. So it is asked only where there is room; and the
/// usual kinds of fields are added by functions of their own, which get what a field is made of in
/// registers and write it in its place.
#[inline(always)]
pub(in crate::steps) fn add(list: &mut Vec<Field>, name: &'static Name, slot: Slot) {
    let key = Key::Static(name);
    if list.len() < list.capacity() {
        list.push(Field { key, slot });
    } else {
        grow(list, Field { key, slot });
    }
}

#[cold]
#[inline(never)]
fn grow(list: &mut Vec<Field>, field: Field) {
    list.push(field);
}

/// A part of a text that is not in the batch. Not inlined, for it is rare and long.
#[inline(never)]
fn shared_text(own: &Bytes, part: protocol::Span) -> Slot {
    Slot::text(ours(part).share(own))
}

/// As [`shared_text`], of structured data.
#[inline(never)]
fn structured_value(own: &Bytes, part: protocol::Span) -> Slot {
    Slot::Value(Box::new(structured_data_value(&ours(part).share(own))))
}

/// A key with a text of its own.
pub(in crate::steps) fn shared_key(text: &[u8]) -> Key {
    Key::own(String::from_utf8_lossy(text))
}

/// The same range as a span of events.
#[inline]
pub(in crate::steps) fn ours(span: protocol::Span) -> Span {
    Span {
        start: span.start,
        end: span.end,
    }
}
