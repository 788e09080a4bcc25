//! Timers as the reactor's users see them: `call_later` and what it returns.
//!
//! A [`Timer`] may be dropped without effect; a [`TimerGuard`] takes its call back when dropped.
//! A call is never early. Calls with the same deadline run in the order in which they were set. A
//! timer made by a timer's call waits for a later turn, so a chain of zero delays cannot keep
//! the sources from being served.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::core::Place;
use super::handle::Handle;
use super::token::Token;
use crate::deferred::{Deferred, Link};
use crate::time::{Cancel, Instant, Scheduler, Timers, WallTime};

/// What the queue holds: the call and where it was asked for.
pub(super) struct TimerCall {
    call: Box<dyn FnOnce(&Handle)>,
    at: &'static Location<'static>,
}

/// A call in the future. Dropping this changes nothing.
#[must_use = "dropping a timer does not cancel it; say so with `let _ =`"]
pub struct Timer {
    reactor: Handle,
    token: Token,
}

/// A pending timer, as a list of them shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingTimer {
    /// When it is due.
    pub deadline: Instant,
    /// Where it was set.
    pub at: &'static Location<'static>,
}

impl Timer {
    /// Takes the call back and drops it at once. False when it has been made or taken back.
    pub fn cancel(&self) -> bool {
        let call = self.reactor.core.timers.borrow_mut().cancel(self.token);
        call.is_some()
    }

    /// Makes the call `delay` from now instead. Cheap when that is later than before. False when
    /// it has been made or taken back.
    pub fn reset(&self, delay: Duration) -> bool {
        let deadline = self.reactor.fresh() + delay;
        let mut timers = self.reactor.core.timers.borrow_mut();
        timers.reset(self.token, deadline)
    }

    /// Makes the call `delay` later than it was to be. False when it has been made or taken back.
    pub fn delay_by(&self, delay: Duration) -> bool {
        let mut timers = self.reactor.core.timers.borrow_mut();
        let Some(deadline) = timers.deadline(self.token) else {
            return false;
        };
        timers.reset(self.token, deadline + delay)
    }

    /// The call is still to be made.
    pub fn is_active(&self) -> bool {
        self.deadline().is_some()
    }

    /// When the call is due; `None` when it has been made or taken back.
    pub fn deadline(&self) -> Option<Instant> {
        self.reactor.core.timers.borrow().deadline(self.token)
    }

    /// A timer whose call is taken back when the guard is dropped.
    pub fn guard(self) -> TimerGuard {
        TimerGuard(self)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("deadline", &self.deadline())
            .finish()
    }
}

impl Cancel for Timer {
    fn cancel(self: Box<Self>) {
        Timer::cancel(&self);
    }
}

/// A timer that belongs to its owner: dropped with it, its call is not made.
#[derive(Debug)]
pub struct TimerGuard(Timer);

impl std::ops::Deref for TimerGuard {
    type Target = Timer;

    fn deref(&self) -> &Timer {
        &self.0
    }
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Handle {
    /// Runs `call` once, `delay` from now, never earlier, in a later turn.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce(&Handle) + 'static) -> Timer {
        self.call_at(self.fresh() + delay, call)
    }

    /// Runs `call` once, at `deadline`, never earlier, in a later turn.
    #[track_caller]
    pub fn call_at(&self, deadline: Instant, call: impl FnOnce(&Handle) + 'static) -> Timer {
        let call = TimerCall {
            call: Box::new(call),
            at: Location::caller(),
        };
        let token = if self.has_ended() {
            drop(call); // it would never be made
            Token::NONE
        } else {
            self.core.timers.borrow_mut().insert(deadline, call)
        };
        Timer {
            reactor: self.clone(),
            token,
        }
    }

    /// Runs `call` once, `delay` from now; the Deferred gets what it returns. Cancelling the
    /// Deferred cancels the timer, or what `call` returned.
    #[track_caller]
    pub fn defer_later<L: Link + 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce(&Handle) -> L + 'static,
    ) -> Deferred<L::Out> {
        let slot = Rc::new(RefCell::new(None::<Timer>));
        let timer = slot.clone();
        let (promise, deferred) = Deferred::<()>::with_canceller(move |_| {
            if let Some(timer) = timer.take() {
                timer.cancel();
            }
        });
        let timer = self.call_later(delay, move |_| {
            promise.callback(());
        });
        slot.replace(Some(timer));
        let reactor = self.clone();
        deferred.add_callback(move |()| call(&reactor))
    }

    /// All timers that are still to fire, by deadline.
    pub fn pending_timers(&self) -> Vec<PendingTimer> {
        let timers = self.core.timers.borrow();
        let pending = timers.iter();
        let mut pending: Vec<PendingTimer> = pending
            .map(|(deadline, call)| PendingTimer {
                deadline,
                at: call.at,
            })
            .collect();
        pending.sort_by_key(|timer| timer.deadline);
        pending
    }

    /// Runs the timers that are due, but for those made since the step began.
    pub(super) fn run_timers(&self) {
        let mark = self.core.timers.borrow().mark();
        let mut newer = Vec::new();
        loop {
            let now = self.core.now.get();
            let due = self.core.timers.borrow_mut().pop_due(now, mark, &mut newer);
            let Some((deadline, TimerCall { call, at })) = due else {
                break;
            };
            self.core.watch.timer_fired(now.since(deadline));
            // Logged by `enter`; the other timers run all the same.
            let _ = self.enter(Place { kind: "timer", at }, call);
        }
        self.core.timers.borrow_mut().put_back(&mut newer);
    }
}

/// What rooms below the reactor may ask of it.
impl Scheduler for Handle {
    fn now(&self) -> Instant {
        Handle::now(self)
    }

    fn wall(&self) -> WallTime {
        Handle::wall(self)
    }

    fn call_soon(&self, call: Box<dyn FnOnce()>) {
        Handle::call_soon(self, move |_| call());
    }
}

impl Timers for Handle {
    #[track_caller]
    fn call_after(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Box<dyn Cancel> {
        Box::new(self.call_later(delay, move |_| call()))
    }
}
