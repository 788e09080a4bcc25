//! A storage in front of the real one that a test can slow down, stop and make fail.
//!
//! Only appends are touched: by name, so that one file of a sink can be in trouble and the
//! others not. Standard output is a buffer that the test reads at its own pace.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use marline::buffer::storage::{Directory, File, Lock, Metadata, Mode, Open, Storage};
use marline::buffer::storage_sys::SystemStorage;
use marline::buffer::watcher::Watcher;

/// What the test has set, and what has happened.
#[derive(Default)]
pub struct Set {
    /// Appends wait until this is false.
    pub is_closed: bool,
    /// Appends to files whose name ends in the text fail with the error number.
    pub fails: Option<(&'static str, i32)>,
    /// How many bytes a failing append still takes, once.
    pub takes_first: usize,
    /// Appends begun.
    pub appends: usize,
    /// What standard output was given, and how much more it takes.
    pub output: Vec<u8>,
    /// How many bytes standard output has room for.
    pub output_room: usize,
}

/// The storage; clones are the same one.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<Set>, Condvar)>);

impl Gate {
    pub fn set(&self) -> MutexGuard<'_, Set> {
        self.0.0.lock().unwrap()
    }

    pub fn open(&self) {
        self.set().is_closed = false;
        self.0.1.notify_all();
    }

    /// Waits at the closed gate; answers how many bytes to take and what to fail with then.
    fn pass(&self, name: &str) -> (usize, Option<i32>) {
        let mut set = self.set();
        set.appends += 1;
        while set.is_closed {
            set = self.0.1.wait(set).unwrap();
        }
        match set.fails {
            Some((end, error)) if name.ends_with(end) => {
                (std::mem::take(&mut set.takes_first), Some(error))
            }
            _ => (usize::MAX, None),
        }
    }
}

impl Storage for Gate {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let inner = SystemStorage.root(path, make)?;
        Ok(Arc::new(GateDirectory(inner, self.clone())))
    }
    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        SystemStorage.reader(path)
    }

    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        SystemStorage.watcher()
    }

    fn standard_output(&self) -> Arc<dyn File> {
        let scratch = SystemStorage.standard_output();
        Arc::new(GateFile(scratch, "-".to_owned(), self.clone()))
    }
}

struct GateDirectory(Arc<dyn Directory>, Gate);

impl Directory for GateDirectory {
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>> {
        let inner = self.0.open(name, open)?;
        Ok(Arc::new(GateFile(inner, name.to_owned(), self.1.clone())))
    }
    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let inner = self.0.directory(name, make)?;
        Ok(Arc::new(GateDirectory(inner, self.1.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.unlink(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn stat(&self, name: &str) -> io::Result<Metadata> {
        self.0.stat(name)
    }
    fn target(&self, name: &str) -> io::Result<Metadata> {
        self.0.target(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        self.0.lock(name, note)
    }
}

fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.to_vec()).collect()
}

struct GateFile(Arc<dyn File>, String, Gate);

impl GateFile {
    fn output(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut set = self.2.set();
        let all = joined(slices);
        let room = set.output_room.min(all.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        set.output_room -= room;
        set.output.extend_from_slice(&all[..room]);
        Ok(room)
    }
}

impl File for GateFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.1 == "-" {
            return self.output(slices);
        }
        match self.2.pass(&self.1) {
            (_, None) => self.0.append(slices),
            (0, Some(error)) => Err(io::Error::from_raw_os_error(error)),
            (bytes, Some(_)) => {
                let all = joined(slices);
                self.0.append(&[IoSlice::new(&all[..bytes.min(all.len())])])
            }
        }
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }
}
