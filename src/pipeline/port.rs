//! A port: the way into one sink, with its buffer, its room and its books.
//!
//! The pipeline's side reserves room and puts parts in; the sink's side, the [`Inlet`], takes
//! them out. Room is given back when a part is settled, not when it is taken, so that the
//! buffer's size bounds what a sink holds altogether. Neither side calls the other: "ready"
//! and "room" are queued for the turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::time::{Duration, Scheduler};

use super::health::{Health, LastError, Trouble};
use super::ledger::SinkLedger;
use super::part::Part;

/// Keeps parts in order between admission and the sink: memory now, disk for those who ask.
pub trait Queue {
    /// Takes a part; room for it has been reserved.
    fn push(&mut self, part: Part);
    /// The oldest part.
    fn pop(&mut self) -> Option<Part>;
}

type Callback = RefCell<Option<Box<dyn FnMut()>>>;

/// The way into one sink.
pub struct Port {
    name: Rc<str>,
    capacity_bytes: usize,
    held_bytes: Cell<usize>,
    queue: RefCell<Box<dyn Queue>>,
    ledger: SinkLedger,
    scheduler: Rc<dyn Scheduler>,
    ready: Callback,
    ready_queued: Cell<bool>,
    room: Callback,
    room_wanted: Cell<bool>,
    health: Health,
}

impl Port {
    /// A port named `name` that holds up to `capacity_bytes` in `queue`.
    pub fn new(
        name: &str,
        capacity_bytes: usize,
        queue: Box<dyn Queue>,
        scheduler: Rc<dyn Scheduler>,
    ) -> Rc<Self> {
        Rc::new(Port {
            name: name.into(),
            capacity_bytes,
            held_bytes: Cell::new(0),
            queue: RefCell::new(queue),
            ledger: SinkLedger::default(),
            scheduler,
            ready: RefCell::new(None),
            ready_queued: Cell::new(false),
            room: RefCell::new(None),
            room_wanted: Cell::new(false),
            health: Health::default(),
        })
    }

    /// The sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sink's books.
    pub fn ledger(&self) -> &SinkLedger {
        &self.ledger
    }

    /// Bytes of parts not settled yet.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// Bytes of parts that it holds at most.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// What keeps the sink from delivering, if anything.
    pub fn trouble(&self) -> Option<Rc<str>> {
        self.health.trouble().map(|trouble| trouble.why)
    }

    /// The same, with since when and how it goes on.
    pub fn trouble_details(&self) -> Option<Trouble> {
        self.health.trouble()
    }

    /// What went wrong last, whether it is mended or not.
    pub fn last_error(&self) -> Option<LastError> {
        self.health.last_error()
    }

    /// The sink's end.
    pub fn inlet(self: &Rc<Self>) -> Inlet {
        Inlet(Rc::clone(self))
    }

    /// Whether `bytes` more may come in. An empty port takes one part of any size: what is
    /// larger than the whole buffer must not wait for ever.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let held = self.held_bytes.get();
        held == 0 || held.saturating_add(bytes) <= self.capacity_bytes
    }

    /// Whether parts that come in now will have to wait.
    pub(super) fn has_backlog(&self) -> bool {
        self.ledger.buffered.get() > 0
    }

    /// Room for a part that [`Port::fits`]; it is given back when the part is settled.
    pub(super) fn push(self: &Rc<Self>, part: Part) {
        self.held_bytes.set(self.held_bytes.get() + part.bytes());
        self.ledger.accepted.add(part.len());
        self.ledger.buffered.add(part.len());
        self.queue.borrow_mut().push(part);
        self.queue_ready();
    }

    /// A part for which there was no room, and which nobody waits for.
    pub(super) fn refuse(&self, events: u64, reason: &str) {
        self.ledger.accepted.add(events);
        self.ledger.dropped.add(reason, events);
    }

    /// Calls `room` from the turn, once, after some room was given back.
    pub(super) fn when_room(&self, room: impl FnMut() + 'static) {
        *self.room.borrow_mut() = Some(Box::new(room));
    }

    /// Somebody waits for room.
    pub(super) fn want_room(&self) {
        self.room_wanted.set(true);
    }

    pub(super) fn give_back(self: &Rc<Self>, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() - bytes);
        if self.room_wanted.replace(false) {
            let port = Rc::clone(self);
            self.scheduler.call_soon(Box::new(move || run(&port.room)));
        }
    }

    /// Settles everything still in the buffer as dropped.
    pub(super) fn drop_all(&self, reason: &'static str) {
        while let Some(part) = self.take() {
            part.dropped(reason);
        }
    }

    fn take(&self) -> Option<Part> {
        let part = self.queue.borrow_mut().pop()?;
        self.ledger.buffered.sub(part.len());
        self.ledger.in_flight.add(part.len());
        Some(part)
    }

    fn queue_ready(self: &Rc<Self>) {
        // A sink that is not armed yet is told when it arms itself.
        if self.ready.borrow().is_none() || self.ready_queued.replace(true) {
            return;
        }
        let port = Rc::clone(self);
        self.scheduler.call_soon(Box::new(move || {
            port.ready_queued.set(false);
            run(&port.ready);
        }));
    }
}

/// Runs a callback with no borrow held, and keeps it unless it was replaced meanwhile.
fn run(slot: &Callback) {
    let taken = slot.borrow_mut().take();
    if let Some(mut call) = taken {
        call();
        slot.borrow_mut().get_or_insert(call);
    }
}

/// The sink's end of a port.
#[derive(Clone)]
pub struct Inlet(Rc<Port>);

impl Inlet {
    /// The sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The oldest part that waits. The sink settles it, sooner or later.
    pub fn next(&self) -> Option<Part> {
        self.0.take()
    }

    /// Calls `ready` from the turn whenever parts came in since the last call.
    pub fn on_ready(&self, ready: impl FnMut() + 'static) {
        *self.0.ready.borrow_mut() = Some(Box::new(ready));
        if self.0.has_backlog() {
            self.0.queue_ready();
        }
    }

    /// What keeps the sink from delivering, for the operator; `None` when it delivers.
    /// Each call with a text counts as one attempt that has failed.
    pub fn set_trouble(&self, trouble: Option<&str>) {
        let (health, scheduler) = (&self.0.health, &self.0.scheduler);
        match trouble {
            Some(why) => health.failed(why, scheduler.now(), scheduler.wall()),
            None => health.recovered(),
        }
    }

    /// After [`Inlet::set_trouble`]: the next attempt is made `delay` from now.
    pub fn tries_again_in(&self, delay: Duration) {
        self.0.health.tries_again(self.0.scheduler.now() + delay);
    }

    /// The books, for records.
    pub fn ledger(&self) -> &SinkLedger {
        self.0.ledger()
    }
}
