//! The graph: which pipelines a source feeds, what their steps do to a batch, which sinks want
//! the result. [`Plan::make`] answers with a [`Plan`]; nothing has been admitted yet then.
//!
//! Steps run to their end in one go and see the whole batch. A pipeline that others read from
//! hands each of them a copy of its batch; copies share the bytes.
//!
//! A step or condition that panics costs the batch, which is counted as dropped, and whoever
//! delivered it; the pipelines keep their steps and their books balance (F-009).

use std::cell::RefCell;
use std::rc::Rc;

use crate::event::Batch;
use crate::telemetry::events::StepFailed;
use crate::time::{Instant, Scheduler};

use super::condition::{Condition, Truth};
use super::ledger::PipelineLedger;
use super::letter::Via;
use super::memory::Memory;
use super::port::Port;
use super::step::{Step, StepReport};

/// One entry of a pipeline's `to`.
pub struct Route {
    /// Where to.
    pub port: Rc<Port>,
    /// Which events; all when absent.
    pub condition: Option<Condition>,
    /// Whether delivery waits for this sink. A route that is not required never blocks.
    pub required: bool,
}

/// A step with the label that logs and counts call it by, `main.2:drop_if`.
pub struct LabelledStep {
    /// `PIPELINE.INDEX:STEP`
    pub label: Rc<str>,
    /// What it does.
    pub step: Box<dyn Step>,
    /// Whether its first failure was logged.
    pub has_failed: bool,
}

/// One pipeline.
pub struct Pipeline {
    name: Rc<str>,
    steps: RefCell<Vec<LabelledStep>>,
    routes: Vec<Route>,
    readers: RefCell<Vec<Rc<Pipeline>>>,
    via: Rc<Via>,
    ledger: Rc<PipelineLedger>,
    /// The way to the reactor that has the pipeline, where this is no more than its place here.
    elsewhere: RefCell<Option<Rc<Port>>>,
}

impl Pipeline {
    /// A pipeline; the pipelines that read from it are added by [`Pipeline::feed`].
    pub fn new(
        name: &str,
        steps: Vec<LabelledStep>,
        routes: Vec<Route>,
        errors_to: Option<Rc<Port>>,
    ) -> Rc<Self> {
        Rc::new(Pipeline {
            name: name.into(),
            steps: RefCell::new(steps),
            routes,
            readers: RefCell::default(),
            via: Via::new(name, errors_to),
            ledger: Rc::default(),
            elsewhere: RefCell::default(),
        })
    }

    /// What the pipeline becomes by a change of the configuration: the books go on. The steps
    /// that stay come from [`Pipeline::take_steps`].
    pub fn succeeded_by(
        &self,
        steps: Vec<LabelledStep>,
        routes: Vec<Route>,
        errors_to: Option<Rc<Port>>,
    ) -> Rc<Self> {
        Rc::new(Pipeline {
            name: Rc::clone(&self.name),
            steps: RefCell::new(steps),
            routes,
            readers: RefCell::default(),
            via: Via::new(&self.name, errors_to),
            ledger: Rc::clone(&self.ledger),
            elsewhere: RefCell::default(),
        })
    }

    /// Takes the steps, with all they remember. Nothing may be delivered here any more.
    pub fn take_steps(&self) -> Vec<LabelledStep> {
        self.steps.take()
    }

    /// These pipelines read what leaves here from now on.
    pub fn set_readers(&self, readers: Vec<Rc<Pipeline>>) {
        *self.readers.borrow_mut() = readers;
    }

    /// Another reactor has this pipeline: what is delivered here goes there, through `port`.
    pub fn set_elsewhere(&self, port: Option<Rc<Port>>) {
        *self.elsewhere.borrow_mut() = port;
    }

    /// The way to the reactor that has it, if another one does.
    pub fn elsewhere(&self) -> Option<Rc<Port>> {
        self.elsewhere.borrow().clone()
    }

    /// The pipelines that read what leaves here.
    pub fn readers(&self) -> Vec<Rc<Pipeline>> {
        self.readers.borrow().clone()
    }

    /// What leaves this pipeline goes into `reader` too. The configuration has no cycles.
    pub fn feed(&self, reader: Rc<Pipeline>) {
        self.readers.borrow_mut().push(reader);
    }

    /// The pipeline's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pipeline as the sinks of its events know it.
    pub fn via(&self) -> &Rc<Via> {
        &self.via
    }

    /// The sinks it writes to, and its dead letters' one.
    pub fn ports(&self) -> impl Iterator<Item = &Rc<Port>> {
        let routes = self.routes.iter().map(|route| &route.port);
        routes.chain(self.via.errors_to())
    }

    /// The pipeline's books.
    pub fn ledger(&self) -> &PipelineLedger {
        &self.ledger
    }

    /// Whether somebody looks at each event that enters here, before the sinks do: a step, or the
    /// condition of a route, here or in a pipeline that reads from this one.
    pub fn looks_at_events(&self) -> bool {
        let has_steps = !self.steps.borrow().is_empty();
        let has_conditions = self.routes.iter().any(|route| route.condition.is_some());
        let readers = self.readers.borrow();
        has_steps || has_conditions || readers.iter().any(|reader| reader.looks_at_events())
    }

    /// Adds the sinks that whatever enters here waits for: those of the routes that are
    /// required, here and in every pipeline that reads from this one, and the dead letters.
    pub fn add_stoppers(&self, stoppers: &mut Vec<Stopper>) {
        for route in self.routes.iter().filter(|route| route.required) {
            add_stopper(stoppers, &route.port, Why::Required);
        }
        if let Some(port) = self.via.errors_to() {
            add_stopper(stoppers, port, Why::ErrorsTo);
        }
        let readers = self.readers.borrow().clone();
        readers.iter().for_each(|one| one.add_stoppers(stoppers));
    }
}

/// A sink that can make a source stand still.
#[derive(Clone)]
pub struct Stopper {
    /// The way into it.
    pub port: Rc<Port>,
    /// By what part of the wiring.
    pub why: Why,
}

/// How a sink came to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is in a `to`, and not `required = false` there.
    Required,
    /// Events that a step failed on go there.
    ErrorsTo,
}

impl Why {
    /// The word of the wiring that says so.
    pub fn word(self) -> &'static str {
        match self {
            Why::Required => "required",
            Why::ErrorsTo => "errors_to",
        }
    }
}

/// Once each, by the stronger reason.
fn add_stopper(stoppers: &mut Vec<Stopper>, port: &Rc<Port>, why: Why) {
    let known = stoppers
        .iter_mut()
        .find(|known| Rc::ptr_eq(&known.port, port));
    match known {
        Some(known) if why == Why::Required => known.why = why,
        Some(_) => {}
        None => stoppers.push(Stopper {
            port: Rc::clone(port),
            why,
        }),
    }
}

/// What is to go into one sink.
pub struct Share {
    pub(super) port: Rc<Port>,
    /// Index into [`Plan::batches`].
    pub(super) batch: usize,
    pub(super) selection: Option<Box<[u32]>>,
    pub(super) bytes: usize,
    pub(super) required: bool,
    /// The pipeline the events come from; none for dead letters.
    pub(super) via: Option<Rc<Via>>,
    /// Another reactor had them in the books of its sink.
    pub(super) is_taken_over: bool,
}

/// What another reactor hands over for a sink that is here.
pub struct Parcel {
    /// The events.
    pub batch: Batch,
    /// The way into the sink.
    pub port: Rc<Port>,
    /// The pipeline they came through; none for dead letters.
    pub via: Option<Rc<Via>>,
}

/// What became of one source batch: the batches that came out of its pipelines, and the
/// shares of the sinks in them.
#[derive(Default)]
pub struct Plan {
    pub(super) batches: Vec<Batch>,
    pub(super) shares: Vec<Share>,
    /// Events each pipeline holds `in_flight` until the plan is admitted.
    pub(super) held: Vec<(Rc<Pipeline>, u64)>,
}

impl Plan {
    /// All of `batch` for one sink, from another reactor.
    pub fn of_one(parcel: Parcel) -> Plan {
        let Parcel { batch, port, via } = parcel;
        let share = Share {
            port,
            batch: 0,
            selection: None,
            bytes: batch.weight_bytes(),
            required: true,
            via,
            is_taken_over: true,
        };
        Plan {
            batches: vec![batch],
            shares: vec![share],
            held: Vec::new(),
        }
    }

    /// Runs `batch` through `pipelines` and all that read from them.
    pub fn make(pipelines: &[Rc<Pipeline>], batch: Batch, scheduler: &dyn Scheduler) -> Plan {
        let mut making = Making {
            plan: Plan::default(),
            todo: Vec::with_capacity(pipelines.len()),
            letters: Vec::new(),
        };
        let now = scheduler.now();
        push_copies(&mut making.todo, pipelines, batch);
        while let Some((pipeline, batch)) = making.todo.pop() {
            making.run(&pipeline, batch, now);
        }
        making.letters.clear();
        std::mem::take(&mut making.plan)
    }

    /// Copies out what is less than one part in `parts` of the chunk that it keeps in memory:
    /// the events of a batch, and those few of a batch that one sink gets. It asks for less room
    /// then. The copies count in `memory`.
    pub(super) fn compact(&mut self, parts: usize, memory: &Memory) {
        for share in &mut self.shares {
            let Some(picked) = &share.selection else {
                continue;
            };
            if let Some(mut batch) = self.batches[share.batch].pick_out(picked, parts) {
                batch.bytes = memory.hold(batch.bytes);
                share.bytes = batch.weight_bytes();
                share.selection = None;
                share.batch = self.batches.len();
                self.batches.push(batch);
            }
        }
        for (index, batch) in self.batches.iter_mut().enumerate() {
            let mut shares = self.shares.iter_mut().filter(|it| it.batch == index);
            let Some(first) = shares.next() else {
                // Everybody has got their own copy, or nobody wants it.
                batch.forget();
                continue;
            };
            if batch.compact_below(parts) {
                batch.bytes = memory.hold(std::mem::take(&mut batch.bytes));
                let (weight_bytes, events) = (batch.weight_bytes(), batch.events.len());
                for share in std::iter::once(first).chain(shares) {
                    let picked = share.selection.as_ref().map_or(events, |it| it.len());
                    share.bytes = weight_bytes * picked / events.max(1);
                }
            }
        }
    }
}

/// A plan while foreign code works on it. Dropped before it is whole, by a panic, it books what
/// is lost with it.
struct Making {
    plan: Plan,
    /// What is still to be run.
    todo: Vec<(Rc<Pipeline>, Batch)>,
    /// Dead letters in the plan: to which sink, how many.
    letters: Vec<(Rc<Port>, u64)>,
}

impl Drop for Making {
    fn drop(&mut self) {
        for (pipeline, events) in self.plan.held.drain(..) {
            pipeline.ledger.in_flight.sub(events);
            pipeline.ledger.dropped.add(PANICKED, events);
        }
        for (pipeline, batch) in self.todo.drain(..) {
            let events = batch.events.len() as u64;
            pipeline.ledger.received.add(events);
            pipeline.ledger.dropped.add(PANICKED, events);
        }
        for (port, events) in self.letters.drain(..) {
            port.refuse(events, PANICKED);
        }
    }
}

/// Events that a pipeline has received and not booked any further. Dropped with some left, by a
/// panic, it books them as dropped.
struct AtStake<'a> {
    pipeline: &'a Pipeline,
    events: usize,
    /// The steps while they are out of the pipeline.
    steps: Vec<LabelledStep>,
}

impl Drop for AtStake<'_> {
    fn drop(&mut self) {
        if !self.steps.is_empty() {
            self.pipeline.steps.replace(std::mem::take(&mut self.steps));
        }
        if self.events > 0 {
            let dropped = &self.pipeline.ledger.dropped;
            dropped.add(PANICKED, self.events as u64);
        }
    }
}

/// The reason under which events are counted that a panic has cost.
const PANICKED: &str = "panicked";

impl Making {
    fn run(&mut self, pipeline: &Rc<Pipeline>, mut batch: Batch, now: Instant) {
        pipeline.ledger.received.add(batch.events.len() as u64);
        if let Some(port) = pipeline.elsewhere() {
            return self.send_on(pipeline, port, batch);
        }
        // The steps are foreign code: they are taken out of their cell while they run.
        let mut at_stake = AtStake {
            pipeline,
            events: batch.events.len(),
            steps: pipeline.steps.take(),
        };
        self.run_steps(&mut at_stake, &mut batch, now);
        if batch.events.is_empty() {
            return;
        }
        let wanted = self.add_shares(pipeline, &batch);
        at_stake.events = 0;
        let readers = pipeline.readers.borrow().clone();
        let events = batch.events.len() as u64;
        let held = if readers.is_empty() { wanted } else { events };
        pipeline.ledger.filtered.add("to", events - held);
        if held > 0 {
            pipeline.ledger.in_flight.add(held);
            self.plan.held.push((Rc::clone(pipeline), held));
        }
        if !readers.is_empty() {
            push_copies(&mut self.todo, &readers, batch.clone());
        }
        self.plan.batches.push(batch);
    }

    /// All of it goes to the reactor that has the pipeline.
    fn send_on(&mut self, pipeline: &Rc<Pipeline>, port: Rc<Port>, batch: Batch) {
        let events = batch.events.len() as u64;
        pipeline.ledger.in_flight.add(events);
        self.plan.held.push((Rc::clone(pipeline), events));
        self.plan.shares.push(Share {
            port,
            batch: self.plan.batches.len(),
            selection: None,
            bytes: batch.weight_bytes(),
            required: true,
            via: None,
            is_taken_over: false,
        });
        self.plan.batches.push(batch);
    }

    fn run_steps(&mut self, at_stake: &mut AtStake<'_>, batch: &mut Batch, now: Instant) {
        let pipeline = at_stake.pipeline;
        for labelled in &mut at_stake.steps {
            if batch.events.is_empty() {
                break;
            }
            let mut report = StepReport::new(now, pipeline.via.errors_to().is_some());
            labelled.step.apply(batch, &mut report);
            // What a step has made of an event need not be a line.
            batch.lines &= !labelled.step.changes_events();
            log_first_failure(labelled, &report);
            self.book(pipeline, labelled, batch, report);
            at_stake.events = batch.events.len();
        }
    }

    fn book(
        &mut self,
        pipeline: &Pipeline,
        labelled: &LabelledStep,
        batch: &Batch,
        report: StepReport,
    ) {
        let books = &pipeline.ledger;
        books.filtered.add(&labelled.label, report.filtered);
        books.produced.add(report.produced);
        books.failed.add(&labelled.label, report.errors);
        let letters = report.dead_letters(batch, &labelled.label);
        let (Some(letters), Some(port)) = (letters, pipeline.via.errors_to()) else {
            return;
        };
        let events = letters.events.len() as u64;
        books.dead_lettered.add(events);
        self.letters.push((Rc::clone(port), events));
        self.plan.shares.push(Share {
            port: Rc::clone(port),
            batch: self.plan.batches.len(),
            selection: None,
            bytes: letters.weight_bytes(),
            required: true,
            via: None,
            is_taken_over: false,
        });
        self.plan.batches.push(letters);
    }

    /// Adds a share per route that wants events of `batch`, which is the next to be pushed.
    /// Answers how many events at least one route wanted.
    fn add_shares(&mut self, pipeline: &Pipeline, batch: &Batch) -> u64 {
        let events = batch.events.len();
        let index = self.plan.batches.len();
        let weight_bytes = batch.weight_bytes();
        let mut union = Union::default();
        for route in &pipeline.routes {
            let selection = pick(pipeline, route, batch);
            let picked = selection.as_ref().map_or(events, |picked| picked.len());
            if picked == 0 {
                continue;
            }
            union.add(selection.as_deref(), events);
            self.plan.shares.push(Share {
                port: Rc::clone(&route.port),
                batch: index,
                bytes: weight_bytes * picked / events,
                selection,
                required: route.required,
                via: Some(Rc::clone(&pipeline.via)),
                is_taken_over: false,
            });
        }
        union.count(events)
    }
}

/// Later failures are only counted: one bad sender must not fill the log.
fn log_first_failure(labelled: &mut LabelledStep, report: &StepReport) {
    let Some(reason) = &report.first_error else {
        return;
    };
    if !std::mem::replace(&mut labelled.has_failed, true) {
        StepFailed {
            step: &labelled.label,
            error: reason,
        }
        .log();
    }
}

/// The events a route wants; `None` is all. An event its condition fails on is not wanted.
fn pick(pipeline: &Pipeline, route: &Route, batch: &Batch) -> Option<Box<[u32]>> {
    let condition = route.condition.as_ref()?;
    let mut picked = Vec::new();
    let mut failed = 0;
    for (index, event) in batch.events.iter().enumerate() {
        match condition.holds(batch, event) {
            Truth::True => picked.push(index as u32),
            Truth::False => {}
            Truth::Failed(_) => failed += 1,
        }
    }
    if failed > 0 {
        pipeline
            .ledger
            .failed
            .add(&format!("to:{}", route.port.name()), failed);
    }
    (picked.len() < batch.events.len()).then(|| picked.into_boxed_slice())
}

fn push_copies(todo: &mut Vec<(Rc<Pipeline>, Batch)>, readers: &[Rc<Pipeline>], batch: Batch) {
    // Pushed in reverse: the last in is the first to run.
    let Some((first, others)) = readers.split_first() else {
        return;
    };
    for reader in others.iter().rev() {
        todo.push((Rc::clone(reader), batch.clone()));
    }
    todo.push((Rc::clone(first), batch));
}

/// How many events at least one of several selections holds, without a set where one holds all.
#[derive(Default)]
struct Union {
    all: bool,
    /// Empty until a selection leaves something out: most routes want everything.
    seen: Vec<bool>,
}

impl Union {
    fn add(&mut self, selection: Option<&[u32]>, events: usize) {
        let Some(picked) = selection else {
            self.all = true;
            return;
        };
        self.seen.resize(events, false);
        for index in picked {
            self.seen[*index as usize] = true;
        }
    }

    fn count(&self, events: usize) -> u64 {
        if self.all {
            return events as u64;
        }
        self.seen.iter().filter(|seen| **seen).count() as u64
    }
}
