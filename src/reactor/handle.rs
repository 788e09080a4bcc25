//! The handle: how everything on the reactor's thread reaches the reactor.
//!
//! Cheap to clone and `!Send`. Whoever needs to reach the reactor from another thread takes a
//! [`Remote`] along. The methods live where their subject lives: timers in `timer.rs`, sources in
//! `source.rs`, shutdown in `triggers.rs`, and so on; here are the rest.

use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::core::{Core, Life, Notice};
use super::remote::Remote;
use super::watch::Stats;
use super::worker::Worker;
use crate::time::{Instant, WallTime};

/// A door to the reactor of this thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Rc<Core>,
}

impl Handle {
    /// The clock as it was read when the running callback began (or the one before ended): right
    /// for "when did this arrive", and free. For measuring take [`fresh`](Self::fresh).
    pub fn now(&self) -> Instant {
        self.core.now.get()
    }

    /// The clock, read now.
    pub fn fresh(&self) -> Instant {
        let now = self.core.clock.now();
        self.core.now.set(now);
        now
    }

    /// The calendar's time, read now; for logs and events only, it may jump.
    pub fn wall(&self) -> WallTime {
        self.core.clock.wall()
    }

    /// Runs `call` at the end of this turn, or of the next one when it is called by such a call.
    /// The queue has no limit: a component has at most one call of a kind in it.
    #[track_caller]
    pub fn call_soon(&self, call: impl FnOnce(&Handle) + 'static) {
        self.notify(Notice::Call(Box::new(call), Location::caller()));
    }

    /// How long the triggers before shutdown may take altogether, from now on.
    pub fn set_drain_timeout(&self, drain_timeout: Duration) {
        self.core.drain_timeout.set(drain_timeout);
    }

    /// Runs `call` when the reactor runs: in its first turn, or at once when it runs already.
    #[track_caller]
    pub fn call_when_running(&self, call: impl FnOnce(&Handle) + 'static) {
        match self.core.life.get() {
            Life::New => {
                let waiting = (Box::new(call) as Box<_>, Location::caller());
                self.core.start_calls.borrow_mut().push_back(waiting);
            }
            Life::Running | Life::Stopping => call(self),
            Life::Ended(_) => {}
        }
    }

    /// True from the first turn until the reactor has ended, shutdown included.
    pub fn is_running(&self) -> bool {
        matches!(self.core.life.get(), Life::Running | Life::Stopping)
    }

    /// The door for other threads.
    pub fn remote(&self) -> Remote {
        self.core.inbox.remote()
    }

    /// Who runs what blocks.
    pub fn worker(&self) -> Rc<dyn Worker> {
        self.core.worker.clone()
    }

    /// What the reactor has done and holds.
    pub fn stats(&self) -> Stats {
        Stats {
            sources: self.core.sources.borrow().len(),
            ready: self.core.ready.borrow().len(),
            timers: self.core.timers.borrow().len(),
            jobs: self.core.jobs.borrow().len(),
            tasks: crate::deferred::coroutines(),
            dispatch_depth_peak: self.core.depth_peak.get(),
            ..self.core.watch.stats()
        }
    }

    /// How long the next turn may wait: not at all while there is something to do, until the
    /// next deadline otherwise, for ever (`None`) without one.
    pub fn next_wait(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let deadline = self.core.timers.borrow_mut().next_deadline()?;
        Some(deadline.since(self.fresh()).min(WAIT_MAX))
    }

    fn has_work(&self) -> bool {
        !self.core.ready.borrow().is_empty()
            || !self.core.notices.borrow().is_empty()
            || self.core.inbox.is_called()
            || self.is_stop_waiting()
            || crate::deferred::has_woken()
    }

    /// Closes the books of the turn that is over and says how long to wait.
    pub(super) fn before_wait(&self) -> Option<Duration> {
        self.core.watch.turn_ends(self.fresh());
        self.next_wait()
    }

    pub(super) fn poll(
        &self,
        timeout: Option<Duration>,
        events: &mut Vec<super::Readiness>,
    ) -> std::io::Result<()> {
        let result = self.core.poller.borrow_mut().wait(timeout, events);
        self.core.watch.turn_begins(self.fresh());
        result
    }
}

/// The longest wait that every poller can express (24 days in milliseconds).
const WAIT_MAX: Duration = Duration::from_millis(i32::MAX as u64);
