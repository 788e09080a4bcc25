//! `durability_assert!`: the one assertion that nothing catches.
//!
//! Handlers that panic are caught and the daemon goes on. Where the promise "acknowledged is not
//! lost" is found broken, going on would make it worse: the process aborts, and what is on disk
//! is read again by the next one.

use std::fmt;
use std::io::Write;
use std::panic::Location;

/// Aborts the process when the condition is false; with a message like that of `assert!`.
///
/// ```
/// marline::durability_assert!(1 + 1 == 2, "acknowledged {} bytes that were not written", 7);
/// ```
#[macro_export]
macro_rules! durability_assert {
    ($condition:expr $(,)?) => {
        $crate::durability_assert!($condition, "")
    };
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::reactor::abort_for_durability(
                stringify!($condition),
                format_args!($($message)+),
            )
        }
    };
}

/// What the macro calls.
#[doc(hidden)]
#[track_caller]
pub fn abort_for_durability(condition: &str, message: fmt::Arguments<'_>) -> ! {
    let at = Location::caller();
    tracing::error!(condition, %message, %at, "a durability invariant is broken; aborting");
    // The log writer may be another thread that does not get to it; stderr is at hand.
    let text = format!("{at}: durability invariant `{condition}` is broken: {message}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}
