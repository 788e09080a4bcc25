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
    fields: Vec<Field>,
    /// One bit per name that is in the list, by a cheap hash.
    set: [u64; 4],
    /// The names' places, once there are many.
    index: HashMap<Box<[u8]>, usize>,
}

impl<'a> List<'a> {
    /// An empty list; keys may be spans of `bytes`.
    pub fn new(bytes: &'a [u8]) -> List<'a> {
        List {
            bytes,
            fields: Vec::new(),
            set: [0; 4],
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
        let (word, bit) = place_of(key.of(self.bytes));
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

    /// Adds many fields at once: the usual case, no name twice, is one pass that writes and one
    /// that looks.
    pub fn extend(&mut self, fields: impl ExactSizeIterator<Item = Field>) {
        if !self.fields.is_empty() {
            return fields.for_each(|field| self.push(field.key, field.slot));
        }
        self.reserve(fields.len());
        self.fields.extend(fields);
        if self.fields.len() > SEARCHED_MAX {
            return self.push_again();
        }
        let mut set = [0u64; 4];
        let repeats = self.fields.iter().enumerate().any(|(index, field)| {
            let name = field.key.of(self.bytes);
            let (word, bit) = place_of(name);
            let perhaps = set[word] & bit != 0;
            set[word] |= bit;
            let mut before = self.fields[..index].iter();
            perhaps && before.any(|other| other.key.of(self.bytes) == name)
        });
        if repeats {
            self.push_again();
        } else {
            self.set = set;
        }
    }

    /// Makes `fields`, of which no name occurs twice, all there is.
    pub fn replace(&mut self, fields: Vec<Field>) {
        debug_assert!(
            self.fields.is_empty(),
            "names that were there are in the set"
        );
        self.fields = fields;
    }

    /// The fields once more, one by one: some of them may be there twice.
    fn push_again(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        self.reserve(fields.len());
        let each = fields.into_iter();
        each.for_each(|field| self.push(field.key, field.slot));
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

/// The word of the set and the bit in it that stand for `name`: its length, and its first and
/// last four bytes (both the same where it has less than eight) or its last one.
#[inline]
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
    fn many_at_once_are_what_one_by_one_gives() {
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
            let fields = fields(bytes, names, again);
            let mut single = List::new(bytes);
            fields
                .iter()
                .cloned()
                .for_each(|f| single.push(f.key, f.slot));
            let mut many = List::new(bytes);
            many.extend(fields.into_iter());
            let many = many.into_fields();
            assert_eq!(many.len(), names, "{names} names, {again} again");
            let last = many.first().map(|field| format!("{:?}", field.slot));
            let expected = if again > 0 { names } else { 0 };
            assert_eq!(last, (names > 0).then(|| format!("Integer({expected})")));
            assert_eq!(format!("{many:?}"), format!("{:?}", single.into_fields()));
        }
    }
}
