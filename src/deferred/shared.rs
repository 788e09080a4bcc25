//! One result for several observers: a value that is cloned for each, or one failure for all.
//! Observers come and go one by one; the source is cancelled when the last one that waited has
//! cancelled. It is what lets several requests for one thing share one fetch.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::chain::{CancelHandle, Deferred};
use super::failure::{Failure, Place};
use super::link::Settled;
use super::promise::Promise;
use super::unhandled;

/// A result of which any number of observers get a clone; made by [`Deferred::shared`].
///
/// A cancelled observer leaves and the others stay; when the last one leaves so, the source is
/// cancelled. Handles of this type are not observers. A failure that no observer was there for
/// is logged when the last handle goes.
pub struct Shared<T: Clone + 'static> {
    inner: Rc<Inner<T>>,
}

/// Owned by the source's chain and by the handles.
struct Inner<T: Clone + 'static> {
    state: RefCell<State<T>>,
    /// An observer got the result.
    seen: Cell<bool>,
    source: CancelHandle,
    place: Place,
}

enum State<T: 'static> {
    Waiting(Vec<Promise<T>>),
    Fired(Result<T, Failure>),
}

impl<T: Clone + 'static> Deferred<T> {
    /// Lets several observers have the result.
    #[track_caller]
    pub fn shared(self) -> Shared<T> {
        let inner = Rc::new(Inner {
            state: RefCell::new(State::Waiting(Vec::new())),
            seen: Cell::new(false),
            source: self.canceller(),
            place: Location::caller(),
        });
        let observed = inner.clone();
        self.link(inner.place, move |result| {
            observed.fire(result);
            Settled::Now(Ok(()))
        });
        Shared { inner }
    }
}

impl<T: Clone + 'static> Shared<T> {
    /// A Deferred of its own for one more observer.
    #[track_caller]
    pub fn observe(&self) -> Deferred<T> {
        if let Some(result) = self.inner.result() {
            self.inner.seen.set(true);
            return Deferred::from(result);
        }
        let inner = Rc::downgrade(&self.inner);
        let (promise, deferred) = Deferred::with_canceller(move |_| {
            if let Some(inner) = inner.upgrade() {
                inner.leave();
            }
        });
        if let State::Waiting(observers) = &mut *self.inner.state.borrow_mut() {
            observers.push(promise);
        }
        deferred
    }

    /// Whether the result is there.
    pub fn is_fired(&self) -> bool {
        matches!(*self.inner.state.borrow(), State::Fired(_))
    }

    /// Cancels the source, for all observers.
    pub fn cancel(&self) {
        self.inner.source.cancel();
    }
}

impl<T: Clone + 'static> Inner<T> {
    fn fire(&self, result: Result<T, Failure>) {
        let fired = State::Fired(result.clone());
        let State::Waiting(observers) = self.state.replace(fired) else {
            return;
        };
        self.seen.set(!observers.is_empty());
        for promise in observers {
            promise.settle(result.clone());
        }
    }

    fn result(&self) -> Option<Result<T, Failure>> {
        match &*self.state.borrow() {
            State::Waiting(_) => None,
            State::Fired(result) => Some(result.clone()),
        }
    }

    /// Lets go of the observers that have cancelled.
    fn leave(&self) {
        let (gone, none_left) = match &mut *self.state.borrow_mut() {
            State::Waiting(observers) => {
                let gone = observers.extract_if(.., |promise| promise.is_cancelled());
                let gone: Vec<_> = gone.collect();
                (gone, observers.is_empty())
            }
            State::Fired(_) => (Vec::new(), false),
        };
        drop(gone);
        if none_left {
            self.source.cancel();
        }
    }
}

impl<T: Clone + 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        if let State::Fired(Err(failure)) = self.state.get_mut()
            && !self.seen.get()
        {
            unhandled::log_unhandled(failure, self.place, None);
        }
    }
}

impl<T: Clone + 'static> Clone for Shared<T> {
    fn clone(&self) -> Self {
        let inner = self.inner.clone();
        Shared { inner }
    }
}

impl<T: Clone + 'static> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.inner.state.borrow() {
            State::Waiting(observers) => write!(f, "Shared({} observers)", observers.len()),
            State::Fired(_) => f.write_str("Shared(fired)"),
        }
    }
}
