//! What sinks log that send over streams: events sent again that had arrived.
//!
//! One record for each replay, and one a run where less is kept than may be needed.

/// Events went out a second time, because their connection was lost after the peer's kernel had
/// acknowledged them: its process may not have read them.
#[derive(Debug)]
pub struct Replayed<'a> {
    /// The sink.
    pub component: &'a str,
    /// How many.
    pub events: u64,
}

impl Replayed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Replayed { component, events } = self;
        tracing::info!(
            component,
            event = "replayed",
            events,
            "sent {events} events again that the peer's kernel had acknowledged"
        );
    }
}

/// Less is kept for a replay than the peer's kernel may hold.
#[derive(Debug)]
pub struct ReplayShort<'a> {
    /// The sink.
    pub component: &'a str,
    /// Bytes of the stream that are kept.
    pub kept_bytes: u64,
    /// The largest window that the peer has advertised, in bytes.
    pub window_bytes: u64,
}

impl ReplayShort<'_> {
    /// Logs it.
    pub fn log(&self) {
        let ReplayShort {
            component,
            kept_bytes,
            window_bytes,
        } = self;
        tracing::warn!(
            component,
            event = "replay_short",
            kept_bytes,
            window_bytes,
            "the peer's kernel may hold {window_bytes} bytes that its process has not read, and \
             only {kept_bytes} are kept to be sent again: give the sink a larger `buffer.memory`, \
             or the daemon more memory"
        );
    }
}
