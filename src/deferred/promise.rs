//! The producer's end: [`Promise`], and the root node under it, which knows what to do when
//! the consumer cancels. A root is fired once: by the producer, by the canceller in its time,
//! or with `Cancelled`. Whoever comes later is told so by a value, never by a panic.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use super::chain::Deferred;
use super::failure::{Failure, Place, panic_message};
use super::kinds::{BrokenPromise, Cancelled};
use super::node::{Node, Out, Source, State, pass};
use super::{run, unhandled};

/// The right to fire a [`Deferred`], once.
///
/// Firing consumes it, so a second firing does not compile:
/// ```compile_fail,E0382
/// let (promise, deferred) = marline::deferred::Deferred::<u32>::new();
/// promise.callback(1);
/// promise.callback(2);
/// ```
/// ```compile_fail,E0382
/// let (promise, deferred) = marline::deferred::Deferred::<u32>::new();
/// promise.callback(1);
/// promise.errback(std::fmt::Error);
/// ```
/// ```compile_fail,E0382
/// let (promise, deferred) = marline::deferred::Deferred::<u32>::new();
/// promise.errback(std::fmt::Error);
/// promise.callback(1);
/// ```
/// ```compile_fail,E0382
/// let (promise, deferred) = marline::deferred::Deferred::<u32>::new();
/// promise.errback(std::fmt::Error);
/// promise.errback(std::fmt::Error);
/// ```
/// Keep it in an `Option` and `take` it where several events may be the one that ends the wait.
/// Dropped unfired, it fires [`BrokenPromise`].
pub struct Promise<T: 'static> {
    root: Option<Rc<Root<T>>>,
    right: Right,
}

/// What became of a firing. To be ignored where the producer does not care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The result is the Deferred's.
    Accepted,
    /// The consumer had cancelled; the result was dropped.
    Cancelled,
}

impl Fired {
    /// Whether the result was taken.
    pub fn is_accepted(self) -> bool {
        self == Fired::Accepted
    }

    /// For `?`.
    pub fn into_result(self) -> Result<(), Cancelled> {
        match self {
            Fired::Accepted => Ok(()),
            Fired::Cancelled => Err(Cancelled),
        }
    }
}

/// Whose promise it is: the producer's, or the one that a canceller was given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Producer,
    Canceller,
}

/// The first node of a chain.
pub(super) struct Root<T: 'static> {
    out: Out<T>,
    stage: Cell<Stage>,
    on_cancel: Cell<OnCancel<T>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the producer.
    Open,
    /// Told to stop, and waits for what the producer makes of it.
    Interrupted,
    /// The canceller is running and has the right to fire.
    Cancelling,
    /// Fired, by the producer.
    Fired,
    /// Fired, because the consumer cancelled.
    Cancelled,
}

/// What a cancellation does.
#[derive(Default)]
pub(super) enum OnCancel<T: 'static> {
    /// Fire `Cancelled`.
    #[default]
    Fire,
    /// Call this once; fire `Cancelled` if it did not fire.
    Call(Box<dyn FnOnce(Promise<T>)>),
    /// Call this each time; the producer fires when it has stopped.
    Tell(Rc<dyn Fn()>),
}

/// A promise and its Deferred, with what a cancellation does.
pub(super) fn pair<T: 'static>(place: Place, on_cancel: OnCancel<T>) -> (Promise<T>, Deferred<T>) {
    let root = Rc::new(Root {
        out: Out::new(State::Watched, place),
        stage: Cell::new(Stage::Open),
        on_cancel: Cell::new(on_cancel),
    });
    let deferred = Deferred::of(root.clone());
    let promise = Promise {
        root: Some(root),
        right: Right::Producer,
    };
    (promise, deferred)
}

impl<T: 'static> Promise<T> {
    /// Fires with a value. The links run before this returns, except from inside a running
    /// link, where they run when that has returned.
    pub fn callback(mut self, value: T) -> Fired {
        self.fire(Ok(value))
    }

    /// Fires with a failure; see [`Promise::callback`].
    #[track_caller]
    pub fn errback(mut self, failure: impl Into<Failure>) -> Fired {
        self.fire(Err(failure.into()))
    }

    /// Fires with either; see [`Promise::callback`].
    pub fn settle(mut self, result: Result<T, Failure>) -> Fired {
        self.fire(result)
    }

    /// Whether the consumer has cancelled, so that the work can stop early.
    pub fn is_cancelled(&self) -> bool {
        let stage = self.root.as_ref().map(|root| root.stage.get());
        match self.right {
            Right::Producer => !matches!(stage, Some(Stage::Open)),
            Right::Canceller => !matches!(stage, Some(Stage::Cancelling)),
        }
    }

    /// Whether nobody will see the result: the Deferred was dropped without a link.
    pub fn is_abandoned(&self) -> bool {
        self.root.as_ref().is_none_or(|root| root.out.is_detached())
    }

    fn fire(&mut self, result: Result<T, Failure>) -> Fired {
        match self.root.take() {
            Some(root) if root.claim(self.right) => {
                run::enter(|| pass(root, result));
                Fired::Accepted
            }
            _ => Fired::Cancelled,
        }
    }
}

impl<T: 'static> Drop for Promise<T> {
    fn drop(&mut self) {
        let Some(root) = self.root.take() else { return };
        if self.right == Right::Producer && root.claim(self.right) {
            let place = root.out.place();
            let broken = Failure::at(place, BrokenPromise { place });
            run::enter(|| pass(root, Err(broken)));
        }
    }
}

impl<T: 'static> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.root.as_ref().map(|root| root.label());
        write!(f, "Promise({})", label.unwrap_or_default())
    }
}

impl<T: 'static> Root<T> {
    /// Whether the holder of `right` may fire now; if so it has fired.
    fn claim(&self, right: Right) -> bool {
        let fired = match (self.stage.get(), right) {
            (Stage::Open | Stage::Interrupted, Right::Producer) => Stage::Fired,
            (Stage::Cancelling, Right::Canceller) => Stage::Cancelled,
            _ => return false,
        };
        self.stage.set(fired);
        drop(self.on_cancel.take());
        true
    }

    fn call_canceller(self: &Rc<Self>, canceller: Box<dyn FnOnce(Promise<T>)>) {
        self.stage.set(Stage::Cancelling);
        let promise = Promise {
            root: Some(self.clone()),
            right: Right::Canceller,
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| canceller(promise))) {
            unhandled::log_panic(&self.label(), &panic_message(panic));
        }
        if self.stage.get() == Stage::Cancelling {
            self.fire_cancelled();
        }
    }

    fn fire_cancelled(self: &Rc<Self>) {
        self.stage.set(Stage::Cancelled);
        let failure = Failure::at(self.out.place(), Cancelled);
        run::enter(|| pass(self.clone(), Err(failure)));
    }
}

impl<T: 'static> Node for Root<T> {
    fn cancel_step(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        if !matches!(self.stage.get(), Stage::Open | Stage::Interrupted) {
            return None;
        }
        match self.on_cancel.take() {
            OnCancel::Fire => self.fire_cancelled(),
            OnCancel::Call(canceller) => self.call_canceller(canceller),
            OnCancel::Tell(tell) => {
                self.stage.set(Stage::Interrupted);
                self.on_cancel.set(OnCancel::Tell(tell.clone()));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| tell())) {
                    unhandled::log_panic(&self.label(), &panic_message(panic));
                }
            }
        }
        None
    }

    fn waits_for(&self) -> Option<Rc<dyn Node>> {
        None
    }

    fn is_open(&self) -> bool {
        !self.out.is_fired()
    }

    fn label(&self) -> String {
        self.out.label()
    }
}

impl<T: 'static> Source<T> for Root<T> {
    fn out(&self) -> &Out<T> {
        &self.out
    }

    fn settled(&self) {}
}

impl<T: 'static> Deferred<T> {
    /// A promise and its Deferred.
    #[track_caller]
    pub fn new() -> (Promise<T>, Deferred<T>) {
        pair(Location::caller(), OnCancel::Fire)
    }

    /// A promise and its Deferred, with a function for when the consumer cancels.
    ///
    /// The canceller is called at most once, and only before the promise has fired. It is given
    /// a promise of its own and may fire it; when it returns without having done so, the
    /// Deferred fails with [`Cancelled`]. The producer's promise is void from then on. A panic
    /// in the canceller is logged.
    #[track_caller]
    pub fn with_canceller(
        canceller: impl FnOnce(Promise<T>) + 'static,
    ) -> (Promise<T>, Deferred<T>) {
        pair(Location::caller(), OnCancel::Call(Box::new(canceller)))
    }

    /// A promise and its Deferred, for a producer that needs time to stop: a cancellation calls
    /// `tell`, each time, and the Deferred stays unfired until the promise is fired.
    #[track_caller]
    pub fn with_interrupt(tell: impl Fn() + 'static) -> (Promise<T>, Deferred<T>) {
        pair(Location::caller(), OnCancel::Tell(Rc::new(tell)))
    }
}
