//! The way to a sink or a pipeline that another reactor has: a sink that hands over.
//!
//! Parts leave in order. One is in the books here until the other reactor has it in its own, and
//! its room is taken for so long; the claim on it stays here, and is released when the other one
//! says that the events have come as far as they must. What is not yet in the books there is
//! bounded by [`BYTES_MAX`] and [`PARTS_MAX`]: so are the mailboxes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::deferred::{Deferred, Failure, Promise};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::part::{Claim, Lost, Part, Stage};
use crate::pipeline::port::Inlet;
use crate::pipeline::queue::SHUTDOWN;

use super::{Crew, Errand, Sent};

/// Bytes on their way to another reactor, for each relay.
const BYTES_MAX: usize = 4 << 20;
/// Parts on their way to another reactor, for each relay.
const PARTS_MAX: usize = 64;

/// What is handed over to, by its name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A sink.
    Sink(Arc<str>),
    /// A pipeline with a step that remembers.
    Pipeline(Arc<str>),
}

/// The sink.
pub struct Relay {
    crew: Rc<Crew>,
    owner: usize,
    target: Target,
    way: Option<Rc<Way>>,
}

impl Relay {
    /// Hands what it takes over to `target`, which the reactor at `owner` has.
    pub fn new(crew: &Rc<Crew>, owner: usize, target: Target) -> Relay {
        Relay {
            crew: Rc::clone(crew),
            owner,
            target,
            way: None,
        }
    }
}

impl Sink for Relay {
    fn start(&mut self, inlet: Inlet, _: &Resources) -> Result<Vec<String>, Failure> {
        let way = Rc::new(Way {
            number: self.crew.next_number(),
            crew: Rc::clone(&self.crew),
            owner: self.owner,
            target: self.target.clone(),
            inlet: inlet.clone(),
            sent: RefCell::default(),
            sent_bytes: Cell::new(0),
            claims: RefCell::default(),
            is_stopping: Cell::new(false),
            stopped: RefCell::default(),
        });
        self.crew.add_way(&way);
        let taking = Rc::clone(&way);
        inlet.on_ready(move || taking.pump());
        self.way = Some(way);
        Ok(Vec::new())
    }

    /// Fires when the other reactor has all that was sent.
    fn stop(&mut self) -> Deferred<()> {
        let Some(way) = self.way.take() else {
            return Deferred::ready(());
        };
        way.inlet.give_back(std::iter::empty());
        let (promise, stopped) = Deferred::new();
        way.is_stopping.set(true);
        *way.stopped.borrow_mut() = Some(promise);
        way.end();
        stopped
    }
}

/// What a relay shares with those who answer it.
pub(super) struct Way {
    /// By which answers find it.
    pub(super) number: u64,
    crew: Rc<Crew>,
    owner: usize,
    target: Target,
    inlet: Inlet,
    /// Not in the books of the other reactor, as far as is known.
    sent: RefCell<BTreeMap<u64, Part>>,
    sent_bytes: Cell<usize>,
    /// In its books, and not as far as they must come.
    claims: RefCell<BTreeMap<u64, Claim>>,
    is_stopping: Cell<bool>,
    stopped: RefCell<Option<Promise<()>>>,
}

impl Way {
    fn has_room(&self) -> bool {
        self.sent_bytes.get() < BYTES_MAX && self.sent.borrow().len() < PARTS_MAX
    }

    fn pump(&self) {
        while self.has_room() {
            let Some(part) = self.inlet.next() else {
                return;
            };
            self.send(part);
        }
    }

    fn send(&self, mut part: Part) {
        let number = self.crew.next_number();
        let claim = part.claim();
        let sent = Sent {
            from: self.crew.seat().index,
            way: self.number,
            number,
            target: self.target.clone(),
            stage: claim.map_or(Stage::Received, Claim::stage),
            patience: claim.and_then(Claim::patience),
            via: part.via().map(|via| via.name().into()),
            batch: part.take_batch(),
        };
        self.sent_bytes.set(self.sent_bytes.get() + part.bytes());
        self.sent.borrow_mut().insert(number, part);
        if !self.crew.tell(self.owner, Errand::Sent(Box::new(sent))) {
            self.admitted(number, Err(Failure::msg("its reactor has ended")));
        }
    }

    /// The other reactor has the part in its books, or will not have it.
    pub(super) fn admitted(&self, number: u64, result: Result<(), Failure>) {
        let part = self.sent.borrow_mut().remove(&number);
        let Some(part) = part else { return };
        self.sent_bytes.set(self.sent_bytes.get() - part.bytes());
        match result {
            Ok(()) => {
                let claim = part.handed_over();
                let mut claims = self.claims.borrow_mut();
                claims.extend(claim.map(|claim| (number, claim)));
            }
            Err(failure) => part.turned_back(failure),
        }
        self.pump();
        self.end();
    }

    /// The part has come as far as it must, or has failed.
    pub(super) fn settled(&self, number: u64, result: Result<(), Failure>) {
        let claim = self.claims.borrow_mut().remove(&number);
        if let Some(claim) = claim {
            if result.as_ref().is_err_and(is_of_the_stop) {
                claim.leave_origin();
            }
            claim.release(result.err());
        }
        self.end();
    }

    /// Once it is stopped: fires when nothing is on its way, and is forgotten when nobody waits
    /// for it any more.
    fn end(&self) {
        if !self.is_stopping.get() || !self.sent.borrow().is_empty() {
            return;
        }
        let promise = self.stopped.borrow_mut().take();
        if self.claims.borrow().is_empty() {
            self.crew.forget_way(self.number);
        }
        if let Some(promise) = promise {
            promise.callback(());
        }
    }
}

/// Whether the events ended with the process.
fn is_of_the_stop(failure: &Failure) -> bool {
    let lost: Option<&Lost> = failure.downcast_ref();
    lost.is_some_and(|lost| lost.reason == SHUTDOWN)
}
