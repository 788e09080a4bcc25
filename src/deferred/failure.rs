//! [`Failure`]: the error side of every Deferred, and of whoever wants one error type.
//!
//! A failure is an error, the place where it became one, and its history: the links, awaits
//! and returned Deferreds it passed, and the failure that was being handled when it arose.
//! Cloning shares the error; [`Failure::same`] tells whether two failures are one.
//!
//! The history belongs to the handle and is only ever prepended to, so no two failures can
//! refer to each other in a ring. It keeps [`HISTORY_MAX`] steps; what comes later is left out.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use super::kinds::Panicked;

/// Steps of history that one failure keeps: places passed and failures handled.
pub const HISTORY_MAX: usize = 32;

/// A place in the sources.
pub type Place = &'static Location<'static>;

/// An error on its way: what went wrong, where, and what it passed since. `Send + Sync`, and
/// cheap to clone.
///
/// It does not implement `Error`, so that `?` turns any error into it; [`Failure::as_error`]
/// is the error inside.
///
/// ```
/// use marline::deferred::Failure;
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.parse::<u16>()?)
/// }
/// let failure = port("http").unwrap_err().context("reading the port");
/// assert!(failure.is::<std::num::ParseIntError>());
/// assert_eq!(failure.to_string(), "reading the port: invalid digit found in string");
/// ```
#[derive(Clone)]
pub struct Failure {
    made: Arc<Made<dyn Error + Send + Sync>>,
    history: Option<Arc<Step>>,
}

/// An error and where it became a failure.
struct Made<E: ?Sized> {
    place: Place,
    error: E,
}

/// One step of a failure's history, latest first.
struct Step {
    what: Happened,
    earlier: Option<Arc<Step>>,
    /// Longest path to the end of the history, over handled failures too.
    depth: usize,
}

enum Happened {
    /// A link, an await or an outer Deferred handed the failure on.
    Passed(Place),
    /// The failure arose in an errback that was handling this one.
    Handling(Failure),
}

impl Failure {
    /// A failure from an error, made at the caller's place.
    #[track_caller]
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Failure::at(Location::caller(), error)
    }

    /// A failure that is only a text.
    #[track_caller]
    pub fn msg(message: impl Into<String>) -> Self {
        Failure::at(Location::caller(), Message(message.into()))
    }

    pub(super) fn at(place: Place, error: impl Error + Send + Sync + 'static) -> Self {
        Failure {
            made: Arc::new(Made { place, error }),
            history: None,
        }
    }

    /// What a caught panic becomes.
    pub(super) fn of_panic(place: Place, panic: Box<dyn Any + Send>) -> Self {
        let message = panic_message(panic);
        Failure::at(place, Panicked { message, place })
    }

    /// The same failure as the cause of a sentence about what was being done. Place and history
    /// are kept, and this place is added.
    #[track_caller]
    pub fn context(self, doing: impl Into<String>) -> Self {
        let (place, history) = (self.place(), self.history.clone());
        let doing = doing.into();
        let made = Arc::new(Made {
            place,
            error: Context { doing, cause: self },
        });
        Failure { made, history }.passed(Location::caller())
    }

    /// Whether the error, or one of its causes, is an `E`.
    pub fn is<E: Error + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    /// The first `E` among the error and its causes (contexts and [`Error::source`], not the
    /// failure that was being handled: see [`Failure::handling`]).
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.causes().find_map(|cause| cause.downcast_ref::<E>())
    }

    /// Whether both are handles of one failure.
    pub fn same(&self, other: &Failure) -> bool {
        Arc::ptr_eq(&self.made, &other.made)
    }

    /// Where the failure was made.
    pub fn place(&self) -> Place {
        self.made.place
    }

    /// The error inside.
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &self.made.error
    }

    /// The error, its source, and so on; at most [`HISTORY_MAX`] of them.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let first: &(dyn Error + 'static) = self.as_error();
        std::iter::successors(Some(first), |&error| error.source()).take(HISTORY_MAX)
    }

    /// The failure that was being handled when this one arose: the errback got that and ended
    /// with this.
    pub fn handling(&self) -> Option<&Failure> {
        self.steps().find_map(|step| match &step.what {
            Happened::Handling(failure) => Some(failure),
            Happened::Passed(_) => None,
        })
    }

    /// The places it passed, earliest first: links, awaits, outer Deferreds.
    pub fn trail(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self
            .steps()
            .filter_map(|step| match step.what {
                Happened::Passed(place) => Some(place),
                Happened::Handling(_) => None,
            })
            .collect();
        places.reverse();
        places
    }

    /// The chain of messages in one line, as `Display` writes it, but surviving an error whose
    /// own `Display` panics.
    pub fn text(&self) -> String {
        catch_unwind(AssertUnwindSafe(|| self.to_string()))
            .unwrap_or_else(|_| String::from("(the error's Display panicked)"))
    }

    /// Everything known, on several lines, as `Debug` writes it; survives a panicking error.
    pub fn report(&self) -> String {
        let mut lines = format!("{}\n  made at {}", self.text(), self.place());
        for place in self.trail() {
            lines.push_str(&format!("\n  passed {place}"));
        }
        if let Some(handled) = self.handling() {
            let inner = handled.report().replace('\n', "\n  ");
            lines.push_str(&format!("\n  while handling: {inner}"));
        }
        lines
    }

    /// Notes that it was handed on at `place`.
    pub(super) fn passed(self, place: Place) -> Self {
        self.with(Happened::Passed(place), 0)
    }

    /// What an errback that got `before` and ended with `self` hands on.
    pub(super) fn after(self, before: Failure, place: Place) -> Self {
        if self.same(&before) {
            return self.passed(place);
        }
        let depth = before.depth();
        self.with(Happened::Handling(before), depth)
    }

    fn with(self, what: Happened, depth: usize) -> Self {
        let depth = self.depth().max(depth) + 1;
        if depth > HISTORY_MAX {
            return self;
        }
        let earlier = self.history;
        let step = Step {
            what,
            earlier,
            depth,
        };
        Failure {
            made: self.made,
            history: Some(Arc::new(step)),
        }
    }

    fn depth(&self) -> usize {
        self.history.as_ref().map_or(0, |step| step.depth)
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        std::iter::successors(self.history.as_deref(), |step| step.earlier.as_deref())
    }
}

impl fmt::Display for Failure {
    /// The message and those of its causes, joined by ": ". A cause that its parent already
    /// quotes is not repeated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        for cause in self.causes() {
            let text = cause.to_string();
            if said.is_empty() {
                said = text;
            } else if !said.contains(&text) {
                said.push_str(": ");
                said.push_str(&text);
            }
        }
        f.write_str(&said)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Failure::new(error)
    }
}

/// The text of a panic, as far as it has one.
pub(super) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| String::from(*text))
        .or_else(|| panic.downcast_ref::<String>().cloned());
    // The payload is foreign: its Drop may panic as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    text.unwrap_or_else(|| String::from("(a panic without a text)"))
}

#[derive(Debug)]
struct Message(String);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Message {}

/// A failure with a sentence in front.
#[derive(Debug)]
struct Context {
    doing: String,
    cause: Failure,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.as_error())
    }
}
