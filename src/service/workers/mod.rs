//! The daemon's reactors (`daemon.workers`): what they have in common, and what they say to each
//! other.
//!
//! Each is a thread with a [`Daemon`] of its own, and shares nothing with the others: they all
//! listen where the configuration says, and each has its own connections to the sinks. What there
//! is one of has one owner (`seat`), to whom the others hand their batches (`relay`, `reception`).
//! What is to happen on all of them (a report, a reload, a stop) is an order of the first one.
//! `thread` is the life of the others.
//!
//! Everything crosses by mailbox ([`Errand`]); nothing is locked on the way of an event.

pub(super) mod change;
pub(super) mod pulse;
mod reception;
mod relay;
mod report;
mod seat;
mod stop;
pub(super) mod thread;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::deferred::{Deferred, Failure, Promise, join_all};
use crate::event::Batch;
use crate::pipeline::part::Stage;
use crate::reactor::{Handle, Sender};
use crate::time::Duration;

pub use relay::{Relay, Target};
pub use seat::Seat;

use super::assembly::Daemon;
use reception::Reception;
use relay::Way;

/// What one reactor says to another.
pub enum Errand {
    /// Events for something that is there.
    Sent(Box<Sent>),
    /// They are in the books there, or are not and why.
    Admitted(Answer),
    /// They have come as far as they must, or have failed.
    Settled(Answer),
    /// Something to be done there.
    Order(Box<dyn FnOnce(&Rc<Crew>, &Rc<Daemon>) + Send>),
    /// What came of an order.
    Done(u64, Box<dyn Any + Send>),
}

/// Events that are handed over.
pub struct Sent {
    from: usize,
    way: u64,
    number: u64,
    target: Target,
    batch: Batch,
    stage: Stage,
    patience: Option<Duration>,
    via: Option<Arc<str>>,
}

/// What became of [`Sent`].
pub struct Answer {
    way: u64,
    number: u64,
    result: Result<(), Failure>,
}

/// All reactors, as one of them sees them.
pub struct Crew {
    seat: Seat,
    /// None where one is alone.
    all: OnceCell<Arc<[Sender<Errand>]>>,
    daemon: RefCell<Weak<Daemon>>,
    numbers: Cell<u64>,
    /// What is waited for from others.
    asked: RefCell<BTreeMap<u64, Box<dyn FnOnce(Box<dyn Any + Send>)>>>,
    ways: RefCell<BTreeMap<u64, Rc<Way>>>,
    reception: Reception,
    /// All of them are stopping: nothing new is begun.
    is_draining: Cell<bool>,
    /// The first one has no more use for this one.
    is_dismissed: Cell<bool>,
    waiting_for_dismissal: RefCell<Vec<Promise<()>>>,
}

impl Crew {
    /// The only reactor.
    pub fn alone() -> Rc<Crew> {
        Crew::at(Seat::ALONE)
    }

    fn at(seat: Seat) -> Rc<Crew> {
        Rc::new(Crew {
            seat,
            all: OnceCell::new(),
            daemon: RefCell::default(),
            numbers: Cell::new(0),
            asked: RefCell::default(),
            ways: RefCell::default(),
            reception: Reception::default(),
            is_draining: Cell::new(false),
            is_dismissed: Cell::new(false),
            waiting_for_dismissal: RefCell::default(),
        })
    }

    /// The reactor at `seat`, which is this thread's; the answer is what the others reach it by.
    pub fn join(seat: Seat, reactor: &Handle) -> (Rc<Crew>, Sender<Errand>) {
        let crew = Crew::at(seat);
        let receiver = Rc::clone(&crew);
        let sender = reactor.mailbox(move |errand| receiver.receive(errand));
        (crew, sender)
    }

    /// These are all of them, by their seats.
    pub fn meet(&self, all: Arc<[Sender<Errand>]>) {
        debug_assert_eq!(all.len(), self.seat.count);
        // Once, when all have joined.
        let _ = self.all.set(all);
    }

    /// What runs here.
    pub fn attach(&self, daemon: &Rc<Daemon>) {
        *self.daemon.borrow_mut() = Rc::downgrade(daemon);
    }

    /// Which of them this one is.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// The seats of all but this one.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.seat.index;
        (0..self.seat.count).filter(move |seat| *seat != me)
    }

    /// Has `order` carried out by the daemon at `seat`, and fires with what came of it. Fails
    /// when its reactor has ended.
    pub fn ask<T: Send + 'static>(
        self: &Rc<Self>,
        seat: usize,
        order: impl FnOnce(&Rc<Daemon>) -> Deferred<T> + Send + 'static,
    ) -> Deferred<T> {
        if seat == self.seat.index {
            let daemon = self.daemon.borrow().upgrade();
            return daemon.map_or_else(|| Deferred::failed(gone(seat)), |daemon| order(&daemon));
        }
        let (promise, deferred) = Deferred::new();
        let number = self.next_number();
        let hear = move |answer: Box<dyn Any + Send>| match answer.downcast() {
            Ok(result) => drop(promise.settle(*result)),
            Err(_) => debug_assert!(false, "an answer is of its question's type"),
        };
        self.asked.borrow_mut().insert(number, Box::new(hear));
        let asker = self.seat.index;
        let order = move |crew: &Rc<Crew>, daemon: &Rc<Daemon>| {
            let crew = Rc::clone(crew);
            drop(order(daemon).add_both(move |result: Result<T, Failure>| {
                crew.tell(asker, Errand::Done(number, Box::new(result)));
            }));
        };
        if !self.tell(seat, Errand::Order(Box::new(order))) {
            self.receive(Errand::Done(number, Box::new(Err::<T, _>(gone(seat)))));
        }
        deferred
    }

    /// As [`Crew::ask`], of every other one.
    pub fn ask_others<T: Send + 'static>(
        self: &Rc<Self>,
        order: impl Fn(&Rc<Daemon>) -> Deferred<T> + Clone + Send + 'static,
    ) -> Vec<Deferred<T>> {
        let asked = self.others().map(|seat| self.ask(seat, order.clone()));
        asked.collect()
    }

    /// As [`Crew::ask`], of every one, by their seats.
    pub fn ask_all<T: Send + 'static>(
        self: &Rc<Self>,
        order: impl Fn(&Rc<Daemon>) -> Deferred<T> + Clone + Send + 'static,
    ) -> Vec<Deferred<T>> {
        let asked = (0..self.seat.count).map(|seat| self.ask(seat, order.clone()));
        asked.collect()
    }

    /// Has `act` called on every one; fires when all have, or have ended.
    pub fn on_all(
        self: &Rc<Self>,
        act: impl Fn(&Rc<Daemon>) + Clone + Send + 'static,
    ) -> Deferred<()> {
        let acted = self.ask_all(move |daemon| {
            act(daemon);
            Deferred::ready(())
        });
        join_all(acted).add_both(|_| ())
    }

    fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Says whether it will be heard.
    fn tell(&self, seat: usize, errand: Errand) -> bool {
        let sender = self.all.get().and_then(|all| all.get(seat));
        sender.is_some_and(|sender| sender.send(errand).is_ok())
    }

    fn add_way(&self, way: &Rc<Way>) {
        self.ways.borrow_mut().insert(way.number, Rc::clone(way));
    }

    fn forget_way(&self, number: u64) {
        let way = self.ways.borrow_mut().remove(&number);
        drop(way);
    }

    fn way(&self, number: u64) -> Option<Rc<Way>> {
        self.ways.borrow().get(&number).cloned()
    }

    fn receive(self: &Rc<Self>, errand: Errand) {
        let daemon = self.daemon.borrow().upgrade();
        match (errand, daemon) {
            (Errand::Sent(sent), Some(daemon)) => self.take(*sent, &daemon),
            (Errand::Admitted(answer), _) => {
                if let Some(way) = self.way(answer.way) {
                    way.admitted(answer.number, answer.result);
                }
            }
            (Errand::Settled(answer), _) => {
                if let Some(way) = self.way(answer.way) {
                    way.settled(answer.number, answer.result);
                }
            }
            (Errand::Order(order), Some(daemon)) => order(self, &daemon),
            (Errand::Done(number, answer), _) => {
                let hear = self.asked.borrow_mut().remove(&number);
                if let Some(hear) = hear {
                    hear(answer);
                }
            }
            // It could not be made, and ends.
            (Errand::Sent(_) | Errand::Order(_), None) => {}
        }
    }
}

fn gone(seat: usize) -> Failure {
    Failure::msg(format!("worker {seat} has ended"))
}
