//! Walks, and what they find: files that came, went or were renamed. Not a component.
//!
//! One walk is under way at most, and they are [`SCAN_PAUSE`] apart. A file is told by its inode:
//! one that is found under another name was renamed, and is not read again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::storage::Metadata;
use crate::deferred::Failure;
use crate::reactor::{Pool, TimerGuard};
use crate::telemetry::events::{FileRefused, FilesTooMany};
use crate::time::{Duration, Instant};

use super::family;
use super::follow::{Follow, Watch};
use super::pattern::{Found, Walk};
use super::tail::Tail;
use super::unpack::Packing;

/// Between the end of a walk and the beginning of the next.
const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// Refusals that are remembered, so that each is said once.
const REFUSALS_MAX: usize = 1024;

/// The walks of one source.
#[derive(Default)]
pub struct Scanning {
    is_under_way: Cell<bool>,
    /// Something has changed since it began.
    is_wanted: Cell<bool>,
    ended: Cell<Option<Instant>>,
    timer: RefCell<Option<TimerGuard>>,
    /// Walks that have ended.
    pub(super) count: Cell<u64>,
    /// The store is this source's.
    pub(super) holds_store: Cell<bool>,
    refusals: RefCell<HashSet<PathBuf>>,
    has_said_too_many: Cell<bool>,
}

impl Scanning {
    /// No walk is begun any more.
    pub(super) fn end(&self) {
        drop(self.timer.take());
    }
}

impl Follow {
    /// A walk is wanted: at once, or when the one before is long enough ago.
    pub(super) fn request_scan(&self) {
        if self.is_stopped.get() {
            return;
        }
        if self.scan.is_under_way.get() {
            return self.scan.is_wanted.set(true);
        }
        let pause = self.scan.ended.get().map_or(Duration::ZERO, |ended| {
            SCAN_PAUSE.saturating_sub(self.handle.now().since(ended))
        });
        if pause.is_zero() {
            self.begin_scan();
        } else {
            self.scan_in(pause);
        }
    }

    fn scan_in(&self, pause: Duration) {
        let soon = self.handle.now() + pause;
        let mut timer = self.scan.timer.borrow_mut();
        let set = timer.as_ref().and_then(|timer| timer.deadline());
        if set.is_some_and(|set| set <= soon) {
            return;
        }
        let weak = self.this.clone();
        let next = self.handle.call_at(soon, move |_| {
            let Some(follow) = weak.upgrade() else { return };
            drop(follow.scan.timer.take());
            follow.request_scan();
        });
        *timer = Some(next.guard());
    }

    fn begin_scan(&self) {
        self.scan.is_under_way.set(true);
        self.scan.is_wanted.set(false);
        drop(self.scan.timer.take());
        let storage = Arc::clone(&self.storage);
        let watcher = self.desk.borrow().watcher.clone();
        let patterns = Arc::clone(&self.settings.patterns);
        let trusts_all = self.settings.watch == Watch::Inotify;
        let run = move || {
            let walk = Walk {
                storage: &*storage,
                watcher: watcher.as_deref(),
                trusts_all,
                patterns: &patterns,
            };
            Ok(walk.run())
        };
        let job = self
            .handle
            .defer_to_thread(Pool::Disk, "file source: looking for files", run);
        let Some(follow) = self.this.upgrade() else {
            return;
        };
        drop(job.add_both(move |result| follow.scanned(result)));
    }

    fn scanned(&self, result: Result<Found, Failure>) {
        self.scan.is_under_way.set(false);
        self.scan.ended.set(Some(self.handle.now()));
        if self.is_stopped.get() {
            return;
        }
        if let Ok(found) = result {
            self.take_directories(&found);
            self.say_problems(&found);
            self.take_files(&found);
            let count = &self.scan.count;
            count.set(count.get() + 1);
        }
        self.pump();
        if self.scan.is_wanted.get() {
            self.request_scan();
        } else if self.desk.borrow().watcher.is_none() {
            self.scan_in(self.settings.poll_interval);
        }
    }

    /// Where no changes are told of, it is not waited for them.
    fn take_directories(&self, found: &Found) {
        if let Some(why) = &found.unwatched {
            return self.fall_back(why);
        }
        let Some(watcher) = self.desk.borrow().watcher.clone() else {
            return;
        };
        let now: HashMap<_, _> = found.directories.iter().cloned().collect();
        let before = self.directories.replace(now);
        let now = self.directories.borrow();
        let gone = before.keys().filter(|watch| !now.contains_key(watch));
        gone.for_each(|watch| watcher.forget(*watch));
    }

    fn say_problems(&self, found: &Found) {
        let component = &self.component;
        let mut said = self.scan.refusals.borrow_mut();
        for (path, why) in &found.problems {
            if said.len() < REFUSALS_MAX && said.insert(path.clone()) {
                let path = &path.display();
                FileRefused {
                    component,
                    path,
                    why,
                }
                .log();
            }
        }
        if found.is_cut && !self.scan.has_said_too_many.replace(true) {
            let files = found.files.len() as u64;
            FilesTooMany { component, files }.log();
        }
    }

    fn take_files(&self, found: &Found) {
        let mut seen: HashSet<u64> = HashSet::new();
        let mut came: Vec<(&Path, &Metadata)> = Vec::new();
        let mut changed = Vec::new();
        // First the files that are known, so that a new one finds its name free or left.
        for (path, metadata) in &found.files {
            let known = self.by_inode.borrow().get(&metadata.inode).copied();
            let known = known.and_then(|id| self.tail(id));
            let Some(tail) = known.filter(|tail| !self.is_another(tail, path, found)) else {
                came.push((path, metadata));
                continue;
            };
            if seen.insert(tail.id) && **tail.path.borrow() != **path {
                self.rename(&tail, path, found);
            }
            tail.is_matched.set(true);
            tail.close_at.set(None);
            // Who is waited for may have been looked for under the name that it had.
            let is_waited_for = !tail.followers.borrow().is_empty();
            let is_troubled = tail.trouble.borrow().is_some();
            if tail.has_changed(metadata) || is_troubled || is_waited_for {
                changed.push(tail);
            }
        }
        self.lose_names(&seen);
        // The oldest first: what was rotated away comes before what has its name now.
        came.sort_by_key(|(path, metadata)| (metadata.modified_micros, *path));
        let mut new = HashSet::new();
        for (path, metadata) in came {
            // Two names of one file.
            if self.by_inode.borrow().contains_key(&metadata.inode) {
                continue;
            }
            let tail = self.add(path, metadata);
            self.name(&tail, path);
            new.insert(tail.id);
            changed.push(tail);
        }
        if !new.is_empty() {
            self.put_in_order(found, &new);
        }
        changed.iter().for_each(|tail| self.look(tail));
    }

    /// Whether the file at `path` has got the inode of one that is gone, where that is told by
    /// nothing else, since the one was not held open: a compressed one that had been read, or one
    /// that is compressed otherwise. That one is closed.
    fn is_another(&self, tail: &Rc<Tail>, path: &Path, found: &Found) -> bool {
        let is_changed = |metadata: &Metadata| tail.has_changed(metadata);
        let is_named = found.files.get(&**tail.path.borrow());
        let is_renamed = is_named.is_none_or(|metadata| metadata.inode != tail.inode);
        let is_another = tail.file.borrow().is_none()
            && if tail.is_done.get() {
                found.files.get(path).is_some_and(is_changed)
            } else {
                is_renamed && Packing::of(path) != tail.packing
            };
        if is_another {
            self.close(tail);
        }
        is_another
    }

    /// Files of one log, `a.log` and `a.log.1` say, are read one after the other: a new one after
    /// the one that was written to before it.
    fn put_in_order(&self, found: &Found, new: &HashSet<u64>) {
        let mut logs: HashMap<&Path, Vec<(family::Age, Rc<Tail>)>> = HashMap::new();
        for (path, metadata) in &found.files {
            let id = self.by_inode.borrow().get(&metadata.inode).copied();
            let Some(tail) = id.and_then(|id| self.tail(id)) else {
                continue;
            };
            let age = family::Age::new(path, metadata.modified_micros);
            let files = logs.entry(family::log_of(path)).or_default();
            files.push((age, tail));
        }
        for files in logs.values_mut() {
            files.sort_by(|(a, _), (b, _)| a.cmp(b));
            for pair in files.windows(2) {
                let (before, tail) = (&pair[0].1, &pair[1].1);
                if !new.contains(&tail.id) || before.id == tail.id {
                    continue;
                }
                // The one that had its name may have been without one just now.
                let former = tail.after.borrow().upgrade();
                let modified = |it: &Rc<Tail>| it.modified_micros.get();
                if former.is_none_or(|former| modified(&former) < modified(before)) {
                    *tail.after.borrow_mut() = Rc::downgrade(before);
                }
            }
        }
    }

    /// The file has another name. A name that leads to it as before is kept.
    fn rename(&self, tail: &Rc<Tail>, path: &Path, found: &Found) {
        let old = Arc::clone(&tail.path.borrow());
        let is_there = found.files.get(&*old);
        if is_there.is_some_and(|metadata| metadata.inode == tail.inode) {
            return;
        }
        *tail.path.borrow_mut() = path.into();
        // The old name stays its own until another file has it, which is how that is seen.
        self.by_path.borrow_mut().insert(path.into(), tail.id);
    }

    /// Files that were not found have lost their names: they are read to their ends.
    fn lose_names(&self, seen: &HashSet<u64>) {
        let tails: Vec<_> = self.tails.borrow().values().cloned().collect();
        for tail in tails.iter().filter(|tail| !seen.contains(&tail.id)) {
            tail.is_matched.set(false);
            if tail.is_done.get() {
                self.close(tail);
            } else {
                self.look(tail);
            }
        }
    }

    pub(super) fn now_seconds(&self) -> u32 {
        let seconds = self.handle.wall().as_micros() / 1_000_000;
        u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
    }
}
