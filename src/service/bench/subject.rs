//! What is measured: a configuration of one pipeline, with the bench's own source and sinks.
//!
//! Everything else is as it was read: steps, conditions, encodings, which of it there is one of.
//! The built-in pipelines are configurations like a user's, and go the same way.

use std::path::Path;

use crate::config::files::File;
use crate::config::{self, Component, Config, Feed, Pipeline, Purpose};
use crate::pipeline::descriptor::VALUE;
use crate::pipeline::options::Value;

use super::corpus::Look;
use super::{generator, sink};
use crate::service::cli;

/// One pipeline to be measured.
pub struct Subject {
    /// What the table calls it.
    pub name: String,
    pub config: Config,
    pub look: Look,
    /// What was put in place of what, for the user.
    pub about: Option<String>,
}

/// The built-in pipeline that takes lines of this look.
fn built_in(look: Look) -> &'static str {
    match look {
        Look::Raw => {
            r#"
            source.in    = { type = "socket", listen = ["tcp://127.0.0.1:5514"] }
            pipeline.raw = { from = ["in"], to = ["out"] }
            sink.out     = { type = "socket", address = "tcp://127.0.0.1:5515", encode = "raw" }
            "#
        }
        Look::Syslog => {
            r#"
            source.in       = { type = "syslog", listen = ["tcp://127.0.0.1:5514"] }
            pipeline.syslog = { from = ["in"], to = ["out"] }
            sink.out        = { type = "socket", address = "tcp://127.0.0.1:5515" }
            "#
        }
        Look::Json => {
            r#"
            source.in     = { type = "socket", listen = ["tcp://127.0.0.1:5514"] }
            pipeline.json = { from = ["in"], to = ["out"], steps = [
              { parse = "json" }, { drop_if = '.level == "debug"' }, { set = { site = "lab1" } },
            ] }
            sink.out      = { type = "socket", address = "tcp://127.0.0.1:5515" }
            "#
        }
        Look::Apache => {
            r#"
            source.in       = { type = "socket", listen = ["tcp://127.0.0.1:5514"] }
            pipeline.apache = { from = ["in"], to = ["out"], steps = [{ parse = "clf" }] }
            sink.out        = { type = "socket", address = "tcp://127.0.0.1:5515" }
            "#
        }
    }
}

impl Subject {
    /// The built-in pipeline for lines of this look.
    ///
    /// # Errors
    /// It does not pass the check, which is a bug that a test would show.
    pub fn built_in(look: Look) -> Result<Subject, String> {
        let file = File::new(Path::new(look.word()), built_in(look).into());
        let loaded = config::load_file(file, &cli::registry(), &|_| None, Purpose::Check);
        let Some((config, _)) = loaded.config else {
            return Err(loaded.report);
        };
        let subject = Subject::of(&config, None, Some(look))?;
        Ok(Subject {
            about: None,
            ..subject
        })
    }

    /// The pipeline `name` of `config`; the only one where none is named.
    ///
    /// # Errors
    /// There is none of that name, or there are several.
    pub fn of(config: &Config, name: Option<&str>, look: Option<Look>) -> Result<Subject, String> {
        let pipeline = choose(config, name)?;
        let source = first_source(config, pipeline);
        let source = source.ok_or("the pipeline reads from no source")?;
        let look = look.unwrap_or_else(|| look_of(source, pipeline));
        let is_of_pipeline = |sink: &&Component| {
            let mut routes = pipeline.to.iter();
            routes.any(|route| route.sink == sink.name)
                || pipeline.errors_to.as_ref() == Some(&sink.name)
        };
        let sinks = config.sinks.iter().filter(is_of_pipeline);
        let sinks: Vec<_> = sinks.map(throwing).collect();
        let measured = Config {
            sources: vec![generating(source)],
            pipelines: vec![Pipeline {
                from: vec![Feed::Source(source.name.clone())],
                ..pipeline.clone()
            }],
            sinks,
            ..config.clone()
        };
        Ok(Subject {
            name: pipeline.name.to_string(),
            about: Some(about(&measured, look)),
            config: measured,
            look,
        })
    }

    /// The configuration for so many reactors.
    pub fn config_for(&self, workers: usize) -> Config {
        let workers = Value::Count(workers as u64);
        let daemon = self.config.daemon.clone().with("workers", Some(workers));
        Config {
            daemon,
            ..self.config.clone()
        }
    }
}

fn choose<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pipeline, String> {
    let pipelines = &config.pipelines;
    let names: Vec<_> = pipelines.iter().map(|it| &*it.name).collect();
    let names = names.join(", ");
    match (name, pipelines.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "name one of the pipelines with --pipeline: {names}"
        )),
        (Some(name), _) => {
            let found = pipelines.iter().find(|it| *it.name == *name);
            found.ok_or_else(|| format!("there is no pipeline `{name}`, only: {names}"))
        }
    }
}

/// The source that the pipeline reads from, maybe through others.
fn first_source<'a>(config: &'a Config, pipeline: &'a Pipeline) -> Option<&'a Component> {
    let of_feed = |feed: &Feed| match feed {
        Feed::Source(name) => config.sources.iter().find(|it| it.name == *name),
        Feed::Pipeline(name) => {
            let before = config.pipelines.iter().find(|it| it.name == *name);
            // Pipelines have no cycle.
            before.and_then(|before| first_source(config, before))
        }
    };
    pipeline.from.iter().find_map(of_feed)
}

/// What its lines most likely look like: as its source or its first parser says.
fn look_of(source: &Component, pipeline: &Pipeline) -> Look {
    if is_syslog(source) {
        return Look::Syslog;
    }
    let parser = pipeline.steps.iter().find_map(|step| {
        let is_parser = step.descriptor.name == "parse";
        is_parser.then(|| step.options.word(VALUE))
    });
    match parser {
        Some("json") => Look::Json,
        Some("syslog") => Look::Syslog,
        Some("clf") => Look::Apache,
        _ => Look::Raw,
    }
}

fn is_syslog(source: &Component) -> bool {
    source.descriptor.name == "syslog"
}

/// The generator in place of `source`, on every reactor.
fn generating(source: &Component) -> Component {
    let descriptor = match is_syslog(source) {
        true => &generator::SYSLOG,
        false => &generator::FRAMES,
    };
    let mut generating = source.clone();
    generating.descriptor = descriptor;
    generating.is_single = false;
    generating
}

/// What throws away in place of `sink`; nothing is written to a disk.
fn throwing(sink: &Component) -> Component {
    let mut throwing = sink.clone();
    throwing.descriptor = &sink::DESCRIPTOR;
    throwing.options = throwing.options.with("buffer.disk", None);
    throwing
}

fn about(config: &Config, look: Look) -> String {
    let names = |all: &[Component]| {
        let names: Vec<_> = all.iter().map(|it| &*it.name).collect();
        names.join(", ")
    };
    let (pipelines, sources) = (&config.pipelines, names(&config.sources));
    let pipeline = pipelines.first().map_or("", |it| &*it.name);
    format!(
        "pipeline {pipeline}: in place of its sources ({sources}) made-up {} lines; in place of \
         its sinks ({}) what encodes as they would and throws it away",
        look.word(),
        names(&config.sinks)
    )
}
