//! Both ledgers of every component, as they are written into the log.
//!
//! They are written when somebody asks (SIGUSR2), when a component goes, and at the end.

use crate::pipeline::graph::Pipeline;
use crate::pipeline::ledger::Tally;
use crate::pipeline::port::Port;
use crate::telemetry::events::{Amounts, PipelineCounts, SinkCounts};

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

fn pairs(tally: &Tally) -> Vec<(&str, u64)> {
    tally
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect()
}
