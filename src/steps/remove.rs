//! `remove`: takes fields away.
//!
//! A raw event without its `message` is a fielded one, with what is left.

use std::sync::Arc;

use super::name;
use crate::event::{Batch, Event, into_fields};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "remove",
    summary: "removes fields",
    options: &[Opt::new(
        VALUE,
        "names of the fields that go",
        Kind::List(&Kind::Text(Some(name::check))),
    )
    .required()],
    shared: &[],
    example: "{ remove = [\"password\", \"token\"] }",
    build: Build::Step(build),
};

/// The names that the option lists.
pub(super) fn names(options: &Options) -> Result<Vec<Arc<str>>, Mistake> {
    let texts = options.texts(VALUE).into_iter().enumerate();
    let parse = |(index, text): (usize, &str)| {
        name::parse(text).map_err(|mistake| mistake.of(index.to_string()))
    };
    texts.map(parse).collect()
}

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let names = names(options)?;
    Ok(Box::new(Remove { names }))
}

struct Remove {
    names: Vec<Arc<str>>,
}

impl Step for Remove {
    fn apply(&mut self, batch: &mut Batch, _report: &mut StepReport) {
        let message = self.names.iter().any(|name| **name == *"message");
        let (shared, events) = batch.split();
        for event in events {
            if message || matches!(event, Event::Fields(_)) {
                let fields = into_fields(event);
                for name in &self.names {
                    fields.remove(shared.bytes, name.as_bytes());
                }
            }
        }
    }

    fn changes_events(&self) -> bool {
        true
    }
}
