//! Who tells of changes to files and directories: the part of the storage seam that is not asked
//! but tells. [`super::watcher_sys`] is the real one (inotify); `sim` has none.
//!
//! A watch is of a directory (its names come and go) or of an open file (it changes, is renamed,
//! loses a name). What is told is a hint: who gets it looks at the file itself. Hints may be
//! many for one change, and one may stand for many changes; none is ever left out but with
//! [`Change::Overflow`], after which everything must be looked at.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::storage::File;

/// Tells of changes. Adding a watch may block; the rest does not.
pub trait Watcher: Send + Sync {
    /// A descriptor that becomes readable when there is something to tell.
    fn descriptor(&self) -> io::Result<OwnedFd>;

    /// Tells of names that come and go in the directory at `path`, and of its own end. The same
    /// answer for the same directory.
    fn watch_directory(&self, path: &Path) -> io::Result<WatchId>;

    /// Tells of changes of `file`, whatever its name. `Unsupported` for one that is not real.
    fn watch_file(&self, file: &dyn File) -> io::Result<WatchId>;

    /// Tells no more. Nothing happens where the watch has ended by itself.
    fn forget(&self, watch: WatchId);

    /// Adds what has happened since the last call to `changes`, up to [`CHANGES_MAX`] at once.
    /// Says whether there may be more.
    fn changes(&self, changes: &mut Vec<Change>) -> io::Result<bool>;

    /// Whether the file system at `path` tells of all changes: network file systems do not tell
    /// of those that others make.
    fn is_reliable(&self, path: &Path) -> io::Result<bool>;
}

/// One watch; its number is used again after its end, but not soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// Changes that one call of [`Watcher::changes`] tells at most.
pub const CHANGES_MAX: usize = 1024;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A watched file was written to, cut, renamed, or has lost a name.
    File(WatchId),
    /// A name in a watched directory has come or gone; `None` is the directory itself, or a
    /// name that is not UTF-8.
    Name(WatchId, Option<String>),
    /// The watch has ended: what it was of is gone.
    Ended(WatchId),
    /// Changes were left out: look at everything.
    Overflow,
}
