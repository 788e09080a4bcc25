//! Time limits: group E of the rules. What a limit covers, who wins when time is up, and that
//! no timer is left. Timers are turned by hand, to the millisecond.
//! Two tests show that the next attempt waits for the end of the last.

use std::cell::Cell;
use std::rc::Rc;

use marline::deferred::{Cancelled, Deferred, Failure, TimedOut};
use marline::time::Duration;

use super::support::{HandTimers, Oops, Record, counted, failure, value};

const TEN: Duration = Duration::from_secs(10);

#[test]
fn c_068_time_limit_names_limit_and_label() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::new();
    let deferred = deferred.named("fetch alpha").timeout(TEN, &timers);
    timers.seconds(9.999);
    assert!(!deferred.is_fired());
    timers.seconds(0.001);
    let failure = failure(deferred);
    let timed_out = failure.downcast_ref::<TimedOut>().unwrap();
    assert_eq!((timed_out.after, &*timed_out.what), (TEN, "fetch alpha"));
    assert_eq!(failure.to_string(), "fetch alpha timed out after 10s");
}

#[test]
fn c_069_result_in_time_takes_the_timer_away() {
    let timers = HandTimers::default();
    let (promise, deferred) = Deferred::<u32>::new();
    let deferred = deferred.timeout(TEN, &timers);
    timers.seconds(9.9);
    promise.callback(69);
    assert_eq!(timers.pending(), 0);
    assert_eq!(value(deferred), 69);
}

#[test]
fn c_071_limit_does_not_cover_what_comes_after_the_result() {
    let timers = HandTimers::default();
    let (promise, deferred) = Deferred::<u32>::new();
    let (inner_promise, inner, cancelled) = counted::<u32>();
    let end = deferred.timeout(TEN, &timers).add_callback(|_| inner);
    timers.seconds(1.0);
    promise.callback(1);
    timers.seconds(20.0);
    assert_eq!(cancelled.get(), 0);
    inner_promise.callback(2);
    assert_eq!(value(end), 2);
}

#[test]
fn c_072_limit_covers_a_wait_of_an_earlier_link() {
    let timers = HandTimers::default();
    let (_inner_promise, inner, cancelled) = counted::<u32>();
    let end = Deferred::ready(0)
        .add_callback(|_: u32| inner)
        .timeout(TEN, &timers);
    timers.seconds(10.0);
    assert_eq!(cancelled.get(), 1);
    assert!(failure(end).is::<TimedOut>());
}

#[test]
fn c_073_limit_does_not_touch_a_wait_of_a_later_link() {
    let timers = HandTimers::default();
    let (promise, deferred) = Deferred::<u32>::new();
    let (_inner_promise, inner, cancelled) = counted::<u32>();
    let end = deferred.timeout(TEN, &timers).add_both(|_| inner);
    promise.callback(1);
    timers.seconds(30.0);
    assert_eq!(cancelled.get(), 0);
    assert!(!end.is_fired());
}

#[test]
fn c_074_cancel_by_hand_stays_cancelled() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::new();
    let end = deferred.timeout(TEN, &timers);
    let handle = end.canceller();
    let calls = Record::new();
    calls.watch(end, |result| {
        let failure = result.unwrap_err();
        (failure.is::<Cancelled>(), failure.is::<TimedOut>())
    });
    timers.seconds(5.0);
    handle.cancel();
    timers.seconds(10.0);
    assert_eq!(calls.take(), [(true, false)]);
}

#[test]
fn c_076_failure_of_the_canceller_wins_over_the_limit() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::with_canceller(|promise| {
        promise.errback(Oops(76));
    });
    let end = deferred.timeout(TEN, &timers);
    timers.seconds(10.0);
    let failure = failure(end);
    assert!(failure.is::<Oops>() && !failure.is::<TimedOut>());
}

#[test]
fn c_077_mapper_makes_the_result_when_time_is_up_only() {
    for by_hand in [false, true] {
        let timers = HandTimers::default();
        let (_promise, deferred) = Deferred::<u32>::new();
        let called = Rc::new(Cell::new(false));
        let call = called.clone();
        let end = deferred.timeout_with(TEN, &timers, move |_| {
            call.set(true);
            Ok(77)
        });
        if by_hand {
            end.cancel();
        }
        timers.seconds(10.0);
        assert_eq!(called.get(), !by_hand);
        match end.now_or_pending().unwrap() {
            Ok(value) => assert_eq!((value, by_hand), (77, false)),
            Err(failure) => assert!(by_hand && failure.is::<Cancelled>()),
        }
    }
}

#[test]
fn c_078_earlier_errback_sees_cancelled() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::new();
    let saw = Record::new();
    let look = saw.clone();
    let end = deferred
        .add_errback(move |failure| {
            look.push((failure.is::<Cancelled>(), failure.is::<TimedOut>()));
            Err(failure)
        })
        .timeout(TEN, &timers);
    timers.seconds(10.0);
    assert_eq!(saw.take(), [(true, false)]);
    assert!(failure(end).is::<TimedOut>());
}

#[test]
fn c_079_earlier_errback_cannot_swallow_the_limit() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::new();
    let end = deferred.add_errback(|_| Ok(0)).timeout(TEN, &timers);
    timers.seconds(10.0);
    assert!(failure(end).is::<TimedOut>());
}

#[test]
fn c_081_zero_limit_waits_for_the_next_turn() {
    let timers = HandTimers::default();
    let (_promise, deferred) = Deferred::<u32>::new();
    let end = deferred.timeout(Duration::ZERO, &timers);
    assert!(!end.is_fired());
    timers.advance(Duration::ZERO);
    assert!(failure(end).is::<TimedOut>());
}

/// One attempt of a job: counted while it is under way, and slow to stop.
fn attempt(under_way: &Rc<Cell<u32>>, made: &Rc<Cell<u32>>, timers: &HandTimers) -> Deferred<u32> {
    made.set(made.get() + 1);
    under_way.set(under_way.get() + 1);
    assert_eq!(under_way.get(), 1, "two attempts at once");
    let stop = under_way.clone();
    // The producer would be at work for ever: its promise goes only when it is cancelled.
    let producer = Rc::new(Cell::new(None));
    let kept = producer.clone();
    let (promise, deferred) = Deferred::with_canceller(move |_| {
        stop.set(stop.get() - 1);
        drop(kept.take());
    });
    producer.set(Some(promise));
    deferred.timeout(TEN, timers)
}

fn with_retries(
    left: u32,
    under_way: Rc<Cell<u32>>,
    made: Rc<Cell<u32>>,
    timers: HandTimers,
) -> Deferred<u32> {
    attempt(&under_way, &made, &timers).add_errback(move |failure: Failure| {
        if left == 0 || !failure.is::<TimedOut>() {
            return Deferred::failed(failure);
        }
        with_retries(left - 1, under_way, made, timers)
    })
}

#[test]
fn c_082_next_attempt_begins_after_the_last_was_cancelled() {
    let timers = HandTimers::default();
    let (under_way, made) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let end = with_retries(3, under_way.clone(), made.clone(), timers.clone());
    timers.seconds(100.0);
    assert!(failure(end).is::<TimedOut>());
    assert_eq!((made.get(), under_way.get(), timers.pending()), (4, 0, 0));
}

/// A coroutine that needs time to stop holds the limit's result up until it has stopped.
#[test]
fn c_082_limit_waits_for_the_end_of_slow_work() {
    let timers = HandTimers::default();
    let (_promise, awaited) = Deferred::<u32>::new();
    let (cleaned, cleaning) = Deferred::<()>::new();
    let work = marline::deferred::spawn(async move {
        let result = awaited.await;
        cleaning.await?;
        result
    });
    let end = work.timeout(TEN, &timers);
    timers.seconds(11.0);
    assert!(!end.is_fired());
    cleaned.callback(());
    assert!(failure(end).is::<TimedOut>());
}
