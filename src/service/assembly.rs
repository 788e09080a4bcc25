//! From a configuration and its components to a running [`Daemon`]: ports, pipelines, engine.
//!
//! The same for the real daemon and for the simulator's: whatever differs between the two is in
//! the [`Resources`]. Sinks start before sources, so that nothing arrives before it can leave;
//! if one of them cannot start, those that did are stopped again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{
    Component, Config, Feed, Parts, Pipeline as PipelineConfig, Route as RouteConfig,
};
use crate::deferred::{Deferred, Failure, join_all};
use crate::pipeline::component::{Resources, Sink, Source};
use crate::pipeline::condition::Condition;
use crate::pipeline::facts::Facts;
use crate::pipeline::graph::{LabelledStep, Pipeline, Route};
use crate::pipeline::guard::Guarded;
use crate::pipeline::intake::{Engine, Flow};
use crate::pipeline::letter::Vias;
use crate::pipeline::memory::Memory;
use crate::pipeline::part::Stage;
use crate::pipeline::port::Port;
use crate::pipeline::step::Step;
use crate::telemetry::events::{Amounts, PipelineCounts, SinkCounts};
use crate::time::Scheduler;

use super::buffers::Buffers;

/// Everything that flows, and the components that make it flow.
pub struct Daemon {
    engine: Rc<Engine>,
    pipelines: Vec<Rc<Pipeline>>,
    /// Out of their cells while they run: a component may make anything happen.
    sources: RefCell<Vec<Named<dyn Source>>>,
    sinks: RefCell<Vec<Named<dyn Sink>>>,
}

struct Named<T: ?Sized> {
    name: Arc<str>,
    /// Its `type`.
    kind: &'static str,
    component: Box<T>,
    /// Whether its start has succeeded.
    is_started: bool,
}

/// A component, as it says of itself.
pub struct Described {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// What it knows.
    pub facts: Facts,
}

/// Why the daemon did not start.
#[derive(Debug)]
pub struct StartError {
    /// The component, `source.in`.
    pub component: String,
    /// What it said.
    pub failure: Failure,
}

impl Daemon {
    /// Puts the daemon together; nothing is started yet.
    pub fn new(
        config: &Config,
        parts: Parts,
        memory: Memory,
        scheduler: &Rc<dyn Scheduler>,
        buffers: &Buffers,
    ) -> Result<Self, StartError> {
        let vias = Vias::default();
        let port = |sink: &Component| {
            let port = buffers.port(sink, &memory, &vias, scheduler);
            port.map_err(|failure| StartError {
                component: format!("sink.{}", sink.name),
                failure,
            })
        };
        let ports = config
            .sinks
            .iter()
            .map(port)
            .collect::<Result<Vec<_>, _>>()?;
        let kept = memory.limit_bytes() / KEPT_SHARE / ports.len().max(1);
        ports.iter().for_each(|port| port.limit_kept(kept));
        let pipelines = pipelines(config, parts.steps, &ports);
        vias.set(pipelines.iter().map(|pipeline| pipeline.via()));
        let engine = Engine::new(memory, Rc::clone(scheduler), ports);
        Ok(Daemon {
            engine,
            pipelines,
            sources: RefCell::new(named(&config.sources, parts.sources)),
            sinks: RefCell::new(named(&config.sinks, parts.sinks)),
        })
    }

    /// Starts every sink, then every source. The answer has a line for each thing that is
    /// listened to, fetched or written, with the component's label.
    ///
    /// # Errors
    /// The first component that could not start. Those behind it were not started; those before
    /// it want to be stopped with [`Daemon::give_up`].
    pub fn start(
        &self,
        config: &Config,
        resources: &Resources,
    ) -> Result<Vec<(String, String)>, StartError> {
        let mut about = Vec::new();
        let mut ports = self.engine.ports().iter();
        start_each(&self.sinks, |sink| {
            let port = ports.next().expect("every sink has its port");
            let lines = sink.component.start(port.inlet(), resources);
            note(&mut about, format!("sink.{}", sink.name), lines)
        })?;
        let mut configs = config.sources.iter();
        start_each(&self.sources, |source| {
            let of = configs.next().expect("every source has its configuration");
            let fed = fed_by(config, &self.pipelines, &source.name);
            let outlet = self.engine.outlet(&source.name, stage(of, &fed), fed);
            let lines = source.component.start(outlet, resources);
            note(&mut about, format!("source.{}", source.name), lines)
        })?;
        Ok(about)
    }

    /// Stops what was started by a start that failed; fires when it has.
    pub fn give_up(&self) -> Deferred<()> {
        let sources = each(&self.sources, |source| {
            source.is_started.then(|| source.component.stop())
        });
        let sinks = each(&self.sinks, |sink| {
            sink.is_started.then(|| sink.component.stop())
        });
        let stopped = sources.into_iter().chain(sinks).flatten();
        join_all(stopped.collect::<Vec<_>>()).add_both(|_| ())
    }

    /// Stops the sources, waits until everything that came in is settled.
    pub fn drain(&self) -> Deferred<()> {
        each(&self.sinks, |sink| sink.component.drain());
        let stopped = each(&self.sources, |source| source.component.stop());
        let engine = Rc::clone(&self.engine);
        join_all(stopped).add_both(move |_| engine.drained())
    }

    /// After the drain, or in place of the rest of it: connections that wait for an answer are
    /// closed, the sinks flush, give back what they could not deliver, and close; disk buffers
    /// are put in order. Fires when all that is done.
    pub fn finish(&self) -> Deferred<()> {
        each(&self.sources, |source| source.component.close());
        let stopped = join_all(each(&self.sinks, |sink| sink.component.stop()));
        let engine = Rc::clone(&self.engine);
        stopped.add_both(move |_| {
            engine.abandon(SHUTDOWN);
            let closed: Vec<_> = engine.ports().iter().map(|port| port.close()).collect();
            join_all(closed).add_both(|_| ())
        })
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
        let ports = self.engine.ports().iter();
        let in_sinks = ports.map(|port| port.queue().volatile_events(port));
        let waiting = self
            .pipelines
            .iter()
            .map(|pipeline| pipeline.ledger().in_flight.get());
        in_sinks.chain(waiting).sum()
    }

    /// Events lost in this run, over all pipelines and sinks.
    pub fn dropped_events(&self) -> u64 {
        let in_sinks = self
            .engine
            .ports()
            .iter()
            .map(|port| port.ledger().dropped.total());
        let before = self
            .pipelines
            .iter()
            .map(|pipeline| pipeline.ledger().dropped.total());
        in_sinks.chain(before).sum()
    }

    /// Whether both ledgers of every component balance.
    pub fn balances(&self) -> bool {
        self.pipelines
            .iter()
            .all(|pipeline| pipeline.ledger().balances())
            && self
                .engine
                .ports()
                .iter()
                .all(|port| port.ledger().balances())
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
    pub fn pipelines(&self) -> &[Rc<Pipeline>] {
        &self.pipelines
    }

    /// The ways into all sinks, for whoever reads their books.
    pub fn ports(&self) -> &[Rc<Port>] {
        self.engine.ports()
    }

    /// Writes both ledgers of every component into the log.
    pub fn log_counts(&self) {
        each(&self.sources, |source| source.component.log_counts());
        self.pipelines
            .iter()
            .for_each(|pipeline| log_pipeline(pipeline));
        self.engine.ports().iter().for_each(|port| log_sink(port));
    }
}

/// Calls each component with no borrow held.
fn each<T: ?Sized, U>(
    components: &RefCell<Vec<Named<T>>>,
    call: impl FnMut(&mut Named<T>) -> U,
) -> Vec<U> {
    let mut taken = Taken {
        components,
        taken: components.take(),
    };
    taken.taken.iter_mut().map(call).collect()
}

/// Components out of their cell; they go back when it is dropped, also by a panic of one.
struct Taken<'a, T: ?Sized> {
    components: &'a RefCell<Vec<Named<T>>>,
    taken: Vec<Named<T>>,
}

impl<T: ?Sized> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.components.replace(std::mem::take(&mut self.taken));
    }
}

/// Starts one component after the other, until one cannot.
fn start_each<T: ?Sized>(
    components: &RefCell<Vec<Named<T>>>,
    mut start: impl FnMut(&mut Named<T>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let mut result = Ok(());
    each(components, |component| {
        if result.is_ok() {
            result = start(component);
            component.is_started = result.is_ok();
        }
    });
    result
}

fn named<T: ?Sized>(components: &[Component], parts: Vec<Box<T>>) -> Vec<Named<T>> {
    let named = |(of, component): (&Component, _)| Named {
        name: Arc::clone(&of.name),
        kind: of.descriptor.name,
        component,
        is_started: false,
    };
    components.iter().zip(parts).map(named).collect()
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

/// The stage at which a source acknowledges: as it says, else *durable* where every sink that
/// its events wait for has a disk buffer.
fn stage(source: &Component, fed: &[Rc<Pipeline>]) -> Stage {
    match source.options.word("ack") {
        "received" => return Stage::Received,
        "durable" => return Stage::Durable,
        "delivered" => return Stage::Delivered,
        _ => {}
    }
    let mut sinks = Vec::new();
    fed.iter()
        .for_each(|pipeline| pipeline.add_stoppers(&mut sinks));
    let all_on_disk = sinks.iter().all(|sink| sink.port.queue().is_disk());
    if all_on_disk && !sinks.is_empty() {
        Stage::Durable
    } else {
        Stage::Delivered
    }
}

fn pipelines(
    config: &Config,
    steps: Vec<Vec<Box<dyn Step>>>,
    ports: &[Rc<Port>],
) -> Vec<Rc<Pipeline>> {
    let by_name: HashMap<&str, &Rc<Port>> = ports.iter().map(|port| (port.name(), port)).collect();
    let find = |sink: &Arc<str>| {
        Rc::clone(
            by_name
                .get(&**sink)
                .expect("the wiring was checked when it was loaded"),
        )
    };
    let make = |(pipeline, steps): (&PipelineConfig, Vec<Box<dyn Step>>)| {
        let routes = pipeline
            .to
            .iter()
            .map(|to| route(to, find(&to.sink)))
            .collect();
        let errors_to = pipeline.errors_to.as_ref().map(find);
        Pipeline::new(&pipeline.name, labelled(pipeline, steps), routes, errors_to)
    };
    let made: Vec<_> = config.pipelines.iter().zip(steps).map(make).collect();
    for (reader, of) in made.iter().zip(&config.pipelines) {
        for feed in &of.from {
            let Feed::Pipeline(name) = feed else { continue };
            let feeding = made.iter().find(|pipeline| pipeline.name() == &**name);
            let feeding = feeding.expect("the wiring was checked when it was loaded");
            feeding.feed(Rc::clone(reader));
        }
    }
    made
}

fn labelled(pipeline: &PipelineConfig, steps: Vec<Box<dyn Step>>) -> Vec<LabelledStep> {
    let label = |(of, step): (&crate::config::StepConfig, _)| LabelledStep {
        label: of.label.as_ref().into(),
        step: guarded(step, of.condition.as_deref()),
        has_failed: false,
    };
    pipeline.steps.iter().zip(steps).map(label).collect()
}

/// The step behind its `if`, where it has one.
fn guarded(step: Box<dyn Step>, condition: Option<&str>) -> Box<dyn Step> {
    match condition {
        Some(text) => Box::new(Guarded::new(compiled(text), step)),
        None => step,
    }
}

fn compiled(condition: &str) -> Condition {
    Condition::compile(condition).expect("it compiled when the configuration was loaded")
}

fn route(to: &RouteConfig, port: Rc<Port>) -> Route {
    Route {
        port,
        condition: to.condition.as_deref().map(compiled),
        required: to.required,
    }
}

/// The pipelines that read from the source.
fn fed_by(config: &Config, pipelines: &[Rc<Pipeline>], source: &Arc<str>) -> Vec<Rc<Pipeline>> {
    let feed = Feed::Source(Arc::clone(source));
    let pairs = pipelines.iter().zip(&config.pipelines);
    let reading = pairs.filter(|(_, of)| of.from.contains(&feed));
    reading.map(|(pipeline, _)| Rc::clone(pipeline)).collect()
}

fn log_pipeline(pipeline: &Pipeline) {
    let books = pipeline.ledger();
    let (filtered, dropped) = (books.filtered.snapshot(), books.dropped.snapshot());
    let record = PipelineCounts {
        pipeline: pipeline.name(),
        received: books.received.get(),
        produced: books.produced.get(),
        passed: books.passed.get(),
        filtered: Amounts(&pairs(&filtered)),
        dropped: Amounts(&pairs(&dropped)),
        dead_lettered: books.dead_lettered.get(),
        in_flight: books.in_flight.get(),
        errors: books.failed.total(),
    };
    record.log();
}

fn log_sink(port: &Port) {
    let books = port.ledger();
    let dropped = books.dropped.snapshot();
    let record = SinkCounts {
        sink: port.name(),
        accepted: books.accepted.get(),
        recovered: books.recovered.get(),
        delivered: books.delivered.get(),
        dropped: Amounts(&pairs(&dropped)),
        dead_lettered: books.dead_lettered.get(),
        buffered: books.buffered.get(),
        in_flight: books.in_flight.get(),
        retries: books.retries.get(),
        replayed: books.replayed.get(),
    };
    record.log();
}

fn pairs(tally: &crate::pipeline::ledger::Tally) -> Vec<(&str, u64)> {
    tally
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect()
}

/// The reason under which is counted what a stop did not deliver.
const SHUTDOWN: &str = "shutdown";
