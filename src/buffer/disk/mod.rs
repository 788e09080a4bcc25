//! The disk buffer's log: records of events on disk, written in groups, read once, deleted.
//!
//! The format is docs/BUFFER_FORMAT.md. [`open`] recovers what an earlier process left and
//! answers three parts, each of which one job at a time owns: the [`Writer`] appends groups, the
//! [`Reader`] reads below the mark that the writer answered, the [`Keeper`] writes down what is
//! delivered and deletes it. They share a table of the segments and nothing else, so a writer
//! that waits for its device holds up neither of the others.
//!
//! Everything here blocks and is `Send`: it runs in jobs on storage threads, over the
//! [`super::storage`] seam. It knows neither events nor sinks: a payload is bytes, and a number
//! (*seq*) says which events they are. Files of an earlier process are read and removed, never
//! written. [`inspect`] looks at a buffer that nobody need own.

mod error;
mod finding;
mod format;
pub mod inspect;
mod keeper;
mod listing;
mod quarantine;
mod reader;
mod recovery;
mod scan;
mod shared;
mod tail;
mod writer;

use bytes::Bytes;

use crate::time::Duration;

pub use error::{CommitError, KeepError, OpenError};
pub use finding::{Finding, What};
pub use format::PAYLOAD_BYTES_MAX;
pub use keeper::{Evicted, Keeper, Kept};
pub use reader::{Gap, ReadOutcome, ReadRecord, Reader};
pub use recovery::open;
pub use shared::Sizer;
pub use writer::{Committed, SegmentInfo, Writer};

/// How a buffer is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most that its files may take, in bytes; at least [`SIZE_BYTES_MIN`].
    pub size_bytes: u64,
    /// When what was written is synced.
    pub durability: Durability,
    /// The longest payload of a record, in bytes; at most [`PAYLOAD_BYTES_MAX`].
    pub record_bytes_max: usize,
    /// What a segment takes, in bytes, unless one group needs more.
    pub segment_bytes: u64,
    /// The identity of the buffer in case it does not exist yet: 16 bytes that nobody else has.
    pub new_uuid: [u8; 16],
}

impl Settings {
    /// The settings of a buffer of `size_bytes`, the rest as the format says.
    pub fn new(size_bytes: u64, durability: Durability, new_uuid: [u8; 16]) -> Settings {
        Settings {
            size_bytes,
            durability,
            record_bytes_max: PAYLOAD_BYTES_MAX,
            segment_bytes: segment_bytes(size_bytes),
            new_uuid,
        }
    }

    /// The same for another size.
    pub(super) fn resized(self, size_bytes: u64) -> Settings {
        Settings {
            size_bytes,
            segment_bytes: segment_bytes(size_bytes),
            ..self
        }
    }

    /// The longest payload that a record may have here, in bytes: a quarter of the buffer, so
    /// that one record never waits for room that cannot come.
    pub fn payload_bytes_max(&self) -> usize {
        let quarter = usize::try_from(self.size_bytes / 4).unwrap_or(usize::MAX);
        self.record_bytes_max.min(PAYLOAD_BYTES_MAX).min(quarter)
    }

    /// The most that the quarantine may take, in bytes.
    pub fn quarantine_bytes_max(&self) -> u64 {
        self.size_bytes / 8
    }

    fn promise(&self) -> format::Promise {
        match self.durability {
            Durability::Commit => format::Promise::Commit,
            Durability::Interval(_) => format::Promise::Interval,
            Durability::Os => format::Promise::Os,
        }
    }
}

/// A sixteenth of the buffer, within limits.
fn segment_bytes(size_bytes: u64) -> u64 {
    (size_bytes / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// The smallest buffer, in bytes.
pub const SIZE_BYTES_MIN: u64 = 8 << 20;
/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The largest segment, in bytes, but for one that must take a larger group.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// The payload that one commit should be given, in bytes: more makes it late, not cheaper.
pub const GROUP_BYTES: usize = 1 << 20;

/// When what was written is synced, and so what an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the commit answers: a power cut costs nothing.
    Commit,
    /// When [`Writer::sync`] is called, which is to be so often: a power cut costs that much.
    Interval(Duration),
    /// Never: the end of the process costs nothing, a power cut what the system had not written.
    Os,
}

/// What one commit writes: a run of events, already encoded.
#[derive(Clone, Debug)]
pub struct Record {
    /// The number of its first event.
    pub first_seq: u64,
    /// How many events it has; at least one.
    pub count: u32,
    /// The events. Empty is allowed.
    pub payload: Bytes,
}

impl Record {
    /// What it takes in a segment, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        format::record_bytes(self.payload.len())
    }
}

/// A buffer that was opened.
pub struct Opened {
    /// Appends.
    pub writer: Writer,
    /// Reads what is durable.
    pub reader: Reader,
    /// Writes down what is delivered, and deletes.
    pub keeper: Keeper,
    /// What was there.
    pub recovered: Recovered,
    /// Changes its size.
    pub sizer: Sizer,
}

/// What an earlier process left.
#[derive(Debug)]
pub struct Recovered {
    /// The identity of the buffer.
    pub uuid: [u8; 16],
    /// The epoch that begins with this opening.
    pub epoch: u64,
    /// The first event not known to be delivered: where reading begins.
    pub first_seq: u64,
    /// The number of the next event to be written.
    pub next_seq: u64,
    /// Events from `first_seq` to `next_seq`. Gaps in them are reported when they are read.
    pub events: u64,
    /// How many of these may have been delivered already; 0 after a clean end.
    pub may_repeat: u64,
    /// What the files take, in bytes.
    pub used_bytes: u64,
    /// What was not as it should be, for the log.
    pub findings: Vec<Finding>,
    /// How many segments were opened; one or two unless something is damaged.
    pub segments_opened: u32,
}

#[cfg(test)]
mod tests;
