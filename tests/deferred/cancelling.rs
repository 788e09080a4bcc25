//! Cancellation: group D of the rules. Who is told, how often and when; what the consumer gets;
//! what becomes of a firing that comes too late; and what dropping a handle means.
//! Producers count how often they were cancelled.

use std::cell::Cell;
use std::rc::Rc;

use marline::deferred::{Cancelled, Deferred, Failure, Fired, Promise};

use super::support::{Oops, Record, counted, errors, failure, value};

#[test]
fn c_051_late_firing_of_a_cancelled_deferred_does_nothing() {
    let lines = errors(|| {
        for late_value in [true, false] {
            let calls = Record::new();
            let (promise, deferred) = Deferred::<u32>::new();
            let handle = deferred.canceller();
            calls.watch(deferred, |result| result.unwrap_err().is::<Cancelled>());
            handle.cancel();
            if late_value {
                promise.callback(1);
            } else {
                promise.errback(Oops(1));
            }
            assert_eq!(calls.take(), [true]);
        }
        // And without a link.
        let (promise, deferred) = Deferred::<u32>::new();
        deferred.cancel();
        promise.errback(Oops(1));
        drop(deferred);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_052_late_firing_returns_an_error_value() {
    let (promise, deferred) = Deferred::<u32>::new();
    deferred.cancel();
    assert_eq!(promise.callback(1), Fired::Cancelled);
    let (promise, deferred, _) = counted::<u32>();
    deferred.cancel();
    assert_eq!(promise.errback(Oops(1)).into_result(), Err(Cancelled));
}

#[test]
fn c_053_canceller_is_called_once_and_first() {
    let calls = Record::new();
    let canceller = calls.clone();
    let (_promise, deferred) =
        Deferred::<u32>::with_canceller(move |_| canceller.push("canceller"));
    let handle = deferred.canceller();
    calls.watch(deferred, |_| "eb");
    handle.cancel();
    handle.cancel();
    assert_eq!(calls.take(), ["canceller", "eb"]);
}

#[test]
fn c_054_silent_canceller_gives_cancelled() {
    let (_promise, deferred, _) = counted::<u32>();
    deferred.cancel();
    assert!(failure(deferred).is::<Cancelled>());
    // Also when it keeps its promise for later.
    let kept: Rc<Cell<Option<Promise<u32>>>> = Rc::default();
    let slot = kept.clone();
    let (_promise, deferred) = Deferred::<u32>::with_canceller(move |p| slot.set(Some(p)));
    deferred.cancel();
    assert!(failure(deferred).is::<Cancelled>());
    assert_eq!(kept.take().unwrap().callback(1), Fired::Cancelled);
}

#[test]
fn c_056_failure_of_the_canceller_is_the_result() {
    let (_promise, deferred) = Deferred::<u32>::with_canceller(|promise| {
        promise.errback(Oops(56));
    });
    deferred.cancel();
    let failure = failure(deferred);
    assert!(failure.is::<Oops>() && !failure.is::<Cancelled>());
}

#[test]
fn c_057_second_cancel_does_nothing() {
    let (_promise, deferred, cancelled) = counted::<u32>();
    let handle = deferred.canceller();
    let calls = Record::new();
    calls.watch(deferred, |_| ());
    for _ in 0..3 {
        handle.cancel();
    }
    assert_eq!((cancelled.get(), calls.len()), (1, 1));
}

#[test]
fn c_058_cancel_after_firing_keeps_the_value() {
    let (promise, deferred, cancelled) = counted::<u32>();
    promise.callback(58);
    deferred.cancel();
    assert_eq!(cancelled.get(), 0);
    assert_eq!(value(deferred), 58);
}

#[test]
fn c_059_canceller_is_dropped_by_the_firing() {
    let held = Rc::new(());
    let hold = held.clone();
    let (promise, deferred) = Deferred::<u32>::with_canceller(move |_| drop(hold));
    assert_eq!(Rc::strong_count(&held), 2);
    promise.callback(1);
    assert_eq!(Rc::strong_count(&held), 1);
    drop(deferred);
}

#[test]
fn c_061_cancel_goes_to_the_inner_that_is_waited_for() {
    let (outer_promise, outer, outer_cancelled) = counted::<u32>();
    let (_inner_promise, inner, inner_cancelled) = counted::<u32>();
    let outer = outer.add_callback(|_| inner);
    outer_promise.callback(1);
    outer.cancel();
    assert_eq!((outer_cancelled.get(), inner_cancelled.get()), (0, 1));
    assert!(failure(outer).is::<Cancelled>());
}

#[test]
fn c_062_value_of_the_inner_canceller_is_the_outer_result() {
    let (_promise, inner) = Deferred::<u32>::with_canceller(|promise| {
        promise.callback(5);
    });
    let outer = Deferred::ready(0).add_callback(|_: u32| inner);
    outer.cancel();
    assert_eq!(value(outer), 5);
}

#[test]
fn c_063_only_the_innermost_canceller_runs() {
    let (_pa, a, a_cancelled) = counted::<u32>();
    let (_pb, b, b_cancelled) = counted::<u32>();
    let (_pc, c, c_cancelled) = counted::<u32>();
    let b = b.add_callback(|_| c);
    let a = a.add_callback(|_| b);
    _pa.callback(0);
    _pb.callback(0);
    a.cancel();
    let counts = (a_cancelled.get(), b_cancelled.get(), c_cancelled.get());
    assert_eq!(counts, (0, 0, 1));
    assert!(failure(a).is::<Cancelled>());
}

#[test]
fn c_064_producer_can_ask_whether_it_is_still_wanted() {
    let (promise, deferred) = Deferred::<u32>::new();
    assert!(!promise.is_cancelled());
    deferred.cancel();
    assert!(promise.is_cancelled());
    // Also while the canceller runs.
    let producer: Rc<Cell<Option<Promise<u32>>>> = Rc::default();
    let asked = Rc::new(Cell::new(false));
    let (slot, answer) = (producer.clone(), asked.clone());
    let (promise, deferred) = Deferred::<u32>::with_canceller(move |_| {
        answer.set(slot.take().unwrap().is_cancelled());
    });
    producer.set(Some(promise));
    deferred.cancel();
    assert!(asked.get());
}

#[test]
fn c_066_errback_may_recover_from_cancelled() {
    let (_promise, deferred) = Deferred::<u32>::new();
    let end = deferred.add_errback(|failure| {
        if failure.is::<Cancelled>() {
            Ok(0)
        } else {
            Err(failure)
        }
    });
    let end = end.add_callback(|x| Ok(x + 1));
    end.cancel();
    assert_eq!(value(end), 1);
}

#[test]
fn c_067_dropped_handle_detaches_and_cancel_on_drop_cancels() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        drop(deferred);
        assert!(!promise.is_cancelled());
        promise.errback(Oops(67));
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("oops 67"));

    let lines = errors(|| {
        let (promise, deferred, cancelled) = counted::<u32>();
        drop(deferred.cancel_on_drop());
        assert_eq!(cancelled.get(), 1);
        assert!(promise.is_cancelled());
        let (promise, deferred, cancelled) = counted::<u32>();
        let deferred = deferred.cancel_on_drop().into_inner();
        drop(deferred);
        assert_eq!(cancelled.get(), 0);
        promise.callback(1);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn panicking_canceller_is_logged_and_gives_cancelled() {
    let lines = errors(|| {
        let (_promise, deferred) = Deferred::<u32>::with_canceller(|_| panic!("in canceller"));
        deferred.cancel();
        assert!(failure(deferred).is::<Cancelled>());
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("in canceller"));
}

#[test]
fn interrupted_producer_fires_in_its_own_time() {
    let told = Rc::new(Cell::new(0));
    let tell = told.clone();
    let (promise, deferred) = Deferred::<u32>::with_interrupt(move || tell.set(tell.get() + 1));
    deferred.cancel();
    deferred.cancel();
    assert_eq!(told.get(), 2);
    assert!(promise.is_cancelled() && !deferred.is_fired());
    assert!(promise.errback(Failure::new(Cancelled)).is_accepted());
    assert!(failure(deferred).is::<Cancelled>());
}
