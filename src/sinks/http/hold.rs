//! What the sink has taken from its inlet and not brought anywhere yet: parts, in order.
//!
//! Requests are made of the first events in it and are settled from its front, so nobody needs
//! to know which event was in which request. Settling calls those who wait for it; so parts
//! come out of here one by one, are settled by the caller, and go back with what is left.

use std::collections::VecDeque;

use crate::pipeline::encode::{Encoder, Output};
use crate::pipeline::part::{Part, Record};
use crate::time::Instant;

/// Parts in order, of the first of which some events may be settled.
#[derive(Default)]
pub(super) struct Hold {
    parts: VecDeque<Held>,
    /// Events that are not settled.
    events: usize,
    /// What the parts count for in the sink's buffer.
    bytes: usize,
}

/// One part.
pub(super) struct Held {
    part: Part,
    taken: Instant,
}

impl Hold {
    /// Adds a part that was taken at `now`.
    pub(super) fn push(&mut self, part: Part, now: Instant) {
        self.put(VecDeque::push_back, Held { part, taken: now });
    }

    /// Puts what is left of the first part back.
    pub(super) fn put_back(&mut self, held: Held) {
        self.put(VecDeque::push_front, held);
    }

    fn put(&mut self, push: fn(&mut VecDeque<Held>, Held), held: Held) {
        self.events += held.left();
        self.bytes += held.part.bytes();
        push(&mut self.parts, held);
    }

    /// The first part.
    pub(super) fn pop(&mut self) -> Option<Held> {
        let held = self.parts.pop_front()?;
        self.events -= held.left();
        self.bytes -= held.part.bytes();
        Some(held)
    }

    /// All parts, in order.
    pub(super) fn take_all(&mut self) -> Vec<Part> {
        (self.events, self.bytes) = (0, 0);
        self.parts.drain(..).map(|held| held.part).collect()
    }

    /// Events that are not settled.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// What the parts count for in the sink's buffer, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of the first part on disk, and how many of its events are left: together they
    /// name the first event, in this run and in those to come.
    pub(super) fn first(&self) -> Option<(Record, usize)> {
        let held = self.parts.front()?;
        Some((held.part.record()?, held.left()))
    }

    /// When the oldest event was taken.
    pub(super) fn since(&self) -> Option<Instant> {
        self.parts.front().map(|held| held.taken)
    }

    /// Encodes events as lines, without the first `skip`, `events_max` at most and while `out`
    /// stays within `bytes_max`; one event at least where `out` is empty. Answers how many.
    pub(super) fn encode(&self, encoder: &Encoder, wanted: &Wanted, out: &mut Output) -> usize {
        let (mut skip, mut events) = (wanted.skip, 0);
        for held in &self.parts {
            if skip >= held.left() {
                skip -= held.left();
                continue;
            }
            let picked = held
                .part
                .events()
                .skip(skip)
                .take(wanted.events_max - events);
            let asked = (held.left() - skip).min(wanted.events_max - events);
            let batch = held.part.batch();
            let taken = encoder.encode_within(batch, picked, wanted.bytes_max, out);
            events += taken;
            skip = 0;
            if taken < asked || events == wanted.events_max {
                break;
            }
        }
        events
    }
}

/// Which events to encode.
pub(super) struct Wanted {
    /// Events at the front that are left out.
    pub(super) skip: usize,
    /// Most events.
    pub(super) events_max: usize,
    /// Most bytes in the output altogether.
    pub(super) bytes_max: usize,
}

impl Held {
    /// Events that are not settled.
    pub(super) fn left(&self) -> usize {
        self.part.len() as usize
    }

    /// The first `events` have arrived. Answers what is left.
    pub(super) fn deliver(mut self, events: usize) -> Option<Held> {
        if events == self.left() {
            self.part.delivered();
            return None;
        }
        self.part.deliver_some(events as u64);
        Some(self)
    }

    /// The destination refuses the first `events` for `reason`, for good. Answers what is left.
    pub(super) fn refuse(mut self, events: usize, reason: &str) -> Option<Held> {
        if events == self.left() {
            self.part.refused(reason);
            return None;
        }
        let positions: Vec<u32> = (0..events as u32).collect();
        self.part.refuse_some(&positions, reason);
        Some(self)
    }
}
