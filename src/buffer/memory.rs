//! The memory queue: parts in the order in which they came, within the sink's `buffer.memory`.
//!
//! Room is given back when nobody needs the bytes of a part any more, not when it is taken out,
//! so that the buffer's size bounds what a sink holds altogether. A part that counted in another
//! buffer of the port, before that was exchanged for this one, gives back no room here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::pipeline::part::Part;
use crate::pipeline::port::Port;
use crate::pipeline::queue::{EVICTED, Queue, Released};

/// A queue that the end of the process empties.
pub struct MemoryQueue {
    /// Its number among those of its port.
    number: Cell<u64>,
    capacity_bytes: Cell<usize>,
    held_bytes: Cell<usize>,
    parts: RefCell<VecDeque<Part>>,
}

impl MemoryQueue {
    /// A queue that holds `capacity_bytes`, the parts that the sink has included.
    pub fn new(capacity_bytes: usize) -> MemoryQueue {
        MemoryQueue {
            number: Cell::new(0),
            capacity_bytes: Cell::new(capacity_bytes),
            held_bytes: Cell::new(0),
            parts: RefCell::default(),
        }
    }

    fn count(&self, part: &mut Part) {
        if part.count_in(self.number.get()) {
            self.held_bytes.set(self.held_bytes.get() + part.bytes());
        }
    }
}

impl Queue for MemoryQueue {
    fn attach(&self, port: &Rc<Port>) {
        self.number.set(port.number_memory());
    }

    fn fits(&self, bytes: usize) -> bool {
        let held = self.held_bytes.get();
        held == 0 || held.saturating_add(bytes) <= self.capacity_bytes.get()
    }

    fn push(&self, mut part: Part) {
        self.count(&mut part);
        self.parts.borrow_mut().push_back(part);
    }

    fn pop(&self) -> Option<Part> {
        self.parts.borrow_mut().pop_front()
    }

    fn take_back(&self, mut part: Part) {
        self.count(&mut part);
        self.parts.borrow_mut().push_front(part);
    }

    fn release(&self, released: Released) {
        if released.memory != Some(self.number.get()) {
            return;
        }
        let held = self.held_bytes.get();
        debug_assert!(held >= released.bytes, "more was released than was held");
        self.held_bytes.set(held.saturating_sub(released.bytes));
    }

    fn make_room(&self, bytes: usize) -> bool {
        while !self.fits(bytes) {
            let oldest = self.parts.borrow_mut().pop_front();
            let Some(part) = oldest else { return false };
            part.evicted(EVICTED);
        }
        true
    }

    fn resize(&self, memory_bytes: usize, _: Option<u64>) {
        self.capacity_bytes.set(memory_bytes);
    }

    fn is_empty(&self) -> bool {
        self.held_bytes.get() == 0 && self.parts.borrow().is_empty()
    }

    fn held_bytes(&self) -> u64 {
        self.held_bytes.get() as u64
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes.get() as u64
    }

    fn volatile_events(&self, port: &Port) -> u64 {
        if port.empties_former() {
            // What the books have beside these is on the disk.
            return self.parts.borrow().iter().map(Part::len).sum();
        }
        port.ledger().buffered.get() + port.ledger().in_flight.get()
    }

    fn abandon(&self, _: &Rc<Port>, reason: &'static str) {
        loop {
            let next = self.parts.borrow_mut().pop_front();
            let Some(part) = next else { return };
            part.evicted(reason);
        }
    }
}
