//! The real [`Watcher`]: inotify(7), by rustix.
//!
//! A file is watched by its open descriptor (through `/proc/self/fd`), so that the watch is on
//! the file that was opened and not on what has its name by then. Directories are told apart
//! from files by what was watched, since both tell of their own end alike.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::storage::File;
use super::watcher::{CHANGES_MAX, Change, WatchId, Watcher};

/// One inotify instance. The system gives each user a limited number (128 by default).
pub struct SystemWatcher {
    fd: OwnedFd,
    /// The watches of directories.
    directories: Mutex<HashSet<WatchId>>,
}

impl SystemWatcher {
    /// # Errors
    /// The system's: mostly that the user has too many.
    pub fn new() -> io::Result<SystemWatcher> {
        Ok(SystemWatcher {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            directories: Mutex::default(),
        })
    }

    fn directories(&self) -> MutexGuard<'_, HashSet<WatchId>> {
        // An insert or a removal cannot leave it broken.
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, event: &Event<'_>) -> Change {
        let (watch, what) = (WatchId(event.wd()), event.events());
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Change::Overflow;
        }
        if what.contains(ReadFlags::IGNORED) {
            self.directories().remove(&watch);
            return Change::Ended(watch);
        }
        if !self.directories().contains(&watch) {
            return Change::File(watch);
        }
        let name = event.file_name().and_then(|name| name.to_str().ok());
        Change::Name(watch, name.map(str::to_owned))
    }
}

impl Watcher for SystemWatcher {
    fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    fn watch_directory(&self, path: &Path) -> io::Result<WatchId> {
        // Without the lock, for this may block and the reactor takes it. What is told of the
        // directory before it is listed here is seen by whoever lists it afterwards.
        let watch = WatchId(inotify::add_watch(&self.fd, path, DIRECTORY)?);
        self.directories().insert(watch);
        Ok(watch)
    }

    fn watch_file(&self, file: &dyn File) -> io::Result<WatchId> {
        let fd = file.descriptor().ok_or(io::ErrorKind::Unsupported)?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(WatchId(inotify::add_watch(&self.fd, path, FILE)?))
    }

    fn forget(&self, watch: WatchId) {
        // Fails where it has ended by itself, which is what was wanted.
        let _ = inotify::remove_watch(&self.fd, watch.0);
    }

    fn changes(&self, changes: &mut Vec<Change>) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let change = self.change(&event);
                    if changes.last() != Some(&change) {
                        changes.push(change);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if changes.len() >= CHANGES_MAX && reader.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    fn is_reliable(&self, path: &Path) -> io::Result<bool> {
        let kind = rustix::fs::statfs(path)?.f_type;
        #[allow(clippy::unnecessary_cast)] // its type differs between architectures
        let kind = kind as u32;
        Ok(!SILENT.contains(&kind))
    }
}

/// What of a directory matters: names that come and go, who may read them, and its own end.
const DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What of a file matters; a lost name is a change of its attributes.
const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

/// What one read takes at most; an event has 16 bytes and its name.
const READ_BYTES: usize = 16 << 10;

/// File systems on which others than this machine's kernel change files, or whose files change
/// in another layer (statfs(2)): NFS, SMB, CIFS, SMB2, FUSE, 9p, Ceph, AFS, overlayfs.
const SILENT: [u32; 9] = [
    0x6969,
    0x517B,
    0xFF53_4D42,
    0xFE53_4D42,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x794C_7630,
];
