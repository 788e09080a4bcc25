//! What the daemon says for its operator about itself: the admin socket, which sinks can stop
//! which sources, and that it cannot say more.
//!
//! All but the last of these are said once, at the start.

use super::DisplayDebug;

/// The admin socket is there.
#[derive(Debug)]
pub struct AdminOpened<'a> {
    /// Its path.
    pub path: &'a dyn DisplayDebug,
}

impl AdminOpened<'_> {
    /// Logs it.
    pub fn log(&self) {
        let AdminOpened { path } = self;
        tracing::info!(component = "daemon", event = "admin_opened", path = %path,
            "`marline status` asks at {path}");
    }
}

/// There is no admin socket, and nobody had insisted.
#[derive(Debug)]
pub struct AdminUnavailable<'a> {
    /// Why not, and what to do.
    pub why: &'a str,
}

impl AdminUnavailable<'_> {
    /// Logs it.
    pub fn log(&self) {
        let AdminUnavailable { why } = self;
        tracing::warn!(
            component = "daemon",
            event = "admin_unavailable",
            why,
            "runs without an admin socket: {why}; daemon.admin names another place, or \"off\""
        );
    }
}

/// The metrics listener is there.
#[derive(Debug)]
pub struct MetricsOpened<'a> {
    /// Where it listens, with the real port.
    pub address: &'a dyn DisplayDebug,
}

impl MetricsOpened<'_> {
    /// Logs it.
    pub fn log(&self) {
        let MetricsOpened { address } = self;
        tracing::info!(component = "daemon", event = "metrics_opened", address = %address,
            "metrics at http://{address}/metrics");
    }
}

/// The sinks that can make a source stand still.
#[derive(Debug)]
pub struct StoppedBy<'a> {
    /// The source's name, without `source.`.
    pub source: &'a str,
    /// The sinks' names, each with what in the wiring says so.
    pub sinks: &'a [(&'a str, &'static str)],
}

impl StoppedBy<'_> {
    /// Logs it.
    pub fn log(&self) {
        let StoppedBy { source, sinks } = self;
        let sinks = by_reason(sinks);
        let component = format!("source.{source}");
        if sinks.is_empty() {
            tracing::info!(
                component,
                event = "stopped_by",
                sinks,
                "source {source} is stopped by no sink"
            );
        } else {
            tracing::info!(
                component,
                event = "stopped_by",
                sinks,
                "source {source} stops when one of these is full: {sinks}"
            );
        }
    }
}

/// Somebody asked for the counts of all components, and they are not to be had.
#[derive(Debug)]
pub struct CountsMissing<'a> {
    /// Who keeps them back.
    pub why: &'a dyn DisplayDebug,
}

impl CountsMissing<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CountsMissing { why } = self;
        tracing::warn!(component = "daemon", event = "counts_missing", why = %why,
            "cannot tell the counts: a reactor does not answer: {why}");
    }
}

/// `collector, archive (required), letters (errors_to)`.
fn by_reason(sinks: &[(&str, &'static str)]) -> String {
    let mut words: Vec<&'static str> = sinks.iter().map(|(_, why)| *why).collect();
    words.sort_unstable_by(|one, other| other.cmp(one)); // `required` first
    words.dedup();
    let groups = words.into_iter().map(|word| {
        let names = sinks.iter().filter(|(_, why)| *why == word);
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        format!("{} ({word})", names.join(", "))
    });
    groups.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_named_by_what_makes_them_stop_a_source() {
        let sinks = [
            ("collector", "required"),
            ("letters", "errors_to"),
            ("archive", "required"),
        ];
        let shown = "collector, archive (required), letters (errors_to)";
        assert_eq!(by_reason(&sinks), shown);
        assert_eq!(by_reason(&[]), "");
    }
}
