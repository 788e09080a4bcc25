//! Log records about failures that nobody handled. Logging never panics: not when the error's
//! `Display` does, not when the subscriber does, and not while the thread is unwinding.
//!
//! A failure that says [`Cancelled`] or [`BrokenPromise`] is logged at debug level: somebody
//! asked for the first, and the second is what dropping both ends together looks like.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::{Failure, Place};
use super::kinds::{BrokenPromise, Cancelled};

/// Logs a failure that reached the end of its chain.
#[cold]
pub(super) fn log_unhandled(failure: &Failure, place: Place, name: Option<&str>) {
    let error = failure.text();
    let report = failure.report();
    let name = name.unwrap_or("");
    let quiet = failure.is::<Cancelled>() || failure.is::<BrokenPromise>();
    guarded(|| {
        if quiet {
            tracing::debug!(event = "unhandled_failure", name, %place, error, report,
                "nobody handled a failure");
        } else {
            tracing::error!(event = "unhandled_failure", name, %place, error, report,
                "nobody handled a failure");
        }
    });
}

/// Logs a failure that a chain was told to end with.
#[cold]
pub(super) fn log_failed(what: &str, failure: &Failure) {
    let error = failure.text();
    let report = failure.report();
    guarded(|| {
        tracing::error!(event = "failure", what, error, report, "failed");
    });
}

/// Logs a panic that no Deferred can carry.
#[cold]
pub(super) fn log_panic(what: &str, message: &str) {
    guarded(|| {
        tracing::error!(event = "panic", what, message, "panicked");
    });
}

fn guarded(log: impl FnOnce()) {
    // There is nobody left to tell that the log is broken.
    let _ = catch_unwind(AssertUnwindSafe(log));
}
