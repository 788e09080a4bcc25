//! The daemon from its command line to its exit code.
//!
//! [`cli`] reads the arguments; [`assembly`] puts a [`Daemon`] together from a configuration;
//! this file is its life: start, run, drain, stop. [`reload`] changes it while it runs.
//! [`notify`] tells systemd. `admin` is the socket that an operator asks, `routes` what can be
//! asked, `status` the first answer. `metrics` is where a monitoring system asks. `report` is how
//! a daemon is, as plain data: the status, the metrics and the `books` in the log are made of it.
//!
//! A stop: sources take what has arrived and no more; everything on its way is delivered and
//! answered; sinks flush and close; the reactor ends. The first SIGTERM or SIGINT begins it,
//! with `stop_timeout` as its limit, a second one cuts the waiting short, a third one ends the
//! process as it is. What was cut off is counted as `dropped{shutdown}`.

mod admin;
mod ask;
pub mod assembly;
mod bench;
mod books;
mod buffer_cli;
pub mod buffers;
mod certificates;
pub mod change;
pub mod cli;
mod departures;
mod descriptors;
mod desk;
mod exposition;
mod memory_limit;
mod metrics;
mod notify;
pub mod paths;
pub mod reload;
mod report;
mod routes;
mod status;
mod status_table;
mod surroundings;
mod wiring;
pub mod workers;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Config, Parts};
use crate::deferred::{Deferred, Failure, join_all};
use crate::pipeline::memory::Memory;
use crate::reactor::{Exit, Handle, Phase, Reactor, ReactorError, Signal, start_thread};
use crate::telemetry::events::{
    BufferOrphaned, CountsMissing, Started, Starting, Stopped, StoppedBy, Stopping,
};
use crate::telemetry::layer::{LevelSwitch, Levels};
use crate::telemetry::tap::Tap;
use crate::telemetry::{self, Format, LastErrors, Level};
use crate::time::{Duration, Instant};

use admin::AdminSocket;
use assembly::{Daemon, StartError};
use metrics::Metrics;
use paths::Paths;
use reload::{Making, ReadEnvironment, Reloader};
use report::{Ask, Report};
use status::Status;
use surroundings::Common;
use workers::Crew;
use workers::pulse::Pulse;
use workers::thread::{self, Workers};

/// How long each step of the end may take once `stop_timeout` has passed: a disk that hangs would
/// hold up each of them.
const FINISH_MAX: Duration = Duration::from_millis(500);

/// Something was cut off, or the daemon could not start for a reason that stays.
pub const EXIT_CUT: u8 = 1;
/// Try again later: a port or a disk buffer in use, no descriptor or room left (EX_TEMPFAIL).
pub const EXIT_TEMPORARY: u8 = 75;

/// Runs the daemon with this configuration, which was read from `path`; gives the exit code.
pub fn run(path: &Path, config: Config, parts: Parts, env: ReadEnvironment) -> u8 {
    let spawn = |name: &'static str, body| start_thread(name.into(), body).map(drop);
    let guard = match telemetry::init(log_options(&config), spawn) {
        Ok(guard) => guard,
        Err(error) => {
            cli::complain(&format!("error: {error}\n"));
            return EXIT_CUT;
        }
    };
    Starting {
        version: env!("CARGO_PKG_VERSION"),
        config: &path.display(),
    }
    .log();
    descriptors::check(&config);
    let surroundings = Surroundings {
        config: path.to_path_buf(),
        paths: Paths::of(&config.daemon, &env, nix::unistd::geteuid().is_root()),
        last_errors: guard.last_errors(),
        levels: guard.levels(),
        tap: guard.tap(),
        env,
    };
    let code = match Life::begin(config, parts, surroundings) {
        Ok(life) => life.live(),
        Err(refusal) => refusal.report(),
    };
    drop(guard);
    code
}

fn log_options(config: &Config) -> telemetry::Options {
    let options = &config.daemon;
    let level = |word: &str| word.parse::<Level>().unwrap_or_default();
    let levels = options.map("log.levels").iter().map(|(component, value)| {
        let word = match &value.value {
            crate::pipeline::options::Value::Word(word) => word,
            _ => "info",
        };
        (component.clone(), level(word))
    });
    telemetry::Options {
        format: options.word("log.format").parse::<Format>().ok(),
        level: level(options.word("log.level")),
        levels: levels.collect(),
    }
}

/// What a daemon knows of where it lives, beside its configuration.
struct Surroundings {
    /// The file of the configuration.
    config: PathBuf,
    paths: Paths,
    last_errors: Arc<LastErrors>,
    levels: LevelSwitch,
    tap: Arc<Tap>,
    env: ReadEnvironment,
}

/// Why there is nothing to run.
enum Refusal {
    Reactor(ReactorError),
    System(&'static str, std::io::Error),
    Component(StartError),
}

impl Refusal {
    /// Says why, and gives the exit code.
    fn report(self) -> u8 {
        let (component, why, code) = match self {
            Refusal::Reactor(error) => ("daemon".to_owned(), error.to_string(), EXIT_CUT),
            Refusal::System(what, error) => (
                "daemon".to_owned(),
                format!("{what}: {error}"),
                EXIT_TEMPORARY,
            ),
            Refusal::Component(error) => {
                let code = error.code();
                (error.component, error.failure.to_string(), code)
            }
        };
        tracing::error!(event = "start_failed", component, "cannot start: {why}");
        code
    }
}

/// A daemon that has started, with the reactor it lives on.
struct Life {
    reactor: Reactor,
    daemon: Rc<Daemon>,
    workers: Workers,
    stop: Rc<Stop>,
    certificates: Rc<certificates::Watch>,
    reloader: Rc<Reloader>,
    status: Rc<Status>,
}

/// The most turns given to components that stop after a start that failed.
const GIVE_UP_TURNS: u32 = 100;
/// The longest of these turns.
const GIVE_UP_WAIT: Duration = Duration::from_millis(10);

/// What was started is stopped again, on all reactors.
fn give_up(reactor: &mut Reactor, daemon: &Rc<Daemon>, workers: &Workers) {
    let crew = daemon.crew();
    let started = 0..=workers.started();
    let given_up = started.map(|seat| crew.ask(seat, |daemon| daemon.give_up()));
    let given_up = join_all(given_up.collect::<Vec<_>>());
    turn_until(reactor, given_up.add_both(|_| ()));
    crew.dismiss();
}

/// Files that were moved away are opened anew, whichever reactor has them.
fn reopen_all(crew: &Rc<Crew>) {
    drop(crew.on_all(|daemon| daemon.reopen()));
}

/// Turns the reactor until `ended` has fired, a second at most: listeners take their paths with
/// them. What fails here is of no interest beside the reason why the start failed.
fn turn_until(reactor: &mut Reactor, ended: Deferred<()>) {
    let is_over = Rc::new(Cell::new(false));
    let over = Rc::clone(&is_over);
    drop(ended.add_both(move |_| over.set(true)));
    for _ in 0..GIVE_UP_TURNS {
        if is_over.get() || reactor.turn(Some(GIVE_UP_WAIT)).is_err() {
            return;
        }
    }
}

/// How the stop is going.
#[derive(Default)]
struct Stop {
    began: Cell<Option<Instant>>,
    is_drained: Cell<bool>,
    /// Everything is stopped, flushed and closed.
    is_finished: Cell<bool>,
}

impl Life {
    fn begin(config: Config, parts: Parts, around: Surroundings) -> Result<Life, Refusal> {
        let mut reactor = surroundings::reactor(&config)?;
        let handle = reactor.handle();
        let began = (handle.now(), handle.wall());
        let memory = Memory::new(memory_limit::of(&config.daemon));
        let common = Common {
            paths: around.paths.clone(),
            tap: Arc::clone(&around.tap),
            memory: memory.clone(),
            places: Arc::default(),
            lend: None,
        };
        let (crew, workers) = thread::gather(&handle, &config, &common)?;
        let world = surroundings::world(&handle, Rc::clone(&crew), &common)?;
        for name in world.buffers.orphans(&config) {
            BufferOrphaned { name: &name }.log();
        }
        let daemon = Daemon::new(config, parts, world).map_err(Refusal::Component)?;
        let about = match workers.start_with(&daemon) {
            Ok(about) => about,
            Err(refusal) => {
                give_up(&mut reactor, &daemon, &workers);
                return Err(refusal);
            }
        };
        for (component, line) in about {
            tracing::info!(event = "component_started", component, "{line}");
        }
        say_what_stops_what(&daemon);
        let stop = Rc::<Stop>::default();
        let certificates = certificates::Watch::new(daemon.network(), handle.clone());
        let reloader = reloader(&daemon, &stop, &certificates, &memory, &around);
        let status = Rc::new(Status {
            gather: ask(&daemon),
            reactor: handle.clone(),
            memory,
            last_errors: around.last_errors,
            config: around.config,
            started: began,
            workers: daemon.crew().seat().count,
            is_stopping: stop.is_asked(),
        });
        let mut life = Life {
            reactor,
            daemon,
            workers,
            stop,
            certificates,
            reloader,
            status,
        };
        life.open_admin(&around.paths)?;
        life.open_metrics()?;
        life.plan_stop(&handle);
        life.answer_signals(&handle)?;
        life.answer_components(&handle);
        life.say_ready(&handle, began.0);
        Ok(life)
    }

    /// In the first turn: everything is bound by then.
    fn say_ready(&self, handle: &Handle, began: Instant) {
        let config = self.daemon.config();
        let started = Started {
            sources: config.sources.len(),
            pipelines: config.pipelines.len(),
            sinks: config.sinks.len(),
            workers: self.daemon.crew().seat().count,
            took: handle.fresh().since(began),
        };
        let (summary, network) = (self.daemon.summary(), self.daemon.network());
        let certificates = Rc::clone(&self.certificates);
        let pulse = Pulse::new(self.daemon.crew());
        handle.call_when_running(move |handle| {
            network.settle_store();
            certificates.look();
            started.log();
            notify::ready(handle, &summary);
            notify::feed_watchdog(handle, move || pulse.is_felt());
        });
    }

    /// Opens the admin socket, which answers until the very end.
    fn open_admin(&mut self, paths: &Paths) -> Result<(), Refusal> {
        let routes = routes::all(Rc::clone(&self.status), Rc::clone(&self.reloader));
        let opened = routes::open(&self.daemon.network(), paths, routes);
        let socket = opened.map_err(|failure| self.refused(failure))?;
        let handle = self.reactor.handle();
        handle.on_shutdown(Phase::After, "admin socket", move |_| {
            let closed = socket.as_ref().map(AdminSocket::close);
            closed.unwrap_or_else(|| Deferred::ready(()))
        });
        Ok(())
    }

    /// Opens the metrics listener, which answers as long as the admin socket.
    fn open_metrics(&mut self) -> Result<(), Refusal> {
        let (network, config) = (self.daemon.network(), self.daemon.config());
        let opened = Metrics::open(&network, &config.daemon, &self.status);
        let listener = opened.map_err(|failure| self.refused(failure))?;
        let handle = self.reactor.handle();
        handle.on_shutdown(Phase::After, "metrics listener", move |_| {
            let closed = listener.as_ref().map(Metrics::close);
            closed.unwrap_or_else(|| Deferred::ready(()))
        });
        Ok(())
    }

    /// What was started is stopped again: the daemon cannot have what it was told to.
    fn refused(&mut self, failure: Failure) -> Refusal {
        give_up(&mut self.reactor, &self.daemon, &self.workers);
        let component = "daemon".to_owned();
        Refusal::Component(StartError { component, failure })
    }

    /// What the reactor does when it is stopped: drain, then let go.
    fn plan_stop(&self, handle: &Handle) {
        let (daemon, stop) = (Rc::clone(&self.daemon), Rc::clone(&self.stop));
        handle.on_shutdown(Phase::Before, "drain", move |_| {
            daemon.network().keep_stored();
            let crew = Rc::clone(daemon.crew());
            crew.drain().add_both(move |_| {
                stop.is_drained.set(true);
                crew.finish().add_both(move |_| stop.is_finished.set(true))
            })
        });
        let (crew, stop) = (Rc::clone(self.daemon.crew()), Rc::clone(&self.stop));
        handle.on_shutdown(Phase::During, "abandon", move |_| {
            if stop.is_finished.get() {
                return Deferred::ready(());
            }
            crew.abandon(stop.is_drained.get())
        });
        let crew = Rc::clone(self.daemon.crew());
        handle.on_shutdown(Phase::After, "workers", move |_| {
            crew.dismiss();
            Deferred::ready(())
        });
    }

    fn answer_signals(&self, handle: &Handle) -> Result<(), Refusal> {
        let (daemon, stop) = (Rc::clone(&self.daemon), Rc::clone(&self.stop));
        let (reloader, status) = (Rc::clone(&self.reloader), Rc::clone(&self.status));
        let mut asked = 0;
        let answer = move |handle: &Handle, signal: Signal| match signal {
            Signal::Usr2 => {
                log_source_counts(daemon.crew());
                log_books(&status);
            }
            Signal::Usr1 => reopen_all(daemon.crew()),
            // It opens files anew, too. What came of it is in the log.
            Signal::Hup => drop(reloader.reload(signal.name()).add_both(|_| ())),
            Signal::Term | Signal::Int => {
                asked += 1;
                stop.asked(handle, signal, asked, daemon.stop_timeout());
            }
        };
        let watch = handle.signals(&Signal::ALL, answer);
        let watch = watch.map_err(|error| Refusal::System("cannot receive signals", error))?;
        // The watch lives as long as the process: a late signal must not kill it half way.
        let kept = Cell::new(Some(watch));
        handle.on_shutdown(Phase::After, "signals", move |_| {
            drop(kept.take());
            Deferred::ready(())
        });
        Ok(())
    }

    /// What components may ask of the daemon.
    fn answer_components(&self, handle: &Handle) {
        let host = self.daemon.host();
        let (daemon, stop) = (Rc::downgrade(&self.daemon), Rc::clone(&self.stop));
        let handle = handle.clone();
        host.on_stop(move |reason| {
            if let Some(daemon) = daemon.upgrade().filter(|_| !stop.has_begun()) {
                stop.begin(&handle, reason, daemon.stop_timeout());
                handle.stop(Exit::Stopped);
            }
        });
        // The daemon holds the host, and the status the daemon.
        let status = Rc::downgrade(&self.status);
        host.set_books(move || {
            let Some(status) = status.upgrade() else {
                return Deferred::ready(Vec::new());
            };
            status.gathered(false).add_both(books::told)
        });
    }

    fn live(mut self) -> u8 {
        let handle = self.reactor.handle();
        let exit = self.reactor.run();
        // The reactors have ended: nobody can be waited for any more.
        self.daemon.log_source_counts();
        let report = self.workers.last_report(&self.daemon, FINISH_MAX);
        let left = report.open_events();
        books::log(&report);
        let cut = match exit {
            Err(error) => format!("the reactor failed: {error}"),
            Ok(Exit::Panicked) => "a component panicked".into(),
            Ok(Exit::Aborted) => format!("told to stop three times; {left} events were left"),
            Ok(_) if left > 0 => format!("{left} events were not settled"),
            Ok(_) => cut_off(&report),
        };
        let code = if cut.is_empty() { 0 } else { EXIT_CUT };
        let took = self
            .stop
            .began
            .get()
            .map_or(Duration::ZERO, |began| handle.fresh().since(began));
        Stopped {
            code,
            cut: &cut,
            took,
        }
        .log();
        code
    }
}

impl Stop {
    /// Tells, whenever it is asked, whether the stop was asked for.
    fn is_asked(self: &Rc<Self>) -> Box<dyn Fn() -> bool> {
        let stop = Rc::clone(self);
        Box::new(move || stop.has_begun())
    }

    fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// The stop begins; the reactor is still to be told.
    fn begin(&self, handle: &Handle, reason: &str, limit: Duration) {
        self.began.set(Some(handle.now()));
        Stopping { reason, limit }.log();
        notify::stopping(handle, "stopping: delivering what was received");
        notify::extend_while_stopping(handle);
    }

    /// A signal asks for the stop: the first begins it, the second hurries, the third ends.
    fn asked(&self, handle: &Handle, signal: Signal, asked: u32, limit: Duration) {
        if asked == 1 && self.has_begun() {
            // Asked for by a component already; whoever sends a first signal is not in a hurry.
        } else if asked == 1 {
            self.begin(handle, signal.name(), limit);
            handle.stop(Exit::Signal(signal.number()));
        } else if asked == 2 {
            tracing::warn!(
                event = "stop_hurried",
                component = "daemon",
                "told to stop again"
            );
            handle.hasten();
        } else {
            handle.abort();
        }
    }
}

/// One line for each source: the sinks that it cannot do without.
fn say_what_stops_what(daemon: &Daemon) {
    for flow in daemon.flows() {
        let sinks = flow.stoppers.iter();
        let sinks: Vec<_> = sinks
            .map(|stopper| (stopper.port.name(), stopper.why.word()))
            .collect();
        StoppedBy {
            source: &flow.name,
            sinks: &sinks,
        }
        .log();
    }
}

/// The report of all reactors, for whoever asks this one.
fn ask(daemon: &Daemon) -> Ask {
    let crew = Rc::clone(daemon.crew());
    Box::new(move |debug| crew.report(debug))
}

/// What sources count beside the ledgers, each reactor for its own.
fn log_source_counts(crew: &Rc<Crew>) {
    drop(crew.on_all(|daemon| daemon.log_source_counts()));
}

/// Writes the books of all reactors into the log, once they are there.
fn log_books(status: &Status) {
    drop(status.gathered(false).add_both(|report| match report {
        Ok(report) => books::log(&report),
        Err(why) => CountsMissing { why: &why }.log(),
    }));
}

/// What the books say was lost by stopping.
fn cut_off(report: &Report) -> String {
    let lost = books::cut_off(report);
    if lost == 0 {
        return String::new();
    }
    format!("{lost} events were not delivered before the stop's limit (stop_timeout)")
}

/// What a reload needs, and what it brings into force beside the components.
fn reloader(
    daemon: &Rc<Daemon>,
    stop: &Rc<Stop>,
    certificates: &Rc<certificates::Watch>,
    memory: &Memory,
    around: &Surroundings,
) -> Rc<Reloader> {
    let network = daemon.network();
    let handle = network.reactor();
    let (reactor, memory, levels) = (handle.clone(), memory.clone(), around.levels.clone());
    let apply = move |config: &Config| {
        memory.set_limit(memory_limit::of(&config.daemon));
        reactor.set_drain_timeout(config.daemon.duration("stop_timeout"));
        let options = log_options(config);
        levels.set(Levels::new(options.level, options.levels));
    };
    Reloader::new(Making {
        daemon: Rc::clone(daemon),
        certificates: Rc::clone(certificates),
        reactor: handle.clone(),
        path: around.config.clone(),
        env: around.env,
        is_stopping: stop.is_asked(),
        apply: Box::new(apply),
    })
}
