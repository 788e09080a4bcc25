//! The life of a reactor beside the first one: a thread that makes it, and a daemon on it.
//!
//! All reactors are made before any daemon is, so that every daemon can reach every other. They
//! start one after the other, the first one first: it binds what can be bound once, and finds out
//! which ports are somebody else's. After that each takes orders until it is told to end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;

use crate::config::Config;
use crate::deferred::Deferred;
use crate::pipeline::host::Host;
use crate::reactor::{Exit, Handle, Phase, Reactor, Sender, start_thread};
use crate::time::Duration;

use super::{Crew, Errand, Seat, report};
use crate::service::Refusal;
use crate::service::assembly::{Daemon, StartError};
use crate::service::books;
use crate::service::report::Report;
use crate::service::surroundings::{self, Common};

/// What a start says of itself: a line for each thing that is listened to, with its component.
type About = Vec<(String, String)>;

/// The threads, as the first reactor has them.
pub(in crate::service) struct Workers {
    threads: Vec<Worker>,
    all: Arc<[Sender<Errand>]>,
    /// How many have a daemon that has started.
    started: Cell<usize>,
}

struct Worker {
    begin: mpsc::Sender<Begin>,
    started: mpsc::Receiver<Result<About, Refusal>>,
    ended: mpsc::Receiver<Ended>,
}

/// All have joined: a daemon is to be started.
struct Begin {
    config: Config,
    all: Arc<[Sender<Errand>]>,
}

/// What a daemon left behind.
struct Ended {
    here: Report,
    relayed: Report,
}

impl Ended {
    fn of(daemon: &Daemon) -> Ended {
        Ended {
            here: Report::of(daemon, false),
            relayed: Report::of_relays(daemon),
        }
    }
}

/// Makes the other reactors, and the crew of all of them as this one has it.
pub(in crate::service) fn gather(
    first: &Handle,
    config: &Config,
    common: &Common,
) -> Result<(Rc<Crew>, Workers), Refusal> {
    let count = surroundings::reactors_of(config);
    let (crew, sender) = Crew::join(Seat { index: 0, count }, first);
    let mut all = vec![sender];
    let mut threads = Vec::new();
    for index in 1..count {
        let (worker, sender) = Worker::new(Seat { index, count }, config, common)?;
        threads.push(worker);
        all.push(sender);
    }
    let all: Arc<[_]> = all.into();
    crew.meet(Arc::clone(&all));
    let workers = Workers {
        threads,
        all,
        started: Cell::new(0),
    };
    Ok((crew, workers))
}

impl Workers {
    /// Starts the first reactor's daemon, then one on each of them.
    pub(in crate::service) fn start_with(&self, first: &Daemon) -> Result<About, Refusal> {
        let mut about = first.start().map_err(Refusal::Component)?;
        let config = first.config();
        for worker in &self.threads {
            let begin = Begin {
                config: Config::clone(&config),
                all: Arc::clone(&self.all),
            };
            // One that is gone says nothing, which is seen below.
            let _ = worker.begin.send(begin);
            let started = worker.started.recv().map_err(|_| ended_early())?;
            let lines = started?.into_iter();
            self.started.set(self.started.get() + 1);
            // Of what all have, the first one has said so.
            let new: Vec<_> = lines.filter(|line| !about.contains(line)).collect();
            about.extend(new);
        }
        Ok(about)
    }

    /// How many have a daemon that has started.
    pub(in crate::service) fn started(&self) -> usize {
        self.started.get()
    }

    /// The last report of all: of the first reactor, which has ended, and of the others. One that
    /// does not end in time is not in it, and is named in the log.
    pub(in crate::service) fn last_report(&self, first: &Daemon, limit: Duration) -> Report {
        let mut all = vec![Ended::of(first)];
        for (index, worker) in self.threads.iter().enumerate() {
            match worker.ended.recv_timeout(limit) {
                Ok(ended) => all.push(ended),
                Err(_) => tracing::error!(
                    event = "worker_left_behind",
                    component = "daemon",
                    worker = index + 1,
                    "worker {} does not end; its counts are missing below",
                    index + 1
                ),
            }
        }
        let (here, relayed) = all.into_iter().map(|it| (it.here, it.relayed)).unzip();
        report::whole(&first.config(), here, relayed)
    }
}

fn ended_early() -> Refusal {
    let error = std::io::Error::other("its thread has ended");
    Refusal::System("cannot start a worker", error)
}

impl Worker {
    fn new(
        seat: Seat,
        config: &Config,
        common: &Common,
    ) -> Result<(Worker, Sender<Errand>), Refusal> {
        let (begin, begins) = mpsc::channel();
        let (starting, started) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let (joining, joined) = mpsc::channel();
        let (config, common) = (config.clone(), common.clone());
        let body = move || {
            let made = surroundings::reactor(&config).map(|reactor| {
                let (crew, sender) = Crew::join(seat, &reactor.handle());
                (reactor, crew, sender)
            });
            let (reactor, crew) = match made {
                Ok((reactor, crew, sender)) => {
                    let _ = joining.send(Ok(sender)); // or nobody waits, and this ends below
                    (reactor, crew)
                }
                Err(refusal) => return drop(joining.send(Err(refusal))),
            };
            let Ok(Begin { config, all }) = begins.recv() else {
                return; // the start was given up
            };
            crew.meet(all);
            match begun(reactor, crew, config, &common) {
                Ok((about, life)) => {
                    let _ = starting.send(Ok(about));
                    let _ = ending.send(life.live());
                }
                Err(refusal) => drop(starting.send(Err(refusal))),
            }
        };
        let thread = start_thread(format!("worker-{}", seat.index), body);
        thread.map_err(|error| Refusal::System("cannot start a worker's thread", error))?;
        let sender = joined.recv().map_err(|_| ended_early())??;
        let worker = Worker {
            begin,
            started,
            ended,
        };
        Ok((worker, sender))
    }
}

/// A daemon that has started, on its reactor.
struct WorkerLife {
    reactor: Reactor,
    daemon: Rc<Daemon>,
}

fn begun(
    mut reactor: Reactor,
    crew: Rc<Crew>,
    config: Config,
    common: &Common,
) -> Result<(About, WorkerLife), Refusal> {
    let handle = reactor.handle();
    let world = surroundings::world(&handle, Rc::clone(&crew), common)?;
    let parts = config.build().map_err(|mistake| {
        Refusal::Component(StartError {
            component: "daemon".to_owned(),
            failure: crate::deferred::Failure::msg(mistake.to_string()),
        })
    })?;
    let daemon = Daemon::new(config, parts, world).map_err(Refusal::Component)?;
    let about = match daemon.start() {
        Ok(about) => about,
        Err(error) => {
            crate::service::turn_until(&mut reactor, daemon.give_up());
            return Err(Refusal::Component(error));
        }
    };
    ask_the_first(&daemon.host(), &crew);
    stop_with_all(&handle, &crew);
    Ok((about, WorkerLife { reactor, daemon }))
}

/// What components ask of the daemon is asked of the first reactor, which has its life.
fn ask_the_first(host: &Host, crew: &Rc<Crew>) {
    let asking = Rc::downgrade(crew);
    host.on_stop(move |reason| {
        let reason = reason.to_owned();
        if let Some(crew) = asking.upgrade() {
            let stop = move |first: &Rc<Daemon>| {
                first.host().stop(&reason);
                Deferred::ready(())
            };
            drop(crew.ask(0, stop).add_both(|_| ()));
        }
    });
    let asking = Rc::downgrade(crew);
    host.set_books(move || {
        let Some(crew) = asking.upgrade() else {
            return Deferred::ready(Vec::new());
        };
        crew.report(false).add_both(books::told)
    });
}

/// A reactor that stops by itself, over a panic, has all of them stop, and takes part in that.
fn stop_with_all(handle: &Handle, crew: &Rc<Crew>) {
    let crew = Rc::downgrade(crew);
    handle.on_shutdown(Phase::Before, "the others", move |_| {
        let Some(crew) = crew.upgrade() else {
            return Deferred::ready(());
        };
        if !crew.is_dismissed() {
            let stop = |first: &Rc<Daemon>| {
                first.network().reactor().stop(Exit::Panicked);
                Deferred::ready(())
            };
            drop(crew.ask(0, stop).add_both(|_| ()));
        }
        crew.dismissed()
    });
}

impl WorkerLife {
    fn live(mut self) -> Ended {
        if let Err(error) = self.reactor.run() {
            tracing::error!(
                event = "worker_failed",
                component = "daemon",
                "the reactor of a worker failed: {error}"
            );
        }
        self.daemon.log_source_counts();
        Ended::of(&self.daemon)
    }
}
