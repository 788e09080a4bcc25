//! `parse = "clf"`: access logs in the common and the combined format.
//!
//! Status and size become numbers, the time a time in UTC; what the server escaped is unescaped.
//! Fields that are `-` in the line are absent.

use bytes::Bytes;

use super::place::Place;
use super::{List, Parser, Reason};
use crate::event::{self, Key, Slot};
use crate::protocol::clf::{self, Field, Kind};

/// The names of fields, by their number.
static NAMES: [event::Name; clf::Name::TEXTS.len()] = event::Name::all(clf::Name::TEXTS);

/// The parser.
#[derive(Debug, Default)]
pub(super) struct Clf {
    last: LastTime,
}

/// A time as it was written and what it means: lines come many in a second.
#[derive(Debug, Default)]
struct LastTime {
    text: Vec<u8>,
    seconds: i64,
}

impl LastTime {
    fn seconds(&mut self, text: &[u8]) -> Option<i64> {
        if self.text.is_empty() || self.text != text {
            self.seconds = clf::unix_seconds(text)?;
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        Some(self.seconds)
    }
}

impl Parser for Clf {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        let text = place.bytes();
        found.reserve(clf::FIELDS_MAX);
        // The parser gives no name twice.
        let parsed = found.fill(|list| {
            clf::parse_each(text, |field| {
                let slot = slot(place, text, &field, &mut self.last);
                let key = Key::Static(&NAMES[field.name as usize]);
                list.push(event::Field { key, slot });
            })
        });
        parsed.map_err(|error| format!("not an access-log line: {error}").into())
    }
}

#[inline(always)]
fn slot(place: &Place<'_>, text: &[u8], field: &Field, last: &mut LastTime) -> Slot {
    let value = field.value.of(text);
    match field.kind {
        Kind::Integer => Slot::Integer(integer(value)),
        Kind::Text if field.escaped => {
            let mut plain = Vec::new();
            clf::unescape(value, &mut plain);
            Slot::text(Bytes::from(plain))
        }
        Kind::Text => place.text_slot(field.value),
        Kind::Time => match last.seconds(value) {
            Some(seconds) => Slot::time(seconds * 1_000_000),
            None => place.text_slot(field.value),
        },
    }
}

/// The number that the digits are: at most [`clf::DIGITS_MAX`], so that 64 bits hold it.
fn integer(digits: &[u8]) -> i64 {
    let value = |sum, digit: &u8| sum * 10 + i64::from(digit - b'0');
    digits.iter().fold(0, value)
}
