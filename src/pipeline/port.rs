//! A port: the way into one sink, with its buffer and its books.
//!
//! The pipeline's side asks for room and puts parts in; the sink's side, the [`Inlet`], takes
//! them out. Room is given back when nobody needs a part's bytes any more, not when it is
//! taken, so that the buffer's size bounds what a sink holds altogether. Neither side calls the
//! other: "ready" and "room" are queued for the turn.
//!
//! A port outlives its sink. Of all inlets one at most holds the port and gets parts; when a
//! sink is exchanged, the old one loses its hold, gives back what it has not delivered, and
//! only then the new one gets it, so that the order stays and nothing is with both. The buffer
//! may be exchanged too: what is on disk comes out before anything that came later, and what is in
//! memory moves to the disk at once. What the sink gives back after that comes behind it: the one
//! exchange that does not keep the order, for a number on the disk is never given anew.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::deferred::{Deferred, Promise, join_all};
use crate::event::Batch;
use crate::time::{Duration, Scheduler, WallTime};

use super::health::{Health, LastError, Trouble};
use super::ledger::SinkLedger;
use super::part::{Claim, Making, Part, Picked};
use super::queue::{BUFFER_FULL, Queue, Released, WhenFull};

type Callback = RefCell<Option<Box<dyn FnMut()>>>;

/// The way into one sink.
pub struct Port {
    this: Weak<Port>,
    name: Rc<str>,
    when_full: Cell<WhenFull>,
    queue: RefCell<Rc<dyn Queue>>,
    /// A disk buffer that was exchanged for memory: it is emptied first.
    former: RefCell<Option<Rc<dyn Queue>>>,
    /// Bytes of parts that have arrived and may be sent again.
    kept_bytes: Cell<usize>,
    /// How many memories it has had for a buffer.
    memories: Cell<u64>,
    /// How many dead letters' claims keep events on its disk.
    pledges: Cell<u64>,
    /// What all sinks together may keep leaves so much to this one.
    keep_bytes_max: Cell<usize>,
    ledger: SinkLedger,
    scheduler: Rc<dyn Scheduler>,
    /// Who gets parts.
    holder: RefCell<Option<Rc<Hold>>>,
    /// Who gets them when the sinks before it have let go.
    heir: RefCell<Option<Rc<Hold>>>,
    /// Sinks that lost their hold and have not given back yet.
    leaving: Cell<u32>,
    ready_queued: Cell<bool>,
    room: Callback,
    room_wanted: Cell<bool>,
    /// An earlier disk buffer is to be the buffer again, and is not closed meanwhile.
    keeps_former: Cell<bool>,
    /// Earlier disk buffers that are being closed, and who waits for that.
    closing: Cell<usize>,
    closed: RefCell<Vec<Promise<()>>>,
    /// Its sink is in the configuration no more: whatever still comes is dropped.
    is_removed: Cell<bool>,
    /// What it takes is handed to another reactor, which has the sink, and maybe its disk.
    relay: Cell<Option<Relay>>,
    health: Health,
    /// When the newest event was received that has arrived.
    newest: Cell<Option<WallTime>>,
}

/// What is behind a port whose sink is with another reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whether parts come to the stage *durable* there.
    pub is_disk: bool,
    /// What happens when the buffer there is full; what waits here is never dropped for that.
    pub when_full: WhenFull,
}

/// One sink's hold on its port.
#[derive(Default)]
struct Hold {
    ready: Callback,
    /// Whether the sink wants to be told of parts.
    is_armed: Cell<bool>,
}

impl Hold {
    /// Its sink is called no more, and held no more.
    fn let_go(&self) {
        self.is_armed.set(false);
        let ready = self.ready.borrow_mut().take();
        drop(ready);
    }
}

/// All ports there are, for those who look at more than their own.
#[derive(Clone)]
pub struct Ports(Rc<RefCell<Rc<[Rc<Port>]>>>);

impl Ports {
    /// These ports.
    pub fn new(ports: Vec<Rc<Port>>) -> Ports {
        Ports(Rc::new(RefCell::new(ports.into())))
    }

    /// Those that there are now.
    pub fn all(&self) -> Rc<[Rc<Port>]> {
        Rc::clone(&self.0.borrow())
    }

    /// These are all from now on.
    pub(super) fn set(&self, ports: Vec<Rc<Port>>) {
        *self.0.borrow_mut() = ports.into();
    }
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
            when_full: Cell::new(when_full),
            queue: RefCell::new(Rc::from(queue)),
            former: RefCell::default(),
            kept_bytes: Cell::new(0),
            pledges: Cell::new(0),
            memories: Cell::new(0),
            keep_bytes_max: Cell::new(usize::MAX),
            ledger: SinkLedger::default(),
            scheduler,
            holder: RefCell::default(),
            heir: RefCell::default(),
            leaving: Cell::new(0),
            ready_queued: Cell::new(false),
            room: RefCell::new(None),
            room_wanted: Cell::new(false),
            keeps_former: Cell::new(false),
            closing: Cell::new(0),
            closed: RefCell::default(),
            is_removed: Cell::new(false),
            relay: Cell::new(None),
            health: Health::default(),
            newest: Cell::new(None),
        });
        port.queue().attach(&port);
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
        self.queue().held_bytes()
    }

    /// The number of a memory that becomes its buffer: no other one of this port has it.
    pub fn number_memory(&self) -> u64 {
        self.memories.set(self.memories.get() + 1);
        self.memories.get()
    }

    /// What it takes is handed to another reactor from now on, or is not any more.
    pub fn set_relay(&self, relay: Option<Relay>) {
        self.relay.set(relay);
    }

    /// Whether sources wait where its buffer is full, wherever that is.
    pub fn blocks(&self) -> bool {
        let relay = self.relay.get();
        relay.map_or(self.when_full(), |relay| relay.when_full) == WhenFull::Block
    }

    /// Whether what it takes is handed to another reactor.
    pub fn is_relay(&self) -> bool {
        self.relay.get().is_some()
    }

    /// Whether parts come to the stage *durable* in its buffer, wherever that is.
    pub fn is_durable(&self) -> bool {
        let relay = self.relay.get();
        relay.map_or_else(|| self.queue().is_disk(), |relay| relay.is_disk)
    }

    /// What keeps its parts.
    pub fn queue(&self) -> Rc<dyn Queue> {
        Rc::clone(&self.queue.borrow())
    }

    fn former(&self) -> Option<Rc<dyn Queue>> {
        self.former.borrow().clone()
    }

    /// The size of its buffer, in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.queue().capacity_bytes()
    }

    /// What keeps the sink from delivering, if anything.
    pub fn trouble(&self) -> Option<Rc<str>> {
        let storage = || self.queue().failure();
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
        self.when_full.get()
    }

    /// The end of the sink that holds the port; the first to ask gets the hold.
    pub fn inlet(self: &Rc<Self>) -> Inlet {
        let mut holder = self.holder.borrow_mut();
        let hold = Rc::clone(holder.get_or_insert_with(Rc::default));
        let port = Rc::clone(self);
        Inlet { port, hold }
    }

    /// The end of a sink that is to get parts later, by [`Port::hand_over`].
    pub fn next_inlet(self: &Rc<Self>) -> Inlet {
        Inlet {
            port: Rc::clone(self),
            hold: Rc::default(),
        }
    }

    /// Whether `bytes` more may come in. A part that does not fit beside what may be kept comes
    /// in all the same where nothing else is there: what is kept goes only when more comes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let (queue, kept) = (self.queue(), self.kept_bytes.get());
        let is_alone = || queue.held_bytes() == kept as u64;
        self.is_removed.get()
            || queue.fits(bytes)
            || (1..=self.keep_bytes_max()).contains(&kept) && is_alone()
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

    /// Events that are on its disk became dead letters, which are not settled.
    pub(super) fn pledge(&self) {
        self.pledges.set(self.pledges.get() + 1);
    }

    /// Those letters are settled.
    pub(super) fn redeem(&self) {
        self.pledges.set(self.pledges.get() - 1);
    }

    /// Whether its disk must keep something for dead letters that are not settled.
    pub fn has_pledges(&self) -> bool {
        self.pledges.get() > 0
    }

    /// Whether `bytes` more may come in, once what its policy allows has been done for it.
    pub(super) fn make_room(&self, bytes: usize) -> bool {
        if self.fits(bytes) {
            return true;
        }
        match self.when_full() {
            WhenFull::Block => false,
            WhenFull::DropNewest => true,
            WhenFull::DropOldest => self.queue().make_room(bytes),
        }
    }

    /// Whether parts that come in now will have to wait.
    pub(super) fn has_backlog(&self) -> bool {
        self.ledger.buffered.get() > 0
    }

    /// Events in it, or with the sink, that the end of the process would lose.
    pub fn volatile_events(&self) -> u64 {
        let former = self.former();
        let in_former = former.map_or(0, |former| former.volatile_events(self));
        in_former + self.queue().volatile_events(self)
    }

    /// Whether an earlier disk buffer is emptied before anything of the buffer is taken.
    pub fn empties_former(&self) -> bool {
        self.former.borrow().is_some()
    }

    /// Whether nothing in it would be lost by the end of the process.
    pub fn is_drained(&self) -> bool {
        // A sink that is leaving may still give something back.
        self.volatile_events() == 0 && self.leaving.get() == 0
    }

    /// Takes a part in.
    pub(super) fn push(&self, part: Part) {
        self.ledger.accepted.add(part.len());
        self.ledger.buffered.add(part.len());
        if self.is_removed.get() {
            return part.turned_away(REMOVED);
        }
        let queue = self.queue();
        queue.push(part);
        if !queue.is_disk() {
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

    /// Something was settled, or lost: whoever waits for room looks again.
    pub fn settled(&self) {
        self.end_former();
        if !self.room_wanted.replace(false) {
            return;
        }
        if let Some(port) = self.this.upgrade() {
            self.scheduler.call_soon(Box::new(move || run(&port.room)));
        }
    }

    pub(super) fn release(&self, released: Released) {
        match self.former().filter(|_| released.record.is_some()) {
            Some(former) => former.release(released),
            None => self.queue().release(released),
        }
        self.settled();
    }

    /// Events that were received at `received` have arrived.
    pub(super) fn note_arrived(&self, received: WallTime) {
        self.newest.set(self.newest.get().max(Some(received)));
    }

    /// How long ago the newest event was received that has arrived, while others wait: those
    /// came later, or were held up. Zero where none waits, and before the first has arrived.
    pub fn lag(&self, now: WallTime) -> Duration {
        let newest = self.newest.get().filter(|_| self.ledger.open() > 0);
        newest.map_or(Duration::ZERO, |newest| {
            let micros = now.as_micros().saturating_sub(newest.as_micros());
            Duration::from_micros(micros.max(0) as u64)
        })
    }

    /// Gives up what the end of the process would lose.
    pub fn abandon(self: &Rc<Self>, reason: &'static str) {
        self.queue().abandon(self, reason);
        if let Some(former) = self.former() {
            former.abandon(self, reason);
        }
    }

    /// Puts the buffer in order for the next start.
    pub fn close(&self) -> Deferred<()> {
        // What is on it stays there, and is no loss: it counts to the end.
        let former = self.former();
        let both = former.into_iter().chain([self.queue()]);
        join_all(both.map(close).collect::<Vec<_>>()).add_both(|_| ())
    }

    fn take(&self) -> Option<Part> {
        let part = match self.former() {
            // Nothing passes what is still on the disk.
            Some(former) => former.pop()?,
            None => self.queue().pop()?,
        };
        self.ledger.buffered.sub(part.len());
        self.ledger.in_flight.add(part.len());
        Some(part)
    }

    /// There may be a part for the sink now.
    pub fn ready(&self) {
        // A sink that is not armed yet is told when it arms itself.
        let is_armed = |hold: &Rc<Hold>| hold.is_armed.get();
        let wants = self.holder.borrow().as_ref().is_some_and(is_armed);
        if !wants || self.ready_queued.replace(true) {
            return;
        }
        let Some(port) = self.this.upgrade() else {
            return;
        };
        self.scheduler.call_soon(Box::new(move || {
            port.ready_queued.set(false);
            let holder = port.holder.borrow().clone();
            if let Some(hold) = holder.filter(is_armed) {
                run(&hold.ready);
            }
        }));
    }
}

/// How a port's sink and its buffer are exchanged.
impl Port {
    /// The sink gets no more parts, and is about to stop: [`Port::has_left`] says when it has.
    pub fn revoke(&self) {
        let heir = self.heir.borrow_mut().take();
        let holder = self.holder.borrow_mut().take();
        heir.into_iter()
            .chain(holder)
            .for_each(|hold| hold.let_go());
        self.leaving.set(self.leaving.get() + 1);
    }

    /// A sink that lost its hold has given back what it had, or takes too long for that.
    pub fn has_left(&self) {
        self.leaving.set(self.leaving.get().saturating_sub(1));
        self.settle_hold();
        self.settled();
    }

    /// The sink behind `inlet` gets the parts, as soon as those before it have left.
    pub fn hand_over(&self, inlet: &Inlet) {
        *self.heir.borrow_mut() = Some(Rc::clone(&inlet.hold));
        self.settle_hold();
    }

    fn settle_hold(&self) {
        if self.leaving.get() > 0 {
            return;
        }
        let Some(heir) = self.heir.borrow_mut().take() else {
            return;
        };
        // The trouble of the sink before it is not its own.
        self.health.recovered();
        *self.holder.borrow_mut() = Some(heir);
        if self.has_backlog() {
            self.ready();
        }
    }

    /// Whether a disk buffer is open here, as the buffer or still to be emptied.
    pub fn has_disk(&self) -> bool {
        self.former.borrow().is_some() || self.queue().is_disk()
    }

    /// An earlier disk buffer is kept open until the next [`Port::set_buffer`], which may make it
    /// the buffer again, or until this is taken back.
    pub fn keep_former(&self, is_kept: bool) {
        self.keeps_former.set(is_kept);
        if !is_kept {
            self.settled();
        }
    }

    /// Fires when no earlier disk buffer is being closed: only then it may be opened again.
    pub fn former_closed(&self) -> Deferred<()> {
        if self.closing.get() == 0 {
            return Deferred::ready(());
        }
        let (promise, deferred) = Deferred::new();
        self.closed.borrow_mut().push(promise);
        deferred
    }

    /// The policy and the sizes of the buffer are these from now on. Where a disk buffer stands
    /// still to be emptied, and one is wanted again, it is the buffer again.
    pub fn set_buffer(&self, when_full: WhenFull, memory_bytes: usize, disk_bytes: Option<u64>) {
        self.when_full.set(when_full);
        self.keeps_former.set(false);
        if disk_bytes.is_some()
            && let Some(former) = self.former.borrow_mut().take()
        {
            self.exchange(former);
        }
        let queue = self.queue();
        queue.set_when_full(when_full);
        queue.resize(memory_bytes, disk_bytes);
        self.want_room();
        self.settled();
    }

    /// Keeps parts in `queue` from now on. What is in memory moves there; what is on disk stays
    /// there and comes out before anything else.
    pub fn set_queue(&self, queue: Box<dyn Queue>) {
        let queue: Rc<dyn Queue> = Rc::from(queue);
        if let Some(port) = self.this.upgrade() {
            queue.attach(&port);
        }
        self.exchange(queue);
    }

    fn exchange(&self, queue: Rc<dyn Queue>) {
        let old = self.queue.replace(Rc::clone(&queue));
        if old.is_disk() {
            *self.former.borrow_mut() = Some(old);
            return self.end_former();
        }
        while let Some(part) = old.pop() {
            queue.push(part);
        }
        self.ready();
    }

    /// A disk buffer in which nothing is left has done its duty.
    fn end_former(&self) {
        let Some(former) = self.former().filter(|_| !self.keeps_former.get()) else {
            return;
        };
        // What its sink keeps of it for another time goes only when more comes, which waits
        // behind it.
        if self.leaving.get() == 0 && self.former_is_delivered() {
            former.let_go_of_delivered();
        }
        if !former.is_empty() {
            return;
        }
        self.former.borrow_mut().take();
        self.closing.set(self.closing.get() + 1);
        let this = Weak::clone(&self.this);
        let closed = close(former).add_both(move |closed| {
            if let Some(port) = this.upgrade() {
                port.former_has_closed();
            }
            closed
        });
        closed.log_err("closing a disk buffer");
        self.ready();
    }

    fn former_is_delivered(&self) -> bool {
        let books = &self.ledger;
        let waits_behind = self.queue().volatile_events(self);
        books.in_flight.get() == 0 && books.buffered.get() == waits_behind && !self.has_pledges()
    }

    fn former_has_closed(&self) {
        self.closing.set(self.closing.get() - 1);
        if self.closing.get() == 0 {
            let waiting = self.closed.take();
            for promise in waiting {
                promise.callback(());
            }
        }
    }

    /// The sink is in the configuration no more. What still comes is dropped as [`REMOVED`].
    pub fn remove(&self) {
        self.is_removed.set(true);
        self.want_room();
        self.settled();
    }
}

/// Closes a queue, which lives until that is done.
fn close(queue: Rc<dyn Queue>) -> Deferred<()> {
    queue.close().add_both(move |closed| {
        drop(queue);
        closed
    })
}

/// Runs a callback with no borrow held, and keeps it unless it was replaced meanwhile.
fn run(slot: &Callback) {
    let taken = slot.borrow_mut().take();
    if let Some(mut call) = taken {
        call();
        slot.borrow_mut().get_or_insert(call);
    }
}

/// The reason under which is counted what a sink had not delivered when it was removed.
pub const REMOVED: &str = "removed";

/// The sink's end of a port.
#[derive(Clone)]
pub struct Inlet {
    port: Rc<Port>,
    hold: Rc<Hold>,
}

impl Inlet {
    /// The sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.port.name
    }

    /// The port.
    pub fn port(&self) -> &Rc<Port> {
        &self.port
    }

    fn holds(&self) -> bool {
        let holder = self.port.holder.borrow();
        holder
            .as_ref()
            .is_some_and(|hold| Rc::ptr_eq(hold, &self.hold))
    }

    /// The sink is called no more: whoever made it says so when it has no more use for it.
    pub fn let_go(&self) {
        self.hold.let_go();
    }

    /// The oldest part that waits. The sink settles it, sooner or later.
    pub fn next(&self) -> Option<Part> {
        if self.holds() { self.port.take() } else { None }
    }

    /// The sink has stopped: it is called no more, and gives back the parts that it could not
    /// bring to their destination. They were taken in this order, and are what
    /// [`Inlet::next`] answers next, to whichever sink comes after this one.
    pub fn give_back(&self, parts: impl DoubleEndedIterator<Item = Part>) {
        let port = &self.port;
        self.hold.let_go();
        let (queue, former) = (port.queue(), port.former());
        // Parts that were never on the disk that the buffer is on by now.
        let mut homeless = VecDeque::new();
        for mut part in parts.rev() {
            part.come_again();
            port.ledger.in_flight.sub(part.len());
            port.ledger.buffered.add(part.len());
            match (part.record().is_some(), &former) {
                (false, _) if port.is_removed.get() => part.evicted(REMOVED),
                (true, _) if port.is_removed.get() => part.left_on_disk(),
                (true, Some(former)) => former.take_back(part),
                (false, _) if queue.is_disk() => homeless.push_front(part),
                _ => queue.take_back(part),
            }
        }
        homeless.into_iter().for_each(|part| queue.push(part));
        port.ready();
        port.settled();
    }

    /// Calls `ready` from the turn whenever parts came in since the last call.
    pub fn on_ready(&self, ready: impl FnMut() + 'static) {
        *self.hold.ready.borrow_mut() = Some(Box::new(ready));
        self.hold.is_armed.set(true);
        if self.port.has_backlog() {
            self.port.ready();
        }
    }

    /// What keeps the sink from delivering, for the operator; `None` when it delivers.
    /// Each call with a text counts as one attempt that has failed.
    pub fn set_trouble(&self, trouble: Option<&str>) {
        if !self.holds() {
            return;
        }
        let (health, scheduler) = (&self.port.health, &self.port.scheduler);
        match trouble {
            Some(why) => health.failed(why, scheduler.now(), scheduler.wall()),
            None => health.recovered(),
        }
    }

    /// After [`Inlet::set_trouble`]: the next attempt is made `delay` from now.
    pub fn tries_again_in(&self, delay: Duration) {
        if self.holds() {
            let next = self.port.scheduler.now() + delay;
            self.port.health.tries_again(next);
        }
    }

    /// The size of the sink's buffer, in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.port.capacity_bytes()
    }

    /// How many bytes of parts that have arrived the sink may keep, as they count in its
    /// buffer.
    pub fn keep_bytes_max(&self) -> usize {
        self.port.keep_bytes_max()
    }

    /// The books, for records.
    pub fn ledger(&self) -> &SinkLedger {
        self.port.ledger()
    }
}
