//! From the document to a [`Config`]: components by their type, pipelines by the names they
//! join.
//!
//! What is checked here: known types, names that exist, pipelines that reach a sink and do not
//! feed themselves, one listener per address, one writer per file; what nothing uses is a
//! warning.

use std::sync::Arc;

use super::daemon::{DAEMON, PIPELINE, ROUTE};
use super::document::Document;
use super::resolve::{self, Given, Resolver};
use super::suggest;
use super::tree::{Data, Entry, Node};
use super::{
    Component, Config, Feed, Pipeline, Registry, Route, StepConfig, claims, cycles, levels,
    warnings,
};
use crate::pipeline::descriptor::{Descriptor, Kind, Opt, Role};
use crate::pipeline::options::{Options, Place};

/// The key that says what a source or sink is.
static TYPE: Opt = Opt::new(
    "type",
    "what it is; `marline list` names the types",
    Kind::TEXT,
)
.required();

/// The key that any step may have beside its own.
static STEP_IF: Opt = Opt::new(
    "if",
    "the step concerns only events for which this VRL condition is true",
    Kind::TEXT,
);

/// The options of the daemon; none when one is wrong.
pub fn daemon(document: &Document, resolver: &mut Resolver<'_>) -> Option<Options> {
    let options: Vec<_> = DAEMON.all_options().collect();
    resolver.options("daemon", &options, &document.daemon, Place::default())
}

/// Resolves everything else in the document; none when something is wrong.
pub fn resolve(
    document: &Document,
    registry: &Registry,
    daemon: Option<Options>,
    resolver: &mut Resolver<'_>,
) -> Option<Config> {
    let sources = components(Role::Source, &document.sources, registry, resolver);
    let sinks = components(Role::Sink, &document.sinks, registry, resolver);
    let names = Names { document, registry };
    let pipelines: Vec<_> = document
        .pipelines
        .iter()
        .map(|entry| names.pipeline(entry, resolver))
        .collect();
    claims::check(&resolver.claims, &mut resolver.findings);

    cycles::check(document, resolver);
    levels::check(document, resolver);
    names.something_to_do(resolver);
    if resolver.findings.errors() > 0 {
        return None;
    }
    let config = Config {
        files: resolver
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect(),
        daemon: daemon?,
        sources,
        pipelines: pipelines.into_iter().collect::<Option<_>>()?,
        sinks,
    };
    warnings::unused(&config, resolver);
    Some(config)
}

/// The components of a role that are right; of the others the mistakes are reported.
fn components(
    role: Role,
    entries: &[Entry],
    registry: &Registry,
    resolver: &mut Resolver<'_>,
) -> Vec<Component> {
    let one = |entry: &Entry| component(role, entry, registry, resolver);
    entries.iter().filter_map(one).collect()
}

fn component(
    role: Role,
    entry: &Entry,
    registry: &Registry,
    resolver: &mut Resolver<'_>,
) -> Option<Component> {
    let Data::Table(entries) = &entry.node.data else {
        return None;
    };
    let known: Vec<_> = registry
        .of(role)
        .iter()
        .map(|descriptor| descriptor.name)
        .collect();
    let Some(of_type) = entries.iter().find(|entry| entry.key == "type") else {
        missing_type(role, entry, entries, &known, resolver);
        return None;
    };
    let Data::Text(name) = &of_type.node.data else {
        resolver.options("", &[&TYPE], std::slice::from_ref(of_type), entry.key_place);
        return None;
    };
    let Some(descriptor) = registry.of(role).iter().find(|d| d.name == name) else {
        let word = role.word();
        let mistake =
            crate::pipeline::options::Mistake::new(format!("unknown {word} type `{name}`"))
                .at(0, name.len())
                .help(suggest::help(name, word, &known));
        resolver.mistake(of_type.node.place, &mistake);
        return None;
    };
    let mut declared: Vec<&'static Opt> = vec![&TYPE];
    declared.extend(descriptor.all_options());
    let owner = format!("{}.{}", role.word(), entry.key);
    resolver.claim_standard_input(&owner, &declared, entry.key_place);
    let options = resolver.options(&owner, &declared, entries, entry.key_place)?;
    Some(Component {
        name: entry.key.as_str().into(),
        descriptor,
        options,
        is_single: false,
        place: entry.key_place,
    })
}

fn missing_type(
    role: Role,
    entry: &Entry,
    entries: &[Entry],
    known: &[&str],
    resolver: &mut Resolver<'_>,
) {
    let near = entries
        .iter()
        .find(|entry| suggest::nearest(&entry.key, ["type"]).is_some());
    if let Some(near) = near {
        let message = format!("unknown key `{}`", near.key);
        resolver
            .findings
            .error(near.key_place, message)
            .help("did you mean `type`?");
        return;
    }
    let word = role.word();
    let message = format!("{word} `{}` has no `type`", entry.key);
    let help = format!("known {word}s: {}", known.join(", "));
    resolver
        .findings
        .error(entry.key_place, message)
        .help(help)
        .may_follow();
}

/// What the names in `from`, `to` and `errors_to` may mean.
struct Names<'a> {
    document: &'a Document,
    registry: &'a Registry,
}

impl Names<'_> {
    fn pipeline(&self, entry: &Entry, resolver: &mut Resolver<'_>) -> Option<Pipeline> {
        let Data::Table(entries) = &entry.node.data else {
            return None;
        };
        let before = resolver.findings.errors();
        let declared: Vec<_> = PIPELINE.all_options().collect();
        let (given, meant) = resolver.keys(&declared, entries);
        let find = |name: &str| given.iter().find(|given| given.opt.name == name);
        let from = match find("from") {
            None if meant.contains(&"from") => Vec::new(),
            given => self.from(entry, given, resolver),
        };
        let steps = self.steps(&entry.key, find("steps"), resolver);
        let to = match find("to") {
            None if meant.contains(&"to") => Vec::new(),
            given => self.to(entry, given, resolver),
        };
        let errors_to = find("errors_to").and_then(|given| self.sink_name(given.node, resolver));
        (resolver.findings.errors() == before).then(|| Pipeline {
            name: entry.key.as_str().into(),
            from,
            steps,
            to,
            errors_to,
            is_single: false,
        })
    }

    fn from(
        &self,
        entry: &Entry,
        given: Option<&Given<'_>>,
        resolver: &mut Resolver<'_>,
    ) -> Vec<Feed> {
        let Some(given) = given else {
            let message = format!("pipeline `{}` reads from nothing", entry.key);
            let help = "`from = [\"SOURCE\"]` is missing";
            resolver
                .findings
                .error(entry.key_place, message)
                .help(help)
                .may_follow();
            return Vec::new();
        };
        let names = names(given, resolver);
        if names.is_empty() && matches!(&given.node.data, Data::List(items) if items.is_empty()) {
            let message = format!("pipeline `{}` reads from nothing", entry.key);
            resolver
                .findings
                .error(given.node.place, message)
                .help("name a source");
        }
        let mut feeds: Vec<Feed> = Vec::new();
        for (name, place) in names {
            let Some(feed) = self.feed(&entry.key, &name, place, resolver) else {
                continue;
            };
            if feeds.contains(&feed) {
                let place = inside(place, resolver);
                let message = format!("`{name}` is named twice");
                resolver
                    .findings
                    .error(place, message)
                    .help("once is enough");
                continue;
            }
            feeds.push(feed);
        }
        feeds
    }

    fn feed(
        &self,
        reader: &str,
        name: &str,
        place: Place,
        resolver: &mut Resolver<'_>,
    ) -> Option<Feed> {
        let find = |entries: &'_ [Entry]| entries.iter().position(|entry| entry.key == name);
        let source = find(&self.document.sources);
        let pipeline = find(&self.document.pipelines);
        match (source, pipeline) {
            // A pipeline cannot mean itself.
            (Some(_), Some(_)) if reader == name => return Some(Feed::Source(name.into())),
            (Some(source), Some(_)) => {
                let place = inside(place, resolver);
                let message = format!("`{name}` is a source and a pipeline");
                let finding = resolver.findings.error(place, message);
                finding.also(self.document.sources[source].key_place, "the source");
                finding.help("give one of them another name");
                return None;
            }
            (Some(_), None) => return Some(Feed::Source(name.into())),
            (None, Some(_)) => return Some(Feed::Pipeline(name.into())),
            (None, None) => {}
        }
        if self.document.lost(&["source", "pipeline"]) {
            return None;
        }
        let pipelines = keys(&self.document.pipelines).filter(|pipeline| *pipeline != reader);
        let known: Vec<_> = keys(&self.document.sources).chain(pipelines).collect();
        let help = suggest::help(name, "source", &known);
        let missing = Missing {
            what: "source or pipeline",
            name,
            help,
        };
        missing.report(place, resolver);
        None
    }

    fn to(
        &self,
        entry: &Entry,
        given: Option<&Given<'_>>,
        resolver: &mut Resolver<'_>,
    ) -> Vec<Route> {
        let Some(given) = given else {
            if !self.is_read(&entry.key) {
                let message = format!("pipeline `{}` writes to nothing", entry.key);
                let help = "`to = [\"SINK\"]` is missing";
                resolver
                    .findings
                    .error(entry.key_place, message)
                    .help(help)
                    .may_follow();
            }
            return Vec::new();
        };
        let Data::List(items) = &given.node.data else {
            resolver.options("", &[given.opt], &[as_entry(given)], given.key);
            return Vec::new();
        };
        if items.is_empty() && !self.is_read(&entry.key) {
            let message = format!("pipeline `{}` writes to nothing", entry.key);
            resolver
                .findings
                .error(given.node.place, message)
                .help("name a sink");
        }
        let mut routes: Vec<Route> = Vec::new();
        for item in items {
            let Some(route) = self.route(item, resolver) else {
                continue;
            };
            if let Some(first) = routes.iter().find(|known| known.sink == route.sink) {
                let message = format!("`{}` is named twice in `to`", route.sink);
                let finding = resolver.findings.error(route.place, message);
                finding.also(first.place, "first named here");
                finding.help("join the conditions with `||`");
                continue;
            }
            routes.push(route);
        }
        routes
    }

    /// Whether another pipeline names it in its `from`.
    fn is_read(&self, name: &str) -> bool {
        let readers = self
            .document
            .pipelines
            .iter()
            .filter(|reader| reader.key != name);
        readers
            .flat_map(cycles::feeds_of)
            .any(|(feed, _)| feed == name)
    }

    fn route(&self, node: &Node, resolver: &mut Resolver<'_>) -> Option<Route> {
        let Data::Table(entries) = &node.data else {
            let sink = self.sink_name(node, resolver)?;
            let place = inside(node.place, resolver);
            return Some(Route {
                sink,
                condition: None,
                required: true,
                place,
            });
        };
        let declared: Vec<&'static Opt> = ROUTE.iter().collect();
        let options = resolver.options("route", &declared, entries, node.place)?;
        let named = entries.iter().find(|entry| entry.key == "sink")?;
        let sink = self.sink_name(&named.node, resolver)?;
        let condition = options.maybe_text("if").map(str::to_owned);
        if let Some(text) = &condition
            && let Err(mistake) = (self.registry.condition)(text)
        {
            let place = options.place_of("if").unwrap_or(node.place);
            resolver.mistake(place, &mistake);
            return None;
        }
        let place = inside(named.node.place, resolver);
        Some(Route {
            sink,
            condition,
            required: options.flag("required"),
            place,
        })
    }

    fn sink_name(&self, node: &Node, resolver: &mut Resolver<'_>) -> Option<Arc<str>> {
        let Data::Text(name) = &node.data else {
            let found = node.data.found(resolver.files.text(node.place));
            let message = format!("expected the name of a sink, found {found}");
            resolver.findings.error(node.place, message);
            return None;
        };
        if self.document.sinks.iter().any(|entry| entry.key == *name) {
            return Some(name.as_str().into());
        }
        if self.document.lost(&["sink"]) {
            return None;
        }
        let known: Vec<_> = keys(&self.document.sinks).collect();
        let is_pipeline = self
            .document
            .pipelines
            .iter()
            .any(|entry| entry.key == *name);
        let help = if is_pipeline {
            format!("`{name}` is a pipeline: let its `from` name this one instead")
        } else {
            suggest::help(name, "sink", &known)
        };
        let missing = Missing {
            what: "sink",
            name,
            help,
        };
        missing.report(node.place, resolver);
        None
    }

    fn steps(
        &self,
        pipeline: &str,
        given: Option<&Given<'_>>,
        resolver: &mut Resolver<'_>,
    ) -> Vec<StepConfig> {
        let Some(given) = given else {
            return Vec::new();
        };
        let Data::List(items) = &given.node.data else {
            resolver.options("", &[given.opt], &[as_entry(given)], given.key);
            return Vec::new();
        };
        let numbered = items.iter().enumerate();
        let one = |(index, node): (usize, &Node)| self.step(pipeline, index + 1, node, resolver);
        numbered.filter_map(one).collect()
    }

    fn step(
        &self,
        pipeline: &str,
        position: usize,
        node: &Node,
        resolver: &mut Resolver<'_>,
    ) -> Option<StepConfig> {
        let (entry, guard) = step_entries(node, resolver)?;
        let known: Vec<_> = self.registry.steps.iter().map(|step| step.name).collect();
        let Some(descriptor) = self
            .registry
            .steps
            .iter()
            .find(|step| step.name == entry.key)
        else {
            let message = format!("unknown step `{}`", entry.key);
            let help = suggest::help(&entry.key, "step", &known);
            resolver.findings.error(entry.key_place, message).help(help);
            return None;
        };
        let label = format!("{pipeline}.{position}:{}", descriptor.name);
        let options = step_options(descriptor, &label, entry, resolver)?;
        let condition = match guard {
            Some(guard) => Some(self.guard(guard, resolver)?),
            None => None,
        };
        Some(StepConfig {
            label: label.into(),
            descriptor,
            options,
            condition,
            place: entry.key_place,
        })
    }

    /// The `if` of a step.
    fn guard(&self, entry: &Entry, resolver: &mut Resolver<'_>) -> Option<String> {
        let opt: &'static Opt = &STEP_IF;
        let declared = [opt];
        let options = resolver.options(
            "if",
            &declared,
            std::slice::from_ref(entry),
            entry.key_place,
        )?;
        let text = options.text(opt.name);
        match (self.registry.condition)(text) {
            Ok(()) => Some(text.to_owned()),
            Err(mistake) => {
                resolver.mistake(entry.node.place, &mistake);
                None
            }
        }
    }

    fn something_to_do(&self, resolver: &mut Resolver<'_>) {
        if resolver.findings.errors() > 0 || !self.document.pipelines.is_empty() {
            return;
        }
        let path = resolver.files.get(0).path.display();
        let message = format!("`{path}` gives nothing to do: it has no [pipeline.NAME]");
        let finding = resolver.findings.error_nowhere(message);
        finding.help("config/marline.toml and `marline explain pipeline` show one");
    }
}

/// A name that stands for nothing.
struct Missing<'a> {
    what: &'static str,
    name: &'a str,
    help: String,
}

impl Missing<'_> {
    fn report(self, place: Place, resolver: &mut Resolver<'_>) {
        let message = format!("there is no {} `{}`", self.what, self.name);
        let place = inside(place, resolver);
        let finding = resolver.findings.error(place, message);
        finding.help(self.help).may_follow();
    }
}

fn keys(entries: &[Entry]) -> impl Iterator<Item = &str> {
    entries.iter().map(|entry| entry.key.as_str())
}

/// The texts of a list with their places; something else is reported.
fn names(given: &Given<'_>, resolver: &mut Resolver<'_>) -> Vec<(String, Place)> {
    let entry = as_entry(given);
    let Some(options) = resolver.options("", &[given.opt], &[entry], given.key) else {
        return Vec::new();
    };
    let items = options.list(given.opt.name).iter();
    items
        .filter_map(|item| Some((item.as_text()?.to_owned(), item.place)))
        .collect()
}

/// A given option as an entry of its own, for resolving it alone.
fn as_entry(given: &Given<'_>) -> Entry {
    Entry {
        key: given.opt.name.into(),
        key_place: given.key,
        node: given.node.clone(),
    }
}

/// The part of a string's place that is within the quotes.
pub fn inside(place: Place, resolver: &Resolver<'_>) -> Place {
    resolve::inside(place, resolver.files.text(place))
}

/// The one key of a step, and its `if`.
fn step_entries<'n>(
    node: &'n Node,
    resolver: &mut Resolver<'_>,
) -> Option<(&'n Entry, Option<&'n Entry>)> {
    let Data::Table(entries) = &node.data else {
        let found = node.data.found(resolver.files.text(node.place));
        let message = format!("expected a step like {{ drop_if = '…' }}, found {found}");
        resolver.findings.error(node.place, message);
        return None;
    };
    let (guards, steps): (Vec<_>, Vec<_>) = entries.iter().partition(|e| e.key == STEP_IF.name);
    match steps.as_slice() {
        [only] => Some((only, guards.first().copied())),
        [] => {
            let message = "expected a step like { drop_if = '…' }, found none";
            resolver.findings.error(node.place, message);
            None
        }
        [first, second, ..] => {
            let message = format!("a step is one key, `{}` is a second", second.key);
            let help = format!("write {{ {} = … }}, {{ {} = … }}", first.key, second.key);
            resolver
                .findings
                .error(second.key_place, message)
                .help(help);
            None
        }
    }
}

fn step_options(
    descriptor: &'static Descriptor,
    label: &str,
    entry: &Entry,
    resolver: &mut Resolver<'_>,
) -> Option<Options> {
    if descriptor.takes_plain_value() {
        return resolver.plain_value(label, &descriptor.options[0], &entry.node);
    }
    let Data::Table(entries) = &entry.node.data else {
        let found = entry.node.data.found(resolver.files.text(entry.node.place));
        let names: Vec<_> = descriptor.all_options().map(|opt| opt.name).collect();
        let message = format!("expected a table of options, found {found}");
        let help = format!("options of `{}`: {}", descriptor.name, names.join(", "));
        resolver
            .findings
            .error(entry.node.place, message)
            .help(help);
        return None;
    };
    let declared: Vec<_> = descriptor.all_options().collect();
    resolver.options(label, &declared, entries, entry.key_place)
}
