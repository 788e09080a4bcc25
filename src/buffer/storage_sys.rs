//! The real file system behind the [`super::storage`] seam, by rustix, without unsafe code.
//!
//! Confinement is the kernel's: every name is resolved by openat2 with RESOLVE_BENEATH,
//! RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS from a descriptor that was opened at start,
//! so there is no race between a check and a use. Files are opened with O_NONBLOCK and checked
//! after they were opened (regular, one name), so a planted fifo or device blocks nobody.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Once};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{
    self, AtFlags, FallocateFlags, FileType, FlockOperation, OFlags, ResolveFlags, Stat,
};
use rustix::io::{Errno, retry_on_intr};
use signal_hook::consts::signal::SIGXFSZ;

use super::storage::{
    Directory, File, Inode, Kind, Lock, Metadata, Mode, Open, Refusal, SLICES_MAX, Storage, is_name,
};
use super::watcher::Watcher;
use super::watcher_sys::SystemWatcher;

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStorage;

impl Storage for SystemStorage {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        ignore_size_signal();
        let open = || retry_on_intr(|| fs::open(path, DIRECTORY, fs::Mode::empty()));
        let fd = match (open(), make) {
            (Err(Errno::NOENT), Some(mode)) => {
                make_all(path, mode)?;
                open()?
            }
            (other, _) => other?,
        };
        Ok(Arc::new(SystemDirectory(fd)))
    }

    fn standard_output(&self) -> Arc<dyn File> {
        Arc::new(StandardOutput)
    }

    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        const READ: OFlags = OFlags::NONBLOCK
            .union(OFlags::CLOEXEC)
            .union(OFlags::NOCTTY);
        let fd = retry_on_intr(|| fs::open(path, READ, fs::Mode::empty()))?;
        let found = metadata(&fs::fstat(&fd)?);
        match found.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::ISDIR.into()),
            Kind::Other => return Err(Refusal::NotAFile.into()),
        }
        let stat = fs::lstat(path)?;
        let named = metadata(&stat);
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let own = rustix::process::geteuid().as_raw();
        if is_link && ![0, own, found.owner].contains(&named.owner) {
            return Err(Refusal::ForeignLink.into());
        }
        if !is_link && named.inode != found.inode {
            // Renamed in between, and nobody knows what the name was when it was opened.
            return Err(Errno::NOENT.into());
        }
        Ok(Arc::new(SystemFile(fd)))
    }

    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        Ok(Arc::new(SystemWatcher::new()?))
    }
}

/// A write beyond the limit of file sizes comes with SIGXFSZ, which would end the process; the
/// error of the write is all that is wanted. A handler that sets an unread flag is how a signal
/// is ignored without unsafe code.
fn ignore_size_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let registered = signal_hook::flag::register(SIGXFSZ, Arc::default());
        if let Err(error) = registered {
            tracing::warn!(%error, "cannot ignore SIGXFSZ: a file size limit ends the daemon");
        }
    });
}

/// Makes `path` and its missing parents; one that appears meanwhile is as good.
fn make_all(path: &Path, mode: Mode) -> io::Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    for ancestor in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        if fs::stat(ancestor).is_ok() {
            break;
        }
        missing.push(ancestor);
    }
    for part in missing.into_iter().rev() {
        match fs::mkdir(part, fs::Mode::from_raw_mode(mode)) {
            Ok(()) => fs::chmod(part, fs::Mode::from_raw_mode(mode))?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A directory that is held open.
struct SystemDirectory(OwnedFd);

impl SystemDirectory {
    /// Opens `name` beneath this directory; `mode` counts only where `flags` create.
    fn beneath(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mode = fs::Mode::from_raw_mode(mode);
        retry_on_intr(|| fs::openat2(&self.0, name, flags, mode, BENEATH))
    }

    /// The directory that `name` is in, or `None` where that is this one, and its last part.
    fn parent<'a>(&self, name: &'a str) -> io::Result<(Option<OwnedFd>, &'a str)> {
        check(name)?;
        match name.rsplit_once('/') {
            Some((parent, last)) => Ok((Some(self.beneath(parent, DIRECTORY, 0)?), last)),
            None => Ok((None, name)),
        }
    }

    /// Opens for appending. Whether the file was made is known, so that its mode can be set
    /// as asked, whatever the umask.
    fn open_append(&self, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
        const APPEND: OFlags = FILE.union(OFlags::WRONLY).union(OFlags::APPEND);
        for _ in 0..CREATE_RACES_MAX {
            match self.beneath(name, APPEND, 0) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
            match self.create(name, APPEND, mode) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
        Err(Errno::EXIST)
    }

    fn create(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let fd = self.beneath(name, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
        fs::fchmod(&fd, fs::Mode::from_raw_mode(mode))?;
        Ok(fd)
    }
}

impl Directory for SystemDirectory {
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>> {
        check(name)?;
        let fd = match open {
            Open::Read => self.beneath(name, FILE | OFlags::RDONLY, 0)?,
            Open::Write => self.beneath(name, FILE | OFlags::RDWR, 0)?,
            Open::Append(mode) => self.open_append(name, mode)?,
            Open::Create(mode) => self.create(name, FILE | OFlags::RDWR, mode)?,
        };
        let metadata = metadata(&fs::fstat(&fd)?);
        match metadata.kind {
            Kind::File if metadata.links == 1 => Ok(Arc::new(SystemFile(fd))),
            Kind::File => Err(Refusal::SeveralNames.into()),
            Kind::Directory => Err(Errno::ISDIR.into()),
            Kind::Other => Err(Refusal::NotAFile.into()),
        }
    }

    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        check(name)?;
        if let Ok(fd) = self.beneath(name, DIRECTORY, 0) {
            return Ok(Arc::new(SystemDirectory(fd)));
        }
        let parts = name.match_indices('/').map(|(at, _)| at);
        for end in parts.chain([name.len()]) {
            match (self.beneath(&name[..end], DIRECTORY, 0), make) {
                (Ok(fd), _) if end == name.len() => return Ok(Arc::new(SystemDirectory(fd))),
                (Ok(_), _) => {}
                (Err(Errno::NOENT), Some(mode)) => self.make(&name[..end], mode)?,
                (Err(error), _) => return Err(error.into()),
            }
        }
        Ok(Arc::new(SystemDirectory(self.beneath(name, DIRECTORY, 0)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (old_parent, old) = self.parent(from)?;
        let (new_parent, new) = self.parent(to)?;
        let old_parent = old_parent.as_ref().unwrap_or(&self.0);
        let new_parent = new_parent.as_ref().unwrap_or(&self.0);
        Ok(fs::renameat(old_parent, old, new_parent, new)?)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let (parent, last) = self.parent(name)?;
        let parent = parent.as_ref().unwrap_or(&self.0);
        Ok(fs::unlinkat(parent, last, AtFlags::empty())?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    fn stat(&self, name: &str) -> io::Result<Metadata> {
        let (parent, last) = self.parent(name)?;
        let parent = parent.as_ref().unwrap_or(&self.0);
        let stat = fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(metadata(&stat))
    }

    fn target(&self, name: &str) -> io::Result<Metadata> {
        let (parent, last) = self.parent(name)?;
        let parent = parent.as_ref().unwrap_or(&self.0);
        Ok(metadata(&fs::statat(parent, last, AtFlags::empty())?))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(&self.0))?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        check(name)?;
        let flags = FILE | OFlags::RDWR | OFlags::CREATE;
        let file = self.beneath(name, flags, 0o600)?;
        retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        fs::ftruncate(&file, 0)?;
        rustix::io::pwrite(&file, note, 0)?;
        Ok(Box::new(SystemLock(file)))
    }
}

/// The lock goes with the last descriptor of the open file, and no child inherits this one.
struct SystemLock(#[allow(dead_code, reason = "it is held, not used")] OwnedFd);

impl Lock for SystemLock {}

impl SystemDirectory {
    /// Makes the directory `name`, whose parent is there.
    fn make(&self, name: &str, mode: Mode) -> io::Result<()> {
        let (parent, last) = self.parent(name)?;
        let parent = parent.as_ref().unwrap_or(&self.0);
        match fs::mkdirat(parent, last, fs::Mode::from_raw_mode(mode)) {
            Ok(()) => {
                let made = self.beneath(name, DIRECTORY, 0)?;
                Ok(fs::fchmod(&made, fs::Mode::from_raw_mode(mode))?)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A regular file.
struct SystemFile(OwnedFd);

impl File for SystemFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        Ok(retry_on_intr(|| rustix::io::writev(&self.0, slices))?)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| {
            rustix::io::pwrite(&self.0, bytes, offset)
        })?)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| {
            rustix::io::pread(&self.0, &mut *buffer, offset)
        })?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fdatasync(&self.0))?)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let whole = || fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes);
        Ok(retry_on_intr(whole)?)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::ftruncate(&self.0, bytes))?)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&fs::fstat(&self.0)?))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Descriptor 1, whatever it is. It is shared with other processes, so it is not made
/// non-blocking: it is asked for room first and given no more than fits then.
struct StandardOutput;

impl File for StandardOutput {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let out = io::stdout();
        if metadata(&fs::fstat(&out)?).kind == Kind::File {
            let slices = &slices[..slices.len().min(SLICES_MAX)];
            return Ok(retry_on_intr(|| rustix::io::writev(&out, slices))?);
        }
        let mut polled = [PollFd::new(&out, PollFlags::OUT)];
        let ready = retry_on_intr(|| rustix::event::poll(&mut polled, Some(&NO_WAIT)))?;
        let Some(first) = slices.iter().find(|slice| !slice.is_empty()) else {
            return Ok(0);
        };
        if ready == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let fits = &first[..first.len().min(PIPE_ROOM_BYTES)];
        Ok(retry_on_intr(|| rustix::io::write(&out, fits))?)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&fs::fstat(io::stdout())?))
    }
}

fn check(name: &str) -> io::Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Refusal::BadName.into())
}

/// The types of the fields differ between architectures, hence the casts that look idle here.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn metadata(stat: &Stat) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    Metadata {
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        links: stat.st_nlink.into(),
        inode: Inode {
            device: stat.st_dev as u64,
            number: stat.st_ino as u64,
        },
        modified_micros: (stat.st_mtime as i64)
            .saturating_mul(1_000_000)
            .saturating_add(stat.st_mtime_nsec as i64 / 1000),
        owner: stat.st_uid,
    }
}

/// How a directory is opened. It is readable, so that it can be listed and synced.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// How a file is opened, whatever for.
const FILE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// No way out of the directory that a name is resolved from.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// How often a file may come and go between being looked for and being made.
const CREATE_RACES_MAX: usize = 8;

/// What a pipe takes without blocking once poll(2) says it is writable (PIPE_BUF).
const PIPE_ROOM_BYTES: usize = 4096;

const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

#[cfg(test)]
mod tests;
