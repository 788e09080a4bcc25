//! The limits in time of one stream, and the timers that keep them.
//!
//! Most connections have none for nearly all of their life, and ten thousand of those are to cost
//! little: the place for them is made when the first is set. Nothing here calls back, so a borrow
//! may last for one statement.

use std::cell::{RefCell, RefMut};

use crate::reactor::TimerGuard;
use crate::time::{Duration, Instant};

/// What limits a stream in time, if anything does.
#[derive(Default)]
pub(super) struct Times(RefCell<Option<Box<TimeLimits>>>);

/// What is set.
#[derive(Default)]
pub(super) struct TimeLimits {
    /// Closes when nothing is received for so long while reading.
    pub idle_timeout: Option<Duration>,
    /// Runs while reading: the idle limit, or the wait of a drain for more.
    pub idle: Option<TimerGuard>,
    /// Closes whatever happens.
    pub deadline: Option<TimerGuard>,
    /// Runs while closing: the limit of the flush, or the next look at a lingering socket.
    pub closing: Option<TimerGuard>,
    /// Set: closes once nothing is left to read, or at this instant.
    pub drain_until: Option<Instant>,
}

impl Times {
    /// The limits, for one to be set.
    pub(super) fn set(&self) -> RefMut<'_, TimeLimits> {
        RefMut::map(self.0.borrow_mut(), |limits| {
            &mut **limits.get_or_insert_default()
        })
    }

    /// Asks the limits, or takes something from them; nothing comes of it where none was ever set.
    pub(super) fn of_set<T>(&self, call: impl FnOnce(&mut TimeLimits) -> Option<T>) -> Option<T> {
        self.0.borrow_mut().as_deref_mut().and_then(call)
    }

    /// The idle limit, with its timer where one runs.
    pub(super) fn set_idle(&self, limit: Option<Duration>, timer: Option<TimerGuard>) {
        let mut limits = self.set();
        limits.idle_timeout = limit;
        limits.idle = timer;
    }

    /// Takes the end of a drain; says whether there was to be one.
    pub(super) fn end_drain(&self) -> bool {
        self.of_set(|limits| limits.drain_until.take()).is_some()
    }

    /// When a drain ends at the latest.
    pub(super) fn drain_until(&self) -> Option<Instant> {
        self.of_set(|limits| limits.drain_until)
    }

    /// Nothing is waited for any more.
    pub(super) fn stop_idle(&self) {
        drop(self.of_set(|limits| limits.idle.take()));
    }

    /// Something was received: the idle limit counts from now, and a drain waits anew.
    #[inline]
    pub(super) fn received(&self) {
        if let Some(limits) = self.0.borrow_mut().as_deref_mut() {
            limits.received();
        }
    }

    /// It is being closed: no limit but that of the close counts any more.
    pub(super) fn stop(&self) {
        drop(self.of_set(|limits| Some((limits.idle.take(), limits.deadline.take()))));
    }

    #[cfg(test)]
    pub(super) fn is_made(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The end has come.
    pub(super) fn clear(&self) {
        drop(self.0.take());
    }
}

impl TimeLimits {
    fn received(&mut self) {
        if self.drain_until.is_some() {
            self.idle = None;
        } else if let (Some(limit), Some(idle)) = (self.idle_timeout, &self.idle) {
            idle.reset(limit);
        }
    }
}
