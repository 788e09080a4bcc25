//! Deferreds that are returned from links, forwarded and shared: group C of the rules.
//! Long chains of each kind are fired, cancelled and dropped on a stack of 256 KiB, which
//! recursion over them would overflow.

use std::cell::RefCell;
use std::rc::Rc;

use marline::deferred::{Deferred, Failure, Promise};

use super::support::{Oops, Record, errors, failure, on_small_stack, value};

#[test]
fn c_033_returned_resolved_deferred_goes_on_at_once() {
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred
        .add_callback(|_| Deferred::ready(9))
        .add_callback(|x| Ok(x + 1));
    promise.callback(0);
    assert_eq!(value(end), 10);
}

#[test]
fn c_034_returned_failed_deferred_goes_on_as_a_failure() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        let end = deferred.add_callback(|_| Deferred::<u32>::failed(Oops(1)));
        promise.callback(0);
        assert!(failure(end).is::<Oops>());
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_036_failure_of_a_returned_deferred_reaches_the_outer_errback() {
    let (inner_promise, inner) = Deferred::<u32>::new();
    let outer = Deferred::ready(0).add_callback(|_: u32| inner);
    let seen = Record::new();
    seen.watch(outer, |result| result.unwrap_err());
    let first = Failure::new(Oops(1));
    inner_promise.errback(first.clone());
    assert!(seen.take()[0].same(&first));
}

#[test]
fn c_037_errback_may_return_a_deferred() {
    let (promise, outer) = Deferred::<u32>::new();
    let (inner_promise, inner) = Deferred::<u32>::new();
    let outer = outer.add_errback(|_| inner);
    promise.errback(Oops(1));
    assert!(!outer.is_fired());
    inner_promise.callback(3);
    assert_eq!(value(outer), 3);
}

#[test]
fn c_038_link_added_while_waiting_runs_after_the_inner_result() {
    let calls = Record::new();
    let (inner_promise, inner) = Deferred::<u32>::new();
    let first = calls.clone();
    let inner = inner.add_callback(move |x| {
        first.push("inner");
        Ok(x)
    });
    let outer = Deferred::ready(0).add_callback(|_: u32| inner);
    calls.watch(outer, |_| "outer");
    assert_eq!(calls.len(), 0);
    inner_promise.callback(1);
    assert_eq!(calls.take(), ["inner", "outer"]);
}

#[test]
fn c_039_links_of_the_inner_run_before_the_outer_goes_on() {
    let (promise, inner) = Deferred::<u32>::new();
    let inner = inner.add_callback(|x| Ok(x * 2));
    let outer = Deferred::ready(0).add_callback(|_: u32| inner);
    promise.callback(4);
    assert_eq!(value(outer), 8);
}

#[test]
fn c_042_nested_waits_go_on_from_the_inside() {
    let calls = Record::new();
    let note = |name: &'static str| {
        let calls = calls.clone();
        move |x: u32| {
            calls.push(name);
            Ok(x)
        }
    };
    let (promise, c) = Deferred::<u32>::new();
    let c = c.add_callback(note("C"));
    let b = Deferred::ready(0)
        .add_callback(|_: u32| c)
        .add_callback(note("B"));
    let a = Deferred::ready(0)
        .add_callback(|_: u32| b)
        .add_callback(note("A"));
    promise.callback(5);
    assert_eq!(value(a), 5);
    assert_eq!(calls.take(), ["C", "B", "A"]);
}

/// Each of `count` Deferreds is returned from a link of the one before.
fn nested(count: u32) -> (Promise<u32>, Deferred<u32>) {
    let (promise, mut deferred) = Deferred::<u32>::new();
    for _ in 0..count {
        let inner = deferred;
        deferred = Deferred::ready(0)
            .add_callback(|_: u32| inner)
            .add_callback(|x| Ok(x + 1));
    }
    (promise, deferred)
}

#[test]
fn c_043_five_thousand_nested_deferreds_fire_without_stack() {
    on_small_stack(|| {
        let (promise, deferred) = nested(5_000);
        promise.callback(0);
        assert_eq!(value(deferred), 5_000);
    });
}

#[test]
fn c_043_hundred_thousand_nested_deferreds_fire_cancel_and_drop_without_stack() {
    on_small_stack(|| {
        let (promise, deferred) = nested(100_000);
        promise.callback(0);
        assert_eq!(value(deferred), 100_000);
        let (promise, deferred) = nested(100_000);
        deferred.cancel();
        assert!(promise.is_cancelled());
        drop(deferred);
        drop(promise);
        let (promise, deferred) = nested(100_000);
        drop(deferred);
        drop(promise);
    });
}

/// The inner is made by the link itself, so that the waits nest from the outside in.
#[test]
fn c_043_deferreds_nested_from_the_outside_fire_without_stack() {
    fn down(depth: u32, last: Rc<RefCell<Option<Deferred<u32>>>>) -> Deferred<u32> {
        if depth == 0 {
            return last.borrow_mut().take().unwrap();
        }
        Deferred::ready(depth).add_callback(move |depth: u32| down(depth - 1, last))
    }
    on_small_stack(|| {
        let (promise, last) = Deferred::<u32>::new();
        let outer = down(100_000, Rc::new(RefCell::new(Some(last))));
        promise.callback(1);
        assert_eq!(value(outer), 1);
    });
}

#[test]
fn c_044_hundred_thousand_forwarded_promises_fire_and_drop_without_stack() {
    on_small_stack(|| {
        for fire in [true, false] {
            let (first, mut deferred) = Deferred::<u32>::new();
            for _ in 0..100_000 {
                let (next, end) = Deferred::new();
                deferred.forward_to(next);
                deferred = end;
            }
            if fire {
                first.callback(44);
                assert_eq!(value(deferred), 44);
            } else {
                drop(first);
                assert!(failure(deferred).is::<marline::deferred::BrokenPromise>());
            }
        }
    });
}

#[test]
fn c_046_every_observer_of_a_shared_deferred_gets_its_own() {
    let (promise, deferred) = Deferred::<String>::new();
    let shared = deferred.shared();
    let observers = [shared.observe(), shared.observe(), shared.observe()];
    promise.callback(String::from("v"));
    assert_eq!(observers.map(value), ["v", "v", "v"]);
    assert_eq!(value(shared.observe()), "v");

    let first = Failure::new(Oops(1));
    let (promise, deferred) = Deferred::<String>::new();
    let shared = deferred.shared();
    let observers = [shared.observe(), shared.observe(), shared.observe()];
    promise.errback(first.clone());
    assert!(
        observers
            .map(failure)
            .iter()
            .all(|failure| failure.same(&first))
    );
    assert!(failure(shared.observe()).same(&first));
}

#[test]
fn shared_source_is_cancelled_when_the_last_observer_leaves() {
    let (promise, deferred, cancelled) = super::support::counted::<u32>();
    let shared = deferred.shared();
    let (first, second) = (shared.observe(), shared.observe());
    first.cancel();
    assert!(failure(first).is::<marline::deferred::Cancelled>());
    assert_eq!(cancelled.get(), 0);
    second.cancel();
    assert_eq!(cancelled.get(), 1);
    assert!(promise.is_cancelled());
}

#[test]
fn shared_failure_without_observers_is_logged_once() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        let shared = deferred.shared();
        promise.errback(Oops(46));
        let other = shared.clone();
        drop(shared);
        drop(other);
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("oops 46"));
}

#[test]
fn c_047_forwarded_failure_counts_as_handled() {
    let lines = errors(|| {
        let first = Failure::new(Oops(1));
        let (p1, d1) = Deferred::<u32>::new();
        let (p2, d2) = Deferred::<u32>::new();
        d1.forward_to(p2);
        p1.errback(first.clone());
        assert!(failure(d2).same(&first));
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_048_debug_text_names_what_is_waited_for() {
    let (promise, inner) = Deferred::<u32>::new();
    let inner = inner.named("the inner");
    let outer = Deferred::ready(0).add_callback(|_: u32| inner);
    let text = format!("{outer:?}");
    assert!(text.contains("waiting on the inner"), "{text}");
    promise.callback(1);
    let text = format!("{outer:?}");
    assert!(!text.contains("waiting"), "{text}");
    assert!(text.contains("resolved"), "{text}");
}

#[test]
fn c_049_deferred_as_a_value_is_not_flattened() {
    let (promise, deferred) = Deferred::<Deferred<u32>>::new();
    promise.callback(Deferred::ready(1));
    let inner: Deferred<u32> = value(deferred);
    assert_eq!(value(inner), 1);
}
