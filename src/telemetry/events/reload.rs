//! What is logged when the configuration changes, and of what it leaves behind.
//!
//! Names of components and options are in it, never values: one of them may be a secret.

use super::DisplayDebug;
use crate::time::Duration;

/// The daemon runs by another configuration, or by one that says the same.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// What has changed: names of components and options, no values.
    pub difference: &'a dyn DisplayDebug,
    /// From the request to the exchange.
    pub took: Duration,
}

impl Reloaded<'_> {
    /// Logs it.
    pub fn log(&self) {
        let (difference, took_ms) = (self.difference, self.took.as_millis() as u64);
        tracing::info!(component = "daemon", event = "reloaded", took_ms,
            difference = %difference, "reloaded: {difference}");
    }
}

/// A reload changed nothing: the former configuration goes on.
#[derive(Debug)]
pub struct ReloadFailed<'a> {
    /// The exit code of `marline reload`.
    pub code: u8,
    /// Why.
    pub why: &'a str,
}

impl ReloadFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let ReloadFailed { code, why } = self;
        tracing::error!(
            component = "daemon",
            event = "reload_failed",
            code,
            "cannot reload, the former configuration goes on: {why}"
        );
    }
}

/// A reload that comes too late: the daemon is being stopped.
#[derive(Debug)]
pub struct ReloadIgnored<'a> {
    /// Who asked for it.
    pub by: &'a str,
}

impl ReloadIgnored<'_> {
    /// Logs it.
    pub fn log(&self) {
        let by = self.by;
        tracing::info!(
            component = "daemon",
            event = "reload_ignored",
            by,
            "{by}: no reload, because the daemon is being stopped"
        );
    }
}

/// A sink that a new configuration has no more is gone.
#[derive(Debug)]
pub struct SinkRemoved<'a> {
    /// The sink.
    pub sink: &'a str,
    /// Events that it had not delivered within its time, and that are lost.
    pub dropped: u64,
}

impl SinkRemoved<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SinkRemoved { sink, dropped } = *self;
        let component = format!("sink.{sink}");
        match dropped {
            0 => tracing::info!(component, event = "sink_removed", dropped, "removed"),
            _ => tracing::warn!(
                component,
                event = "sink_removed",
                dropped,
                "removed; {dropped} events were not delivered within stop_timeout and are lost"
            ),
        }
    }
}

/// Events stay on disk that no sink of the configuration reads.
#[derive(Debug)]
pub struct BufferLeft<'a> {
    /// The sink that had them.
    pub sink: &'a str,
    /// How many.
    pub events: u64,
}

impl BufferLeft<'_> {
    /// Logs it.
    pub fn log(&self) {
        let BufferLeft { sink, events } = *self;
        let component = format!("sink.{sink}");
        tracing::warn!(
            component,
            event = "buffer_left",
            events,
            "{events} events stay in the disk buffer `{sink}`, which no sink reads any more: \
             `marline buffer requeue {sink} --to SINK` gives them to another one, and a sink \
             named `{sink}` with a disk buffer sends them"
        );
    }
}

/// A folder of a disk buffer belongs to no sink of the configuration.
#[derive(Debug)]
pub struct BufferOrphaned<'a> {
    /// The name of the folder, which was a sink's.
    pub name: &'a str,
}

impl BufferOrphaned<'_> {
    /// Logs it.
    pub fn log(&self) {
        let name = self.name;
        tracing::warn!(
            component = "daemon",
            event = "buffer_orphaned",
            name,
            "the disk buffer `{name}` belongs to no sink: was the sink renamed? `marline buffer \
             list` says what is in it, `marline buffer requeue {name} --to SINK` moves it"
        );
    }
}
