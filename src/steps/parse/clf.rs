//! `parse = "clf"`: access logs in the common and the combined format.
//!
//! Status and size become numbers, the time a time in UTC; what the server escaped is unescaped.
//! Fields that are `-` in the line are absent.

use bytes::Bytes;

use super::place::{Place, add, add_integer};
use super::{List, Parser, Reason};
use crate::event::{self, Slot};
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
    text: Option<[u8; clf::TIME_BYTES]>,
    seconds: i64,
}

impl LastTime {
    fn seconds(&mut self, text: &[u8]) -> Option<i64> {
        let text: &[u8; clf::TIME_BYTES] = text.try_into().ok()?;
        if self.text.as_ref() != Some(text) {
            self.seconds = clf::unix_seconds(text)?;
            self.text = Some(*text);
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
            let last = &mut self.last;
            clf::parse_each(
                text,
                &mut Adding {
                    place,
                    text,
                    last,
                    list,
                },
            )
        });
        parsed.map_err(|error| format!("not an access-log line: {error}").into())
    }
}

/// Adds the fields of a line to a list.
struct Adding<'a> {
    place: &'a Place<'a>,
    /// What is at `place`.
    text: &'a [u8],
    last: &'a mut LastTime,
    list: &'a mut Vec<event::Field>,
}

impl clf::Found for Adding<'_> {
    #[inline(always)]
    fn found(&mut self, field: Field) {
        let value = field.value.of(self.text);
        let name = &NAMES[field.name as usize];
        match field.kind {
            Kind::Integer => add_integer(self.list, name, integer(value)),
            Kind::Text if field.escaped => add(self.list, name, unescaped(value)),
            Kind::Text => self.place.add_text(self.list, name, field.value),
            Kind::Time => match self.last.seconds(value) {
                Some(seconds) => add(self.list, name, Slot::time(seconds * 1_000_000)),
                None => self.place.add_text(self.list, name, field.value),
            },
        }
    }
}

/// The text that an escaped value stands for. Not inlined, for it is rare.
#[inline(never)]
fn unescaped(value: &[u8]) -> Slot {
    let mut plain = Vec::new();
    clf::unescape(value, &mut plain);
    Slot::text(Bytes::from(plain))
}

/// The number that the digits are: at most [`clf::DIGITS_MAX`], so that 64 bits hold it.
fn integer(digits: &[u8]) -> i64 {
    let value = |sum, digit: &u8| sum * 10 + i64::from(digit - b'0');
    digits.iter().fold(0, value)
}
