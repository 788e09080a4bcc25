//! Firing and building the chain, and the order of what a link fires: groups A and B of the
//! rules, without pausing, which does not exist here. What does not compile is shown by the
//! `compile_fail` examples of `Promise`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use marline::deferred::{BrokenPromise, Deferred, Failure, Promise};

use super::support::{Oops, Ouch, Record, errors, failure, logged, on_small_stack, value};

#[test]
fn c_001_callback_runs_once_and_at_once() {
    let seen = Record::new();
    let (promise, deferred) = Deferred::<u32>::new();
    seen.watch(deferred, |result| result.unwrap());
    assert_eq!(seen.len(), 0);
    assert!(promise.callback(7).is_accepted());
    assert_eq!(seen.take(), [7]);
}

#[test]
fn c_002_value_is_replaced_along_the_chain() {
    let seen = Record::new();
    let (promise, deferred) = Deferred::<u32>::new();
    seen.watch(deferred.add_callback(|x| Ok(x + 1)), |result| {
        result.unwrap()
    });
    promise.callback(1);
    assert_eq!(seen.take(), [2]);
}

#[test]
fn c_003_link_on_a_fired_deferred_runs_before_add_returns() {
    let (promise, deferred) = Deferred::<u32>::new();
    promise.callback(3);
    let seen = Rc::new(Cell::new(0));
    let slot = seen.clone();
    let _end = deferred.add_callback(move |x| slot.set(x));
    assert_eq!(seen.get(), 3);
}

#[test]
fn c_004_failed_deferred_runs_only_the_errback() {
    let calls = Record::new();
    let (cb, eb) = (calls.clone(), calls.clone());
    Deferred::<u32>::failed(Oops(4))
        .add_callback(move |_| cb.push(String::from("cb")))
        .add_errback(move |failure| eb.push(failure.to_string()));
    assert_eq!(calls.take(), ["oops 4"]);
}

#[test]
fn c_006_failing_callback_passes_by_its_own_level() {
    let calls = Record::new();
    let (same, next) = (calls.clone(), calls.clone());
    let (promise, deferred) = Deferred::<u32>::new();
    deferred
        .add_callbacks(
            |_| Err::<u32, Failure>(Oops(1).into()),
            move |failure| {
                same.push(String::from("same level"));
                Err::<u32, Failure>(failure)
            },
        )
        .add_errback(move |failure| {
            next.push(failure.to_string());
            Ok(0)
        });
    promise.callback(0);
    assert_eq!(calls.take(), ["oops 1"]);
}

#[test]
fn c_007_errback_recovers() {
    let calls = Record::new();
    let later = calls.clone();
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred
        .add_errback(|_| Ok(5))
        .add_callback(|x| Ok(x * 2))
        .add_errback(move |_| {
            later.push(());
            Ok(0)
        });
    promise.errback(Oops(1));
    assert_eq!(value(end), 10);
    assert_eq!(calls.len(), 0);
}

#[test]
fn c_008_second_failure_remembers_the_first() {
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred.add_errback(|_| Err(Ouch.into()));
    let first = Failure::new(Oops(1));
    promise.errback(first.clone());
    let second = failure(end);
    assert!(second.is::<Ouch>());
    assert!(second.handling().unwrap().same(&first));
    assert!(second.report().contains("while handling: oops 1"));
}

#[test]
fn c_009_level_without_errback_keeps_the_failure() {
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred
        .add_callback(|x| Ok(x + 1))
        .add_callback(|x| Ok(x + 1));
    let first = Failure::new(Oops(1));
    promise.errback(first.clone());
    assert!(failure(end).same(&first));
}

#[test]
fn c_011_both_gets_value_or_failure_once() {
    let seen = Record::new();
    let (promise, deferred) = Deferred::<u32>::new();
    seen.watch(deferred, |result| {
        result.map_err(|failure| failure.to_string())
    });
    promise.callback(1);
    assert_eq!(seen.take(), [Ok(1)]);
    let (promise, deferred) = Deferred::<u32>::new();
    seen.watch(deferred, |result| {
        result.map_err(|failure| failure.to_string())
    });
    promise.errback(Oops(2));
    assert_eq!(seen.take(), [Err(String::from("oops 2"))]);
}

#[test]
fn c_012_both_runs_after_a_failing_errback() {
    let seen = Record::new();
    let (promise, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_errback(|_| Err(Ouch.into()));
    seen.watch(deferred, |result| result.unwrap_err().is::<Ouch>());
    promise.errback(Oops(1));
    assert_eq!(seen.take(), [true]);
}

#[test]
fn c_013_links_run_in_the_order_added() {
    let calls = Record::new();
    let (promise, mut deferred) = Deferred::<()>::new();
    for name in ["A", "B", "C"] {
        let calls = calls.clone();
        deferred = deferred.add_callback(move |()| calls.push(name));
    }
    promise.callback(());
    assert_eq!(calls.take(), ["A", "B", "C"]);
}

#[test]
fn c_014_link_added_from_a_running_link_runs_after_it_and_last() {
    let calls = Record::new();
    let end: Rc<RefCell<Option<Deferred<()>>>> = Rc::default();
    let (promise, deferred) = Deferred::<()>::new();
    let (a, b, the_end) = (calls.clone(), calls.clone(), end.clone());
    let deferred = deferred
        .add_callback(move |()| {
            let c = a.clone();
            let rest = the_end.borrow_mut().take().unwrap();
            rest.add_callback(move |()| c.push("C"));
            a.push("A");
        })
        .add_callback(move |()| b.push("B"));
    end.replace(Some(deferred));
    promise.callback(());
    assert_eq!(calls.take(), ["A", "B", "C"]);
}

#[test]
fn c_016_link_that_returns_nothing_gives_unit() {
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred
        .add_callback(|x| Ok(x + 1))
        .add_callback(|x| assert_eq!(x, 2))
        .add_callback(|unit: ()| Ok(unit));
    promise.callback(1);
    value(end);
}

/// By type: see the `compile_fail` examples of `Promise`. What can be written is a promise in
/// an `Option`, and a canceller's promise beside the producer's.
#[test]
fn c_017_second_firing_is_refused() {
    for second_is_value in [true, false] {
        for first_is_value in [true, false] {
            let (promise, deferred) = Deferred::<u32>::with_canceller(move |promise| {
                if first_is_value {
                    promise.callback(1);
                } else {
                    promise.errback(Oops(1));
                }
            });
            deferred.cancel();
            let second = if second_is_value {
                promise.callback(2)
            } else {
                promise.errback(Oops(2))
            };
            assert!(second.into_result().is_err());
            let result = deferred.now_or_pending().unwrap();
            assert_eq!(
                result.map_err(|f| f.is::<Oops>()),
                if first_is_value { Ok(1) } else { Err(true) }
            );
        }
    }
}

#[test]
fn c_019_ready_and_fired_by_hand_are_alike() {
    let observe = |deferred: Deferred<u32>| {
        let calls = Record::new();
        let (first, second) = (calls.clone(), calls.clone());
        deferred
            .add_callback(move |x| {
                first.push(x);
                Ok(x + 1)
            })
            .add_both(move |result| second.push(result.unwrap()));
        calls.take()
    };
    let (promise, fired) = Deferred::new();
    promise.callback(6);
    assert_eq!(observe(Deferred::ready(6)), [6, 7]);
    assert_eq!(observe(fired), [6, 7]);
}

#[test]
fn c_021_promise_taken_out_of_its_field_is_fired_once() {
    struct Request {
        promise: Option<Promise<u32>>,
    }
    impl Request {
        fn end(&mut self, value: u32) -> bool {
            self.promise
                .take()
                .is_some_and(|promise| promise.callback(value).is_accepted())
        }
    }
    let (promise, deferred) = Deferred::new();
    let mut request = Request {
        promise: Some(promise),
    };
    assert!(request.end(1));
    assert!(!request.end(2));
    assert_eq!(value(deferred), 1);
}

#[test]
fn c_022_dropped_promise_fires_broken_promise() {
    let line = line!() + 1;
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred.add_errback(Err);
    drop(promise);
    let failure = failure(end);
    let place = failure.downcast_ref::<BrokenPromise>().unwrap().place;
    assert_eq!((place.file(), place.line()), (file!(), line));
    assert!(failure.to_string().contains("firing.rs"));
}

#[test]
fn c_023_broken_promise_that_nobody_waits_for_is_quiet() {
    let lines = logged(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        drop(deferred);
        drop(promise);
    });
    assert!(
        lines.iter().all(|line| line.level >= tracing::Level::DEBUG),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 1);
}

#[test]
fn c_024_fifty_thousand_links_run_at_one_depth() {
    on_small_stack(|| {
        let depths = Record::new();
        let (promise, mut deferred) = Deferred::<u32>::new();
        for _ in 0..50_000 {
            let depths = depths.clone();
            deferred = deferred.add_callback(move |x| {
                let here = 0_u8;
                depths.push((x, std::ptr::from_ref(&here) as usize));
                Ok(x + 1)
            });
        }
        promise.callback(0);
        assert_eq!(value(deferred), 50_000);
        let depths = depths.take();
        assert!(
            depths
                .iter()
                .enumerate()
                .all(|(index, (x, _))| index as u32 == *x)
        );
        assert!(depths.iter().all(|(_, depth)| *depth == depths[0].1));
    });
}

/// The same without firing: the chain goes by the promise's fall.
#[test]
fn c_024_hundred_thousand_links_are_dropped_without_stack() {
    on_small_stack(|| {
        let (promise, mut deferred) = Deferred::<u32>::new();
        for _ in 0..100_000 {
            deferred = deferred.add_callback(|x| Ok(x + 1));
        }
        drop(deferred);
        drop(promise);
    });
}

#[test]
fn c_031_nested_firing_is_done_before_the_outer_firing_returns() {
    let calls = Record::new();
    let (inner, deferred) = Deferred::<()>::new();
    calls.watch(deferred, |_| "d2");
    let (outer, deferred) = Deferred::<()>::new();
    deferred.add_callback(move |()| {
        inner.callback(());
    });
    outer.callback(());
    assert_eq!(calls.take(), ["d2"]);
}

#[test]
fn c_032_what_a_link_fires_runs_after_it_and_before_its_own_chain() {
    let calls = Record::new();
    let make = |names: [&'static str; 2]| {
        let (promise, deferred) = Deferred::<()>::new();
        let (first, second) = (calls.clone(), calls.clone());
        deferred
            .add_callback(move |()| first.push(names[0]))
            .add_callback(move |()| second.push(names[1]));
        promise
    };
    let (d2, d3) = (make(["d2 x", "d2 y"]), make(["d3 x", "d3 y"]));
    let (a, b) = (calls.clone(), calls.clone());
    let (d1, deferred) = Deferred::<()>::new();
    deferred
        .add_callback(move |()| {
            d2.callback(());
            d3.callback(());
            a.push("a");
        })
        .add_callback(move |()| b.push("b"));
    d1.callback(());
    assert_eq!(calls.take(), ["a", "d2 x", "d2 y", "d3 x", "d3 y", "b"]);
}

#[test]
fn panic_in_a_link_is_a_failure() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        let end = deferred.add_callback(|_| -> Result<u32, Failure> { panic!("by {}", 7) });
        promise.callback(1);
        let failure = failure(end);
        let panicked = failure
            .downcast_ref::<marline::deferred::Panicked>()
            .unwrap();
        assert_eq!(panicked.message, "by 7");
        assert!(panicked.place.file().ends_with("firing.rs"));
    });
    assert!(lines.is_empty(), "{lines:?}");
}

/// The loop survives a value whose Drop panics, and goes on with what is queued.
#[test]
fn panic_in_a_drop_does_not_stop_the_loop() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let calls = Record::new();
    let lines = errors(|| {
        let (detached, deferred) = Deferred::<Bomb>::new();
        drop(deferred);
        let (other, deferred) = Deferred::<()>::new();
        calls.watch(deferred, |_| "other");
        let (promise, deferred) = Deferred::<()>::new();
        deferred.add_callback(move |()| {
            detached.callback(Bomb);
            other.callback(());
        });
        promise.callback(());
    });
    assert_eq!(calls.take(), ["other"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
}
