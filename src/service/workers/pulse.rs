//! Whether all reactors turn: what the watchdog of the whole daemon goes by.
//!
//! The first one turns when it feeds the watchdog; of each of the others it wants an answer to a
//! question of the last time. One that loops in a handler has none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::deferred::Deferred;

use super::Crew;

/// Asks the other reactors for a sign of life, again and again.
pub(in crate::service) struct Pulse {
    crew: Rc<Crew>,
    /// Seats that have not answered the last question.
    silent: RefCell<Vec<usize>>,
    is_said: Cell<bool>,
}

impl Pulse {
    pub(in crate::service) fn new(crew: &Rc<Crew>) -> Rc<Pulse> {
        Rc::new(Pulse {
            crew: Rc::clone(crew),
            silent: RefCell::default(),
            is_said: Cell::new(false),
        })
    }

    /// Whether all have answered since this was asked last; asks them again.
    pub(in crate::service) fn is_felt(self: &Rc<Self>) -> bool {
        let silent = self.silent.borrow().clone();
        if !silent.is_empty() {
            if !self.is_said.replace(true) {
                tracing::error!(
                    event = "worker_silent",
                    component = "daemon",
                    workers = ?silent,
                    "workers {silent:?} do not turn any more; the watchdog is not fed until they do"
                );
            }
            return false;
        }
        self.is_said.set(false);
        *self.silent.borrow_mut() = self.crew.others().collect();
        for seat in self.crew.others() {
            let pulse = Rc::clone(self);
            let heard = self.crew.ask(seat, |_| Deferred::ready(()));
            let heard = heard.add_callback(move |()| {
                pulse.silent.borrow_mut().retain(|other| *other != seat);
            });
            // One that has ended stays silent.
            drop(heard.add_errback(|_| ()));
        }
        true
    }
}
