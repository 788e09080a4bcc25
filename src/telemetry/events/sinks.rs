//! What sinks log that make requests: outages, refusals, limits of the other side.
//!
//! An outage is told when it begins, when its reason changes and when it ends.

use super::{DisplayDebug, millis};
use crate::time::Duration;

/// A request failed and is made again.
#[derive(Debug)]
pub struct PostFailed<'a> {
    /// The sink.
    pub component: &'a str,
    /// Where to.
    pub url: &'a dyn DisplayDebug,
    /// What went wrong, in our words.
    pub why: &'a str,
    /// What the server says, short and harmless; may be empty.
    pub excerpt: &'a str,
    /// What to look at, where time alone will not help; else empty.
    pub advice: &'static str,
    /// How long until the next attempt.
    pub retry_in: Duration,
    /// The first failure of an outage, or of this reason; the others are for debugging.
    pub is_news: bool,
}

impl PostFailed<'_> {
    /// Logs it: an error where somebody has to do something.
    pub fn log(&self) {
        let PostFailed {
            component,
            url,
            why,
            excerpt,
            advice,
            retry_in,
            is_news,
        } = self;
        let retry_ms = millis(*retry_in);
        let said = match *excerpt {
            "" => String::new(),
            _ => format!(" (it says: {excerpt})"),
        };
        if !*is_news {
            tracing::debug!(component, event = "post_failed", url = %url, reason = why, retry_ms,
                "{url}: {why}{said}; next attempt in {retry_ms} ms");
        } else if advice.is_empty() {
            tracing::warn!(component, event = "post_failed", url = %url, reason = why, retry_ms,
                "{url}: {why}{said}; next attempt in {retry_ms} ms");
        } else {
            tracing::error!(component, event = "post_failed", url = %url, reason = why, retry_ms,
                "{url}: {why}{said}; {advice}; next attempt in {retry_ms} ms, nothing is lost");
        }
    }
}

/// Requests are answered again after [`PostFailed`].
#[derive(Debug)]
pub struct PostRecovered<'a> {
    /// The sink.
    pub component: &'a str,
    /// Where to.
    pub url: &'a dyn DisplayDebug,
    /// Attempts that failed.
    pub failures: u64,
}

impl PostRecovered<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PostRecovered {
            component,
            url,
            failures,
        } = self;
        tracing::info!(component, event = "post_recovered", url = %url, failures,
            "{url} answers again, after {failures} failures");
    }
}

/// The destination will never take some events.
#[derive(Debug)]
pub struct EventsRefused<'a> {
    /// The sink.
    pub component: &'a str,
    /// Where they were to go.
    pub url: &'a dyn DisplayDebug,
    /// How many.
    pub events: u64,
    /// Why.
    pub why: &'a str,
}

impl EventsRefused<'_> {
    /// Logs it; one of a kind in ten seconds is written, the rest counted.
    pub fn log(&self) {
        let EventsRefused {
            component,
            url,
            events,
            why,
        } = self;
        tracing::warn!(component, event = "events_refused", url = %url, events, why,
            "{url} refuses {events} events: {why}; they go to the dead letters (errors_to) of \
             their pipeline, or are dropped where it has none");
    }
}

/// The destination does not take requests as large as they are.
#[derive(Debug)]
pub struct PostsSmaller<'a> {
    /// The sink.
    pub component: &'a str,
    /// Where to.
    pub url: &'a dyn DisplayDebug,
    /// The largest body from now on, in bytes.
    pub bytes_max: usize,
}

impl PostsSmaller<'_> {
    /// Logs it.
    pub fn log(&self) {
        let PostsSmaller {
            component,
            url,
            bytes_max,
        } = self;
        tracing::info!(component, event = "posts_smaller", url = %url, bytes_max,
            "{url} answered 413: requests have {bytes_max} bytes at most from now on \
             (batch.bytes)");
    }
}
