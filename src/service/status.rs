//! How the daemon is, as JSON: the answer to `GET /status` and `GET /status/debug`.
//!
//! docs/STATUS.md has every field. It is made when it is asked for, of a [`Report`] that all
//! reactors give then, and of what the process has only once: its memory, the log's last
//! complaints. Nothing is kept for it. Lists without a natural bound are cut at [`LIST_MAX`] and
//! say how many were left out.
//!
//! Texts may come from peers: in JSON every character that could move a cursor is written as
//! `\u…`. Secrets are in none of the sources of this.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::deferred::Deferred;
use crate::pipeline::blocked::Blocked;
use crate::pipeline::facts::Facts;
use crate::pipeline::ledger::Tally;
use crate::pipeline::memory::Memory;
use crate::pipeline::part::Stage;
use crate::pipeline::queue::WhenFull;
use crate::reactor::{Handle, Stats};
use crate::telemetry::{Complaint, LastErrors, escape};
use crate::time::{Duration, Instant, WallTime};

use crate::transport::tls::CertificateFacts;

use super::assembly::Described;
use super::report::{
    Ask, BufferReport, FlowReport, Inside, LIST_MAX, PipelineReport, PortReport, Report,
    TroubleReport,
};

/// The form of the JSON: it grows by new fields; this number changes when an old one does.
pub const SCHEMA: u64 = 1;

/// How long a reactor may take to report. One that turns needs a few milliseconds.
pub const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// Everything that is asked how it is: the reactors, and what the process has only once.
pub struct Status {
    /// Asks all reactors.
    pub gather: Ask,
    /// The one that answers.
    pub reactor: Handle,
    /// The budget of all events.
    pub memory: Memory,
    /// What was complained of.
    pub last_errors: Arc<LastErrors>,
    /// The config that it was started with.
    pub config: PathBuf,
    /// How many reactors it has.
    pub workers: usize,
    /// When it was started.
    pub started: (Instant, WallTime),
    /// Whether it is being stopped.
    pub is_stopping: Box<dyn Fn() -> bool>,
}

impl Status {
    /// How all reactors are, in one report; fails where one of them keeps its own back for longer
    /// than [`REPORT_LIMIT`].
    pub fn gathered(&self, debug: bool) -> Deferred<Report> {
        (self.gather)(debug).timeout(REPORT_LIMIT, &self.reactor)
    }

    /// `report` as JSON, with what goes on inside if it tells that.
    pub fn json(&self, report: &Report) -> Value {
        let flows = report.flows.iter().filter(|flow| !flow.is_former);
        let flows: HashMap<&str, &FlowReport> = flows.map(|flow| (&*flow.name, flow)).collect();
        let ports = report.ports.iter();
        let ports: HashMap<&str, &PortReport> = ports.map(|port| (&*port.name, port)).collect();
        let sources = report.sources.iter();
        let sources = sources.map(|source| self.source(source, flows.get(&*source.name).copied()));
        let sources: Vec<Value> = sources.collect();
        let sinks = report.sinks.iter();
        let sinks = sinks.map(|sink| self.sink(sink, ports.get(&*sink.name).copied()));
        let sinks: Vec<Value> = sinks.collect();
        let pipelines = report.pipelines.iter().filter(|it| !it.is_former);
        let pipelines: Vec<Value> = pipelines.map(|it| self.pipeline(it)).collect();
        let mut shown = json!({
            "schema": SCHEMA,
            "daemon": self.daemon_itself(),
            "sources": sources,
            "pipelines": pipelines,
            "sinks": sinks,
        });
        if let Some(inside) = &report.inside {
            shown["debug"] = debug(report, inside);
        }
        shown
    }

    fn daemon_itself(&self) -> Value {
        let (began, wall) = self.started;
        let state = match (self.is_stopping)() {
            true => "stopping",
            false => "running",
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "workers": self.workers,
            "config": self.config.to_string_lossy(),
            "state": state,
            "started": wall.to_string(),
            "uptime_seconds": seconds(self.reactor.fresh().since(began)),
            "memory": {
                "used_bytes": self.memory.used_bytes(),
                "limit_bytes": self.memory.limit_bytes(),
            },
            "last_error": complaint(self.last_errors.last()),
        })
    }

    fn source(&self, source: &Described, flow: Option<&FlowReport>) -> Value {
        let mut shown = self.component("source", source);
        let facts = &source.facts;
        shown.insert("connections".into(), connections(facts));
        shown.insert("sockets".into(), sockets(facts));
        shown.insert("dialects".into(), dialects(facts));
        if let Some(flow) = flow {
            shown.insert("received_events".into(), flow.received_events.into());
            shown.insert("outstanding_bytes".into(), flow.outstanding_bytes.into());
            shown.insert("waiting_batches".into(), flow.waiting_batches.into());
            shown.insert("ack".into(), stage(flow.stage).into());
            shown.insert("blocked".into(), blocked(flow.blocked.as_ref()));
            let stoppers = flow.stoppers.iter();
            let stoppers = stoppers.map(|(sink, why)| json!({ "sink": sink, "because": why }));
            shown.insert("stopped_by".into(), stoppers.collect());
        }
        Value::Object(shown)
    }

    fn pipeline(&self, pipeline: &PipelineReport) -> Value {
        let books = &pipeline.books;
        json!({
            "name": pipeline.name,
            "received": books.received,
            "produced": books.produced,
            "passed": books.passed,
            "filtered": tally(&books.filtered),
            "dropped": tally(&books.dropped),
            "dead_lettered": books.dead_lettered,
            "in_flight": books.in_flight,
            "errors": tally(&books.failed),
            "last_error": self.complaint_of("pipeline", &pipeline.name),
        })
    }

    fn sink(&self, sink: &Described, port: Option<&PortReport>) -> Value {
        let mut shown = self.component("sink", sink);
        shown.insert("connections".into(), sink.facts.connections.into());
        let Some(port) = port else {
            return Value::Object(shown);
        };
        let books = &port.books;
        let state = match port.is_up() {
            true => "up",
            false => "failing",
        };
        shown.insert("state".into(), state.into());
        shown.insert("trouble".into(), trouble(port.trouble.as_ref()));
        let last = port.last_error.as_ref();
        let last = last.map(|(at, why)| json!({ "time": at.to_string(), "text": why }));
        shown.insert("last_error".into(), last.into());
        let ledger = json!({
            "accepted": books.accepted,
            "recovered": books.recovered,
            "delivered": books.delivered,
            "dropped": tally(&books.dropped),
            "dead_lettered": books.dead_lettered,
            "buffered": books.buffered,
            "in_flight": books.in_flight,
        });
        shown.insert("ledger".into(), ledger);
        shown.insert("delivered_bytes".into(), books.delivered_bytes.into());
        shown.insert("retries".into(), books.retries.into());
        shown.insert("replayed".into(), books.replayed.into());
        let events = books.buffered + books.in_flight;
        shown.insert("buffer".into(), buffer(&port.buffer, events));
        Value::Object(shown)
    }

    /// What sources and sinks have in common.
    fn component(&self, role: &str, one: &Described) -> Map<String, Value> {
        let counts: BTreeMap<&str, u64> = one.facts.counts.iter().copied().collect();
        let mut shown = Map::new();
        shown.insert("name".into(), (&*one.name).into());
        shown.insert("type".into(), one.kind.into());
        shown.insert("places".into(), cut(one.facts.places.iter().cloned()));
        shown.insert("counts".into(), json!(counts));
        let certificates = one.facts.certificates.iter().map(|it| self.certificate(it));
        shown.insert("certificates".into(), cut(certificates));
        let last = self.complaint_of(role, &one.name);
        shown.insert("last_error".into(), last);
        shown
    }

    fn certificate(&self, of: &CertificateFacts) -> Value {
        json!({
            "path": of.path.to_string_lossy(),
            "subject": of.about.subject,
            "serial": of.about.serial,
            "not_after": of.about.not_after.to_string(),
            "days_left": of.about.days_left(self.reactor.wall()),
        })
    }

    fn complaint_of(&self, role: &str, name: &str) -> Value {
        complaint(self.last_errors.of(&format!("{role}.{name}")))
    }
}

fn debug(report: &Report, inside: &Inside) -> Value {
    let timers = inside.timers.iter().map(|(at, timers)| {
        let next_seconds = seconds(timers.next);
        json!({ "at": at, "count": timers.count, "next_seconds": next_seconds })
    });
    let pending = inside.pending.iter().map(|((name, at), pending)| {
        let oldest_seconds = seconds(pending.oldest);
        json!({ "name": name, "at": at, "count": pending.count,
                "oldest_seconds": oldest_seconds, "failed": pending.failed })
    });
    let jobs = inside.jobs.iter();
    let jobs =
        jobs.map(|((pool, label), count)| json!({ "pool": pool, "label": label, "count": count }));
    json!({
        "reactor": reactor(&report.reactor),
        "timers": cut(timers),
        "pending": cut(pending),
        "jobs": cut(jobs),
        "connections": peers(report, inside),
    })
}

fn reactor(stats: &Stats) -> Value {
    json!({
        "turns": stats.turns,
        "dispatches": stats.dispatches,
        "lag_seconds": stats.lag.as_secs_f64(),
        "lag_peak_seconds": stats.lag_peak.as_secs_f64(),
        "timer_late_peak_seconds": stats.timer_late_peak.as_secs_f64(),
        "slow_callbacks": stats.slow_callbacks,
        "panics": stats.panics,
        "sources": stats.sources,
        "ready": stats.ready,
        "tasks": stats.tasks,
    })
}

/// The peers of sources; their number is known without listing them.
fn peers(report: &Report, inside: &Inside) -> Value {
    let sources = report.sources.iter();
    let open: u64 = sources.filter_map(|it| it.facts.connections).sum();
    let peers = inside.peers.iter();
    let mut list: Vec<Value> = peers
        .map(|(component, peer)| json!({ "component": component, "peer": peer }))
        .collect();
    let left_out = open.saturating_sub(list.len() as u64);
    if list.len() == LIST_MAX && left_out > 0 {
        list.push(json!({ "left_out": left_out }));
    }
    Value::Array(list)
}

/// The report as text, indented, without a character that a terminal would act on.
pub fn text(report: &Value) -> String {
    let plain = serde_json::to_string_pretty(report).unwrap_or_default();
    let mut out = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        // Below U+0080 all but DEL is escaped already, and a newline is ours.
        match c {
            '\n' => out.push(c),
            c if escape::is_hostile(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

/// A list of at most [`LIST_MAX`] entries; the last one says how many were left out.
fn cut<T: Into<Value>>(entries: impl Iterator<Item = T>) -> Value {
    let mut list: Vec<Value> = entries.map(Into::into).collect();
    if list.len() > LIST_MAX {
        let left_out = list.len() - LIST_MAX;
        list.truncate(LIST_MAX);
        list.push(json!({ "left_out": left_out }));
    }
    Value::Array(list)
}

fn connections(facts: &Facts) -> Value {
    let refused: BTreeMap<&str, u64> = facts.refused.iter().copied().collect();
    let failed: BTreeMap<&str, u64> = facts.failed_handshakes.iter().copied().collect();
    facts.connections.map_or(Value::Null, |open| {
        json!({
            "open": open,
            "accepted": facts.count("accepted"),
            "refused": refused,
            "failed_handshakes": failed,
        })
    })
}

fn sockets(facts: &Facts) -> Value {
    let shown = facts.sockets.iter().map(|socket| {
        json!({
            "address": socket.address,
            "receive_buffer_bytes": socket.receive_buffer_bytes,
            "kernel_drops": socket.kernel_drops,
        })
    });
    cut(shown)
}

fn dialects(facts: &Facts) -> Value {
    let shown = facts.dialects.iter().map(|dialect| {
        let messages: BTreeMap<&str, u64> = dialect.messages.iter().copied().collect();
        json!({ "sender": dialect.sender, "messages": messages })
    });
    cut(shown)
}

fn blocked(blocked: Option<&Blocked>) -> Value {
    blocked.map_or(Value::Null, |blocked| {
        json!({
            "lasts_seconds": seconds(blocked.lasts),
            "sink": blocked.sink.as_deref(),
            "why": blocked.why,
            "held_bytes": blocked.held_bytes,
        })
    })
}

fn trouble(trouble: Option<&TroubleReport>) -> Value {
    trouble.map_or(Value::Null, |trouble| {
        json!({
            "why": trouble.why,
            "lasts_seconds": seconds(trouble.lasts),
            "failures": trouble.failures,
            "next_try_seconds": trouble.next_try.map(seconds),
        })
    })
}

fn buffer(buffer: &BufferReport, events: u64) -> Value {
    json!({
        "kind": if buffer.is_disk { "disk" } else { "memory" },
        "when_full": when_full(buffer.when_full),
        "trouble": buffer.failure,
        "events": events,
        "bytes": buffer.held_bytes,
        "capacity_bytes": buffer.capacity_bytes,
    })
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Received => "received",
        Stage::Durable => "durable",
        Stage::Delivered => "delivered",
    }
}

fn when_full(policy: WhenFull) -> &'static str {
    match policy {
        WhenFull::Block => "block",
        WhenFull::DropNewest => "drop_newest",
        WhenFull::DropOldest => "drop_oldest",
    }
}

fn tally(tally: &Tally) -> Value {
    let counts = tally.iter();
    Value::Object(
        counts
            .map(|(name, count)| (name.to_string(), (*count).into()))
            .collect(),
    )
}

fn complaint(complaint: Option<Complaint>) -> Value {
    complaint.map_or(Value::Null, |complaint| {
        json!({
            "time": complaint.time.to_string(),
            "component": complaint.component,
            "level": complaint.level.word(),
            "text": complaint.text,
        })
    })
}

/// Seconds to the millisecond.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn li_1_no_text_of_a_peer_reaches_the_terminal_as_it_is() {
        let hostile = "a\x1b[2J\x07\r\n\u{9b}31m\u{202e}\u{2028}\x7f\"";
        let shown = text(&json!({ "text": hostile }));
        let body = shown.trim_end_matches('\n');
        let acting = |c: &char| *c != '\n' && escape::is_hostile(*c);
        assert_eq!(body.chars().filter(acting).count(), 0, "{shown:?}");
        let back: Value = serde_json::from_str(&shown).unwrap_or_default();
        assert_eq!(back["text"], hostile, "and it is the same text");
    }

    #[test]
    fn a_list_says_how_much_of_it_is_missing() {
        let list = cut(std::iter::repeat_n("x", LIST_MAX + 3));
        let list = list.as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(list.len(), LIST_MAX + 1);
        assert_eq!(list.last(), Some(&json!({ "left_out": 3 })));
        let whole = cut(std::iter::repeat_n("x", LIST_MAX));
        assert_eq!(whole.as_array().map(Vec::len), Some(LIST_MAX));
    }
}
