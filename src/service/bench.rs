//! `marline bench`: generator, pipeline and sink in one process, to size a machine by.
//!
//! A measurement ([`trial`]) is a whole daemon of one or more reactors; what it runs
//! ([`subject`]) is a pipeline of a configuration or a built-in one, with a source
//! ([`generator`]) and sinks ([`sink`]) that no user can name. [`probe`] has the counts.
//! Nothing is bound, dialled, locked or written, so that it may run beside a daemon.

mod corpus;
mod generator;
mod histogram;
mod probe;
mod sink;
mod subject;
mod table;
mod trial;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;

use clap::Args;

use crate::config::{Environment, Purpose};
use crate::reactor::start_thread;
use crate::telemetry::{self, Guard, Level};
use crate::time::Duration;

use super::cli::{self, EXIT_CONFIG, EXIT_USAGE, answer, complain};
use super::paths::Paths;
use super::{EXIT_CUT, log_options};
use corpus::Look;
use subject::Subject;
use trial::{Setting, Unmeasured};

/// What is measured, and how long.
#[derive(Args, Debug)]
pub(super) struct BenchArguments {
    /// Measure a pipeline of this configuration; without it, a few of the usual kinds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which pipeline, where the configuration has several
    #[arg(long, value_name = "NAME", requires = "config")]
    pipeline: Option<String>,
    /// Reactors, or `auto` for one per core; without it, one, and then one per core
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,
    /// How many seconds each measurement counts lines
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = duration)]
    seconds: Duration,
    /// The lines that are made up; without --config also the only kind that is measured
    #[arg(long, value_enum)]
    corpus: Option<Look>,
    /// Print a line of JSON for each measurement in place of a table
    #[arg(long)]
    json: bool,
}

/// As `daemon.workers`.
const WORKERS_MAX: usize = 1024;

fn workers(text: &str) -> Result<usize, String> {
    if text == "auto" {
        return Ok(cores());
    }
    let count = text.parse().ok();
    let count = count.filter(|count| (1..=WORKERS_MAX).contains(count));
    count.ok_or_else(|| format!("expected 1 to {WORKERS_MAX}, or auto"))
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The shortest and the longest time that lines are counted.
const SECONDS: std::ops::RangeInclusive<f64> = 0.05..=3600.0;

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| SECONDS.contains(seconds));
    let seconds = seconds.map(Duration::from_secs_f64);
    seconds.ok_or_else(|| format!("expected {} to {}", SECONDS.start(), SECONDS.end()))
}

/// Measures and shows it; gives the exit code.
pub(super) fn main(arguments: &BenchArguments, env: Environment<'_>) -> u8 {
    let subjects = match subjects(arguments, env) {
        Ok(subjects) => subjects,
        Err(code) => return code,
    };
    let Some(first) = subjects.first() else {
        return EXIT_USAGE;
    };
    let guard = match start_log(first) {
        Ok(guard) => guard,
        Err(code) => return code,
    };
    let setting = Setting {
        paths: Paths::of(&first.config.daemon, env, false),
        tap: guard.tap(),
        duration: arguments.seconds,
    };
    let show = Show {
        is_json: arguments.json,
    };
    show.head(&subjects);
    let counts = match arguments.workers {
        Some(count) => vec![count],
        None if cores() == 1 => vec![1],
        None => vec![1, cores()],
    };
    let measured = subjects
        .iter()
        .try_for_each(|subject| measure(subject, &counts, &setting, &show));
    let code = match measured {
        Ok(()) => show.foot(),
        Err(unmeasured) => unmeasured.report(),
    };
    drop(guard);
    code
}

/// What is to be measured, or the exit code where that is a mistake.
fn subjects(arguments: &BenchArguments, env: Environment<'_>) -> Result<Vec<Subject>, u8> {
    let Some(path) = &arguments.config else {
        let looks = arguments.corpus.map_or(Look::ALL.to_vec(), |it| vec![it]);
        let subjects = looks.into_iter().map(Subject::built_in);
        return subjects.collect::<Result<_, _>>().map_err(|report| {
            complain(&report);
            EXIT_CUT
        });
    };
    let (_, loaded) = cli::load(Some(path.clone()), env, Purpose::Check)?;
    complain(&loaded.report);
    let Some((config, _)) = loaded.config else {
        return Err(EXIT_CONFIG);
    };
    let subject = Subject::of(&config, arguments.pipeline.as_deref(), arguments.corpus);
    subject.map(|subject| vec![subject]).map_err(|why| {
        complain(&format!("error: {why}\n"));
        EXIT_USAGE
    })
}

/// Warnings and errors go to standard error: a step may be of no use for the lines. That a turn
/// took long is no news on a machine that is kept busy.
fn start_log(first: &Subject) -> Result<Guard, u8> {
    let options = telemetry::Options {
        level: Level::Warn,
        levels: vec![("reactor".to_owned(), Level::Error)],
        ..log_options(&first.config)
    };
    let spawn = |name: &'static str, body| start_thread(name.into(), body).map(drop);
    telemetry::init(options, spawn).map_err(|error| {
        complain(&format!("error: {error}\n"));
        EXIT_CUT
    })
}

/// One pipeline with each number of reactors.
fn measure(
    subject: &Subject,
    counts: &[usize],
    setting: &Setting,
    show: &Show,
) -> Result<(), Unmeasured> {
    let mut one = None;
    for count in counts {
        let figures = trial::run(subject, *count, setting)?;
        if *count == 1 {
            one = Some(figures.lines_per_second);
        }
        show.figures(subject, &figures, one);
    }
    Ok(())
}

/// How it is shown.
struct Show {
    is_json: bool,
}

impl Show {
    fn head(&self, subjects: &[Subject]) {
        if self.is_json {
            return;
        }
        for about in subjects.iter().filter_map(|it| it.about.as_ref()) {
            answer(&format!("{about}\n\n"));
        }
        answer(&table::head());
    }

    fn figures(&self, subject: &Subject, figures: &trial::Figures, one: Option<f64>) {
        let text = match self.is_json {
            true => table::json_line(&subject.name, subject.look, figures, one),
            false => table::row(&subject.name, figures, one) + &table::failures(figures),
        };
        answer(&text);
    }

    /// The exit code of a good end.
    fn foot(&self) -> u8 {
        match self.is_json {
            true => 0,
            false => answer(&table::foot()),
        }
    }
}
