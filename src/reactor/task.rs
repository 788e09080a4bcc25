//! Futures on the reactor: the coroutines of `deferred`, resumed by the turn.
//!
//! A future is polled once by [`Handle::spawn`], then whenever it is woken. A wake-up from inside
//! the turn puts it on a list that the turn ends with, without a system call; one from another
//! thread also wakes the reactor. This is how hyper lives here: its IO needs not be `Send`.

use std::future::Future;
use std::panic::Location;

use super::core::Place;
use super::handle::Handle;
use crate::deferred::{self, Deferred, Link};

impl Handle {
    /// Runs a future on this thread, to its first wait at once. Its output is what a link of a
    /// Deferred may return. Cancelling the Deferred gives `Cancelled` at the Deferred that it
    /// awaits, and drops it where it awaits none.
    #[track_caller]
    pub fn spawn<L: Link + 'static>(
        &self,
        future: impl Future<Output = L> + 'static,
    ) -> Deferred<L::Out> {
        deferred::spawn(future)
    }

    /// Lets woken futures wake the reactor.
    pub(super) fn adopt_futures(&self) {
        let remote = self.remote();
        deferred::set_remote_wake(move || remote.nudge());
    }

    /// Resumes the futures that were woken before the step began.
    pub(super) fn run_woken_futures(&self) {
        if deferred::has_woken() {
            let at = Location::caller();
            // Their panics are theirs: the Deferreds fail.
            let _ = self.enter(
                Place {
                    kind: "futures",
                    at,
                },
                |_| deferred::run_woken(),
            );
        }
    }

    /// Drops the futures; what awaits them fails.
    pub(super) fn drop_futures(&self) {
        deferred::clear_remote_wake();
        deferred::drop_coroutines();
    }
}
