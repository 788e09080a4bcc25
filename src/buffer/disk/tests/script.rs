//! A folder that writes down every call that changes something, and fails those it is told to.
//!
//! It stands before the simulated disk, which decides all else.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::buffer::storage::{Directory, File, Lock, Metadata, Mode, Open};

/// One call: what it was, and on which file; a file keeps the name it was opened by.
pub type Call = (&'static str, String);

/// What was called, and what is to fail.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// Of which call, how many more go well, how many then fail, and how.
    failing: Vec<(&'static str, usize, usize, Errno)>,
}

impl Script {
    /// `inner` under this script.
    pub fn folder(&self, inner: Arc<dyn Directory>) -> Arc<dyn Directory> {
        let script = self.clone();
        Arc::new(ScriptedDirectory { script, inner })
    }

    /// After `well` more calls of `call`, `times` of them fail with `errno`.
    pub fn fail(&self, call: &'static str, well: usize, times: usize, errno: Errno) {
        let mut state = self.0.lock().unwrap();
        state.failing.push((call, well, times, errno));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.0.lock().unwrap().failing.clear();
    }

    /// What was called since this was asked last.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    fn call(&self, call: &'static str, name: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        for (failing, well, times, errno) in &mut state.failing {
            if *failing != call {
                continue;
            }
            if *well > 0 {
                *well -= 1;
            } else if *times > 0 {
                *times -= 1;
                return Err((*errno).into());
            }
        }
        state.calls.push((call, name.to_owned()));
        Ok(())
    }
}

struct ScriptedDirectory {
    script: Script,
    inner: Arc<dyn Directory>,
}

impl Directory for ScriptedDirectory {
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>> {
        if let Open::Create(_) = open {
            self.script.call("create", name)?;
        }
        let (script, name) = (self.script.clone(), name.to_owned());
        let inner = self.inner.open(&name, open)?;
        Ok(Arc::new(ScriptedFile {
            script,
            name,
            inner,
        }))
    }

    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        self.inner.directory(name, make)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.script.call("rename", to)?;
        self.inner.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.inner.stat(name)?;
        self.script.call("unlink", name)?;
        self.inner.unlink(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn stat(&self, name: &str) -> io::Result<Metadata> {
        self.inner.stat(name)
    }

    fn target(&self, name: &str) -> io::Result<Metadata> {
        self.inner.target(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.script.call("sync folder", "")?;
        self.inner.sync()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(name, note)
    }
}

struct ScriptedFile {
    script: Script,
    name: String,
    inner: Arc<dyn File>,
}

impl File for ScriptedFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.append(slices)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.script.call("write", &self.name)?;
        self.inner.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.script.call("read", &self.name)?;
        self.inner.read_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.script.call("sync", &self.name)?;
        self.inner.sync()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.script.call("allocate", &self.name)?;
        self.inner.allocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.script.call("truncate", &self.name)?;
        self.inner.truncate(bytes)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.inner.metadata()
    }
}
