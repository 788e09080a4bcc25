//! Both ledgers of every component as plain numbers, and as they are written into the log.
//!
//! They are written when somebody asks (SIGUSR2), when a component goes, and at the end. What is
//! taken of a ledger is listed once, in [`PipelineBooks::of`] and [`SinkBooks::of`]: the status
//! and the metrics show the same copies. These are plain, so that they can go to another thread,
//! and those of one component on several threads can be added up.

use crate::deferred::Failure;
use crate::pipeline::graph::Pipeline;
use crate::pipeline::host::Account;
use crate::pipeline::ledger::{PipelineLedger, SinkLedger, Tally};
use crate::pipeline::port::Port;
use crate::pipeline::queue::SHUTDOWN;
use crate::telemetry::events::{Amounts, CountsMissing, PipelineCounts, SinkCounts};

use super::report::Report;

/// A copy of a pipeline's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineBooks {
    pub received: u64,
    pub produced: u64,
    pub passed: u64,
    pub filtered: Tally,
    pub dropped: Tally,
    pub dead_lettered: u64,
    pub in_flight: u64,
    /// Events that went over to another reactor; nothing once the books are settled.
    pub handed: u64,
    /// Events that came from another reactor (not an account, like those below).
    pub taken_over: u64,
    pub failed: Tally,
}

impl PipelineBooks {
    /// What the ledger says now.
    pub fn of(books: &PipelineLedger) -> PipelineBooks {
        PipelineBooks {
            received: books.received.get(),
            produced: books.produced.get(),
            passed: books.passed.get(),
            filtered: books.filtered.snapshot(),
            dropped: books.dropped.snapshot(),
            dead_lettered: books.dead_lettered.get(),
            in_flight: books.in_flight.get(),
            handed: 0,
            taken_over: books.taken_over.get(),
            failed: books.failed.snapshot(),
        }
    }

    /// Of a pipeline that another reactor has: what was received here, and went through `way`.
    pub fn of_relay(here: &PipelineLedger, way: &SinkLedger) -> PipelineBooks {
        PipelineBooks {
            received: here.received.get(),
            dropped: {
                let mut dropped = here.dropped.snapshot();
                add_tally(&mut dropped, way.dropped.snapshot());
                dropped
            },
            in_flight: here.in_flight.get() + way.open(),
            handed: way.handed.get(),
            ..PipelineBooks::default()
        }
    }

    /// Once those of all reactors are in them: what went from one to another counts once.
    pub fn settle(&mut self) {
        // Less than nothing only where a reactor has not reported.
        let on_its_way = self.taken_over.saturating_sub(self.handed);
        self.received = self.received.saturating_sub(self.taken_over);
        self.in_flight = self.in_flight.saturating_sub(on_its_way);
        (self.handed, self.taken_over) = (0, 0);
    }

    /// Those of the same pipeline elsewhere come on top.
    pub fn add(&mut self, other: PipelineBooks) {
        self.received += other.received;
        self.produced += other.produced;
        self.passed += other.passed;
        add_tally(&mut self.filtered, other.filtered);
        add_tally(&mut self.dropped, other.dropped);
        self.dead_lettered += other.dead_lettered;
        self.in_flight += other.in_flight;
        self.handed += other.handed;
        self.taken_over += other.taken_over;
        add_tally(&mut self.failed, other.failed);
    }

    /// Writes them into the log.
    pub fn log(&self, pipeline: &str) {
        let record = PipelineCounts {
            pipeline,
            received: self.received,
            produced: self.produced,
            passed: self.passed,
            filtered: Amounts(&pairs(&self.filtered)),
            dropped: Amounts(&pairs(&self.dropped)),
            dead_lettered: self.dead_lettered,
            in_flight: self.in_flight,
            errors: total(&self.failed),
        };
        record.log();
    }

    fn account(&self, pipeline: &str) -> Account {
        Account {
            component: format!("pipeline.{pipeline}"),
            counts: vec![
                ("received", self.received),
                ("produced", self.produced),
                ("passed", self.passed),
                ("filtered", total(&self.filtered)),
                ("dropped", total(&self.dropped)),
                ("dead_lettered", self.dead_lettered),
                ("in_flight", self.in_flight),
                ("errors", total(&self.failed)),
            ],
            parts: vec![
                ("filtered_by", self.filtered.clone()),
                ("dropped_by", self.dropped.clone()),
            ],
        }
    }
}

/// A copy of a sink's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkBooks {
    pub accepted: u64,
    pub recovered: u64,
    pub delivered: u64,
    pub dropped: Tally,
    pub dead_lettered: u64,
    pub buffered: u64,
    pub in_flight: u64,
    /// As in [`PipelineBooks`].
    pub handed: u64,
    /// Not an account, like those below.
    pub taken_over: u64,
    pub delivered_bytes: u64,
    pub retries: u64,
    pub replayed: u64,
}

impl SinkBooks {
    /// What the ledger says now.
    pub fn of(books: &SinkLedger) -> SinkBooks {
        SinkBooks {
            accepted: books.accepted.get(),
            recovered: books.recovered.get(),
            delivered: books.delivered.get(),
            dropped: books.dropped.snapshot(),
            dead_lettered: books.dead_lettered.get(),
            buffered: books.buffered.get(),
            in_flight: books.in_flight.get(),
            handed: books.handed.get(),
            taken_over: books.taken_over.get(),
            delivered_bytes: books.delivered_bytes.get(),
            retries: books.retries.get(),
            replayed: books.replayed.get(),
        }
    }

    /// Those of the same sink elsewhere come on top.
    pub fn add(&mut self, other: SinkBooks) {
        self.accepted += other.accepted;
        self.recovered += other.recovered;
        self.delivered += other.delivered;
        add_tally(&mut self.dropped, other.dropped);
        self.dead_lettered += other.dead_lettered;
        self.buffered += other.buffered;
        self.in_flight += other.in_flight;
        self.handed += other.handed;
        self.taken_over += other.taken_over;
        self.delivered_bytes += other.delivered_bytes;
        self.retries += other.retries;
        self.replayed += other.replayed;
    }

    /// As [`PipelineBooks::settle`].
    pub fn settle(&mut self) {
        let on_its_way = self.taken_over.saturating_sub(self.handed);
        self.accepted = self.accepted.saturating_sub(self.taken_over);
        self.in_flight = self.in_flight.saturating_sub(on_its_way);
        (self.handed, self.taken_over) = (0, 0);
    }

    /// Writes them into the log.
    pub fn log(&self, sink: &str) {
        let record = SinkCounts {
            sink,
            accepted: self.accepted,
            recovered: self.recovered,
            delivered: self.delivered,
            dropped: Amounts(&pairs(&self.dropped)),
            dead_lettered: self.dead_lettered,
            buffered: self.buffered,
            in_flight: self.in_flight,
            retries: self.retries,
            replayed: self.replayed,
        };
        record.log();
    }

    fn account(&self, sink: &str) -> Account {
        Account {
            component: format!("sink.{sink}"),
            counts: vec![
                ("accepted", self.accepted),
                ("recovered", self.recovered),
                ("delivered", self.delivered),
                ("dropped", total(&self.dropped)),
                ("dead_lettered", self.dead_lettered),
                ("buffered", self.buffered),
                ("in_flight", self.in_flight),
                ("retries", self.retries),
                ("replayed", self.replayed),
            ],
            parts: vec![("dropped_by", self.dropped.clone())],
        }
    }
}

/// Writes a pipeline's ledger into the log.
pub(super) fn log_pipeline(pipeline: &Pipeline) {
    PipelineBooks::of(pipeline.ledger()).log(pipeline.name());
}

/// Writes a sink's ledger into the log.
pub(super) fn log_sink(port: &Port) {
    SinkBooks::of(port.ledger()).log(port.name());
}

/// Writes the books of all pipelines and sinks into the log.
pub(super) fn log(report: &Report) {
    for pipeline in &report.pipelines {
        pipeline.books.log(&pipeline.name);
    }
    for port in &report.ports {
        port.books.log(&port.name);
    }
}

/// The books of all pipelines and sinks as numbers, under the names that they have in the log.
pub(super) fn accounts(report: &Report) -> Vec<Account> {
    let pipelines = report.pipelines.iter();
    let pipelines = pipelines.map(|pipeline| pipeline.books.account(&pipeline.name));
    let ports = report.ports.iter();
    pipelines
        .chain(ports.map(|port| port.books.account(&port.name)))
        .collect()
}

/// The books for whoever asked for them; that they are not to be had is said in the log.
pub(super) fn told(report: Result<Report, Failure>) -> Result<Vec<Account>, Failure> {
    let accounts = report.map(|report| accounts(&report));
    accounts.inspect_err(|why| CountsMissing { why }.log())
}

/// What the books say was lost by stopping.
pub(super) fn cut_off(report: &Report) -> u64 {
    let of_pipelines = report.pipelines.iter().map(|it| &it.books.dropped);
    let of_sinks = report.ports.iter().map(|it| &it.books.dropped);
    let dropped = of_pipelines.chain(of_sinks);
    dropped.filter_map(|tally| tally.get(SHUTDOWN)).sum()
}

fn add_tally(tally: &mut Tally, other: Tally) {
    for (name, count) in other {
        *tally.entry(name).or_default() += count;
    }
}

fn total(tally: &Tally) -> u64 {
    tally.values().sum()
}

fn pairs(tally: &Tally) -> Vec<(&str, u64)> {
    tally
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect()
}
