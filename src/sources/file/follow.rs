//! All files of one source: found, identified, read in turn, given up. Not a component.
//!
//! ```text
//! changes (inotify) or a timer -> walk (job) -> files that came, went, were renamed
//! changes of a file -> queue -> job: up to ASKS_MAX files, a chunk each -> lines -> deliver
//! ```
//!
//! One walk and one job are under way at most; while the lines of a chunk are delivered the next
//! chunk is being read. A file whose window is full leaves the queue until it has room. A file
//! that lost its name is read on until it has not grown for `close_after`; who gets its name is
//! not read before it has been read to its end once more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::buffer::storage::{Inode, Storage};
use crate::buffer::watcher::WatchId;
use crate::deferred::{Deferred, Failure, Promise};
use crate::pipeline::facts::Facts;
use crate::protocol::Frames;
use crate::reactor::{Handle, Pool, TimerGuard};
use crate::telemetry::events::{FileCounts, FileRotated};
use crate::time::{Duration, Instant};
use crate::transport::ChunkPool;

use super::job::{ASKS_MAX, Answer, Desk};
use super::join::Rules;
use super::pattern::Patterns;
use super::store::Store;
use super::tail::Tail;
use crate::sources::framed::InputShared;

/// What a file source was told to do.
pub struct Settings {
    /// What it follows.
    pub patterns: Arc<Patterns>,
    /// Where a file is begun.
    pub start: Start,
    /// Who tells of changes.
    pub watch: Watch,
    /// How often files are looked at where nobody tells.
    pub poll_interval: Duration,
    /// How long a file that lost its name is waited for.
    pub close_after: Duration,
    /// Files held open at once.
    pub open_max: usize,
    /// Longest event, in bytes.
    pub max_bytes: usize,
    /// Which lines are one event, where that is not each.
    pub rules: Option<Rules>,
    /// How long an event may go on that has not ended.
    pub join_timeout: Duration,
}

/// Where a file is begun when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its beginning, whatever is remembered.
    Beginning,
    /// Where its checkpoint is, else at its end.
    End,
    /// Where its checkpoint is, else at its beginning.
    Checkpoint,
}

/// Who tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The system where it can, else nobody.
    Auto,
    /// The system, whatever the file system is.
    Inotify,
    /// Nobody.
    Poll,
}

/// The files of one source.
pub struct Follow {
    pub(super) this: Weak<Follow>,
    pub(super) handle: Handle,
    pub(super) component: String,
    pub(super) settings: Settings,
    pub(super) input: Rc<InputShared>,
    pub(super) store: Rc<Store>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) desk: RefCell<Desk>,
    pub(super) frames: RefCell<Frames>,
    pub(super) tails: RefCell<HashMap<u64, Rc<Tail>>>,
    pub(super) by_inode: RefCell<HashMap<Inode, u64>>,
    pub(super) by_path: RefCell<HashMap<PathBuf, u64>>,
    pub(super) by_watch: RefCell<HashMap<WatchId, u64>>,
    /// Directories that are watched.
    pub(super) directories: RefCell<HashMap<WatchId, PathBuf>>,
    /// Files that wait for their turn.
    queue: RefCell<VecDeque<u64>>,
    /// The compressed file that is being read.
    packed: Cell<Option<u64>>,
    /// Compressed files that wait for that.
    packed_waiting: RefCell<VecDeque<u64>>,
    /// Something is due for a file.
    dues: RefCell<BTreeSet<(Instant, u64)>>,
    due_timer: RefCell<Option<TimerGuard>>,
    forget_timer: RefCell<Option<TimerGuard>>,
    pub(super) scan: super::scan::Scanning,
    pub(super) telling: super::watch::Telling,
    next_id: Cell<u64>,
    is_asking: Cell<bool>,
    pub(super) is_stopped: Cell<bool>,
    /// The daemon remembers from a time before this source: from a source before it, that is.
    pub(super) is_successor: Cell<bool>,
    /// Batches on their way.
    pub(super) open_batches: Cell<u64>,
    stopped: RefCell<Option<Promise<()>>>,
    pub(super) counts: Counts,
}

/// What is counted beside the events.
#[derive(Default)]
pub struct Counts {
    /// Names that another file got.
    pub rotations: Cell<u64>,
    /// Files that were cut.
    pub truncations: Cell<u64>,
    /// Bytes known to have been cut off unread.
    pub lost_bytes: Cell<u64>,
    /// Files that cannot be read now.
    pub unreadable: Cell<u64>,
    /// Files held open.
    pub open_files: Cell<u64>,
}

impl Follow {
    /// Follows nothing yet.
    pub fn new(
        handle: &Handle,
        settings: Settings,
        input: Rc<InputShared>,
        store: Rc<Store>,
        storage: Arc<dyn Storage>,
        chunks: ChunkPool,
    ) -> Rc<Self> {
        let desk = Desk {
            storage: Arc::clone(&storage),
            watcher: None,
            chunks,
        };
        Rc::new_cyclic(|this| Follow {
            this: this.clone(),
            handle: handle.clone(),
            component: format!("source.{}", input.outlet().name()),
            settings,
            input,
            store,
            storage,
            desk: RefCell::new(desk),
            frames: RefCell::new(Frames::new()),
            tails: RefCell::default(),
            by_inode: RefCell::default(),
            by_path: RefCell::default(),
            by_watch: RefCell::default(),
            directories: RefCell::default(),
            queue: RefCell::default(),
            packed: Cell::new(None),
            packed_waiting: RefCell::default(),
            dues: RefCell::default(),
            due_timer: RefCell::default(),
            forget_timer: RefCell::default(),
            scan: super::scan::Scanning::default(),
            telling: super::watch::Telling::default(),
            next_id: Cell::new(1),
            is_asking: Cell::new(false),
            is_stopped: Cell::new(false),
            is_successor: Cell::new(false),
            open_batches: Cell::new(0),
            stopped: RefCell::default(),
            counts: Counts::default(),
        })
    }

    /// Begins once the checkpoints are there and no other source has them.
    pub fn begin(&self) {
        let weak = self.this.clone();
        let begun_at_start = !self.store.was_opened();
        self.is_successor.set(!begun_at_start);
        let store = Rc::downgrade(&self.store);
        self.store.take(move || {
            let follow = weak.upgrade().filter(|follow| !follow.is_stopped.get());
            let Some(follow) = follow else {
                // It was stopped before it began.
                store.upgrade().iter().for_each(|store| store.release());
                return;
            };
            follow.scan.holds_store.set(true);
            follow.begin_telling();
            follow.request_scan();
            follow.forget_gone_later();
        });
    }

    /// When all that is there has been found, what was there long ago is forgotten.
    fn forget_gone_later(&self) {
        let weak = self.this.clone();
        let timer = self.handle.call_later(FORGET_AFTER, move |_| {
            if let Some(follow) = weak.upgrade() {
                follow.store.forget_gone(follow.now_seconds());
            }
        });
        *self.forget_timer.borrow_mut() = Some(timer.guard());
    }

    /// Reads no more. Fires when what was delivered is settled and the checkpoints say so.
    pub fn stop(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        if !self.is_stopped.replace(true) {
            self.end_telling();
            drop((self.due_timer.take(), self.forget_timer.take()));
            self.scan.end();
            if self.scan.holds_store.get() {
                self.store.release();
            }
        }
        *self.stopped.borrow_mut() = Some(promise);
        self.check_stopped();
        deferred
    }

    /// A delivery has fired, or there was none.
    pub(super) fn check_stopped(&self) {
        if !self.is_stopped.get() || self.open_batches.get() > 0 {
            return;
        }
        let Some(promise) = self.stopped.take() else {
            return;
        };
        if self.scan.holds_store.get() {
            self.store.settle().forward_to(promise);
        } else {
            promise.callback(());
        }
    }

    /// What is known, for `marline status`.
    pub fn facts(&self) -> Facts {
        let mut facts = self.input.facts();
        let counts = &self.counts;
        facts.counts.extend([
            ("files", self.tails.borrow().len() as u64),
            ("open_files", counts.open_files.get()),
            ("behind_bytes", self.behind_bytes()),
            ("rotations", counts.rotations.get()),
            ("truncations", counts.truncations.get()),
            ("lost_bytes", counts.lost_bytes.get()),
            ("unreadable", counts.unreadable.get()),
        ]);
        facts
    }

    /// At most `most` of the files, each with how far it was read.
    pub fn files(&self, most: usize) -> Vec<String> {
        let tails = self.tails.borrow();
        let mut ids: Vec<_> = tails.keys().copied().collect();
        ids.sort_unstable();
        let shown = ids.iter().take(most).map(|id| {
            let tail = &tails[id];
            let (size, behind) = (tail.size_bytes.get(), tail.behind_bytes());
            format!("{} {}/{size}", tail.shown(), size - behind)
        });
        shown.collect()
    }

    /// Writes the counts so far into the log.
    pub fn log_counts(&self) {
        self.input.log_counts();
        let record = FileCounts {
            component: &self.component,
            files: self.tails.borrow().len() as u64,
            behind_bytes: self.behind_bytes(),
            rotations: self.counts.rotations.get(),
            truncations: self.counts.truncations.get(),
            lost_bytes: self.counts.lost_bytes.get(),
        };
        record.log();
    }

    fn behind_bytes(&self) -> u64 {
        let tails = self.tails.borrow();
        tails.values().map(|tail| tail.behind_bytes()).sum()
    }

    pub(super) fn tail(&self, id: u64) -> Option<Rc<Tail>> {
        self.tails.borrow().get(&id).cloned()
    }

    /// A file that was not known, at `path`.
    pub(super) fn add(&self, path: &Path, found: &crate::buffer::storage::Metadata) -> Rc<Tail> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let origin = self.input.origin(&path.to_string_lossy());
        let intake = self.input.outlet().intake();
        let tail = Tail::new(id, path, found, origin, intake);
        if self.scan.count.get() == 0 && !self.is_successor.get() {
            tail.end_at_start.set(Some(found.bytes));
        }
        let (weak, follow) = (Rc::downgrade(&tail), self.this.clone());
        tail.intake.on_resume(move || {
            if let (Some(tail), Some(follow)) = (weak.upgrade(), follow.upgrade()) {
                tail.is_blocked.set(false);
                follow.look(&tail);
            }
        });
        self.tails.borrow_mut().insert(id, Rc::clone(&tail));
        self.by_inode.borrow_mut().insert(found.inode, id);
        tail
    }

    /// The file has the name `path` now. Who had it before is read to its end first.
    pub(super) fn name(&self, tail: &Rc<Tail>, path: &Path) {
        let former = self.by_path.borrow_mut().insert(path.into(), tail.id);
        *tail.path.borrow_mut() = path.into();
        let former = former.filter(|id| *id != tail.id);
        let Some(former) = former.and_then(|id| self.tail(id)) else {
            return;
        };
        let count = &self.counts.rotations;
        count.set(count.get() + 1);
        let path = &path.display();
        let component = &self.component;
        FileRotated { component, path }.log();
        if !tail.is_reading() {
            *tail.after.borrow_mut() = Rc::downgrade(&former);
        }
    }

    /// The file is to be asked when it is its turn.
    pub(super) fn look(&self, tail: &Rc<Tail>) {
        if self.is_stopped.get() || tail.is_closed.get() || tail.is_blocked.get() {
            return;
        }
        if tail.is_done.get() || tail.not_before.get().is_some() {
            return;
        }
        if !tail.is_queued.replace(true) {
            self.queue.borrow_mut().push_back(tail.id);
        }
        self.pump();
    }

    /// Asks the files that wait for it, unless others are being asked.
    pub(super) fn pump(&self) {
        if self.is_asking.get() || self.is_stopped.get() {
            return;
        }
        let mut asks = Vec::new();
        while asks.len() < ASKS_MAX {
            let next = self.queue.borrow_mut().pop_front();
            let Some(tail) = next.map(|id| self.tail(id)) else {
                break;
            };
            let Some(tail) = tail else { continue };
            tail.is_queued.set(false);
            if self.waits_for_packed(&tail) {
                continue;
            }
            if tail.is_blocked.get() || self.has_no_room(&tail) {
                continue;
            }
            if self.waits_for_another(&tail) {
                // That may be a compressed one itself.
                self.next_packed(tail.id);
                continue;
            }
            asks.push(tail.ask());
        }
        if asks.is_empty() {
            return;
        }
        self.is_asking.set(true);
        let desk = self.desk.borrow().clone();
        let run = move || Ok(desk.answer(asks));
        let job = self.handle.defer_to_thread(Pool::Disk, "file source", run);
        let Some(follow) = self.this.upgrade() else {
            return;
        };
        drop(job.add_both(move |result| follow.answered(result)));
    }

    /// Whether there is no room for what would be read of it; then it waits for that. All files
    /// share the source's window, so each asks for itself before it is read.
    fn has_no_room(&self, tail: &Tail) -> bool {
        if !tail.is_reading() || !tail.intake.is_blocked() {
            return false;
        }
        tail.is_blocked.set(true);
        self.spare(tail);
        true
    }

    /// Whether another compressed file is being read: each has a decoder.
    fn waits_for_packed(&self, tail: &Tail) -> bool {
        if tail.packing.is_none() {
            return false;
        }
        let current = self.packed.get().unwrap_or(tail.id);
        if current == tail.id {
            self.packed.set(Some(current));
            return false;
        }
        tail.is_queued.set(true);
        self.packed_waiting.borrow_mut().push_back(tail.id);
        true
    }

    /// The compressed file `id` needs its decoder no more: it is another one's turn.
    pub(super) fn next_packed(&self, id: u64) {
        if self.packed.get() != Some(id) {
            return;
        }
        self.packed.set(None);
        let next = self.packed_waiting.borrow_mut().pop_front();
        self.queue.borrow_mut().extend(next);
    }

    /// Whether the file that had its name must be read to its end first; then that is done.
    fn waits_for_another(&self, tail: &Rc<Tail>) -> bool {
        if !tail.is_reading() {
            return false;
        }
        // Nobody waits for one that cannot be read now, or has nothing more to read.
        let is_waited_for = |it: &Rc<Tail>| {
            let is_over = it.is_closed.get() || it.is_done.get();
            !is_over && it.not_before.get().is_none() && it.trouble.borrow().is_none()
        };
        let before = tail.after.borrow().upgrade();
        let Some(before) = before.filter(is_waited_for) else {
            return false;
        };
        // An ask that is about to be made is after this, too.
        let since = before.asked.get() - u64::from(before.is_asked.get());
        let mut followers = before.followers.borrow_mut();
        // It may be looked at often meanwhile, and is listed once.
        let is_listed =
            |(_, weak): &(u64, Weak<Tail>)| std::ptr::eq(weak.as_ptr(), &raw const **tail);
        if !followers.iter().any(is_listed) {
            followers.push((since, Rc::downgrade(tail)));
        }
        drop(followers);
        self.spare(tail);
        let is_in_turn = before.is_asked.get() || before.is_queued.get();
        if !is_in_turn && !before.is_blocked.get() {
            before.is_queued.set(true);
            self.queue.borrow_mut().push_front(before.id);
        }
        true
    }

    /// The job has come back. First every file takes its bytes, so that the next job asks for
    /// those behind them; then that is under way, and the events are delivered.
    fn answered(&self, result: Result<Vec<Answer>, Failure>) {
        if self.is_stopped.get() {
            return self.is_asking.set(false);
        }
        let mut taken = Vec::new();
        match result {
            Ok(answers) => {
                for answer in answers {
                    if let Some(tail) = self.tail(answer.id) {
                        tail.is_asked.set(false);
                        let cut = self.take(&tail, answer.told);
                        taken.extend(cut.map(|cut| (tail, cut)));
                    }
                }
            }
            Err(failure) => {
                tracing::error!(
                    component = self.component,
                    event = "file_job_lost",
                    "a job that reads files was lost: {failure}"
                );
                let tails: Vec<_> = self.tails.borrow().values().cloned().collect();
                let error = io::Error::other(failure.text());
                for tail in tails.iter().filter(|tail| tail.is_asked.replace(false)) {
                    self.fails(tail, &error);
                }
            }
        }
        self.is_asking.set(false);
        self.pump();
        for (tail, cut) in taken {
            self.hand_over(&tail, cut);
        }
        self.pump();
    }

    /// Something is due for the file at `at`.
    pub(super) fn remind(&self, tail: &Tail, at: Instant) {
        self.dues.borrow_mut().insert((at, tail.id));
        self.arm();
    }

    fn arm(&self) {
        let first = self.dues.borrow().first().map(|(at, _)| *at);
        let Some(first) = first.filter(|_| !self.is_stopped.get()) else {
            return;
        };
        let timer = self.due_timer.borrow();
        let set = timer.as_ref().and_then(|timer| timer.deadline());
        if set.is_some_and(|set| set <= first) {
            return;
        }
        drop(timer);
        let weak = self.this.clone();
        let timer = self.handle.call_at(first, move |_| {
            if let Some(follow) = weak.upgrade() {
                follow.run_due();
            }
        });
        *self.due_timer.borrow_mut() = Some(timer.guard());
    }

    fn run_due(&self) {
        let now = self.handle.now();
        let mut dues = self.dues.borrow_mut();
        let later = dues.split_off(&(now + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut *dues, later);
        drop(dues);
        for (_, id) in due {
            if let Some(tail) = self.tail(id) {
                self.is_due(&tail, now);
            }
        }
        drop(self.due_timer.take());
        self.arm();
    }
}

/// After so long every file that is there has been found again.
const FORGET_AFTER: Duration = Duration::from_secs(60);
