//! `defer_to_thread`: a job on a pool, its result as a Deferred on the reactor's thread.
//!
//! Promises are `!Send`, so they stay here, in a slab; the job travels with the token of its
//! promise and its result comes back through the remote door. Cancelling the Deferred does not
//! stop the job; its result is dropped when it comes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use super::core::panic_text;
use super::handle::Handle;
use super::token::Slab;
use super::worker::Pool;
use crate::deferred::{Deferred, Failure, Panicked, Promise};

/// A job that has not come back.
pub(super) struct Job {
    pool: Pool,
    label: &'static str,
    /// A `Promise<T>`; its completion knows `T`.
    promise: Box<dyn Any>,
}

pub(super) type Jobs = Slab<Job>;

impl Handle {
    /// Runs `job` on a thread of `pool`; its result, its error or its panic ([`Panicked`]) comes
    /// on this thread. `label` names it when it is stuck at shutdown.
    #[track_caller]
    pub fn defer_to_thread<T: Send + 'static>(
        &self,
        pool: Pool,
        label: &'static str,
        job: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Deferred<T> {
        let place = Location::caller();
        let (promise, deferred) = Deferred::<T>::new();
        let token = self.core.jobs.borrow_mut().insert(Job {
            pool,
            label,
            promise: Box::new(promise),
        });
        let remote = self.remote();
        let run = move || {
            let caught = catch_unwind(AssertUnwindSafe(job));
            let result = caught.unwrap_or_else(|panic| {
                let message = panic_text(&*panic).to_owned();
                Err(Failure::new(Panicked { message, place }))
            });
            // Without a reactor nobody waits for the result.
            let _ = remote.call(move |reactor| {
                reactor.core.worker.came_back(pool);
                reactor.job_ended::<T>(token, result);
            });
        };
        if let Err(refused) = self.core.worker.submit(pool, label, Box::new(run)) {
            self.job_ended::<T>(token, Err(Failure::new(refused)));
        }
        deferred
    }

    fn job_ended<T: 'static>(&self, token: super::Token, result: Result<T, Failure>) {
        let job = self.core.jobs.borrow_mut().remove(token);
        let promise = job.and_then(|job| job.promise.downcast::<Promise<T>>().ok());
        if let Some(promise) = promise {
            promise.settle(result); // whether anybody still waits does not matter here
        }
    }

    /// The jobs that have not come back: their pool and what they are about.
    pub fn pending_jobs(&self) -> Vec<(Pool, &'static str)> {
        let jobs = self.core.jobs.borrow();
        jobs.iter().map(|(_, job)| (job.pool, job.label)).collect()
    }

    /// The jobs that shutdown waits for. A name that is being resolved interests nobody then.
    pub(super) fn awaited_jobs(&self) -> Vec<(Pool, &'static str)> {
        let jobs = self.core.jobs.borrow();
        let all = jobs.iter().map(|(_, job)| (job.pool, job.label));
        all.filter(|(pool, _)| *pool != Pool::Dns).collect()
    }
}
