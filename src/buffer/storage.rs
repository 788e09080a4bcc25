//! The seam to the file system: the only door to files after start.
//!
//! [`Storage`] opens a directory as a root; a [`Directory`] opens, renames and removes what is
//! beneath it and nothing else; a [`File`] is one regular file. Disk buffers, file sinks and
//! checkpoints all go through here; [`super::storage_sys`] is the real implementation and
//! `sim` has another.
//!
//! Every call blocks, for as long as the device likes. So calls are made by jobs on a storage
//! thread (`Handle::defer_to_thread`), never by a handler; everything here is `Send + Sync` so
//! that a job can hold it. Only the opening of a root at start is made in place.
//!
//! Confinement: names are relative, parts are separated by `/`, and no way leads out of the
//! root: `..`, absolute names, symbolic links and magic links are errors at whatever part they
//! stand. What is opened is a regular file with one name, or an error. Errors are the system's
//! (`io::Error` with its errno) or a [`Refusal`].

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use super::watcher::Watcher;

/// The file system, and the process's standard output.
pub trait Storage: Send + Sync {
    /// Opens the directory at `path`, which the operator chose: it may be relative to the
    /// working directory and may lead through symbolic links. With `make`, missing directories
    /// are made with that mode first.
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>>;

    /// Standard output. Only [`File::append`] works on it; it answers `WouldBlock` rather than
    /// wait for a reader.
    fn standard_output(&self) -> Arc<dyn File>;

    /// Opens the regular file at `path` for reading alone, as what others write: it may have
    /// several names, or none by now. A symbolic link at its end is followed where it belongs
    /// to root, to this process's user or to the file's owner ([`Refusal::ForeignLink`]): who
    /// may plant a link in a directory of logs cannot have somebody else's files read.
    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Tells of changes to files and directories. `Unsupported` where nothing can: then one
    /// must look again and again.
    fn watcher(&self) -> io::Result<Arc<dyn Watcher>>;
}

/// Permission bits, `0o640`, as the file shall have them: the umask does not count.
pub type Mode = u32;

/// A directory that is held open: renaming, moving or hiding it changes nothing here.
pub trait Directory: Send + Sync {
    /// Opens the regular file `name`. Nothing blocks on what is no file (F: a fifo).
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>>;

    /// Opens the directory `name`; with `make`, each missing part is made with that mode.
    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>>;

    /// Gives the file `from` the name `to`; a file that had it is gone. Both are beneath here.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes the name of the file away.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// The names in this directory (without `.` and `..`), in no order. Names that are not
    /// UTF-8 are left out: nobody here made them.
    fn list(&self) -> io::Result<Vec<String>>;

    /// What `name` is; of a symbolic link at its end, the link itself.
    fn stat(&self, name: &str) -> io::Result<Metadata>;

    /// What `name` leads to: as [`Directory::stat`], but a symbolic link at its end is followed.
    fn target(&self, name: &str) -> io::Result<Metadata>;

    /// Makes what was created, renamed and unlinked directly in this directory durable.
    fn sync(&self) -> io::Result<()>;

    /// Bytes that may still be written to the file system by this user.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Locks the file `name`, made with mode 0600 where it is missing, for one holder (flock);
    /// dropping the answer lets go of it, and so does the end of the process. `note` replaces
    /// what the file holds, for whoever wonders who it is. `WouldBlock`: another has it.
    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>>;
}

/// A lock that is held until it is dropped.
pub trait Lock: Send + Sync {}

/// How a file is opened. Every way fails where the name is no regular file or has a second
/// name ([`Refusal`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing at offsets.
    Write,
    /// For appending only, made with the mode where it is missing. Every write goes to the end
    /// as it is then, also after somebody else truncated the file.
    Append(Mode),
    /// Made with the mode, for reading and writing at offsets; an error where it exists.
    Create(Mode),
}

/// A regular file, or standard output.
pub trait File: Send + Sync {
    /// Writes at the end; answers how many bytes were taken, in order, at least one of a list
    /// that is not empty. Lists longer than [`SLICES_MAX`] are taken in part.
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes at `offset`; answers how many bytes were taken.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads from `offset`; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes the content, and the length it needs, durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// Reserves the file's first `bytes` on the device, which makes it at least that long, in
    /// zeros where nothing was written (fallocate): writing there cannot run out of space.
    /// `Unsupported` where the file system cannot.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts or extends the file to `bytes`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// What the file is now.
    fn metadata(&self) -> io::Result<Metadata>;

    /// The descriptor of a real file, for a [`Watcher`].
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// How many slices one [`File::append`] takes (IOV_MAX).
pub const SLICES_MAX: usize = 1024;

/// What is known of a name or an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many names it has; 0 when the last one is gone.
    pub links: u64,
    /// Which one of its device it is.
    pub inode: Inode,
    /// When its content last changed, in microseconds since 1970-01-01T00:00:00Z.
    pub modified_micros: i64,
    /// The user that it belongs to.
    pub owner: u32,
}

/// The identity of a file: the same for every name and every time it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The file system it is on.
    pub device: u64,
    /// Its number there.
    pub number: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, fifo, socket or device.
    Other,
}

/// Why a name that could be opened was refused. It is the inner error of the `io::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A fifo, socket or device.
    NotAFile,
    /// The file has other names (hard links): writing here would write there too.
    SeveralNames,
    /// A symbolic link that belongs to neither root nor the owner of the file it leads to.
    ForeignLink,
    /// The name is empty, or leads out of the directory, or has an empty or `.` part.
    BadName,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotAFile => "not a regular file",
            Refusal::SeveralNames => "the file has other names (hard links)",
            Refusal::ForeignLink => {
                "a symbolic link that belongs to neither root nor the file's owner"
            }
            Refusal::BadName => "not a name of something in this directory",
        })
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::other(refusal)
    }
}

impl Refusal {
    /// The refusal inside `error`, if that is what it is.
    pub fn of(error: &io::Error) -> Option<Refusal> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// Whether `name` may be asked for beneath a directory: relative, no empty, `.` or `..` part,
/// no NUL. Every implementation refuses the others with [`Refusal::BadName`].
pub fn is_name(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
