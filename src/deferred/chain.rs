//! The consumer's end: [`Deferred`], to which links are added, and its handles for cancelling.
//!
//! A Deferred is a handle of the last node of a chain. Every builder method takes it and gives
//! the handle of a new last node, so that a result has exactly one taker.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::failure::{Failure, Place};
use super::link::{self, Link, LinkNode, Settled};
use super::names::NameTag;
use super::node::{self, Node, Out, Source, State};
use super::promise::Promise;
use super::{run, task, unhandled};

/// A result that may not be there yet: a `T` or a [`Failure`].
///
/// Links are added to its end; each consumes it and returns a Deferred of the new type. It can
/// also be awaited. Dropping it lets the chain run on unseen; a failure that then reaches the
/// end is logged, once.
///
/// Types are not flattened: only what a link *returns* is waited for.
/// ```
/// use marline::deferred::Deferred;
/// let (promise, outer) = Deferred::<Deferred<u32>>::new();
/// let outer: Deferred<Deferred<u32>> = outer;
/// promise.callback(Deferred::ready(1));
/// let flat: Deferred<u32> = outer.add_callback(|inner| inner);
/// assert_eq!(flat.now_or_pending().unwrap().unwrap(), 1);
/// ```
pub struct Deferred<T: 'static> {
    /// `None` only when awaited to its end, or while being consumed.
    source: Option<Rc<dyn Source<T>>>,
}

impl<T: 'static> Deferred<T> {
    pub(super) fn of(source: Rc<dyn Source<T>>) -> Self {
        Deferred {
            source: Some(source),
        }
    }

    /// A Deferred that has its value.
    #[track_caller]
    pub fn ready(value: T) -> Self {
        Deferred::settled(Ok(value), Location::caller())
    }

    /// A Deferred that has failed.
    #[track_caller]
    pub fn failed(failure: impl Into<Failure>) -> Self {
        Deferred::settled(Err(failure.into()), Location::caller())
    }

    /// A Deferred that has its result.
    #[track_caller]
    pub fn from_result(result: Result<T, impl Into<Failure>>) -> Self {
        Deferred::settled(result.map_err(Into::into), Location::caller())
    }

    fn settled(result: Result<T, Failure>, place: Place) -> Self {
        Deferred::of(Rc::new(Fixed(Out::new(State::Fired(result), place))))
    }

    /// Calls `f` at once; its result, the Deferred it returns, or its panic is the result.
    #[track_caller]
    pub fn call<L: Link<Out = T>>(f: impl FnOnce() -> L) -> Self {
        let place = Location::caller();
        match link::guarded(place, || f().settle()) {
            Settled::Now(result) => Deferred::settled(result, place),
            Settled::Later(deferred) => deferred,
        }
    }

    /// What `f` makes of the value; a failure passes by.
    #[track_caller]
    pub fn add_callback<L, F>(self, f: F) -> Deferred<L::Out>
    where
        L: Link,
        F: FnOnce(T) -> L + 'static,
    {
        self.link(Location::caller(), |input| match input {
            Ok(value) => f(value).settle(),
            Err(failure) => Settled::Now(Err(failure)),
        })
    }

    /// What `f` makes of the failure; a value passes by.
    #[track_caller]
    pub fn add_errback<L, F>(self, f: F) -> Deferred<T>
    where
        L: Link<Out = T>,
        F: FnOnce(Failure) -> L + 'static,
    {
        self.link(Location::caller(), |input| match input {
            Ok(value) => Settled::Now(Ok(value)),
            Err(failure) => f(failure).settle(),
        })
    }

    /// Either `f` or `g`, at one level: a failure of `f` does not reach `g`.
    #[track_caller]
    pub fn add_callbacks<L, F, M, G>(self, f: F, g: G) -> Deferred<L::Out>
    where
        L: Link,
        F: FnOnce(T) -> L + 'static,
        M: Link<Out = L::Out>,
        G: FnOnce(Failure) -> M + 'static,
    {
        self.link(Location::caller(), |input| match input {
            Ok(value) => f(value).settle(),
            Err(failure) => g(failure).settle(),
        })
    }

    /// What `f` makes of the result, whichever it is. The last link of a chain is one of these.
    #[track_caller]
    pub fn add_both<L, F>(self, f: F) -> Deferred<L::Out>
    where
        L: Link,
        F: FnOnce(Result<T, Failure>) -> L + 'static,
    {
        self.link(Location::caller(), |input| f(input).settle())
    }

    /// Adds a link to the end; runs it if the result is there.
    pub(super) fn link<U, F>(self, place: Place, handler: F) -> Deferred<U>
    where
        U: 'static,
        F: FnOnce(Result<T, Failure>) -> Settled<U> + 'static,
    {
        let up = self.release();
        let name = up.out().take_name();
        let name = name.map(NameTag::carried_on);
        if let Some(input) = up.out().take() {
            let link = LinkNode::armed(input, place, handler);
            link.out().set_name(name);
            run::enter_job(link.clone());
            return Deferred::of(link);
        }
        let link = LinkNode::waiting(&up, place, handler);
        link.out().set_name(name);
        up.out().hand_to(link.clone());
        Deferred::of(link)
    }

    /// Gives the end of the chain a name, for logs and for [`super::pending`]. Links added later
    /// carry it on.
    #[track_caller]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        let out = self.source().out();
        if let Some(tag) = NameTag::new(name.into(), Location::caller()) {
            out.set_named(tag);
        }
        self
    }

    /// Fires `promise` with the result of this chain.
    #[track_caller]
    pub fn forward_to(self, promise: Promise<T>) {
        self.link(Location::caller(), |result| {
            promise.settle(result);
            Settled::Now(Ok(()))
        });
    }

    /// Ends the chain: a failure is logged as that of `what`, a value is dropped.
    #[track_caller]
    pub fn log_err(self, what: impl Into<Cow<'static, str>>) {
        let what = what.into();
        self.link(Location::caller(), move |result| {
            if let Err(failure) = result {
                unhandled::log_failed(&what, &failure);
            }
            Settled::Now(Ok(()))
        });
    }

    /// Whether the result is there.
    pub fn is_fired(&self) -> bool {
        self.source().out().is_fired()
    }

    /// The result if it is there, or the Deferred back.
    pub fn try_take(self) -> Result<Result<T, Failure>, Self> {
        match self.source().out().take() {
            Some(result) => Ok(result),
            None => Err(self),
        }
    }

    /// The result if it is there; drops the Deferred in any case.
    pub fn now_or_pending(self) -> Option<Result<T, Failure>> {
        self.try_take().ok()
    }

    /// Cancels what the chain waits for: the promise's canceller is called, or the chain fails
    /// with [`super::Cancelled`] at its first waiting link. Nothing happens if it waits for
    /// nothing. Links may recover.
    pub fn cancel(&self) {
        let node: Rc<dyn Node> = self.source().clone();
        node::cancel(node);
    }

    /// A handle to [`Deferred::cancel`] this chain as it is now, without what is added later.
    /// It does not keep the chain alive.
    pub fn canceller(&self) -> CancelHandle {
        let node: Rc<dyn Node> = self.source().clone();
        CancelHandle(Rc::downgrade(&node))
    }

    /// Cancels the chain when dropped unfired.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(Some(self))
    }

    /// The name, or where it was made.
    pub(super) fn label(&self) -> String {
        self.source().label()
    }

    fn source(&self) -> &Rc<dyn Source<T>> {
        self.source
            .as_ref()
            .expect("methods are called before it is consumed or awaited to its end")
    }

    /// The node, without the handle's Drop.
    pub(super) fn release(mut self) -> Rc<dyn Source<T>> {
        self.source
            .take()
            .expect("methods are called before it is consumed or awaited to its end")
    }
}

impl<T: 'static> Drop for Deferred<T> {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            source.out().detach();
        }
    }
}

impl<T: 'static> From<Result<T, Failure>> for Deferred<T> {
    #[track_caller]
    fn from(result: Result<T, Failure>) -> Self {
        Deferred::settled(result, Location::caller())
    }
}

impl<T: 'static> Future for Deferred<T> {
    type Output = Result<T, Failure>;

    /// A failure notes the place of the await.
    ///
    /// # Panics
    /// When polled after it was ready.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let place = Location::caller();
        if let Some(result) = self.source().out().take() {
            self.source = None;
            return Poll::Ready(result.map_err(|failure| failure.passed(place)));
        }
        let source = self.source();
        source.out().await_with(context.waker());
        let node: Rc<dyn Node> = source.clone();
        task::note_awaited(&node);
        Poll::Pending
    }
}

impl<T: 'static> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(source) = &self.source else {
            return f.write_str("Deferred(taken)");
        };
        write!(f, "Deferred({}, {:?}", source.label(), source.out())?;
        let mut above = source.waits_for();
        while let Some(node) = above {
            write!(f, ", waiting on {}", node.label())?;
            above = node.waits_for();
        }
        f.write_str(")")
    }
}

/// Cancels a chain, wherever its Deferred is now. Cheap to clone.
#[derive(Clone)]
pub struct CancelHandle(Weak<dyn Node>);

impl CancelHandle {
    /// See [`Deferred::cancel`].
    pub fn cancel(&self) {
        if let Some(node) = self.0.upgrade() {
            node::cancel(node);
        }
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.0.upgrade().map(|node| node.label());
        write!(f, "CancelHandle({})", label.as_deref().unwrap_or("done"))
    }
}

/// A Deferred that is cancelled when it is dropped unfired. Can be awaited.
#[derive(Debug)]
pub struct CancelOnDrop<T: 'static>(Option<Deferred<T>>);

impl<T: 'static> CancelOnDrop<T> {
    /// The plain Deferred.
    pub fn into_inner(mut self) -> Deferred<T> {
        self.0.take().expect("taken only here and in Drop")
    }
}

impl<T: 'static> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(deferred) = self.0.take()
            && deferred.source.is_some()
        {
            deferred.cancel();
        }
    }
}

impl<T: 'static> Future for CancelOnDrop<T> {
    type Output = Result<T, Failure>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut().expect("taken only when consumed");
        Pin::new(inner).poll(context)
    }
}

/// The node of a Deferred that was made with its result.
struct Fixed<T: 'static>(Out<T>);

impl<T: 'static> Node for Fixed<T> {
    fn cancel_step(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        None
    }

    fn waits_for(&self) -> Option<Rc<dyn Node>> {
        None
    }

    fn is_open(&self) -> bool {
        false
    }

    fn label(&self) -> String {
        self.0.label()
    }
}

impl<T: 'static> Source<T> for Fixed<T> {
    fn out(&self) -> &Out<T> {
        &self.0
    }

    fn settled(&self) {}
}
