//! The file sink on the reactor: takes parts, submits jobs, settles what they wrote.
//!
//! One write job at a time per sink; what comes in meanwhile goes into the next one. Parts are
//! settled, and anybody told anything, with no borrow held.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::deferred::{Deferred, Failure, Promise};
use crate::pipeline::port::Inlet;
use crate::reactor::{Handle, Pool, TimerGuard};
use crate::time::{Duration, Instant};

use super::compress::Compressing;
use super::job::{Done, Job};
use super::state::{Notice, Outcome, State};

/// Between two records of events that no file can be made for.
const BAD_PATH_PAUSE: Duration = Duration::from_secs(10);

/// A file sink between start and stop.
pub struct Lane {
    handle: Handle,
    inlet: Inlet,
    component: String,
    state: RefCell<State>,
    timer: RefCell<Option<TimerGuard>>,
    /// Since when writing fails.
    trouble_since: Cell<Option<Instant>>,
    bad_paths: Cell<u64>,
    bad_paths_logged: Cell<Option<Instant>>,
    stop: Cell<Stop>,
    stopped: Cell<Option<Promise<()>>>,
    cancelled: Arc<AtomicBool>,
}

/// How far stopping has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nobody asked for it.
    Running,
    /// What is held gets one more attempt, whatever pauses there are.
    LastAttempt,
    /// That was it.
    Attempted,
}

impl Lane {
    /// A lane that listens to `inlet`.
    pub fn start(handle: Handle, inlet: Inlet, state: State) -> Rc<Lane> {
        let lane = Rc::new(Lane {
            component: format!("sink.{}", inlet.name()),
            handle,
            inlet,
            state: RefCell::new(state),
            timer: RefCell::new(None),
            trouble_since: Cell::new(None),
            bad_paths: Cell::new(0),
            bad_paths_logged: Cell::new(None),
            stop: Cell::new(Stop::Running),
            stopped: Cell::new(None),
            cancelled: Arc::new(AtomicBool::new(false)),
        });
        let weak = Rc::downgrade(&lane);
        lane.inlet.on_ready(move || {
            if let Some(lane) = weak.upgrade() {
                lane.advance();
            }
        });
        lane
    }

    /// Closes all files with the next job, which is submitted at once.
    pub fn reopen(self: &Rc<Self>) {
        self.state.borrow_mut().reopen();
        self.advance();
    }

    /// Writes what is held, once more if it must be, and closes. Fires when that is done.
    pub fn stop(self: &Rc<Self>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.stopped.set(Some(promise));
        self.stop.set(Stop::LastAttempt);
        self.cancelled.store(true, Ordering::Relaxed);
        self.advance();
        deferred
    }

    /// Gives what is not written back to the port.
    pub fn abandon(&self) {
        self.timer.take();
        let left = self.state.borrow_mut().take_back();
        self.inlet.give_back(left.into_iter());
    }

    /// Does whatever can be done now.
    fn advance(self: &Rc<Self>) {
        self.take_parts();
        self.submit();
        self.end();
    }

    fn take_parts(&self) {
        while self.state.borrow().has_room() {
            let Some(part) = self.inlet.next() else {
                return;
            };
            let outcome = self.state.borrow_mut().admit(part);
            self.conclude(outcome);
        }
    }

    fn submit(self: &Rc<Self>) {
        let now = match self.stop.get() {
            Stop::Running => Some(self.handle.now()),
            Stop::LastAttempt => None,
            Stop::Attempted => Some(Instant::ZERO),
        };
        let wall = self.handle.wall();
        let Some(job) = self.state.borrow_mut().next_job(now, wall) else {
            return self.arm();
        };
        if self.stop.get() == Stop::LastAttempt {
            self.stop.set(Stop::Attempted);
        }
        self.timer.take();
        let lane = Rc::clone(self);
        let run = move || Ok(Job::run(job));
        let ended = self.handle.defer_to_thread(Pool::Disk, "file sink", run);
        drop(ended.add_both(move |result| {
            lane.job_ended(result);
            Ok(())
        }));
    }

    /// Comes back when the first pause is over.
    fn arm(self: &Rc<Self>) {
        let due = self.state.borrow().next_due();
        let Some(due) = due.filter(|_| self.stop.get() == Stop::Running) else {
            return;
        };
        if self.trouble_since.get().is_some() {
            self.inlet.tries_again_in(due.since(self.handle.now()));
        }
        let weak = Rc::downgrade(self);
        let timer = self.handle.call_at(due, move |_| {
            if let Some(lane) = weak.upgrade() {
                lane.advance();
            }
        });
        self.timer.replace(Some(timer.guard()));
    }

    fn job_ended(self: &Rc<Self>, result: Result<Done, Failure>) {
        let now = self.handle.now();
        let mut outcome = match result {
            Ok(done) => self.state.borrow_mut().job_done(done, now),
            Err(failure) => self.state.borrow_mut().job_lost(&failure.text(), now),
        };
        let compressing = outcome.compressing.take();
        self.conclude(outcome);
        if let Some(compressing) = compressing {
            self.compress(compressing);
        }
        self.advance();
    }

    /// Compresses beside the writing, on a thread that no writing needs.
    fn compress(self: &Rc<Self>, compressing: Compressing) {
        let cancelled = Arc::clone(&self.cancelled);
        let run = move || {
            let result = compressing.run(&cancelled);
            Ok((compressing, result))
        };
        let ended = self
            .handle
            .defer_to_thread(Pool::General, "compress old files", run);
        let lane = Rc::clone(self);
        drop(ended.add_both(move |ended| {
            let outcome = match ended {
                Ok((compressing, result)) => {
                    lane.state.borrow_mut().compressed(compressing, &result)
                }
                Err(failure) => lane.state.borrow_mut().compression_lost(&failure.text()),
            };
            lane.conclude(outcome);
            lane.advance();
            Ok(())
        }));
    }

    /// Tells the operator first and settles second: who hears of a part finds it explained.
    fn conclude(&self, outcome: Outcome) {
        for notice in outcome.notices {
            self.tell(notice);
        }
        for part in outcome.finished {
            part.delivered();
        }
    }

    fn tell(&self, notice: Notice) {
        let component = self.component.as_str();
        match notice {
            Notice::Trouble(text) => {
                self.inlet.set_trouble(Some(&text));
                if self.trouble_since.get().is_none() {
                    self.trouble_since.set(Some(self.handle.now()));
                    tracing::warn!(component, event = "sink_trouble", "{text}");
                }
            }
            Notice::Fine => {
                let Some(since) = self.trouble_since.take() else {
                    return;
                };
                self.inlet.set_trouble(None);
                let lasted = self.handle.now().since(since);
                let seconds = lasted.as_secs_f64();
                tracing::info!(
                    component,
                    event = "sink_recovered",
                    seconds,
                    "writing again after {seconds:.1} s"
                );
            }
            Notice::BadPath { events, text } => self.tell_bad_path(events, &text),
            Notice::Warning(text) => {
                tracing::warn!(component, event = "file_warning", "{text}");
            }
        }
    }

    /// One record for many: any peer can cause these.
    fn tell_bad_path(&self, events: u64, text: &str) {
        let (now, logged) = (self.handle.now(), self.bad_paths_logged.get());
        let dropped = self.bad_paths.get() + events;
        self.bad_paths.set(dropped);
        if logged.is_some_and(|logged| now.since(logged) < BAD_PATH_PAUSE) {
            return;
        }
        self.bad_paths_logged.set(Some(now));
        self.bad_paths.set(0);
        tracing::warn!(
            component = self.component.as_str(),
            event = "bad_path",
            dropped,
            "dropped {dropped} events: {text}"
        );
    }

    /// Fires the stop once there is nothing left to do, or nothing left to try.
    fn end(&self) {
        let is_quiet = self.state.borrow().is_quiet();
        let is_over = self.stop.get() == Stop::Attempted || self.state.borrow().is_empty();
        if self.stop.get() == Stop::Running || !is_quiet || !is_over {
            return;
        }
        self.abandon();
        if let Some(promise) = self.stopped.take() {
            promise.callback(());
        }
    }
}
