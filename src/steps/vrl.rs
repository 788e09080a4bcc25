//! `vrl`: runs a VRL program that may read and change every field of the event.
//!
//! A program that ends with an error or `abort` has changed nothing. Metadata is read-only.

use super::failed;
use crate::event::Batch;
use crate::pipeline::condition::Program;
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "vrl",
    summary: "runs a VRL program on the event",
    options: &[Opt::new(VALUE, "the program", Kind::Text(Some(check))).required()],
    shared: &[],
    example: "{ vrl = '.level = downcase(to_string(.level) ?? \"none\"); del(.debug)' }",
    build: Build::Step(build),
};

/// The check of a program.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    Program::compile(text).map(drop)
}

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let program = Program::compile(options.text(VALUE)).map_err(|e| e.of(VALUE))?;
    Ok(Box::new(Vrl { program }))
}

struct Vrl {
    program: Program,
}

impl Step for Vrl {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let (shared, events) = batch.split();
        events.retain_mut(|event| match self.program.change(shared, event) {
            Ok(change) => {
                change.apply(event, shared.bytes);
                true
            }
            Err(reason) => failed(event, shared.bytes, &reason, report),
        });
    }

    fn changes_events(&self) -> bool {
        true
    }
}
