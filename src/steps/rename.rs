//! `rename`: gives fields other names, in the order of the configuration.
//!
//! A field that is absent is passed over. The new name replaces a field that has it already.

use std::sync::Arc;

use super::name;
use crate::event::{Batch, Event, Fields, Key, into_fields};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "rename",
    summary: "renames fields",
    options: &[Opt::new(
        VALUE,
        "old name = new name",
        Kind::Map(&Kind::Text(Some(name::check))),
    )
    .required()],
    shared: &[],
    example: "{ rename = { msg = \"message\", lvl = \"level\" } }",
    build: Build::Step(build),
};

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let mut names = Vec::new();
    for (old, located) in options.map(VALUE) {
        let new = located.as_text().unwrap_or_default();
        let name = |text| name::parse(text).map_err(|mistake| mistake.of(old));
        names.push((name(old)?, Key::named(&name(new)?)));
    }
    Ok(Box::new(Rename { names }))
}

struct Rename {
    names: Vec<(Arc<str>, Key)>,
}

impl Step for Rename {
    fn apply(&mut self, batch: &mut Batch, _report: &mut StepReport) {
        let (shared, events) = batch.split();
        for event in events {
            for (old, new) in &self.names {
                let raw_message = matches!(event, Event::Raw(_)) && **old == *"message";
                let is_new = new.of(shared.bytes) != old.as_bytes();
                if is_new && (raw_message || matches!(event, Event::Fields(_))) {
                    rename(into_fields(event), shared.bytes, old, new);
                }
            }
        }
    }

    fn changes_events(&self) -> bool {
        true
    }
}

fn rename(fields: &mut Fields, bytes: &[u8], old: &str, new: &Key) {
    if fields.find(bytes, old.as_bytes()).is_none() {
        return;
    }
    if !fields.parsed && (old == "message" || new.of(bytes) == b"message") {
        fields.settle(bytes);
    }
    fields.remove(bytes, new.of(bytes));
    if let Some(index) = fields.position(bytes, old.as_bytes()) {
        fields.list[index].key = new.clone();
    }
}
