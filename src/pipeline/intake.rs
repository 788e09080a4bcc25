//! The source's side of delivery: [`Outlet`] per source, [`Intake`] per connection, and the
//! [`Engine`] that admits what comes in.
//!
//! Admission is all or nothing over the required sinks of a batch: room on all, or the batch
//! waits at its source, in order, holding nothing. Two windows bound what a source has
//! outstanding, one for the source and one per connection; past either, or with the memory
//! budget used up, [`Intake::is_blocked`] says stop reading, and the resume call says when to
//! go on. Both calls come from the turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::deferred::{Deferred, Failure, Promise};
use crate::event::Batch;
use crate::time::{Duration, Scheduler};

use super::admission::{Waiting, admit, make_room, required, want_room};
use super::blocked::{Blocked, BlockedWatch};
use super::graph::{Parcel, Pipeline, Plan, Stopper};
use super::memory::Memory;
use super::part::{Delivered, Refused, Stage, Ticket};
use super::port::{Port, Ports};
use super::queue::{BUFFER_FULL, WhenFull};

/// Bytes one source may have outstanding before all of its connections stop reading.
pub const SOURCE_WINDOW_BYTES: usize = 16 << 20;
/// Bytes one connection may have outstanding before it stops reading.
pub const CONNECTION_WINDOW_BYTES: usize = 1 << 20;
/// How often a source that waits for memory alone looks again: memory is given back wherever
/// the last holder of some bytes is, which nobody announces.
const MEMORY_RETRY: Duration = Duration::from_millis(20);

/// Admits batches, and wakes what waits for room.
pub struct Engine {
    memory: Memory,
    scheduler: Rc<dyn Scheduler>,
    sources: RefCell<Vec<Rc<SourceState>>>,
    ports: Ports,
    drained: RefCell<Option<Promise<()>>>,
    /// Ports that are to be given up once they are empty.
    leaving: RefCell<Vec<(Rc<Port>, Promise<()>)>>,
    pass_queued: Cell<bool>,
    timer_set: Cell<bool>,
}

struct SourceState {
    name: Rc<str>,
    stage: Cell<Stage>,
    pipelines: RefCell<Rc<[Rc<Pipeline>]>>,
    /// Its source has been stopped; what is outstanding is still to be settled.
    is_leaving: Cell<bool>,
    outstanding_bytes: Cell<usize>,
    received_events: Cell<u64>,
    waiting: RefCell<VecDeque<Waiting>>,
    blocked: RefCell<Vec<Weak<IntakeState>>>,
    watch: Rc<BlockedWatch>,
    /// Its senders are told when a batch has found no room for so long, and send it again.
    patience: Cell<Option<Duration>>,
    /// Whether a pipeline looks at each event, before the sinks do.
    is_looked_at: Cell<bool>,
    /// What was delivered before it was known where to.
    gate: RefCell<Option<Vec<Gated>>>,
    /// It stands for another reactor, and is no source of the configuration.
    is_relay: bool,
}

/// A batch that waits to be told where it goes.
struct Gated {
    batch: Batch,
    promise: Promise<Delivered>,
}

/// What comes of a batch that another reactor has handed over.
pub struct Taken {
    /// It is in the books here: fires with nothing, or with why it is not.
    pub admitted: Deferred<()>,
    /// It has come as far as it must.
    pub settled: Deferred<Delivered>,
}

struct IntakeState {
    outstanding_bytes: Cell<usize>,
    is_listed: Cell<bool>,
    resume: RefCell<Option<Box<dyn FnMut()>>>,
}

// Every connection has one, idle or not: see docs/PERFORMANCE.md.
const _: () = assert!(size_of::<IntakeState>() <= 40, "a window has grown");

impl Engine {
    /// An engine over `ports`, the ways into all sinks.
    pub fn new(memory: Memory, scheduler: Rc<dyn Scheduler>, ports: Vec<Rc<Port>>) -> Rc<Self> {
        let engine = Rc::new(Engine {
            memory,
            scheduler,
            sources: RefCell::default(),
            ports: Ports::new(Vec::new()),
            drained: RefCell::default(),
            leaving: RefCell::default(),
            pass_queued: Cell::new(false),
            timer_set: Cell::new(false),
        });
        engine.set_ports(ports);
        engine
    }

    /// These are the ways into all sinks from now on.
    pub fn set_ports(self: &Rc<Self>, ports: Vec<Rc<Port>>) {
        for port in &ports {
            let weak = Rc::downgrade(self);
            port.when_room(move || {
                if let Some(engine) = weak.upgrade() {
                    engine.admit_waiting();
                }
            });
        }
        self.ports.set(ports);
    }

    /// A source that feeds `pipelines` and whose deliveries fire at `stage`.
    pub fn outlet(
        self: &Rc<Self>,
        name: &str,
        stage: Stage,
        pipelines: Vec<Rc<Pipeline>>,
    ) -> Outlet {
        let outlet = self.new_outlet(name, None, false);
        outlet.feed(stage, pipelines);
        outlet
    }

    /// A source of a configuration that is not in force yet: what it delivers waits until it is
    /// fed for the first time.
    pub fn gated_outlet(self: &Rc<Self>, name: &str) -> Outlet {
        self.new_outlet(name, Some(Vec::new()), false)
    }

    /// The way in for what another reactor hands over.
    pub fn relay_outlet(self: &Rc<Self>, name: &str, patience: Option<Duration>) -> Outlet {
        let outlet = self.new_outlet(name, None, true);
        outlet.source.patience.set(patience);
        outlet
    }

    fn new_outlet(self: &Rc<Self>, name: &str, gate: Option<Vec<Gated>>, is_relay: bool) -> Outlet {
        let watch = BlockedWatch::new(
            name,
            self.ports.clone(),
            self.memory.clone(),
            Rc::clone(&self.scheduler),
        );
        let source = Rc::new(SourceState {
            name: name.into(),
            stage: Cell::new(Stage::Received),
            pipelines: RefCell::default(),
            is_leaving: Cell::new(false),
            outstanding_bytes: Cell::new(0),
            received_events: Cell::new(0),
            waiting: RefCell::default(),
            blocked: RefCell::default(),
            watch,
            patience: Cell::new(None),
            is_looked_at: Cell::new(false),
            gate: RefCell::new(gate),
            is_relay,
        });
        self.sources.borrow_mut().push(Rc::clone(&source));
        Outlet {
            engine: Rc::clone(self),
            source,
        }
    }

    /// Whether the end of the process would lose nothing: every event that came in has been
    /// settled, or is on disk.
    pub fn is_drained(&self) -> bool {
        let none_waits = |source: &Rc<SourceState>| source.waiting.borrow().is_empty();
        self.sources.borrow().iter().all(none_waits)
            && self.ports.all().iter().all(|port| port.is_drained())
    }

    /// Fires when [`Engine::is_drained`].
    pub fn drained(self: &Rc<Self>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        *self.drained.borrow_mut() = Some(promise);
        self.check_drained();
        deferred.named("drain")
    }

    /// Fires when `port` holds nothing that the end of the process would lose, and nothing waits
    /// to go there. Dropping the answer changes nothing; [`Engine::keeps`] takes it back.
    pub fn emptied(self: &Rc<Self>, port: &Rc<Port>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        let entry = (Rc::clone(port), promise);
        self.leaving.borrow_mut().push(entry);
        self.check_leaving();
        deferred.named("emptying a sink")
    }

    /// The port is not to be given up after all: who waited for that is told nothing.
    pub fn keeps(&self, port: &Rc<Port>) {
        let mut leaving = self.leaving.borrow_mut();
        let kept = leaving.extract_if(.., |(of, _)| Rc::ptr_eq(of, port));
        let kept: Vec<_> = kept.collect();
        drop(leaving);
        for (_, promise) in kept {
            promise.errback(Failure::msg("the sink stays"));
        }
    }

    fn check_leaving(&self) {
        let sources = self.sources.borrow().clone();
        let is_waited_for = |port: &Rc<Port>| {
            let for_port = |source: &Rc<SourceState>| {
                let waiting = source.waiting.borrow();
                waiting.iter().any(|waiting| waiting.is_for(port))
            };
            sources.iter().any(for_port)
        };
        let is_empty = |(port, _): &mut (Rc<Port>, _)| port.is_drained() && !is_waited_for(port);
        let mut leaving = self.leaving.borrow_mut();
        let emptied: Vec<_> = leaving.extract_if(.., is_empty).collect();
        leaving.iter().for_each(|(port, _)| port.want_room());
        drop(leaving);
        for (_, promise) in emptied {
            promise.callback(());
        }
    }

    /// Forgets sources that were stopped and of which nothing is outstanding.
    pub fn forget_settled(&self) {
        self.sources.borrow_mut().retain(|source| !source.is_over());
    }

    /// Room given back is how the last part announces itself.
    fn check_drained(&self) {
        self.check_leaving();
        if self.drained.borrow().is_none() {
            return;
        }
        if self.is_drained() {
            let promise = self.drained.borrow_mut().take();
            promise.map(|promise| promise.callback(()));
        } else {
            self.ports.all().iter().for_each(|port| port.want_room());
        }
    }

    /// How every source stands, in the order in which they started.
    pub fn flows(&self) -> Vec<Flow> {
        let sources = self.sources.borrow();
        let of_config = sources.iter().filter(|it| !it.is_relay);
        of_config.map(|it| it.flow()).collect()
    }

    /// The ways into all sinks.
    pub fn ports(&self) -> Rc<[Rc<Port>]> {
        self.ports.all()
    }

    /// Gives up everything that is not in a sink's own hands and would not be there at the next
    /// start, as dropped for `reason`.
    pub fn abandon(self: &Rc<Self>, reason: &'static str) {
        let sources = self.sources.borrow().clone();
        for source in sources {
            loop {
                let next = source.waiting.borrow_mut().pop_front();
                let Some(waiting) = next else { break };
                let why = format!("source {}: dropped: {reason}", source.name);
                waiting.give_up(reason, Failure::msg(why));
            }
        }
        self.ports
            .all()
            .iter()
            .for_each(|port| port.abandon(reason));
        self.check_drained();
    }

    fn deliver(
        self: &Rc<Self>,
        source: &Rc<SourceState>,
        plan: Plan,
        stage: Stage,
        admitted: Option<Promise<()>>,
    ) -> Deferred<Delivered> {
        let (promise, deferred) = Deferred::new();
        let waiting = Waiting {
            plan,
            ticket: Ticket::new(promise, source.patience.get()),
            stage,
            is_answered: source.patience.get().is_some(),
            limit: None,
            admitted,
        };
        if let Some(refused) = source.refuses(&waiting.plan) {
            waiting.give_up(refused.reason(), Failure::new(refused));
            return deferred;
        }
        let must_queue = !source.waiting.borrow().is_empty();
        if must_queue || !make_room(&waiting.plan) {
            self.wait(source, waiting);
        } else {
            admit(waiting, &self.memory);
        }
        deferred
    }

    /// A batch that waits keeps no more memory than it needs.
    fn wait(self: &Rc<Self>, source: &Rc<SourceState>, mut waiting: Waiting) {
        waiting.compact(&self.memory);
        want_room(&waiting.plan);
        if let Some(patience) = source.patience.get() {
            let (engine, source) = (Rc::clone(self), Rc::clone(source));
            let ticket = Rc::clone(&waiting.ticket);
            let give_up = move || engine.refuse_waiting(&source, &ticket);
            let limit = self.scheduler.call_after(patience, Box::new(give_up));
            waiting.limit = Some(limit);
        }
        source.waiting.borrow_mut().push_back(waiting);
    }

    /// A batch has waited for as long as its sender may be kept waiting: nothing of it is taken.
    fn refuse_waiting(self: &Rc<Self>, source: &SourceState, ticket: &Rc<Ticket>) {
        let mut waiting = source.waiting.borrow_mut();
        let is_it = |one: &Waiting| Rc::ptr_eq(&one.ticket, ticket);
        let found = waiting.iter().position(is_it);
        let found = found.and_then(|index| waiting.remove(index));
        drop(waiting);
        let Some(tired) = found else { return };
        let full = required(&tired.plan).find(|(port, bytes)| !port.fits(*bytes));
        let sink = full.map_or_else(String::new, |(port, _)| port.name().to_owned());
        tired.give_up(BUFFER_FULL, Failure::new(Refused::BufferFull { sink }));
        self.admit_waiting();
    }

    /// Admits the heads of all sources' queues, one each in turn, until none fits.
    fn admit_waiting(self: &Rc<Self>) {
        let sources = self.sources.borrow().clone();
        let mut progress = true;
        while progress {
            progress = false;
            for source in &sources {
                progress |= admit_head(source, &self.memory);
            }
        }
        for source in &sources {
            if let Some(head) = source.waiting.borrow().front() {
                want_room(&head.plan);
            }
        }
        self.check_drained();
    }

    /// Runs the resume calls of intakes that may read again.
    fn resume_pass(self: &Rc<Self>) {
        self.pass_queued.set(false);
        let sources = self.sources.borrow().clone();
        let has_memory = self.memory.has_room();
        let mut waits_for_memory = false;
        for source in sources {
            for weak in source.blocked.take() {
                let Some(intake) = weak.upgrade() else {
                    continue;
                };
                if source.may_resume(&intake) && has_memory {
                    intake.is_listed.set(false);
                    source.watch.resumed();
                    intake.call_resume();
                    #[cfg(sim_bug = "double_resume")]
                    self.resume_again(intake);
                } else {
                    waits_for_memory |= !has_memory;
                    source.blocked.borrow_mut().push(weak);
                }
            }
            if source.blocked.borrow().is_empty() {
                // Whoever was blocked may also have gone, and resumes never.
                source.watch.resumed();
            }
        }
        if waits_for_memory && !self.timer_set.replace(true) {
            let engine = Rc::clone(self);
            let look_again = move || {
                engine.timer_set.set(false);
                engine.resume_pass();
            };
            drop(
                self.scheduler
                    .call_after(MEMORY_RETRY, Box::new(look_again)),
            );
        }
    }

    /// A planted bug, for the simulator to find: a source is resumed twice, the second time
    /// without a look at what it holds by then.
    #[cfg(sim_bug = "double_resume")]
    fn resume_again(&self, intake: Rc<IntakeState>) {
        let again = move || intake.call_resume();
        drop(self.scheduler.call_after(MEMORY_RETRY, Box::new(again)));
    }

    fn queue_resume_pass(self: &Rc<Self>) {
        if !self.pass_queued.replace(true) {
            let engine = Rc::clone(self);
            self.scheduler
                .call_soon(Box::new(move || engine.resume_pass()));
        }
    }
}

/// What the engine knows of one source.
pub struct Flow {
    /// The source's name in the configuration.
    pub name: Rc<str>,
    /// The stage at which it acknowledges.
    pub stage: Stage,
    /// Events handed over since the start.
    pub received_events: u64,
    /// Bytes handed over and not settled yet.
    pub outstanding_bytes: u64,
    /// Batches that wait for room in their sinks.
    pub waiting_batches: u64,
    /// The standstill, if there is one.
    pub blocked: Option<Blocked>,
    /// The sinks that can hold the source up.
    pub stoppers: Vec<Stopper>,
}

impl SourceState {
    fn flow(&self) -> Flow {
        Flow {
            name: Rc::clone(&self.name),
            stage: self.stage.get(),
            received_events: self.received_events.get(),
            outstanding_bytes: self.outstanding_bytes.get() as u64,
            waiting_batches: self.waiting.borrow().len() as u64,
            blocked: self.watch.now(),
            stoppers: self.watch.stoppers(),
        }
    }

    fn is_over(&self) -> bool {
        self.is_leaving.get()
            && self.outstanding_bytes.get() == 0
            && self.waiting.borrow().is_empty()
    }

    /// Why the plan cannot be taken as a whole, where the sender is told so: it sends all of it
    /// again then, so that nobody may have got a part of it.
    fn refuses(&self, plan: &Plan) -> Option<Refused> {
        self.patience.get()?;
        required(plan).find_map(|(port, bytes)| {
            let sink = || port.name().to_owned();
            if port.queue().failure().is_some() {
                return Some(Refused::StorageFailed { sink: sink() });
            }
            let is_full = port.when_full() == WhenFull::DropNewest && !port.fits(bytes);
            is_full.then(|| Refused::BufferFull { sink: sink() })
        })
    }

    fn is_blocked(&self, intake: &IntakeState) -> bool {
        self.outstanding_bytes.get() >= SOURCE_WINDOW_BYTES
            || intake.outstanding_bytes.get() >= CONNECTION_WINDOW_BYTES
    }

    /// Half a window below the brim, so that a stream is not stopped and started per batch.
    fn may_resume(&self, intake: &IntakeState) -> bool {
        self.outstanding_bytes.get() < SOURCE_WINDOW_BYTES / 2
            && intake.outstanding_bytes.get() <= CONNECTION_WINDOW_BYTES / 2
    }
}

/// Admits the batch that has waited longest, or refuses it as if it came only now: a sink that
/// does not wait may have become full, and another's disk may have failed.
fn admit_head(source: &SourceState, memory: &Memory) -> bool {
    let refused = {
        let waiting = source.waiting.borrow();
        let Some(head) = waiting.front() else {
            return false;
        };
        let refused = source.refuses(&head.plan).filter(|_| head.is_answered);
        if refused.is_none() && !make_room(&head.plan) {
            return false;
        }
        refused
    };
    let head = source.waiting.borrow_mut().pop_front();
    match (head, refused) {
        (Some(head), Some(refused)) => {
            head.give_up(refused.reason(), Failure::new(refused));
            true
        }
        (Some(head), None) => {
            admit(head, memory);
            true
        }
        (None, _) => false,
    }
}

impl IntakeState {
    fn call_resume(&self) {
        let taken = self.resume.borrow_mut().take();
        if let Some(mut call) = taken {
            call();
            self.resume.borrow_mut().get_or_insert(call);
        }
    }
}

/// A source's way into its pipelines. Clone it freely.
#[derive(Clone)]
pub struct Outlet {
    engine: Rc<Engine>,
    source: Rc<SourceState>,
}

impl Outlet {
    /// The source's name in the configuration.
    pub fn name(&self) -> &Rc<str> {
        &self.source.name
    }

    /// The stage at which this source acknowledges.
    pub fn stage(&self) -> Stage {
        self.source.stage.get()
    }

    /// Whether each event is looked at by a pipeline, as far as was known when it was fed.
    pub fn is_looked_at(&self) -> bool {
        self.source.is_looked_at.get()
    }

    /// What is delivered from now on goes through `pipelines`, and fires at `stage`.
    pub fn feed(&self, stage: Stage, pipelines: Vec<Rc<Pipeline>>) {
        let mut stoppers = Vec::new();
        pipelines
            .iter()
            .for_each(|pipeline| pipeline.add_stoppers(&mut stoppers));
        let is_looked_at = pipelines.iter().any(|pipeline| pipeline.looks_at_events());
        self.source.is_looked_at.set(is_looked_at);
        self.source.watch.set_stoppers(stoppers);
        self.source.stage.set(stage);
        *self.source.pipelines.borrow_mut() = pipelines.into();
        let gated = self.source.gate.borrow_mut().take();
        for Gated { batch, promise } in gated.into_iter().flatten() {
            self.deliver(batch).forward_to(promise);
        }
    }

    /// Takes what another reactor had in the books of its sink, to be brought to `stage`.
    pub fn take_parcel(&self, parcel: Parcel, stage: Stage) -> Taken {
        self.take(Plan::of_one(parcel), stage)
    }

    /// Takes what another reactor had received for `pipeline`, which is here.
    pub fn take_batch(&self, batch: Batch, pipeline: &Rc<Pipeline>, stage: Stage) -> Taken {
        let events = batch.events.len() as u64;
        pipeline.ledger().taken_over.add(events);
        let pipelines = std::slice::from_ref(pipeline);
        self.take(Plan::make(pipelines, batch, &*self.engine.scheduler), stage)
    }

    fn take(&self, plan: Plan, stage: Stage) -> Taken {
        let (promise, admitted) = Deferred::new();
        let settled = self
            .engine
            .deliver(&self.source, plan, stage, Some(promise));
        Taken { admitted, settled }
    }

    fn deliver(&self, batch: Batch) -> Deferred<Delivered> {
        let (source, engine) = (&self.source, &self.engine);
        if let Some(gated) = &mut *source.gate.borrow_mut() {
            let (promise, deferred) = Deferred::new();
            gated.push(Gated { batch, promise });
            return deferred;
        }
        let pipelines = Rc::clone(&source.pipelines.borrow());
        let plan = Plan::make(&pipelines, batch, &*engine.scheduler);
        engine.deliver(source, plan, source.stage.get(), None)
    }

    /// The pipelines that it goes through.
    pub fn fed(&self) -> Rc<[Rc<Pipeline>]> {
        Rc::clone(&self.source.pipelines.borrow())
    }

    /// The source is stopped: when the last of what it delivered is settled, it is forgotten.
    pub fn leave(&self) {
        self.source.is_leaving.set(true);
        let gated = self.source.gate.borrow_mut().take();
        for Gated { promise, .. } in gated.into_iter().flatten() {
            promise.errback(Failure::msg("the new configuration was given up"));
        }
        self.engine.forget_settled();
    }

    /// The memory budget: who holds bytes that are in no batch yet counts them here.
    pub fn memory(&self) -> &Memory {
        &self.engine.memory
    }

    /// Says that the senders of this source are told when events cannot be taken, and send them
    /// again. A batch that finds no room for `patience`, or at once where a sink drops when it
    /// is full, is refused whole, with [`Refused`].
    pub fn answers_after(&self, patience: Duration) {
        self.source.patience.set(Some(patience));
    }

    /// Clocks and timers, for sources that have no other.
    pub fn scheduler(&self) -> &Rc<dyn Scheduler> {
        &self.engine.scheduler
    }

    /// A window of one connection, file or poller within this source.
    pub fn intake(&self) -> Intake {
        let state = IntakeState {
            outstanding_bytes: Cell::new(0),
            is_listed: Cell::new(false),
            resume: RefCell::new(None),
        };
        Intake {
            outlet: self.clone(),
            state: Rc::new(state),
        }
    }
}

/// One connection's window. Clone it freely; the clones are one window.
#[derive(Clone)]
pub struct Intake {
    outlet: Outlet,
    state: Rc<IntakeState>,
}

impl Intake {
    /// Hands `batch` over. Fires when every required sink has brought its part to the source's
    /// stage, or with the first failure when all of them are settled and one gave up.
    pub fn deliver(&self, batch: Batch) -> Deferred<Delivered> {
        let source = Rc::clone(&self.outlet.source);
        let engine = Rc::clone(&self.outlet.engine);
        let bytes = batch.received_bytes();
        let events = batch.events.len() as u64;
        source
            .received_events
            .set(source.received_events.get() + events);
        // First, because a step that panics must leave nothing outstanding behind.
        let delivery = self.outlet.deliver(batch);
        add(&source.outstanding_bytes, bytes);
        add(&self.state.outstanding_bytes, bytes);
        let intake = Rc::clone(&self.state);
        let settle = move |result| {
            source
                .outstanding_bytes
                .set(source.outstanding_bytes.get() - bytes);
            intake
                .outstanding_bytes
                .set(intake.outstanding_bytes.get() - bytes);
            if !source.blocked.borrow().is_empty() {
                engine.queue_resume_pass();
            }
            if source.is_over() {
                engine.forget_settled();
            }
            result
        };
        delivery.add_both(settle)
    }

    /// Whether to stop reading. Once it has said so, the resume call will come.
    pub fn is_blocked(&self) -> bool {
        let engine = &self.outlet.engine;
        let memory_full = engine.memory.is_full();
        if !memory_full && !self.outlet.source.is_blocked(&self.state) {
            return false;
        }
        if !self.state.is_listed.replace(true) {
            let mut blocked = self.outlet.source.blocked.borrow_mut();
            // Requests that were refused leave their intakes behind.
            if blocked.len() % BLOCKED_LOOK == BLOCKED_LOOK - 1 {
                blocked.retain(|weak| weak.strong_count() > 0);
            }
            blocked.push(Rc::downgrade(&self.state));
            drop(blocked);
            self.outlet.source.watch.blocked();
            if memory_full {
                engine.queue_resume_pass();
            }
        }
        true
    }

    /// Sets the call, made from the turn, that says a blocked intake may read on.
    pub fn on_resume(&self, resume: impl FnMut() + 'static) {
        *self.state.resume.borrow_mut() = Some(Box::new(resume));
    }

    /// The outlet this window is part of.
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }
}

/// At every so many blocked intakes, those are forgotten that are no more.
const BLOCKED_LOOK: usize = 64;

fn add(cell: &Cell<usize>, amount: usize) {
    cell.set(cell.get() + amount);
}
