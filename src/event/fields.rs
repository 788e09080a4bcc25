//! The fields of an event: keys, slots, and how they are found, set and taken away.
//!
//! The list is flat, in order of arrival, and searched from its start: events have ten fields,
//! not ten thousand, and comparing ten lengths beats any map. Nothing here parses.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use vrl::value::Value;

use super::{Event, Fielded, Move, Name, Span, eight, json, value};
use crate::time::WallTime;

/// Names of configurations that are kept for ever, however often one is read.
const KEPT_NAMES_MAX: usize = 1024;

/// The longest of them, in bytes.
const KEPT_NAME_BYTES_MAX: usize = 256;

/// The field that a raw event has.
pub(super) static MESSAGE: Name = Name::new("message");

const _: () = assert!(size_of::<Field>() == 32, "a field is four words");

/// What was parsed out of an event or set on it.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The original bytes of the event.
    pub raw: Span,
    /// The fields; no key occurs twice.
    pub list: Vec<Field>,
    /// False for a raw event that only carries marks or set fields: it still has its
    /// `message`, which is `raw`, and JSON adds received time, host and source.
    pub parsed: bool,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub key: Key,
    /// Its value, parsed or not.
    pub slot: Slot,
}

/// A field's name. Equal names are equal bytes, whatever variant holds them.
///
/// Names that lie elsewhere are a pointer away from it, so that a field is 32 bytes: thousands
/// are on their way at once, and what they cost is the memory that they touch.
#[derive(Clone, Debug)]
pub enum Key {
    /// Known when marline was built, or kept by [`Key::named`].
    Static(&'static Name),
    /// Text that had to be unescaped, or another that the batch does not hold.
    Shared(Arc<String>),
    /// Plain text of the batch.
    Span(Span),
    /// What stood between the quotes of a JSON key that has no escape: valid UTF-8 that goes
    /// into JSON as it stands.
    Json(Span),
}

/// A field's value.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Text of the batch, any bytes.
    Text(Span),
    /// Valid JSON text of the batch (RFC 8259), not yet parsed.
    Json(Span),
    /// Structured data of syslog (RFC 5424, 6.3) as it stands in the batch, not yet parsed: an
    /// object of objects.
    StructuredData(Span),
    /// One of marline's own words, such as a severity.
    Word(&'static Name),
    /// A number.
    Integer(i64),
    /// A time; RFC 3339 in UTC with microseconds when printed.
    Time(WallTime),
    /// A value of this event alone.
    Value(Box<Value>),
    /// A value from the configuration, with its JSON made in advance.
    Constant(Arc<Constant>),
}

/// A value that many events carry.
#[derive(Debug)]
pub struct Constant {
    /// As VRL sees it.
    pub value: Value,
    /// As JSON output writes it.
    pub json: Box<[u8]>,
}

impl Constant {
    /// `value` with its JSON text.
    pub fn new(value: Value) -> Constant {
        let mut text = Vec::new();
        json::write_value(&value, &mut text);
        Constant {
            value,
            json: text.into_boxed_slice(),
        }
    }
}

impl Field {
    /// Whether dropping it does nothing.
    #[inline]
    pub(super) fn owns_nothing(&self) -> bool {
        let key = match &self.key {
            Key::Static(_) | Key::Span(_) | Key::Json(_) => true,
            Key::Shared(_) => false,
        };
        let slot = match &self.slot {
            Slot::Text(_) | Slot::Json(_) | Slot::StructuredData(_) => true,
            Slot::Word(_) | Slot::Integer(_) | Slot::Time(_) => true,
            Slot::Value(_) | Slot::Constant(_) => false,
        };
        key && slot
    }
}

impl Slot {
    /// A slot of text that is not in the batch's bytes.
    pub fn text(text: Bytes) -> Slot {
        Slot::Value(Box::new(Value::Bytes(text)))
    }

    /// A slot of a time, in microseconds since 1970-01-01T00:00:00Z.
    pub fn time(micros: i64) -> Slot {
        Slot::Time(WallTime::from_micros(micros))
    }

    fn span_mut(&mut self) -> Option<&mut Span> {
        match self {
            Slot::Text(span) | Slot::Json(span) | Slot::StructuredData(span) => Some(span),
            _ => None,
        }
    }

    fn span(&self) -> Option<Span> {
        match self {
            Slot::Text(span) | Slot::Json(span) | Slot::StructuredData(span) => Some(*span),
            _ => None,
        }
    }
}

impl Key {
    /// A name of the configuration. Those of one process are few and come with every event, so
    /// the first [`KEPT_NAMES_MAX`] are kept for ever and cost no count of their users.
    pub fn named(name: &str) -> Key {
        static KEPT: Mutex<Vec<&'static Name>> = Mutex::new(Vec::new());
        if name.len() > KEPT_NAME_BYTES_MAX || !eight::is_plain(name.as_bytes()) {
            return Key::own(name);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| known.as_str() == name) {
            return Key::Static(known);
        }
        if kept.len() == KEPT_NAMES_MAX {
            return Key::own(name);
        }
        let text: &'static str = Box::leak(Box::from(name));
        let new: &'static Name = Box::leak(Box::new(Name::new(text)));
        kept.push(new);
        Key::Static(new)
    }

    /// A name with a text of its own.
    pub fn own(name: impl Into<String>) -> Key {
        Key::Shared(Arc::new(name.into()))
    }

    /// The name's bytes.
    pub fn of<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Key::Static(name) => name.as_bytes(),
            Key::Shared(name) => name.as_bytes(),
            Key::Span(span) | Key::Json(span) => span.of(bytes),
        }
    }

    fn span_mut(&mut self) -> Option<&mut Span> {
        match self {
            Key::Span(span) | Key::Json(span) => Some(span),
            _ => None,
        }
    }

    fn span(&self) -> Option<Span> {
        match self {
            Key::Span(span) | Key::Json(span) => Some(*span),
            _ => None,
        }
    }
}

impl Fields {
    /// Where the field called `name` is in the list.
    pub fn position(&self, bytes: &[u8], name: &[u8]) -> Option<usize> {
        self.list
            .iter()
            .position(|field| field.key.of(bytes) == name)
    }

    /// The field called `name`; a raw event's `message` where nothing replaced it.
    pub fn find(&self, bytes: &[u8], name: &[u8]) -> Option<Found<'_>> {
        match self.position(bytes, name) {
            Some(index) => Some(Found::Slot(&self.list[index].slot)),
            None if self.has_message(bytes) && name == MESSAGE.as_bytes() => {
                Some(Found::Message(self.raw))
            }
            None => None,
        }
    }

    /// Sets a field, in its place where it was there already, else at the end.
    pub fn set(&mut self, bytes: &[u8], key: Key, slot: Slot) {
        match self.position(bytes, key.of(bytes)) {
            Some(index) => self.list[index].slot = slot,
            None => self.list.push(Field { key, slot }),
        }
    }

    /// Takes a field out. Without its `message` a raw event is a fielded one.
    pub fn remove(&mut self, bytes: &[u8], name: &[u8]) -> Option<Slot> {
        match self.position(bytes, name) {
            Some(index) => {
                let slot = self.list.remove(index).slot;
                // A message that replaced the raw one must not uncover it by going.
                self.parsed |= name == MESSAGE.as_bytes();
                Some(slot)
            }
            None if !self.parsed && name == MESSAGE.as_bytes() => {
                self.parsed = true;
                Some(Slot::Text(self.raw))
            }
            None => None,
        }
    }

    /// Makes the raw `message` a field like any other: after this the list is all there is.
    pub fn settle(&mut self, bytes: &[u8]) {
        if self.has_message(bytes) {
            let message = Field {
                key: Key::Static(&MESSAGE),
                slot: Slot::Text(self.raw),
            };
            self.list.insert(0, message);
        }
        self.parsed = true;
    }

    /// Whether `raw` is the event's `message`.
    pub fn has_message(&self, bytes: &[u8]) -> bool {
        !self.parsed && self.position(bytes, MESSAGE.as_bytes()).is_none()
    }

    pub(super) fn reach(&self) -> Span {
        let spans = self
            .list
            .iter()
            .flat_map(|field| [field.key.span(), field.slot.span()]);
        spans.flatten().fold(self.raw, |reach, span| Span {
            start: reach.start.min(span.start),
            end: reach.end.max(span.end),
        })
    }

    pub(super) fn relocate(&mut self, old: &Bytes, moved: Move) {
        moved.apply(&mut self.raw);
        for Field { key, slot } in &mut self.list {
            if let Some(span) = key.span_mut() {
                moved.apply(span);
            }
            match slot {
                Slot::Value(held) => value::detach(held, old),
                _ => {
                    if let Some(span) = slot.span_mut() {
                        moved.apply(span);
                    }
                }
            }
        }
    }
}

/// A field that was found.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The whole of a raw event, which is text.
    Message(Span),
    /// A slot.
    Slot(&'a Slot),
}

impl Found<'_> {
    /// As a slot of its own.
    pub fn to_slot(self) -> Slot {
        match self {
            Found::Message(span) => Slot::Text(span),
            Found::Slot(slot) => slot.clone(),
        }
    }
}

/// The field of `event` called `name`.
pub fn find<'a>(event: &'a Event, bytes: &[u8], name: &[u8]) -> Option<Found<'a>> {
    match event {
        Event::Raw(span) if name == MESSAGE.as_bytes() => Some(Found::Message(*span)),
        Event::Raw(_) => None,
        Event::Fields(fields) => fields.find(bytes, name),
    }
}

/// The fields of an event that is about to be changed; a raw one gets an empty list.
pub fn into_fields(event: &mut Event) -> &mut Fields {
    if let Event::Raw(raw) = *event {
        *event = Event::Fields(Fielded::empty(raw, false));
    }
    match event {
        Event::Fields(fields) => fields,
        Event::Raw(_) => unreachable!("made fields above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_kept_are_kept_once_and_plain() {
        let at = |key: Key| match key {
            Key::Static(name) => std::ptr::from_ref(name),
            _ => std::ptr::null(),
        };
        assert_eq!(at(Key::named("some name")), at(Key::named("some name")));
        assert!(!at(Key::named("some name")).is_null());
        for other in ["a\"b", "\u{e9}", &"x".repeat(KEPT_NAME_BYTES_MAX + 1)] {
            let key = Key::named(other);
            assert_eq!(key.of(&[]), other.as_bytes());
            assert!(matches!(key, Key::Shared(_)), "{other}");
        }
    }
}
