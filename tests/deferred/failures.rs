//! What a failure knows: group J of the rules. Its type, its causes through contexts, where it
//! was made, what it passed, and that reading it changes nothing. Its history
//! is bounded.

use marline::deferred::{Cancelled, Deferred, Failure, FirstError, HISTORY_MAX, TimedOut};
use marline::time::Duration;

use super::support::{Oops, Ouch, failure};

#[test]
fn c_152_handler_for_another_type_passes_the_failure_on() {
    let first = Failure::new(Oops(1));
    assert!(first.is::<Oops>() && !first.is::<Ouch>());
    let end = Deferred::<u32>::failed(first.clone()).add_errback(|failure| {
        if failure.is::<Ouch>() {
            Ok(0)
        } else {
            Err(failure)
        }
    });
    assert!(failure(end).same(&first));
    assert!(!first.same(&Failure::new(Oops(1))));
}

#[test]
fn c_153_handler_for_two_types_can_tell_which() {
    let which = |failure: Failure| match (failure.downcast_ref::<Oops>(), failure.is::<Ouch>()) {
        (Some(Oops(code)), _) => Ok(*code),
        (None, true) => Ok(1000),
        (None, false) => Err(failure),
    };
    let handled = |failure: Failure| {
        Deferred::failed(failure)
            .add_errback(which)
            .now_or_pending()
    };
    assert_eq!(handled(Oops(153).into()).unwrap().unwrap(), 153);
    assert_eq!(handled(Ouch.into()).unwrap().unwrap(), 1000);
    assert!(handled(Failure::msg("other")).unwrap().is_err());
}

#[test]
fn c_154_context_keeps_the_cause() {
    let line = line!() + 1;
    let first = Failure::new(Oops(154));
    let failure = first.context("fetching alpha").context("refreshing");
    assert_eq!(failure.downcast_ref::<Oops>(), Some(&Oops(154)));
    assert_eq!(failure.to_string(), "refreshing: fetching alpha: oops 154");
    assert_eq!(
        (failure.place().file(), failure.place().line()),
        (file!(), line)
    );
}

#[test]
fn c_156_reading_a_failure_does_not_change_it() {
    let failure = Failure::new(Oops(1)).context("fetching alpha");
    let read = || {
        (
            failure.to_string(),
            format!("{failure:?}"),
            failure.text(),
            failure.trail(),
        )
    };
    assert_eq!(read(), read());
}

#[test]
fn c_157_first_error_gives_index_and_cause() {
    let failure = Failure::new(FirstError {
        index: 7,
        failure: Oops(157).into(),
    });
    let first = failure.downcast_ref::<FirstError>().unwrap();
    assert_eq!((first.index, first.failure.is::<Oops>()), (7, true));
    assert_eq!(failure.downcast_ref::<Oops>(), Some(&Oops(157)));
    assert_eq!(failure.to_string(), "input 7 failed: oops 157");
}

#[test]
fn question_mark_notes_the_place() {
    fn fails() -> Result<u32, Failure> {
        let result: Result<u32, Oops> = Err(Oops(1));
        Ok(result?)
    }
    let failure = fails().unwrap_err();
    assert!(
        failure.place().file().ends_with("failures.rs"),
        "{}",
        failure.place()
    );
}

#[test]
fn trail_lists_the_links_passed() {
    let end = Deferred::<u32>::failed(Oops(1))
        .add_callback(|x| Ok(x + 1))
        .add_callback(|x| Ok(x + 1));
    let trail = failure(end).trail();
    assert_eq!(trail.len(), 2);
    assert_eq!(trail[0].line() + 1, trail[1].line());
}

/// A retry that fails for ever keeps a bounded history.
#[test]
fn history_is_bounded() {
    let mut deferred = Deferred::<u32>::failed(Oops(0));
    for code in 1..10_000 {
        deferred = deferred
            .add_callback(Ok)
            .add_errback(move |_| Err(Oops(code).into()));
    }
    let last = failure(deferred);
    let handled = std::iter::successors(Some(&last), |failure| failure.handling()).count();
    assert!(handled <= HISTORY_MAX, "{handled}");
    assert!(last.trail().len() <= HISTORY_MAX);
}

#[test]
fn failures_travel_between_threads() {
    let failure = Failure::new(TimedOut {
        after: Duration::from_secs(1),
        what: "x".into(),
    });
    let there = failure.clone();
    let back = std::thread::spawn(move || there.context("on the way"))
        .join()
        .unwrap();
    assert!(back.is::<TimedOut>() && !back.is::<Cancelled>());
}
