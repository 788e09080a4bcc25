//! What sources log that fetch or are posted to: rounds, requests, counts.
//!
//! Servers that do not answer are warned of once, not once a round.

use super::{Amounts, DisplayDebug};

/// A URL cannot be fetched, for a reason that is new.
#[derive(Debug)]
pub struct PollFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// What was asked for.
    pub url: &'a dyn DisplayDebug,
    /// Why it was not had.
    pub why: &'a str,
    /// Rounds in a row that failed, this one included.
    pub failures: u64,
}

impl PollFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PollFailed {
            component,
            url,
            why,
            failures,
        } = self;
        tracing::warn!(component, event = "poll_failed", url = %url, why, failures,
            "cannot fetch {url}: {why}");
    }
}

/// A URL can be fetched again after [`PollFailed`].
#[derive(Debug)]
pub struct PollRecovered<'a> {
    /// The source.
    pub component: &'a str,
    /// What was asked for.
    pub url: &'a dyn DisplayDebug,
    /// Rounds that failed before.
    pub failures: u64,
}

impl PollRecovered<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PollRecovered {
            component,
            url,
            failures,
        } = self;
        tracing::info!(component, event = "poll_recovered", url = %url, failures,
            "{url} answers again, after {failures} failures");
    }
}

/// A URL is not asked for in this round.
#[derive(Debug)]
pub struct PollSkipped<'a> {
    /// The source.
    pub component: &'a str,
    /// What would have been asked for.
    pub url: &'a dyn DisplayDebug,
}

impl PollSkipped<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PollSkipped { component, url } = self;
        tracing::debug!(component, event = "poll_skipped", url = %url,
            "a round is left out: the one before is not over, or may not begin yet");
    }
}

/// What became of the rounds of one URL.
#[derive(Debug)]
pub struct PollCounts<'a> {
    /// The source.
    pub component: &'a str,
    /// What was asked for.
    pub url: &'a dyn DisplayDebug,
    /// Documents taken.
    pub documents: u64,
    /// Answers that nothing is new.
    pub unchanged: u64,
    /// Rounds without an answer, or with one that is of no use.
    pub failures: u64,
    /// Rounds left out.
    pub skipped: u64,
}

impl PollCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PollCounts {
            component,
            url,
            documents,
            unchanged,
            failures,
            skipped,
        } = self;
        tracing::debug!(component, event = "poll_counts", url = %url, documents, unchanged,
            failures, skipped, "polls");
    }
}

/// A server has not finished when the next round begins.
#[derive(Debug)]
pub struct FetchSkipped<'a> {
    /// The source.
    pub component: &'a str,
    /// The server.
    pub address: &'a dyn DisplayDebug,
    /// Rounds skipped so far there.
    pub skipped: u64,
}

impl FetchSkipped<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FetchSkipped {
            component,
            address,
            skipped,
        } = self;
        tracing::warn!(component, event = "fetch_skipped", address = %address, skipped,
            "{address} has not finished; this round is skipped there");
    }
}

/// A server could not be reached in this round.
#[derive(Debug)]
pub struct FetchFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// The server.
    pub address: &'a dyn DisplayDebug,
    /// Why not.
    pub failure: &'a dyn DisplayDebug,
}

impl FetchFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FetchFailed {
            component,
            address,
            failure,
        } = self;
        tracing::warn!(component, event = "fetch_failed", address = %address,
            failure = %failure, "{failure}");
    }
}

/// A server's answer ended before it was whole.
#[derive(Debug)]
pub struct FetchCut<'a> {
    /// The source.
    pub component: &'a str,
    /// The server.
    pub address: &'a dyn DisplayDebug,
    /// What ended it.
    pub reason: &'a dyn DisplayDebug,
}

impl FetchCut<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FetchCut {
            component,
            address,
            reason,
        } = self;
        tracing::warn!(component, event = "fetch_cut", address = %address, reason = %reason,
            "{address} did not finish: {reason}");
    }
}

/// What became of the requests that were posted to a source.
#[derive(Debug)]
pub struct HttpCounts<'a> {
    /// The source's name, without `source.`.
    pub source: &'a str,
    /// Answered with 200.
    pub accepted: u64,
    /// Refused for what they are: nothing of them was taken.
    pub refused: u64,
    /// Refused with 429 for want of room: nothing of them was taken.
    pub busy: u64,
    /// Taken, and given up by a sink.
    pub failed: u64,
    /// Lines without a byte, which make no event.
    pub empty_lines: u64,
}

impl HttpCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let HttpCounts {
            source,
            accepted,
            refused,
            busy,
            failed,
            empty_lines,
        } = self;
        tracing::info!(
            component = format!("source.{source}"),
            event = "http_counts",
            source,
            accepted,
            refused,
            busy,
            failed,
            empty_lines,
            "requests"
        );
    }
}

/// What a source of frames counts beside the events in its pipelines' ledgers.
#[derive(Debug)]
pub struct SourceCounts<'a> {
    /// The source's name, without `source.`.
    pub source: &'a str,
    /// Events made.
    pub events: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Frames without a byte, which make no event.
    pub empty_frames: u64,
    /// Events that were cut at `max_message`.
    pub truncated: u64,
    /// Bytes left out by cutting.
    pub skipped_bytes: u64,
    /// Events whose end never came.
    pub incomplete: u64,
    /// Connections closed because their frames could not be told apart.
    pub framing_errors: u64,
    /// Batches that a sink gave up.
    pub failed_batches: u64,
    /// Datagrams that the kernel had no room for.
    pub kernel_drops: u64,
    /// Connections turned away at a limit.
    pub refused: u64,
}

impl SourceCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SourceCounts {
            source,
            events,
            bytes,
            empty_frames,
            truncated,
            skipped_bytes,
            incomplete,
            framing_errors,
            failed_batches,
            kernel_drops,
            refused,
        } = self;
        tracing::info!(
            component = format!("source.{source}"),
            event = "source_counts",
            source,
            events,
            bytes,
            empty_frames,
            truncated,
            skipped_bytes,
            incomplete,
            framing_errors,
            failed_batches,
            kernel_drops,
            refused,
            "counts"
        );
    }
}

/// What a source has lost since its last such line; at most one in ten seconds.
#[derive(Debug)]
pub struct SourceLosses<'a> {
    /// The source, with `source.`.
    pub component: &'a str,
    /// Datagrams that the kernel had no room for.
    pub kernel_drops: u64,
    /// Events that were cut at `max_message`.
    pub truncated: u64,
    /// Connections closed, or datagrams left out, because their frames could not be told apart.
    pub framing_errors: u64,
    /// Connections turned away at a limit.
    pub refused: u64,
}

impl SourceLosses<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SourceLosses {
            component,
            kernel_drops,
            truncated,
            framing_errors,
            refused,
        } = self;
        let parts = [
            (*kernel_drops, "datagrams dropped by the kernel"),
            (*truncated, "events truncated"),
            (*framing_errors, "framing errors"),
            (*refused, "connections refused"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let advice = match kernel_drops {
            0 => "",
            _ => {
                "; what is blocked by a sink, or too slow, loses datagrams: a larger \
                  receive_buffer helps over short bursts"
            }
        };
        tracing::warn!(
            component,
            event = "losses",
            kernel_drops,
            truncated,
            framing_errors,
            refused,
            "since the last such line: {}{advice}",
            parts.join(", ")
        );
    }
}

/// How much the kernel holds for a datagram socket.
#[derive(Debug)]
pub struct ReceiveBuffer<'a> {
    /// The source, with `source.`.
    pub component: &'a str,
    /// Where the socket is bound.
    pub address: &'a dyn DisplayDebug,
    /// What was asked for.
    pub asked_bytes: u64,
    /// What was granted.
    pub granted_bytes: u64,
}

impl ReceiveBuffer<'_> {
    /// Logs it: a warning where the kernel grants less than was asked for.
    pub fn log(&self) {
        let ReceiveBuffer {
            component,
            address,
            asked_bytes,
            granted_bytes,
        } = self;
        if granted_bytes >= asked_bytes {
            tracing::info!(component, event = "receive_buffer", address = %address, asked_bytes,
                granted_bytes, "the kernel holds up to {granted_bytes} bytes for {address}");
        } else {
            tracing::warn!(component, event = "receive_buffer", address = %address, asked_bytes,
                granted_bytes,
                "the kernel holds only {granted_bytes} of {asked_bytes} bytes for {address}, so \
                 that bursts may be lost; raise the limit (sysctl -w \
                 net.core.rmem_max={asked_bytes}) or lower receive_buffer");
        }
    }
}

/// What a source that speaks syslog counts beside its events.
#[derive(Debug)]
pub struct SyslogCounts<'a> {
    /// The source's name, without `source.`.
    pub source: &'a str,
    /// Messages by format.
    pub dialects: &'a [(&'static str, u64)],
    /// Messages that are no syslog.
    pub unparsed: u64,
    /// Messages with a field longer than RFC 5424 allows.
    pub overlong: u64,
    /// Messages that were not there when one with a later number came.
    pub sequence_missing: u64,
    /// Messages that came after one with a later number, or again.
    pub sequence_late: u64,
    /// Senders that began to count anew.
    pub sequence_restarts: u64,
}

impl SyslogCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let SyslogCounts {
            source,
            dialects,
            unparsed,
            overlong,
            sequence_missing,
            sequence_late,
            sequence_restarts,
        } = self;
        let dialects = Amounts(dialects);
        tracing::info!(
            component = format!("source.{source}"),
            event = "syslog_counts",
            source,
            dialects = %dialects,
            unparsed,
            overlong,
            sequence_missing,
            sequence_late,
            sequence_restarts,
            "by format: {dialects}; {unparsed} unparsed, {sequence_missing} missing by number, \
             of which {sequence_late} came late"
        );
    }
}
