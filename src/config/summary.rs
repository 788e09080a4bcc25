//! What a good configuration comes to, in a few lines: the end of `marline check`.
//!
//! It says what listens or is asked where, and how events flow. No secret is shown: only
//! options that hold addresses and paths are.

use std::fmt::Write;

use super::{Component, Config, Feed, Pipeline, Route};
use crate::pipeline::options::{Located, Value};

/// Options that say where a component listens, dials or writes.
const WHERE: &[&str] = &["listen", "address", "addresses", "url", "urls", "path"];

/// The summary, one line for each source, pipeline and sink.
pub fn summary(config: &Config) -> String {
    let mut out = String::new();
    let names = config
        .sources
        .iter()
        .chain(&config.sinks)
        .map(|one| one.name.len());
    let pipelines = config.pipelines.iter().map(|one| one.name.len());
    let widest = names.chain(pipelines).max().unwrap_or(0);
    let kinds = config
        .sources
        .iter()
        .chain(&config.sinks)
        .map(|one| one.descriptor.name.len());
    let widest = (widest, kinds.max().unwrap_or(0));
    for source in &config.sources {
        component("source", source, widest, &mut out);
    }
    for pipeline in &config.pipelines {
        let _ = writeln!(
            out,
            "pipeline {:name$}  {}",
            pipeline.name,
            flow(pipeline),
            name = widest.0
        );
    }
    for sink in &config.sinks {
        component("sink", sink, widest, &mut out);
    }
    let files: Vec<_> = config
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let _ = writeln!(out, "{}: no mistakes", files.join(", "));
    out
}

fn component(role: &str, one: &Component, (name, kind): (usize, usize), out: &mut String) {
    let settings = one.options.settings().iter();
    let places = settings.filter(|setting| WHERE.contains(&setting.opt.name));
    let places: Vec<_> = places
        .filter_map(|s| s.value.as_ref())
        .flat_map(texts)
        .collect();
    let line = format!(
        "{role:8} {:name$}  {:kind$}  {}",
        one.name,
        one.descriptor.name,
        places.join(" ")
    );
    let _ = writeln!(out, "{}", line.trim_end());
}

fn texts(located: &Located) -> Vec<String> {
    match &located.value {
        Value::Text(text) => vec![text.clone()],
        Value::Path(path) => vec![path.display().to_string()],
        Value::List(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// `in, other -> drop_if, set -> out, archive (if …)`.
fn flow(pipeline: &Pipeline) -> String {
    let from = pipeline.from.iter().map(|feed| match feed {
        Feed::Source(name) | Feed::Pipeline(name) => name.to_string(),
    });
    let steps = pipeline
        .steps
        .iter()
        .map(|step| step.descriptor.name.to_owned());
    let mut parts = vec![join(from)];
    if !pipeline.steps.is_empty() {
        parts.push(join(steps));
    }
    if !pipeline.to.is_empty() {
        parts.push(join(pipeline.to.iter().map(route)));
    }
    let errors = pipeline
        .errors_to
        .as_ref()
        .map(|sink| format!(", failed events -> {sink}"));
    format!("{}{}", parts.join(" -> "), errors.unwrap_or_default())
}

fn route(route: &Route) -> String {
    let condition = route.condition.as_ref().map(|text| {
        let line: Vec<_> = text.split_whitespace().collect();
        format!(" (if {})", line.join(" "))
    });
    let optional = if route.required {
        ""
    } else {
        " (not required)"
    };
    format!("{}{}{optional}", route.sink, condition.unwrap_or_default())
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
