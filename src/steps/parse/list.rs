//! Fields as they are found in a text: of equal names the last one counts.
//!
//! Nearly no text repeats a name, so the usual case is one test of a 256-bit set per field. Only
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
    fields: &'a mut Vec<Field>,
    /// One bit per name that is in the list, by a cheap hash.
    set: [u64; 4],
    /// The names' places, once there are many.
    index: Option<HashMap<Box<[u8]>, usize>>,
}

impl<'a> List<'a> {
    /// A list that is made in `fields`, which is empty; keys may be spans of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8], fields: &'a mut Vec<Field>) -> List<'a> {
        debug_assert!(fields.is_empty(), "names that were there are in no set");
        List {
            bytes,
            fields,
            set: [0; 4],
            index: None,
        }
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Makes room for so many fields, and for a few that later steps set: growing a list costs
    /// as much as parsing it.
    pub fn reserve(&mut self, fields: usize) {
        self.fields.reserve_exact(fields + SPARE);
    }

    /// Adds a field, or gives the one of that name a new value.
    #[inline]
    pub fn push(&mut self, key: Key, slot: Slot) {
        let name_at = place_of(key.of(self.bytes));
        self.push_at(name_at, key, slot);
    }

    /// As [`push`](Self::push), for a name that is at hand.
    #[inline(always)]
    pub fn push_named(&mut self, name: &[u8], key: Key, slot: Slot) {
        self.push_at(place_of(name), key, slot);
    }

    #[inline(always)]
    fn push_at(&mut self, (word, bit): (usize, u64), key: Key, slot: Slot) {
        let perhaps = self.set[word] & bit != 0;
        self.set[word] |= bit;
        if perhaps && let Some(at) = self.position(&key) {
            self.fields[at].slot = slot;
            return;
        }
        self.fields.push(Field { key, slot });
        if self.fields.len() > SEARCHED_MAX {
            self.index_new();
        }
    }

    /// Lets `fill` add fields, of which no name occurs twice; nothing else may add any.
    pub fn fill<T>(&mut self, fill: impl FnOnce(&mut Vec<Field>) -> T) -> T {
        debug_assert!(
            self.fields.is_empty(),
            "names that were there are in the set"
        );
        fill(self.fields)
    }

    #[cold]
    fn position(&self, key: &Key) -> Option<usize> {
        let name = key.of(self.bytes);
        if let Some(index) = &self.index {
            return index.get(name).copied();
        }
        self.fields
            .iter()
            .position(|field| field.key.of(self.bytes) == name)
    }

    /// Brings the names into the table that are not in it yet.
    #[cold]
    fn index_new(&mut self) {
        let index = self.index.get_or_insert_default();
        for at in index.len()..self.fields.len() {
            let name = self.fields[at].key.of(self.bytes);
            index.insert(name.into(), at);
        }
    }
}

/// The word of the set and the bit in it that stand for `name`: its length, and its first and
/// last four bytes (both the same where it has less than eight) or its last one.
#[inline(always)]
fn place_of(name: &[u8]) -> (usize, u64) {
    let ends = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => u32::from_le_bytes(*first) ^ u32::from_le_bytes(*last) << 7,
        _ => u32::from(name.last().copied().unwrap_or(0)),
    };
    let mixed = (ends ^ name.len() as u32).wrapping_mul(FIBONACCI);
    let hash = mixed >> 24;
    ((hash / 64) as usize, 1 << (hash % 64))
}

/// 2^32 divided by the golden ratio: multiplying by it spreads any bits over the highest ones.
const FIBONACCI: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;

    /// Fields of so many names, the first `again` of them once more, each with its number.
    fn fields(bytes: &[u8], names: usize, again: usize) -> Vec<Field> {
        let name = |index: usize| Key::Span(Span::new(index * 4, index * 4 + 4));
        assert!(bytes.len() >= names * 4);
        let numbered = (0..names).chain(0..again).enumerate();
        numbered
            .map(|(number, index)| Field {
                key: name(index),
                slot: Slot::Integer(number as i64),
            })
            .collect()
    }

    #[test]
    fn of_equal_names_the_last_one_counts_in_the_place_of_the_first() {
        let text: String = (0..200).map(|index| format!("k{index:03}")).collect();
        let bytes = text.as_bytes();
        for (names, again) in [
            (0, 0),
            (1, 1),
            (10, 0),
            (10, 3),
            (64, 0),
            (65, 1),
            (200, 200),
        ] {
            let mut list = Vec::new();
            let mut found = List::new(bytes, &mut list);
            for field in fields(bytes, names, again) {
                found.push(field.key, field.slot);
            }
            let numbers = list.iter().map(|field| match field.slot {
                Slot::Integer(number) => number as usize,
                _ => panic!("{field:?}"),
            });
            // The field of a name that came again has the number of its second coming.
            let expected = (names..names + again).chain(again..names);
            assert!(numbers.eq(expected), "{names} names, {again} again");
        }
    }
}
