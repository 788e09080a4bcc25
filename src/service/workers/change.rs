//! A reload of all reactors: each makes what is new, and when all could, each goes over to it.
//!
//! Within a reactor nothing lies between the two steps of a change that is seen by an event; from
//! one reactor to the next there is a moment in which one has gone over and the other has not. What
//! new sources receive until theirs has, waits at them; what is handed over for something that is
//! not there yet, waits there. A pipeline or a sink that is removed goes when no reactor has
//! anything for it.

use std::rc::Rc;
use std::sync::Arc;

use crate::config::Config;
use crate::deferred::{Deferred, Failure, join_all, try_join_all};
use crate::service::assembly::{Daemon, StartError};
use crate::service::buffers::Opening;
use crate::service::change::{Changed, Gone, OpenedBuffers};
use crate::transport::tls::Materials;

use super::Crew;

/// What all reactors go over to.
pub(in crate::service) struct Next {
    /// The configuration.
    pub(in crate::service) config: Config,
    /// Disk buffers that were opened for it.
    pub(in crate::service) opened: OpenedBuffers,
    /// The certificates in its files.
    pub(in crate::service) materials: Materials,
}

impl Crew {
    /// What opens the disk buffers that are needed for `new`, of all reactors, and not open yet.
    pub(in crate::service) fn openings(
        self: &Rc<Self>,
        new: &Config,
    ) -> Deferred<Result<Vec<Opening>, StartError>> {
        let new = Arc::new(new.clone());
        let look = move |daemon: &Rc<Daemon>| Deferred::ready(daemon.openings(&new));
        let openings = try_join_all(self.ask_all(look)).add_callback(|found| {
            let all: Result<Vec<_>, StartError> = found.into_iter().collect();
            Ok(all.map(|of_each| of_each.into_iter().flatten().collect()))
        });
        // One that was found not to be open may have begun to be closed a moment ago.
        let crew = Rc::clone(self);
        openings.add_callback(move |openings| crew.closed().add_both(move |_| Ok(openings)))
    }

    /// Fires when no disk buffer is being closed, or has been for too long.
    fn closed(self: &Rc<Self>) -> Deferred<()> {
        let closed = self.ask_all(|daemon| {
            let closed = daemon.closed();
            closed.timeout(daemon.stop_timeout(), &*daemon.world.scheduler)
        });
        join_all(closed).add_both(|_| ())
    }

    /// Goes over to `next` on all reactors, or stays as it was on all of them.
    pub(in crate::service) fn change(
        self: &Rc<Self>,
        daemon: &Rc<Daemon>,
        mut next: Next,
    ) -> Deferred<Result<Changed, StartError>> {
        if self.seat.is_alone() {
            let Next {
                config,
                opened,
                materials,
            } = next;
            return Deferred::ready(daemon.change(config, opened, materials));
        }
        let prepared: Vec<_> = (0..self.seat.count)
            .map(|seat| {
                let (config, materials) = (next.config.clone(), next.materials.clone());
                let opened = self.opened_for(seat, &mut next.opened);
                self.ask(seat, move |daemon| {
                    Deferred::ready(daemon.prepare_change(config, opened, materials))
                })
            })
            .collect();
        let crew = Rc::clone(self);
        try_join_all(prepared).add_both(move |prepared| {
            let prepared = prepared.map(|all| all.into_iter().find_map(Result::err));
            match prepared {
                // What it would start now would be stopped by nobody.
                Ok(None) if crew.is_draining.get() => crew.abort(stopping()),
                Ok(None) => crew.commit(),
                Ok(Some(error)) => crew.abort(error),
                Err(failure) => crew.abort(not_heard(failure)),
            }
        })
    }

    /// Those of the buffers in `opened` whose sinks the reactor at `seat` has.
    fn opened_for(&self, seat: usize, opened: &mut OpenedBuffers) -> OpenedBuffers {
        let owner = |name: &str| self.seat.owner_of(&format!("sink.{name}"));
        let theirs = opened.extract_if(|name, _| owner(name) == seat);
        theirs.collect()
    }

    fn commit(self: &Rc<Self>) -> Deferred<Result<Changed, StartError>> {
        let changed = self.ask_all(|daemon| {
            let Changed { difference, about } = daemon.commit_change();
            // Behind what it has queued: sockets that go are closed when this is answered, and
            // the next reload finds their ports free.
            let (promise, done) = Deferred::new();
            daemon.world.scheduler.call_soon(Box::new(move || {
                promise.callback((difference, about));
            }));
            done
        });
        let crew = Rc::clone(self);
        try_join_all(changed).add_both(move |changed| {
            crew.let_removed_go();
            let changed = match changed {
                Ok(changed) => changed,
                Err(failure) => return Ok(Err(not_heard(failure))),
            };
            let mut all = changed.into_iter();
            let Some((difference, mut about)) = all.next() else {
                return Ok(Err(not_heard(Failure::msg("there is no reactor"))));
            };
            for (_, of_other) in all {
                let new = of_other.into_iter().filter(|line| !about.contains(line));
                let new: Vec<_> = new.collect();
                about.extend(new);
            }
            Ok(Ok(Changed { difference, about }))
        })
    }

    /// First the pipelines that were removed, then the sinks: what other reactors have for a
    /// pipeline may go on to a sink.
    fn let_removed_go(self: &Rc<Self>) {
        let daemon = self.daemon.borrow().upgrade();
        let Some(daemon) = daemon else { return };
        let change = daemon.changes();
        // One may feed another, on yet another reactor: as often as they can stand in a row.
        let rounds = daemon.all_pipelines().len();
        let crew = Rc::clone(self);
        let gone = self.pipelines_left(rounds).add_both(move |_| {
            let told = crew.tell_gone(change, Gone::Pipelines);
            told.add_both(move |_| {
                let left = join_all(crew.ask_all(|daemon| daemon.departures.relays_left()));
                left.add_both(move |_| crew.tell_gone(change, Gone::Sinks))
            })
        });
        drop(gone.add_both(|_| ()));
    }

    fn pipelines_left(self: &Rc<Self>, rounds: usize) -> Deferred<()> {
        if rounds == 0 {
            return Deferred::ready(());
        }
        let left = join_all(self.ask_all(|daemon| daemon.pipeline_relays_left()));
        let crew = Rc::clone(self);
        left.add_both(move |_| crew.pipelines_left(rounds - 1))
    }

    fn tell_gone(self: &Rc<Self>, change: u64, gone: Gone) -> Deferred<()> {
        self.on_all(move |daemon| daemon.others_gone(change, gone))
    }

    fn abort(self: &Rc<Self>, error: StartError) -> Deferred<Result<Changed, StartError>> {
        let aborted = self.on_all(|daemon| daemon.abort_change());
        aborted.add_both(move |_| Ok(Err(error)))
    }
}

fn stopping() -> StartError {
    StartError {
        component: "daemon".to_owned(),
        failure: Failure::msg("the daemon is stopping"),
    }
}

fn not_heard(failure: Failure) -> StartError {
    StartError {
        component: "daemon".to_owned(),
        failure,
    }
}
