//! How the sink's coroutine sleeps, and by whom it is woken: news, time, the end.
//!
//! Whoever wakes up looks at what is the case; nothing is told but that there is something to
//! look at. So it does no harm to be woken once too often.

use std::cell::{Cell, RefCell};

use crate::deferred::{Deferred, Promise};
use crate::reactor::Handle;
use crate::time::{Duration, Instant};

/// What the coroutine and those who wake it share.
pub(super) struct Pulse {
    reactor: Handle,
    sleeper: RefCell<Option<Promise<()>>>,
    stage: Cell<Stage>,
}

/// How far the sink's life is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Nothing waits for more to come.
    Draining,
    Stopped,
}

impl Pulse {
    pub(super) fn new(reactor: &Handle) -> Self {
        Pulse {
            reactor: reactor.clone(),
            sleeper: RefCell::default(),
            stage: Cell::new(Stage::Running),
        }
    }

    /// Waits until it is woken, for `limit` at most.
    pub(super) async fn nap(&self, limit: Option<Duration>) {
        let (promise, woken) = Deferred::new();
        *self.sleeper.borrow_mut() = Some(promise);
        let woken = match limit {
            Some(limit) => woken.timeout(limit, &self.reactor),
            None => woken,
        };
        // Woken, late or cancelled.
        drop(woken.await);
    }

    /// Waits until `until`; false when the sink was stopped before.
    pub(super) async fn sleep_until(&self, until: Instant) -> bool {
        loop {
            let left = until.since(self.reactor.now());
            if self.is_stopped() || left.is_zero() {
                return !self.is_stopped();
            }
            self.nap(Some(left)).await;
        }
    }

    /// There is something new to look at.
    pub(super) fn wake(&self) {
        let promise = self.sleeper.borrow_mut().take();
        promise.map(|promise| promise.callback(()));
    }

    /// What comes now is the last.
    pub(super) fn drain(&self) {
        self.stage.set(self.stage.get().max(Stage::Draining));
        self.wake();
    }

    /// The end; whoever sleeps is to be cancelled by the caller.
    pub(super) fn stop(&self) {
        self.stage.set(Stage::Stopped);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stage.get() == Stage::Stopped
    }
}
