//! `parse = { vrl = '…' }`: a VRL program whose value, an object, becomes the event.
//!
//! Other than the step `vrl`, where what counts is what the program wrote, here it is what the
//! program gave at its end. What it wrote is forgotten.

use vrl::value::Value;

use super::super::failed;
use super::replace;
use crate::event::{Batch, Field, Fielded, Key, Slot};
use crate::pipeline::condition::Program;
use crate::pipeline::options::Mistake;
use crate::pipeline::step::{Step, StepReport};

/// The step for this program.
pub(super) fn build(text: &str) -> Result<Box<dyn Step>, Mistake> {
    let program = Program::compile(text)?;
    Ok(Box::new(ParseVrl { program }))
}

/// The check of the option.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    Program::compile(text).map(drop)
}

struct ParseVrl {
    program: Program,
}

impl Step for ParseVrl {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let (shared, events) = batch.split();
        events.retain_mut(|event| {
            let reason = match self.program.evaluate(shared, event) {
                Ok(Value::Object(map)) => {
                    let fields = map.into_iter().map(|(name, value)| Field {
                        key: Key::own(name.as_str()),
                        slot: Slot::Value(Box::new(value)),
                    });
                    let mut fielded = Fielded::empty(event.raw(), true);
                    fielded.list.extend(fields);
                    replace(event, fielded, shared.bytes);
                    return true;
                }
                Ok(other) => format!("the program gave {}, not an object", other.kind_str()),
                Err(reason) => reason,
            };
            failed(event, shared.bytes, &reason, report)
        });
    }

    fn changes_events(&self) -> bool {
        true
    }
}
