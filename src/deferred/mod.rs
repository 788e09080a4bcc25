//! Results that are not there yet, and chains on them: [`Deferred`] is the consumer's end,
//! [`Promise`] the producer's. A link returns a [`Link`]: a result, another Deferred, or nothing.
//! All on one thread; nothing here waits, reads a clock or does IO.
//!
//! **Order.** A link never runs inside another.
//! - Firing outside of any link runs the whole chain before it returns; so does adding a link
//!   to a Deferred that has fired.
//! - From inside a running link (a coroutine that is being polled counts as one) it is queued.
//!   When the link has returned, what it fired runs, in the order fired, each chain as far as
//!   it goes; only then the link's own chain goes on.
//!
//! So neither firing nor dropping takes stack, however long the chain.
//!
//! **Ends.** Every chain ends in a handler, usually [`Deferred::add_both`]. A failure that
//! reaches an end without one is logged once, with name and place, when the Deferred goes.
//!
//! **Cancelling** goes up a chain to what it waits for, a root or an inner Deferred, and the
//! result comes back down as any other.

mod chain;
mod combine;
mod failure;
mod file_lock;
mod kinds;
mod link;
mod names;
mod node;
mod promise;
mod queue;
mod run;
mod shared;
mod sync;
mod task;
mod timeout;
mod unhandled;

pub use chain::{CancelHandle, CancelOnDrop, Deferred};
pub use combine::{Results, first_ok, for_each_concurrent, join_all, race, try_join_all};
pub use failure::{Failure, HISTORY_MAX, Place};
pub use file_lock::{AlreadyTrying, FileLock};
pub use kinds::{AllFailed, BrokenPromise, Cancelled, Empty, FirstError, Panicked, TimedOut};
pub use link::Link;
#[doc(hidden)]
pub use link::Settled;
pub use names::{Pending, pending, set_clock};
pub use promise::{Fired, Promise};
pub use queue::{Full, Queue, Underflow};
pub use shared::Shared;
pub use sync::{Lock, LockGuard, Permit, Semaphore};
pub use task::{
    clear_remote_wake, coroutines, drop_coroutines, has_woken, run_woken, set_remote_wake, spawn,
};
