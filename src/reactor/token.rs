//! Tokens and the slab they index: how the reactor names what it holds.
//!
//! A [`Token`] is an index and a generation. The generation of a slot changes whenever its
//! content is removed, so a token that outlived its source, timer or task finds nothing instead
//! of finding the next tenant. That is what makes an event of a closed descriptor harmless after
//! its number has been given to another one. A generation repeats after 2^32 removals from one
//! slot, far longer than any token is kept.

use std::fmt;

/// The name of something the reactor holds; worthless once that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The name of nothing: a slab does not grow to that index.
    pub(crate) const NONE: Token = Token::from_bits(u64::MAX);

    /// The token as one number, for a poller that can only carry a number.
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The token that [`to_bits`](Self::to_bits) made `bits` of.
    pub const fn from_bits(bits: u64) -> Self {
        Token {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A vector with holes: O(1) insert, look-up and removal, and keys that go stale.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The head of the list of free slots.
    free: Option<u32>,
    len: usize,
}

struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

enum Content<T> {
    Used(T),
    Free { next: Option<u32> },
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Slab {
            slots: Vec::new(),
            free: None,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> Token {
        self.len += 1;
        let Some(index) = self.free else {
            return self.push(value);
        };
        let slot = &mut self.slots[index as usize];
        if let Content::Free { next } = slot.content {
            self.free = next;
        }
        slot.content = Content::Used(value);
        Token {
            index,
            generation: slot.generation,
        }
    }

    fn push(&mut self, value: T) -> Token {
        let index = u32::try_from(self.slots.len()).expect("memory ends before 2^32 slots do");
        self.slots.push(Slot {
            generation: 0,
            content: Content::Used(value),
        });
        Token {
            index,
            generation: 0,
        }
    }

    /// Empties the slot; every token of it is stale from here on.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation != token.generation || matches!(slot.content, Content::Free { .. }) {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        let freed = Content::Free { next: self.free };
        let Content::Used(value) = std::mem::replace(&mut slot.content, freed) else {
            return None;
        };
        self.free = Some(token.index);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        match self.slots.get(token.index as usize)? {
            Slot {
                generation,
                content: Content::Used(value),
            } if *generation == token.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slots.get_mut(token.index as usize)? {
            Slot {
                generation,
                content: Content::Used(value),
            } if *generation == token.generation => Some(value),
            _ => None,
        }
    }

    /// All that is there, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let Content::Used(value) = &slot.content else {
                return None;
            };
            let token = Token {
                index: index as u32,
                generation: slot.generation,
            };
            Some((token, value))
        })
    }

    /// Removes everything; all tokens go stale.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let tokens: Vec<Token> = self.iter().map(|(token, _)| token).collect();
        tokens
            .into_iter()
            .filter_map(|token| self.remove(token))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_stale_once_its_slot_was_emptied() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first.index, second.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn freed_slots_are_used_again_before_the_slab_grows() {
        let mut slab = Slab::new();
        let tokens: Vec<Token> = (0..100).map(|n| slab.insert(n)).collect();
        for token in &tokens {
            slab.remove(*token);
        }
        for n in 0..100 {
            slab.insert(n);
        }
        assert_eq!(slab.slots.len(), 100);
        assert_eq!(slab.iter().count(), 100);
    }

    #[test]
    fn bits_and_back() {
        let token = Token {
            index: 7,
            generation: u32::MAX,
        };
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }
}
