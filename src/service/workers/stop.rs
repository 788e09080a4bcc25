//! The stop of all reactors at once, led by the first.
//!
//! Each drains what it has. What one hands over to another while it drains is new to that one, so
//! they are asked again until nothing was handed over since they were asked last. Only then do
//! sinks close, and the other reactors end when the first one does.

use std::rc::Rc;

use crate::deferred::{Deferred, join_all};
use crate::pipeline::queue::SHUTDOWN;
use crate::reactor::Exit;

use super::Crew;
use crate::service::assembly::Daemon;

impl Crew {
    /// Sources stop, and everything that came in is settled.
    pub(in crate::service) fn drain(self: &Rc<Self>) -> Deferred<()> {
        self.is_draining.set(true);
        let drained = join_all(self.ask_all(|daemon| daemon.drain()));
        let crew = Rc::clone(self);
        drained.add_both(move |_| crew.drain_rest(0))
    }

    /// `handed` events were handed over when they were asked last.
    fn drain_rest(self: &Rc<Self>, handed: u64) -> Deferred<()> {
        if self.seat.is_alone() {
            return Deferred::ready(());
        }
        let look = |daemon: &Rc<Daemon>| {
            let seen = Rc::clone(daemon);
            daemon
                .engine
                .drained()
                .add_both(move |_| Ok(seen.handed_events()))
        };
        let crew = Rc::clone(self);
        join_all(self.ask_all(look)).add_both(move |counts| {
            let counts = counts.into_iter().flatten().flatten();
            match counts.sum() {
                all if all == handed => Deferred::ready(()),
                more => crew.drain_rest(more),
            }
        })
    }

    /// Sinks flush and close, and buffers are put in order.
    pub(in crate::service) fn finish(self: &Rc<Self>) -> Deferred<()> {
        join_all(self.ask_all(|daemon| daemon.finish())).add_both(|_| ())
    }

    /// Gives up what is not delivered; where everything was drained no more than the buffers are
    /// still to be closed.
    pub(in crate::service) fn abandon(self: &Rc<Self>, is_drained: bool) -> Deferred<()> {
        let abandon = move |daemon: &Rc<Daemon>| {
            daemon.abandon(SHUTDOWN);
            // A sink that does not stop keeps no buffer from being closed.
            let closed = daemon.close_buffers();
            if is_drained { closed } else { daemon.finish() }
        };
        join_all(self.ask_all(abandon)).add_both(|_| ())
    }

    /// The other reactors end.
    pub(in crate::service) fn dismiss(self: &Rc<Self>) {
        let end = |daemon: &Rc<Daemon>| {
            daemon.crew().let_go();
            daemon.network().reactor().stop(Exit::Stopped);
            Deferred::ready(())
        };
        let asked = join_all(self.ask_others(end));
        drop(asked.add_both(|_| ()));
    }

    fn let_go(&self) {
        self.is_dismissed.set(true);
        let waiting = self.waiting_for_dismissal.take();
        for promise in waiting {
            promise.callback(());
        }
    }

    /// Whether this reactor may end.
    pub(super) fn is_dismissed(&self) -> bool {
        self.is_dismissed.get()
    }

    /// Fires when this reactor may end.
    pub(super) fn dismissed(&self) -> Deferred<()> {
        if self.is_dismissed() {
            return Deferred::ready(());
        }
        let (promise, deferred) = Deferred::new();
        self.waiting_for_dismissal.borrow_mut().push(promise);
        deferred
    }
}
