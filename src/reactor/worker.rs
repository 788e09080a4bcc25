//! Threads: the only place that starts any.
//!
//! What blocks (files, name resolution) is a job on a pool. The pools are apart, so stuck disk
//! jobs never keep a name from being resolved. Threads are started when there is work for them,
//! up to the pool's size, and then stay, asleep. Jobs beyond that wait in order, up to
//! [`WAITING_MAX`]; more are refused. A job cannot be stopped: what has not ended at shutdown is
//! left behind. Use it through `Handle::defer_to_thread`, which names those.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Jobs that may wait for a thread, per pool.
pub const WAITING_MAX: usize = 4096;

/// What a job is about, and so which threads run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Files and directories.
    Disk,
    /// Disk buffers: apart, since a sync may take seconds. Each has one write job at a time.
    Buffer,
    /// Name resolution.
    Dns,
    /// Everything else.
    General,
}

impl Pool {
    const ALL: [Pool; 4] = [Pool::Disk, Pool::Buffer, Pool::Dns, Pool::General];

    const fn name(self) -> &'static str {
        match self {
            Pool::Disk => "disk",
            Pool::Buffer => "buffer",
            Pool::Dns => "dns",
            Pool::General => "work",
        }
    }
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// [`WAITING_MAX`] jobs wait already.
    Full,
    /// The pools are shut down.
    Closed,
    /// The system has no thread for it.
    NoThread,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "too many jobs wait for a thread",
            Refused::Closed => "the thread pools are shut down",
            Refused::NoThread => "the system has no thread left",
        })
    }
}

impl std::error::Error for Refused {}

/// One of the five seams to the operating system: who runs what blocks.
pub trait Worker {
    /// Runs `job` on another thread, after those submitted to the pool before have begun.
    /// [`Handle::defer_to_thread`](super::Handle::defer_to_thread) is the way to do so.
    ///
    /// # Errors
    /// [`Refused`]; the job is dropped.
    fn submit(
        &self,
        pool: Pool,
        label: &'static str,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), Refused>;

    /// The result of a job of `pool` has come back: its thread is free for the next one, also
    /// where it has not said so yet. Who submits one job after another needs one thread.
    fn came_back(&self, _pool: Pool) {}

    /// Takes no more jobs; those that have not begun are dropped, the others are left to end.
    fn shutdown(&self);
}

/// How many threads each pool may have; at least one.
#[derive(Clone, Copy, Debug)]
pub struct PoolSizes {
    /// For [`Pool::Disk`].
    pub disk: usize,
    /// For [`Pool::Buffer`].
    pub buffer: usize,
    /// For [`Pool::Dns`].
    pub dns: usize,
    /// For [`Pool::General`].
    pub general: usize,
}

impl Default for PoolSizes {
    fn default() -> Self {
        PoolSizes {
            disk: 4,
            buffer: 16,
            dns: 4,
            general: 4,
        }
    }
}

/// The real worker: four pools of threads. Dropping it shuts them down.
pub struct Threads {
    pools: [Arc<ThreadPool>; 4],
}

impl Threads {
    /// Pools of these sizes; no thread is started before there is a job.
    pub fn new(sizes: PoolSizes) -> Threads {
        let size = |pool| match pool {
            Pool::Disk => sizes.disk,
            Pool::Buffer => sizes.buffer,
            Pool::Dns => sizes.dns,
            Pool::General => sizes.general,
        };
        Threads {
            pools: Pool::ALL.map(|pool| Arc::new(ThreadPool::new(pool, size(pool).max(1)))),
        }
    }

    fn pool(&self, pool: Pool) -> &Arc<ThreadPool> {
        &self.pools[pool as usize]
    }
}

impl Worker for Threads {
    fn submit(
        &self,
        pool: Pool,
        label: &'static str,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), Refused> {
        self.pool(pool).submit(Job { label, run: job })
    }

    fn came_back(&self, pool: Pool) {
        let mut state = self.pool(pool).lock();
        state.under_way = state.under_way.saturating_sub(1);
    }

    fn shutdown(&self) {
        for pool in &self.pools {
            pool.close();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shutdown();
    }
}

struct Job {
    label: &'static str,
    run: Box<dyn FnOnce() + Send>,
}

struct ThreadPool {
    pool: Pool,
    size: usize,
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Default)]
struct PoolState {
    waiting: VecDeque<Job>,
    threads: usize,
    /// Jobs whose results have not come back.
    under_way: usize,
    is_closed: bool,
}

impl ThreadPool {
    fn new(pool: Pool, size: usize) -> ThreadPool {
        ThreadPool {
            pool,
            size,
            state: Mutex::default(),
            work: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Nothing foreign runs under the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= WAITING_MAX {
            return Err(Refused::Full);
        }
        if state.under_way >= state.threads && state.threads < self.size {
            match self.start_thread(state.threads + 1) {
                Ok(()) => state.threads += 1,
                Err(_) if state.threads > 0 => {} // the others will come to it
                Err(error) => {
                    tracing::error!(%error, pool = self.pool.name(), "cannot start a thread");
                    return Err(Refused::NoThread);
                }
            }
        }
        state.under_way += 1;
        state.waiting.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, number: usize) -> io::Result<()> {
        let pool = self.clone();
        let name = format!("{}-{number}", self.pool.name());
        start_thread(name, move || pool.run_jobs()).map(drop)
    }

    /// The life of a thread of the pool.
    fn run_jobs(&self) {
        while let Some(job) = self.next_job() {
            let label = job.label;
            // `defer_to_thread` reports panics; who submits by hand sees them in the log.
            if catch_unwind(AssertUnwindSafe(job.run)).is_err() {
                tracing::error!(label, "a job panicked");
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
        self.work.notify_all();
    }
}

/// Starts a thread of its own: a reactor's, the log writer's. The system shows the first 15
/// bytes of the name.
///
/// # Errors
/// The system's refusal.
pub fn start_thread<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name).spawn(body)
}
