//! `sample`: keeps one event of so many.
//!
//! Without a key the first of every N, counted over all events that pass. With a key, all events
//! of one key in N or none of a key: the same choice after a restart and in every reactor.

use std::hash::{DefaultHasher, Hasher};

use super::identity;
use crate::event::{Batch, Event, Shared};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};
use crate::pipeline::template::Template;

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "sample",
    summary: "keeps one event of so many",
    options: &[Opt::new(
        VALUE,
        "one of this many events is kept; as a table with `key`, all events of one of this many \
         values of a field",
        Kind::Either(&[Kind::COUNT, Kind::Table(TABLE)]),
    )
    .required()],
    shared: &[],
    example: "{ sample = 10 }",
    build: Build::Step(build),
};

const TABLE: &[Opt] = &[
    Opt::new("one_in", "one of this many is kept", Kind::COUNT).required(),
    Opt::new(
        "key",
        "field or metadata whose values are chosen from: `.user`, `%peer`",
        Kind::Text(Some(identity::check)),
    )
    .required(),
];

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let Some(table) = options.table(VALUE) else {
        let one_in = options.count(VALUE).max(1);
        return Ok(Box::new(Counted { one_in, passed: 0 }));
    };
    Ok(Box::new(Keyed {
        one_in: table.count("one_in").max(1),
        key: Template::of_field(table.text("key")).map_err(|mistake| mistake.of("key"))?,
        text: Vec::new(),
    }))
}

struct Counted {
    one_in: u64,
    /// Events since the last one that was kept, that one included.
    passed: u64,
}

impl Step for Counted {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let before = batch.events.len();
        batch.events.retain(|_| {
            let kept = self.passed == 0;
            self.passed = (self.passed + 1) % self.one_in;
            kept
        });
        report.filtered += (before - batch.events.len()) as u64;
    }
}

struct Keyed {
    one_in: u64,
    key: Template,
    text: Vec<u8>,
}

impl Keyed {
    fn keeps(&mut self, shared: Shared<'_>, event: &Event) -> bool {
        self.text.clear();
        let present = self.key.render(shared, event, &mut self.text);
        // Its keys are fixed: the choice is to be the same everywhere.
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(u8::from(present));
        hasher.write(&self.text);
        hasher.finish().is_multiple_of(self.one_in)
    }
}

impl Step for Keyed {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let before = batch.events.len();
        let (shared, events) = batch.split();
        events.retain(|event| self.keeps(shared, event));
        report.filtered += (before - batch.events.len()) as u64;
    }
}
