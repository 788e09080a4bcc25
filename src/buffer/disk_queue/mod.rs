//! A sink's buffer on disk, as its port sees it: parts go in, are made durable, and come out.
//!
//! The log of [`super::disk`] does the writing, in jobs on storage threads: one that writes, one
//! that reads, one that notes what is delivered, each at most once at a time. `state.rs` knows
//! which events are where; this file moves parts between the port, that state and the jobs
//! (`lanes.rs`, with `write.rs`, `read.rs` and `keep.rs`).
//!
//! A part keeps its memory until it is durable, so a failed write loses nothing: it is written
//! again. Group commit needs no timer: while one commit is synced, the next one gathers. A full
//! disk, or buffer, is tried again when room was made; a failing one is tried again every five
//! seconds, and meanwhile nothing is acknowledged.
//!
//! Claims and parts are settled, and the port is called, with no borrow held.

mod acked;
mod keep;
mod lanes;
mod read;
mod state;
mod write;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Promise};
use crate::event::codec;
use crate::pipeline::letter::Vias;
use crate::pipeline::memory::Memory;
use crate::pipeline::part::{Claim, LEFT, Part, Refused};
use crate::pipeline::port::Port;
use crate::pipeline::queue::{EVICTED, Queue, Released, WhenFull};
use crate::time::Scheduler;

use super::disk::{Opened, Settings, Sizer};
use lanes::Lanes;
use state::State;

pub use lanes::{Done, Submit};

/// What a disk queue is made of.
pub struct Making {
    /// The sink's name.
    pub name: Rc<str>,
    /// The log.
    pub opened: Opened,
    /// How the log was opened.
    pub settings: Settings,
    /// Memory that parts may take on their way in, and again on their way out, in bytes.
    pub memory_bytes: usize,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// The budget in which payloads count.
    pub memory: Memory,
    /// The pipelines, for events that were read.
    pub vias: Vias,
    /// Timers, and calls from the turn.
    pub scheduler: Rc<dyn Scheduler>,
    /// Runs a job on a storage thread.
    pub submit: Submit,
}

/// A queue that survives the end of the process and of the machine.
pub struct DiskQueue(Rc<Inner>);

struct Inner {
    this: Weak<Inner>,
    name: Rc<str>,
    settings: Cell<Settings>,
    sizer: Sizer,
    memory_bytes: Cell<usize>,
    when_full: Cell<WhenFull>,
    memory: Memory,
    vias: Vias,
    scheduler: Rc<dyn Scheduler>,
    submit: Submit,
    port: RefCell<Weak<Port>>,
    state: RefCell<State>,
    lanes: RefCell<Lanes>,
    names: RefCell<codec::NameCache>,
    recovered_events: u64,
    /// What the files take, in bytes, as of the last job.
    used_bytes: Cell<u64>,
    failure: RefCell<Option<Rc<str>>>,
    /// A part of the log is gone with its job: the failure is for good.
    is_lost: Cell<bool>,
    closing: RefCell<Closing>,
}

/// How far the end has come.
enum Closing {
    Open,
    /// The promises fire when the last job has ended.
    Asked(Vec<Promise<()>>),
    Closed,
}

impl DiskQueue {
    /// A queue over a log that was opened.
    pub fn new(making: Making) -> DiskQueue {
        let Opened {
            writer,
            reader,
            keeper,
            recovered,
            sizer,
        } = making.opened;
        let half = making.memory_bytes / 2;
        let lanes = Lanes::new(writer, reader, keeper, &recovered);
        DiskQueue(Rc::new_cyclic(|this| Inner {
            this: Weak::clone(this),
            name: making.name,
            settings: Cell::new(making.settings),
            sizer,
            memory_bytes: Cell::new(half),
            when_full: Cell::new(making.when_full),
            memory: making.memory,
            vias: making.vias,
            scheduler: making.scheduler,
            submit: making.submit,
            port: RefCell::default(),
            state: RefCell::new(State::new(&recovered, half)),
            lanes: RefCell::new(lanes),
            names: RefCell::default(),
            recovered_events: recovered.events,
            used_bytes: Cell::new(recovered.used_bytes),
            failure: RefCell::default(),
            is_lost: Cell::new(false),
            closing: RefCell::new(Closing::Open),
        }))
    }
}

impl Queue for DiskQueue {
    fn attach(&self, port: &Rc<Port>) {
        *self.0.port.borrow_mut() = Rc::downgrade(port);
        port.ledger().recovered.add(self.0.recovered_events);
        port.ledger().buffered.add(self.0.recovered_events);
        self.0.advance();
    }

    fn fits(&self, bytes: usize) -> bool {
        let inner = &self.0;
        let state = inner.state.borrow();
        if inner.is_closing() || inner.lanes.borrow().is_full {
            return false;
        }
        !state.has_unwritten()
            || state.unwritten_bytes.saturating_add(bytes) <= inner.memory_bytes.get()
    }

    fn push(&self, part: Part) {
        for (part, bytes_max) in self.0.cut(part) {
            self.0.take_in(part, bytes_max);
        }
        if self.0.is_lost.get() {
            self.0.refuse_waiting();
        }
        self.0.advance();
    }

    fn pop(&self) -> Option<Part> {
        if self.0.is_closing() {
            return None;
        }
        let part = self.0.state.borrow_mut().pop();
        self.0.advance();
        part
    }

    fn take_back(&self, part: Part) {
        self.0.state.borrow_mut().take_back(part);
    }

    fn release(&self, released: Released) {
        let Some(record) = released.record else {
            return;
        };
        let end = record.first_seq + u64::from(record.count);
        self.0.state.borrow_mut().acked.add(record.first_seq, end);
        self.0.lanes.borrow_mut().note_acked(released.bytes);
        self.0.advance();
    }

    /// The room is made by a job, if by anything: the port hears of it.
    fn make_room(&self, _: usize) -> bool {
        self.0.advance();
        false
    }

    fn resize(&self, memory_bytes: usize, disk_bytes: Option<u64>) {
        let inner = &self.0;
        inner.memory_bytes.set(memory_bytes / 2);
        let mut state = inner.state.borrow_mut();
        state.set_ready_bytes_max(memory_bytes / 2);
        // What is on its way in was cut for the size that was, and must fit all the same.
        let largest = state.largest_unwritten_bytes() as u64;
        drop(state);
        if let Some(disk_bytes) = disk_bytes {
            inner.sizer.resize(disk_bytes.max(largest * 4));
            inner.settings.set(inner.sizer.settings());
            inner.has_room();
        }
        inner.advance();
    }

    fn set_when_full(&self, when_full: WhenFull) {
        self.0.when_full.set(when_full);
    }

    fn let_go_of_delivered(&self) {
        self.0.let_go_of_all();
    }

    fn is_empty(&self) -> bool {
        let state = self.0.state.borrow();
        !state.has_unwritten() && state.acked.through() >= state.next_seq
    }

    fn held_bytes(&self) -> u64 {
        self.0.used_bytes.get() + self.0.state.borrow().unwritten_bytes as u64
    }

    fn capacity_bytes(&self) -> u64 {
        self.0.settings.get().size_bytes
    }

    fn volatile_events(&self, _: &Port) -> u64 {
        self.0.state.borrow().unwritten_events()
    }

    fn abandon(&self, _: &Rc<Port>, reason: &'static str) {
        let parts = self.0.state.borrow_mut().take_unwritten();
        parts.into_iter().for_each(|part| part.evicted(reason));
    }

    fn is_disk(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<Rc<str>> {
        self.0.failure.borrow().clone()
    }

    fn close(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        {
            let closing = &mut *self.0.closing.borrow_mut();
            match closing {
                Closing::Closed => return Deferred::ready(()),
                Closing::Asked(promises) => {
                    promises.push(promise);
                    return deferred;
                }
                Closing::Open => *closing = Closing::Asked(vec![promise]),
            }
        }
        self.0.leave();
        self.0.advance();
        deferred
    }
}

impl Inner {
    fn is_closing(&self) -> bool {
        !matches!(*self.closing.borrow(), Closing::Open)
    }

    /// Everything stays on disk: whoever waits for more is told.
    fn leave(&self) {
        let kept_seq = self.lanes.borrow().kept_seq;
        let (claims, gone) = self.state.borrow_mut().leave(kept_seq);
        gone.into_iter().for_each(|part| part.evicted(EVICTED));
        release(claims.into_iter(), Some(&Failure::msg(LEFT)));
    }

    fn port(&self) -> Option<Rc<Port>> {
        self.port.borrow().upgrade()
    }

    /// Parts of which each is one record, with the most that its payload takes, in bytes. An
    /// event that no record can hold is dropped.
    fn cut(&self, part: Part) -> Vec<(Part, usize)> {
        let max = self.settings.get().payload_bytes_max();
        let (mut todo, mut done) = (vec![part], Vec::new());
        while let Some(part) = todo.pop() {
            let bytes = codec::encoded_bytes_max(part.batch(), part.selection(), part.pipeline());
            if bytes <= max {
                done.push((part, bytes));
            } else if part.len() == 1 {
                part.unfit(TOO_LARGE);
            } else {
                let half = part.len().div_ceil(2) as usize;
                todo.extend(part.split(half).into_iter().rev());
            }
        }
        done
    }

    fn take_in(&self, mut part: Part, bytes_max: usize) {
        let mut payload = Vec::with_capacity(bytes_max);
        codec::encode(
            part.batch(),
            part.selection(),
            part.pipeline(),
            &mut payload,
        );
        let payload = self.memory.hold(Bytes::from(payload));
        // A planted bug, for the tests of durability to find: what is in memory is not on disk.
        let early = if cfg!(sim_bug = "early_ack") {
            part.take_durable_claim()
        } else {
            None
        };
        self.state.borrow_mut().push(part, payload);
        release(early.into_iter(), None);
    }

    /// Events that were on disk are gone: books them, and tells who waits for them.
    fn lost(&self, events: u64, claims: Vec<Claim>, reason: &'static str) {
        if let Some(port) = self.port() {
            port.ledger().buffered.sub(events);
            port.ledger().dropped.add(reason, events);
            port.settled();
        }
        let text = format!("sink {} lost the events: {reason}", self.name);
        release(claims.into_iter(), Some(&Failure::msg(text)));
    }

    /// Everything below `upto_seq` is on disk no more.
    fn evicted(&self, upto_seq: u64) {
        let (ready, on_disk, claims) = {
            let mut state = self.state.borrow_mut();
            let ready = state.ready_below(upto_seq);
            let left = state.left_below(upto_seq);
            let on_disk = upto_seq.saturating_sub(state.read_seq) + left;
            let (first, claims) = (state.read_seq, state.claims_below(upto_seq));
            state.read_seq = first.max(upto_seq);
            state.acked.add(first.min(upto_seq), upto_seq);
            (ready, on_disk, claims)
        };
        ready.into_iter().for_each(|part| part.evicted(EVICTED));
        self.lost(on_disk, claims, EVICTED);
    }

    /// Nothing can be made durable: whoever waits for that is told, and may send again.
    fn fail(&self, why: String) {
        *self.failure.borrow_mut() = Some(why.into());
        self.refuse_waiting();
    }

    /// Where the failure is for good, so is it for who waits for more than durability.
    fn refuse_waiting(&self) {
        let claims = match self.is_lost.get() {
            true => self.state.borrow_mut().take_answers(),
            false => self.state.borrow_mut().take_durable_answers(),
        };
        let sink = self.name.to_string();
        let failure = Failure::new(Refused::StorageFailed { sink });
        release(claims.into_iter(), Some(&failure));
    }
}

fn release(claims: impl Iterator<Item = Claim>, failure: Option<&Failure>) {
    claims.for_each(|claim| claim.release(failure.cloned()));
}

/// The reason under which an event is counted that is larger than a record may be.
const TOO_LARGE: &str = "too_large";
