//! A lock that somebody else may hold and that tells nobody when it is free, such as a lock
//! file: tried again and again. What a try does, IO included, is the owner's closure. At most
//! one attempt waits at a time, with one timer for the next try and one for its time limit.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::time::{Cancel, Duration, Timers};

use super::chain::Deferred;
use super::promise::Promise;

/// A lock that is taken by trying. Clones are handles of one lock.
///
/// `G` is the guard: the lock is held while it lives.
pub struct FileLock<G: 'static> {
    inner: Rc<Inner<G>>,
}

struct Inner<G: 'static> {
    timers: Rc<dyn Timers>,
    retry_every: Duration,
    /// `Ok(None)`: somebody else holds it.
    try_lock: RefCell<Box<dyn FnMut() -> io::Result<Option<G>>>>,
    attempt: Cell<Option<Attempt<G>>>,
}

/// A waiting acquire.
struct Attempt<G: 'static> {
    promise: Promise<G>,
    retry: Box<dyn Cancel>,
}

/// Another attempt on the same lock is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyTrying;

impl fmt::Display for AlreadyTrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("already trying to take this lock")
    }
}

impl Error for AlreadyTrying {}

impl<G: 'static> FileLock<G> {
    /// A lock that `try_lock` takes: a guard, `None` where somebody else holds it, or an error
    /// that ends the attempt.
    pub fn new(
        timers: Rc<dyn Timers>,
        retry_every: Duration,
        try_lock: impl FnMut() -> io::Result<Option<G>> + 'static,
    ) -> Self {
        FileLock {
            inner: Rc::new(Inner {
                timers,
                retry_every,
                try_lock: RefCell::new(Box::new(try_lock)),
                attempt: Cell::new(None),
            }),
        }
    }

    /// Tries now and then every `retry_every`, until it has the lock, is cancelled, or the time
    /// limit is over ([`super::TimedOut`]). Fails with [`AlreadyTrying`] while another attempt
    /// waits.
    #[track_caller]
    pub fn acquire(&self, limit: Option<Duration>) -> Deferred<G> {
        if self.inner.is_trying() {
            return Deferred::failed(AlreadyTrying);
        }
        match self.inner.try_once() {
            Err(error) => return Deferred::failed(error),
            Ok(Some(guard)) => return Deferred::ready(guard),
            Ok(None) => {}
        }
        let deferred = self.inner.wait();
        match limit {
            Some(limit) => deferred.timeout(limit, &*self.inner.timers),
            None => deferred,
        }
    }
}

impl<G: 'static> Inner<G> {
    fn is_trying(&self) -> bool {
        let attempt = self.attempt.take();
        let trying = attempt.is_some();
        self.attempt.set(attempt);
        trying
    }

    fn try_once(&self) -> io::Result<Option<G>> {
        match self.try_lock.try_borrow_mut() {
            Ok(mut try_lock) => try_lock(),
            // A try that acquires the lock it is trying for.
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[track_caller]
    fn wait(self: &Rc<Self>) -> Deferred<G> {
        let inner = Rc::downgrade(self);
        let (promise, deferred) = Deferred::with_canceller(move |_| {
            if let Some(attempt) = inner.upgrade().and_then(|inner| inner.attempt.take()) {
                attempt.retry.cancel();
            }
        });
        self.retry_later(promise);
        deferred
    }

    fn retry_later(self: &Rc<Self>, promise: Promise<G>) {
        // The timer keeps the lock, so that an attempt outlives the handle it was made by.
        let inner = self.clone();
        let call = Box::new(move || inner.retry());
        let retry = self.timers.call_after(self.retry_every, call);
        self.attempt.set(Some(Attempt { promise, retry }));
    }

    fn retry(self: &Rc<Self>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        match self.try_once() {
            Ok(None) => self.retry_later(attempt.promise),
            Ok(Some(guard)) => {
                attempt.promise.callback(guard);
            }
            Err(error) => {
                attempt.promise.errback(error);
            }
        }
    }
}

impl<G: 'static> fmt::Debug for FileLock<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileLock(trying: {})", self.inner.is_trying())
    }
}
