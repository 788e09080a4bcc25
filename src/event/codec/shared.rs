//! What many events of a payload have in common is written once: names of fields and constants.
//!
//! ```text
//! shared   0, then the thing itself, which gets the next number from 1 on while that is at
//!          most 64 | the number of one that came before
//! ```
//! Names and constants are numbered apart. Finding a number is a search from where the last one
//! was found: events that look alike ask for the same things in the same order.

use std::sync::Arc;

use super::wire::{DecodeError, Reader, put_varint};
use crate::event::{Constant, codec::values};

/// How many names and how many constants of a payload have a number.
const NUMBERED_MAX: usize = 64;

/// The numbers given while writing.
pub(super) struct Numbers<T> {
    list: Vec<T>,
    /// Where the next search begins.
    from: usize,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers {
            list: Vec::new(),
            from: 0,
        }
    }
}

impl<T: PartialEq + Copy> Numbers<T> {
    /// Writes a thing by its number, or in full by `write`.
    pub(super) fn put(&mut self, thing: T, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
        if let Some(index) = self.find(thing) {
            return put_varint(index as u64 + 1, out);
        }
        out.push(0);
        write(thing, out);
        if self.list.len() < NUMBERED_MAX {
            self.list.push(thing);
            self.from = self.list.len();
        }
    }

    fn find(&mut self, thing: T) -> Option<usize> {
        let (before, after) = self.list.split_at(self.from);
        let index = match after.iter().position(|known| *known == thing) {
            Some(index) => self.from + index,
            None => before.iter().position(|known| *known == thing)?,
        };
        self.from = index + 1;
        Some(index)
    }
}

/// A word of marline's or a constant of the configuration: both are constants when read back.
#[derive(Clone, Copy)]
pub(super) enum OneConstant<'a> {
    Word(&'static str),
    Constant(&'a Arc<Constant>),
}

impl OneConstant<'_> {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            OneConstant::Word(word) => values::put_word(word, out),
            OneConstant::Constant(constant) => values::put(&constant.value, out),
        }
    }
}

impl PartialEq for OneConstant<'_> {
    /// Constants are told apart by their place, so that none has to be looked into.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (OneConstant::Word(one), OneConstant::Word(two)) => one == two,
            (OneConstant::Constant(one), OneConstant::Constant(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// What has a number, while reading.
pub(super) struct Table<T>(Vec<T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T: Clone> Table<T> {
    /// The thing whose number stands here; `None` where the thing itself follows.
    pub(super) fn known(&self, reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
        let number = reader.varint()?;
        let Some(index) = number.checked_sub(1) else {
            return Ok(None);
        };
        let known = usize::try_from(index).ok().and_then(|i| self.0.get(i));
        match known {
            Some(known) => Ok(Some(known.clone())),
            None => Err(reader.damage("a number that nothing has")),
        }
    }

    /// Numbers a thing while there are numbers.
    pub(super) fn add(&mut self, thing: T) -> T {
        if self.0.len() < NUMBERED_MAX {
            self.0.push(thing.clone());
        }
        thing
    }
}
