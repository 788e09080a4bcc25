//! The run loop of a thread: it runs links one after the other, whatever fires what.
//!
//! A link never runs inside another. What a running link fires is put on a stack and begins
//! when the link has returned: first what it fired, in the order fired and each as far as it
//! goes, then the link's own chain. So the stack of the thread does not grow with the length of
//! a chain, and the loop is empty whenever the outermost firing returns.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::failure::panic_message;

/// Something to run when the running link has returned.
pub(super) trait Job {
    /// Runs it; the answer is what goes on from here.
    fn run(self: Rc<Self>) -> Next;
}

/// What a job leads to.
pub(super) type Next = Option<Rc<dyn Job>>;

struct RunLoop {
    running: Cell<bool>,
    /// A stack: the last one runs first.
    jobs: RefCell<Vec<Rc<dyn Job>>>,
}

thread_local! {
    static LOOP: RunLoop = const {
        RunLoop { running: Cell::new(false), jobs: RefCell::new(Vec::new()) }
    };
}

/// Jobs for which memory is kept while the loop is idle.
const JOBS_KEPT: usize = 1024;

/// Does `first` at once, and what it leads to at once too, or, from inside a running link,
/// when that has returned.
pub(super) fn enter(first: impl FnOnce() -> Next) {
    let mut first = Some(first);
    let entered = LOOP.try_with(|this| this.enter(&mut first));
    // The thread is ending and its loop is gone: go on without one.
    if entered.is_err() {
        let mut next = first.take().and_then(|first| first());
        while let Some(job) = next {
            next = job.run();
        }
    }
}

/// Runs a job at once, or, from inside a running link, when that has returned.
pub(super) fn enter_job(job: Rc<dyn Job>) {
    enter(|| Some(job));
}

impl RunLoop {
    fn enter(&self, first: &mut Option<impl FnOnce() -> Next>) {
        let Some(first) = first.take() else { return };
        if self.running.replace(true) {
            if let Some(job) = first() {
                self.jobs.borrow_mut().push(job);
            }
            return;
        }
        let mut first = Some(first);
        // Links catch their own panics. What remains is the Drop of a foreign value.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            let next = first.take().and_then(|first| self.step(first));
            self.drain(next);
        })) {
            super::unhandled::log_panic("a dropped value", &panic_message(panic));
        }
        self.running.set(false);
        if self.jobs.borrow().capacity() > JOBS_KEPT {
            self.jobs.replace(Vec::new());
        }
    }

    fn drain(&self, mut next: Next) {
        loop {
            let Some(job) = next.or_else(|| self.jobs.borrow_mut().pop()) else {
                return;
            };
            next = self.step(|| job.run());
        }
    }

    /// Runs one job; what it queued meanwhile goes before what it leads to.
    fn step(&self, job: impl FnOnce() -> Next) -> Next {
        let before = self.jobs.borrow().len();
        let next = job();
        let mut jobs = self.jobs.borrow_mut();
        if jobs.len() == before {
            return next;
        }
        jobs.extend(next);
        jobs[before..].reverse();
        None
    }
}
