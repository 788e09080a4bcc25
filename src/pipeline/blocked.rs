//! Says that a source stands still, and which sink makes it: after [`FIRST_REPORT`], then once
//! a minute, then once more when it goes on.
//!
//! A stream that is stopped and started a thousand times a second is not blocked: only one that
//! has not been resumed for the whole time is reported. There is a timer only while a source is
//! blocked, one per source.
//!
//! A source is held up by a sink that its events must reach (by the wiring, through however
//! many pipelines), or by `daemon.memory`, which any sink may have used up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::telemetry::events::{SourceBlocked, SourceResumed};
use crate::time::{Duration, Instant, Scheduler};

use super::graph::Stopper;
use super::memory::Memory;
use super::port::{Port, Ports};

/// How long a source must stand still before the first report.
const FIRST_REPORT: Duration = Duration::from_secs(5);
/// Between two reports.
const NEXT_REPORT: Duration = Duration::from_secs(60);

/// A source's standstill.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// How long it has not read, wholly or in part.
    pub lasts: Duration,
    /// The sink that it waits for; `None` when that has just changed.
    pub sink: Option<String>,
    /// Why that takes no more.
    pub why: String,
    /// Bytes that are held for it.
    pub held_bytes: u64,
}

/// What is known of one source's standstill.
pub(super) struct BlockedWatch {
    component: String,
    since: Cell<Option<Instant>>,
    is_reported: Cell<bool>,
    is_armed: Cell<bool>,
    scheduler: Rc<dyn Scheduler>,
    /// The sinks that its events must reach.
    stoppers: RefCell<Vec<Stopper>>,
    /// The ways into all sinks: who uses the memory up need not be one of its own.
    ports: Ports,
    memory: Memory,
}

impl BlockedWatch {
    /// For the source `name`, which `ports` may hold up with `memory`.
    pub(super) fn new(
        name: &str,
        ports: Ports,
        memory: Memory,
        scheduler: Rc<dyn Scheduler>,
    ) -> Rc<Self> {
        Rc::new(BlockedWatch {
            component: format!("source.{name}"),
            since: Cell::new(None),
            is_reported: Cell::new(false),
            is_armed: Cell::new(false),
            scheduler,
            stoppers: RefCell::default(),
            ports,
            memory,
        })
    }

    /// The sinks that can hold the source up: of those that its events must reach, not the ones
    /// that drop when they are full.
    pub(super) fn stoppers(&self) -> Vec<Stopper> {
        let blocks = |stopper: &&Stopper| stopper.port.blocks();
        let stoppers = self.stoppers.borrow();
        stoppers.iter().filter(blocks).cloned().collect()
    }

    /// These are the sinks that its events must reach from now on.
    pub(super) fn set_stoppers(&self, stoppers: Vec<Stopper>) {
        *self.stoppers.borrow_mut() = stoppers;
    }

    /// The source has stopped reading, wholly or in part.
    pub(super) fn blocked(self: &Rc<Self>) {
        if self.since.get().is_some() {
            return;
        }
        self.since.set(Some(self.scheduler.now()));
        if !self.is_armed.replace(true) {
            self.look_after(FIRST_REPORT);
        }
    }

    /// Something of the source reads again.
    pub(super) fn resumed(&self) {
        let Some(since) = self.since.take() else {
            return;
        };
        if self.is_reported.take() {
            let blocked = self.scheduler.now().since(since);
            let component = &self.component;
            SourceResumed { component, blocked }.log();
        }
    }

    /// The standstill, if there is one.
    pub(super) fn now(&self) -> Option<Blocked> {
        let lasts = self.scheduler.now().since(self.since.get()?);
        let culprit = self.culprit();
        let why = match &culprit {
            Some(port) => self.why(port),
            None => "it waits for nothing that is known".to_owned(),
        };
        Some(Blocked {
            lasts,
            sink: culprit.as_ref().map(|port| port.name().to_owned()),
            why,
            held_bytes: culprit.map_or(0, |port| port.held_bytes()),
        })
    }

    fn look_after(self: &Rc<Self>, delay: Duration) {
        let watch = Rc::clone(self);
        drop(
            self.scheduler
                .call_after(delay, Box::new(move || watch.look())),
        );
    }

    fn look(self: Rc<Self>) {
        let Some(since) = self.since.get() else {
            self.is_armed.set(false);
            return;
        };
        let blocked = self.scheduler.now().since(since);
        if blocked < FIRST_REPORT {
            return self.look_after(FIRST_REPORT - blocked);
        }
        self.report(blocked);
        self.look_after(NEXT_REPORT);
    }

    fn report(&self, blocked: Duration) {
        self.is_reported.set(true);
        let Some(port) = self.culprit() else { return };
        let record = SourceBlocked {
            component: &self.component,
            sink: port.name(),
            why: &self.why(&port),
            held_bytes: port.held_bytes(),
            held_events: port.ledger().open(),
            blocked,
        };
        record.log();
    }

    fn why(&self, port: &Port) -> String {
        if let Some(trouble) = port.trouble() {
            return trouble.to_string();
        }
        let (held, capacity) = (port.held_bytes(), port.capacity_bytes());
        if self.memory.is_full() && held < capacity {
            let limit = self.memory.limit_bytes();
            return format!("daemon.memory ({limit} bytes) is used up, most of it here");
        }
        "it takes less than comes in".to_owned()
    }

    /// Of the sinks that hold the source up the one in trouble that holds most, else the one
    /// that holds most; with the memory used up by others, of all sinks.
    fn culprit(&self) -> Option<Rc<Port>> {
        let weight = |port: &Rc<Port>| (port.trouble().is_some(), port.held_bytes());
        let stoppers = self.stoppers.borrow();
        let own = stoppers.iter().map(|stopper| Rc::clone(&stopper.port));
        let own = own.filter(|port| port.held_bytes() > 0).max_by_key(weight);
        let all = || {
            self.ports
                .all()
                .iter()
                .max_by_key(|port| weight(port))
                .cloned()
        };
        match own {
            Some(port) if !self.memory.is_full() || weight(&port).0 => Some(port),
            _ if self.memory.is_full() => all(),
            own => own.or_else(|| stoppers.first().map(|stopper| Rc::clone(&stopper.port))),
        }
    }
}
