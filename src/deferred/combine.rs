//! Several Deferreds as one. Inputs are moved in, so their failures count as handled; what an
//! input gives after the result is known is dropped. Cancelling the result cancels every
//! unfired input, and the result is then made of what comes of that.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;

use super::chain::{CancelHandle, Deferred};
use super::failure::{Failure, Place};
use super::kinds::{AllFailed, Empty, FirstError};
use super::link::{Link, Settled};
use super::promise::{self, OnCancel, Promise};

/// What came of several Deferreds, in their order.
pub type Results<T> = Vec<Result<T, Failure>>;

/// All results, in the order of the inputs, when the last is there. No inputs: at once.
#[track_caller]
pub fn join_all<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Results<T>> {
    combine(inputs, Location::caller(), |group, index, result| {
        group.put(index, result);
        if group.left() == 0 {
            group.settle(Ok(group.take_all()));
        }
    })
    .unwrap_or_else(|| Deferred::ready(Vec::new()))
}

/// All values, in the order of the inputs. The first failure is the result, as [`FirstError`],
/// and cancels the other inputs. No inputs: an empty list at once.
#[track_caller]
pub fn try_join_all<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Vec<T>> {
    let place = Location::caller();
    combine(inputs, place, move |group, index, result| {
        if let Err(failure) = result {
            let error = FirstError { index, failure };
            group.settle_and_cancel(Err(Failure::at(place, error)));
            return;
        }
        group.put(index, result);
        if group.left() == 0 {
            group.settle(group.take_all().into_iter().collect());
        }
    })
    .unwrap_or_else(|| Deferred::ready(Vec::new()))
}

/// The first value with its index; the other inputs run on unseen. All fail: [`AllFailed`].
/// No inputs: [`Empty`] at once.
#[track_caller]
pub fn first_ok<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    let place = Location::caller();
    combine(inputs, place, move |group, index, result| match result {
        Ok(value) => group.settle(Ok((index, value))),
        Err(failure) => group.put_failure(index, failure, place),
    })
    .unwrap_or_else(|| Deferred::failed(Empty))
}

/// The first value with its index; the other inputs are cancelled. An error does not win. All
/// fail: [`AllFailed`]. No inputs: [`Empty`] at once.
#[track_caller]
pub fn race<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    let place = Location::caller();
    combine(inputs, place, move |group, index, result| match result {
        Ok(value) => group.settle_and_cancel(Ok((index, value))),
        Err(failure) => group.put_failure(index, failure, place),
    })
    .unwrap_or_else(|| Deferred::failed(Empty))
}

/// The inputs of one combined Deferred.
struct Group<T: 'static, U: 'static> {
    /// What came of each input, where it is kept.
    results: RefCell<Vec<Option<Result<T, Failure>>>>,
    fired: Cell<usize>,
    promise: Cell<Option<Promise<U>>>,
    inputs: RefCell<Vec<CancelHandle>>,
}

/// Calls `each` with what comes of each input, until the result is known. `None` without
/// inputs.
fn combine<T: 'static, U: 'static>(
    inputs: impl IntoIterator<Item = Deferred<T>>,
    place: Place,
    each: impl Fn(&Group<T, U>, usize, Result<T, Failure>) + Clone + 'static,
) -> Option<Deferred<U>> {
    let inputs: Vec<_> = inputs.into_iter().collect();
    if inputs.is_empty() {
        return None;
    }
    let (group, deferred) = Group::new(&inputs, place);
    for (index, input) in inputs.into_iter().enumerate() {
        let group = group.clone();
        let each = each.clone();
        input.link(place, move |result| {
            group.fired.set(group.fired.get() + 1);
            if !group.is_settled() {
                each(&group, index, result);
            }
            Settled::Now(Ok(()))
        });
    }
    Some(deferred)
}

impl<T: 'static, U: 'static> Group<T, U> {
    fn new(inputs: &[Deferred<T>], place: Place) -> (Rc<Self>, Deferred<U>) {
        let group = Rc::new(Group {
            results: RefCell::new(inputs.iter().map(|_| None).collect()),
            fired: Cell::new(0),
            promise: Cell::new(None),
            inputs: RefCell::new(inputs.iter().map(Deferred::canceller).collect()),
        });
        let weak = Rc::downgrade(&group);
        let cancel = move || {
            if let Some(group) = weak.upgrade() {
                group.cancel_inputs();
            }
        };
        let (promise, deferred) = promise::pair(place, OnCancel::Tell(Rc::new(cancel)));
        group.promise.set(Some(promise));
        (group, deferred)
    }

    fn left(&self) -> usize {
        self.results.borrow().len() - self.fired.get()
    }

    fn put(&self, index: usize, result: Result<T, Failure>) {
        self.results.borrow_mut()[index] = Some(result);
    }

    fn put_failure(&self, index: usize, failure: Failure, place: Place) {
        self.put(index, Err(failure));
        if self.left() == 0 {
            let failures = self.take_all().into_iter().filter_map(Result::err);
            let error = AllFailed(failures.collect());
            self.settle(Err(Failure::at(place, error)));
        }
    }

    fn take_all(&self) -> Results<T> {
        let results = self.results.take();
        results.into_iter().flatten().collect()
    }

    fn is_settled(&self) -> bool {
        let promise = self.promise.take();
        let settled = promise.is_none();
        self.promise.set(promise);
        settled
    }

    fn settle(&self, result: Result<U, Failure>) {
        // The values that are not part of the result go now, and not with the last input.
        drop(self.results.take());
        if let Some(promise) = self.promise.take() {
            promise.settle(result);
        }
    }

    fn settle_and_cancel(&self, result: Result<U, Failure>) {
        let promise = self.promise.take();
        self.cancel_inputs();
        self.promise.set(promise);
        self.settle(result);
    }

    fn cancel_inputs(&self) {
        let inputs = self.inputs.borrow().clone();
        for input in inputs {
            input.cancel();
        }
    }
}

/// Calls `job` for each item, with at most `limit` unfired at a time (0 counts as 1). All
/// results, in the order of the items; a failed job does not stop the others.
///
/// Cancelling starts no more jobs, and cancels those under way; the result is what the jobs
/// that were started came to.
#[track_caller]
pub fn for_each_concurrent<I, L>(
    limit: usize,
    items: I,
    job: impl FnMut(I::Item) -> L + 'static,
) -> Deferred<Results<L::Out>>
where
    I: IntoIterator<IntoIter: 'static>,
    L: Link,
{
    let (pool, deferred) = Pool::new(limit, items.into_iter(), job, Location::caller());
    pool.pump();
    deferred
}

struct Pool<I, F, U: 'static> {
    limit: usize,
    place: Place,
    /// Items and job, out of their slot while they are used; gone when there are no more.
    work: Cell<Option<(I, F)>>,
    running: RefCell<Vec<(usize, CancelHandle)>>,
    results: RefCell<Vec<Option<Result<U, Failure>>>>,
    promise: Cell<Option<Promise<Results<U>>>>,
    stopped: Cell<bool>,
}

impl<I, F, L> Pool<I, F, L::Out>
where
    I: Iterator + 'static,
    F: FnMut(I::Item) -> L + 'static,
    L: Link,
{
    fn new(limit: usize, items: I, job: F, place: Place) -> (Rc<Self>, Deferred<Results<L::Out>>) {
        let pool = Rc::new(Pool {
            limit: limit.max(1),
            place,
            work: Cell::new(Some((items, job))),
            running: RefCell::default(),
            results: RefCell::default(),
            promise: Cell::new(None),
            stopped: Cell::new(false),
        });
        let weak = Rc::downgrade(&pool);
        let cancel = move || {
            if let Some(pool) = weak.upgrade() {
                pool.cancel();
            }
        };
        let (promise, deferred) = promise::pair(place, OnCancel::Tell(Rc::new(cancel)));
        pool.promise.set(Some(promise));
        (pool, deferred)
    }

    /// Starts jobs up to the limit. Does nothing while it is already doing so further up.
    fn pump(self: &Rc<Self>) {
        let Some((mut items, mut job)) = self.work.take() else {
            return self.finish();
        };
        while self.running.borrow().len() < self.limit && !self.stopped.get() {
            let Some(item) = items.next() else {
                self.stopped.set(true);
                break;
            };
            self.start(item, &mut job);
        }
        if !self.stopped.get() {
            self.work.set(Some((items, job)));
            return;
        }
        drop((items, job));
        self.finish();
    }

    fn start(self: &Rc<Self>, item: I::Item, job: &mut F) {
        let index = self.results.borrow().len();
        self.results.borrow_mut().push(None);
        let deferred = Deferred::call(|| job(item));
        let handle = deferred.canceller();
        self.running.borrow_mut().push((index, handle));
        let pool = self.clone();
        deferred.link(self.place, move |result| {
            pool.done(index, result);
            Settled::Now(Ok(()))
        });
    }

    fn done(self: &Rc<Self>, index: usize, result: Result<L::Out, Failure>) {
        self.running
            .borrow_mut()
            .retain(|(other, _)| *other != index);
        self.results.borrow_mut()[index] = Some(result);
        self.pump();
    }

    /// Fires when nothing runs any more and nothing more is to be started.
    fn finish(&self) {
        if !self.stopped.get() || !self.running.borrow().is_empty() {
            return;
        }
        if let Some(promise) = self.promise.take() {
            let results = self.results.take();
            promise.callback(results.into_iter().flatten().collect());
        }
    }

    fn cancel(self: &Rc<Self>) {
        self.stopped.set(true);
        let running = self.running.borrow().clone();
        for (_, handle) in running {
            handle.cancel();
        }
        self.pump();
    }
}
