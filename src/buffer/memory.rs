//! The memory queue: parts in the order in which they came, nothing more.
//!
//! It keeps no count of bytes of its own; the port that owns it reserves room first, so the
//! queue is bounded by the sink's `buffer.memory`.

use std::collections::VecDeque;

use crate::pipeline::part::Part;
use crate::pipeline::port::Queue;

/// A queue that a crash empties.
#[derive(Default)]
pub struct MemoryQueue(VecDeque<Part>);

impl Queue for MemoryQueue {
    fn push(&mut self, part: Part) {
        self.0.push_back(part);
    }

    fn pop(&mut self) -> Option<Part> {
        self.0.pop_front()
    }
}
