//! What a step is to the rest: the trait [`Step`], and the [`StepReport`] it fills in.
//!
//! A step changes a batch in place. It has no start and no stop, does no IO, reads no clock and
//! keeps no reference to what it has seen. It never drops for a failure: an event it cannot
//! work on stays as it was, is marked, counted, and goes on — or, where the pipeline has
//! `errors_to`, leaves the batch through [`StepReport::fail`].

use crate::event::{Batch, Event};
use crate::time::Instant;

/// What may happen to events on their way.
pub trait Step {
    /// Works on all events of `batch`. Every event that leaves the batch or comes into it is
    /// counted in `report`: `before + produced = after + filtered + failed`.
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport);

    /// Whether it remembers events it has seen: such a step has one owner in the daemon.
    fn remembers(&self) -> bool {
        false
    }

    /// Whether it changes what events are, not only which go on: `encode = "raw"` does not
    /// show that.
    fn changes_events(&self) -> bool {
        false
    }
}

/// What one application of a step did.
pub struct StepReport {
    /// Now, for steps that remember: the same for a whole batch.
    pub now: Instant,
    /// Events left out on purpose.
    pub filtered: u64,
    /// Events beyond those that came in.
    pub produced: u64,
    /// Events the step could not work on, whether they stayed or not.
    pub errors: u64,
    /// The reason of the first of them, for the log.
    pub first_error: Option<String>,
    takes_failed: bool,
    failed: Vec<(Event, String)>,
}

impl StepReport {
    /// An empty report. With `takes_failed` events that fail are to leave the batch.
    pub fn new(now: Instant, takes_failed: bool) -> Self {
        StepReport {
            now,
            filtered: 0,
            produced: 0,
            errors: 0,
            first_error: None,
            takes_failed,
            failed: Vec::new(),
        }
    }

    /// Whether a failing event leaves the batch: hand it to [`StepReport::fail`] then, else
    /// mark it and leave it in.
    pub fn takes_failed(&self) -> bool {
        self.takes_failed
    }

    /// Counts an event that failed and stays in the batch, marked by the step.
    pub fn count_error(&mut self, reason: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| reason.to_owned());
    }

    /// Takes an event that failed out of the pipeline, as it was before the step.
    pub fn fail(&mut self, event: Event, reason: impl Into<String>) {
        let reason = reason.into();
        self.count_error(&reason);
        self.failed.push((event, reason));
    }

    /// The events that failed, as a batch of their own for the dead letters: `reason`,
    /// `source`, `step` and `original`.
    pub fn dead_letters(self, batch: &Batch, step: &str) -> Option<Batch> {
        if self.failed.is_empty() {
            return None;
        }
        Some(super::letter::of_step(batch, self.failed, step))
    }
}
