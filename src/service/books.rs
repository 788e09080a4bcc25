//! Both ledgers of every component, as they are written into the log.
//!
//! They are written when somebody asks (SIGUSR2), when a component goes, and at the end.

use crate::pipeline::graph::Pipeline;
use crate::pipeline::host::Account;
use crate::pipeline::ledger::Tally;
use crate::pipeline::port::Port;
use crate::telemetry::events::{Amounts, PipelineCounts, SinkCounts};

use super::assembly::Daemon;

/// Writes a pipeline's ledger into the log.
pub(super) fn log_pipeline(pipeline: &Pipeline) {
    let books = pipeline.ledger();
    let (filtered, dropped) = (books.filtered.snapshot(), books.dropped.snapshot());
    let record = PipelineCounts {
        pipeline: pipeline.name(),
        received: books.received.get(),
        produced: books.produced.get(),
        passed: books.passed.get(),
        filtered: Amounts(&pairs(&filtered)),
        dropped: Amounts(&pairs(&dropped)),
        dead_lettered: books.dead_lettered.get(),
        in_flight: books.in_flight.get(),
        errors: books.failed.total(),
    };
    record.log();
}

/// Writes a sink's ledger into the log.
pub(super) fn log_sink(port: &Port) {
    let books = port.ledger();
    let dropped = books.dropped.snapshot();
    let record = SinkCounts {
        sink: port.name(),
        accepted: books.accepted.get(),
        recovered: books.recovered.get(),
        delivered: books.delivered.get(),
        dropped: Amounts(&pairs(&dropped)),
        dead_lettered: books.dead_lettered.get(),
        buffered: books.buffered.get(),
        in_flight: books.in_flight.get(),
        retries: books.retries.get(),
        replayed: books.replayed.get(),
    };
    record.log();
}

/// The books of all pipelines and sinks as numbers, under the names that they have in the log.
pub(super) fn all(daemon: &Daemon) -> Vec<Account> {
    let pipelines = daemon.all_pipelines();
    let pipelines = pipelines.iter().map(|pipeline| of_pipeline(pipeline));
    let ports = daemon.ports();
    let sinks = ports.iter().map(|port| of_sink(port));
    pipelines.chain(sinks).collect()
}

fn of_pipeline(pipeline: &Pipeline) -> Account {
    let books = pipeline.ledger();
    Account {
        component: format!("pipeline.{}", pipeline.name()),
        counts: vec![
            ("received", books.received.get()),
            ("produced", books.produced.get()),
            ("passed", books.passed.get()),
            ("filtered", books.filtered.total()),
            ("dropped", books.dropped.total()),
            ("dead_lettered", books.dead_lettered.get()),
            ("in_flight", books.in_flight.get()),
            ("errors", books.failed.total()),
        ],
        parts: vec![
            ("filtered_by", books.filtered.snapshot()),
            ("dropped_by", books.dropped.snapshot()),
        ],
    }
}

fn of_sink(port: &Port) -> Account {
    let books = port.ledger();
    Account {
        component: format!("sink.{}", port.name()),
        counts: vec![
            ("accepted", books.accepted.get()),
            ("recovered", books.recovered.get()),
            ("delivered", books.delivered.get()),
            ("dropped", books.dropped.total()),
            ("dead_lettered", books.dead_lettered.get()),
            ("buffered", books.buffered.get()),
            ("in_flight", books.in_flight.get()),
            ("retries", books.retries.get()),
            ("replayed", books.replayed.get()),
        ],
        parts: vec![("dropped_by", books.dropped.snapshot())],
    }
}

fn pairs(tally: &Tally) -> Vec<(&str, u64)> {
    tally
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect()
}
