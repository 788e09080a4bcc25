//! One report over all reactors, with one pair of ledgers.
//!
//! What was handed over is in the books of two reactors for a moment, and for good in what the
//! first one has received. Each reactor is asked twice: first for what it has, then for what it
//! has handed over; so what a reactor has taken over is known before those who handed it over are
//! asked, and counts no less there. Every event is then counted once, and the ledgers balance.

use std::rc::Rc;

use crate::config::Config;
use crate::deferred::{Deferred, try_join_all};
use crate::service::assembly::Daemon;
use crate::service::report::Report;

use super::Crew;

impl Crew {
    /// How all reactors are; with `debug` also what goes on inside.
    pub(in crate::service) fn report(self: &Rc<Self>, debug: bool) -> Deferred<Report> {
        let daemon = self.daemon.borrow().upgrade();
        let Some(daemon) = daemon else {
            return Deferred::ready(Report::default());
        };
        let look = move |daemon: &Rc<Daemon>| Deferred::ready(Report::of(daemon, debug));
        let crew = Rc::clone(self);
        let whole = try_join_all(self.ask_all(look)).add_callback(move |here| {
            let look = |daemon: &Rc<Daemon>| Deferred::ready(Report::of_relays(daemon));
            let relayed = try_join_all(crew.ask_all(look));
            relayed.add_callback(move |relayed| Ok(whole(&daemon.config(), here, relayed)))
        });
        whole.named("report of all reactors")
    }
}

/// Of what all of them have, and what they have handed over.
pub(in crate::service) fn whole(
    config: &Config,
    here: Vec<Report>,
    relayed: Vec<Report>,
) -> Report {
    let all = here.into_iter().chain(relayed);
    let mut whole = all.reduce(Report::merge).unwrap_or_default();
    whole.settle();
    whole.arrange(config);
    whole
}
