//! How far one file has been delivered, and how far that was acknowledged. Not a component.
//!
//! Deliveries of a file fire in any order; what counts as acknowledged moves past a delivery
//! only when all before it have fired. One that failed because the daemon stops is never passed:
//! the next start reads it again. Outlives its source: a successor goes on where it delivered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::buffer::storage::Inode;

use super::position::{Position, Print, Remembered};

/// How many cuts of a file are remembered.
const FORMER_MAX: usize = 16;

/// The books of one file.
#[derive(Debug)]
pub struct Progress {
    inode: Cell<Inode>,
    /// Everything before it is acknowledged.
    acknowledged: Cell<Position>,
    /// Everything before it has been delivered.
    delivered: Cell<Position>,
    /// Where it had been delivered up to when the file was cut, the last time last: a copy of it
    /// from before is read from there on.
    former: RefCell<VecDeque<Position>>,
    sent: RefCell<VecDeque<Sent>>,
    /// The number of the first of `sent`.
    first: Cell<u64>,
    /// A delivery has failed that must be made again by the next start.
    is_frozen: Cell<bool>,
    /// When the file was there, in seconds since 1970.
    seen_seconds: Cell<u32>,
    /// A file of this source has it.
    pub is_claimed: Cell<bool>,
    /// The number of its slot in the checkpoint file.
    pub slot: usize,
    /// What is written is not what is so.
    pub is_dirty: Cell<bool>,
}

/// A stretch of the file on its way.
#[derive(Debug)]
struct Sent {
    /// Behind it.
    position: Position,
    /// Batches that have not fired.
    open: u32,
    is_failed: bool,
}

/// How a batch's delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Well, or for good: it is not to be read again.
    Settled,
    /// It is to be read again by the next start.
    Again,
}

impl Progress {
    /// The books of a file of which this is remembered.
    pub fn new(remembered: &Remembered, slot: usize) -> Progress {
        Progress {
            inode: Cell::new(remembered.inode),
            acknowledged: Cell::new(remembered.position),
            delivered: Cell::new(remembered.position),
            former: RefCell::default(),
            sent: RefCell::default(),
            first: Cell::new(0),
            is_frozen: Cell::new(false),
            seen_seconds: Cell::new(remembered.seen_seconds),
            is_claimed: Cell::new(false),
            slot,
            is_dirty: Cell::new(false),
        }
    }

    /// What is to be remembered.
    pub fn remembered(&self) -> Remembered {
        Remembered {
            inode: self.inode.get(),
            position: self.acknowledged.get(),
            seen_seconds: self.seen_seconds.get(),
        }
    }

    /// Which file it is.
    pub fn inode(&self) -> Inode {
        self.inode.get()
    }

    /// It is this file, which is there now.
    pub fn is_seen(&self, inode: Inode, seconds: u32) {
        self.inode.set(inode);
        self.seen_seconds.set(seconds);
    }

    /// Where a reader goes on.
    pub fn delivered(&self) -> Position {
        self.delivered.get()
    }

    /// The file has been cut.
    pub fn is_cut(&self) {
        let mut former = self.former.borrow_mut();
        former.push_back(self.delivered.get());
        if former.len() > FORMER_MAX {
            former.pop_front();
        }
    }

    /// A place up to which the content that begins like `head` was delivered, from this file.
    pub fn place_of(&self, head: Print) -> Option<Position> {
        let former = self.former.borrow();
        let former = former.iter().find(|place| place.head == head);
        former
            .copied()
            .or_else(|| Some(self.delivered.get()).filter(|place| place.head == head))
    }

    /// Whether something is on its way.
    pub fn is_open(&self) -> bool {
        !self.sent.borrow().is_empty() && !self.is_frozen.get()
    }

    /// A stretch up to `position` goes on its way in so many batches. The answer stands for it
    /// in [`Progress::fired`], once for each batch.
    pub fn send(&self, position: Position, batches: u32) -> u64 {
        self.delivered.set(position);
        let mut sent = self.sent.borrow_mut();
        sent.push_back(Sent {
            position,
            open: batches,
            is_failed: false,
        });
        self.first.get() + sent.len() as u64 - 1
    }

    /// There is nothing to deliver up to `position`. Says whether that is acknowledged now.
    pub fn skip_to(&self, position: Position) -> bool {
        self.send(position, 0);
        self.settle()
    }

    /// A batch of stretch `number` has fired. Says whether more is acknowledged now.
    pub fn fired(&self, number: u64, how: Fired) -> bool {
        let index = number.wrapping_sub(self.first.get()) as usize;
        let mut sent = self.sent.borrow_mut();
        let Some(stretch) = sent.get_mut(index) else {
            debug_assert!(false, "stretch {number} is not on its way");
            return false;
        };
        stretch.open = stretch.open.saturating_sub(1);
        stretch.is_failed |= how == Fired::Again;
        drop(sent);
        self.settle()
    }

    fn settle(&self) -> bool {
        let mut has_moved = false;
        let mut sent = self.sent.borrow_mut();
        while let Some(first) = sent.front() {
            if first.open > 0 || self.is_frozen.get() {
                break;
            }
            if first.is_failed {
                self.is_frozen.set(true);
                break;
            }
            self.acknowledged.set(first.position);
            has_moved = true;
            sent.pop_front();
            self.first.set(self.first.get() + 1);
        }
        has_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let remembered = Remembered {
            inode: Inode {
                device: 1,
                number: 2,
            },
            position: at(0),
            seen_seconds: 0,
        };
        Progress::new(&remembered, 0)
    }

    fn at(offset: u64) -> Position {
        Position {
            offset,
            ..Position::default()
        }
    }

    #[test]
    fn what_is_acknowledged_moves_in_order() {
        let books = progress();
        let (a, b) = (books.send(at(10), 2), books.send(at(20), 1));
        assert_eq!(
            (books.delivered(), books.remembered().position),
            (at(20), at(0))
        );
        assert!(!books.fired(b, Fired::Settled));
        assert!(!books.fired(a, Fired::Settled));
        assert!(!books.skip_to(at(25)), "it waits for those before it");
        assert!(books.fired(a, Fired::Settled));
        assert_eq!(books.remembered().position, at(25));
        assert!(!books.is_open());
        assert!(books.skip_to(at(30)));
        let c = books.send(at(40), 1);
        assert!(books.fired(c, Fired::Settled));
        assert_eq!(books.remembered().position, at(40));
    }

    #[test]
    fn what_must_come_again_is_never_passed() {
        let books = progress();
        let sent: Vec<u64> = (1..=4).map(|n| books.send(at(10 * n), 1)).collect();
        books.fired(sent[3], Fired::Settled);
        books.fired(sent[1], Fired::Again);
        books.fired(sent[2], Fired::Settled);
        assert!(books.is_open());
        assert!(books.fired(sent[0], Fired::Settled));
        assert_eq!(books.remembered().position, at(10));
        assert!(!books.is_open(), "nothing is waited for any more");
    }
}
