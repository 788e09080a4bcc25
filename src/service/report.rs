//! How one reactor's part of the daemon is, as plain data that can go to another thread.
//!
//! The status, the metrics and the books in the log are made of a [`Report`] alone; nothing of
//! the daemon is looked at beside it. Every reactor reports for itself, and [`Report::merge`]
//! (`report/merge.rs`) makes one report of two, as if one daemon had given it.
//!
//! A report is taken at one instant of its reactor: both ledgers balance in it, and in a sum of
//! such reports too. It holds spans of time and no instants, for every reactor has a clock of
//! its own.

mod merge;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Config;
use crate::deferred::{self, Deferred};
use crate::pipeline::blocked::Blocked;
use crate::pipeline::graph::Pipeline;
use crate::pipeline::health::Trouble;
use crate::pipeline::intake::Flow;
use crate::pipeline::part::Stage;
use crate::pipeline::port::Port;
use crate::pipeline::queue::WhenFull;
use crate::reactor::{Handle, Stats};
use crate::time::{Duration, Instant, WallTime};

use super::assembly::{Daemon, Described};
use super::books::{PipelineBooks, SinkBooks};

/// Entries of a list that grows with the load.
pub const LIST_MAX: usize = 1000;

/// Who is asked for a report; the question is whether it is to tell what goes on inside, too.
pub type Ask = Box<dyn Fn(bool) -> Deferred<Report>>;

/// Everything that is shown of one reactor, or of several together.
#[derive(Debug, Default)]
pub struct Report {
    /// The sources of the configuration.
    pub sources: Vec<Described>,
    /// How sources stand with their sinks, in the order in which they started.
    pub flows: Vec<FlowReport>,
    /// Those of the configuration come first, in its order.
    pub pipelines: Vec<PipelineReport>,
    /// The sinks of the configuration.
    pub sinks: Vec<Described>,
    /// The ways into sinks; also into those that are going.
    pub ports: Vec<PortReport>,
    /// What the reactor has done and holds.
    pub reactor: Stats,
    /// What goes on inside, where somebody asked for it.
    pub inside: Option<Inside>,
}

/// How one source stands with its sinks.
#[derive(Debug)]
pub struct FlowReport {
    /// The source's name.
    pub name: String,
    /// The source is going: it is in the configuration no more, or as another one.
    pub is_former: bool,
    /// The stage at which it acknowledges.
    pub stage: Stage,
    /// Events handed over.
    pub received_events: u64,
    /// Bytes handed over and not settled yet.
    pub outstanding_bytes: u64,
    /// Batches that wait for room in their sinks.
    pub waiting_batches: u64,
    /// The standstill, if there is one.
    pub blocked: Option<Blocked>,
    /// The sinks that can hold it up, each with the word of the wiring that says so.
    pub stoppers: Vec<(String, &'static str)>,
}

/// The books of one pipeline.
#[derive(Debug)]
pub struct PipelineReport {
    /// Its name.
    pub name: String,
    /// It is in the configuration no more, and something still goes through it.
    pub is_former: bool,
    /// Its ledger.
    pub books: PipelineBooks,
}

/// The way into one sink.
#[derive(Debug)]
pub struct PortReport {
    /// The sink's name.
    pub name: String,
    /// Its ledger.
    pub books: SinkBooks,
    /// What holds what waits for it.
    pub buffer: BufferReport,
    /// What keeps the sink from delivering, beside its buffer.
    pub trouble: Option<TroubleReport>,
    /// What went wrong last, mended or not, and when.
    pub last_error: Option<(WallTime, String)>,
    /// Age of the newest event that has arrived, while others wait.
    pub lag: Duration,
    /// Events in it that the end of the process would lose.
    pub volatile_events: u64,
    /// Another reactor has the sink, and its buffer.
    pub is_relay: bool,
}

/// The buffer of one sink.
#[derive(Debug)]
pub struct BufferReport {
    /// Whether it is on disk.
    pub is_disk: bool,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// Why nothing can be made durable now.
    pub failure: Option<String>,
    /// What it holds.
    pub held_bytes: u64,
    /// Its size.
    pub capacity_bytes: u64,
}

/// What keeps a sink from delivering.
#[derive(Debug)]
pub struct TroubleReport {
    /// What it said last.
    pub why: String,
    /// How long it has failed.
    pub lasts: Duration,
    /// Attempts that have failed since.
    pub failures: u64,
    /// How soon it is tried again, if that is decided.
    pub next_try: Option<Duration>,
}

/// What goes on inside, for people who look for a fault.
#[derive(Debug, Default)]
pub struct Inside {
    /// Timers by the place in the code where they were set: there are few of those.
    pub timers: BTreeMap<String, TimersReport>,
    /// Named Deferreds without a result, by name and place.
    pub pending: BTreeMap<(String, String), PendingReport>,
    /// Unfinished jobs, by pool and label.
    pub jobs: BTreeMap<(String, &'static str), u64>,
    /// Peers of open connections, each with its source's label; [`LIST_MAX`] at most.
    pub peers: Vec<(String, String)>,
}

/// The timers of one place.
#[derive(Debug)]
pub struct TimersReport {
    /// How many are pending.
    pub count: u64,
    /// How soon the first of them is due.
    pub next: Duration,
}

/// The Deferreds of one name.
#[derive(Debug, Default)]
pub struct PendingReport {
    /// How many have no result.
    pub count: u64,
    /// How long the oldest has waited.
    pub oldest: Duration,
    /// The failure of one of them that nobody has looked at.
    pub failed: Option<String>,
}

impl Report {
    /// The report of what the reactor of `daemon` has; with `debug` also what goes on inside.
    pub fn of(daemon: &Daemon, debug: bool) -> Report {
        let network = daemon.network();
        let reactor = network.reactor();
        let sources = daemon.describe_sources();
        let flows = flows(daemon, &sources);
        let of_today = daemon.pipelines().len();
        let pipelines = daemon.all_pipelines();
        let pipelines = pipelines.iter().enumerate();
        let pipelines = pipelines.filter(|(_, it)| it.elsewhere().is_none());
        let pipelines = pipelines.map(|(at, it)| PipelineReport::of(it, at >= of_today));
        let ports = daemon.ports();
        let ports = ports.iter().filter(|port| !port.is_relay());
        let ports = ports.map(|port| PortReport::of(port, reactor));
        Report {
            sources,
            flows,
            pipelines: pipelines.collect(),
            sinks: daemon.describe_sinks(),
            ports: ports.collect(),
            reactor: reactor.stats(),
            inside: debug.then(|| Inside::of(daemon, reactor)),
        }
    }

    /// The report of what it hands over to other reactors.
    pub fn of_relays(daemon: &Daemon) -> Report {
        let network = daemon.network();
        let reactor = network.reactor();
        let of_today = daemon.pipelines().len();
        let pipelines = daemon.all_pipelines();
        let pipelines = pipelines.iter().enumerate();
        let pipelines = pipelines.filter_map(|(at, it)| {
            let books = PipelineBooks::of_relay(it.ledger(), it.elsewhere()?.ledger());
            Some(PipelineReport {
                name: it.name().to_owned(),
                is_former: at >= of_today,
                books,
            })
        });
        let of_pipelines: Vec<_> = daemon.relay_ports();
        let ports = daemon.ports();
        let ports = ports.iter().filter(|port| {
            let is_of_pipeline = of_pipelines.iter().any(|it| Rc::ptr_eq(it, port));
            port.is_relay() && !is_of_pipeline
        });
        Report {
            pipelines: pipelines.collect(),
            ports: ports.map(|port| PortReport::of(port, reactor)).collect(),
            ..Report::default()
        }
    }

    /// Once all reactors are in it: what one handed to another counts once.
    pub(super) fn settle(&mut self) {
        for pipeline in &mut self.pipelines {
            pipeline.books.settle();
        }
        for port in &mut self.ports {
            port.books.settle();
        }
    }

    /// Puts everything into the order of the configuration; what is not in it comes last.
    pub(super) fn arrange(&mut self, config: &Config) {
        fn by<'a>(mut names: impl Iterator<Item = &'a Arc<str>>, name: &str) -> usize {
            names.position(|it| **it == *name).unwrap_or(usize::MAX)
        }
        let source = |name: &str| by(config.sources.iter().map(|of| &of.name), name);
        let pipeline = |name: &str| by(config.pipelines.iter().map(|of| &of.name), name);
        let sink = |name: &str| by(config.sinks.iter().map(|of| &of.name), name);
        self.sources.sort_by_key(|it| source(&it.name));
        self.pipelines
            .sort_by_key(|it| (it.is_former, pipeline(&it.name)));
        self.ports.sort_by_key(|it| sink(&it.name));
    }

    /// Events that the end of the process would lose, over all sinks and pipelines.
    pub fn open_events(&self) -> u64 {
        let in_sinks = self.ports.iter().map(|port| port.volatile_events);
        let waiting = self.pipelines.iter().map(|it| it.books.in_flight);
        in_sinks.chain(waiting).sum()
    }
}

/// Of several sources of a name the last is that of the configuration, if it has one.
fn flows(daemon: &Daemon, sources: &[Described]) -> Vec<FlowReport> {
    let flows = daemon.flows();
    let is_former = |at: usize, flow: &Flow| {
        let mut later = flows[at + 1..].iter();
        later.any(|other| other.name == flow.name)
            || !sources.iter().any(|source| *source.name == *flow.name)
    };
    let all = flows.iter().enumerate();
    all.map(|(at, flow)| FlowReport::of(flow, is_former(at, flow)))
        .collect()
}

impl FlowReport {
    fn of(flow: &Flow, is_former: bool) -> FlowReport {
        let stoppers = flow.stoppers.iter();
        FlowReport {
            name: flow.name.to_string(),
            is_former,
            stage: flow.stage,
            received_events: flow.received_events,
            outstanding_bytes: flow.outstanding_bytes,
            waiting_batches: flow.waiting_batches,
            blocked: flow.blocked.clone(),
            stoppers: stoppers
                .map(|stopper| (stopper.port.name().to_owned(), stopper.why.word()))
                .collect(),
        }
    }
}

impl PipelineReport {
    fn of(pipeline: &Pipeline, is_former: bool) -> PipelineReport {
        PipelineReport {
            name: pipeline.name().to_owned(),
            is_former,
            books: PipelineBooks::of(pipeline.ledger()),
        }
    }
}

impl PortReport {
    fn of(port: &Port, reactor: &Handle) -> PortReport {
        let now = reactor.now();
        let trouble = port.trouble_details();
        let last_error = port.last_error();
        PortReport {
            name: port.name().to_owned(),
            books: SinkBooks::of(port.ledger()),
            buffer: BufferReport::of(port),
            trouble: trouble.map(|trouble| TroubleReport::of(&trouble, now)),
            last_error: last_error.map(|error| (error.at, error.why.to_string())),
            lag: port.lag(reactor.wall()),
            volatile_events: port.volatile_events(),
            is_relay: port.is_relay(),
        }
    }

    /// Whether nothing is known to be wrong, with the sink or with its buffer.
    pub fn is_up(&self) -> bool {
        self.trouble.is_none() && self.buffer.failure.is_none()
    }
}

impl BufferReport {
    fn of(port: &Port) -> BufferReport {
        let queue = port.queue();
        BufferReport {
            is_disk: queue.is_disk(),
            when_full: port.when_full(),
            failure: queue.failure().map(|why| why.to_string()),
            held_bytes: port.held_bytes(),
            capacity_bytes: port.capacity_bytes(),
        }
    }
}

impl TroubleReport {
    fn of(trouble: &Trouble, now: Instant) -> TroubleReport {
        TroubleReport {
            why: trouble.why.to_string(),
            lasts: now.since(trouble.since),
            failures: trouble.failures,
            next_try: trouble.next_try.map(|next| next.since(now)),
        }
    }
}

impl Inside {
    fn of(daemon: &Daemon, reactor: &Handle) -> Inside {
        Inside {
            timers: timers(reactor),
            pending: pending(reactor),
            jobs: jobs(reactor),
            peers: daemon.peers(LIST_MAX),
        }
    }
}

fn timers(reactor: &Handle) -> BTreeMap<String, TimersReport> {
    let now = reactor.now();
    let mut by_place: BTreeMap<String, TimersReport> = BTreeMap::new();
    for timer in reactor.pending_timers() {
        let next = timer.deadline.since(now);
        let entry = by_place.entry(timer.at.to_string());
        let entry = entry.or_insert(TimersReport { count: 0, next });
        entry.count += 1;
        entry.next = entry.next.min(next);
    }
    by_place
}

fn pending(reactor: &Handle) -> BTreeMap<(String, String), PendingReport> {
    let now = reactor.now();
    let mut by_name: BTreeMap<(String, String), PendingReport> = BTreeMap::new();
    for one in deferred::pending() {
        let key = (one.name, one.place.to_string());
        let entry = by_name.entry(key).or_default();
        entry.count += 1;
        entry.oldest = entry.oldest.max(now.since(one.since));
        entry.failed = one.failed.or(entry.failed.take());
    }
    by_name
}

fn jobs(reactor: &Handle) -> BTreeMap<(String, &'static str), u64> {
    let mut by_label = BTreeMap::new();
    for (pool, label) in reactor.pending_jobs() {
        let pool = format!("{pool:?}").to_lowercase();
        *by_label.entry((pool, label)).or_default() += 1;
    }
    by_label
}
