//! The place of one event's fields on the heap, used again for other events.
//!
//! An event takes two allocations, the place and its list. With thousands of events in a batch
//! they cost as much as parsing does, so those of events that have gone are kept, on the thread
//! where they went, and given to those that come: the last that went first, since it is warm.
//!
//! What is kept is bounded: [`SPARE_MAX`] places, none with a list of more than
//! [`SPARE_FIELDS_MAX`] fields. No field is kept, nor anything that a field holds.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::{Field, Fields, Span};

/// Places that a thread keeps: as many events as are on their way through a pipeline at once.
const SPARE_MAX: usize = 4096;

/// The longest list that is kept, in fields.
const SPARE_FIELDS_MAX: usize = 32;

thread_local! {
    #[allow(clippy::vec_box)] // the boxes are what is used again
    static SPARE: RefCell<Vec<Box<Fields>>> = const { RefCell::new(Vec::new()) };
}

/// The fields of an event.
#[derive(Clone, Debug)]
pub struct Fielded {
    /// `None` only while it is being dropped.
    place: Option<Box<Fields>>,
}

impl Fielded {
    /// No fields yet, with room for some where an event before left it.
    pub fn empty(raw: Span, parsed: bool) -> Fielded {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        match spare.ok().flatten() {
            Some(mut place) => {
                place.raw = raw;
                place.parsed = parsed;
                Fielded { place: Some(place) }
            }
            None => Fielded::from(Fields {
                raw,
                list: Vec::new(),
                parsed,
            }),
        }
    }
}

impl From<Fields> for Fielded {
    fn from(fields: Fields) -> Fielded {
        Fielded {
            place: Some(Box::new(fields)),
        }
    }
}

impl Deref for Fielded {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        self.place.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for Fielded {
    fn deref_mut(&mut self) -> &mut Fields {
        self.place.as_mut().expect("it is there until the drop")
    }
}

impl Drop for Fielded {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else {
            return;
        };
        clear(&mut place.list);
        if !(1..=SPARE_FIELDS_MAX).contains(&place.list.capacity()) {
            return;
        }
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(place);
            }
        });
    }
}

/// Drops the fields. Nearly all own nothing, and to see that takes less than the drop of one that
/// may own something.
fn clear(list: &mut Vec<Field>) {
    if !list.iter().all(Field::owns_nothing) {
        list.retain(Field::owns_nothing);
    }
    while let Some(field) = list.pop() {
        let _nothing = ManuallyDrop::new(field);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use vrl::value::Value;

    use super::*;
    use crate::event::{Constant, Key, Slot, name};

    fn fielded(count: usize) -> Fielded {
        let mut fielded = Fielded::empty(Span::new(0, 1), true);
        fielded.list.extend((0..count).map(|_| Field {
            key: Key::Static(name!("a")),
            slot: Slot::Integer(1),
        }));
        fielded
    }

    fn spare() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_place_is_used_again_and_nothing_of_what_was_in_it() {
        let first = fielded(10);
        let (at, room) = (first.list.as_ptr(), first.list.capacity());
        drop(first);
        let second = Fielded::empty(Span::new(3, 4), false);
        assert_eq!((second.list.as_ptr(), second.list.capacity()), (at, room));
        assert!(second.list.is_empty() && !second.parsed);
        assert_eq!(second.raw, Span::new(3, 4));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        drop(fielded(SPARE_FIELDS_MAX + 1));
        drop(fielded(0));
        assert_eq!(spare(), 0, "too long a list, and none");
        let many: Vec<_> = (0..SPARE_MAX + 10).map(|_| fielded(1)).collect();
        drop(many);
        assert_eq!(spare(), SPARE_MAX);
    }

    #[test]
    fn what_a_field_holds_goes_with_its_event() {
        let (name, constant) = (Arc::new("name".to_owned()), Constant::new(Value::Null));
        let (constant, bytes) = (Arc::new(constant), Bytes::from(vec![1, 2, 3]));
        let mut fielded = fielded(1);
        for slot in [
            Slot::Integer(1),
            Slot::Constant(constant.clone()),
            Slot::text(bytes.clone()),
        ] {
            let key = Key::Static(name!("a"));
            fielded.list.push(Field { key, slot });
        }
        fielded.list[0].key = Key::Shared(name.clone());
        drop(fielded);
        assert_eq!(
            (Arc::strong_count(&name), Arc::strong_count(&constant)),
            (1, 1)
        );
        assert!(bytes.is_unique());
    }
}
