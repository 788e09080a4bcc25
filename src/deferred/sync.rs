//! A lock and a semaphore whose turns are Deferreds. First come, first served; what is given
//! back goes to the next in line without being free in between. Giving back is dropping, and
//! goes through the run loop, so a long line takes no stack.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::chain::Deferred;
use super::failure::Failure;
use super::link::Link;
use super::promise::Promise;

/// A number of permits. Clones are handles of one semaphore.
#[derive(Clone)]
pub struct Semaphore {
    turns: Rc<Turns>,
}

/// One permit, given back when dropped.
pub struct Permit {
    /// `None` once given back.
    turns: Option<Rc<Turns>>,
}

struct Turns {
    state: RefCell<State>,
    total: usize,
}

struct State {
    free: usize,
    waiting: VecDeque<Promise<Permit>>,
    /// Of those waiting; they are swept out when they are the greater part.
    cancelled: usize,
}

impl Semaphore {
    /// A semaphore with `permits` permits; 0 counts as 1.
    pub fn new(permits: usize) -> Self {
        let total = permits.max(1);
        let state = RefCell::new(State {
            free: total,
            waiting: VecDeque::new(),
            cancelled: 0,
        });
        Semaphore {
            turns: Rc::new(Turns { state, total }),
        }
    }

    /// A permit, now or when it is this caller's turn. Cancelling leaves the line; a permit
    /// that has been granted stays granted.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit> {
        if self.turns.take_free() {
            let turns = Some(self.turns.clone());
            return Deferred::ready(Permit { turns });
        }
        let turns = Rc::downgrade(&self.turns);
        let (promise, deferred) = Deferred::with_canceller(move |_| {
            if let Some(turns) = turns.upgrade() {
                turns.one_cancelled();
            }
        });
        self.turns.state.borrow_mut().waiting.push_back(promise);
        deferred
    }

    /// Runs `f` with a permit, which is given back when what `f` returned has its result.
    #[track_caller]
    pub fn run<L: Link>(&self, f: impl FnOnce() -> L + 'static) -> Deferred<L::Out> {
        self.acquire().add_callback(|permit| {
            Deferred::call(f).add_both(|result: Result<L::Out, Failure>| {
                drop(permit);
                result
            })
        })
    }

    /// Permits that are not granted.
    pub fn free(&self) -> usize {
        self.turns.state.borrow().free
    }

    /// Those that wait for a permit.
    pub fn waiting(&self) -> usize {
        let state = self.turns.state.borrow();
        state.waiting.len() - state.cancelled
    }
}

impl Turns {
    fn take_free(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let taken = state.free > 0;
        state.free -= usize::from(taken);
        taken
    }

    /// Someone left the line.
    fn one_cancelled(&self) {
        let mut state = self.state.borrow_mut();
        state.cancelled += 1;
        if state.cancelled * 2 <= state.waiting.len() {
            return;
        }
        state.cancelled = 0;
        let (gone, waiting) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(Promise::is_cancelled);
        state.waiting = waiting;
        drop(state);
        drop(gone);
    }

    /// The next in line, or else one more permit is free.
    fn next(&self) -> Option<Promise<Permit>> {
        let mut state = self.state.borrow_mut();
        while let Some(promise) = state.waiting.pop_front() {
            if !promise.is_cancelled() {
                return Some(promise);
            }
            // A cancelled promise drops without running anything.
            state.cancelled = state.cancelled.saturating_sub(1);
        }
        state.free += 1;
        debug_assert!(state.free <= self.total, "a permit is given back once");
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else {
            return;
        };
        if let Some(promise) = turns.next() {
            let turns = Some(turns);
            promise.callback(Permit { turns });
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, waiting) = (self.free(), self.waiting());
        write!(f, "Semaphore({free} free, {waiting} waiting)")
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// A semaphore with one permit. Clones are handles of one lock.
///
/// Releasing is dropping the guard, so a second release does not compile:
/// ```compile_fail,E0382
/// let lock = marline::deferred::Lock::new();
/// let guard = lock.acquire().now_or_pending().unwrap().unwrap();
/// drop(guard);
/// drop(guard);
/// ```
#[derive(Clone)]
pub struct Lock(Semaphore);

/// The lock is held while this lives.
#[derive(Debug)]
pub struct LockGuard {
    _permit: Permit,
}

impl Lock {
    /// A free lock.
    pub fn new() -> Self {
        Lock(Semaphore::new(1))
    }

    /// The guard, now or when it is this caller's turn; see [`Semaphore::acquire`].
    #[track_caller]
    pub fn acquire(&self) -> Deferred<LockGuard> {
        self.0
            .acquire()
            .add_callback(|permit| Ok(LockGuard { _permit: permit }))
    }

    /// Runs `f` under the lock, until what it returned has its result.
    #[track_caller]
    pub fn run<L: Link>(&self, f: impl FnOnce() -> L + 'static) -> Deferred<L::Out> {
        self.0.run(f)
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.0.free() == 0
    }

    /// Those that wait for it.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (locked, waiting) = (self.is_locked(), self.waiting());
        write!(f, "Lock(locked: {locked}, {waiting} waiting)")
    }
}
