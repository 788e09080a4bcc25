//! A port: the way into one sink, with its buffer and its books.
//!
//! The pipeline's side asks for room and puts parts in; the sink's side, the [`Inlet`], takes
//! them out. Room is given back when nobody needs a part's bytes any more, not when it is
//! taken, so that the buffer's size bounds what a sink holds altogether. Neither side calls the
//! other: "ready" and "room" are queued for the turn.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::deferred::Deferred;
use crate::event::Batch;
use crate::time::{Duration, Scheduler};

use super::health::{Health, LastError, Trouble};
use super::ledger::SinkLedger;
use super::part::{Claim, Making, Part, Picked};
use super::queue::{BUFFER_FULL, Queue, Released, WhenFull};

type Callback = RefCell<Option<Box<dyn FnMut()>>>;

/// The way into one sink.
pub struct Port {
    this: Weak<Port>,
    name: Rc<str>,
    when_full: WhenFull,
    queue: Box<dyn Queue>,
    /// Bytes of parts that have arrived and may be sent again.
    kept_bytes: Cell<usize>,
    /// What all sinks together may keep leaves so much to this one.
    keep_bytes_max: Cell<usize>,
    ledger: SinkLedger,
    scheduler: Rc<dyn Scheduler>,
    ready: Callback,
    ready_queued: Cell<bool>,
    /// Whether a sink wants to be told of parts.
    is_armed: Cell<bool>,
    room: Callback,
    room_wanted: Cell<bool>,
    health: Health,
}

impl Port {
    /// A port named `name` that keeps its parts in `queue`.
    pub fn new(
        name: &str,
        when_full: WhenFull,
        queue: Box<dyn Queue>,
        scheduler: Rc<dyn Scheduler>,
    ) -> Rc<Self> {
        let port = Rc::new_cyclic(|this| Port {
            this: Weak::clone(this),
            name: name.into(),
            when_full,
            queue,
            kept_bytes: Cell::new(0),
            keep_bytes_max: Cell::new(usize::MAX),
            ledger: SinkLedger::default(),
            scheduler,
            ready: RefCell::new(None),
            ready_queued: Cell::new(false),
            is_armed: Cell::new(false),
            room: RefCell::new(None),
            room_wanted: Cell::new(false),
            health: Health::default(),
        });
        port.queue.attach(&port);
        port
    }

    /// The sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sink's books.
    pub fn ledger(&self) -> &SinkLedger {
        &self.ledger
    }

    /// Bytes that count against the buffer's size.
    pub fn held_bytes(&self) -> u64 {
        self.queue.held_bytes()
    }

    /// What keeps its parts.
    pub fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// The size of its buffer, in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.queue.capacity_bytes()
    }

    /// What keeps the sink from delivering, if anything.
    pub fn trouble(&self) -> Option<Rc<str>> {
        let storage = || self.queue.failure();
        let trouble = self.health.trouble().map(|trouble| trouble.why);
        trouble.or_else(storage)
    }

    /// The same, with since when and how it goes on.
    pub fn trouble_details(&self) -> Option<Trouble> {
        self.health.trouble()
    }

    /// What went wrong last, whether it is mended or not.
    pub fn last_error(&self) -> Option<LastError> {
        self.health.last_error()
    }

    /// What happens when its buffer is full.
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// The sink's end.
    pub fn inlet(self: &Rc<Self>) -> Inlet {
        Inlet(Rc::clone(self))
    }

    /// Whether `bytes` more may come in. A part that does not fit beside what may be kept comes
    /// in all the same where nothing else is there: what is kept goes only when more comes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let kept = self.kept_bytes.get();
        let is_alone = || self.queue.held_bytes() == kept as u64;
        self.queue.fits(bytes) || (1..=self.keep_bytes_max()).contains(&kept) && is_alone()
    }

    /// How many bytes of parts that have arrived the sink may keep: its share of the memory, and
    /// no more than half of its buffer.
    fn keep_bytes_max(&self) -> usize {
        let half = usize::try_from(self.capacity_bytes() / 2).unwrap_or(usize::MAX);
        half.min(self.keep_bytes_max.get())
    }

    /// The sink keeps at most so many bytes that have arrived, and never more than half of its
    /// buffer.
    pub fn limit_kept(&self, bytes: usize) {
        self.keep_bytes_max.set(bytes);
    }

    /// A part that has arrived stays.
    pub(super) fn keep(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() + bytes);
    }

    /// One that stayed goes.
    pub(super) fn let_go(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() - bytes);
    }

    /// Whether `bytes` more may come in, once what its policy allows has been done for it.
    pub(super) fn make_room(&self, bytes: usize) -> bool {
        match self.when_full {
            WhenFull::Block => self.fits(bytes),
            WhenFull::DropNewest => true,
            WhenFull::DropOldest => self.fits(bytes) || self.queue.make_room(bytes),
        }
    }

    /// Whether parts that come in now will have to wait.
    pub(super) fn has_backlog(&self) -> bool {
        self.ledger.buffered.get() > 0
    }

    /// Whether nothing in it would be lost by the end of the process.
    pub fn is_drained(&self) -> bool {
        self.queue.volatile_events(self) == 0
    }

    /// Takes a part in.
    pub(super) fn push(&self, part: Part) {
        self.ledger.accepted.add(part.len());
        self.ledger.buffered.add(part.len());
        self.queue.push(part);
        if !self.queue.is_disk() {
            self.ready();
        }
    }

    /// Takes dead letters in, whether there is room or not: they are few, and the sink that
    /// they come from has let go of as much.
    pub(super) fn post(&self, letters: Batch, claim: Option<Claim>) {
        let Some(port) = self.this.upgrade() else {
            return;
        };
        let bytes = letters.weight_bytes();
        self.push(Part::new(Making {
            picked: Picked::new(Rc::new(letters), None),
            bytes,
            port,
            via: None,
            claim,
            record: None,
        }));
    }

    /// Events for which there was no room.
    pub(super) fn refuse(&self, events: u64, reason: &str) {
        self.ledger.accepted.add(events);
        self.ledger.dropped.add(reason, events);
    }

    /// As [`Port::refuse`], for want of room.
    pub(super) fn refuse_full(&self, events: u64) {
        self.refuse(events, BUFFER_FULL);
    }

    /// Calls `room` from the turn, once, after some room was given back.
    pub(super) fn when_room(&self, room: impl FnMut() + 'static) {
        *self.room.borrow_mut() = Some(Box::new(room));
    }

    /// Somebody waits for room, or for the last part to be settled.
    pub(super) fn want_room(&self) {
        self.room_wanted.set(true);
    }

    /// Something was settled: whoever waits for room looks again.
    pub fn settled(&self) {
        if !self.room_wanted.replace(false) {
            return;
        }
        if let Some(port) = self.this.upgrade() {
            self.scheduler.call_soon(Box::new(move || run(&port.room)));
        }
    }

    pub(super) fn release(&self, released: Released) {
        self.queue.release(released);
        self.settled();
    }

    /// Gives up what the end of the process would lose.
    pub(super) fn abandon(self: &Rc<Self>, reason: &'static str) {
        self.queue.abandon(self, reason);
    }

    /// Puts the buffer in order for the next start.
    pub fn close(&self) -> Deferred<()> {
        self.queue.close()
    }

    fn take(&self) -> Option<Part> {
        let part = self.queue.pop()?;
        self.ledger.buffered.sub(part.len());
        self.ledger.in_flight.add(part.len());
        Some(part)
    }

    /// There may be a part for the sink now.
    pub fn ready(&self) {
        // A sink that is not armed yet is told when it arms itself.
        if !self.is_armed.get() || self.ready_queued.replace(true) {
            return;
        }
        let Some(port) = self.this.upgrade() else {
            return;
        };
        self.scheduler.call_soon(Box::new(move || {
            port.ready_queued.set(false);
            if port.is_armed.get() {
                run(&port.ready);
            }
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

    /// The sink has stopped: it is called no more, and gives back the parts that it could not
    /// bring to their destination. They were taken in this order, and are what
    /// [`Inlet::next`] answers next, to whichever sink comes after this one.
    pub fn give_back(&self, parts: impl DoubleEndedIterator<Item = Part>) {
        let port = &self.0;
        port.is_armed.set(false);
        for part in parts.rev() {
            port.ledger.in_flight.sub(part.len());
            port.ledger.buffered.add(part.len());
            port.queue.take_back(part);
        }
        port.settled();
    }

    /// Calls `ready` from the turn whenever parts came in since the last call.
    pub fn on_ready(&self, ready: impl FnMut() + 'static) {
        *self.0.ready.borrow_mut() = Some(Box::new(ready));
        self.0.is_armed.set(true);
        if self.0.has_backlog() {
            self.0.ready();
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

    /// The size of the sink's buffer, in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.0.queue.capacity_bytes()
    }

    /// How many bytes of parts that have arrived the sink may keep, as they count in its
    /// buffer.
    pub fn keep_bytes_max(&self) -> usize {
        self.0.keep_bytes_max()
    }

    /// The books, for records.
    pub fn ledger(&self) -> &SinkLedger {
        self.0.ledger()
    }
}
