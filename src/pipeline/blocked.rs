//! Says that a source stands still, and which sink makes it: after [`FIRST_REPORT`], then once
//! a minute, then once more when it goes on.
//!
//! A stream that is stopped and started a thousand times a second is not blocked: only one that
//! has not been resumed for the whole time is reported. There is a timer only while a source is
//! blocked, one per source.

use std::cell::Cell;
use std::rc::Rc;

use crate::telemetry::events::{SourceBlocked, SourceResumed};
use crate::time::{Duration, Instant, Scheduler};

use super::port::Port;

/// How long a source must stand still before the first report.
const FIRST_REPORT: Duration = Duration::from_secs(5);
/// Between two reports.
const NEXT_REPORT: Duration = Duration::from_secs(60);

/// What is known of one source's standstill.
pub(super) struct BlockedWatch {
    component: String,
    since: Cell<Option<Instant>>,
    is_reported: Cell<bool>,
    is_armed: Cell<bool>,
    scheduler: Rc<dyn Scheduler>,
    ports: Rc<[Rc<Port>]>,
}

impl BlockedWatch {
    /// For the source `name`, which `ports` may hold up.
    pub(super) fn new(name: &str, ports: Rc<[Rc<Port>]>, scheduler: Rc<dyn Scheduler>) -> Rc<Self> {
        Rc::new(BlockedWatch {
            component: format!("source.{name}"),
            since: Cell::new(None),
            is_reported: Cell::new(false),
            is_armed: Cell::new(false),
            scheduler,
            ports,
        })
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
        let trouble = port.trouble();
        let why = trouble.as_deref().unwrap_or("it takes less than comes in");
        let record = SourceBlocked {
            component: &self.component,
            sink: port.name(),
            why: &why,
            held_bytes: port.held_bytes(),
            blocked,
        };
        record.log();
    }

    /// The sink in trouble that holds most, or the one that holds most.
    fn culprit(&self) -> Option<&Rc<Port>> {
        let weight = |port: &&Rc<Port>| (port.trouble().is_some(), port.held_bytes());
        self.ports.iter().max_by_key(weight)
    }
}
