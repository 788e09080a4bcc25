//! What is no mistake and probably not meant either: components that nothing uses, changes that
//! an encoding does not show, promises that a buffer does not keep. And options that mean
//! nothing without another, which are mistakes.
//!
//! Warnings come only for a configuration without mistakes, because a misspelt name makes
//! everything around it look unused.

use super::resolve::Resolver;
use super::wiring::inside;
use super::{Config, Feed, Parts, Pipeline};
use crate::pipeline::options::{Options, Value};

/// Warns of sources and sinks that no pipeline names.
pub fn unused(config: &Config, resolver: &mut Resolver<'_>) {
    for source in &config.sources {
        let feed = Feed::Source(source.name.clone());
        if !config
            .pipelines
            .iter()
            .any(|pipeline| pipeline.from.contains(&feed))
        {
            let message = format!("source `{}` is not used", source.name);
            let finding = resolver.findings.warning(source.place, message);
            finding.help("no pipeline names it in `from`: it will not be started");
        }
    }
    for sink in &config.sinks {
        let writes = |pipeline: &Pipeline| {
            pipeline.to.iter().any(|route| route.sink == sink.name)
                || pipeline.errors_to.as_ref() == Some(&sink.name)
        };
        if !config.pipelines.iter().any(writes) {
            let message = format!("sink `{}` is not used", sink.name);
            let finding = resolver.findings.warning(sink.place, message);
            finding.help("no pipeline names it in `to`");
        }
    }
}

/// Warns where `encode = "raw"` hides what the steps before it changed.
pub fn lost_changes(config: &Config, parts: &Parts, resolver: &mut Resolver<'_>) {
    for (pipeline, steps) in config.pipelines.iter().zip(&parts.steps) {
        let Some(at) = steps.iter().position(|step| step.changes_events()) else {
            continue;
        };
        for route in &pipeline.to {
            let sink = config.sinks.iter().find(|sink| sink.name == route.sink);
            let Some(sink) = sink.filter(|sink| writes_raw(&sink.options)) else {
                continue;
            };
            let step = &pipeline.steps[at];
            let message = format!(
                "`{}` changes events, but sink `{}` writes the original bytes",
                step.label, sink.name
            );
            let place = sink.options.place_of("encode").unwrap_or(sink.place);
            let place = inside(place, resolver);
            let finding = resolver.findings.warning(place, message);
            finding
                .also(step.place, "this step")
                .help("use another `encode`, as \"json\"");
        }
    }
}

/// Finds what concerns disk buffers where there is none.
pub fn without_disk(config: &Config, resolver: &mut Resolver<'_>) {
    for sink in &config.sinks {
        let options = &sink.options;
        if options.is_set("buffer.disk") || !options.is_set("buffer.durability") {
            continue;
        }
        let place = options.place_of("buffer.durability").unwrap_or(sink.place);
        let message = "`buffer.durability` means nothing without `buffer.disk`";
        let finding = resolver.findings.error(inside(place, resolver), message);
        finding.help("give `buffer.disk` a size like \"1GiB\", or leave this out");
    }
}

/// Warns where acknowledged events may be discarded, as the configuration asks for.
pub fn evictions(config: &Config, resolver: &mut Resolver<'_>) {
    for sink in &config.sinks {
        let options = &sink.options;
        let evicts = options.word("buffer.when_full") == "drop_oldest";
        if !evicts || !options.is_set("buffer.disk") {
            continue;
        }
        let place = options.place_of("buffer.when_full").unwrap_or(sink.place);
        let message = format!(
            "sink `{}` discards acknowledged events when its disk buffer is full",
            sink.name
        );
        let finding = resolver.findings.warning(inside(place, resolver), message);
        finding.help("\"block\" makes the senders wait, \"drop_newest\" refuses what comes in");
    }
}

fn writes_raw(options: &Options) -> bool {
    let encode = options
        .settings()
        .iter()
        .find(|setting| setting.opt.name == "encode");
    let value = encode.and_then(|setting| setting.value.as_ref());
    matches!(
        value.map(|located| &located.value),
        Some(Value::Word("raw"))
    )
}
