//! The memory that bodies take while they come: a budget of their own, and the daemon's.
//!
//! A [`Budget`] bounds the bodies that are under way at one time; nobody waits for it, since
//! those who hold it may be slow. The [`Room`] is what everything in the daemon shares: bodies
//! count in it from their first byte until the last holder of the content drops it, and reading
//! pauses while it is full. Whoever pauses holds some of it himself, so a pause has an end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::body::BodyError;
use crate::time::Duration;
use crate::transport::Meter;

/// The memory budget that everything shares. Bytes are counted as allocated.
pub trait Room: Meter {
    /// Whether nothing more should be read.
    fn is_full(&self) -> bool;
}

/// Memory that bodies under way share, in bytes.
pub struct Budget {
    bytes_max: usize,
    used_bytes: Cell<usize>,
    room: Option<Arc<dyn Room>>,
    patience: Duration,
}

impl Budget {
    /// A budget of so many bytes, that counts nowhere else.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Budget {
            bytes_max,
            used_bytes: Cell::new(0),
            room: None,
            patience: Duration::ZERO,
        })
    }

    /// A budget of so many bytes, that also count in `room`. While that is full reading pauses,
    /// for `patience` at most; then the body is refused.
    pub fn within(bytes_max: usize, room: Arc<dyn Room>, patience: Duration) -> Rc<Self> {
        Rc::new(Budget {
            bytes_max,
            used_bytes: Cell::new(0),
            room: Some(room),
            patience,
        })
    }

    /// Bytes that bodies hold now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    /// Whether to stop reading.
    pub(super) fn is_room_full(&self) -> bool {
        self.room.as_ref().is_some_and(|room| room.is_full())
    }

    /// How long a body waits for room.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }
}

/// One body's share of the budget, given back when dropped.
pub(super) struct Share {
    budget: Rc<Budget>,
    bytes: usize,
    held: Held,
}

impl Share {
    pub(super) fn new(budget: &Rc<Budget>) -> Self {
        Share {
            budget: Rc::clone(budget),
            bytes: 0,
            held: Held {
                room: budget.room.clone(),
                bytes: 0,
            },
        }
    }

    /// The body has `bytes` now, in a buffer of `allocated_bytes`.
    pub(super) fn grow_to(
        &mut self,
        bytes: usize,
        allocated_bytes: usize,
    ) -> Result<(), BodyError> {
        self.held.set(allocated_bytes);
        let used = self.budget.used_bytes.get() - self.bytes + bytes;
        if used > self.budget.bytes_max {
            return Err(BodyError::TooMany);
        }
        self.budget.used_bytes.set(used);
        self.bytes = bytes;
        Ok(())
    }

    /// The whole content, which is under way no more; it counts as held until its last slice is
    /// dropped.
    pub(super) fn settle(mut self, content: Vec<u8>) -> Bytes {
        let content = content.into_boxed_slice();
        let mut held = std::mem::take(&mut self.held);
        held.set(content.len());
        Bytes::from_owner(Content {
            bytes: content,
            _held: held,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let used = self.budget.used_bytes.get();
        self.budget.used_bytes.set(used - self.bytes);
    }
}

/// Bytes that are counted as held, until it is dropped.
#[derive(Default)]
struct Held {
    room: Option<Arc<dyn Room>>,
    bytes: usize,
}

impl Held {
    fn set(&mut self, bytes: usize) {
        let Some(room) = &self.room else { return };
        match bytes.checked_sub(self.bytes) {
            Some(more) => room.grow(more),
            None => room.shrink(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What a body's [`Bytes`] live in.
struct Content {
    bytes: Box<[u8]>,
    _held: Held,
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
