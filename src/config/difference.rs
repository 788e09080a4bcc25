//! What changes from one configuration to another: kept, changed, added, removed.
//!
//! A source, pipeline or sink is the same in both when its name is, and unchanged when it
//! resolves to equal values: spelling, order of tables, comments and defaults that were written
//! out change nothing. Whatever is read while the configuration is loaded belongs to it, so
//! that a secret's new content is a change of its option. Values are compared here and never
//! shown: the text names options only.

use std::fmt;

use super::{Component, Config, Pipeline, Route, StepConfig};
use crate::pipeline::options::{Located, Options, Value};

/// The options of `[daemon]` that are read once, at the start.
const AT_START: &[&str] = &[
    "state_dir",
    "workers",
    "poller",
    "panic",
    "log.format",
    "admin",
    "metrics",
];

/// What changes from one configuration to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// How many sources, pipelines and sinks are the same in both.
    pub kept: usize,
    /// Those of which something is different, in the order of the new configuration.
    pub changed: Vec<Change>,
    /// The labels of those that are only in the new one: `source.in`.
    pub added: Vec<String>,
    /// The labels of those that are only in the old one.
    pub removed: Vec<String>,
    /// Options of `[daemon]` that are different and take effect with a restart only.
    pub at_start: Vec<&'static str>,
    /// Files of certificates and authorities that have another content; their users are among
    /// the kept ones. Whoever puts them in place counts them.
    pub renewed: usize,
}

/// A component of which something is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `sink.out`, or `daemon`.
    pub label: String,
    /// The names of the options that are.
    pub options: Vec<&'static str>,
}

impl Difference {
    /// What changes from `old` to `new`.
    pub fn between(old: &Config, new: &Config) -> Difference {
        let mut difference = Difference::default();
        let name = |component: &Component| component.name.to_string();
        let both = |old: &Component, new: &Component| of_components(old, new);
        difference.add("source", (&old.sources, &new.sources), name, both);
        let name = |pipeline: &Pipeline| pipeline.name.to_string();
        difference.add(
            "pipeline",
            (&old.pipelines, &new.pipelines),
            name,
            of_pipelines,
        );
        let name = |component: &Component| component.name.to_string();
        difference.add("sink", (&old.sinks, &new.sinks), name, both);
        let options = of_options(&old.daemon, &new.daemon);
        let (at_start, at_once): (Vec<_>, Vec<_>) = options
            .into_iter()
            .partition(|name| AT_START.contains(name));
        difference.at_start = at_start;
        if !at_once.is_empty() {
            difference.changed.push(Change {
                label: "daemon".to_owned(),
                options: at_once,
            });
        }
        difference
    }

    /// Whether both are the same.
    pub fn is_empty(&self) -> bool {
        let lists_are_empty = self.added.is_empty() && self.removed.is_empty();
        lists_are_empty && self.changed.is_empty() && self.at_start.is_empty()
    }

    fn add<T>(
        &mut self,
        role: &str,
        (old, new): (&[T], &[T]),
        name: impl Fn(&T) -> String,
        compare: impl Fn(&T, &T) -> Vec<&'static str>,
    ) {
        let label = |one: &T| format!("{role}.{}", name(one));
        for one in new {
            match old.iter().find(|other| name(other) == name(one)) {
                None => self.added.push(label(one)),
                Some(other) => match compare(other, one) {
                    options if options.is_empty() => self.kept += 1,
                    options => self.changed.push(Change {
                        label: label(one),
                        options,
                    }),
                },
            }
        }
        let is_gone = |one: &&T| !new.iter().any(|other| name(other) == name(one));
        self.removed.extend(old.iter().filter(is_gone).map(label));
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changed.iter().map(Change::to_string);
        write!(
            f,
            "kept {}, changed: {}, added: {}, removed: {}",
            self.kept,
            listed(changed),
            listed(self.added.iter().cloned()),
            listed(self.removed.iter().cloned())
        )?;
        if self.renewed > 0 {
            write!(f, "; certificates: {} renewed", self.renewed)?;
        }
        if self.at_start.is_empty() {
            return Ok(());
        }
        let options = self.at_start.iter().map(|name| format!("daemon.{name}"));
        write!(f, "; with a restart only: {}", listed(options))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.label, self.options.join(", "))
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// The options in which two components of one name differ. Of another type, all may mean
/// something else.
fn of_components(old: &Component, new: &Component) -> Vec<&'static str> {
    if old.descriptor.name != new.descriptor.name {
        return vec!["type"];
    }
    of_options(&old.options, &new.options)
}

/// Whether the two are of the same type and have equal options.
pub fn is_same_component(old: &Component, new: &Component) -> bool {
    of_components(old, new).is_empty()
}

/// Whether two steps do the same; where they stand does not matter.
pub fn is_same_step(old: &StepConfig, new: &StepConfig) -> bool {
    old.descriptor.name == new.descriptor.name
        && old.condition == new.condition
        && of_options(&old.options, &new.options).is_empty()
}

fn of_pipelines(old: &Pipeline, new: &Pipeline) -> Vec<&'static str> {
    let same_steps = old.steps.len() == new.steps.len()
        && old
            .steps
            .iter()
            .zip(&new.steps)
            .all(|(old, new)| is_same_step(old, new));
    let same_routes = old.to.len() == new.to.len()
        && old
            .to
            .iter()
            .zip(&new.to)
            .all(|(old, new)| is_same_route(old, new));
    let parts = [
        ("from", old.from == new.from),
        ("steps", same_steps),
        ("to", same_routes),
        ("errors_to", old.errors_to == new.errors_to),
    ];
    let differing = parts.into_iter().filter(|(_, is_same)| !is_same);
    differing.map(|(name, _)| name).collect()
}

fn is_same_route(old: &Route, new: &Route) -> bool {
    old.sink == new.sink && old.condition == new.condition && old.required == new.required
}

/// The options, declared by one descriptor, in which the two differ.
fn of_options(old: &Options, new: &Options) -> Vec<&'static str> {
    let differs = |name: &&'static str| match (old.value(name), new.value(name)) {
        (Some(old), Some(new)) => !is_same(old, new),
        (old, new) => old.is_some() != new.is_some(),
    };
    let names = new.settings().iter().map(|setting| setting.opt.name);
    names.filter(differs).collect()
}

fn is_same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Flag(old), Value::Flag(new)) => old == new,
        (Value::Count(old), Value::Count(new)) => old == new,
        (Value::Number(old), Value::Number(new)) => old == new,
        (Value::Duration(old), Value::Duration(new)) => old == new,
        (Value::Size(old), Value::Size(new)) => old == new,
        (Value::Rate(old), Value::Rate(new)) => old == new,
        (Value::Text(old), Value::Text(new)) => old == new,
        (Value::Word(old), Value::Word(new)) => old == new,
        (Value::Path(old), Value::Path(new)) => old == new,
        // Whoever uses the file takes its new content as it is.
        (Value::File(old), Value::File(new)) => old.path == new.path,
        (Value::Secret(old), Value::Secret(new)) => old == new,
        (Value::Any(old), Value::Any(new)) => old == new,
        (Value::List(old), Value::List(new)) => {
            let same = |(old, new): (&Located, &Located)| is_same(&old.value, &new.value);
            old.len() == new.len() && old.iter().zip(new).all(same)
        }
        (Value::Map(old), Value::Map(new)) => {
            // The order of keys means something to some: headers, sets.
            let same = |(old, new): (&(String, Located), &(String, Located))| {
                old.0 == new.0 && is_same(&old.1.value, &new.1.value)
            };
            old.len() == new.len() && old.iter().zip(new).all(same)
        }
        (Value::Table(old), Value::Table(new)) => of_options(old, new).is_empty(),
        _ => false,
    }
}
