//! A reload: the configuration is read again, and the daemon goes over to it or stays as it is.
//!
//! Reading, checking and opening of disk buffers happen in jobs; the exchange is one turn of the
//! reactor ([`super::change`]), or one of each where there are several ([`super::workers`]). One
//! reload runs at a time. Whoever asks while it does is served by one more, which reads the file
//! after the last of them asked: any number of signals costs two reloads, and the last
//! configuration wins. A stop wins over a reload.
//!
//! systemd hears RELOADING=1 at the beginning and READY=1 at the end, whatever came of it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use crate::config::difference::Difference;
use crate::config::{self, Config, Loaded, Purpose};
use crate::deferred::{Deferred, Promise, join_all};
use crate::reactor::{Handle, Pool};
use crate::telemetry::events::{ReloadFailed, ReloadIgnored, Reloaded};
use crate::time::{Duration, Instant, Scheduler};

use crate::transport::tls::Materials;

use super::assembly::{Daemon, StartError};
use super::buffers::{OpenedBuffer, Opening};
use super::certificates::{self, Watch};
use super::change::{Changed, OpenedBuffers};
use super::cli::{self, EXIT_CONFIG};
use super::workers::change::Next;
use super::{EXIT_CUT, EXIT_TEMPORARY, notify};

/// Reads the environment of the process, on any thread.
pub type ReadEnvironment = fn(&str) -> Option<OsString>;

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code of `marline reload`.
    pub code: u8,
    /// What has changed, or why nothing has; with the notes and warnings on the configuration.
    pub text: String,
}

/// What a reload needs to know of the daemon's life.
pub struct Making {
    /// What runs.
    pub daemon: Rc<Daemon>,
    /// Says how long certificates are valid.
    pub(super) certificates: Rc<Watch>,
    /// What it runs on.
    pub reactor: Handle,
    /// The configuration's file.
    pub path: PathBuf,
    /// For secrets and values from the environment.
    pub env: ReadEnvironment,
    /// Whether the daemon is being stopped.
    pub is_stopping: Box<dyn Fn() -> bool>,
    /// Brings the options of `[daemon]` into force that may change at any time.
    pub apply: Box<dyn Fn(&Config)>,
}

/// A configuration with the certificates in its files.
struct Read {
    config: Config,
    materials: Materials,
}

/// Reloads on demand.
pub struct Reloader {
    making: Making,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// One is under way, since then; these wait for it.
    running: Option<(Instant, Vec<Promise<Outcome>>)>,
    /// These have asked since it read the file.
    next: Vec<Promise<Outcome>>,
}

impl Reloader {
    /// One for the daemon in `making`.
    pub fn new(making: Making) -> Rc<Reloader> {
        let state = RefCell::default();
        Rc::new(Reloader { making, state })
    }

    /// Asks for a reload, on behalf of `by`. Fires with what came of it; never fails.
    pub fn reload(self: &Rc<Self>, by: &str) -> Deferred<Outcome> {
        if (self.making.is_stopping)() {
            ReloadIgnored { by }.log();
            return Deferred::ready(stopping());
        }
        let (promise, deferred) = Deferred::new();
        self.state.borrow_mut().next.push(promise);
        tracing::info!(
            component = "daemon",
            event = "reload_asked",
            by,
            "{by}: reloading"
        );
        if self.state.borrow().running.is_none() {
            self.begin();
        }
        deferred
    }

    fn begin(self: &Rc<Self>) {
        let began = self.making.reactor.fresh();
        let mut state = self.state.borrow_mut();
        let asked = std::mem::take(&mut state.next);
        state.running = Some((began, asked));
        drop(state);
        notify::reloading();
        let (path, env) = (self.making.path.clone(), self.making.env);
        let load = move || {
            let loaded = config::load(&path, &cli::registry(), &env, Purpose::Run);
            let Loaded { config, report, .. } = loaded;
            // The components that proved it are of that thread.
            let read = config.map(|(config, _)| {
                let materials = certificates::materials(&config)?;
                Ok(Read { config, materials })
            });
            Ok((read, report))
        };
        let reactor = &self.making.reactor;
        let loading = reactor.defer_to_thread(Pool::General, "reload", load);
        let reloader = Rc::clone(self);
        drop(loading.add_both(move |loaded| match loaded {
            Ok((Some(Ok(read)), report)) => reloader.prepare(read, report),
            Ok((Some(Err(error)), _)) => reloader.refused(&error),
            Ok((None, report)) => reloader.failed(EXIT_CONFIG, report),
            Err(failure) => reloader.failed(EXIT_CUT, failure.text()),
        }));
    }

    /// Opens what must be open before the exchange.
    fn prepare(self: &Rc<Self>, read: Read, report: String) {
        let daemon = &self.making.daemon;
        let mut difference = Difference::between(&daemon.config(), &read.config);
        let crew = daemon.crew();
        let reloader = Rc::clone(self);
        if difference.is_empty() {
            let renewed = join_all(crew.ask_all(move |daemon| {
                daemon.reopen();
                let materials = read.materials.clone();
                Deferred::ready(daemon.network().tls().replace(materials))
            }));
            drop(renewed.add_both(move |renewed| {
                let renewed = renewed.into_iter().flatten().flatten();
                difference.renewed = renewed.max().unwrap_or(0);
                reloader.succeeded(&difference, report);
            }));
            return;
        }
        let timers: &dyn Scheduler = &self.making.reactor;
        let closed = join_all(crew.ask_all(|daemon| daemon.closed()));
        let closed = closed.timeout(CLOSE_LIMIT, timers);
        drop(closed.add_both(move |closed| match closed {
            Ok(_) => reloader.look_what_to_open(read, report),
            Err(_) => {
                let why = "the buffer of a sink that was removed is still being closed";
                reloader.failed(EXIT_TEMPORARY, why.to_owned());
            }
        }));
    }

    fn look_what_to_open(self: &Rc<Self>, read: Read, report: String) {
        let openings = self.making.daemon.crew().openings(&read.config);
        let reloader = Rc::clone(self);
        drop(openings.add_both(move |openings| match openings {
            Ok(Ok(openings)) => reloader.open(read, report, openings),
            Ok(Err(error)) => reloader.refused(&error),
            Err(failure) => reloader.failed(EXIT_CUT, failure.text()),
        }));
    }

    fn open(self: &Rc<Self>, read: Read, report: String, openings: Vec<Opening>) {
        if openings.is_empty() {
            return self.exchange(read, report, OpenedBuffers::new());
        }
        let open = move || {
            let mut opened = OpenedBuffers::new();
            for opening in openings {
                let component = format!("sink.{}", opening.sink());
                match opening.run() {
                    Ok(buffer) => opened.insert(buffer.sink.clone(), buffer),
                    Err(failure) => {
                        opened.into_values().for_each(OpenedBuffer::leave);
                        return Err(failure.context(component));
                    }
                };
            }
            Ok(opened)
        };
        let reactor = &self.making.reactor;
        let opening = reactor.defer_to_thread(Pool::Buffer, "open disk buffers", open);
        let reloader = Rc::clone(self);
        drop(opening.add_both(move |opened| match opened {
            Ok(opened) => reloader.exchange(read, report, opened),
            Err(failure) => reloader.failed(EXIT_CUT, failure.text()),
        }));
    }

    fn exchange(self: &Rc<Self>, read: Read, report: String, opened: OpenedBuffers) {
        if (self.making.is_stopping)() {
            self.making.daemon.close_unwanted(opened);
            return self.failed(EXIT_TEMPORARY, stopping().text);
        }
        let Read { config, materials } = read;
        let next = Next {
            config,
            opened,
            materials,
        };
        let daemon = &self.making.daemon;
        let changed = daemon.crew().change(daemon, next);
        let reloader = Rc::clone(self);
        drop(changed.add_both(move |changed| match changed {
            Ok(Ok(changed)) => reloader.changed(changed, report),
            Ok(Err(error)) => reloader.refused(&error),
            Err(failure) => reloader.failed(EXIT_CUT, failure.text()),
        }));
    }

    fn changed(self: &Rc<Self>, changed: Changed, report: String) {
        let Changed { difference, about } = changed;
        for (component, line) in about {
            tracing::info!(event = "component_started", component, "{line}");
        }
        let daemon = &self.making.daemon;
        (self.making.apply)(&daemon.config());
        super::reopen_all(daemon.crew());
        self.succeeded(&difference, report);
    }

    fn succeeded(self: &Rc<Self>, difference: &Difference, report: String) {
        let now = self.making.reactor.fresh();
        let began = self.state.borrow().running.as_ref().map(|it| it.0);
        let took = began.map_or(Duration::ZERO, |began| now.since(began));
        Reloaded { difference, took }.log();
        self.making.certificates.look();
        let text = format!("{report}{difference}\n");
        self.finish(Outcome { code: 0, text });
    }

    fn refused(self: &Rc<Self>, error: &StartError) {
        let StartError { component, failure } = error;
        let code = error.code();
        self.failed(code, format!("{component}: {failure}"));
    }

    fn failed(self: &Rc<Self>, code: u8, why: String) {
        let why = why.trim_end();
        ReloadFailed { code, why }.log();
        let text = format!("{why}\n");
        self.finish(Outcome { code, text });
    }

    fn finish(self: &Rc<Self>, outcome: Outcome) {
        let mut state = self.state.borrow_mut();
        let asked = state.running.take().map_or(Vec::new(), |running| running.1);
        let has_next = !state.next.is_empty();
        drop(state);
        let status = match outcome.code {
            0 => self.making.daemon.summary(),
            _ => format!(
                "{}; the last reload failed: {}",
                self.making.daemon.summary(),
                outcome.text.lines().next().unwrap_or_default()
            ),
        };
        notify::reloaded(&self.making.reactor, &status);
        for promise in asked {
            promise.callback(outcome.clone());
        }
        if has_next {
            let reloader = Rc::clone(self);
            // From the turn: a storm of reloads must not grow the stack.
            self.making
                .reactor
                .call_soon(move |_| reloader.begin_next());
        }
    }

    fn begin_next(self: &Rc<Self>) {
        if !(self.making.is_stopping)() {
            return self.begin();
        }
        let asked = std::mem::take(&mut self.state.borrow_mut().next);
        for promise in asked {
            promise.callback(stopping());
        }
    }
}

fn stopping() -> Outcome {
    Outcome {
        code: EXIT_TEMPORARY,
        text: "the daemon is being stopped: nothing was reloaded\n".to_owned(),
    }
}

/// How long a reload waits for disk buffers of sinks that an earlier one removed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
