//! Periodic calls on a grid: Twisted's LoopingCall.
//!
//! Runs are due at whole multiples of the interval after the start. A run that comes late, or
//! takes longer than an interval, does not move the grid: missed points are skipped, never made
//! up for in a burst, and the next run is strictly in the future. The function is told how many
//! grid points have passed since it ran last (1 when none was missed). It may return a Deferred;
//! the next run waits for it.
//!
//! Two ways to end: [`Periodic::start`] gives a Deferred that fires when the loop is stopped or
//! its function fails. [`Handle::every`] is supervised: a failure is logged and counted, and the
//! loop goes on, after a pause that doubles from 1 s to 60 s with failures in a row.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::handle::Handle;
use super::timer::TimerGuard;
use crate::deferred::{Deferred, Failure, Link, Promise};
use crate::time::Instant;

/// The pause after the first failure in supervised mode.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after failures in supervised mode.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A function that is called again and again. Clones are the same loop; dropping it does not
/// stop it.
#[derive(Clone)]
pub struct Periodic(Rc<Inner>);

/// The loop runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRunning;

impl fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the periodic call runs already")
    }
}

impl std::error::Error for AlreadyRunning {}

type Function = Box<dyn FnMut(&Handle, u64) -> Deferred<()>>;

struct Inner {
    reactor: Handle,
    /// Absent while it is on the stack.
    function: RefCell<Option<Function>>,
    run: RefCell<Option<Run>>,
    /// Runs that were stopped while their function was at work.
    ending: RefCell<Vec<(RunId, Promise<()>)>>,
    next_run: Cell<u64>,
    failures: Cell<u64>,
}

/// From a start to its stop.
struct Run {
    id: RunId,
    interval: Duration,
    /// The zero of the grid.
    origin: Instant,
    /// The grid point of the last call.
    last_point: u64,
    promise: Option<Promise<()>>,
    timer: Option<TimerGuard>,
    is_supervised: bool,
    failures_in_a_row: u32,
    is_busy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct RunId(u64);

impl Run {
    /// How many grid points lie at or before `now`, the origin not counted.
    fn point(&self, now: Instant) -> u64 {
        let elapsed = now.since(self.origin).as_nanos();
        let points = elapsed.checked_div(self.interval.as_nanos()).unwrap_or(0);
        u64::try_from(points).unwrap_or(u64::MAX)
    }

    /// The first grid point after `moment`.
    fn next_point(&self, moment: Instant) -> Instant {
        let nanos = self
            .interval
            .as_nanos()
            .saturating_mul(u128::from(self.point(moment)) + 1);
        self.origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures_in_a_row.saturating_sub(1).min(6);
        (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
    }
}

impl Handle {
    /// Calls `function` every `interval`, the first time now or an interval from now; supervised.
    /// It gets the number of grid points since its last run. An interval of zero is once a turn.
    #[track_caller]
    pub fn every<L: Link<Out = ()> + 'static>(
        &self,
        interval: Duration,
        now: bool,
        function: impl FnMut(&Handle, u64) -> L + 'static,
    ) -> Periodic {
        let periodic = Periodic::new(self, function);
        periodic.0.clone().begin(interval, now, None);
        periodic
    }
}

impl Periodic {
    /// A loop that does not run yet.
    pub fn new<L: Link<Out = ()> + 'static>(
        reactor: &Handle,
        mut function: impl FnMut(&Handle, u64) -> L + 'static,
    ) -> Periodic {
        let function: Function =
            Box::new(move |reactor, count| Deferred::call(|| function(reactor, count)));
        Periodic(Rc::new(Inner {
            reactor: reactor.clone(),
            function: RefCell::new(Some(function)),
            run: RefCell::default(),
            ending: RefCell::default(),
            next_run: Cell::new(0),
            failures: Cell::new(0),
        }))
    }

    /// Begins, with a call now or an interval from now. The Deferred fires when the loop has been
    /// stopped, or fails with the function's failure, which ends the loop.
    ///
    /// # Errors
    /// [`AlreadyRunning`]; the loop is left alone.
    #[track_caller]
    pub fn start(&self, interval: Duration, now: bool) -> Result<Deferred<()>, AlreadyRunning> {
        if self.is_running() {
            return Err(AlreadyRunning);
        }
        let (promise, deferred) = Deferred::new();
        self.0.clone().begin(interval, now, Some(promise));
        Ok(deferred)
    }

    /// Makes no more calls. The Deferred of `start` fires now, or when the call that is going on
    /// has ended. False when it did not run.
    pub fn stop(&self) -> bool {
        let run = self.0.run.take();
        let Some(run) = run else {
            return false;
        };
        drop(run.timer);
        if let Some(promise) = run.promise {
            if run.is_busy {
                self.0.ending.borrow_mut().push((run.id, promise));
            } else {
                promise.callback(());
            }
        }
        true
    }

    /// Starts the grid anew: the next run is an interval from now. False when it does not run.
    pub fn reset(&self) -> bool {
        let now = self.0.reactor.fresh();
        let busy = {
            let mut run = self.0.run.borrow_mut();
            let Some(run) = run.as_mut() else {
                return false;
            };
            run.origin = now;
            run.last_point = 0;
            run.is_busy
        };
        if !busy {
            self.0.schedule(now);
        }
        true
    }

    /// Between start and stop.
    pub fn is_running(&self) -> bool {
        self.0.run.borrow().is_some()
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.0.failures.get()
    }
}

impl Inner {
    #[track_caller]
    fn begin(self: Rc<Self>, interval: Duration, now: bool, promise: Option<Promise<()>>) {
        let id = RunId(self.next_run.get());
        self.next_run.set(id.0 + 1);
        let origin = self.reactor.fresh();
        self.run.replace(Some(Run {
            id,
            interval,
            origin,
            last_point: 0,
            is_supervised: promise.is_none(),
            promise,
            timer: None,
            failures_in_a_row: 0,
            is_busy: false,
        }));
        if !now {
            self.schedule(origin);
        } else if self.function.borrow().is_some() {
            self.call();
        } else {
            self.schedule_at(origin); // started by its own function, which has to return first
        }
    }

    /// Sets the timer for the first grid point after `moment`.
    fn schedule(self: &Rc<Self>, moment: Instant) {
        let next = self.run.borrow().as_ref().map(|run| run.next_point(moment));
        if let Some(next) = next {
            self.schedule_at(next);
        }
    }

    fn schedule_at(self: &Rc<Self>, deadline: Instant) {
        let this = self.clone();
        let timer = self.reactor.call_at(deadline, move |_| this.call()).guard();
        let former = match self.run.borrow_mut().as_mut() {
            Some(run) => run.timer.replace(timer),
            None => Some(timer),
        };
        drop(former);
    }

    fn call(self: &Rc<Self>) {
        let Some(mut function) = self.function.take() else {
            return;
        };
        let begun = self.begin_call();
        let result = begun.map(|(id, count)| (id, function(&self.reactor, count)));
        self.function.replace(Some(function));
        if let Some((id, result)) = result {
            let this = self.clone();
            drop(result.add_both(move |result| this.ended(id, result)));
        }
    }

    /// Marks the run as busy and counts the grid points.
    fn begin_call(&self) -> Option<(RunId, u64)> {
        let now = self.reactor.fresh();
        let mut run = self.run.borrow_mut();
        let run = run.as_mut()?;
        let point = run.point(now);
        let count = point.saturating_sub(run.last_point).max(1);
        run.last_point = point;
        run.is_busy = true;
        Some((run.id, count))
    }

    fn ended(self: &Rc<Self>, id: RunId, result: Result<(), Failure>) {
        if result.is_err() {
            self.failures.set(self.failures.get() + 1);
        }
        if let Some(promise) = self.take_ending(id) {
            promise.settle(result);
        } else if self.run.borrow().as_ref().is_some_and(|run| run.id == id) {
            self.go_on(result);
        }
    }

    fn take_ending(&self, id: RunId) -> Option<Promise<()>> {
        let mut ending = self.ending.borrow_mut();
        let position = ending.iter().position(|(ending, _)| *ending == id)?;
        Some(ending.swap_remove(position).1)
    }

    /// The next run, or the end.
    fn go_on(self: &Rc<Self>, result: Result<(), Failure>) {
        let mut slot = self.run.borrow_mut();
        let Some(run) = slot.as_mut() else {
            return;
        };
        run.is_busy = false;
        let mut from = self.reactor.fresh();
        match result {
            Ok(()) => run.failures_in_a_row = 0,
            Err(failure) if run.is_supervised => {
                run.failures_in_a_row = run.failures_in_a_row.saturating_add(1);
                let pause = run.pause();
                from = from + pause;
                tracing::error!(%failure, ?pause, "a periodic call failed; it goes on");
            }
            Err(failure) => {
                let ended = slot.take();
                drop(slot);
                if let Some(promise) = ended.and_then(|run| run.promise) {
                    promise.errback(failure);
                }
                return;
            }
        }
        drop(slot);
        self.schedule(from);
    }
}
