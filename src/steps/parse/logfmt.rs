//! `parse = "logfmt"`: `key=value` pairs.
//!
//! Values are texts, as logfmt knows no types; a key alone is `true`.

use bytes::Bytes;
use vrl::value::Value;

use super::place::Place;
use super::{List, Parser, Reason};
use crate::event::Slot;
use crate::protocol::json::unescape;
use crate::protocol::logfmt::{self, Form, Pair};

/// The parser.
#[derive(Debug, Default)]
pub(super) struct Logfmt {
    pairs: Vec<Pair>,
}

impl Parser for Logfmt {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        let text = place.bytes();
        logfmt::parse(text, &mut self.pairs).map_err(|error| format!("not logfmt: {error}"))?;
        found.reserve(self.pairs.len());
        for pair in &self.pairs {
            let slot = match pair.form {
                Form::Flag => Slot::Value(Box::new(Value::Boolean(true))),
                _ if pair.escaped => {
                    let mut value = Vec::new();
                    unescape(pair.value.of(text), &mut value);
                    Slot::text(Bytes::from(value))
                }
                _ => place.text_slot(pair.value),
            };
            found.push(place.key(pair.key, false), slot);
        }
        Ok(())
    }
}
