//! Unhandled failures, their log records, and the list of pending Deferreds: group F of the
//! rules. The records are read from a subscriber of this thread, and one test has
//! a subscriber that panics.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use marline::deferred::{self, Deferred};
use marline::time::{Clock, Duration, Instant, WallTime};

use super::support::{Oops, errors, logged};

#[test]
fn c_083_unhandled_failure_is_logged_once() {
    let line = line!() + 2;
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        promise.errback(Oops(83));
        drop(deferred.named("fetch alpha"));
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = &lines[0];
    assert!(text.contains("event=\"unhandled_failure\""), "{text}");
    assert!(
        text.contains("oops 83") && text.contains("fetch alpha"),
        "{text}"
    );
    assert!(text.contains(&format!("diagnostics.rs:{line}")), "{text}");
}

#[test]
fn c_083_unhandled_failure_at_the_end_of_a_detached_chain_is_logged_once() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        drop(
            deferred
                .add_callback(|x| Ok(x + 1))
                .add_callback(|x| Ok(x + 1)),
        );
        promise.errback(Oops(83));
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn c_084_handled_failure_is_not_logged() {
    let lines = logged(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        drop(deferred.add_errback(|_| Ok(0)));
        promise.errback(Oops(84));
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn c_086_held_failure_is_logged_when_it_is_dropped() {
    let mut held = None;
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        promise.errback(Oops(86));
        held = Some(deferred);
    });
    assert!(lines.is_empty(), "{lines:?}");
    let lines = errors(|| drop(held.take()));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn c_087_both_ends_dropped_unfired_log_no_error() {
    for promise_first in [true, false] {
        let lines = errors(|| {
            let (promise, deferred) = Deferred::<u32>::new();
            if promise_first {
                drop(promise);
                drop(deferred);
            } else {
                drop(deferred);
                drop(promise);
            }
        });
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn c_088_failure_handled_by_an_outer_is_not_logged() {
    let lines = errors(|| {
        let (promise, inner) = Deferred::<u32>::new();
        let outer = Deferred::ready(0)
            .add_callback(|_: u32| inner)
            .add_errback(|_| Ok(0));
        promise.errback(Oops(88));
        drop(outer);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

/// A clock that stands still.
struct Stopped(Instant);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        self.0
    }

    fn wall(&self) -> WallTime {
        WallTime::default()
    }
}

#[test]
fn c_089_pending_list_names_held_failures_and_waits() {
    let seconds = |seconds| Instant::ZERO + Duration::from_secs(seconds);
    deferred::set_clock(Rc::new(Stopped(seconds(5))));
    let (rejected, cached) = Deferred::<u32>::new();
    let cached = cached.add_callback(|x| Ok(x + 1)).named("cached");
    let (_waiting_promise, waiting) = Deferred::<u32>::new();
    let waiting = waiting.named("waiting").add_callback(|x| Ok(x + 1));
    let (resolved_promise, resolved) = Deferred::<u32>::new();
    let resolved = resolved.named("resolved");
    assert_eq!(deferred::pending().len(), 3);
    deferred::set_clock(Rc::new(Stopped(seconds(9))));
    resolved_promise.callback(1);
    rejected.errback(Oops(89));
    let mut listed = deferred::pending();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let brief = listed
        .iter()
        .map(|entry| (&*entry.name, entry.since, entry.failed.as_deref()));
    let expected = [
        ("cached", seconds(9), Some("oops 89")),
        ("waiting", seconds(5), None),
    ];
    assert_eq!(brief.collect::<Vec<_>>(), expected);
    assert!(listed[0].place.file().ends_with("diagnostics.rs"));
    drop(cached.add_errback(|_| Ok(0)));
    drop((waiting.add_errback(|_| Ok(0)), resolved));
    let names = deferred::pending().into_iter().map(|entry| entry.name);
    assert_eq!(names.collect::<Vec<_>>(), ["waiting"]);
    drop(_waiting_promise);
    assert_eq!(deferred::pending(), []);
}

/// An error whose text cannot be made.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no text")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn c_091_error_whose_display_panics_is_logged_all_the_same() {
    let lines = errors(|| drop(Deferred::<u32>::failed(Unspeakable)));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("Display panicked"), "{lines:?}");
    assert!(lines[0].contains("diagnostics.rs"), "{lines:?}");
}

/// A log that panics at every record.
struct Broken;

impl tracing::Subscriber for Broken {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the log is broken")
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn c_092_broken_log_stops_nothing() {
    tracing::subscriber::with_default(Broken, || {
        drop(Deferred::<u32>::failed(Oops(92)));
        let (promise, deferred) = Deferred::<u32>::new();
        drop(deferred);
        promise.errback(Oops(92));
    });
    // The run loop of this thread still works.
    let (promise, deferred) = Deferred::<u32>::new();
    let end = deferred.add_callback(|x| Ok(x + 1));
    promise.callback(1);
    assert_eq!(super::support::value(end), 2);
}

/// Holds what is dropped while the thread unwinds.
struct RejectsInDrop(Option<marline::deferred::Promise<u32>>);

impl Drop for RejectsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.0.take().unwrap().errback(Unspeakable);
    }
}

#[test]
fn c_093_rejecting_and_logging_while_unwinding_does_not_panic_twice() {
    let lines = errors(|| {
        let (promise, deferred) = Deferred::<u32>::new();
        let (other, kept) = Deferred::<u32>::new();
        drop(deferred.add_both(|_| -> Result<u32, _> { panic!("in a link while unwinding") }));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _kept = kept;
            let _rejects = RejectsInDrop(Some(promise));
            other.errback(Oops(93));
            panic!("the first");
        }));
        assert!(unwound.is_err());
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn log_err_ends_a_chain_with_one_record() {
    let lines = errors(|| {
        Deferred::<u32>::failed(Oops(1)).log_err("fetching alpha");
        Deferred::ready(1).log_err("fetching beta");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("fetching alpha") && lines[0].contains("oops 1"));
}
