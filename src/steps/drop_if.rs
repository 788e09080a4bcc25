//! `drop_if`: lets the events end here for which a condition holds.
//!
//! Also the filter behind `keep_if`. An event for which the condition gives null or an error is
//! treated as one for which it is false, and counted as an error.

use crate::event::Batch;
use crate::pipeline::condition::{Condition, Truth};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "drop_if",
    summary: "drops the events for which a VRL condition is true",
    options: &[Opt::new(
        VALUE,
        "a VRL expression that gives true or false; null or an error counts as false and is \
         counted",
        Kind::Text(Some(check)),
    )
    .required()],
    shared: &[],
    example: "{ drop_if = '.severity == \"debug\"' }",
    build: Build::Step(build),
};

/// The check of a condition.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    Condition::compile(text).map(drop)
}

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    filter(options, true)
}

/// A filter that drops the events for which the condition is `dropped`.
pub(super) fn filter(options: &Options, dropped: bool) -> Result<Box<dyn Step>, Mistake> {
    let condition = Condition::compile(options.text(VALUE)).map_err(|e| e.of(VALUE))?;
    Ok(Box::new(Filter { condition, dropped }))
}

struct Filter {
    condition: Condition,
    dropped: bool,
}

impl Step for Filter {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let before = batch.events.len();
        let (shared, events) = batch.split();
        events.retain(|event| {
            let holds = match self.condition.holds_for(shared, event) {
                Truth::True => true,
                Truth::False => false,
                Truth::Failed(reason) => {
                    report.count_error(&reason);
                    false
                }
            };
            holds != self.dropped
        });
        report.filtered += (before - batch.events.len()) as u64;
    }
}
