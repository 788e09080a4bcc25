//! One struct per log event: its name, its fields and its sentence are written down once.
//!
//! The field `event` is the stable name for machines; tools and tests match on it. `component`
//! is whose event it is: `source.NAME`, `sink.NAME`, `pipeline.NAME` or `daemon`. What happens
//! once per connection or retry is debug. Texts from peers are cut and escaped by whoever
//! writes the record, not here.

mod buffers;
mod certificates;
mod commands;
mod files;
mod operator;
mod reload;
mod sinks;
mod sockets;
mod sources;

use std::fmt::{self, Display};

use crate::time::Duration;

pub use buffers::{BufferDamaged, BufferFailed, BufferFull, BufferOpened, BufferRecovered};
pub use certificates::CertificateSeen;
pub use commands::{
    CheckpointFailed, CommandCounts, CommandEnded, CommandFailed, CommandRecovered, CommandSaid,
    CommandSkipped, CommandStarted, InputEnded, InputFailed,
};
pub use files::{
    CheckpointsDamaged, CheckpointsFailed, FileCounts, FileFollowed, FileReadable, FileRefused,
    FileRotated, FileTruncated, FileUnreadable, FilesPolled, FilesTooMany,
};
pub use operator::{AdminOpened, AdminUnavailable, CountsMissing, MetricsOpened, StoppedBy};
pub use reload::{BufferLeft, BufferOrphaned, ReloadFailed, ReloadIgnored, Reloaded, SinkRemoved};
pub use sinks::{EventsRefused, PostFailed, PostRecovered, PostsSmaller};
pub use sockets::{ReplayShort, Replayed};
pub use sources::{
    FetchCut, FetchFailed, FetchSkipped, HttpCounts, PollCounts, PollFailed, PollRecovered,
    PollSkipped, ReceiveBuffer, SourceCounts, SourceLosses, SyslogCounts,
};

/// Amounts by name (`main.2:drop_if`, `give_up`), printed as `a=1,b=2`.
#[derive(Clone, Copy, Debug)]
pub struct Amounts<'a>(pub &'a [(&'a str, u64)]);

impl Amounts<'_> {
    /// The sum of all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, amount)| amount).sum()
    }
}

impl Display for Amounts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, amount)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}={amount}")?;
        }
        Ok(())
    }
}

/// The daemon begins to start.
#[derive(Debug)]
pub struct Starting<'a> {
    /// The version of the program.
    pub version: &'a str,
    /// The config file that was chosen.
    pub config: &'a dyn DisplayDebug,
}

/// What can be shown and dumped: addresses, paths, errors.
pub trait DisplayDebug: Display + fmt::Debug {}
impl<T: Display + fmt::Debug + ?Sized> DisplayDebug for T {}

impl Starting<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Starting { version, config } = self;
        tracing::info!(component = "daemon", event = "starting", version, config = %config,
            "marline {version} starts with {config}");
    }
}

/// Everything is up: listeners are bound, sinks are there.
#[derive(Debug)]
pub struct Started {
    /// Sources in the config.
    pub sources: usize,
    /// Pipelines in the config.
    pub pipelines: usize,
    /// Sinks in the config.
    pub sinks: usize,
    /// Reactors.
    pub workers: usize,
    /// From the start of the process's work until now.
    pub took: Duration,
}

impl Started {
    /// Logs it.
    pub fn log(&self) {
        let Started {
            sources,
            pipelines,
            sinks,
            workers,
            took,
        } = self;
        let millis = millis(*took);
        tracing::info!(
            component = "daemon",
            event = "started",
            sources,
            pipelines,
            sinks,
            workers,
            took_ms = millis,
            "running after {millis} ms"
        );
    }
}

/// Fewer descriptors may be open than the limits of connections come to.
#[derive(Debug)]
pub struct FewDescriptors {
    /// Connections that the limits of all sources let in.
    pub connections: u64,
    /// Descriptors for these and everything else.
    pub needed: u64,
    /// Descriptors that may be open.
    pub limit: u64,
    /// Connections that may be open then.
    pub possible: u64,
    /// Whether limits that the configuration gives are concerned, not defaults alone.
    pub is_promised: bool,
    /// How more could be had.
    pub advice: &'static str,
}

impl FewDescriptors {
    /// Logs it: a warning where the configuration asks for what cannot be.
    pub fn log(&self) {
        let FewDescriptors {
            connections,
            needed,
            limit,
            possible,
            is_promised,
            advice,
        } = self;
        let text = format!(
            "room for {possible} connections, not for the {connections} of all max_connections: \
             {needed} descriptors would be needed and {limit} may be open; {advice}, or lower \
             max_connections"
        );
        if *is_promised {
            tracing::warn!(
                component = "daemon",
                event = "few_descriptors",
                connections,
                needed,
                limit,
                possible,
                "{text}"
            );
        } else {
            tracing::info!(
                component = "daemon",
                event = "few_descriptors",
                connections,
                needed,
                limit,
                possible,
                "{text}"
            );
        }
    }
}

/// The daemon begins to stop.
#[derive(Debug)]
pub struct Stopping<'a> {
    /// What asked for it: `SIGTERM`, `all sources ended`, …
    pub reason: &'a str,
    /// How long draining may take.
    pub limit: Duration,
}

impl Stopping<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Stopping { reason, limit } = self;
        tracing::info!(
            component = "daemon",
            event = "stopping",
            reason,
            limit_ms = millis(*limit),
            "stopping: {reason}"
        );
    }
}

/// The last line of a run.
#[derive(Debug)]
pub struct Stopped<'a> {
    /// The exit code that follows.
    pub code: u8,
    /// What was cut off; empty after a clean stop.
    pub cut: &'a str,
    /// From [`Stopping`] until now.
    pub took: Duration,
}

impl Stopped<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Stopped { code, cut, took } = self;
        let took = millis(*took);
        if cut.is_empty() {
            tracing::info!(
                component = "daemon",
                event = "stopped",
                code,
                took_ms = took,
                "stopped cleanly"
            );
        } else {
            tracing::error!(
                component = "daemon",
                event = "stopped",
                code,
                took_ms = took,
                cut,
                "stopped, and something was cut off: {cut}"
            );
        }
    }
}

/// A pipeline's ledger: `received + produced = passed + filtered + dropped + dead_lettered +
/// in_flight`, in events.
#[derive(Debug)]
pub struct PipelineCounts<'a> {
    /// The pipeline's name, without `pipeline.`.
    pub pipeline: &'a str,
    /// Taken from sources and pipelines.
    pub received: u64,
    /// Made by steps beyond what they were given.
    pub produced: u64,
    /// Handed to sinks.
    pub passed: u64,
    /// Left out on purpose, by step.
    pub filtered: Amounts<'a>,
    /// Lost, by reason.
    pub dropped: Amounts<'a>,
    /// Sent to `errors_to`.
    pub dead_lettered: u64,
    /// Inside.
    pub in_flight: u64,
    /// Failures of steps; the events went on.
    pub errors: u64,
}

impl PipelineCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PipelineCounts {
            pipeline,
            received,
            produced,
            passed,
            ..
        } = self;
        tracing::info!(component = format!("pipeline.{pipeline}"), event = "pipeline_counts",
            pipeline, received, produced, passed,
            filtered = self.filtered.total(), filtered_by = %self.filtered,
            dropped = self.dropped.total(), dropped_by = %self.dropped,
            dead_lettered = self.dead_lettered, in_flight = self.in_flight,
            errors = self.errors, "counts");
    }
}

/// A sink's ledger: `accepted + recovered = delivered + dropped + dead_lettered + buffered +
/// in_flight`, in events.
#[derive(Debug)]
pub struct SinkCounts<'a> {
    /// The sink's name, without `sink.`.
    pub sink: &'a str,
    /// Taken from pipelines.
    pub accepted: u64,
    /// Found on disk at the start.
    pub recovered: u64,
    /// Brought to where they were to go.
    pub delivered: u64,
    /// Lost, by reason.
    pub dropped: Amounts<'a>,
    /// Given to a dead-letter sink.
    pub dead_lettered: u64,
    /// Waiting in the buffer.
    pub buffered: u64,
    /// On their way.
    pub in_flight: u64,
    /// Attempts made again.
    pub retries: u64,
    /// Sent again although the other end's kernel had acknowledged them.
    pub replayed: u64,
}

impl SinkCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SinkCounts {
            sink,
            accepted,
            recovered,
            delivered,
            ..
        } = self;
        tracing::info!(component = format!("sink.{sink}"), event = "sink_counts",
            sink, accepted, recovered, delivered,
            dropped = self.dropped.total(), dropped_by = %self.dropped,
            dead_lettered = self.dead_lettered, buffered = self.buffered,
            in_flight = self.in_flight, retries = self.retries, replayed = self.replayed, "counts");
    }
}

/// A source waits for a sink; logged once a minute while it does.
#[derive(Debug)]
pub struct SourceBlocked<'a> {
    /// The source, with `source.`.
    pub component: &'a str,
    /// The sink that it waits for.
    pub sink: &'a str,
    /// Why that sink does not take more.
    pub why: &'a dyn DisplayDebug,
    /// Bytes held for it.
    pub held_bytes: u64,
    /// Events held for it.
    pub held_events: u64,
    /// How long it has been waiting.
    pub blocked: Duration,
}

impl SourceBlocked<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SourceBlocked {
            component,
            sink,
            why,
            held_bytes,
            held_events,
            blocked,
        } = self;
        let seconds = blocked.as_secs();
        tracing::warn!(component, event = "source_blocked", sink, why = %why, held_bytes,
            held_events, seconds,
            "blocked for {seconds} s by sink.{sink}, which holds {held_events} events \
             ({held_bytes} bytes): {why}");
    }
}

/// A source reads again after [`SourceBlocked`].
#[derive(Debug)]
pub struct SourceResumed<'a> {
    /// The source, with `source.`.
    pub component: &'a str,
    /// How long it waited.
    pub blocked: Duration,
}

impl SourceResumed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SourceResumed { component, blocked } = self;
        let seconds = blocked.as_secs();
        tracing::info!(
            component,
            event = "source_resumed",
            seconds,
            "reading again after {seconds} s"
        );
    }
}

/// A connection is there.
#[derive(Debug)]
pub struct ConnectionOpened<'a> {
    /// Whose connection.
    pub component: &'a str,
    /// The other end.
    pub peer: &'a dyn DisplayDebug,
}

impl ConnectionOpened<'_> {
    /// Logs it.
    pub fn log(&self) {
        let ConnectionOpened { component, peer } = self;
        tracing::debug!(component, event = "connection_opened", peer = %peer,
            "connected to {peer}");
    }
}

/// A connection is gone.
#[derive(Debug)]
pub struct ConnectionClosed<'a> {
    /// Whose connection.
    pub component: &'a str,
    /// The other end.
    pub peer: &'a dyn DisplayDebug,
    /// Why: end of data, reset, time limit, …
    pub reason: &'a dyn DisplayDebug,
    /// Whether an operator should know: a peer that broke the rules, a sink that went away.
    pub is_fault: bool,
}

impl ConnectionClosed<'_> {
    /// Logs it: a warning where it is a fault.
    pub fn log(&self) {
        let ConnectionClosed {
            component,
            peer,
            reason,
            is_fault,
        } = self;
        if *is_fault {
            tracing::warn!(component, event = "connection_closed", peer = %peer,
                reason = %reason, "connection with {peer} closed: {reason}");
        } else {
            tracing::debug!(component, event = "connection_closed", peer = %peer,
                reason = %reason, "connection with {peer} closed: {reason}");
        }
    }
}

/// A peer that was let in came to nothing because of its TLS.
#[derive(Debug)]
pub struct HandshakeFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// The other end.
    pub peer: &'a dyn DisplayDebug,
    /// A word for the kind of fault. By it one complaint is told from another where the same
    /// ones are counted only: the text of the error may have what the peer has chosen.
    pub reason: &'a str,
    /// What went wrong, and what to do.
    pub error: &'a dyn DisplayDebug,
}

impl HandshakeFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let HandshakeFailed {
            component,
            peer,
            reason,
            error,
        } = self;
        tracing::warn!(component, event = "handshake_failed", peer = %peer, reason,
            error = %error, "connection with {peer} closed: TLS handshake failed: {error}");
    }
}

/// A peer was turned away at a limit.
#[derive(Debug)]
pub struct ConnectionRefused<'a> {
    /// The source.
    pub component: &'a str,
    /// Who was turned away.
    pub peer: &'a dyn DisplayDebug,
    /// The limit that it met, as the option's name.
    pub reason: &'a str,
}

impl ConnectionRefused<'_> {
    /// Logs it.
    pub fn log(&self) {
        let ConnectionRefused {
            component,
            peer,
            reason,
        } = self;
        tracing::warn!(component, event = "connection_refused", peer = %peer, reason,
            "connection from {peer} refused: {reason}");
    }
}

/// A connection could not be made; it is tried again.
#[derive(Debug)]
pub struct ConnectFailed<'a> {
    /// Whose connection.
    pub component: &'a str,
    /// Where to.
    pub address: &'a dyn DisplayDebug,
    /// Why not.
    pub error: &'a dyn DisplayDebug,
    /// How long until the next attempt.
    pub retry_in: Duration,
    /// The first failure of an outage, or of this reason; the others are for debugging.
    pub is_news: bool,
}

impl ConnectFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let ConnectFailed {
            component,
            address,
            error,
            retry_in,
            is_news,
        } = self;
        let retry_ms = millis(*retry_in);
        if *is_news {
            tracing::warn!(component, event = "connect_failed", address = %address,
                error = %error, retry_ms, "{error}; next attempt in {retry_ms} ms");
        } else {
            tracing::debug!(component, event = "connect_failed", address = %address,
                error = %error, retry_ms, "{error}; next attempt in {retry_ms} ms");
        }
    }
}

/// A connection is there again, or for the first time.
#[derive(Debug)]
pub struct Connected<'a> {
    /// Whose connection.
    pub component: &'a str,
    /// Where to.
    pub address: &'a dyn DisplayDebug,
    /// Attempts that failed since the connection before, its loss included.
    pub failures: u64,
}

impl Connected<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Connected {
            component,
            address,
            failures,
        } = self;
        tracing::info!(component, event = "connected", address = %address, failures,
            "connected to {address}");
    }
}

/// A listener cannot accept: no descriptors, no memory.
#[derive(Debug)]
pub struct AcceptFailed<'a> {
    /// The listener.
    pub address: &'a dyn DisplayDebug,
    /// The system's answer.
    pub error: &'a dyn DisplayDebug,
    /// How many of these were not logged since the last one that was.
    pub left_out: u64,
    /// The sentence: what cannot be done, and what happens instead.
    pub what: &'a str,
}

impl AcceptFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let AcceptFailed {
            address,
            error,
            left_out,
            what,
        } = self;
        tracing::error!(component = "transport", event = "accept_failed", address = %address,
            error = %error, left_out, "{what}");
    }
}

/// A step failed on an event, which went on as it was; the first time per step.
#[derive(Debug)]
pub struct StepFailed<'a> {
    /// The step as counts name it: `main.2:drop_if`.
    pub step: &'a str,
    /// What went wrong.
    pub error: &'a dyn DisplayDebug,
}

impl StepFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let StepFailed { step, error } = self;
        let pipeline = step.split('.').next().unwrap_or(step);
        tracing::warn!(component = format!("pipeline.{pipeline}"), event = "step_failed",
            step, error = %error,
            "{step} failed: {error}; the event goes on marked, further ones are only counted");
    }
}

/// A callback kept the reactor busy for too long.
#[derive(Debug)]
pub struct SlowCallback<'a> {
    /// What called it: `timer`, `source`, …
    pub kind: &'a str,
    /// Where it was handed to the reactor.
    pub at: &'a dyn DisplayDebug,
    /// How long it ran.
    pub took: Duration,
    /// How many of these were not logged since the last one that was.
    pub left_out: u64,
}

impl SlowCallback<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SlowCallback {
            kind,
            at,
            took,
            left_out,
        } = self;
        tracing::warn!(component = "reactor", event = "slow_callback", kind, at = %at,
            took_ms = millis(*took), left_out,
            "a callback kept the reactor from everything else");
    }
}

/// A callback panicked and was caught.
#[derive(Debug)]
pub struct CallbackPanicked<'a> {
    /// What called it: `timer`, `source`, …
    pub kind: &'a str,
    /// Where it was handed to the reactor.
    pub at: &'a dyn DisplayDebug,
    /// The panic's text.
    pub text: &'a str,
}

impl CallbackPanicked<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CallbackPanicked { kind, at, text } = self;
        tracing::error!(component = "reactor", event = "callback_panicked", kind, at = %at,
            panic = text, "a callback panicked");
    }
}

/// A job on another thread does not come back in the time that a stop may take.
#[derive(Debug)]
pub struct JobStuck<'a> {
    /// The job's label.
    pub label: &'a str,
    /// The threads that it runs on.
    pub pool: &'a dyn fmt::Debug,
}

impl JobStuck<'_> {
    /// Logs it.
    pub fn log(&self) {
        let JobStuck { label, pool } = self;
        tracing::error!(component = "reactor", event = "job_stuck", label, pool = ?pool,
            "a job is stuck; leaving it behind");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::capture::Capture;
    use crate::telemetry::record::Level;

    /// Logs one event and answers its component, event and message.
    fn logged(log: impl FnOnce()) -> (Level, String, String, String) {
        let capture = Capture::start();
        log();
        let mut records = capture.take_all();
        assert_eq!(records.len(), 1);
        let record = records.remove(0);
        (record.level, record.component, record.event, record.message)
    }

    fn check(log: impl FnOnce(), level: Level, component: &str, event: &str, message: &str) {
        let expected = (
            level,
            component.to_owned(),
            event.to_owned(),
            message.to_owned(),
        );
        assert_eq!(logged(log), expected);
    }

    #[test]
    fn names_and_sentences() {
        check(
            || {
                AcceptFailed {
                    address: &"tcp://[::1]:514",
                    error: &"too many open files",
                    left_out: 0,
                    what: "cannot accept connections; trying again",
                }
                .log();
            },
            Level::Error,
            "transport",
            "accept_failed",
            "cannot accept connections; trying again",
        );
        check(
            || {
                let cut = "sink.a: 3 events";
                Stopped {
                    code: 1,
                    cut,
                    took: Duration::from_secs(60),
                }
                .log();
            },
            Level::Error,
            "daemon",
            "stopped",
            "stopped, and something was cut off: sink.a: 3 events",
        );
        check(
            || {
                StepFailed {
                    step: "main.2:drop_if",
                    error: &"no field level",
                }
                .log()
            },
            Level::Warn,
            "pipeline.main",
            "step_failed",
            "main.2:drop_if failed: no field level; the event goes on marked, further ones are \
             only counted",
        );
    }

    #[test]
    fn the_reactor_names_whom_it_complains_of() {
        let capture = Capture::start();
        let (kind, at) = ("timer", &"src/a.rs:7");
        SlowCallback {
            kind,
            at,
            took: Duration::from_millis(250),
            left_out: 2,
        }
        .log();
        let text = "on purpose";
        CallbackPanicked { kind, at, text }.log();
        let (label, pool) = ("sync of spool/7", &"disk");
        JobStuck { label, pool }.log();
        let seen = capture.take_all().into_iter().map(|record| {
            let fields = record.fields.iter();
            let fields = fields.map(|(name, value)| format!("{name}={value}"));
            let fields = fields.collect::<Vec<_>>().join(" ");
            format!("{} {} {fields}", record.component, record.event)
        });
        let expected = [
            "reactor slow_callback kind=timer at=src/a.rs:7 took_ms=250 left_out=2",
            "reactor callback_panicked kind=timer at=src/a.rs:7 panic=on purpose",
            "reactor job_stuck label=sync of spool/7 pool=\"disk\"",
        ];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ledgers_have_numbers() {
        let capture = Capture::start();
        PipelineCounts {
            pipeline: "main",
            received: 10,
            produced: 1,
            passed: 5,
            filtered: Amounts(&[("main.1:drop_if", 3), ("main.2:sample", 2)]),
            dropped: Amounts(&[]),
            dead_lettered: 1,
            in_flight: 0,
            errors: 0,
        }
        .log();
        let record = &capture.records()[0];
        let text = |name| record.field(name).map(ToString::to_string);
        assert_eq!(record.component, "pipeline.main");
        assert_eq!(text("received").as_deref(), Some("10"));
        assert_eq!(text("filtered").as_deref(), Some("5"));
        assert_eq!(
            text("filtered_by").as_deref(),
            Some("main.1:drop_if=3,main.2:sample=2")
        );
        assert_eq!(text("dropped_by").as_deref(), Some(""));
    }
}
