//! From a configuration and its components to a running [`Daemon`]: ports, pipelines, engine.
//!
//! The same for the real daemon and for the simulator's: whatever differs between the two is in
//! the [`Resources`]. Sinks start before sources, so that nothing arrives before it can leave;
//! if one of them cannot start, those that did are stopped again. What happens when the
//! configuration changes is in `change`, and what becomes of components that go in `departures`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::disk::OpenError;
use crate::config::{Component, Config, Parts, Pipeline};
use crate::deferred::{Deferred, Failure, join_all};
use crate::pipeline::component::{Resources, Sink, Source};
use crate::pipeline::facts::Facts;
use crate::pipeline::graph;
use crate::pipeline::host::Host;
use crate::pipeline::intake::{Engine, Flow, Outlet};
use crate::pipeline::letter::Vias;
use crate::pipeline::memory::Memory;
use crate::pipeline::part::Stage;
use crate::pipeline::port::{Inlet, Port};
use crate::pipeline::queue::SHUTDOWN;
use crate::time::{Duration, Scheduler};
use crate::transport::{ListenError, Network};

use super::buffers::{Buffers, PortMaking};
use super::certificates;
use super::change::Changing;
use super::departures::Departures;
use super::wiring::{self, fed_by};
use super::workers::{Crew, Relay, Seat, Target};
use super::{EXIT_CUT, EXIT_TEMPORARY};

/// Everything that flows, and the components that make it flow.
pub struct Daemon {
    pub(super) engine: Rc<Engine>,
    pub(super) config: RefCell<Rc<Config>>,
    pub(super) world: World,
    pub(super) vias: Vias,
    pub(super) pipelines: RefCell<Rc<[Rc<graph::Pipeline>]>>,
    /// Out of their cells while they run: a component may make anything happen.
    pub(super) sources: RefCell<Vec<Named<dyn Source, Outlet>>>,
    pub(super) sinks: RefCell<Vec<Named<dyn Sink, Inlet>>>,
    /// The ways to pipelines that other reactors have, by the pipeline's name; as many as there
    /// ever were.
    pub(super) relays: RefCell<Vec<Named<dyn Sink, Inlet>>>,
    pub(super) departures: Departures,
    pub(super) change: Changing,
}

/// What a daemon lives on.
pub struct World {
    /// The budget of all events.
    pub memory: Memory,
    /// Clocks and timers.
    pub scheduler: Rc<dyn Scheduler>,
    /// Makes the sinks' buffers.
    pub buffers: Buffers,
    /// What components may ask for; the network among it.
    pub resources: RefCell<Resources>,
    /// The reactor that it is of, and the others.
    pub crew: Rc<Crew>,
}

pub(super) struct Named<T: ?Sized, End> {
    pub(super) name: Arc<str>,
    /// Its `type`.
    pub(super) kind: &'static str,
    pub(super) component: Box<T>,
    /// Its way in or out.
    pub(super) end: End,
    /// Whether its start has succeeded.
    pub(super) is_started: bool,
}

impl<T: ?Sized, End> Named<T, End> {
    pub(super) fn new(of: &Component, component: Box<T>, end: End) -> Self {
        Named {
            name: Arc::clone(&of.name),
            kind: of.descriptor.name,
            component,
            end,
            is_started: false,
        }
    }
}

/// A component, as it says of itself.
#[derive(Debug)]
pub struct Described {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// What it knows.
    pub facts: Facts,
}

/// Why the daemon did not start, or not in its new form.
#[derive(Debug)]
pub struct StartError {
    /// The component, `source.in`.
    pub component: String,
    /// What it said.
    pub failure: Failure,
}

impl StartError {
    /// The exit code that says whether another try can help.
    pub fn code(&self) -> u8 {
        let listen = self.failure.downcast_ref::<ListenError>();
        let buffer = self.failure.downcast_ref::<OpenError>();
        let is_temporary = listen.is_some_and(ListenError::is_temporary)
            || buffer.is_some_and(OpenError::is_temporary);
        if is_temporary {
            EXIT_TEMPORARY
        } else {
            EXIT_CUT
        }
    }
}

impl World {
    pub(super) fn making<'a>(&'a self, vias: &'a Vias) -> PortMaking<'a> {
        PortMaking {
            memory: &self.memory,
            vias,
            scheduler: &self.scheduler,
        }
    }

    /// Calls `start` with what the component `label` may ask for: its sockets are its own.
    pub(super) fn lend<T>(&self, label: &str, start: impl FnOnce(&Resources) -> T) -> T {
        // Held while the component starts: nobody else has any use for it meanwhile.
        let mut resources = self.resources.borrow_mut();
        let network = resources.get::<Network>().shared_by(label);
        resources.lend(network);
        start(&resources)
    }

    /// What hands over to the reactor that has the sink `of`, if another one does.
    pub(super) fn relay_to(&self, of: &Component) -> Option<Box<dyn Sink>> {
        let owner = self.crew.seat().elsewhere_sink(of)?;
        let target = Target::Sink(Arc::clone(&of.name));
        Some(Box::new(Relay::new(&self.crew, owner, target)))
    }

    /// For each pipeline of `config` the way to the reactor that has it, if another one does;
    /// `relays` are those there are, and get those that are new.
    pub(super) fn elsewhere(
        &self,
        config: &Config,
        vias: &Vias,
        relays: &RefCell<Vec<Named<dyn Sink, Inlet>>>,
    ) -> Vec<Option<Rc<Port>>> {
        let way = |of: &Pipeline| {
            let owner = self.crew.seat().elsewhere_pipeline(of)?;
            let mut relays = relays.borrow_mut();
            if let Some(known) = relays.iter().find(|relay| relay.name == of.name) {
                return Some(Rc::clone(known.end.port()));
            }
            let port = self.buffers.pipeline_port(&of.name, &self.making(vias));
            let target = Target::Pipeline(Arc::clone(&of.name));
            relays.push(Named {
                name: Arc::clone(&of.name),
                kind: "relay",
                component: Box::new(Relay::new(&self.crew, owner, target)),
                end: port.inlet(),
                is_started: false,
            });
            Some(port)
        };
        config.pipelines.iter().map(way).collect()
    }

    pub(super) fn network(&self) -> Network {
        // Of no component, though one was the last to borrow it.
        self.resources.borrow().get::<Network>().owned_by("")
    }
}

impl Daemon {
    /// Puts the daemon together; nothing is started yet.
    ///
    /// # Errors
    /// A disk buffer cannot be opened, or the system has no certificate authorities.
    pub fn new(config: Config, parts: Parts, world: World) -> Result<Rc<Self>, StartError> {
        world
            .network()
            .tls()
            .add(&certificates::materials(&config)?);
        let (vias, seat) = (Vias::default(), world.crew.seat());
        let port = |sink: &Component| {
            let opening = world.buffers.opening(sink, world.scheduler.wall());
            let opened = opening.and_then(|opening| opening.map(|it| it.run()).transpose());
            let opened = opened.map_err(|failure| StartError {
                component: format!("sink.{}", sink.name),
                failure,
            })?;
            Ok(world.buffers.port(sink, opened, &world.making(&vias)))
        };
        let ports = config.sinks.iter().map(port);
        let ports = ports.collect::<Result<Vec<_>, StartError>>()?;
        share_kept(&world.memory, seat, &ports);
        let relays = RefCell::default();
        let elsewhere = world.elsewhere(&config, &vias, &relays);
        let steps = parts.steps.into_iter();
        let stages = steps.map(|of_one| of_one.into_iter().map(wiring::Stage::Made).collect());
        let pipelines = wiring::pipelines(&config, stages.collect(), &ports, &elsewhere, &[]);
        vias.set(pipelines.iter().map(|pipeline| pipeline.via()));
        let scheduler = Rc::clone(&world.scheduler);
        let all_ports = ports.iter().chain(elsewhere.iter().flatten()).cloned();
        let engine = Engine::new(world.memory.clone(), scheduler, all_ports.collect());
        let sources = config.sources.iter().zip(parts.sources);
        let sources = sources.filter(|(of, _)| seat.has_source(of));
        let sources = sources.map(|(of, component)| {
            let fed = fed_by(&config, &pipelines, &of.name);
            let outlet = engine.outlet(&of.name, stage(of, &fed), fed);
            Named::new(of, component, outlet)
        });
        let sources = sources.collect();
        let sinks = config.sinks.iter().zip(parts.sinks).zip(&ports);
        let sinks = sinks.map(|((of, component), port)| {
            let component = world.relay_to(of).unwrap_or(component);
            Named::new(of, component, port.inlet())
        });
        let sinks = sinks.collect();
        let daemon = Rc::new(Daemon {
            engine,
            config: RefCell::new(Rc::new(config)),
            world,
            vias,
            pipelines: RefCell::new(pipelines.into()),
            sources: RefCell::new(sources),
            sinks: RefCell::new(sinks),
            relays,
            departures: Departures::default(),
            change: Changing::default(),
        });
        daemon.world.crew.attach(&daemon);
        Ok(daemon)
    }

    /// Starts every sink, then every source. The answer has a line for each thing that is
    /// listened to, fetched or written, with the component's label.
    ///
    /// # Errors
    /// The first component that could not start. Those behind it were not started; those before
    /// it want to be stopped with [`Daemon::give_up`].
    pub fn start(&self) -> Result<Vec<(String, String)>, StartError> {
        let mut about = Vec::new();
        self.start_relays()?;
        start_each(&self.sinks, |sink| self.start_sink(sink, &mut about))?;
        start_each(&self.sources, |source| {
            self.start_source(source, &mut about)
        })?;
        Ok(about)
    }

    /// Starts the ways to pipelines of other reactors that are new.
    pub(super) fn start_relays(&self) -> Result<(), StartError> {
        start_each(&self.relays, |relay| match relay.is_started {
            true => Ok(()),
            false => self.start_sink(relay, &mut Vec::new()),
        })
    }

    pub(super) fn start_sink(
        &self,
        sink: &mut Named<dyn Sink, Inlet>,
        about: &mut Vec<(String, String)>,
    ) -> Result<(), StartError> {
        let label = format!("sink.{}", sink.name);
        let inlet = sink.end.clone();
        let lines = self
            .world
            .lend(&label, |resources| sink.component.start(inlet, resources));
        sink.is_started = lines.is_ok();
        note(about, label, lines)
    }

    pub(super) fn start_source(
        &self,
        source: &mut Named<dyn Source, Outlet>,
        about: &mut Vec<(String, String)>,
    ) -> Result<(), StartError> {
        let label = format!("source.{}", source.name);
        let outlet = source.end.clone();
        let lines = self.world.lend(&label, |resources| {
            source.component.start(outlet, resources)
        });
        source.is_started = lines.is_ok();
        note(about, label, lines)
    }

    /// The way into the sink `name`, where it is this reactor's.
    pub(super) fn port_here(&self, name: &str) -> Option<Rc<Port>> {
        let ports = self.engine.ports();
        let is_it = |port: &&Rc<Port>| port.name() == name && !port.is_relay();
        ports.iter().find(is_it).cloned()
    }

    /// The ways to pipelines of other reactors.
    pub(super) fn relay_ports(&self) -> Vec<Rc<Port>> {
        let relays = self.relays.borrow();
        let ports = relays.iter().map(|relay| Rc::clone(relay.end.port()));
        ports.collect()
    }

    /// Whether what another reactor hands over has a place here.
    pub(super) fn has_target(&self, target: &Target) -> bool {
        match target {
            Target::Sink(name) => self.port_here(name).is_some(),
            Target::Pipeline(name) => {
                let pipelines = self.pipelines.borrow();
                let is_it =
                    |it: &Rc<graph::Pipeline>| *it.name() == **name && it.elsewhere().is_none();
                pipelines.iter().any(is_it)
            }
        }
    }

    /// What components ask of the daemon.
    pub(super) fn host(&self) -> Host {
        self.world.resources.borrow().get::<Host>().clone()
    }

    /// This reactor and the others.
    pub(super) fn crew(&self) -> &Rc<Crew> {
        &self.world.crew
    }

    /// Events that were handed over to other reactors so far.
    pub(super) fn handed_events(&self) -> u64 {
        let ports = self.engine.ports();
        ports.iter().map(|port| port.ledger().handed.get()).sum()
    }

    /// The network that components are lent.
    pub(super) fn network(&self) -> Network {
        self.world.network()
    }

    /// The configuration that runs.
    pub fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    /// One line for the service manager.
    pub fn summary(&self) -> String {
        let config = self.config.borrow();
        format!(
            "running: {} sources, {} pipelines, {} sinks",
            config.sources.len(),
            config.pipelines.len(),
            config.sinks.len()
        )
    }

    /// Fires when no disk buffer that is needed no more is still being closed.
    pub fn closed(&self) -> Deferred<()> {
        let ports = self.engine.ports();
        let former = ports.iter().map(|port| port.former_closed());
        let closed = former.chain([self.departures.closed()]);
        join_all(closed.collect::<Vec<_>>()).add_both(|_| ())
    }

    /// How long whatever goes may take to bring to an end what it has.
    pub(super) fn stop_timeout(&self) -> Duration {
        self.config.borrow().daemon.duration("stop_timeout")
    }

    /// Stops what was started by a start that failed; fires when it has.
    pub fn give_up(&self) -> Deferred<()> {
        let sources = each(&self.sources, |source| {
            source.is_started.then(|| source.component.stop())
        });
        let sinks = each(&self.sinks, |sink| {
            sink.is_started.then(|| sink.component.stop())
        });
        let relays = each(&self.relays, |relay| {
            relay.is_started.then(|| relay.component.stop())
        });
        let stopped = sources.into_iter().chain(sinks).chain(relays).flatten();
        join_all(stopped.collect::<Vec<_>>()).add_both(|_| ())
    }

    /// Stops the sources, waits until everything that came in is settled.
    pub fn drain(&self) -> Deferred<()> {
        each(&self.sinks, |sink| sink.component.drain());
        let mut stopped = each(&self.sources, |source| source.component.stop());
        stopped.push(self.departures.sources_left());
        let engine = Rc::clone(&self.engine);
        join_all(stopped).add_both(move |_| engine.drained())
    }

    /// After the drain, or in place of the rest of it: connections that wait for an answer are
    /// closed, the sinks flush, give back what they could not deliver, and close; disk buffers
    /// are put in order. Fires when all that is done.
    pub fn finish(&self) -> Deferred<()> {
        each(&self.sources, |source| source.component.close());
        let mut stopped = each(&self.sinks, |sink| sink.component.stop());
        stopped.extend(each(&self.relays, |relay| relay.component.stop()));
        stopped.extend(self.departures.finish());
        let engine = Rc::clone(&self.engine);
        join_all(stopped).add_both(move |_| {
            engine.abandon(SHUTDOWN);
            close_all(&engine)
        })
    }

    /// Puts the disk buffers in order for the next start, whatever the sinks are at.
    pub fn close_buffers(&self) -> Deferred<()> {
        close_all(&self.engine)
    }

    /// Gives up what is not delivered yet; the books say so.
    pub fn abandon(&self, reason: &'static str) {
        self.engine.abandon(reason);
    }

    /// Files that were moved away are opened anew.
    pub fn reopen(&self) {
        each(&self.sinks, |sink| sink.component.reopen());
    }

    /// Events that the end of the process would lose, over all sinks and pipelines.
    pub fn open_events(&self) -> u64 {
        let ports = self.engine.ports();
        let in_sinks = ports.iter().map(|port| port.volatile_events());
        let pipelines = self.all_pipelines();
        let waiting = pipelines.iter().map(|it| it.ledger().in_flight.get());
        in_sinks.chain(waiting).sum()
    }

    /// Whether both ledgers of every component balance.
    pub fn balances(&self) -> bool {
        let (ports, pipelines) = (self.engine.ports(), self.all_pipelines());
        pipelines.iter().all(|it| it.ledger().balances())
            && ports.iter().all(|port| port.ledger().balances())
    }

    /// Every source, as it says of itself.
    pub fn describe_sources(&self) -> Vec<Described> {
        each(&self.sources, |source| Described {
            name: Arc::clone(&source.name),
            kind: source.kind,
            facts: source.component.facts(),
        })
    }

    /// Every sink, as it says of itself.
    pub fn describe_sinks(&self) -> Vec<Described> {
        each(&self.sinks, |sink| Described {
            name: Arc::clone(&sink.name),
            kind: sink.kind,
            facts: sink.component.facts(),
        })
    }

    /// How every source stands with its sinks.
    pub fn flows(&self) -> Vec<Flow> {
        self.engine.flows()
    }

    /// At most `most` peers of open connections, each with its source's label.
    pub fn peers(&self, most: usize) -> Vec<(String, String)> {
        let mut left = most;
        let of_each = each(&self.sources, |source| {
            let label = format!("source.{}", source.name);
            let peers = source.component.peers(left);
            left -= peers.len().min(left);
            peers.into_iter().map(move |peer| (label.clone(), peer))
        });
        of_each.into_iter().flatten().collect()
    }

    /// The pipelines, for whoever reads their books.
    pub fn pipelines(&self) -> Rc<[Rc<graph::Pipeline>]> {
        Rc::clone(&self.pipelines.borrow())
    }

    /// The pipelines, and those of former configurations through which something still goes.
    pub fn all_pipelines(&self) -> Vec<Rc<graph::Pipeline>> {
        let mut pipelines = self.pipelines().to_vec();
        pipelines.extend(self.departures.pipelines());
        pipelines
    }

    /// The ways into all sinks, for whoever reads their books.
    pub fn ports(&self) -> Rc<[Rc<Port>]> {
        self.engine.ports()
    }

    /// Writes into the log what sources count beside the events in the ledgers.
    pub fn log_source_counts(&self) {
        each(&self.sources, |source| source.component.log_counts());
    }
}

/// Calls each component with no borrow held.
pub(super) fn each<T: ?Sized, End, U>(
    components: &RefCell<Vec<Named<T, End>>>,
    call: impl FnMut(&mut Named<T, End>) -> U,
) -> Vec<U> {
    let mut taken = Taken {
        components,
        taken: components.take(),
    };
    taken.taken.iter_mut().map(call).collect()
}

/// Components out of their cell; they go back when it is dropped, also by a panic of one.
struct Taken<'a, T: ?Sized, End> {
    components: &'a RefCell<Vec<Named<T, End>>>,
    taken: Vec<Named<T, End>>,
}

impl<T: ?Sized, End> Drop for Taken<'_, T, End> {
    fn drop(&mut self) {
        self.components.replace(std::mem::take(&mut self.taken));
    }
}

/// Starts one component after the other, until one cannot.
fn start_each<T: ?Sized, End>(
    components: &RefCell<Vec<Named<T, End>>>,
    mut start: impl FnMut(&mut Named<T, End>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let mut result = Ok(());
    each(components, |component| {
        if result.is_ok() {
            result = start(component);
        }
    });
    result
}

fn note(
    about: &mut Vec<(String, String)>,
    component: String,
    lines: Result<Vec<String>, Failure>,
) -> Result<(), StartError> {
    match lines {
        Ok(lines) => {
            about.extend(lines.into_iter().map(|line| (component.clone(), line)));
            Ok(())
        }
        Err(failure) => Err(StartError { component, failure }),
    }
}

/// All sinks together keep at most one part in so many of the memory budget of what has
/// arrived. What a batch counts for may be a quarter of the chunk that it pins: so half of the
/// budget at least is never kept, and sources that wait for memory get some.
const KEPT_SHARE: usize = 8;

/// Each sink may keep as much as the others.
pub(super) fn share_kept(memory: &Memory, seat: Seat, ports: &[Rc<Port>]) {
    let kept = memory.limit_bytes() / KEPT_SHARE / (ports.len() * seat.count).max(1);
    ports.iter().for_each(|port| port.limit_kept(kept));
}

/// The stage at which a source acknowledges: as it says, else *durable* where every sink that
/// its events wait for has a disk buffer.
pub(super) fn stage(source: &Component, fed: &[Rc<graph::Pipeline>]) -> Stage {
    match source.options.word("ack") {
        "received" => return Stage::Received,
        "durable" => return Stage::Durable,
        "delivered" => return Stage::Delivered,
        _ => {}
    }
    let mut sinks = Vec::new();
    fed.iter()
        .for_each(|pipeline| pipeline.add_stoppers(&mut sinks));
    let all_on_disk = sinks.iter().all(|sink| sink.port.is_durable());
    if all_on_disk && !sinks.is_empty() {
        Stage::Durable
    } else {
        Stage::Delivered
    }
}

fn close_all(engine: &Engine) -> Deferred<()> {
    let ports = engine.ports();
    let closed: Vec<_> = ports.iter().map(|port| port.close()).collect();
    join_all(closed).add_both(|_| ())
}
