//! From the pipelines of a configuration to [`Pipeline`]s, new or in the place of others.
//!
//! A pipeline is made anew with every configuration, because it names its sinks and readers;
//! what it knows goes on: its books, and each step that is unchanged, with all it remembers,
//! wherever it stands by now.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::difference::is_same_step;
use crate::config::{Config, Feed, Pipeline as Wanted, Route as WantedRoute, StepConfig};
use crate::deferred::Failure;
use crate::pipeline::condition::Condition;
use crate::pipeline::graph::{LabelledStep, Pipeline, Route};
use crate::pipeline::guard::Guarded;
use crate::pipeline::port::Port;
use crate::pipeline::step::Step;

use super::workers::Seat;

/// A step of a pipeline that is about to be made.
pub(super) enum Stage {
    /// The one that stands there in the pipeline's former form.
    Kept(usize),
    /// A new one.
    Made(Box<dyn Step>),
}

/// A pipeline's form before: how it was wanted, and what it is.
#[derive(Clone, Copy)]
pub(super) struct Former<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) pipeline: &'a Rc<Pipeline>,
}

/// The steps of each pipeline, in the order of `new`: those of `old` that are unchanged, in
/// their order, and new ones for the rest.
///
/// # Errors
/// A step refused options that it took when the configuration was loaded.
pub(super) fn stages(seat: Seat, old: &Config, new: &Config) -> Result<Vec<Vec<Stage>>, Failure> {
    let is_here = |it: &&Wanted| seat.elsewhere_pipeline(it).is_none();
    let of_one = |wanted: &Wanted| {
        if !is_here(&wanted) {
            return Ok(Vec::new());
        }
        let mut former = old.pipelines.iter().filter(is_here);
        let former = former.find(|it| it.name == wanted.name);
        let former = former.map_or(&[][..], |former| &former.steps[..]);
        let mut from = 0;
        let mut stages = Vec::new();
        for step in &wanted.steps {
            let same = former[from..].iter().position(|it| is_same_step(it, step));
            stages.push(match same {
                Some(at) => {
                    from += at + 1;
                    Stage::Kept(from - 1)
                }
                None => Stage::Made(made(step)?),
            });
        }
        Ok(stages)
    };
    new.pipelines.iter().map(of_one).collect()
}

fn made(step: &StepConfig) -> Result<Box<dyn Step>, Failure> {
    match step.build() {
        Some(Ok(step)) => Ok(step),
        Some(Err(mistake)) => Err(Failure::msg(mistake.to_string())),
        None => Err(Failure::msg(format!("{} is no step", step.label))),
    }
}

/// The pipelines of `config`, by `ports`, each with the way to the reactor that has it, where it
/// is `elsewhere`. Those in `former` end here: their steps are taken.
pub(super) fn pipelines(
    config: &Config,
    stages: Vec<Vec<Stage>>,
    ports: &[Rc<Port>],
    elsewhere: &[Option<Rc<Port>>],
    former: &[Former<'_>],
) -> Vec<Rc<Pipeline>> {
    let by_name: HashMap<&str, &Rc<Port>> = ports.iter().map(|port| (port.name(), port)).collect();
    let find = |sink: &Arc<str>| {
        let port = by_name.get(&**sink);
        Rc::clone(port.expect("the wiring was checked when it was loaded"))
    };
    let make = |((wanted, stages), elsewhere): ((&Wanted, Vec<Stage>), &Option<Rc<Port>>)| {
        let stages = if elsewhere.is_some() {
            Vec::new()
        } else {
            stages
        };
        let former = former.iter().find(|it| it.wanted.name == wanted.name);
        let taken = former.map_or(Vec::new(), |former| former.pipeline.take_steps());
        let steps = labelled(wanted, stages, taken);
        let routes = wanted.to.iter().map(|to| route(to, find(&to.sink)));
        let routes = routes.collect();
        let errors_to = wanted.errors_to.as_ref().map(find);
        let made = match former {
            Some(former) => former.pipeline.succeeded_by(steps, routes, errors_to),
            None => Pipeline::new(&wanted.name, steps, routes, errors_to),
        };
        made.set_elsewhere(elsewhere.clone());
        made
    };
    let wanted = config.pipelines.iter().zip(stages).zip(elsewhere);
    let made: Vec<_> = wanted.map(make).collect();
    for (reader, of) in made.iter().zip(&config.pipelines) {
        for feed in &of.from {
            let Feed::Pipeline(name) = feed else { continue };
            let feeding = made.iter().find(|pipeline| pipeline.name() == &**name);
            let feeding = feeding.expect("the wiring was checked when it was loaded");
            feeding.feed(Rc::clone(reader));
        }
    }
    made
}

fn labelled(wanted: &Wanted, stages: Vec<Stage>, taken: Vec<LabelledStep>) -> Vec<LabelledStep> {
    let mut taken: Vec<Option<LabelledStep>> = taken.into_iter().map(Some).collect();
    let mut kept = |at: usize| {
        let step = taken.get_mut(at).and_then(Option::take);
        step.expect("a step is kept once, out of the pipeline that has it")
    };
    let label = |(of, stage): (&StepConfig, Stage)| {
        let label = of.label.as_ref().into();
        match stage {
            Stage::Kept(at) => LabelledStep { label, ..kept(at) },
            Stage::Made(step) => LabelledStep {
                label,
                step: guarded(step, of.condition.as_deref()),
                has_failed: false,
            },
        }
    };
    wanted.steps.iter().zip(stages).map(label).collect()
}

/// The step behind its `if`, where it has one.
fn guarded(step: Box<dyn Step>, condition: Option<&str>) -> Box<dyn Step> {
    match condition {
        Some(text) => Box::new(Guarded::new(compiled(text), step)),
        None => step,
    }
}

fn compiled(condition: &str) -> Condition {
    Condition::compile(condition).expect("it compiled when the configuration was loaded")
}

fn route(to: &WantedRoute, port: Rc<Port>) -> Route {
    Route {
        port,
        condition: to.condition.as_deref().map(compiled),
        required: to.required,
    }
}

/// The pipelines that read from the source.
pub(super) fn fed_by(
    config: &Config,
    pipelines: &[Rc<Pipeline>],
    source: &Arc<str>,
) -> Vec<Rc<Pipeline>> {
    let feed = Feed::Source(Arc::clone(source));
    let pairs = pipelines.iter().zip(&config.pipelines);
    let reading = pairs.filter(|(_, of)| of.from.contains(&feed));
    reading.map(|(pipeline, _)| Rc::clone(pipeline)).collect()
}
