//! What disk buffers log: what was found at the start, damage, a full disk, a failing one.
//!
//! Damage that concerns what was acknowledged is an error, and so is a disk that fails; what
//! costs nothing is news. Each is said when it begins and when it is over.

use super::DisplayDebug;

/// A disk buffer was opened.
#[derive(Debug)]
pub struct BufferOpened<'a> {
    /// The sink.
    pub sink: &'a str,
    /// Events that an earlier run left.
    pub recovered: u64,
    /// How many of these may have been delivered already.
    pub may_repeat: u64,
    /// What its files take, in bytes.
    pub used_bytes: u64,
    /// The most that they may take, in bytes.
    pub size_bytes: u64,
    /// Segments that were opened for it.
    pub segments_opened: u32,
    /// What an event in it survives.
    pub survives: &'a str,
}

impl BufferOpened<'_> {
    /// Logs it.
    pub fn log(&self) {
        let component = format!("sink.{}", self.sink);
        let BufferOpened {
            recovered,
            may_repeat,
            used_bytes,
            size_bytes,
            segments_opened,
            survives,
            ..
        } = self;
        let replaying = match may_repeat {
            0 => String::new(),
            _ => format!(", replaying {may_repeat} that may have been delivered"),
        };
        tracing::info!(
            component,
            event = "buffer_opened",
            recovered,
            may_repeat,
            used_bytes,
            size_bytes,
            segments_opened,
            survives,
            "disk buffer holds {recovered} events{replaying}; what is acknowledged survives \
             {survives}"
        );
    }
}

/// Something in a disk buffer is not as it should be.
#[derive(Debug)]
pub struct BufferDamaged<'a> {
    /// The sink.
    pub sink: &'a str,
    /// What, and where.
    pub what: &'a dyn DisplayDebug,
    /// Whether acknowledged events may be lost.
    pub is_alarm: bool,
}

impl BufferDamaged<'_> {
    /// Logs it.
    pub fn log(&self) {
        let component = format!("sink.{}", self.sink);
        let what = self.what;
        if self.is_alarm {
            tracing::error!(component, event = "buffer_damaged", what = %what,
                "disk buffer: {what}");
        } else {
            tracing::info!(component, event = "buffer_repaired", what = %what,
                "disk buffer: {what}");
        }
    }
}

/// A disk buffer has no room; nothing is lost by that alone.
#[derive(Debug)]
pub struct BufferFull<'a> {
    /// The sink.
    pub sink: &'a str,
    /// Why.
    pub why: &'a dyn DisplayDebug,
}

impl BufferFull<'_> {
    /// Logs it.
    pub fn log(&self) {
        let component = format!("sink.{}", self.sink);
        let why = self.why;
        tracing::warn!(component, event = "buffer_full", why = %why, "{why}");
    }
}

/// A disk buffer cannot do its work.
#[derive(Debug)]
pub struct BufferFailed<'a> {
    /// The sink.
    pub sink: &'a str,
    /// What it could not do, why, and what comes next.
    pub why: &'a str,
}

impl BufferFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let component = format!("sink.{}", self.sink);
        let why = self.why;
        tracing::error!(component, event = "buffer_failed", why, "{why}");
    }
}

/// A disk buffer makes events durable again, after [`BufferFailed`].
#[derive(Debug)]
pub struct BufferRecovered<'a> {
    /// The sink.
    pub sink: &'a str,
}

impl BufferRecovered<'_> {
    /// Logs it.
    pub fn log(&self) {
        let component = format!("sink.{}", self.sink);
        tracing::info!(
            component,
            event = "buffer_recovered",
            "the disk buffer makes events durable again"
        );
    }
}
