//! Configuration: one TOML file (and those it includes), with errors that point.
//!
//! [`load`] reads the files, resolves every option against the descriptors of a [`Registry`],
//! checks the wiring, and builds the components. It finds all mistakes in one run and touches
//! nothing: no socket, no lock, no file is made. The only user of the TOML parser.
//!
//! In reading order: [`files`] and [`tree`] (text to nodes with places), `document` (all
//! files put together), `resolve` (nodes to typed options), `wiring` (names to a graph),
//! [`findings`] (how mistakes are shown), [`explain`] (descriptors shown to the user),
//! [`difference`] (what changes from one configuration to another).

pub mod difference;
pub mod explain;
pub mod files;
pub mod findings;
pub mod quantity;
pub mod tree;

mod claims;
mod cycles;
mod daemon;
mod document;
mod glob;
mod levels;
mod literal;
mod resolve;
pub mod schema;
mod secret;
mod suggest;
pub mod summary;
mod syntax;
mod testing;
#[cfg(test)]
mod tests;
mod warnings;
mod wiring;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use daemon::{ADMIN_SCHEME, DAEMON, PIPELINE};
pub use resolve::Purpose;
pub use secret::Environment;

use crate::pipeline::descriptor::{AnySink, AnySource, AnyStep, Build, Check, Descriptor, Role};
use crate::pipeline::options::{Mistake, Options, Place};
use files::{File, Files};
use findings::Findings;

/// The components that there are, and how a condition is checked.
#[derive(Clone, Copy)]
pub struct Registry {
    /// Every source.
    pub sources: &'static [&'static Descriptor],
    /// Every step.
    pub steps: &'static [&'static Descriptor],
    /// Every sink.
    pub sinks: &'static [&'static Descriptor],
    /// The test of the `if` of a route.
    pub condition: Check,
}

static PIPELINES: &[&Descriptor] = &[&PIPELINE];
static DAEMONS: &[&Descriptor] = &[&DAEMON];

impl Registry {
    /// The components of one role.
    pub fn of(&self, role: Role) -> &'static [&'static Descriptor] {
        match role {
            Role::Source => self.sources,
            Role::Step => self.steps,
            Role::Sink => self.sinks,
            Role::Pipeline => PIPELINES,
            Role::Daemon => DAEMONS,
        }
    }

    /// All components, then the pipeline and the daemon.
    pub fn all(&self) -> impl Iterator<Item = &'static Descriptor> {
        let roles = [
            Role::Source,
            Role::Step,
            Role::Sink,
            Role::Pipeline,
            Role::Daemon,
        ];
        let registry = *self;
        roles
            .into_iter()
            .flat_map(move |role| registry.of(role).iter().copied())
    }
}

/// A configuration without mistakes.
#[derive(Clone)]
pub struct Config {
    /// Every file it was read from, the main one first.
    pub files: Vec<PathBuf>,
    /// The options of [`DAEMON`].
    pub daemon: Options,
    /// In the order of the files.
    pub sources: Vec<Component>,
    /// In the order of the files; what they read from has no cycle.
    pub pipelines: Vec<Pipeline>,
    /// In the order of the files.
    pub sinks: Vec<Component>,
}

/// A source or sink.
#[derive(Clone)]
pub struct Component {
    /// Its name: the NAME of `[source.NAME]`.
    pub name: Arc<str>,
    /// What it is.
    pub descriptor: &'static Descriptor,
    /// Its options.
    pub options: Options,
    /// The daemon has one of it, however many reactors it has.
    pub is_single: bool,
    place: Place,
}

/// A pipeline.
#[derive(Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: Arc<str>,
    /// What it reads from.
    pub from: Vec<Feed>,
    /// What happens to the events, in order.
    pub steps: Vec<StepConfig>,
    /// The sinks it writes to.
    pub to: Vec<Route>,
    /// The sink for events that a step failed on.
    pub errors_to: Option<Arc<str>>,
    /// The daemon has one of it, however many reactors it has: a step remembers.
    pub is_single: bool,
}

/// What a pipeline reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// The source of that name.
    Source(Arc<str>),
    /// The pipeline of that name.
    Pipeline(Arc<str>),
}

/// A step.
#[derive(Clone)]
pub struct StepConfig {
    /// Its id in logs and counts, `main.2:drop_if`: the pipeline, its position from 1, its kind.
    pub label: Arc<str>,
    /// What it is.
    pub descriptor: &'static Descriptor,
    /// Its options.
    pub options: Options,
    /// It concerns only events for which this VRL condition holds. It compiles.
    pub condition: Option<String>,
    place: Place,
}

/// An entry of `to`.
#[derive(Clone)]
pub struct Route {
    /// The sink.
    pub sink: Arc<str>,
    /// Only events for which this VRL condition holds. It compiles.
    pub condition: Option<String>,
    /// Whether delivery waits for the sink.
    pub required: bool,
    place: Place,
}

/// The components of a configuration, in its order: one set for one reactor.
pub struct Parts {
    /// As [`Config::sources`].
    pub sources: Vec<AnySource>,
    /// As [`Config::pipelines`], and in each as [`Pipeline::steps`].
    pub steps: Vec<Vec<AnyStep>>,
    /// As [`Config::sinks`].
    pub sinks: Vec<AnySink>,
}

impl Component {
    /// The component, if it is a source.
    ///
    /// # Errors
    /// It refuses options that it took when the configuration was loaded.
    pub fn build_source(&self) -> Option<Result<AnySource, Mistake>> {
        match self.descriptor.build {
            Build::Source(build) => Some(build(&self.options)),
            _ => None,
        }
    }

    /// The component, if it is a sink.
    ///
    /// # Errors
    /// As [`Component::build_source`].
    pub fn build_sink(&self) -> Option<Result<AnySink, Mistake>> {
        match self.descriptor.build {
            Build::Sink(build) => Some(build(&self.options)),
            _ => None,
        }
    }
}

impl StepConfig {
    /// The step.
    ///
    /// # Errors
    /// As [`Component::build_source`].
    pub fn build(&self) -> Option<Result<AnyStep, Mistake>> {
        match self.descriptor.build {
            Build::Step(build) => Some(build(&self.options)),
            _ => None,
        }
    }
}

/// What came of loading.
pub struct Loaded {
    /// The configuration and a first set of its components; none when there is a mistake.
    pub config: Option<(Config, Parts)>,
    /// The options of [`DAEMON`], also where there are mistakes elsewhere.
    pub daemon: Option<Options>,
    /// Mistakes, warnings and notes as shown to the user, ending in their number; empty when
    /// nothing was found.
    pub report: String,
    /// The number of mistakes.
    pub mistakes: usize,
}

/// Reads, resolves, wires and builds the configuration in `path`.
pub fn load(path: &Path, registry: &Registry, env: Environment<'_>, purpose: Purpose) -> Loaded {
    match File::read(path) {
        Ok(file) => load_file(file, registry, env, purpose),
        Err(error) => {
            let mut findings = Findings::default();
            let message = format!(
                "cannot read the configuration `{}`: {error}",
                path.display()
            );
            findings.error_nowhere(message).help = help_for(&error);
            let report = findings.render(&Files::default());
            Loaded {
                config: None,
                daemon: None,
                report,
                mistakes: 1,
            }
        }
    }
}

fn help_for(error: &files::ReadError) -> Option<String> {
    use std::io::ErrorKind;
    let files::ReadError::Io(error) = error else {
        return Some("name a TOML file with --config PATH".into());
    };
    Some(match error.kind() {
        ErrorKind::NotFound => "name the file with --config PATH".into(),
        ErrorKind::PermissionDenied => "the daemon's user must be able to read it".into(),
        _ => return None,
    })
}

/// Like [`load`], with the main file's text at hand.
pub fn load_file(
    main: File,
    registry: &Registry,
    env: Environment<'_>,
    purpose: Purpose,
) -> Loaded {
    let mut files = Files::default();
    let mut findings = Findings::default();
    let document = document::Document::load(main, &mut files, &mut findings);

    let mut resolver = resolve::Resolver::new(&files, env, purpose);
    resolver.findings = findings;
    let daemon = wiring::daemon(&document, &mut resolver);
    let config = wiring::resolve(&document, registry, daemon.clone(), &mut resolver);
    let built = config.map(|mut config| {
        let parts = build(&config, &mut resolver);
        if let Some(parts) = &parts {
            config.note_singles(parts);
        }
        (config, parts)
    });
    let mut findings = resolver.findings;
    if !document.syntax.is_empty() {
        findings.without_followers(&files, &document.syntax);
    }
    findings.sort();
    let mistakes = findings.errors();
    let config = match built {
        Some((config, Some(parts))) if mistakes == 0 => Some((config, parts)),
        _ => None,
    };
    Loaded {
        config,
        daemon,
        report: findings.render(&files),
        mistakes,
    }
}

impl Config {
    /// What there is one of is known by the components themselves.
    fn note_singles(&mut self, parts: &Parts) {
        for (of, source) in self.sources.iter_mut().zip(&parts.sources) {
            of.is_single = source.is_single();
        }
        for (of, steps) in self.pipelines.iter_mut().zip(&parts.steps) {
            of.is_single = steps.iter().any(|step| step.remembers());
        }
        for (of, sink) in self.sinks.iter_mut().zip(&parts.sinks) {
            let is_on_disk = of.options.maybe_size("buffer.disk").is_some();
            of.is_single = is_on_disk || sink.is_single();
        }
    }

    /// Another set of components, for another reactor.
    ///
    /// # Errors
    /// A component refused options that it took when the configuration was loaded.
    pub fn build(&self) -> Result<Parts, Mistake> {
        let mut first = None;
        let parts = build_parts(self, &mut |_, _, mistake| {
            first.get_or_insert(mistake);
        });
        match first {
            None => Ok(parts),
            Some(mistake) => Err(mistake),
        }
    }
}

/// Builds all components and reports what they find wrong; none when one did.
fn build(config: &Config, resolver: &mut resolve::Resolver<'_>) -> Option<Parts> {
    let before = resolver.findings.errors();
    let parts = build_parts(config, &mut |options, whole, mistake| {
        let option = mistake.option.as_deref();
        let place = option
            .and_then(|path| options.place_of(path))
            .unwrap_or(whole);
        resolver.mistake(place, &mistake);
    });
    if resolver.findings.errors() > before {
        return None;
    }
    warnings::without_disk(config, resolver);
    warnings::evictions(config, resolver);
    warnings::lost_changes(config, &parts, resolver);
    Some(parts)
}

/// Who finds a mistake: its options, the place of the whole component, and the mistake.
type OnMistake<'a> = &'a mut dyn FnMut(&Options, Place, Mistake);

fn build_parts(config: &Config, wrong: OnMistake<'_>) -> Parts {
    let mut parts = Parts {
        sources: Vec::new(),
        steps: Vec::new(),
        sinks: Vec::new(),
    };
    for of in &config.sources {
        match of.build_source() {
            Some(Ok(source)) => parts.sources.push(source),
            Some(Err(mistake)) => wrong(&of.options, of.place, mistake),
            None => {}
        }
    }
    for pipeline in &config.pipelines {
        let mut steps = Vec::new();
        for of in &pipeline.steps {
            match of.build() {
                Some(Ok(step)) => steps.push(step),
                Some(Err(mistake)) => wrong(&of.options, of.place, mistake),
                None => {}
            }
        }
        parts.steps.push(steps);
    }
    for of in &config.sinks {
        match of.build_sink() {
            Some(Ok(sink)) => parts.sinks.push(sink),
            Some(Err(mistake)) => wrong(&of.options, of.place, mistake),
            None => {}
        }
    }
    parts
}
