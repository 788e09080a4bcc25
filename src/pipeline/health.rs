//! Whether a sink delivers: what is wrong, since when, and when it is tried again.
//!
//! The sink tells, through its inlet; the watch over blocked sources and `marline status` read.
//! Up means that nothing is known to be wrong: a sink that has had nothing to do may learn
//! better. The last error stays known after the sink has recovered. Texts are cut at the length
//! of a log line's, for a peer may have had a hand in them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::telemetry::record::TEXT_BYTES_MAX;
use crate::time::{Instant, WallTime};

/// What a sink has told of itself.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: RefCell<Option<Trouble>>,
    last_error: RefCell<Option<LastError>>,
    next_try: Cell<Option<Instant>>,
}

/// What keeps a sink from delivering.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What it said last.
    pub why: Rc<str>,
    /// Since when it fails.
    pub since: Instant,
    /// Attempts that have failed since.
    pub failures: u64,
    /// When it is tried again, if that is decided.
    pub next_try: Option<Instant>,
}

/// The last thing that went wrong, mended or not.
#[derive(Clone, Debug)]
pub struct LastError {
    /// What it was.
    pub why: Rc<str>,
    /// When.
    pub at: WallTime,
}

impl Health {
    /// An attempt has failed.
    pub(super) fn failed(&self, why: &str, now: Instant, at: WallTime) {
        let why: Rc<str> = why[..why.floor_char_boundary(TEXT_BYTES_MAX)].into();
        *self.last_error.borrow_mut() = Some(LastError {
            why: Rc::clone(&why),
            at,
        });
        let mut trouble = self.trouble.borrow_mut();
        let before = trouble.take();
        *trouble = Some(Trouble {
            why,
            since: before.as_ref().map_or(now, |before| before.since),
            failures: before.map_or(0, |before| before.failures) + 1,
            next_try: None,
        });
        self.next_try.set(None);
    }

    /// It delivers again.
    pub(super) fn recovered(&self) {
        *self.trouble.borrow_mut() = None;
        self.next_try.set(None);
    }

    /// When the next attempt is made.
    pub(super) fn tries_again(&self, at: Instant) {
        self.next_try.set(Some(at));
    }

    /// What is wrong now.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let next_try = self.next_try.get();
        let trouble = self.trouble.borrow().clone();
        trouble.map(|trouble| Trouble {
            next_try,
            ..trouble
        })
    }

    /// What went wrong last.
    pub(super) fn last_error(&self) -> Option<LastError> {
        self.last_error.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning_and_the_last_error_outlives_it() {
        let health = Health::default();
        let at = |nanos| {
            (
                Instant::from_nanos(nanos),
                WallTime::from_micros(nanos as i64),
            )
        };
        let (first, wall) = at(10);
        health.failed("refused", first, wall);
        health.tries_again(Instant::from_nanos(15));
        let (second, wall) = at(20);
        health.failed("no route", second, wall);
        let trouble = health.trouble().unwrap();
        assert_eq!((&*trouble.why, trouble.since), ("no route", first));
        assert_eq!((trouble.failures, trouble.next_try), (2, None));
        health.tries_again(Instant::from_nanos(30));
        assert_eq!(
            health.trouble().unwrap().next_try,
            Some(Instant::from_nanos(30))
        );
        health.recovered();
        assert!(health.trouble().is_none());
        assert_eq!(&*health.last_error().unwrap().why, "no route");
    }
}
