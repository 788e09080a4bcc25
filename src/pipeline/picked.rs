//! Of a batch, the events that one sink gets: all of them, or a selection by index.
//!
//! Cheap to clone: clones share the batch. Dividing makes selections, never copies; only
//! `copied` makes a batch anew, for another reactor.

use std::rc::Rc;

use crate::event::{Batch, Event, Span};

/// Of a batch, the events that one sink gets.
#[derive(Clone)]
pub struct Picked {
    pub(super) batch: Rc<Batch>,
    pub(super) selection: Option<Box<[u32]>>,
}

impl Picked {
    /// Those at `selection`, or all.
    pub fn new(batch: Rc<Batch>, selection: Option<Box<[u32]>>) -> Picked {
        Picked { batch, selection }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.selection
            .as_ref()
            .map_or(self.batch.events.len(), |picked| picked.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> + Clone {
        let all = if self.selection.is_some() {
            &[][..]
        } else {
            &self.batch.events[..]
        };
        let picked = self.selection.as_deref().unwrap_or(&[]);
        let at = |index: &u32| &self.batch.events[*index as usize];
        all.iter().chain(picked.iter().map(at))
    }

    /// Where they are, when they are nothing but lines side by side: from the first byte of the
    /// first to behind the newline of the last.
    pub fn lines(&self) -> Option<Span> {
        let all = self.selection.is_none();
        all.then(|| self.batch.events.lines()).flatten()
    }

    /// What all of them are part of.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Those from the `from`th to before the `to`th.
    pub(super) fn range(&self, from: usize, to: usize) -> Picked {
        let selection = match &self.selection {
            Some(picked) => picked[from..to].into(),
            None => (from as u32..to as u32).collect(),
        };
        Picked::new(Rc::clone(&self.batch), Some(selection))
    }

    /// Without the first `skip`: those at `positions`, which rise, and the others.
    pub(super) fn divide(&self, skip: usize, positions: &[u32]) -> (Picked, Picked) {
        let (mut taken, mut rest) = (Vec::new(), Vec::new());
        for (position, index) in self.range(skip, self.len()).indices().enumerate() {
            match positions.binary_search(&(position as u32)) {
                Ok(_) => taken.push(index),
                Err(_) => rest.push(index),
            }
        }
        let of = |indices: Vec<u32>| Picked::new(Rc::clone(&self.batch), Some(indices.into()));
        (of(taken), of(rest))
    }

    /// A batch of them alone, without the first `skip`.
    pub(super) fn copied(&self, skip: usize) -> Batch {
        let mut batch = self.batch.without_events();
        batch.events = self.events().skip(skip).cloned().collect();
        batch
    }

    fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        let all = if self.selection.is_some() {
            0
        } else {
            self.batch.events.len() as u32
        };
        let picked = self.selection.as_deref().unwrap_or(&[]);
        (0..all).chain(picked.iter().copied())
    }
}
