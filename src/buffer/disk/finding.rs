//! What was found in a disk buffer that is not as it should be, for the log and the operator.
//!
//! A finding is never an error: whoever made it has dealt with it already, or (offline) only
//! looked. Lost events are counted by the reader's gaps, not by findings.

use std::fmt;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the file, within the buffer's folder.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes are concerned.
    pub bytes: u64,
    /// What it is.
    pub what: What,
    /// The name of the copy in quarantine, within the buffer's folder.
    pub quarantined: Option<String>,
}

/// What a finding is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The last group was not written to its end; nobody was promised it.
    TornTail,
    /// Bytes that are no valid record, with valid ones behind them.
    Damaged,
    /// The last records were copied to a new segment, being not proven durable.
    TailCopied {
        /// How many events they have.
        events: u64,
    },
    /// One of the two copies of a segment's header is damaged.
    HeaderCopyDamaged,
    /// A segment without a valid header.
    NoHeader,
    /// A segment that belongs to another buffer.
    Foreign,
    /// A segment whose name says another number than its header.
    Misnamed {
        /// What its header says.
        base_seq: u64,
    },
    /// A segment with a smaller epoch than one before it.
    Stale {
        /// Its epoch.
        epoch: u64,
    },
    /// A segment of a later format.
    Version {
        /// Its version.
        version: u16,
    },
    /// A segment that could not be opened or is no regular file.
    Unreadable {
        /// Why.
        error: String,
    },
    /// A delivered segment was there again, and was deleted again.
    Resurrected,
    /// There is no cursor, but there are segments: everything there is delivered again.
    CursorMissing,
    /// No slot of the cursor is valid: everything there is delivered again.
    CursorDamaged,
    /// The cursor belongs to another buffer: everything there is delivered again.
    CursorForeign,
    /// The cursor was ahead of the log: what it counts from is not there.
    CursorBeyondLog {
        /// The cursor's mark.
        cursor_seq: u64,
        /// Where the log ends.
        end_seq: u64,
    },
    /// Events are missing (offline check only; a running buffer reports gaps when it reads).
    Gap {
        /// The first that is missing.
        from_seq: u64,
        /// The first that is there again.
        to_seq: u64,
    },
}

impl Finding {
    /// One that concerns a whole file.
    pub(super) fn whole(file: String, bytes: u64, what: What) -> Finding {
        Finding {
            file,
            offset: 0,
            bytes,
            what,
            quarantined: None,
        }
    }
}

impl What {
    /// Whether acknowledged events may be gone, or delivered ones come again; else it is news.
    pub fn is_alarm(&self) -> bool {
        !matches!(
            self,
            What::TornTail | What::TailCopied { .. } | What::Resurrected | What::HeaderCopyDamaged
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.offset, self.what)?;
        if self.bytes > 0 {
            write!(f, " ({} bytes)", self.bytes)?;
        }
        match &self.quarantined {
            Some(name) => write!(f, ", kept in {name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::TornTail => f.write_str("an unfinished group that nobody was promised"),
            What::Damaged => f.write_str("damaged"),
            What::TailCopied { events } => {
                write!(f, "{events} events not proven durable were written anew")
            }
            What::HeaderCopyDamaged => f.write_str("one copy of the header is damaged"),
            What::NoHeader => f.write_str("no valid header"),
            What::Foreign => f.write_str("belongs to another buffer"),
            What::Misnamed { base_seq } => {
                write!(f, "is the segment of event {base_seq} under another name")
            }
            What::Stale { epoch } => write!(f, "is of an earlier time (epoch {epoch})"),
            What::Version { version } => write!(f, "has the unknown format version {version}"),
            What::Unreadable { error } => write!(f, "cannot be read: {error}"),
            What::Resurrected => f.write_str("was delivered and deleted before; deleted again"),
            What::CursorMissing => {
                f.write_str("is missing: all events of the buffer are delivered again")
            }
            What::CursorDamaged => {
                f.write_str("is damaged: all events of the buffer are delivered again")
            }
            What::CursorForeign => {
                f.write_str("belongs to another buffer: all events of this one are delivered again")
            }
            What::CursorBeyondLog {
                cursor_seq,
                end_seq,
            } => write!(
                f,
                "counts to event {cursor_seq}, the segments end at {end_seq}"
            ),
            What::Gap { from_seq, to_seq } => {
                let events = to_seq.saturating_sub(*from_seq);
                write!(
                    f,
                    "events {from_seq} to {to_seq} are missing, {events} in all"
                )
            }
        }
    }
}
