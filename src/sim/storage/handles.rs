//! What a process holds of the simulated disk: a root, directories, files, locks.
//!
//! Each belongs to one life of the process: after a crash or a kill every call on it fails with
//! ESTALE, and what it had locked is free.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::disk::{Disk, NO_INODE};
use super::{SimStorage, StorageCall};
use crate::buffer::storage::{
    Directory, File, Inode, Kind, Lock, Metadata, Mode, Open, Refusal, SLICES_MAX, Storage, is_name,
};
use crate::buffer::watcher::Watcher;

/// The disk as one process sees it: a new one after each end of a life.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) storage: SimStorage,
    pub(super) life: u64,
}

impl Process {
    fn call<T>(
        &self,
        call: StorageCall,
        effect: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.storage.lock().call(self.life, call, effect)
    }
}

impl Storage for SimStorage {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        self.this_life().root(path, make)
    }

    fn standard_output(&self) -> Arc<dyn File> {
        self.this_life().standard_output()
    }

    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.this_life().reader(path)
    }

    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        self.this_life().watcher()
    }
}

impl Storage for Process {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let path = path.to_str().ok_or(Errno::ILSEQ)?.trim_end_matches('/');
        self.call(StorageCall::Open, |disk| {
            if make.is_some() {
                disk.names.make_root(path)?;
            }
            disk.names.check_directory(path)
        })?;
        Ok(Arc::new(SimDirectory {
            process: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn standard_output(&self) -> Arc<dyn File> {
        Arc::new(SimFile {
            process: self.clone(),
            inode: NO_INODE,
        })
    }

    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (parent, name) = (path.parent(), path.file_name());
        let name = name.and_then(|name| name.to_str()).ok_or(Errno::ILSEQ)?;
        let parent = parent.ok_or(Errno::NOENT)?;
        self.root(parent, None)?.open(name, Open::Read)
    }

    /// Nothing tells: whoever wants to know looks again.
    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct SimDirectory {
    process: Process,
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
        let inode = self.process.call(StorageCall::Open, |disk| {
            disk.io_error()?;
            let inode = disk.open(&path, open)?;
            disk.count_open(inode, true);
            Ok(inode)
        })?;
        Ok(Arc::new(SimFile {
            process: self.process.clone(),
            inode,
        }))
    }

    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let path = self.path_of(name)?;
        self.process.call(StorageCall::Open, |disk| {
            if make.is_some() {
                disk.names.make_directories(&path)?;
            }
            disk.names.check_directory(&path)
        })?;
        Ok(Arc::new(SimDirectory {
            process: self.process.clone(),
            path,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_of(from)?, self.path_of(to)?);
        self.process.call(StorageCall::Rename, |disk| {
            disk.io_error()?;
            let inode = disk.names.find(&from)?;
            match disk.names.find(&to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(target) if target == inode => return Ok(()),
                _ => {}
            }
            disk.names.rename(&from, &to, inode);
            Ok(())
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name)?;
        self.process.call(StorageCall::Unlink, |disk| {
            disk.io_error()?;
            let inode = disk.names.find(&path)?;
            disk.names.remove(&path, inode);
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.process.call(StorageCall::Look, |disk| {
            disk.io_error()?;
            Ok(disk.names.list(&self.path))
        })
    }

    fn stat(&self, name: &str) -> io::Result<Metadata> {
        let path = self.path_of(name)?;
        self.process.call(StorageCall::Look, |disk| {
            if disk.names.is_directory(&path) {
                return Ok(Metadata {
                    kind: Kind::Directory,
                    bytes: 0,
                    links: 1,
                    inode: Inode {
                        device: 1,
                        number: NO_INODE,
                    },
                    modified_micros: 0,
                    owner: 0,
                });
            }
            disk.metadata(disk.names.find(&path)?)
        })
    }

    /// There are no symbolic links here.
    fn target(&self, name: &str) -> io::Result<Metadata> {
        self.stat(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.process.call(StorageCall::DirectorySync, |disk| {
            disk.io_error()?;
            disk.sync_directory(&self.path)
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let is_full = |disk: &mut Disk| Ok(disk.is_full());
        let is_full = self.process.call(StorageCall::Look, is_full)?;
        Ok(if is_full { 0 } else { u64::MAX })
    }

    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        let path = self.path_of(name)?;
        self.process
            .call(StorageCall::Open, |disk| disk.lock_file(&path, note))?;
        Ok(Box::new(SimLock {
            process: self.process.clone(),
            path,
        }))
    }
}

struct SimLock {
    process: Process,
    path: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.process.storage.lock();
        if disk.life() == self.process.life {
            disk.locked.remove(&self.path);
        }
    }
}

struct SimFile {
    process: Process,
    inode: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.process.storage.lock();
        if disk.life() == self.process.life {
            disk.count_open(self.inode, false);
        }
    }
}

impl File for SimFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        self.process.call(StorageCall::Write, |disk| {
            disk.check_room()?;
            disk.io_error()?;
            let taken = disk.part_of(slices.iter().map(|slice| slice.len()).sum());
            let content = disk.content(self.inode)?;
            let mut left = taken;
            let pieces = slices.iter().map_while(|slice| {
                let count = slice.len().min(left);
                left -= count;
                (count > 0 || slice.is_empty()).then(|| &slice[..count])
            });
            let pieces: Vec<&[u8]> = pieces.collect();
            content.write(&pieces, content.bytes().len());
            Ok(taken)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.process.call(StorageCall::Write, |disk| {
            let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
            if !disk.content(self.inode)?.is_reserved(offset + bytes.len()) {
                disk.check_room()?;
            }
            disk.io_error()?;
            let taken = disk.part_of(bytes.len());
            disk.content(self.inode)?.write(&[&bytes[..taken]], offset);
            Ok(taken)
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.call(StorageCall::Read, |disk| {
            disk.read_error()?;
            disk.read(self.inode, buffer, offset)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.process
            .call(StorageCall::Sync, |disk| disk.sync_file(self.inode))
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.process.call(StorageCall::Allocate, |disk| {
            disk.check_room()?;
            disk.io_error()?;
            let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
            disk.content(self.inode)?.allocate(bytes);
            Ok(())
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.process.call(StorageCall::Truncate, |disk| {
            let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
            disk.content(self.inode)?.truncate(bytes);
            Ok(())
        })
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.process
            .call(StorageCall::Look, |disk| disk.metadata(self.inode))
    }
}
