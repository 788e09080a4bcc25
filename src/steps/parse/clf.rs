//! `parse = "clf"`: access logs in the common and the combined format.
//!
//! Status and size become numbers, the time a time in UTC; what the server escaped is unescaped.
//! Fields that are `-` in the line are absent.

use bytes::Bytes;

use super::place::Place;
use super::{List, Parser, Reason};
use crate::event::{Key, Slot};
use crate::protocol::clf::{self, Field, Kind};

/// The parser.
#[derive(Debug, Default)]
pub(super) struct Clf {
    fields: Vec<Field>,
}

impl Parser for Clf {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        let text = place.bytes();
        clf::parse(text, &mut self.fields)
            .map_err(|error| format!("not an access-log line: {error}"))?;
        found.reserve(self.fields.len());
        for field in &self.fields {
            let value = field.value.of(text);
            let slot = match field.kind {
                Kind::Integer => integer(value),
                Kind::Text if field.name == "timestamp" => {
                    clf::unix_seconds(value).map(|seconds| Slot::time(seconds * 1_000_000))
                }
                Kind::Text if field.escaped => {
                    let mut plain = Vec::new();
                    clf::unescape(value, &mut plain);
                    Some(Slot::text(Bytes::from(plain)))
                }
                Kind::Text => None,
            };
            let slot = slot.unwrap_or_else(|| place.text_slot(field.value));
            found.push(Key::Static(field.name), slot);
        }
        Ok(())
    }
}

/// The number, where 64 bits hold it.
fn integer(digits: &[u8]) -> Option<Slot> {
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .map(Slot::Integer)
}
