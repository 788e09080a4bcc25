//! What becomes of components that a new configuration has no place for.
//!
//! A *source* is stopped: what has arrived at it is still delivered, through the pipelines of
//! today; then it is closed. A *sink* that has a successor gives back what it has not delivered,
//! and the successor gets it. A sink that has none goes on until its buffer holds nothing that
//! would be lost with it; what is left at its time limit is dropped as `removed`, and counted.
//! A *pipeline* stays for as long as somebody is left who goes through it.
//!
//! All of it happens beside the daemon's life; nobody waits for it but a stop of the daemon.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::deferred::{Deferred, Promise, join_all};
use crate::pipeline::component::{Sink, Source};
use crate::pipeline::graph::Pipeline;
use crate::pipeline::intake::Outlet;
use crate::pipeline::port::{Inlet, Port, REMOVED};
use crate::telemetry::events::{BufferLeft, SinkRemoved};
use crate::time::Duration;

use super::assembly::{Daemon, Named, each};
use super::books::{log_pipeline, log_sink};
use super::change::OpenedBuffers;

/// How long a sink may take to give back what it has, before its successor starts without that.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// Components that are going.
#[derive(Default)]
pub(super) struct Departures {
    made: Cell<u64>,
    /// Stopped, each until it says so.
    sources: RefCell<Vec<Going<dyn Source, Outlet>>>,
    sinks: RefCell<Vec<Going<dyn Sink, Inlet>>>,
    /// They still deliver.
    retiring: RefCell<Vec<Named<dyn Sink, Inlet>>>,
    /// Ports that are being closed, with their sinks.
    closing: RefCell<Vec<Rc<Port>>>,
    /// Disk buffers that are being closed, opened for a reload that failed.
    unwanted: Cell<u32>,
    pipelines: RefCell<Vec<Rc<Pipeline>>>,
    waiting: RefCell<Vec<(Wanted, Promise<()>)>>,
}

/// A component that was stopped, by its number.
struct Going<T: ?Sized, End>(u64, Named<T, End>);

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    NoSources,
    NoSinks,
    NothingClosing,
    /// No sink of another reactor is left to which something is to be handed over.
    NoRelays,
}

impl Departures {
    fn number(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// Fires when every source that was stopped has said so.
    pub(super) fn sources_left(&self) -> Deferred<()> {
        self.when(Wanted::NoSources)
    }

    /// Fires when no port of a sink that was removed is being closed: only then its disk buffer
    /// may be opened again.
    pub(super) fn closed(&self) -> Deferred<()> {
        self.when(Wanted::NothingClosing)
    }

    /// Fires when everything was handed over that other reactors' removed sinks are to have.
    pub(super) fn relays_left(&self) -> Deferred<()> {
        self.when(Wanted::NoRelays)
    }

    fn when(&self, wanted: Wanted) -> Deferred<()> {
        if self.is_so(wanted) {
            return Deferred::ready(());
        }
        let (promise, deferred) = Deferred::new();
        self.waiting.borrow_mut().push((wanted, promise));
        deferred
    }

    fn is_so(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::NoSources => self.sources.borrow().is_empty(),
            Wanted::NoSinks => self.sinks.borrow().is_empty(),
            Wanted::NoRelays => {
                let closing = self.closing.borrow();
                let retiring = self.retiring.borrow();
                let mut retiring = retiring.iter().map(|sink| sink.end.port());
                !retiring.any(|port| port.is_relay()) && !closing.iter().any(|it| it.is_relay())
            }
            Wanted::NothingClosing => self.closing.borrow().is_empty() && self.unwanted.get() == 0,
        }
    }

    /// Something has gone: tells who waited for that.
    fn tell(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let told: Vec<_> = waiting.extract_if(.., |(it, _)| self.is_so(*it)).collect();
        drop(waiting);
        for (_, promise) in told {
            promise.callback(());
        }
    }

    /// Ends whatever is still going, for the daemon stops: fires when the sinks have stopped.
    pub(super) fn finish(&self) -> Vec<Deferred<()>> {
        let going = self.sources.take();
        for Going(_, source) in going {
            self.end_source(source);
        }
        self.tell();
        let mut stopped = each(&self.retiring, |sink| sink.component.stop());
        stopped.push(self.when(Wanted::NoSinks));
        stopped
    }

    fn end_source(&self, mut source: Named<dyn Source, Outlet>) {
        source.component.close();
        source.end.leave();
    }

    /// Pipelines of former configurations through which something may still go.
    pub(super) fn pipelines(&self) -> Vec<Rc<Pipeline>> {
        self.pipelines.borrow().clone()
    }

    /// The ways out of sources that are going.
    pub(super) fn outlets(&self) -> Vec<Outlet> {
        let sources = self.sources.borrow();
        sources.iter().map(|going| going.1.end.clone()).collect()
    }

    /// Ports of sinks that are going for good.
    pub(super) fn ports(&self) -> Vec<Rc<Port>> {
        let mut ports = self.closing.borrow().clone();
        let retiring = self.retiring.borrow();
        ports.extend(retiring.iter().map(|sink| Rc::clone(sink.end.port())));
        ports
    }

    /// Whether the port of that name is being closed.
    pub(super) fn is_closing(&self, name: &str) -> bool {
        let closing = self.closing.borrow();
        closing.iter().any(|port| port.name() == name)
    }

    /// The port of a retiring sink of that name.
    pub(super) fn retiring(&self, name: &str) -> Option<Rc<Port>> {
        let retiring = self.retiring.borrow();
        let found = retiring.iter().find(|sink| *sink.name == *name);
        found.map(|sink| Rc::clone(sink.end.port()))
    }

    /// The retiring sink of that name, which has a successor after all.
    pub(super) fn take_retiring(&self, name: &str) -> Option<Named<dyn Sink, Inlet>> {
        let mut retiring = self.retiring.borrow_mut();
        let at = retiring.iter().position(|sink| *sink.name == *name)?;
        Some(retiring.remove(at))
    }

    /// Pipelines that are in the configuration no more stay while somebody has them.
    /// Others may have something for them until `others_gone` fires.
    pub(super) fn add_pipelines(
        &self,
        pipelines: impl Iterator<Item = Rc<Pipeline>>,
        others_gone: Deferred<()>,
    ) {
        let gone: Vec<_> = pipelines.collect();
        self.pipelines.borrow_mut().extend(gone.iter().cloned());
        // Nothing forgets them while this has them.
        drop(others_gone.add_both(move |_| drop(gone)));
    }

    /// Lets go of pipelines that nobody has any more.
    pub(super) fn forget_pipelines(&self) {
        let mut pipelines = self.pipelines.borrow_mut();
        let is_alone =
            |it: &mut Rc<Pipeline>| Rc::strong_count(it) == 1 && it.ledger().in_flight.get() == 0;
        let gone: Vec<_> = pipelines.extract_if(.., is_alone).collect();
        drop(pipelines);
        gone.iter().for_each(|pipeline| log_pipeline(pipeline));
    }
}

impl Daemon {
    /// Fires when everything was handed over that pipelines of other reactors are to have that
    /// were removed.
    pub(super) fn pipeline_relays_left(&self) -> Deferred<()> {
        let (config, seat) = (self.config(), self.world.crew.seat());
        let is_of_today = |name: &str| {
            let mut pipelines = config.pipelines.iter();
            pipelines.any(|of| *of.name == *name && seat.elsewhere_pipeline(of).is_some())
        };
        let relays = self.relays.borrow();
        let gone = relays.iter().filter(|relay| !is_of_today(&relay.name));
        let ports: Vec<_> = gone.map(|relay| Rc::clone(relay.end.port())).collect();
        drop(relays);
        let emptied = ports.iter().map(|port| self.engine.emptied(port));
        let emptied = join_all(emptied.collect::<Vec<_>>()).add_both(|_| ());
        emptied.timeout(self.stop_timeout(), &*self.world.scheduler)
    }

    /// Closes disk buffers that were opened for nothing, so that the next reload finds them as
    /// this one did.
    pub(super) fn close_unwanted(self: &Rc<Self>, opened: OpenedBuffers) {
        for buffer in opened.into_values() {
            self.world.buffers.give_up(buffer, self.closes_unwanted());
        }
    }

    /// A disk buffer that nobody wants is about to be closed; the answer is called when it is.
    pub(super) fn closes_unwanted(self: &Rc<Self>) -> impl FnOnce() + 'static {
        let unwanted = &self.departures.unwanted;
        unwanted.set(unwanted.get() + 1);
        let daemon = Rc::clone(self);
        move || {
            let unwanted = &daemon.departures.unwanted;
            unwanted.set(unwanted.get() - 1);
            daemon.departures.tell();
        }
    }

    /// Stops a source. What it still delivers goes through the pipelines of today.
    pub(super) fn dismiss_source(self: &Rc<Self>, mut source: Named<dyn Source, Outlet>) {
        let stopped = source.component.stop();
        let number = self.departures.number();
        let mut going = self.departures.sources.borrow_mut();
        going.push(Going(number, source));
        drop(going);
        let stopped = stopped.timeout(self.stop_timeout(), &*self.world.scheduler);
        let daemon = Rc::clone(self);
        drop(stopped.add_both(move |_| {
            let scheduler = Rc::clone(&daemon.world.scheduler);
            // Not from within the component itself.
            scheduler.call_soon(Box::new(move || daemon.source_stopped(number)));
        }));
    }

    fn source_stopped(&self, number: u64) {
        let departures = &self.departures;
        let mut going = departures.sources.borrow_mut();
        let at = going.iter().position(|going| going.0 == number);
        let gone = at.map(|at| going.remove(at));
        drop(going);
        if let Some(Going(_, source)) = gone {
            source.component.log_counts();
            departures.end_source(source);
        }
        departures.tell();
    }

    /// Stops a sink that has a successor.
    pub(super) fn dismiss_sink(self: &Rc<Self>, mut sink: Named<dyn Sink, Inlet>) {
        let port = Rc::clone(sink.end.port());
        port.revoke();
        // A sink that waits for a peer that is no more is let go of in the end.
        let stopped = sink.component.stop();
        let stopped = stopped.timeout(self.stop_timeout(), &*self.world.scheduler);
        let number = self.departures.number();
        self.departures.sinks.borrow_mut().push(Going(number, sink));
        let has_left = Rc::new(Cell::new(false));
        let leave = move || {
            if !has_left.replace(true) {
                port.has_left();
            }
        };
        let late = leave.clone();
        let timers = &self.world.scheduler;
        let timer = timers.call_after(HAND_OVER_LIMIT, Box::new(late));
        let daemon = Rc::clone(self);
        drop(stopped.add_both(move |_| {
            timer.cancel();
            let scheduler = Rc::clone(&daemon.world.scheduler);
            scheduler.call_soon(Box::new(move || {
                leave();
                daemon.sink_stopped(number);
            }));
        }));
    }

    fn sink_stopped(&self, number: u64) {
        let mut going = self.departures.sinks.borrow_mut();
        let at = going.iter().position(|going| going.0 == number);
        let gone = at.map(|at| going.remove(at));
        drop(going);
        drop(gone);
        self.departures.tell();
    }

    /// Lets a sink that has no successor deliver what it has, for so long as it may.
    pub(super) fn retire_sink(self: &Rc<Self>, mut sink: Named<dyn Sink, Inlet>) {
        let port = Rc::clone(sink.end.port());
        sink.component.drain();
        self.departures.retiring.borrow_mut().push(sink);
        let (engine, emptying) = (Rc::clone(&self.engine), Rc::clone(&port));
        let left = self.is_left_by_others(&port);
        let emptied = left.add_both(move |_| engine.emptied(&emptying));
        let emptied = emptied.timeout(self.stop_timeout(), &*self.world.scheduler);
        let daemon = Rc::clone(self);
        drop(emptied.add_both(move |_| {
            let scheduler = Rc::clone(&daemon.world.scheduler);
            scheduler.call_soon(Box::new(move || daemon.remove_sink(&port)));
        }));
    }

    /// The end of a sink that retires; one that was taken back is none of this, and one that is
    /// about to be waits for what comes of that.
    pub(super) fn remove_sink(self: &Rc<Self>, port: &Rc<Port>) {
        if self.postpones_removal(port) {
            return;
        }
        let mut retiring = self.departures.retiring.borrow_mut();
        let at = retiring
            .iter()
            .position(|it| Rc::ptr_eq(it.end.port(), port));
        let Some(mut sink) = at.map(|at| retiring.remove(at)) else {
            return;
        };
        drop(retiring);
        self.engine.keeps(port);
        self.departures.closing.borrow_mut().push(Rc::clone(port));
        port.remove();
        port.revoke();
        let stopped = sink.component.stop();
        let stopped = stopped.timeout(HAND_OVER_LIMIT, &*self.world.scheduler);
        let (daemon, port) = (Rc::clone(self), Rc::clone(port));
        drop(stopped.add_both(move |_| {
            port.abandon(REMOVED);
            let left_on_disk = port.has_disk().then(|| port.ledger().buffered.get());
            let closed = port.close();
            closed.add_both(move |_| daemon.sink_removed(sink, &port, left_on_disk))
        }));
    }

    fn sink_removed(
        &self,
        sink: Named<dyn Sink, Inlet>,
        port: &Rc<Port>,
        left_on_disk: Option<u64>,
    ) {
        port.has_left();
        log_sink(port);
        let dropped = port.ledger().dropped.snapshot();
        SinkRemoved {
            sink: &sink.name,
            dropped: dropped.get(REMOVED).copied().unwrap_or(0),
        }
        .log();
        if let Some(events) = left_on_disk.filter(|events| *events > 0) {
            let sink: &Arc<str> = &sink.name;
            BufferLeft { sink, events }.log();
        }
        let scheduler = Rc::clone(&self.world.scheduler);
        // Not from within the component itself.
        scheduler.call_soon(Box::new(move || drop(sink)));
        let is_other = |other: &Rc<Port>| !Rc::ptr_eq(other, port);
        self.departures.closing.borrow_mut().retain(is_other);
        let mut ports = self.engine.ports().to_vec();
        ports.retain(is_other);
        self.engine.set_ports(ports);
        self.departures.tell();
    }
}
