//! One link of a chain: a closure between an input and an output, in one allocation.
//!
//! A link waits for its input, is queued with it, runs once, and may then wait for the Deferred
//! that its closure returned. A panic in the closure becomes a failure.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use super::chain::Deferred;
use super::failure::{Failure, Place};
use super::node::{Node, Out, Sink, Source, State, pass};
use super::run::{Job, Next};

/// What a link may return: a result, a Deferred whose result becomes the link's, or nothing.
///
/// There are these three implementations and no other, so that inference and `?` work.
pub trait Link: sealed::Sealed {
    /// What the next link gets.
    type Out: 'static;
    #[doc(hidden)]
    fn settle(self) -> Settled<Self::Out>;
}

mod sealed {
    pub trait Sealed {}
    impl<U> Sealed for Result<U, super::Failure> {}
    impl<U: 'static> Sealed for super::Deferred<U> {}
    impl Sealed for () {}
}

/// What a link returned.
#[doc(hidden)]
#[allow(missing_debug_implementations)]
pub enum Settled<T: 'static> {
    Now(Result<T, Failure>),
    Later(Deferred<T>),
}

impl<U: 'static> Link for Result<U, Failure> {
    type Out = U;
    fn settle(self) -> Settled<U> {
        Settled::Now(self)
    }
}

impl<U: 'static> Link for Deferred<U> {
    type Out = U;
    fn settle(self) -> Settled<U> {
        Settled::Later(self)
    }
}

impl Link for () {
    type Out = ();
    fn settle(self) -> Settled<()> {
        Settled::Now(Ok(()))
    }
}

/// Runs foreign code; a panic becomes a failure.
pub(super) fn guarded<T>(place: Place, code: impl FnOnce() -> Settled<T>) -> Settled<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(settled) => settled,
        Err(panic) => Settled::Now(Err(Failure::of_panic(place, panic))),
    }
}

/// A link from a `T` to a `U`.
pub(super) struct LinkNode<T: 'static, U: 'static, F> {
    phase: RefCell<Phase<T, U, F>>,
    out: Out<U>,
}

enum Phase<T: 'static, U: 'static, F> {
    /// For the input.
    Waiting { up: Weak<dyn Source<T>>, handler: F },
    /// Has its input and is queued.
    Armed {
        input: Result<T, Failure>,
        handler: F,
    },
    /// For the Deferred that the handler returned.
    Inner { up: Weak<dyn Source<U>> },
    /// The handler runs, or the output has been handed on.
    Over,
}

impl<T, U, F> LinkNode<T, U, F>
where
    T: 'static,
    U: 'static,
    F: FnOnce(Result<T, Failure>) -> Settled<U> + 'static,
{
    /// A link that waits for the result of `up`.
    pub(super) fn waiting(up: &Rc<dyn Source<T>>, place: Place, handler: F) -> Rc<Self> {
        let up = Rc::downgrade(up);
        Self::new(Phase::Waiting { up, handler }, place)
    }

    /// A link that has its input.
    pub(super) fn armed(input: Result<T, Failure>, place: Place, handler: F) -> Rc<Self> {
        Self::new(Phase::Armed { input, handler }, place)
    }

    fn new(phase: Phase<T, U, F>, place: Place) -> Rc<Self> {
        Rc::new(LinkNode {
            phase: RefCell::new(phase),
            out: Out::new(State::Watched, place),
        })
    }

    fn call(&self, input: Result<T, Failure>, handler: F) -> Settled<U> {
        let place = self.out.place();
        let before = input.as_ref().err().cloned();
        let settled = guarded(place, || handler(input));
        match (settled, before) {
            (Settled::Now(Err(failure)), Some(before)) => {
                Settled::Now(Err(failure.after(before, place)))
            }
            (settled, _) => settled,
        }
    }

    /// The output is to be that of `inner`.
    fn adopt(self: Rc<Self>, inner: Deferred<U>) -> Next {
        let place = self.out.place();
        let up = inner.release();
        match up.out().take_or(State::Returned(self.clone())) {
            Some(result) => pass(self, result.map_err(|failure| failure.passed(place))),
            None => {
                let up = Rc::downgrade(&up);
                self.phase.replace(Phase::Inner { up });
                None
            }
        }
    }
}

impl<T, U, F> Job for LinkNode<T, U, F>
where
    T: 'static,
    U: 'static,
    F: FnOnce(Result<T, Failure>) -> Settled<U> + 'static,
{
    fn run(self: Rc<Self>) -> Next {
        let Phase::Armed { input, handler } = self.phase.replace(Phase::Over) else {
            return None;
        };
        match self.call(input, handler) {
            Settled::Now(result) => pass(self, result),
            Settled::Later(inner) => self.adopt(inner),
        }
    }
}

impl<T, U, F> Sink<T> for LinkNode<T, U, F>
where
    T: 'static,
    U: 'static,
    F: FnOnce(Result<T, Failure>) -> Settled<U> + 'static,
{
    fn accept(&self, input: Result<T, Failure>) {
        let mut phase = self.phase.borrow_mut();
        if let Phase::Waiting { handler, .. } = std::mem::replace(&mut *phase, Phase::Over) {
            *phase = Phase::Armed { input, handler };
        }
    }
}

impl<T: 'static, U: 'static, F: 'static> Node for LinkNode<T, U, F> {
    fn cancel_step(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        self.waits_for()
    }

    fn waits_for(&self) -> Option<Rc<dyn Node>> {
        match &*self.phase.borrow() {
            Phase::Waiting { up, .. } => up.upgrade().map(|up| up as Rc<dyn Node>),
            Phase::Inner { up } => up.upgrade().map(|up| up as Rc<dyn Node>),
            Phase::Armed { .. } | Phase::Over => None,
        }
    }

    fn is_open(&self) -> bool {
        !self.out.is_fired()
    }

    fn label(&self) -> String {
        self.out.label()
    }
}

impl<T: 'static, U: 'static, F: 'static> Source<U> for LinkNode<T, U, F> {
    fn out(&self) -> &Out<U> {
        &self.out
    }

    fn settled(&self) {
        self.phase.replace(Phase::Over);
    }
}
