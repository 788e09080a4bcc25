//! Jobs of a simulated world: run on the reactor's own thread, after a drawn virtual time.
//!
//! A job runs while the poller waits, never inside a handler, and its result comes back through
//! the remote door as it does from a thread. Jobs of one pool may overtake each other, as they
//! do where a pool has several threads; with [`Fault::JobDelayed`] they do so by seconds.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::clock::VirtualClock;
use super::faults::{Fault, Faults};
use super::poller::{SimIo, SimPoller};
use super::random::Random;
use crate::reactor::worker::WAITING_MAX;
use crate::reactor::{Poller, Pool, Refused, Wake, Worker};
use crate::time::{Clock, Duration};

/// How long an ordinary job takes at most.
const JOB_MAX: Duration = Duration::from_millis(5);
/// How long a delayed job takes.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(8);

/// Runs jobs at a virtual time.
pub struct SimWorker {
    clock: VirtualClock,
    io: SimIo,
    /// The reactor does not see by itself that its own thread called it.
    waker: Arc<dyn Wake>,
    faults: Rc<Faults>,
    random: RefCell<Random>,
    waiting: Rc<Cell<usize>>,
    is_closed: Rc<Cell<bool>>,
}

impl SimWorker {
    /// A worker for the reactor of `poller`.
    pub fn new(
        clock: VirtualClock,
        io: SimIo,
        poller: &SimPoller,
        faults: Rc<Faults>,
        random: Random,
    ) -> Self {
        SimWorker {
            clock,
            io,
            waker: poller.waker(),
            faults,
            random: RefCell::new(random),
            waiting: Rc::default(),
            is_closed: Rc::default(),
        }
    }

    fn duration(&self) -> Duration {
        let mut random = self.random.borrow_mut();
        if self.faults.strike(Fault::JobDelayed) {
            return random.span(DELAY_MIN, DELAY_MAX);
        }
        random.span(Duration::ZERO, JOB_MAX)
    }
}

impl Worker for SimWorker {
    fn submit(
        &self,
        _pool: Pool,
        label: &'static str,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), Refused> {
        if self.is_closed.get() {
            return Err(Refused::Closed);
        }
        if self.waiting.get() >= WAITING_MAX {
            return Err(Refused::Full);
        }
        self.waiting.set(self.waiting.get() + 1);
        let (waiting, is_closed) = (Rc::clone(&self.waiting), Rc::clone(&self.is_closed));
        let waker = Arc::clone(&self.waker);
        let at = self.clock.now() + self.duration();
        self.io.plan(at, move || {
            waiting.set(waiting.get() - 1);
            if is_closed.get() {
                return;
            }
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(label, "a job panicked");
            }
            waker.wake();
        });
        Ok(())
    }

    fn shutdown(&self) {
        self.is_closed.set(true);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reactor::{Options, Reactor, Seams};
    use crate::sim::faults::FaultPlan;

    fn reactor(plan: FaultPlan) -> (Reactor, VirtualClock, Rc<Faults>) {
        let (clock, io) = (VirtualClock::new(), SimIo::new());
        let poller = SimPoller::new(clock.clone(), io.clone());
        let faults = Rc::new(Faults::new(plan, Random::new(1)));
        let random = Random::new(2);
        let worker = SimWorker::new(clock.clone(), io, &poller, Rc::clone(&faults), random);
        let seams = Seams {
            clock: Rc::new(clock.clone()),
            poller: Box::new(poller),
            worker: Rc::new(worker),
        };
        let reactor = Reactor::new(seams, Options::default()).unwrap();
        (reactor, clock, faults)
    }

    /// Runs one job and gives its result and the virtual time that it took.
    fn run_one(plan: FaultPlan) -> (Option<u32>, Duration, u64) {
        let (mut reactor, clock, faults) = reactor(plan);
        let handle = reactor.handle();
        let result = Rc::new(Cell::new(None));
        let seen = Rc::clone(&result);
        let stopper = handle.clone();
        let job = handle.defer_to_thread(Pool::Disk, "test", || Ok(7));
        drop(job.add_both(move |answer| {
            seen.set(answer.ok());
            stopper.stop(crate::reactor::Exit::Stopped);
        }));
        reactor.run().unwrap();
        let took = clock.now().since(crate::time::Instant::ZERO);
        (result.get(), took, faults.counts().of(Fault::JobDelayed))
    }

    #[test]
    fn a_job_answers_after_a_virtual_moment() {
        let (result, took, delayed) = run_one(FaultPlan::quiet());
        assert_eq!((result, delayed), (Some(7), 0));
        assert!(took <= JOB_MAX, "{took:?}");
    }

    #[test]
    fn a_delayed_job_answers_all_the_same() {
        let (result, took, delayed) = run_one(FaultPlan::quiet().with(Fault::JobDelayed, 1000));
        assert_eq!((result, delayed), (Some(7), 1));
        assert!(took >= DELAY_MIN, "{took:?}");
    }
}
