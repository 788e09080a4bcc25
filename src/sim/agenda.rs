//! What will happen in the simulated world, and when: arrivals, peers that act, jobs that end.
//!
//! Events of one instant happen in the order in which they were planned. The simulated poller
//! lets them happen while it waits, so to the reactor they are what the machine does by itself:
//! none of them runs inside a handler.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::time::Instant;

type Event = Box<dyn FnOnce()>;

/// The events to come.
#[derive(Default)]
pub(super) struct Agenda {
    events: RefCell<BTreeMap<(Instant, u64), Event>>,
    planned: Cell<u64>,
    happened: Cell<u64>,
    trace: Cell<u64>,
}

impl Agenda {
    /// Plans `event` for `at`, or for the next look where that has passed.
    pub(super) fn plan(&self, at: Instant, event: Event) {
        let number = self.planned.get();
        self.planned.set(number + 1);
        self.events.borrow_mut().insert((at, number), event);
    }

    /// When the next event is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let events = self.events.borrow();
        events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets everything happen that is due at `now`, also what is planned for it meanwhile.
    pub(super) fn run_due(&self, now: Instant) {
        while let Some(event) = self.take_due(now) {
            self.happened.set(self.happened.get() + 1);
            event();
        }
    }

    /// Adds something that was seen at `now` to the trace.
    pub(super) fn note(&self, now: Instant, seen: u64) {
        let mixed = [now.as_nanos(), self.happened.get(), seen].into_iter();
        let trace = mixed.fold(self.trace.get(), |trace, number| {
            (trace ^ number).wrapping_mul(FNV_PRIME).rotate_left(23)
        });
        self.trace.set(trace);
    }

    /// A number that stands for all that was noted, in its order.
    pub(super) fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// How many events have happened.
    pub(super) fn happened(&self) -> u64 {
        self.happened.get()
    }

    /// Forgets all events; they hold the world, and the world holds them.
    pub(super) fn clear(&self) {
        let events = self.events.take();
        drop(events);
    }

    fn take_due(&self, now: Instant) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        let first = events.first_entry()?;
        let is_due = first.key().0 <= now;
        is_due.then(|| first.remove())
    }
}

/// The multiplier of FNV-1a with 64 bits (Fowler, Noll and Vo); the trace is compared, not stored.
const FNV_PRIME: u64 = 0x0100_0000_01B3;
