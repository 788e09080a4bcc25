//! A part: the share of a batch that one sink gets, and the claim that says it arrived.
//!
//! Every part is settled exactly once: delivered, dropped with a reason, or partly each. One
//! that is dropped by mistake counts as `dropped{unresolved}`, fails its batch's delivery and
//! is logged; tests require that count to be zero.
//!
//! A batch's [`Ticket`] fires its Deferred when the last claim on it is settled: a join.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::deferred::{Failure, Promise};
use crate::event::{Batch, Event};

use super::port::Port;

/// How far an event must have come before its source may say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Every required sink's buffer has it.
    Received,
    /// Every required sink's buffer has it on disk.
    Durable,
    /// Every required sink has brought it to its destination.
    Delivered,
}

/// The good end of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered;

/// A batch's promise, and how many claims on it are open.
pub struct Ticket {
    promise: RefCell<Option<Promise<Delivered>>>,
    open: Cell<usize>,
    failure: RefCell<Option<Failure>>,
}

impl Ticket {
    /// A ticket that is held open once, until [`Ticket::release`].
    pub(super) fn new(promise: Promise<Delivered>) -> Rc<Self> {
        Rc::new(Ticket {
            promise: RefCell::new(Some(promise)),
            open: Cell::new(1),
            failure: RefCell::new(None),
        })
    }

    /// One more part must be settled first.
    pub(super) fn claim(self: &Rc<Self>) -> Rc<Ticket> {
        self.open.set(self.open.get() + 1);
        Rc::clone(self)
    }

    /// One part less; the last one fires.
    pub(super) fn release(&self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.failure.borrow_mut().get_or_insert(failure);
        }
        self.open.set(self.open.get() - 1);
        if self.open.get() > 0 {
            return;
        }
        let promise = self.promise.borrow_mut().take();
        let failure = self.failure.borrow_mut().take();
        match (promise, failure) {
            (Some(promise), None) => drop(promise.callback(Delivered)),
            (Some(promise), Some(failure)) => drop(promise.errback(failure)),
            (None, _) => {}
        }
    }
}

/// The share of a batch that one sink gets.
pub struct Part {
    batch: Rc<Batch>,
    selection: Option<Box<[u32]>>,
    bytes: usize,
    port: Rc<Port>,
    claim: Option<Rc<Ticket>>,
    open_events: u64,
}

impl Part {
    pub(super) fn new(
        batch: Rc<Batch>,
        selection: Option<Box<[u32]>>,
        bytes: usize,
        port: Rc<Port>,
        claim: Option<Rc<Ticket>>,
    ) -> Self {
        let events = selection
            .as_ref()
            .map_or(batch.events.len(), |picked| picked.len());
        Part {
            batch,
            selection,
            bytes,
            port,
            claim,
            open_events: events as u64,
        }
    }

    /// What the events share.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The indices of this sink's events in the batch; `None` is all of them.
    pub fn selection(&self) -> Option<&[u32]> {
        self.selection.as_deref()
    }

    /// This sink's events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> + Clone {
        let all = if self.selection.is_some() {
            &[][..]
        } else {
            &self.batch.events[..]
        };
        let picked = self.selection.as_deref().unwrap_or(&[]);
        all.iter().chain(
            picked
                .iter()
                .map(|index| &self.batch.events[*index as usize]),
        )
    }

    /// How many events are not settled yet.
    pub fn len(&self) -> u64 {
        self.open_events
    }

    /// Whether there is nothing to bring anywhere.
    pub fn is_empty(&self) -> bool {
        self.open_events == 0
    }

    /// What the part counts for in its sink's buffer, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of its events have reached their destination.
    pub fn delivered(mut self) {
        let events = self.open_events;
        self.port.ledger().delivered.add(events);
        self.port.ledger().delivered_bytes.add(self.bytes as u64);
        self.close(events, None);
    }

    /// The first `events` of what is left have arrived; the rest is still to be settled.
    pub fn deliver_some(&mut self, events: u64) {
        let events = events.min(self.open_events);
        self.port.ledger().delivered.add(events);
        self.port.ledger().in_flight.sub(events);
        self.open_events -= events;
    }

    /// All of its events are given up. The source of an acknowledged batch gets an error.
    pub fn dropped(mut self, reason: &'static str) {
        self.give_up(reason);
    }

    /// Some of its events cannot be brought to their destination and never will be; the rest
    /// is still to be settled.
    pub fn drop_some(&mut self, reason: &'static str, events: u64) {
        let events = events.min(self.open_events);
        self.port.ledger().dropped.add(reason, events);
        self.port.ledger().in_flight.sub(events);
        self.open_events -= events;
    }

    fn give_up(&mut self, reason: &'static str) {
        let events = self.open_events;
        self.port.ledger().dropped.add(reason, events);
        let text = format!(
            "sink {} dropped {events} events: {reason}",
            self.port.name()
        );
        self.close(events, Some(Failure::msg(text)));
    }

    /// The books first, the room second, the source last: who hears of it finds it so.
    fn close(&mut self, events: u64, failure: Option<Failure>) {
        self.port.ledger().in_flight.sub(events);
        self.open_events = 0;
        self.port.give_back(std::mem::take(&mut self.bytes));
        if let Some(claim) = self.claim.take() {
            claim.release(failure);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let settled = self.open_events == 0 && self.claim.is_none() && self.bytes == 0;
        if settled {
            return;
        }
        if self.open_events == 0 {
            // All of its events were dropped one by one, each with its reason.
            return self.close(0, None);
        }
        tracing::error!(
            event = "part_unresolved",
            component = self.port.name(),
            events = self.open_events,
            "a sink let go of events without saying what became of them: this is a bug"
        );
        self.give_up("unresolved");
    }
}
