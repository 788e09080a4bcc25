//! `dedupe`: drops an event whose named fields are those of one that passed a while ago.
//!
//! The window counts from the event that passed; a repetition does not prolong it, so that a
//! message repeated for ever shows once per window. What is remembered is 128 bits and a time
//! per event, at most `max_entries` of them; over that the oldest is forgotten first.

use std::collections::{HashSet, VecDeque};

use super::identity::{self, Identity};
use crate::event::Batch;
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "dedupe",
    summary: "drops repetitions of an event within a time",
    options: &[Opt::new(
        VALUE,
        "fields or metadata that make two events the same; as a table with `fields`, `window` \
         and `max_entries`",
        Kind::Either(&[FIELDS, Kind::Table(TABLE)]),
    )
    .required()],
    shared: &[],
    example: "{ dedupe = { fields = [\"host\", \"message\"], window = \"30s\" } }",
    build: Build::Step(build),
};

const FIELDS: Kind = Kind::List(&Kind::Text(Some(identity::check)));

const TABLE: &[Opt] = &[
    Opt::new("fields", "what makes two events the same", FIELDS).required(),
    Opt::new(
        "window",
        "how long an event that passed holds back its like",
        Kind::DURATION,
    )
    .default("\"60s\""),
    Opt::new(
        "max_entries",
        "events remembered at once; the oldest is forgotten first",
        Kind::COUNT,
    )
    .default("65536"),
];

/// What counts where only fields are given: the table's defaults.
const WINDOW_NANOS: u64 = 60_000_000_000;
const ENTRIES_MAX: u64 = 65_536;

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let table = options.table(VALUE);
    let (owner, list) = table.map_or((options, VALUE), |table| (table, "fields"));
    let fields = owner.texts(list);
    if fields.is_empty() {
        return Err(owner.mistake(list, "without a field all events would be the same"));
    }
    let identity = Identity::of(&fields).map_err(|mistake| {
        let option = mistake.option.clone().unwrap_or_default();
        if table.is_some() {
            mistake.of(format!("fields.{option}"))
        } else {
            mistake
        }
    })?;
    let window = table.map(|table| table.duration("window").as_nanos());
    let entries = table.map(|table| table.count("max_entries"));
    Ok(Box::new(Dedupe {
        identity,
        window: window.map_or(WINDOW_NANOS, |nanos| {
            u64::try_from(nanos).unwrap_or(u64::MAX)
        }),
        max_entries: entries.unwrap_or(ENTRIES_MAX) as usize,
        seen: HashSet::new(),
        order: VecDeque::new(),
    }))
}

struct Dedupe {
    identity: Identity,
    /// In nanoseconds.
    window: u64,
    max_entries: usize,
    seen: HashSet<u128>,
    /// The same entries with the time they came, in nanoseconds, oldest first.
    order: VecDeque<(u64, u128)>,
}

impl Dedupe {
    fn forget(&mut self, now: u64) {
        while let Some((came, entry)) = self.order.front().copied()
            && now.saturating_sub(came) >= self.window
        {
            self.order.pop_front();
            self.seen.remove(&entry);
        }
    }

    fn is_new(&mut self, entry: u128, now: u64) -> bool {
        if !self.seen.insert(entry) {
            return false;
        }
        if self.order.len() >= self.max_entries
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back((now, entry));
        debug_assert_eq!(self.order.len(), self.seen.len());
        true
    }
}

impl Step for Dedupe {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let now = report.now.as_nanos();
        self.forget(now);
        let before = batch.events.len();
        let (shared, events) = batch.split();
        events.retain(|event| {
            let entry = self.identity.identify(shared, event);
            self.is_new(entry, now)
        });
        report.filtered += (before - batch.events.len()) as u64;
    }

    fn remembers(&self) -> bool {
        true
    }
}
