//! A step with an `if`: applied to the events for which the condition holds.
//!
//! The other events pass it by, and the order stays: runs of neighbouring events that the step
//! concerns go through it as batches of their own, which share the bytes.

use super::condition::{Condition, Truth};
use super::step::{Step, StepReport};
use crate::event::{Batch, Event};

/// A step behind a condition.
pub struct Guarded {
    condition: Condition,
    step: Box<dyn Step>,
}

impl Guarded {
    /// `step`, where `condition` holds; where it fails, it does not hold and an error is
    /// counted.
    pub fn new(condition: Condition, step: Box<dyn Step>) -> Guarded {
        Guarded { condition, step }
    }

    fn concerns(&self, batch: &Batch, event: &Event, report: &mut StepReport) -> bool {
        match self.condition.holds(batch, event) {
            Truth::True => true,
            Truth::False => false,
            Truth::Failed(reason) => {
                report.count_error(&reason);
                false
            }
        }
    }
}

impl Step for Guarded {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let events = batch.events.iter();
        let answers: Vec<bool> = events
            .map(|event| self.concerns(batch, event, report))
            .collect();
        if answers.iter().all(|concerned| *concerned) {
            return self.step.apply(batch, report);
        }
        let mut rest = std::mem::take(&mut batch.events).into_iter();
        for run in answers.chunk_by(|one, next| one == next) {
            let events: Vec<Event> = rest.by_ref().take(run.len()).collect();
            if !run[0] {
                batch.events.extend(events);
                continue;
            }
            let origin = batch.origin.clone();
            let mut part = Batch::new(origin, batch.received, batch.bytes.clone());
            part.events = events.into();
            self.step.apply(&mut part, report);
            batch.events.append(&mut part.events);
        }
    }

    fn remembers(&self) -> bool {
        self.step.remembers()
    }

    fn changes_events(&self) -> bool {
        self.step.changes_events()
    }
}
