//! The errors that this room makes itself, to be asked for with `failure.is::<Cancelled>()`.
//!
//! Each says whose doing it is: the consumer's ([`Cancelled`]), the clock's ([`TimedOut`]), the
//! producer's ([`BrokenPromise`]), a bug's ([`Panicked`]), or that of several inputs at once
//! ([`FirstError`], [`AllFailed`], [`Empty`]).

use std::error::Error;
use std::fmt;

use crate::time::Duration;

use super::failure::{Failure, Place};

/// The consumer did not want the result any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl Error for Cancelled {}

/// No result within the time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// The limit that was set.
    pub after: Duration,
    /// The name of the Deferred, or the place where it was made.
    pub what: String,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} timed out after {:?}", self.what, self.after)
    }
}

impl Error for TimedOut {}

/// The promise was dropped without being fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenPromise {
    /// Where the promise was made.
    pub place: Place,
}

impl fmt::Display for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the promise made at {} was dropped without a result",
            self.place
        )
    }
}

impl Error for BrokenPromise {}

/// A link, a canceller or a coroutine panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// The panic's text.
    pub message: String,
    /// Where the link was added or the coroutine spawned.
    pub place: Place,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked in {}: {}", self.place, self.message)
    }
}

impl Error for Panicked {}

/// One of several inputs failed, and all were needed.
#[derive(Clone, Debug)]
pub struct FirstError {
    /// Which input, counted from 0.
    pub index: usize,
    /// How it failed; also this error's source.
    pub failure: Failure,
}

impl fmt::Display for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {} failed", self.index)
    }
}

impl Error for FirstError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.failure.as_error())
    }
}

/// Every input failed, and one success was needed. Failures in the order of the inputs.
#[derive(Clone, Debug)]
pub struct AllFailed(pub Vec<Failure>);

impl fmt::Display for AllFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {} inputs failed", self.0.len())?;
        for (index, failure) in self.0.iter().enumerate() {
            write!(f, "; {index}: {failure}")?;
        }
        Ok(())
    }
}

impl Error for AllFailed {}

/// One success of several inputs was asked for, and there were no inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Empty;

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no inputs to choose from")
    }
}

impl Error for Empty {}
