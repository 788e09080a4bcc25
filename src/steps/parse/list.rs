//! Fields as they are found in a text: of equal names the last one counts.
//!
//! Nearly no text repeats a name, so the usual case is one test of a 64-bit set per field. Only
//! where that says "perhaps" the list is searched, and from [`SEARCHED_MAX`] fields on a hash
//! table is, so that a peer's thousands of fields do not cost their square.

use std::collections::HashMap;

use crate::event::{Field, Key, Slot};

/// Fields up to which the list is searched.
const SEARCHED_MAX: usize = 64;

/// Fields for which there is room beyond those found.
const SPARE: usize = 2;

/// A list of fields in the making.
#[derive(Debug)]
pub(in crate::steps) struct List<'a> {
    bytes: &'a [u8],
    fields: Vec<Field>,
    /// One bit per name that is in the list, by a cheap hash.
    set: u64,
    /// The names' places, once there are many.
    index: HashMap<Box<[u8]>, usize>,
}

impl<'a> List<'a> {
    /// An empty list; keys may be spans of `bytes`.
    pub fn new(bytes: &'a [u8]) -> List<'a> {
        List {
            bytes,
            fields: Vec::new(),
            set: 0,
            index: HashMap::new(),
        }
    }

    /// Makes room for so many fields, and for a few that later steps set: growing a list costs
    /// as much as parsing it.
    pub fn reserve(&mut self, fields: usize) {
        self.fields.reserve_exact(fields + SPARE);
    }

    /// Adds a field, or gives the one of that name a new value.
    #[inline]
    pub fn push(&mut self, key: Key, slot: Slot) {
        let bit = bit_of(key.of(self.bytes));
        let perhaps = self.set & bit != 0;
        self.set |= bit;
        if perhaps && let Some(at) = self.position(&key) {
            self.fields[at].slot = slot;
            return;
        }
        self.fields.push(Field { key, slot });
        if self.fields.len() > SEARCHED_MAX {
            self.index_new();
        }
    }

    /// The fields.
    pub fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    fn position(&self, key: &Key) -> Option<usize> {
        let name = key.of(self.bytes);
        if !self.index.is_empty() {
            return self.index.get(name).copied();
        }
        self.fields
            .iter()
            .position(|field| field.key.of(self.bytes) == name)
    }

    /// Brings the names into the table that are not in it yet.
    fn index_new(&mut self) {
        for at in self.index.len()..self.fields.len() {
            let name = self.fields[at].key.of(self.bytes);
            self.index.insert(name.into(), at);
        }
    }
}

#[inline]
fn bit_of(name: &[u8]) -> u64 {
    let first = name.first().copied().unwrap_or(0) as usize;
    let last = name.last().copied().unwrap_or(0) as usize;
    let middle = name.get(name.len() / 2).copied().unwrap_or(0) as usize;
    1 << ((first * 7 + middle * 13 + last * 31 + name.len()) % 64)
}
