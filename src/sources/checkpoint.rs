//! How far a source has come, in a file beneath `state_dir`: read once, written now and then.
//!
//! Not a component. The file is `sources/NAME/FILE`; it is replaced as a whole: written beside,
//! synced, renamed, and the folder synced, by a job. What is set more often than once in
//! [`WRITE_EVERY`] is written once; [`Checkpoint::flush`] writes at once. A write that fails is
//! said, and made again with the next one: what is in the file is older then, never wrong.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::storage::{Open, Storage};
use crate::deferred::{Deferred, Failure, Promise};
use crate::reactor::{Handle, Pool, TimerGuard};
use crate::telemetry::events::CheckpointFailed;
use crate::time::Duration;

/// The least time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The longest checkpoint that is read, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// One file of one source.
pub struct Checkpoint {
    component: String,
    reactor: Handle,
    place: Place,
    /// What is to be written, if it is not.
    pending: RefCell<Option<Vec<u8>>>,
    timer: RefCell<Option<TimerGuard>>,
    is_writing: Cell<bool>,
    flushed: RefCell<Vec<Promise<()>>>,
}

/// Where it is; a job has a copy.
#[derive(Clone)]
struct Place {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    file: &'static str,
}

impl Checkpoint {
    /// The checkpoint `file` of the source `name`. Nothing is read or made yet.
    pub fn new(
        reactor: &Handle,
        storage: &Arc<dyn Storage>,
        state_dir: &Path,
        name: &str,
        file: &'static str,
    ) -> Rc<Checkpoint> {
        Rc::new(Checkpoint {
            component: format!("source.{name}"),
            reactor: reactor.clone(),
            place: Place {
                storage: Arc::clone(storage),
                folder: state_dir.join("sources").join(name),
                file,
            },
            pending: RefCell::default(),
            timer: RefCell::default(),
            is_writing: Cell::new(false),
            flushed: RefCell::default(),
        })
    }

    /// What the file holds; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Deferred<Option<Vec<u8>>> {
        let place = self.place.clone();
        let job = move || place.read().map_err(Failure::new);
        self.reactor
            .defer_to_thread(Pool::Disk, "checkpoint of a source", job)
    }

    /// This is how far the source has come.
    pub fn set(self: &Rc<Self>, bytes: Vec<u8>) {
        *self.pending.borrow_mut() = Some(bytes);
        if self.timer.borrow().is_none() && !self.is_writing.get() {
            let weak = Rc::downgrade(self);
            let timer = self.reactor.call_later(WRITE_EVERY, move |_| {
                weak.upgrade().iter().for_each(Checkpoint::write);
            });
            *self.timer.borrow_mut() = Some(timer.guard());
        }
    }

    /// Writes what is not written yet. Fires when it is, or could not be.
    pub fn flush(self: &Rc<Self>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.flushed.borrow_mut().push(promise);
        self.write();
        deferred.named("checkpoint of a source")
    }

    fn write(self: &Rc<Self>) {
        drop(self.timer.take());
        if self.is_writing.get() {
            return;
        }
        let Some(bytes) = self.pending.take() else {
            let flushed = self.flushed.take();
            for promise in flushed {
                promise.callback(());
            }
            return;
        };
        self.is_writing.set(true);
        let place = self.place.clone();
        let job = move || place.write(&bytes).map_err(Failure::new);
        let reactor = &self.reactor;
        let written = reactor.defer_to_thread(Pool::Disk, "checkpoint of a source", job);
        let this = Rc::clone(self);
        drop(written.add_both(move |result| this.written(result)));
    }

    fn written(self: &Rc<Self>, result: Result<(), Failure>) {
        self.is_writing.set(false);
        if let Err(error) = &result {
            let (component, folder) = (&self.component, self.place.folder.display());
            CheckpointFailed {
                component,
                folder: &folder,
                error,
            }
            .log();
        }
        let waits = !self.flushed.borrow().is_empty();
        let pending = self.pending.take();
        match pending {
            _ if waits => {
                *self.pending.borrow_mut() = pending;
                self.write();
            }
            Some(bytes) => self.set(bytes),
            None => {}
        }
    }
}

impl Place {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let open = || {
            let folder = self.storage.root(&self.folder, None)?;
            folder.open(self.file, Open::Read)
        };
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = vec![0; BYTES_MAX];
        let mut filled = 0;
        while filled < BYTES_MAX {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = self.storage.root(&self.folder, Some(0o700))?;
        let aside = format!("{}.new", self.file);
        // Left behind by a crash.
        match folder.unlink(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = folder.open(&aside, Open::Create(0o600))?;
        let mut written = 0;
        while written < bytes.len() {
            match file.write_at(&bytes[written..], written as u64)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                more => written += more,
            }
        }
        file.sync()?;
        folder.rename(&aside, self.file)?;
        folder.sync()
    }
}
