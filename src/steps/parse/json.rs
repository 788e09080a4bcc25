//! `parse = "json"`: the fields of an object, as ranges of its text.
//!
//! The whole text is checked; nothing of it is built. A key with escapes gets a text of its own.

use super::place::{Place, ours, shared_key};
use super::{List, Parser, Reason};
use crate::event::{Field, Key, Slot};
use crate::protocol::json::{self, NOT_AN_OBJECT};

/// The parser.
#[derive(Debug, Default)]
pub(super) struct Json {
    /// How many fields the last event had; the next one has as many.
    usual: usize,
}

impl Parser for Json {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        found.reserve(self.usual);
        match fields_of(place, found) {
            Ok(()) => {
                self.usual = found.len();
                Ok(())
            }
            Err(error) if error.what == NOT_AN_OBJECT => Err(error.to_string().into()),
            Err(error) => Err(format!("{NOT_AN_OBJECT}: {error}").into()),
        }
    }
}

/// Adds the fields of the object that `place` is; those before an error are there after it.
pub(in crate::steps) fn fields_of(
    place: &Place<'_>,
    found: &mut List<'_>,
) -> Result<(), json::JsonError> {
    let text = place.bytes();
    json::scan_each(text, |field| {
        if let (Place::Batch(_, base), false) = (place, field.key_escaped) {
            let key = Key::Json(ours(field.key).within(*base));
            let slot = Slot::Json(ours(field.value).within(*base));
            return found.push_named(field.key.of(text), key, slot);
        }
        let Field { key, slot } = field_of(place, text, &field);
        found.push(key, slot);
    })
}

/// A field of a text that is not in the batch, or with a key that has escapes.
#[cold]
fn field_of(place: &Place<'_>, text: &[u8], field: &json::Field) -> Field {
    let key = if field.key_escaped {
        let mut key = Vec::new();
        json::unescape(field.key.of(text), &mut key);
        shared_key(&key)
    } else {
        place.key(field.key, true)
    };
    Field {
        key,
        slot: place.json_slot(field.value),
    }
}
