//! Several Deferreds as one: group G of the rules. The inputs are three producers that a test
//! fires in some order, and that count how often they were cancelled. Where a rule says
//! that nothing is logged, the log is read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use marline::deferred::{
    self, AllFailed, Cancelled, Deferred, Empty, Failure, FirstError, Panicked, Promise,
};

use super::support::{Oops, Ouch, counted, errors, failure, on_small_stack, value};

/// Three producers, their Deferreds, and how often each was cancelled.
struct Three {
    promises: [Option<Promise<u32>>; 3],
    deferreds: Vec<Deferred<u32>>,
    cancelled: Vec<Rc<Cell<u32>>>,
}

impl Three {
    fn new() -> Self {
        let made = [counted(), counted(), counted()];
        let mut promises = [None, None, None];
        let (mut deferreds, mut cancelled) = (Vec::new(), Vec::new());
        for (index, (promise, deferred, count)) in made.into_iter().enumerate() {
            promises[index] = Some(promise);
            deferreds.push(deferred);
            cancelled.push(count);
        }
        Three {
            promises,
            deferreds,
            cancelled,
        }
    }

    fn take(&mut self) -> Vec<Deferred<u32>> {
        std::mem::take(&mut self.deferreds)
    }

    fn resolve(&mut self, index: usize, value: u32) {
        self.promises[index].take().unwrap().callback(value);
    }

    fn reject(&mut self, index: usize, code: u32) {
        self.promises[index].take().unwrap().errback(Oops(code));
    }

    fn cancelled(&self) -> Vec<u32> {
        self.cancelled.iter().map(|count| count.get()).collect()
    }
}

fn codes(failures: &[Failure]) -> Vec<u32> {
    failures
        .iter()
        .map(|failure| failure.downcast_ref::<Oops>().unwrap().0)
        .collect()
}

#[test]
fn c_094_join_all_gives_results_by_index_after_the_last() {
    let mut three = Three::new();
    let joined = deferred::join_all(three.take());
    three.resolve(2, 12);
    three.reject(0, 10);
    assert!(!joined.is_fired());
    three.resolve(1, 11);
    let results = value(joined);
    assert!(results[0].as_ref().unwrap_err().is::<Oops>());
    assert_eq!(
        (results[1].as_ref().ok(), results[2].as_ref().ok()),
        (Some(&11), Some(&12))
    );
}

#[test]
fn c_096_join_all_of_nothing_is_resolved() {
    assert!(value(deferred::join_all(Vec::<Deferred<u32>>::new())).is_empty());
}

#[test]
fn c_097_join_all_counts_fired_inputs_at_once() {
    let (promise, last) = Deferred::<u32>::new();
    let joined = deferred::join_all([Deferred::ready(1), Deferred::failed(Oops(2)), last]);
    assert!(!joined.is_fired());
    promise.callback(3);
    assert_eq!(
        value(joined)
            .into_iter()
            .map(Result::ok)
            .collect::<Vec<_>>(),
        [Some(1), None, Some(3)]
    );
    let joined = deferred::join_all([Deferred::ready(1), Deferred::ready(2)]);
    assert_eq!(value(joined).len(), 2);
}

#[test]
fn c_098_cancelled_join_all_cancels_the_unfired_and_keeps_the_fired() {
    let mut three = Three::new();
    let mut inputs = three.take();
    let (_promise, own_value) = Deferred::<u32>::with_canceller(|promise| {
        promise.callback(98);
    });
    inputs.push(own_value);
    let joined = deferred::join_all(inputs);
    three.resolve(0, 1);
    joined.cancel();
    assert_eq!(three.cancelled(), [0, 1, 1]);
    let results = value(joined);
    assert_eq!(results[0].as_ref().ok(), Some(&1));
    assert!(results[1].as_ref().unwrap_err().is::<Cancelled>());
    assert!(results[2].as_ref().unwrap_err().is::<Cancelled>());
    assert_eq!(results[3].as_ref().ok(), Some(&98));
}

#[test]
fn c_099_failing_canceller_does_not_spare_the_others() {
    let lines = errors(|| {
        let (_p1, first) = Deferred::<u32>::with_canceller(|_| panic!("canceller failed"));
        let (_p2, second, cancelled) = counted::<u32>();
        let joined = deferred::join_all([first, second]);
        joined.cancel();
        assert_eq!(cancelled.get(), 1);
        assert_eq!(value(joined).len(), 2);
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("canceller failed"));
}

/// By type: the inputs are moved in, and what is made later is not among them.
#[test]
fn c_101_later_deferreds_are_untouched() {
    let mut three = Three::new();
    let mut inputs = three.take();
    let added = inputs.pop().unwrap();
    let joined = deferred::join_all(inputs);
    joined.cancel();
    assert_eq!(three.cancelled(), [1, 1, 0]);
    three.resolve(2, 1);
    assert_eq!(value(added), 1);
}

#[test]
fn c_102_first_ok_gives_index_and_value() {
    let lines = errors(|| {
        let mut three = Three::new();
        let first = deferred::first_ok(three.take());
        three.reject(0, 1);
        assert!(!first.is_fired());
        three.resolve(1, 102);
        assert_eq!(value(first), (1, 102));
        three.reject(2, 3);
        assert_eq!(three.cancelled(), [0, 0, 0]);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_103_first_ok_of_failures_fails_with_all_by_index() {
    let mut three = Three::new();
    let first = deferred::first_ok(three.take());
    for (index, code) in [(2, 12), (0, 10), (1, 11)] {
        three.reject(index, code);
    }
    let failure = failure(first);
    assert_eq!(
        codes(&failure.downcast_ref::<AllFailed>().unwrap().0),
        [10, 11, 12]
    );
}

#[test]
fn c_104_first_of_nothing_is_empty() {
    assert!(failure(deferred::first_ok(Vec::<Deferred<u32>>::new())).is::<Empty>());
    assert!(failure(deferred::race(Vec::<Deferred<u32>>::new())).is::<Empty>());
}

#[test]
fn c_106_try_join_all_cancels_the_rest_at_the_first_failure() {
    let lines = errors(|| {
        let mut three = Three::new();
        let joined = deferred::try_join_all(three.take());
        three.resolve(2, 1);
        three.reject(1, 106);
        let failure = failure(joined);
        let first = failure.downcast_ref::<FirstError>().unwrap();
        assert_eq!(
            (first.index, codes(std::slice::from_ref(&first.failure))),
            (1, vec![106])
        );
        assert_eq!(three.cancelled(), [1, 0, 0]);
        three.reject(0, 1);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_107_try_join_all_gives_plain_values_by_index() {
    let mut three = Three::new();
    let joined = deferred::try_join_all(three.take());
    for (index, number) in [(1, 11), (2, 12), (0, 10)] {
        three.resolve(index, number);
    }
    assert_eq!(value(joined), [10, 11, 12]);
    assert!(value(deferred::try_join_all(Vec::<Deferred<u32>>::new())).is_empty());
}

#[test]
fn c_108_race_cancels_the_losers_once() {
    let mut three = Three::new();
    let race = deferred::race(three.take());
    three.resolve(0, 108);
    assert_eq!(value(race), (0, 108));
    assert_eq!(three.cancelled(), [0, 1, 1]);
}

#[test]
fn c_109_error_does_not_win_a_race() {
    let mut three = Three::new();
    let race = deferred::race(three.take());
    three.reject(0, 1);
    assert!(!race.is_fired());
    three.resolve(2, 109);
    assert_eq!(value(race), (2, 109));
    assert_eq!(three.cancelled(), [0, 1, 0]);
}

#[test]
fn c_111_loser_whose_canceller_resolves_does_not_win() {
    let (winner, first) = Deferred::<u32>::new();
    let (_promise, loser) = Deferred::<u32>::with_canceller(|promise| {
        promise.callback(0);
    });
    let race = deferred::race([loser, first]);
    winner.callback(111);
    assert_eq!(value(race), (1, 111));
}

#[test]
fn c_112_cancelled_race_fails_with_all_cancelled() {
    let mut three = Three::new();
    let race = deferred::race(three.take());
    race.cancel();
    assert_eq!(three.cancelled(), [1, 1, 1]);
    let failure = failure(race);
    let all = &failure.downcast_ref::<AllFailed>().unwrap().0;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|failure| failure.is::<Cancelled>()));
}

#[test]
fn c_113_late_failure_of_a_loser_is_not_logged() {
    let lines = errors(|| {
        // A loser that takes its time to stop, and then fails.
        let (slow, loser) = Deferred::<u32>::with_interrupt(|| ());
        let race = deferred::race([Deferred::ready(113), loser]);
        assert_eq!(value(race), (0, 113));
        slow.errback(Ouch);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

/// A job's number and promise.
type Started = (u32, Promise<u32>);

/// Jobs whose promises are in a list until the test fires them.
#[derive(Clone, Default)]
struct Jobs {
    promises: Rc<RefCell<Vec<Started>>>,
    most: Rc<Cell<usize>>,
    started: Rc<Cell<u32>>,
}

impl Jobs {
    fn start(&self, number: u32) -> Deferred<u32> {
        let (promise, deferred) = Deferred::new();
        let mut promises = self.promises.borrow_mut();
        promises.push((number, promise));
        self.most.set(self.most.get().max(promises.len()));
        self.started.set(self.started.get() + 1);
        deferred
    }
}

#[test]
fn c_114_for_each_concurrent_keeps_to_its_limit() {
    let jobs = Jobs::default();
    let starter = jobs.clone();
    let all = deferred::for_each_concurrent(3, 0..10, move |number| starter.start(number));
    while !all.is_fired() {
        let (number, promise) = jobs.promises.borrow_mut().pop().unwrap();
        if number == 4 {
            promise.errback(Oops(4));
        } else {
            promise.callback(number * 10);
        }
    }
    assert_eq!((jobs.most.get(), jobs.started.get()), (3, 10));
    let results = value(all);
    assert!(results[4].as_ref().unwrap_err().is::<Oops>());
    let values: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(values, [0, 10, 20, 30, 50, 60, 70, 80, 90]);
}

#[test]
fn c_114_cancelled_for_each_starts_no_more() {
    let jobs = Jobs::default();
    let starter = jobs.clone();
    let all = deferred::for_each_concurrent(3, 0..10, move |number| starter.start(number));
    all.cancel();
    let results = value(all);
    assert_eq!((results.len(), jobs.started.get()), (3, 3));
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().unwrap_err().is::<Cancelled>())
    );
}

#[test]
fn c_114_for_each_over_ready_jobs_takes_no_stack() {
    on_small_stack(|| {
        let jobs = || deferred::for_each_concurrent(2, 0..100_000_u32, Ok::<_, Failure>);
        assert_eq!(value(jobs()).len(), 100_000);
        // From inside a link, where each job's end is queued.
        let inside = Deferred::ready(()).add_callback(move |()| jobs());
        assert_eq!(value(inside).len(), 100_000);
    });
}

#[test]
fn c_116_call_takes_results_deferreds_and_panics() {
    assert_eq!(value(Deferred::call(|| Ok(1))), 1);
    assert!(failure(Deferred::call(|| Err::<u32, Failure>(Ouch.into()))).is::<Ouch>());
    let (promise, deferred) = Deferred::<u32>::new();
    let called = Deferred::call(|| deferred);
    assert!(!called.is_fired());
    promise.callback(116);
    assert_eq!(value(called), 116);
    let panicked = Deferred::call(|| -> Result<u32, Failure> { panic!("no") });
    assert!(failure(panicked).is::<Panicked>());
    assert_eq!(value(Deferred::from_result(Ok::<_, Oops>(1))), 1);
    assert!(failure(Deferred::from_result(Err::<u32, _>(Oops(1)))).is::<Oops>());
}
