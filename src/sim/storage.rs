//! The disk of the simulated world: [`Storage`] in memory, with faults.
//!
//! Files live by inode and directories by name, so what is open outlives its name, as on a real
//! file system. A disk that has become full stays full for a number of attempts; other errors
//! strike once. What an append has answered for is in the file; the machine does not crash here.
//! Called by jobs, which are `Send`, so everything is behind one lock that nobody ever waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::faults::{Fault, FaultCounts, FaultPlan};
use super::random::Random;
use crate::buffer::storage::{
    Directory, File, Inode, Kind, Lock, Metadata, Mode, Open, Refusal, SLICES_MAX, Storage, is_name,
};
use crate::time::WallTime;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimStorage(Arc<Mutex<Disk>>);

struct Disk {
    plan: FaultPlan,
    random: Random,
    counts: FaultCounts,
    wall: WallTime,
    /// How many more attempts to write find the disk full.
    full_attempts: usize,
    directories: BTreeSet<String>,
    names: BTreeMap<String, u64>,
    /// The paths of files that somebody has locked.
    locked: BTreeSet<String>,
    contents: BTreeMap<u64, Content>,
    inodes: u64,
    /// Calls so far.
    calls: u64,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    has_name: bool,
    modified_micros: i64,
}

impl SimStorage {
    /// An empty disk on which nothing goes wrong yet.
    pub fn new(random: Random) -> Self {
        SimStorage(Arc::new(Mutex::new(Disk {
            plan: FaultPlan::quiet(),
            random,
            counts: FaultCounts::default(),
            wall: WallTime::from_micros(0),
            full_attempts: 0,
            directories: BTreeSet::new(),
            names: BTreeMap::new(),
            locked: BTreeSet::new(),
            contents: BTreeMap::new(),
            inodes: 0,
            calls: 0,
        })))
    }

    /// From now on things go wrong by `plan`; a disk that is full has room again.
    pub fn plan_faults(&self, plan: FaultPlan) {
        let mut disk = self.lock();
        disk.plan = plan;
        disk.full_attempts = 0;
    }

    /// How often each fault has happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.lock().counts
    }

    /// The time that changed files get from now on.
    pub fn set_wall(&self, wall: WallTime) {
        self.lock().wall = wall;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The names beneath the directory `path`, with what the files hold.
    pub fn files(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let disk = self.lock();
        let beneath = disk.names.iter().filter_map(|(name, inode)| {
            let rest = name.strip_prefix(path)?.strip_prefix('/')?;
            let content = disk.contents.get(inode)?;
            Some((rest.to_owned(), content.bytes.clone()))
        });
        beneath.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // Nothing foreign runs under the lock, so a poisoned disk is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> MutexGuard<'_, Disk> {
        let mut disk = self.lock();
        disk.calls += 1;
        disk
    }
}

impl Disk {
    fn strike(&mut self, fault: Fault) -> bool {
        let per_mille = self.plan.per_mille(fault);
        let strikes = self.random.chance(per_mille);
        self.counts.note(fault, u64::from(strikes));
        strikes
    }

    /// An error of the device, once.
    fn io_error(&mut self) -> io::Result<()> {
        if self.strike(Fault::DiskFailed) {
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    /// Whether there is room for anything now.
    fn check_room(&mut self) -> io::Result<()> {
        if self.full_attempts == 0 && self.strike(Fault::DiskFull) {
            self.full_attempts = self.random.between(1, FULL_ATTEMPTS_MAX);
        }
        if self.full_attempts > 0 {
            self.full_attempts -= 1;
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    fn create(&mut self, path: &str) -> io::Result<u64> {
        self.check_room()?;
        self.inodes += 1;
        let content = Content {
            bytes: Vec::new(),
            has_name: true,
            modified_micros: self.wall.as_micros(),
        };
        self.contents.insert(self.inodes, content);
        self.names.insert(path.to_owned(), self.inodes);
        Ok(self.inodes)
    }

    fn make_directories(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            if self.names.contains_key(&path[..end]) {
                return Err(Errno::NOTDIR.into());
            }
            self.directories.insert(path[..end].to_owned());
        }
        Ok(())
    }

    fn check_directory(&self, path: &str) -> io::Result<()> {
        if self.directories.contains(path) {
            return Ok(());
        }
        let is_file = self.names.contains_key(path);
        Err(if is_file { Errno::NOTDIR } else { Errno::NOENT }.into())
    }

    fn find(&self, path: &str) -> io::Result<u64> {
        let (parent, _) = path.rsplit_once('/').unwrap_or_default();
        self.check_directory(parent)?;
        if self.directories.contains(path) {
            return Err(Errno::ISDIR.into());
        }
        self.names.get(path).copied().ok_or(Errno::NOENT.into())
    }

    fn unname(&mut self, path: &str) {
        if let Some(content) = self
            .names
            .remove(path)
            .and_then(|inode| self.contents.get_mut(&inode))
        {
            content.has_name = false;
        }
    }

    fn content(&mut self, inode: u64) -> io::Result<&mut Content> {
        let micros = self.wall.as_micros();
        let content = self.contents.get_mut(&inode).ok_or(Errno::BADF)?;
        content.modified_micros = micros;
        Ok(content)
    }

    fn metadata(&self, inode: u64) -> io::Result<Metadata> {
        let content = self.contents.get(&inode).ok_or(Errno::BADF)?;
        Ok(Metadata {
            kind: Kind::File,
            bytes: content.bytes.len() as u64,
            links: u64::from(content.has_name),
            inode: Inode {
                device: 1,
                number: inode,
            },
            modified_micros: content.modified_micros,
        })
    }

    /// How much of `offered` bytes is taken; at least one of them.
    fn part_of(&mut self, offered: usize) -> usize {
        if offered > 1 && self.strike(Fault::PartialAppend) {
            return self.random.between(1, offered - 1);
        }
        offered
    }
}

impl Storage for SimStorage {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let path = path.to_str().ok_or(Errno::ILSEQ)?.trim_end_matches('/');
        let mut disk = self.call();
        if make.is_some() {
            disk.make_directories(path)?;
        }
        disk.check_directory(path)?;
        Ok(Arc::new(SimDirectory {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn standard_output(&self) -> Arc<dyn File> {
        Arc::new(SimFile {
            disk: self.clone(),
            inode: NO_INODE,
        })
    }
}

struct SimDirectory {
    disk: SimStorage,
    path: String,
}

impl SimDirectory {
    fn path_of(&self, name: &str) -> io::Result<String> {
        if !is_name(name) {
            return Err(Refusal::BadName.into());
        }
        Ok(format!("{}/{name}", self.path))
    }
}

impl Directory for SimDirectory {
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>> {
        let path = self.path_of(name)?;
        let mut disk = self.disk.call();
        disk.io_error()?;
        let found = disk.find(&path);
        let is_missing = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        let inode = match (found, open) {
            (Ok(_), Open::Create(_)) => return Err(Errno::EXIST.into()),
            (Err(_), Open::Append(_) | Open::Create(_)) if is_missing => {
                let (parent, _) = path.rsplit_once('/').unwrap_or_default();
                disk.check_directory(parent)?;
                disk.create(&path)?
            }
            (found, _) => found?,
        };
        Ok(Arc::new(SimFile {
            disk: self.disk.clone(),
            inode,
        }))
    }

    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let path = self.path_of(name)?;
        let mut disk = self.disk.call();
        if make.is_some() {
            disk.make_directories(&path)?;
        }
        disk.check_directory(&path)?;
        Ok(Arc::new(SimDirectory {
            disk: self.disk.clone(),
            path,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_of(from)?, self.path_of(to)?);
        let mut disk = self.disk.call();
        disk.io_error()?;
        let inode = disk.find(&from)?;
        match disk.find(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(target) if target == inode => return Ok(()),
            _ => {}
        }
        disk.unname(&to);
        disk.names.remove(&from);
        disk.names.insert(to, inode);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name)?;
        let mut disk = self.disk.call();
        disk.io_error()?;
        disk.find(&path)?;
        disk.unname(&path);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk.call();
        disk.io_error()?;
        let here = |path: &String| {
            let name = path.strip_prefix(&self.path)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        let files = disk.names.keys().filter_map(here);
        let directories = disk.directories.iter().filter_map(here);
        Ok(files.chain(directories).collect())
    }

    fn stat(&self, name: &str) -> io::Result<Metadata> {
        let path = self.path_of(name)?;
        let disk = self.disk.call();
        if disk.directories.contains(&path) {
            return Ok(Metadata {
                kind: Kind::Directory,
                bytes: 0,
                links: 1,
                inode: Inode {
                    device: 1,
                    number: NO_INODE,
                },
                modified_micros: 0,
            });
        }
        disk.metadata(disk.find(&path)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call().io_error()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let is_full = self.disk.call().full_attempts > 0;
        Ok(if is_full { 0 } else { u64::MAX })
    }

    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        let path = self.path_of(name)?;
        let mut disk = self.disk.call();
        if !disk.locked.insert(path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let inode = match disk.find(&path) {
            Ok(inode) => inode,
            Err(_) => disk.create(&path)?,
        };
        disk.content(inode)?.bytes = note.to_vec();
        Ok(Box::new(SimLock {
            disk: self.disk.clone(),
            path,
        }))
    }
}

struct SimLock {
    disk: SimStorage,
    path: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock().locked.remove(&self.path);
    }
}

struct SimFile {
    disk: SimStorage,
    inode: u64,
}

impl File for SimFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut disk = self.disk.call();
        disk.check_room()?;
        disk.io_error()?;
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        let taken = disk.part_of(slices.iter().map(|slice| slice.len()).sum());
        let bytes = slices.iter().flat_map(|slice| slice.iter()).take(taken);
        disk.content(self.inode)?.bytes.extend(bytes);
        Ok(taken)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.call();
        disk.check_room()?;
        disk.io_error()?;
        let taken = disk.part_of(bytes.len());
        let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let content = &mut disk.content(self.inode)?.bytes;
        let end = offset + taken;
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.call();
        disk.io_error()?;
        let content = disk.contents.get(&self.inode).ok_or(Errno::BADF)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.call();
        if disk.strike(Fault::SyncFailed) {
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.call();
        disk.check_room()?;
        let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
        let content = &mut disk.content(self.inode)?.bytes;
        content.resize(content.len().max(bytes), 0);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.call();
        let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
        disk.content(self.inode)?.bytes.resize(bytes, 0);
        Ok(())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.disk.call().metadata(self.inode)
    }
}

/// The longest that [`Fault::DiskFull`] lasts, in attempts to write.
const FULL_ATTEMPTS_MAX: usize = 12;

/// No file has it: standard output goes nowhere here.
const NO_INODE: u64 = 0;

#[cfg(test)]
mod tests;
