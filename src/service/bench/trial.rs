//! One measurement: a daemon of so many reactors, from its start to its stop.
//!
//! The reactors, their threads, the daemon on each, the steps and the delivery are those of
//! `marline run`; what is missing is what an operator needs: signals, admin socket, metrics.
//! The script is a coroutine on the first reactor, which asks the others by orders: warm up,
//! count for a while, keep to a rate for a while, stop. After the stop everything that was sent
//! must be settled.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Parts;
use crate::deferred::{Deferred, Failure, try_join_all};
use crate::pipeline::memory::Memory;
use crate::reactor::{Exit, Handle, Phase};
use crate::service::assembly::{Daemon, StartError};
use crate::service::paths::Paths;
use crate::service::report::Report;
use crate::service::surroundings::{self, Common};
use crate::service::workers::{Crew, thread};
use crate::service::{EXIT_CUT, FINISH_MAX, Refusal, cli, give_up, memory_limit};
use crate::telemetry::tap::Tap;
use crate::time::{self, Clock, Duration, SystemClock};

use super::corpus::Corpus;
use super::histogram::Histogram;
use super::probe::{Probe, Sample};
use super::subject::Subject;

/// Before anything is counted: caches, pools and the allocator have what they need by then.
const WARM_UP: Duration = Duration::from_millis(500);
/// The longest that is spent on the latency.
const PACED_MAX: Duration = Duration::from_secs(2);
/// Lines a second, over all reactors, while the latency is measured.
pub const PACED_LINES_PER_SECOND: u32 = 10_000;

/// What all measurements have in common.
pub struct Setting {
    pub paths: Paths,
    pub tap: Arc<Tap>,
    /// How long lines are counted.
    pub duration: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    pub workers: usize,
    /// Lines a second that were settled, all reactors together.
    pub lines_per_second: f64,
    /// Processor time of the whole process for each of them.
    pub cpu_ns_per_line: f64,
    /// Processor time of the whole process in each second: how many cores it had.
    pub cores: f64,
    /// What sinks wrote for each of them, in bytes.
    pub encoded_bytes_per_line: f64,
    /// From handing over to settled, at [`PACED_LINES_PER_SECOND`].
    pub latency: Histogram,
    pub account: Account,
}

/// Why there are no figures.
pub enum Unmeasured {
    /// The daemon did not start.
    Refused(Refusal),
    /// It did, and something went wrong.
    Failed(Failure),
}

impl From<Refusal> for Unmeasured {
    fn from(refusal: Refusal) -> Self {
        Unmeasured::Refused(refusal)
    }
}

impl Unmeasured {
    /// Says why, and gives the exit code.
    pub fn report(self) -> u8 {
        match self {
            Unmeasured::Refused(refusal) => refusal.report(),
            Unmeasured::Failed(failure) => {
                cli::complain(&format!("error: {failure}\n"));
                EXIT_CUT
            }
        }
    }
}

/// Where all lines of a run are, from the first to the last, after its stop.
#[derive(Debug, Default)]
pub struct Account {
    /// Lines that were made, by the corpus.
    pub sent: u64,
    /// Lines that were found by the framer, and settled.
    pub settled: u64,
    /// Lines of deliveries that failed, because a sink drops what it has no room for.
    pub lost: u64,
    /// Events that sinks took and threw away.
    pub delivered: u64,
    /// Events that steps dropped.
    pub filtered: u64,
    /// Events that a step could make nothing of, by step.
    pub failed: Vec<(String, u64)>,
}

/// What is known before the stop.
struct Measured {
    begun: Vec<Sample>,
    ended: Vec<Sample>,
    cpu: Duration,
    latency: Histogram,
}

/// Measures `subject` on so many reactors.
///
/// # Errors
/// The daemon does not start, or no line came through.
pub fn run(subject: &Subject, workers: usize, setting: &Setting) -> Result<Figures, Unmeasured> {
    let config = subject.config_for(workers);
    let parts: Parts = config
        .build()
        .map_err(|mistake| failed(Failure::new(mistake)))?;
    let mut reactor = surroundings::reactor(&config)?;
    let handle = reactor.handle();
    let corpus = Arc::new(Corpus::new(subject.look, SystemClock::new().wall()));
    let common = Common {
        paths: setting.paths.clone(),
        tap: Arc::clone(&setting.tap),
        memory: Memory::new(memory_limit::of(&config.daemon)),
        places: Arc::default(),
        lend: Some(Probe::lend(&corpus)),
    };
    let (crew, threads) = thread::gather(&handle, &config, &common)?;
    let world = surroundings::world(&handle, Rc::clone(&crew), &common)?;
    let daemon = Daemon::new(config, parts, world).map_err(Refusal::Component)?;
    if let Err(refusal) = threads.start_with(&daemon) {
        give_up(&mut reactor, &daemon, &threads);
        return Err(refusal.into());
    }
    plan_stop(&handle, &crew);
    let outcome = begin(&handle, &crew, setting.duration);
    let ended = reactor.run();
    ended.map_err(|error| Unmeasured::Failed(Failure::new(error)))?;
    let report = threads.last_report(&daemon, FINISH_MAX);
    let early = || Err(Failure::msg("a component panicked"));
    let measured = outcome.take().unwrap_or_else(early);
    let figures = measured.and_then(|(measured, rest)| {
        let account = account(&report, &rest);
        figures(workers, measured, account)
    });
    figures.map_err(Unmeasured::Failed)
}

/// A component refuses options that it took when the configuration was read.
fn failed(failure: Failure) -> Refusal {
    let component = "bench".to_owned();
    Refusal::Component(StartError { component, failure })
}

/// As the daemon does when it is stopped.
fn plan_stop(handle: &Handle, crew: &Rc<Crew>) {
    let stopping = Rc::clone(crew);
    handle.on_shutdown(Phase::Before, "drain", move |_| {
        let crew = Rc::clone(&stopping);
        stopping.drain().add_both(move |_| crew.finish())
    });
    let crew = Rc::clone(crew);
    handle.on_shutdown(Phase::After, "workers", move |_| {
        crew.dismiss();
        Deferred::ready(())
    });
}

/// What was measured, and what all reactors had sent and settled when they were at rest.
type Outcome = Rc<RefCell<Option<Result<(Measured, Vec<Sample>), Failure>>>>;

/// Measures, from the first turn on, then stops the reactor.
fn begin(handle: &Handle, crew: &Rc<Crew>, duration: Duration) -> Outcome {
    let outcome = Outcome::default();
    let (kept, crew) = (Rc::clone(&outcome), Rc::clone(crew));
    handle.call_when_running(move |handle| {
        let script = handle.spawn(script(handle.clone(), crew, duration));
        let handle = handle.clone();
        drop(script.add_both(move |result| {
            *kept.borrow_mut() = Some(result);
            handle.stop(Exit::Stopped);
        }));
    });
    outcome
}

async fn script(
    handle: Handle,
    crew: Rc<Crew>,
    duration: Duration,
) -> Result<(Measured, Vec<Sample>), Failure> {
    pause(&handle, WARM_UP.min(duration)).await?;
    let begun = samples(&crew).await?;
    let cpu = time::process_cpu();
    pause(&handle, duration).await?;
    let ended = samples(&crew).await?;
    let cpu = time::process_cpu() - cpu;
    let share = f64::from(PACED_LINES_PER_SECOND) / begun.len() as f64;
    each(&crew, move |probe| {
        let generator = probe.generator.borrow().upgrade();
        generator.iter().for_each(|it| it.keep_to(share));
    })
    .await?;
    pause(&handle, PACED_MAX.min(duration)).await?;
    each(&crew, |probe| {
        let generator = probe.generator.borrow().upgrade();
        generator.iter().for_each(|it| it.rest());
    })
    .await?;
    settled(&handle, &crew).await?;
    let mut latency = Histogram::default();
    for of_one in each(&crew, Probe::take_latency).await? {
        latency.merge(&of_one);
    }
    let measured = Measured {
        begun,
        ended,
        cpu,
        latency,
    };
    Ok((measured, samples(&crew).await?))
}

/// How often one looks whether everything is settled.
const SETTLE_LOOK: Duration = Duration::from_millis(2);
/// So many looks at most: what is not settled then never is.
const SETTLE_LOOKS_MAX: u32 = 5_000;

/// Waits until nothing is on its way, the generators being at rest.
async fn settled(handle: &Handle, crew: &Rc<Crew>) -> Result<(), Failure> {
    for _ in 0..SETTLE_LOOKS_MAX {
        let all = samples(crew).await?;
        if all.iter().all(|it| it.sent == it.settled + it.lost) {
            return Ok(());
        }
        pause(handle, SETTLE_LOOK).await?;
    }
    Err(Failure::msg("lines were sent that were never settled"))
}

fn pause(handle: &Handle, delay: Duration) -> Deferred<()> {
    handle.defer_later(delay, |_| ())
}

/// The counts of all reactors.
fn samples(crew: &Rc<Crew>) -> Deferred<Vec<Sample>> {
    let look = |daemon: &Rc<Daemon>| {
        let at = daemon.network().reactor().fresh();
        Deferred::ready(Probe::of(daemon).sample(at))
    };
    try_join_all(crew.ask_all(look))
}

/// Calls every reactor's probe.
fn each<T: Send + 'static>(
    crew: &Rc<Crew>,
    call: impl Fn(&Probe) -> T + Clone + Send + 'static,
) -> Deferred<Vec<T>> {
    let order = move |daemon: &Rc<Daemon>| Deferred::ready(call(&Probe::of(daemon)));
    try_join_all(crew.ask_all(order))
}

fn figures(workers: usize, measured: Measured, account: Account) -> Result<Figures, Failure> {
    let Measured {
        begun,
        ended,
        cpu,
        latency,
    } = measured;
    // Each reactor by its own clock.
    let spans = || begun.iter().zip(&ended);
    let lines: u64 = spans().map(|(a, b)| b.settled - a.settled).sum();
    let bytes: u64 = spans()
        .map(|(a, b)| b.encoded_bytes - a.encoded_bytes)
        .sum();
    let rate = |(a, b): (&Sample, &Sample)| {
        (b.settled - a.settled) as f64 / b.at.since(a.at).as_secs_f64()
    };
    let seconds: f64 = spans().map(|(a, b)| b.at.since(a.at).as_secs_f64()).sum();
    if lines == 0 {
        return Err(Failure::msg(
            "no line came through in the time that was measured",
        ));
    }
    Ok(Figures {
        workers,
        lines_per_second: spans().map(rate).sum(),
        cpu_ns_per_line: cpu.as_nanos() as f64 / lines as f64,
        cores: cpu.as_secs_f64() * workers as f64 / seconds,
        encoded_bytes_per_line: bytes as f64 / lines as f64,
        latency,
        account,
    })
}

/// What the books say, beside what the generators know.
fn account(report: &Report, rest: &[Sample]) -> Account {
    let mut account = Account {
        sent: rest.iter().map(|it| it.sent).sum(),
        settled: rest.iter().map(|it| it.settled).sum(),
        lost: rest.iter().map(|it| it.lost).sum(),
        ..Account::default()
    };
    for pipeline in &report.pipelines {
        account.filtered += pipeline.books.filtered.values().sum::<u64>();
        let failed = pipeline.books.failed.iter();
        let failed = failed.filter(|(_, events)| **events > 0);
        let named = failed.map(|(step, events)| (step.to_string(), *events));
        account.failed.extend(named);
    }
    let ports = report.ports.iter();
    account.delivered = ports.map(|port| port.books.delivered).sum();
    account
}
