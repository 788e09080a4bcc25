//! What sources log that follow files: what was found, cut, renamed, or cannot be read.
//!
//! A file that cannot be read is warned of once, not at every attempt.

use super::DisplayDebug;

/// A file is followed from now on.
#[derive(Debug)]
pub struct FileFollowed<'a> {
    /// The source.
    pub component: &'a str,
    /// Where it is.
    pub path: &'a dyn DisplayDebug,
    /// Where in it reading begins, in bytes.
    pub offset: u64,
    /// Whether it was known from before.
    pub is_known: bool,
}

impl FileFollowed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileFollowed {
            component,
            path,
            offset,
            is_known,
        } = self;
        let from = if *is_known { "goes on" } else { "begins" };
        tracing::debug!(component, event = "file_followed", path = %path, offset, known = is_known,
            "reading of {path} {from} at byte {offset}");
    }
}

/// Another file has the name of one that is followed; that one is read to its end first.
#[derive(Debug)]
pub struct FileRotated<'a> {
    /// The source.
    pub component: &'a str,
    /// The name.
    pub path: &'a dyn DisplayDebug,
}

impl FileRotated<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileRotated { component, path } = self;
        tracing::info!(component, event = "file_rotated", path = %path,
            "{path} is another file now");
    }
}

/// A file was cut, or written anew: it is read from its beginning.
#[derive(Debug)]
pub struct FileTruncated<'a> {
    /// The source.
    pub component: &'a str,
    /// Where it is.
    pub path: &'a dyn DisplayDebug,
    /// Bytes that are known to have been there and were not read.
    pub lost_bytes: u64,
}

impl FileTruncated<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileTruncated {
            component,
            path,
            lost_bytes,
        } = self;
        if *lost_bytes > 0 {
            tracing::warn!(component, event = "file_truncated", path = %path, lost_bytes,
                "{path} was cut while {lost_bytes} bytes of it were not read yet");
        } else {
            tracing::info!(component, event = "file_truncated", path = %path, lost_bytes,
                "{path} was cut: it is read from its beginning");
        }
    }
}

/// A file cannot be read; it is tried again.
#[derive(Debug)]
pub struct FileUnreadable<'a> {
    /// The source.
    pub component: &'a str,
    /// Where it is.
    pub path: &'a dyn DisplayDebug,
    /// Why.
    pub why: &'a dyn DisplayDebug,
}

impl FileUnreadable<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileUnreadable {
            component,
            path,
            why,
        } = self;
        tracing::warn!(component, event = "file_unreadable", path = %path, why = %why,
            "cannot read {path}: {why}");
    }
}

/// A file can be read after [`FileUnreadable`].
#[derive(Debug)]
pub struct FileReadable<'a> {
    /// The source.
    pub component: &'a str,
    /// Where it is.
    pub path: &'a dyn DisplayDebug,
}

impl FileReadable<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileReadable { component, path } = self;
        tracing::info!(component, event = "file_readable", path = %path,
            "{path} can be read again");
    }
}

/// What a pattern matches is no file that can be followed.
#[derive(Debug)]
pub struct FileRefused<'a> {
    /// The source.
    pub component: &'a str,
    /// Where it is.
    pub path: &'a dyn DisplayDebug,
    /// Why.
    pub why: &'a str,
}

impl FileRefused<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileRefused {
            component,
            path,
            why,
        } = self;
        tracing::warn!(component, event = "file_refused", path = %path, why,
            "{path} is not followed: {why}");
    }
}

/// More files match than one source follows.
#[derive(Debug)]
pub struct FilesTooMany<'a> {
    /// The source.
    pub component: &'a str,
    /// How many it follows.
    pub files: u64,
}

impl FilesTooMany<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FilesTooMany { component, files } = self;
        tracing::warn!(
            component,
            event = "files_too_many",
            files,
            "more matches than one source follows: {files} files; the rest is left out"
        );
    }
}

/// Nobody tells of changes: files are looked at again and again.
#[derive(Debug)]
pub struct FilesPolled<'a> {
    /// The source.
    pub component: &'a str,
    /// Why.
    pub why: &'a str,
}

impl FilesPolled<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FilesPolled { component, why } = self;
        tracing::warn!(
            component,
            event = "files_polled",
            why,
            "files are looked at every `poll_interval`: {why}"
        );
    }
}

/// Parts of a checkpoint file cannot be read.
#[derive(Debug)]
pub struct CheckpointsDamaged<'a> {
    /// The source.
    pub component: &'a str,
    /// Files of which nothing is known any more.
    pub lost: u64,
    /// Files of which a copy is left, possibly an earlier one.
    pub damaged: u64,
    /// The file is none of checkpoints at all, or of a newer version.
    pub is_foreign: bool,
}

impl CheckpointsDamaged<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CheckpointsDamaged {
            component,
            lost,
            damaged,
            is_foreign,
        } = self;
        tracing::warn!(
            component,
            event = "checkpoints_damaged",
            lost,
            damaged,
            foreign = is_foreign,
            "the checkpoints are damaged ({lost} files lost, {damaged} files with an earlier \
             place, foreign: {is_foreign}): what is not known is read again"
        );
    }
}

/// Checkpoints cannot be read or written; it is tried again.
#[derive(Debug)]
pub struct CheckpointsFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// `open` or `write`.
    pub action: &'a str,
    /// Why.
    pub failure: &'a dyn DisplayDebug,
}

impl CheckpointsFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CheckpointsFailed {
            component,
            action,
            failure,
        } = self;
        tracing::error!(component, event = "checkpoints_failed", action, why = %failure,
            "cannot {action} the checkpoints: {failure}");
    }
}

/// What a source that follows files counts.
#[derive(Debug)]
pub struct FileCounts<'a> {
    /// The source.
    pub component: &'a str,
    /// Files that it follows.
    pub files: u64,
    /// Bytes of them that are not read yet.
    pub behind_bytes: u64,
    /// Names that another file got.
    pub rotations: u64,
    /// Files that were cut.
    pub truncations: u64,
    /// Bytes known to have been cut off before they were read.
    pub lost_bytes: u64,
}

impl FileCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let FileCounts {
            component,
            files,
            behind_bytes,
            rotations,
            truncations,
            lost_bytes,
        } = self;
        tracing::info!(
            component,
            event = "file_counts",
            files,
            behind_bytes,
            rotations,
            truncations,
            lost_bytes,
            "followed {files} files, {behind_bytes} bytes behind; {rotations} rotations, \
             {truncations} truncations"
        );
    }
}
