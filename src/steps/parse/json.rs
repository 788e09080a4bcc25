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
    scanned: Vec<json::Field>,
}

impl Parser for Json {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        match fields_of(place, &mut self.scanned, found) {
            Ok(()) => Ok(()),
            Err(error) if error.what == NOT_AN_OBJECT => Err(error.to_string().into()),
            Err(error) => Err(format!("{NOT_AN_OBJECT}: {error}").into()),
        }
    }
}

/// Adds the fields of the object that `place` is; `scanned` is room to work in.
pub(in crate::steps) fn fields_of(
    place: &Place<'_>,
    scanned: &mut Vec<json::Field>,
    found: &mut List<'_>,
) -> Result<(), json::JsonError> {
    let text = place.bytes();
    json::scan(text, scanned)?;
    match place {
        Place::Batch(_, base) if !scanned.iter().any(|field| field.key_escaped) => {
            found.extend(scanned.iter().map(|field| Field {
                key: Key::Json(ours(field.key).within(*base)),
                slot: Slot::Json(ours(field.value).within(*base)),
            }));
        }
        _ => found.extend(scanned.iter().map(|field| field_of(place, text, field))),
    }
    Ok(())
}

/// A field of a text that is not in the batch, or with a key that has escapes.
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
