//! A part: the share of a batch that one sink gets, and the claim that says it arrived.
//!
//! Every part is settled exactly once: delivered, refused, dropped with a reason, given back to
//! its port, or some of each. One that is dropped by mistake counts as `dropped{unresolved}`,
//! fails its batch's delivery and is logged; tests require that count to be zero.
//!
//! A batch's [`Ticket`] fires its Deferred when the last claim on it is settled: a join. A claim
//! is released when its part is durable or when it is delivered, whichever its source asked for.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::deferred::{Failure, Promise};
use crate::event::{Batch, Event, Span};
use crate::time::Duration;

use super::letter::Via;
pub use super::picked::Picked;
use super::port::Port;
pub use super::queue::Record;
use super::queue::{BUFFER_FULL, Released, SHUTDOWN};

/// How far an event must have come before its source may say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Every required sink's buffer has it.
    Received,
    /// Every required sink's buffer has it on disk; a sink without a disk buffer has brought it
    /// to its destination.
    Durable,
    /// Every required sink has brought it to its destination.
    Delivered,
}

/// The good end of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered;

/// Why events were not taken: their batch may be sent again. Nothing of it is anywhere, unless it
/// was admitted before a disk found that it could not write it: then other parts of it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A buffer is full: try again later.
    BufferFull {
        /// The sink.
        sink: String,
    },
    /// A disk buffer has failed: nothing can be made durable.
    StorageFailed {
        /// The sink.
        sink: String,
    },
}

impl Refused {
    /// The reason under which the events are counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refused::BufferFull { .. } => BUFFER_FULL,
            Refused::StorageFailed { .. } => "storage_failed",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::BufferFull { sink } => write!(f, "the buffer of sink {sink} is full"),
            Refused::StorageFailed { sink } => {
                write!(f, "the disk buffer of sink {sink} has failed")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// A delivery that has failed although the batch was taken: a sink gave events of it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The sink.
    pub sink: String,
    /// How many events.
    pub events: u64,
    /// Why.
    pub reason: String,
    /// Whether it is these events, which the sink could never bring where they go: what else
    /// was in the batch is on its way, and it is of no use to send them again.
    pub is_for_good: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost {
            sink,
            events,
            reason,
            ..
        } = self;
        write!(f, "sink {sink} dropped {events} events: {reason}")
    }
}

impl std::error::Error for Lost {}

/// A batch's promise, and how many claims on it are open.
pub struct Ticket {
    promise: RefCell<Option<Promise<Delivered>>>,
    /// Its sender is told when there has been no room for so long.
    patience: Option<Duration>,
    open: Cell<usize>,
    failure: RefCell<Option<Failure>>,
}

impl Ticket {
    /// A ticket that is held open once, until [`Ticket::release`].
    pub(super) fn new(promise: Promise<Delivered>, patience: Option<Duration>) -> Rc<Self> {
        Rc::new(Ticket {
            promise: RefCell::new(Some(promise)),
            patience,
            open: Cell::new(1),
            failure: RefCell::new(None),
        })
    }

    /// One more part must come to `stage` first.
    pub(super) fn claim(self: &Rc<Self>, stage: Stage) -> Claim {
        self.open.set(self.open.get() + 1);
        let ticket = Some(Rc::clone(self));
        Claim {
            ticket,
            stage,
            origin: None,
        }
    }

    /// Whatever else comes of the batch, its delivery has failed.
    pub(super) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    /// One part less; the last one fires.
    pub(super) fn release(&self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.fail(failure);
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

/// One part's share in a batch's acknowledgement, and in what dead letters were on a disk.
pub struct Claim {
    ticket: Option<Rc<Ticket>>,
    stage: Stage,
    origin: Option<Origin>,
}

impl Claim {
    /// The stage at which it is to be released.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How long the sender of its batch lets itself be kept waiting for room.
    pub fn patience(&self) -> Option<Duration> {
        self.ticket.as_ref().and_then(|ticket| ticket.patience)
    }

    /// The part has come as far as it must, or has failed.
    pub fn release(mut self, failure: Option<Failure>) {
        if let Some(ticket) = self.ticket.take() {
            ticket.release(failure);
        }
    }

    /// Some of the part's events are lost: nobody is told that all is well.
    fn fail(&self, failure: Failure) {
        if let Some(ticket) = &self.ticket {
            ticket.fail(failure);
        }
    }

    /// Another part that must come as far.
    pub(super) fn another(&self) -> Option<Claim> {
        let ticket = self.ticket.as_ref()?;
        let mut claim = ticket.claim(self.stage);
        claim.origin = self.origin.clone();
        Some(claim)
    }

    /// The dead letters that it is of end with the process: the events that they were stay on
    /// disk, for the next start.
    pub fn leave_origin(&self) {
        if let Some(Origin(hold)) = &self.origin {
            hold.is_left.set(true);
        }
    }

    /// Who waits for it, for the caller to tell. The events that dead letters were stay where
    /// they are on disk.
    pub fn take_answer(&mut self) -> Option<Claim> {
        Some(Claim {
            ticket: Some(self.ticket.take()?),
            stage: self.stage,
            origin: None,
        })
    }
}

impl Drop for Claim {
    /// A claim that is let go of by mistake must not leave its source waiting.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.release(Some(Failure::msg("nobody said what became of the events")));
        }
    }
}

/// The bytes of a part, which count in its sink's buffer for as long as this lives.
struct Hold {
    port: Rc<Port>,
    released: Cell<Option<Released>>,
    /// The events have arrived, and may be sent again.
    is_kept: Cell<bool>,
    /// The events stay on disk, for the next start.
    is_left: Cell<bool>,
}

impl Hold {
    fn keep(&self) {
        if let Some(released) = self.released.get() {
            self.is_kept.set(true);
            self.port.keep(released.bytes);
        }
    }
}

/// Where dead letters were on disk: their events stay there until the letters are as safe, for
/// their senders may have been told that they are.
struct Origin(Rc<Hold>);

impl Origin {
    fn new(hold: &Rc<Hold>) -> Origin {
        hold.port.pledge();
        Origin(Rc::clone(hold))
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        Origin::new(&self.0)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.0.port.redeem();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(released) = self.released.take() {
            if self.is_kept.get() {
                self.port.let_go(released.bytes);
            }
            match self.is_left.get() {
                true => self.port.settled(),
                false => self.port.release(released),
            }
        }
    }
}

/// The share of a batch that one sink gets.
pub struct Part {
    picked: Picked,
    /// Events from its start that have arrived.
    arrived: usize,
    open_events: u64,
    port: Rc<Port>,
    via: Option<Rc<Via>>,
    claim: Option<Claim>,
    hold: Option<Rc<Hold>>,
}

/// What a part is made of.
pub struct Making {
    /// The events.
    pub picked: Picked,
    /// What they count for in the buffer, in bytes.
    pub bytes: usize,
    /// Where they go.
    pub port: Rc<Port>,
    /// The pipeline they come from; none for dead letters, which have no dead letters.
    pub via: Option<Rc<Via>>,
    /// Who waits for them.
    pub claim: Option<Claim>,
    /// Where they are on disk.
    pub record: Option<Record>,
}

impl Part {
    /// A part that is about to be pushed, or that was read from a disk.
    pub fn new(making: Making) -> Part {
        let released = Released {
            bytes: making.bytes,
            record: making.record,
            memory: None,
        };
        Part {
            arrived: 0,
            open_events: making.picked.len() as u64,
            picked: making.picked,
            via: making.via,
            claim: making.claim,
            hold: Some(Rc::new(Hold {
                port: Rc::clone(&making.port),
                released: Cell::new(Some(released)),
                is_kept: Cell::new(false),
                is_left: Cell::new(false),
            })),
            port: making.port,
        }
    }

    /// What the events share.
    pub fn batch(&self) -> &Batch {
        &self.picked.batch
    }

    /// The indices of this sink's events in the batch; `None` is all of them.
    pub fn selection(&self) -> Option<&[u32]> {
        self.picked.selection.as_deref()
    }

    /// This sink's events, in order, without those at the start that have arrived.
    pub fn events(&self) -> impl Iterator<Item = &Event> + Clone {
        self.picked.events().skip(self.arrived)
    }

    /// Where the events are, when they are nothing but lines side by side, the newline of each
    /// included, and none of them has arrived.
    pub fn lines(&self) -> Option<Span> {
        (self.arrived == 0).then(|| self.picked.lines()).flatten()
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
        self.released().map_or(0, |released| released.bytes)
    }

    /// Where the part is on disk. As text it is the same for every time that these events are
    /// sent, over restarts too, and for no others.
    pub fn record(&self) -> Option<Record> {
        self.released().and_then(|released| released.record)
    }

    /// The name of the pipeline that the events came through; empty for dead letters.
    pub fn pipeline(&self) -> &str {
        self.via.as_ref().map_or("", |via| via.name())
    }

    fn released(&self) -> Option<Released> {
        self.hold.as_ref().and_then(|hold| hold.released.get())
    }

    /// All of its events have reached their destination.
    pub fn delivered(mut self) {
        self.book_delivered();
        self.close(None);
    }

    /// All of its events have reached their destination, but they may have to be sent again:
    /// their bytes stay in the sink's buffer, and a disk buffer keeps them, until the answer
    /// is dropped.
    pub fn delivered_keeping(mut self) -> Kept {
        self.book_delivered();
        let hold = self.hold.take();
        hold.iter().for_each(|hold| hold.keep());
        let (picked, arrived) = (self.picked.clone(), self.arrived);
        self.close(None);
        Kept {
            picked,
            arrived,
            hold,
        }
    }

    /// Takes the events out, as a batch of their own, to be handed to another reactor. The books
    /// still have them, until it is known what became of them there.
    pub fn take_batch(&mut self) -> Batch {
        let (picked, arrived) = (&mut self.picked, std::mem::take(&mut self.arrived));
        let nothing = Rc::new(picked.batch.without_events());
        let batch = std::mem::replace(&mut picked.batch, nothing);
        let selection = picked.selection.take();
        match Rc::try_unwrap(batch) {
            Ok(batch) if selection.is_none() && arrived == 0 => batch,
            Ok(batch) => Picked::new(Rc::new(batch), selection).copied(arrived),
            Err(batch) => Picked::new(batch, selection).copied(arrived),
        }
    }

    /// Its events are in the books of another reactor now. Gives the claim, which is to be
    /// released when that reactor says so.
    pub fn handed_over(mut self) -> Option<Claim> {
        let books = self.port.ledger();
        books.handed.add(self.open_events);
        books.in_flight.sub(self.open_events);
        self.open_events = 0;
        let claim = self.claim.take();
        self.close(None);
        claim
    }

    /// The other reactor has taken none of its events.
    pub fn turned_back(mut self, failure: Failure) {
        let refused = failure.downcast_ref().map(Refused::reason);
        let lost = || failure.downcast_ref().map(|lost: &Lost| &*lost.reason);
        let reason = refused.or_else(lost).unwrap_or(SHUTDOWN);
        if let Some(claim) = self.claim.as_ref().filter(|_| reason == SHUTDOWN) {
            claim.leave_origin();
        }
        self.port.ledger().dropped.add(reason, self.open_events);
        self.port.ledger().in_flight.sub(self.open_events);
        self.open_events = 0;
        self.close(Some(failure));
    }

    /// Who waits for the part, if anybody does.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The pipeline it came through, by which its dead letters go.
    pub fn via(&self) -> Option<&Rc<Via>> {
        self.via.as_ref()
    }

    fn book_delivered(&mut self) {
        let books = self.port.ledger();
        books.delivered.add(self.open_events);
        self.port.note_arrived(self.picked.batch().received);
        books.delivered_bytes.add(self.bytes() as u64);
        books.in_flight.sub(self.open_events);
        self.open_events = 0;
    }

    /// The first `events` of what is left have arrived; the rest is still to be settled.
    pub fn deliver_some(&mut self, events: u64) {
        self.deliver_all_but(self.open_events.saturating_sub(events));
    }

    /// Only the last `rest` events are still to be settled; those before them that were not
    /// dropped have arrived.
    pub fn deliver_all_but(&mut self, rest: u64) {
        let rest = rest.min(self.open_events);
        let events = self.open_events - rest;
        self.port.ledger().delivered.add(events);
        self.port.ledger().in_flight.sub(events);
        self.open_events = rest;
        self.arrived = self.picked.len() - rest as usize;
    }

    /// The destination takes none of what is left and never will: the events go to the dead
    /// letters of the pipeline that they came through, each with `reason`, its source, this
    /// sink and its original bytes. Where there are none they are dropped as `refused`, and
    /// the source of an acknowledged batch gets an error.
    pub fn refused(mut self, reason: &str) {
        let open: Vec<u32> = (0..self.open_events as u32).collect();
        self.refuse_some(&open, reason);
        self.close(None);
    }

    /// As [`Part::refused`], for those of what [`Part::events`] gives that stand at
    /// `positions`, in rising order. The others are still to be settled, and are all that
    /// [`Part::events`] gives from now on.
    pub fn refuse_some(&mut self, positions: &[u32], reason: &str) {
        let (refused, rest) = self.picked.divide(self.arrived, positions);
        let events = refused.len() as u64;
        let books = self.port.ledger();
        books.in_flight.sub(events);
        self.open_events -= events;
        (self.picked, self.arrived) = (rest, 0);
        let dead_letters = self.via.as_ref().and_then(|via| via.errors_to());
        let Some(port) = dead_letters else {
            books.dropped.add(REFUSED, events);
            return self.lost(events, reason);
        };
        books.dead_lettered.add(events);
        let letters = super::letter::of_sink(&refused, self.port.name(), reason);
        port.post(letters, self.letters_claim());
    }

    /// What letters of its events owe: who waits for the part waits for them too, and where the
    /// events are on disk they stay there for so long.
    fn letters_claim(&self) -> Option<Claim> {
        let claim = self.claim.as_ref().and_then(Claim::another);
        let hold = self.hold.as_ref().filter(|_| self.record().is_some());
        let Some(hold) = hold else { return claim };
        let none = Claim {
            ticket: None,
            stage: Stage::Durable,
            origin: None,
        };
        let mut claim = claim.unwrap_or(none);
        claim.origin = Some(Origin::new(hold));
        Some(claim)
    }

    /// All of its events are given up. The source of an acknowledged batch gets an error.
    pub fn dropped(mut self, reason: &'static str) {
        self.give_up(reason);
    }

    /// Some of its events cannot be brought to their destination and never will be; the rest
    /// is still to be settled. The source of an acknowledged batch gets an error.
    pub fn drop_some(&mut self, reason: &'static str, events: u64) {
        let events = events.min(self.open_events);
        self.port.ledger().dropped.add(reason, events);
        self.port.ledger().in_flight.sub(events);
        self.open_events -= events;
        if events > 0 {
            self.lost(events, reason);
        }
    }

    fn lost(&self, events: u64, reason: &str) {
        if let Some(claim) = &self.claim {
            claim.fail(self.failure(events, reason, true));
        }
    }

    fn failure(&self, events: u64, reason: &str, is_for_good: bool) -> Failure {
        Failure::new(Lost {
            sink: self.port.name().to_owned(),
            events,
            reason: reason.to_owned(),
            is_for_good,
        })
    }

    /// Makes the part what it is to be when it comes again: what is open of it. Where nobody
    /// knows which of its events were settled, all come again, and those count as accepted
    /// once more.
    pub(super) fn come_again(&mut self) {
        let rest = (self.picked.len() - self.arrived) as u64;
        let again = rest.saturating_sub(self.open_events);
        let books = self.port.ledger();
        books.accepted.add(again);
        books.in_flight.add(again);
        self.open_events += again;
        // On a disk the numbers of all its events belong to it.
        if self.arrived > 0 && self.record().is_none() {
            self.picked = self.picked.range(self.arrived, self.picked.len());
            self.arrived = 0;
        }
    }

    /// Given up by the queue that it is in, before the sink had it.
    pub fn evicted(self, reason: &'static str) {
        let books = self.port.ledger();
        books.buffered.sub(self.open_events);
        books.in_flight.add(self.open_events);
        self.dropped(reason);
    }

    /// As [`Part::evicted`], where no queue has taken it: it has no room to give back.
    pub(super) fn turned_away(self, reason: &'static str) {
        self.without_room().evicted(reason);
    }

    /// As [`Part::evicted`], for want of room: its source is told as if it had found none at once.
    pub fn crowded_out(mut self) {
        let books = self.port.ledger();
        books.buffered.sub(self.open_events);
        books.dropped.add(BUFFER_FULL, self.open_events);
        self.open_events = 0;
        let sink = self.port.name().to_owned();
        self.close(Some(Failure::new(Refused::BufferFull { sink })));
    }

    /// As [`Part::evicted`], where the queue will never have room for these events: to send
    /// them again is of no use.
    pub fn unfit(mut self, reason: &'static str) {
        let events = self.open_events;
        let books = self.port.ledger();
        books.buffered.sub(events);
        books.in_flight.add(events);
        self.drop_some(reason, events);
        self.close(None);
    }

    /// The claim, if it waits for no more than that the part is durable, for the caller to
    /// release.
    pub fn take_durable_claim(&mut self) -> Option<Claim> {
        self.claim.take_if(|claim| claim.stage == Stage::Durable)
    }

    /// As [`Part::take_durable_claim`], where the part cannot be made durable now: who waits is to
    /// be told, and the part goes on.
    pub fn take_durable_answer(&mut self) -> Option<Claim> {
        let claim = self.claim.as_mut();
        claim
            .filter(|claim| claim.stage == Stage::Durable)?
            .take_answer()
    }

    /// As [`Part::take_durable_answer`], where the part will never come any further.
    pub fn take_answer(&mut self) -> Option<Claim> {
        self.claim.as_mut()?.take_answer()
    }

    /// Says what is on disk now: its queue has written it there.
    pub fn set_record(&mut self, record: Record) {
        if let (Some(hold), Some(mut released)) = (&self.hold, self.released()) {
            released.record = Some(record);
            hold.released.set(Some(released));
        }
    }

    /// Counts in the memory of that number from now on; says whether it did not yet.
    pub fn count_in(&mut self, memory: u64) -> bool {
        let (Some(hold), Some(mut released)) = (&self.hold, self.released()) else {
            return false;
        };
        let is_new = released.memory.replace(memory) != Some(memory);
        hold.released.set(Some(released));
        is_new
    }

    /// The queue that it is in has taken it from its books: no room is given back for it.
    pub fn without_room(self) -> Part {
        if let Some(hold) = &self.hold {
            hold.released.set(None);
        }
        self
    }

    /// Lets go of the events, which are on disk and nowhere else from now on. The claim, if
    /// there still is one, is for whoever settles them.
    pub fn spilled(mut self) -> Option<Claim> {
        self.open_events = 0;
        self = self.without_room();
        self.hold = None;
        self.claim.take()
    }

    /// Lets go of the events, which are on disk for another start.
    pub fn left_on_disk(self) {
        if let Some(claim) = self.spilled() {
            claim.release(Some(Failure::msg(LEFT)));
        }
    }

    /// Parts of at most `events_max` events each, in order, for a queue that has no room for
    /// more in one piece. The bytes are shared out by the number of events.
    pub fn split(mut self, events_max: usize) -> Vec<Part> {
        let (events, bytes) = (self.picked.len(), self.bytes());
        debug_assert!(self.arrived == 0 && self.record().is_none());
        let starts = (0..events).step_by(events_max.max(1));
        let claim = self.claim.take();
        let parts = starts.map(|start| {
            let end = (start + events_max).min(events);
            Part::new(Making {
                picked: self.picked.range(start, end),
                bytes: bytes * end / events - bytes * start / events,
                port: Rc::clone(&self.port),
                via: self.via.clone(),
                claim: claim.as_ref().and_then(Claim::another),
                record: None,
            })
        });
        let parts = parts.collect();
        if let Some(claim) = claim {
            claim.release(None);
        }
        // What is left of it holds nothing: its parts hold it all.
        drop(self.spilled());
        parts
    }

    fn give_up(&mut self, reason: &'static str) {
        let events = self.open_events;
        self.port.ledger().dropped.add(reason, events);
        self.port.ledger().in_flight.sub(events);
        self.open_events = 0;
        if let Some(claim) = self.claim.as_ref().filter(|_| reason == SHUTDOWN) {
            claim.leave_origin();
        }
        let failure = self.failure(events, reason, false);
        self.close(Some(failure));
    }

    /// The books are done; the room comes second, the source last: who hears of it finds it so.
    fn close(&mut self, failure: Option<Failure>) {
        debug_assert_eq!(self.open_events, 0);
        drop(self.hold.take());
        self.port.settled();
        if let Some(claim) = self.claim.take() {
            claim.release(failure);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.open_events == 0 {
            if self.claim.is_some() || self.hold.is_some() {
                // All of its events were settled one by one, each in its way.
                self.close(None);
            }
            return;
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

/// The reason under which is counted what a destination refuses and nobody takes instead.
const REFUSED: &str = "refused";

/// Events that have arrived and may have to be sent again all the same.
pub struct Kept {
    picked: Picked,
    arrived: usize,
    hold: Option<Rc<Hold>>,
}

impl Kept {
    /// What the events share.
    pub fn batch(&self) -> &Batch {
        &self.picked.batch
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> + Clone {
        self.picked.events().skip(self.arrived)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.picked.len() - self.arrived
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they count for in the sink's buffer, in bytes.
    pub fn bytes(&self) -> usize {
        let released = self.hold.as_ref().and_then(|hold| hold.released.get());
        released.map_or(0, |released| released.bytes)
    }
}

/// The place of events in their sink's buffer when they have arrived and are kept, without the
/// events: whoever may have to send them again has them encoded.
pub struct KeptPlace {
    events: usize,
    hold: Option<Rc<Hold>>,
}

impl Kept {
    /// Lets go of the events and keeps their place.
    pub fn into_place(self) -> KeptPlace {
        KeptPlace {
            events: self.len(),
            hold: self.hold,
        }
    }
}

impl KeptPlace {
    /// How many events there are.
    pub fn events(&self) -> usize {
        self.events
    }

    /// What they count for in the sink's buffer, in bytes.
    pub fn bytes(&self) -> usize {
        let released = self.hold.as_ref().and_then(|hold| hold.released.get());
        released.map_or(0, |released| released.bytes)
    }
}

/// What is said of events that stay in a disk buffer when their source is still waiting.
pub const LEFT: &str = "left in the disk buffer, for the next start";
