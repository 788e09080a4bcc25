//! The checkpoints of file sources: [`Checkpoints`] for all, a [`Store`] for each. Not a
//! component.
//!
//! ```text
//! STATE_DIR/sources/NAME/checkpoints   slots that are overwritten in place (see `slots`)
//!                        lock          held while a daemon has it
//! ```
//!
//! Opened by a job, which reads it and writes it anew without what is damaged or free. Then what
//! has been acknowledged is written by one job at a time, [`WRITE_PAUSE`] apart: the process may
//! be killed and repeats no more than that. It is synced [`SYNC_PAUSE`] apart and at the end,
//! for the machine. A store belongs to one source at a time; the next one of its name gets
//! it as it is, in memory, when the one before lets go. Nothing runs while nothing changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::buffer::storage::{Directory, File, Lock, Open, Storage};
use crate::deferred::{Deferred, Failure, Promise};
use crate::reactor::{Handle, Pool};
use crate::telemetry::events::{CheckpointsDamaged, CheckpointsFailed};
use crate::time::{Duration, Instant};

use super::pattern::FILES_MAX;
use super::position::{Position, Print, Remembered};
use super::progress::Progress;
use super::slots;

/// Between two writings.
const WRITE_PAUSE: Duration = Duration::from_millis(20);
/// Between two syncs.
const SYNC_PAUSE: Duration = Duration::from_secs(1);
/// After a writing that failed, or an opening.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A file that was not there for so long is forgotten when the daemon starts.
const FORGET_SECONDS: u32 = 30 * 86_400;

const FILE: &str = "checkpoints";
const UNFINISHED: &str = "checkpoints.new";
const DAMAGED: &str = "checkpoints.damaged";

/// The resource: where the checkpoints of all sources are.
#[derive(Clone)]
pub struct Checkpoints {
    shared: Rc<Shared>,
}

struct Shared {
    handle: Handle,
    storage: Arc<dyn Storage>,
    state_dir: PathBuf,
    stores: RefCell<HashMap<Rc<str>, Weak<Store>>>,
}

impl Checkpoints {
    /// In `sources/` beneath `state_dir`; jobs are those of `handle`'s reactor.
    pub fn new(handle: &Handle, storage: Arc<dyn Storage>, state_dir: &Path) -> Checkpoints {
        Checkpoints {
            shared: Rc::new(Shared {
                handle: handle.clone(),
                storage,
                state_dir: state_dir.to_path_buf(),
                stores: RefCell::default(),
            }),
        }
    }

    /// The store of the source `name`, which another one of the same name may still have.
    ///
    /// # Errors
    /// Its folder cannot be made or opened.
    pub(super) fn store(&self, name: &Rc<str>) -> Result<Rc<Store>, Failure> {
        let shared = &self.shared;
        let mut stores = shared.stores.borrow_mut();
        if let Some(store) = stores.get(name).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let root = shared.storage.root(&shared.state_dir, Some(0o700));
        let folder = root.and_then(|root| root.directory(&format!("sources/{name}"), Some(0o700)));
        let folder = folder.map_err(|error| {
            let place = shared.state_dir.join("sources").join(&**name);
            let place = place.display();
            Failure::msg(format!("cannot keep checkpoints in {place}: {error}"))
        })?;
        let store = Rc::new_cyclic(|this| Store {
            this: this.clone(),
            handle: shared.handle.clone(),
            component: format!("source.{name}"),
            folder,
            opened: RefCell::default(),
            books: RefCell::default(),
            sequences: RefCell::default(),
            free: RefCell::default(),
            dirty: RefCell::default(),
            is_held: Cell::new(false),
            next: RefCell::default(),
            job: Cell::new(Job::Idle),
            written: Cell::new(Instant::ZERO),
            synced: Cell::new(Instant::ZERO),
            is_synced: Cell::new(true),
            is_failing: Cell::new(false),
            settled: RefCell::default(),
            timer: RefCell::default(),
        });
        stores.retain(|_, store| store.strong_count() > 0);
        stores.insert(Rc::clone(name), Rc::downgrade(&store));
        Ok(store)
    }
}

/// What one source remembers.
pub struct Store {
    this: Weak<Store>,
    handle: Handle,
    component: String,
    folder: Arc<dyn Directory>,
    /// The checkpoint file; without it nothing is written yet.
    opened: RefCell<Option<Opened>>,
    /// By their slots.
    books: RefCell<Vec<Option<Rc<Progress>>>>,
    /// By slots, too: of the last writing.
    sequences: RefCell<Vec<u64>>,
    /// Slots that nobody has.
    free: RefCell<Vec<usize>>,
    /// Slots that are to be written.
    dirty: RefCell<Vec<usize>>,
    is_held: Cell<bool>,
    /// The source that waits for it.
    next: RefCell<Option<Box<dyn FnOnce()>>>,
    job: Cell<Job>,
    written: Cell<Instant>,
    synced: Cell<Instant>,
    is_synced: Cell<bool>,
    is_failing: Cell<bool>,
    /// Fired when all that was acknowledged is written and synced.
    settled: RefCell<Vec<Promise<()>>>,
    timer: RefCell<Option<crate::reactor::TimerGuard>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Idle,
    UnderWay,
}

/// The file, and who may write it.
struct Opened {
    file: Arc<dyn File>,
    #[allow(dead_code, reason = "it is held, not used")]
    lock: Box<dyn Lock>,
}

impl Store {
    /// Calls `ready` when the store has been opened and belongs to nobody else. It is the
    /// caller's from then on, until [`Store::release`].
    pub(super) fn take(&self, ready: impl FnOnce() + 'static) {
        *self.next.borrow_mut() = Some(Box::new(ready));
        self.hand_on();
    }

    /// The source reads no more; what is on its way still counts.
    pub(super) fn release(&self) {
        let books = self.books.borrow();
        let claimed = books.iter().flatten();
        claimed.for_each(|progress| progress.is_claimed.set(false));
        drop(books);
        self.is_held.set(false);
        self.hand_on();
    }

    fn hand_on(&self) {
        if self.is_held.get() || self.next.borrow().is_none() {
            return;
        }
        if self.opened.borrow().is_none() {
            return self.open();
        }
        self.is_held.set(true);
        if let Some(ready) = self.next.take() {
            self.handle.call_soon(move |_| ready());
        }
    }

    fn open(&self) {
        if self.job.replace(Job::UnderWay) == Job::UnderWay {
            return;
        }
        let folder = Arc::clone(&self.folder);
        let job = self
            .handle
            .defer_to_thread(Pool::Disk, "file checkpoints", move || {
                open(&*folder).map_err(Failure::new)
            });
        let Some(store) = self.this.upgrade() else {
            return;
        };
        drop(job.add_both(move |result| store.has_opened(result)));
    }

    fn has_opened(self: &Rc<Self>, result: Result<Reading, Failure>) {
        self.job.set(Job::Idle);
        let reading = match result {
            Ok(reading) => reading,
            Err(failure) => {
                self.fails("open", &failure);
                return self.arm(RETRY_PAUSE);
            }
        };
        self.works();
        if reading.lost + reading.damaged > 0 || reading.is_foreign {
            CheckpointsDamaged {
                component: &self.component,
                lost: reading.lost,
                damaged: reading.damaged,
                is_foreign: reading.is_foreign,
            }
            .log();
        }
        let entries = reading.entries.iter().enumerate();
        let books =
            entries.map(|(slot, (_, remembered))| Some(Rc::new(Progress::new(remembered, slot))));
        *self.books.borrow_mut() = books.collect();
        let sequences = reading.entries.iter().map(|(sequence, _)| *sequence);
        *self.sequences.borrow_mut() = sequences.collect();
        *self.opened.borrow_mut() = Some(Opened {
            file: reading.file,
            lock: reading.lock,
        });
        self.hand_on();
    }

    /// Whether some source has it now.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.get()
    }

    /// Whether another source of the same name has it or had it, in the life of this process.
    pub(super) fn was_opened(&self) -> bool {
        self.opened.borrow().is_some()
    }

    /// The books of the file that was known by this inode and that no file has claimed.
    pub(super) fn find(&self, wanted: impl Fn(&Progress) -> bool) -> Option<Rc<Progress>> {
        let books = self.books.borrow();
        let mut unclaimed = books.iter().flatten().filter(|it| !it.is_claimed.get());
        unclaimed.find(|progress| wanted(progress)).cloned()
    }

    /// The books of a file that holds or held what begins like `head`, with the place up to
    /// which that was delivered. Of several the one that came furthest.
    pub(super) fn find_content(&self, head: Print) -> Option<(Rc<Progress>, Position)> {
        let books = self.books.borrow();
        let alike = books.iter().flatten().filter_map(|progress| {
            let place = progress.place_of(head)?;
            Some((Rc::clone(progress), place))
        });
        alike.max_by_key(|(_, place)| place.offset)
    }

    /// New books. Where there are too many, those of the file that has been gone for longest go.
    pub(super) fn add(&self, remembered: &Remembered) -> Rc<Progress> {
        let is_full = self.books.borrow().len() >= SLOTS_MAX;
        if is_full && self.free.borrow().is_empty() {
            let books = self.books.borrow();
            let gone = books.iter().flatten();
            let gone = gone.filter(|it| !it.is_claimed.get() && !it.is_open());
            let oldest = gone.min_by_key(|it| it.remembered().seen_seconds);
            let oldest = oldest.map(|it| it.slot);
            drop(books);
            oldest.into_iter().for_each(|slot| self.forget(slot));
        }
        let mut books = self.books.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or(books.len());
        if slot == books.len() {
            books.push(None);
            self.sequences.borrow_mut().push(0);
        }
        let progress = Rc::new(Progress::new(remembered, slot));
        books[slot] = Some(Rc::clone(&progress));
        progress
    }

    /// Its slot stays as it is until another file needs it.
    fn forget(&self, slot: usize) {
        self.books.borrow_mut()[slot] = None;
        self.free.borrow_mut().push(slot);
    }

    /// Forgets the files that have been gone for long and that nobody has found again.
    pub(super) fn forget_gone(&self, now_seconds: u32) {
        let is_gone = |progress: &&Rc<Progress>| {
            let age = now_seconds.saturating_sub(progress.remembered().seen_seconds);
            !progress.is_claimed.get() && !progress.is_open() && age > FORGET_SECONDS
        };
        let books = self.books.borrow();
        let gone = books.iter().flatten().filter(is_gone);
        let gone: Vec<usize> = gone.map(|it| it.slot).collect();
        drop(books);
        gone.into_iter().for_each(|slot| self.forget(slot));
    }

    /// What is remembered of the file has changed.
    pub(super) fn note(&self, progress: &Progress) {
        if !progress.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(progress.slot);
        }
        self.advance();
    }

    /// Fires when everything that was acknowledged by now is on the disk.
    pub(super) fn settle(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.settled.borrow_mut().push(promise);
        self.advance();
        deferred
    }

    /// Does what is due, or sets a timer for it.
    fn advance(&self) {
        if self.job.get() == Job::UnderWay || self.opened.borrow().is_none() {
            return;
        }
        let now = self.handle.now();
        let hurries = !self.settled.borrow().is_empty() && !self.is_failing.get();
        let pause = if self.is_failing.get() {
            RETRY_PAUSE
        } else {
            WRITE_PAUSE
        };
        let write_at = self.written.get() + pause;
        let sync_at = self.synced.get() + SYNC_PAUSE.max(pause);
        let is_dirty = !self.dirty.borrow().is_empty();
        if is_dirty && (hurries || now >= write_at) {
            let syncs = hurries || now >= sync_at;
            return self.write(syncs);
        }
        if is_dirty {
            return self.arm(write_at.since(now));
        }
        if self.is_synced.get() {
            return self.tell_settled();
        }
        if hurries || now >= sync_at {
            return self.write(true);
        }
        self.arm(sync_at.since(now));
    }

    fn tell_settled(&self) {
        for promise in self.settled.take() {
            promise.callback(());
        }
    }

    fn arm(&self, pause: Duration) {
        let weak = self.this.clone();
        let timer = self.handle.call_later(pause, move |_| {
            let Some(store) = weak.upgrade() else { return };
            drop(store.timer.take());
            store.hand_on();
            store.advance();
        });
        *self.timer.borrow_mut() = Some(timer.guard());
    }

    fn write(&self, syncs: bool) {
        let Some(store) = self.this.upgrade() else {
            return;
        };
        let opened = self.opened.borrow();
        let Some(file) = opened.as_ref().map(|opened| Arc::clone(&opened.file)) else {
            return;
        };
        drop(opened);
        drop(self.timer.take());
        self.job.set(Job::UnderWay);
        self.written.set(self.handle.now());
        if syncs {
            self.synced.set(self.handle.now());
        }
        let slots = self.dirty.take();
        let books = self.books.borrow();
        let mut sequences = self.sequences.borrow_mut();
        let copies = slots.iter().filter_map(|slot| {
            let progress = books[*slot].as_ref()?;
            progress.is_dirty.set(false);
            let sequence = sequences[*slot] + 1;
            sequences[*slot] = sequence;
            let copy = slots::encode(sequence, &progress.remembered());
            Some((slots::offset_of(*slot, sequence), copy))
        });
        let copies: Vec<_> = copies.collect();
        drop((books, sequences));
        let run = move || write(&*file, &copies, syncs).map_err(Failure::new);
        let job = self
            .handle
            .defer_to_thread(Pool::Disk, "file checkpoints", run);
        drop(job.add_both(move |result| store.has_written(result, &slots, syncs)));
    }

    fn has_written(self: &Rc<Self>, result: Result<(), Failure>, slots: &[usize], synced: bool) {
        self.job.set(Job::Idle);
        match result {
            Ok(()) => {
                self.works();
                self.is_synced.set(synced);
            }
            Err(failure) => {
                self.fails("write", &failure);
                let books = self.books.borrow();
                let failed = slots.iter().filter_map(|slot| books[*slot].as_ref());
                let mut dirty = self.dirty.borrow_mut();
                for progress in failed.filter(|it| !it.is_dirty.replace(true)) {
                    dirty.push(progress.slot);
                }
                self.is_synced.set(false);
                drop((books, dirty));
                // Nobody who stops waits for a disk that does not work.
                self.tell_settled();
            }
        }
        self.advance();
    }

    fn fails(&self, action: &'static str, failure: &Failure) {
        if !self.is_failing.replace(true) {
            CheckpointsFailed {
                component: &self.component,
                action,
                failure,
            }
            .log();
        }
    }

    fn works(&self) {
        self.is_failing.set(false);
    }
}

/// Slots of one file at most: twice the files, for those that are gone and may come back.
const SLOTS_MAX: usize = 2 * FILES_MAX;

/// What the opening brings.
struct Reading {
    file: Arc<dyn File>,
    lock: Box<dyn Lock>,
    entries: Vec<(u64, Remembered)>,
    lost: u64,
    damaged: u64,
    /// There was a file of another form, which was set aside.
    is_foreign: bool,
}

/// Reads the checkpoint file and puts a whole one in its place. Blocks.
fn open(folder: &dyn Directory) -> io::Result<Reading> {
    let note = format!("pid {}\n", std::process::id());
    let lock = folder.lock("lock", note.as_bytes()).map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::WouldBlock;
        let text = "another process has the checkpoints of this source";
        if is_taken {
            io::Error::new(error.kind(), text)
        } else {
            error
        }
    })?;
    let old = match folder.open(FILE, Open::Read) {
        Ok(file) => Some(read_all(&*file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let parsed = old.as_deref().map(slots::parse);
    let is_foreign = matches!(parsed, Some(None));
    let parsed = parsed.flatten().unwrap_or_default();
    if is_foreign || parsed.lost + parsed.damaged > 0 {
        // For whoever wants to know what became of it.
        folder.rename(FILE, DAMAGED)?;
    }
    match folder.unlink(UNFINISHED) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = folder.open(UNFINISHED, Open::Create(0o600))?;
    let mut whole = slots::header().to_vec();
    for (slot, (sequence, remembered)) in parsed.entries.iter().enumerate() {
        whole.resize(slots::offset_of(slot + 1, 0) as usize, 0);
        let at = slots::offset_of(slot, *sequence) as usize;
        whole[at..at + slots::COPY_BYTES].copy_from_slice(&slots::encode(*sequence, remembered));
    }
    write_all(&*file, &whole, 0)?;
    file.sync()?;
    folder.rename(UNFINISHED, FILE)?;
    folder.sync()?;
    Ok(Reading {
        file,
        lock,
        entries: parsed.entries,
        lost: parsed.lost,
        damaged: parsed.damaged,
        is_foreign,
    })
}

fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    const BYTES_MAX: u64 = (slots::HEADER_BYTES + SLOTS_MAX * 2 * slots::COPY_BYTES) as u64;
    let mut bytes = vec![0; file.metadata()?.bytes.min(BYTES_MAX) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => bytes.truncate(filled),
            count => filled += count,
        }
    }
    Ok(bytes)
}

fn write_all(file: &dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.write_at(bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Writes slots in place. Blocks.
fn write(
    file: &dyn File,
    copies: &[(u64, [u8; slots::COPY_BYTES])],
    syncs: bool,
) -> io::Result<()> {
    for (offset, copy) in copies {
        write_all(file, copy, *offset)?;
    }
    if syncs { file.sync() } else { Ok(()) }
}
