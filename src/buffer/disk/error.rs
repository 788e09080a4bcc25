//! What can go wrong with a disk buffer, and what the operator does about it.
//!
//! Each text says what was tried, on which file, why it failed and what comes next. None of
//! these has lost anything: what a commit could not write is still with its caller.

use std::fmt;
use std::io;

/// Why a buffer was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process owns it.
    InUse {
        /// What that process says of itself.
        by: String,
    },
    /// A segment was written by a later version of this program.
    Version {
        /// The file's name.
        file: String,
        /// The version of its format.
        version: u16,
    },
    /// Its epoch or its sequence is at its last number.
    Exhausted {
        /// Which.
        what: &'static str,
    },
    /// The file system refused something.
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        name: String,
        /// Why it failed.
        error: io::Error,
    },
}

impl OpenError {
    /// Whether the same start may succeed later: when another process has ended, or there is
    /// room.
    pub fn is_temporary(&self) -> bool {
        match self {
            OpenError::InUse { .. } => true,
            OpenError::Io { error, .. } => is_full(error),
            OpenError::Version { .. } | OpenError::Exhausted { .. } => false,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { by } if by.is_empty() => {
                write!(f, "the buffer is in use by another process: stop it first")
            }
            OpenError::InUse { by } => {
                write!(f, "the buffer is in use by {by}: stop it first")
            }
            OpenError::Version { file, version } => write!(
                f,
                "{file} has format version {version}, this program writes version 1: \
                 use the program that wrote it, or move the buffer's folder away"
            ),
            OpenError::Exhausted { what } => write!(
                f,
                "the {what} of the buffer is at its last number: \
                 export its events, then move the buffer's folder away"
            ),
            OpenError::Io { what, name, error } if is_full(error) => write!(
                f,
                "cannot {what} {name}: {error}; free some space and start again"
            ),
            OpenError::Io { what, name, error } => write!(
                f,
                "cannot {what} {name}: {error}; see `marline buffer check`"
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a group was not committed. Nothing of it counts; the caller still has it.
#[derive(Debug)]
pub enum CommitError {
    /// There is no room: on the device, for this user, or in the buffer's own size. The same
    /// group can be committed when there is.
    Full {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The device failed. The file is given up; the next commit begins another.
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The group is none: its numbers do not follow the last one's, a record has no events or
    /// too long a payload, or the numbers are used up. A mistake of the caller.
    Refused {
        /// What is wrong with it.
        why: &'static str,
        /// The number of the record.
        seq: u64,
    },
}

impl CommitError {
    /// The error of the system in `what`, by its kind.
    pub(super) fn of(what: &'static str, error: io::Error) -> CommitError {
        if is_full(&error) {
            CommitError::Full { what, error }
        } else {
            CommitError::Failed { what, error }
        }
    }
}

/// Whether there is no room, rather than something broken.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Full { what, error } => write!(
                f,
                "no room to {what} of the disk buffer: {error}; tried again until there is"
            ),
            CommitError::Failed { what, error } => write!(
                f,
                "cannot {what} of the disk buffer: {error}; tried again with a new segment"
            ),
            CommitError::Refused { why, seq } => {
                write!(f, "the record of event {seq} cannot be written: {why}")
            }
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommitError::Full { error, .. } | CommitError::Failed { error, .. } => Some(error),
            CommitError::Refused { .. } => None,
        }
    }
}

/// Why what is delivered could not be written down or deleted. It is tried again with the next;
/// until then a crash repeats more, and deleted files may come back and are deleted again.
#[derive(Debug)]
pub struct KeepError {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub name: String,
    /// Why it failed.
    pub error: io::Error,
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeepError { what, name, error } = self;
        write!(
            f,
            "cannot {what} {name} of the disk buffer: {error}; tried again with the next"
        )
    }
}

impl std::error::Error for KeepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
