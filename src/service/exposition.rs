//! How the daemon is, as Prometheus text (exposition format 0.0.4): the answer to `GET /metrics`.
//!
//! The same numbers as in the status, under names by Prometheus' rules: `_total` for what only
//! grows, base units, one family for one thing. Labels are names of the configuration, addresses
//! that it listens on, and fixed words: nothing that a peer sends becomes a label, so no peer can
//! make the page grow. It is made when it is asked for; nothing is kept for it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::pipeline::facts::Facts;
use crate::pipeline::ledger::Tally;
use crate::reactor::Stats;

use super::report::{FlowReport, PipelineReport, PortReport, Report};
use super::status::Status;

/// What the page's `content-type` is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counts of components that go down as well as up: a counter that does is taken for one that
/// has begun anew.
const LEVELS: &[&str] = &["files", "open_files", "behind_bytes", "unreadable"];

/// The page.
pub fn page(status: &Status, report: &Report) -> String {
    let mut page = Page::default();
    daemon(status, &mut page);
    reactor(&report.reactor, &mut page);
    for source in &report.sources {
        facts("source", &source.name, &source.facts, &mut page);
    }
    for sink in &report.sinks {
        facts("sink", &sink.name, &sink.facts, &mut page);
    }
    report.flows.iter().for_each(|one| flow(one, &mut page));
    let pipelines = report.pipelines.iter().filter(|it| !it.is_former);
    pipelines.for_each(|one| pipeline(one, &mut page));
    for one in &report.ports {
        ledger(one, &mut page);
        backlog(one, &mut page);
    }
    page.text()
}

fn daemon(status: &Status, page: &mut Page) {
    let version = env!("CARGO_PKG_VERSION");
    page.gauge(
        "build_info",
        "The version that runs",
        &[("version", version)],
        1,
    );
    let (_, started) = status.started;
    let started = started.as_micros() as f64 / 1e6;
    page.gauge(
        "start_time_seconds",
        "When it started, since 1970",
        &[],
        started,
    );
    let stopping = u64::from((status.is_stopping)());
    page.gauge("stopping", "1 while it is being stopped", &[], stopping);
    let memory = &status.memory;
    let held = "Memory that events take, in bytes";
    page.gauge("memory_used_bytes", held, &[], memory.used_bytes());
    let limit = "The limit of that, daemon.memory";
    page.gauge("memory_limit_bytes", limit, &[], memory.limit_bytes());
}

fn reactor(stats: &Stats, page: &mut Page) {
    let lag = "How late the reactor's last turn was for what was due";
    page.gauge("reactor_lag_seconds", lag, &[], stats.lag.as_secs_f64());
    page.counter("reactor_turns", "Turns of the reactor", &[], stats.turns);
    let slow = "Callbacks that held the reactor up for longer than they may";
    page.counter("reactor_slow_callbacks", slow, &[], stats.slow_callbacks);
    let panics = "Callbacks that panicked; each is a bug";
    page.counter("reactor_panics", panics, &[], stats.panics);
}

/// What components say of themselves. The names of counts are words of marline's.
fn facts(role: &'static str, name: &str, facts: &Facts, page: &mut Page) {
    let me = [(role, name)];
    if let Some(open) = facts.connections {
        page.gauge(
            &format!("{role}_connections"),
            "Open connections",
            &me,
            open,
        );
    }
    for (count, value) in &facts.counts {
        let help = "A count of the component's own; docs/STATUS.md says of what";
        let name = format!("{role}_{count}");
        match LEVELS.contains(count) {
            true => page.gauge(&name, help, &me, *value),
            false => page.counter(&name, help, &me, *value),
        }
    }
    for (reason, value) in &facts.refused {
        let help = "Connections turned away, by the option that said so";
        let labels = [(role, name), ("reason", *reason)];
        page.counter(
            &format!("{role}_refused_connections"),
            help,
            &labels,
            *value,
        );
    }
    for (reason, value) in &facts.failed_handshakes {
        let help = "Connections that came to nothing because of their TLS";
        let labels = [(role, name), ("reason", *reason)];
        let metric = format!("{role}_handshakes_failed");
        page.counter(&metric, help, &labels, *value);
    }
    let mut messages = BTreeMap::new();
    for (format, count) in facts.dialects.iter().flat_map(|one| &one.messages) {
        *messages.entry(*format).or_insert(0) += count;
    }
    for (format, count) in messages {
        let help = "Messages by the dialect that they were in";
        let labels = [(role, name), ("format", format)];
        page.counter(&format!("{role}_messages"), help, &labels, count);
    }
    for socket in &facts.sockets {
        let labels = [(role, name), ("address", &*socket.address)];
        if let Some(drops) = socket.kernel_drops {
            let help = "Datagrams that the kernel had no room for";
            page.counter(&format!("{role}_kernel_drops"), help, &labels, drops);
        }
        if let Some(bytes) = socket.receive_buffer_bytes {
            let help = "What the kernel holds of datagrams at most, in bytes";
            page.gauge(
                &format!("{role}_receive_buffer_bytes"),
                help,
                &labels,
                bytes,
            );
        }
    }
}

fn flow(flow: &FlowReport, page: &mut Page) {
    let me = [("source", &*flow.name)];
    let help = "Events handed over";
    page.counter("source_received_events", help, &me, flow.received_events);
    let help = "Bytes handed over and not settled yet";
    page.gauge(
        "source_outstanding_bytes",
        help,
        &me,
        flow.outstanding_bytes,
    );
    let help = "Batches that wait for room in their sinks";
    page.gauge("source_waiting_batches", help, &me, flow.waiting_batches);
    let blocked = flow.blocked.as_ref();
    let lasts = blocked.map_or(0.0, |blocked| blocked.lasts.as_secs_f64());
    let help = "How long the source has been held up by a sink; 0 while it is not";
    page.gauge("source_blocked_seconds", help, &me, lasts);
}

fn pipeline(pipeline: &PipelineReport, page: &mut Page) {
    let books = &pipeline.books;
    let me = [("pipeline", &*pipeline.name)];
    let accounts = [
        ("received_events", "Events taken in", books.received),
        (
            "produced_events",
            "Events that a step made beyond those it had",
            books.produced,
        ),
        (
            "passed_events",
            "Events that left for a sink or another pipeline",
            books.passed,
        ),
        (
            "dead_lettered_events",
            "Events sent to errors_to",
            books.dead_lettered,
        ),
    ];
    for (account, help, count) in accounts {
        page.counter(&format!("pipeline_{account}"), help, &me, count);
    }
    let help = "Events on their way through";
    page.gauge("pipeline_in_flight_events", help, &me, books.in_flight);
    let tallies = [
        (
            "filtered_events",
            "step",
            "Events left out on purpose",
            &books.filtered,
        ),
        ("dropped_events", "reason", "Events lost", &books.dropped),
        (
            "step_errors",
            "step",
            "Events that a step could not work on",
            &books.failed,
        ),
    ];
    for (account, label, help, tally) in tallies {
        page.tally(&format!("pipeline_{account}"), help, me[0], label, tally);
    }
}

fn ledger(port: &PortReport, page: &mut Page) {
    let (books, me) = (&port.books, [("sink", &*port.name)]);
    let accounts = [
        (
            "accepted_events",
            "Events taken into the buffer",
            books.accepted,
        ),
        (
            "recovered_events",
            "Events found in the buffer at the start",
            books.recovered,
        ),
        (
            "delivered_events",
            "Events that reached their destination",
            books.delivered,
        ),
        (
            "delivered_bytes",
            "Bytes of these, before encoding",
            books.delivered_bytes,
        ),
        (
            "dead_lettered_events",
            "Events refused that went to errors_to",
            books.dead_lettered,
        ),
        (
            "retries",
            "Attempts that failed and are made again",
            books.retries,
        ),
        (
            "replayed_events",
            "Events sent again although they had arrived",
            books.replayed,
        ),
    ];
    for (account, help, count) in accounts {
        page.counter(&format!("sink_{account}"), help, &me, count);
    }
    page.tally(
        "sink_dropped_events",
        "Events lost",
        me[0],
        "reason",
        &books.dropped,
    );
}

/// The backlog of a sink, and how it is.
fn backlog(port: &PortReport, page: &mut Page) {
    let (books, me) = (&port.books, [("sink", &*port.name)]);
    let help = "Events in the buffer";
    page.gauge("sink_buffered_events", help, &me, books.buffered);
    let help = "Events that the sink has and that have not arrived";
    page.gauge("sink_in_flight_events", help, &me, books.in_flight);
    let help = "What the buffer holds, in bytes";
    page.gauge("sink_buffer_bytes", help, &me, port.buffer.held_bytes);
    let capacity = port.buffer.capacity_bytes;
    let help = "The size of the buffer, in bytes";
    page.gauge("sink_buffer_capacity_bytes", help, &me, capacity);
    let up = u64::from(port.is_up());
    page.gauge("sink_up", "0 while the sink cannot deliver", &me, up);
    let trouble = port.trouble.as_ref();
    let failing = trouble.map_or(0.0, |trouble| trouble.lasts.as_secs_f64());
    let help = "How long the sink has not been able to deliver; 0 while it is";
    page.gauge("sink_failing_seconds", help, &me, failing);
    let help = "Age of the newest event that has arrived, while others wait; 0 where none does";
    page.gauge("sink_lag_seconds", help, &me, port.lag.as_secs_f64());
}

/// Families by name, each with its samples: the format wants those of one family together.
#[derive(Default)]
struct Page(BTreeMap<String, Family>);

struct Family {
    help: &'static str,
    kind: &'static str,
    samples: String,
}

impl Page {
    fn gauge(
        &mut self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl fmt::Display,
    ) {
        self.sample(format!("marline_{name}"), "gauge", help, labels, value);
    }

    fn counter(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        let name = format!("marline_{name}_total");
        self.sample(name, "counter", help, labels, value);
    }

    /// Counts by name, which go into the label `by`.
    fn tally(&mut self, name: &str, help: &'static str, me: (&str, &str), by: &str, tally: &Tally) {
        for (key, value) in tally {
            self.counter(name, help, &[me, (by, key)], *value);
        }
    }

    fn sample(
        &mut self,
        name: String,
        kind: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl fmt::Display,
    ) {
        let mut line = name.clone();
        for (index, (label, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            // Writing into a String cannot fail.
            let _ = write!(line, "{opening}{label}=\"{}\"", escaped(value));
        }
        line.push_str(if labels.is_empty() { "" } else { "}" });
        let family = self.0.entry(name).or_insert_with(|| Family {
            help,
            kind,
            samples: String::new(),
        });
        let _ = writeln!(family.samples, "{line} {value}");
    }

    fn text(self) -> String {
        let mut out = String::new();
        for (name, family) in self.0 {
            let Family {
                help,
                kind,
                samples,
            } = family;
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        out
    }
}

/// As the format wants a label's value: with `\`, `"` and newlines escaped.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_down_as_well_as_up_is_no_counter() {
        let mut page = Page::default();
        let counts = Facts {
            counts: vec![("bytes", 7), ("behind_bytes", 3)],
            ..Facts::default()
        };
        facts("source", "in", &counts, &mut page);
        let text = page.text();
        assert!(text.contains("marline_source_bytes_total{source=\"in\"} 7\n"));
        assert!(text.contains("# TYPE marline_source_behind_bytes gauge\n"));
        assert!(text.contains("marline_source_behind_bytes{source=\"in\"} 3\n"));
    }

    #[test]
    fn samples_of_a_family_stand_together_below_its_head() {
        let mut page = Page::default();
        page.counter("events", "Events", &[("sink", "a")], 1);
        page.gauge("up", "Up", &[], 1);
        page.counter(
            "events",
            "Events",
            &[("sink", "b"), ("reason", "x\"\\\n")],
            2,
        );
        let expected = "# HELP marline_events_total Events\n# TYPE marline_events_total counter\n\
                        marline_events_total{sink=\"a\"} 1\n\
                        marline_events_total{sink=\"b\",reason=\"x\\\"\\\\\\n\"} 2\n\
                        # HELP marline_up Up\n# TYPE marline_up gauge\nmarline_up 1\n";
        assert_eq!(page.text(), expected);
    }
}
