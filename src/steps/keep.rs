//! `keep`: takes all fields away but the named ones, marks included.
//!
//! Of a raw event `message` is the only field that can stay; after this step it is a fielded
//! one, so that its JSON has no received time, host and source of its own any more.

use std::sync::Arc;

use super::{name, remove};
use crate::event::{Batch, into_fields};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "keep",
    summary: "keeps only the named fields",
    options: &[Opt::new(
        VALUE,
        "names of the fields that stay",
        Kind::List(&Kind::Text(Some(name::check))),
    )
    .required()],
    shared: &[],
    example: "{ keep = [\"timestamp\", \"host\", \"message\"] }",
    build: Build::Step(build),
};

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let names = remove::names(options)?;
    Ok(Box::new(Keep { names }))
}

struct Keep {
    names: Vec<Arc<str>>,
}

impl Step for Keep {
    fn apply(&mut self, batch: &mut Batch, _report: &mut StepReport) {
        let (shared, events) = batch.split();
        for event in events {
            let fields = into_fields(event);
            fields.settle(shared.bytes);
            fields.list.retain(|field| {
                let key = field.key.of(shared.bytes);
                self.names.iter().any(|name| name.as_bytes() == key)
            });
        }
    }

    fn changes_events(&self) -> bool {
        true
    }
}
