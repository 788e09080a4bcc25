//! A time limit that a future looks at: hyper's futures know no clock.
//!
//! The timer wakes whoever polled last. Dropped, it is taken back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::reactor::{Handle, TimerGuard};
use crate::time::Duration;

/// A limit that can be set, moved and taken away.
pub(super) struct Alarm {
    reactor: Handle,
    bell: Rc<Bell>,
    timer: Option<TimerGuard>,
}

#[derive(Default)]
struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    /// One that is not set.
    pub(super) fn new(reactor: &Handle) -> Self {
        Alarm {
            reactor: reactor.clone(),
            bell: Rc::default(),
            timer: None,
        }
    }

    /// Rings `limit` from now, and not when it would have rung before.
    pub(super) fn set(&mut self, limit: Duration) {
        self.bell.rung.set(false);
        let moved = self.timer.as_ref().is_some_and(|timer| timer.reset(limit));
        if !moved {
            let bell = Rc::clone(&self.bell);
            let timer = self.reactor.call_later(limit, move |_| {
                bell.rung.set(true);
                let waker = bell.waker.borrow_mut().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            self.timer = Some(timer.guard());
        }
    }

    /// Does not ring.
    pub(super) fn clear(&mut self) {
        self.timer = None;
        self.bell.rung.set(false);
    }

    /// Ready when it has rung.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.rung.get() {
            return Poll::Ready(());
        }
        *self.bell.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}
