//! `set`: gives fields constant values, or texts filled in from the event.
//!
//! A raw event stays raw with a field more: it keeps its `message`, and its JSON its received
//! time, host and source. A text that holds `{{ }}` is a template; what is absent is empty.

use std::sync::Arc;

use bytes::Bytes;
use vrl::value::Value;

use super::name;
use crate::event::{Batch, Constant, Key, Slot, into_fields};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{self, Mistake, Options};
use crate::pipeline::step::{Step, StepReport};
use crate::pipeline::template::Template;

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "set",
    summary: "sets fields to constants or to texts with fields in them",
    options: &[Opt::new(
        VALUE,
        "field = value; a string may hold `{{ .field }}`, `{{ %source }}` and \
         `{{ date:%Y-%m-%d }}`",
        Kind::Map(&Kind::Any),
    )
    .required()],
    shared: &[],
    example: "{ set = { site = \"lab1\", line = \"{{ %source }}: {{ message }}\" } }",
    build: Build::Step(build),
};

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let mut fields = Vec::new();
    for (key, located) in options.map(VALUE) {
        let name = name::parse(key).map_err(|mistake| mistake.of(key))?;
        let options::Value::Any(value) = &located.value else {
            continue; // the declared kind is `Any`
        };
        let source = match value.as_str() {
            Some(text) if text.contains("{{") => {
                let template = Template::compile(text).map_err(|mistake| mistake.of(key))?;
                Source::Template(template)
            }
            _ => {
                let value = Value::from(value.clone());
                Source::Constant(Arc::new(Constant::new(value)))
            }
        };
        fields.push((Key::named(&name), source));
    }
    Ok(Box::new(Set { fields }))
}

struct Set {
    fields: Vec<(Key, Source)>,
}

enum Source {
    Constant(Arc<Constant>),
    Template(Template),
}

impl Step for Set {
    fn apply(&mut self, batch: &mut Batch, _report: &mut StepReport) {
        let (shared, events) = batch.split();
        for event in events {
            for (key, source) in &self.fields {
                let slot = match source {
                    Source::Constant(constant) => Slot::Constant(constant.clone()),
                    Source::Template(template) => {
                        let mut text = Vec::new();
                        template.render(shared, event, &mut text);
                        Slot::text(Bytes::from(text))
                    }
                };
                into_fields(event).set(shared.bytes, key.clone(), slot);
            }
        }
    }

    fn changes_events(&self) -> bool {
        true
    }
}
