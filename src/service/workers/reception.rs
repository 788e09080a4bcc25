//! What other reactors hand over for what is here: a source to the engine, for each of them and
//! each target, so that the order stays, and who finds no room waits like any source.
//!
//! In a reload the reactors go over to the new configuration one after the other. What is handed
//! over meanwhile for something that is not here yet waits until this one has gone over, too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::deferred::Failure;
use crate::pipeline::graph::Parcel;
use crate::pipeline::intake::{Outlet, Taken};
use crate::pipeline::part::Lost;
use crate::pipeline::port::REMOVED;
use crate::time::Duration;

use super::{Answer, Crew, Errand, Sent, Target};
use crate::service::assembly::Daemon;

/// What has come in from others.
#[derive(Default)]
pub(super) struct Reception {
    /// One for each reactor, target and patience there ever was.
    outlets: RefCell<HashMap<(usize, Target, Option<Duration>), Outlet>>,
    /// For what is not here yet.
    early: RefCell<Vec<Sent>>,
}

impl Crew {
    /// Takes what another reactor hands over.
    pub(super) fn take(self: &Rc<Self>, sent: Sent, daemon: &Rc<Daemon>) {
        if daemon.is_changing() && !daemon.has_target(&sent.target) {
            return self.reception.early.borrow_mut().push(sent);
        }
        let (from, way, number) = (sent.from, sent.way, sent.number);
        let taken = self.put_in(sent, daemon);
        let crew = Rc::clone(self);
        let answer = move |of: fn(Answer) -> Errand, result| {
            let answer = Answer {
                way,
                number,
                result,
            };
            crew.tell(from, of(answer));
        };
        let Some(Taken { admitted, settled }) = taken else {
            return answer(Errand::Admitted, Err(removed()));
        };
        let answer_admitted = answer.clone();
        drop(admitted.add_both(move |result| answer_admitted(Errand::Admitted, result)));
        drop(settled.add_both(move |result| answer(Errand::Settled, result.map(|_| ()))));
    }

    /// The configuration that what came early was for is in force, or was given up.
    pub(in crate::service) fn take_early(self: &Rc<Self>, daemon: &Rc<Daemon>) {
        let early = self.reception.early.take();
        early.into_iter().for_each(|sent| self.take(sent, daemon));
    }

    fn put_in(&self, sent: Sent, daemon: &Rc<Daemon>) -> Option<Taken> {
        let outlet = self.outlet(&sent, daemon);
        let Sent {
            target,
            batch,
            stage,
            via,
            ..
        } = sent;
        match target {
            Target::Sink(name) => {
                let port = daemon.port_here(&name)?;
                let via = via.map(|name| daemon.vias.of(&name));
                let parcel = Parcel { batch, port, via };
                Some(outlet.take_parcel(parcel, stage))
            }
            Target::Pipeline(name) => {
                // One that is in the configuration no more stays while others may have something
                // for it.
                let pipelines = daemon.all_pipelines();
                let pipeline = pipelines.iter().find(|it| *it.name() == *name)?;
                Some(outlet.take_batch(batch, pipeline, stage))
            }
        }
    }

    fn outlet(&self, sent: &Sent, daemon: &Rc<Daemon>) -> Outlet {
        let key = (sent.from, sent.target.clone(), sent.patience);
        let mut outlets = self.reception.outlets.borrow_mut();
        let outlet = outlets
            .entry(key)
            .or_insert_with(|| daemon.engine.relay_outlet(NAME, sent.patience));
        outlet.clone()
    }
}

/// What other reactors go by in the log.
const NAME: &str = "worker";

fn removed() -> Failure {
    Failure::new(Lost {
        sink: String::new(),
        events: 0,
        reason: REMOVED.to_owned(),
        is_for_good: false,
    })
}
