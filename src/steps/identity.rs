//! What makes two events the same to a step that remembers: 128 bits of the named fields.
//!
//! Keyed with numbers drawn at start, so that no peer can construct two events that collide,
//! nor flood one bucket of a table. Absent and empty fields differ.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::event::{Event, Shared};
use crate::pipeline::options::Mistake;
use crate::pipeline::template::Template;

/// Computes identities.
pub(super) struct Identity {
    fields: Vec<Template>,
    keys: [RandomState; 2],
    text: Vec<u8>,
}

impl Identity {
    /// By these fields or metadata.
    ///
    /// # Errors
    /// One is no path; the mistake's option is its index.
    pub(super) fn of(fields: &[&str]) -> Result<Identity, Mistake> {
        let compile = |(index, text): (usize, &&str)| {
            Template::of_field(text).map_err(|mistake| mistake.of(index.to_string()))
        };
        Ok(Identity {
            fields: fields
                .iter()
                .enumerate()
                .map(compile)
                .collect::<Result<_, _>>()?,
            keys: [RandomState::new(), RandomState::new()],
            text: Vec::new(),
        })
    }

    /// The identity of `event`.
    pub(super) fn identify(&mut self, shared: Shared<'_>, event: &Event) -> u128 {
        let mut hashers = self.keys.each_ref().map(BuildHasher::build_hasher);
        for field in &self.fields {
            self.text.clear();
            let present = field.render(shared, event, &mut self.text);
            for hasher in &mut hashers {
                hasher.write_u8(u8::from(present));
                hasher.write_usize(self.text.len());
                hasher.write(&self.text);
            }
        }
        let [high, low] = hashers.map(|hasher| u128::from(hasher.finish()));
        high << 64 | low
    }
}

/// A check of one field's name.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    Template::of_field(text).map(drop)
}
