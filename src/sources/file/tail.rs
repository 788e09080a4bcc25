//! One file that is followed: what is known of it, and what it waits for. Not a component.
//!
//! Nothing here calls anything; [`super::follow`] does, with no borrow held.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::buffer::storage::{File, Inode, Metadata};
use crate::buffer::watcher::WatchId;
use crate::event::Origin;
use crate::pipeline::intake::Intake;
use crate::time::{Duration, Instant};

use super::job::{Ask, What};
use super::lines::Lines;
use super::position::Position;
use super::progress::Progress;
use super::unpack::{Packing, Unpacker};

/// A file.
pub struct Tail {
    /// Its number in its source.
    pub id: u64,
    /// Which file it is.
    pub inode: Inode,
    /// Where it was seen last.
    pub path: RefCell<Arc<Path>>,
    /// Where its events come from: the name that it was found under.
    pub origin: Arc<Origin>,
    /// Its window.
    pub intake: Intake,
    /// How far it is.
    pub stage: RefCell<Stage>,
    /// How it is compressed.
    pub packing: Option<Packing>,
    /// Its decoder, between two asks.
    pub unpacker: RefCell<Option<Unpacker>>,
    /// It is compressed and read to its end: there is nothing to ask any more.
    pub is_done: Cell<bool>,
    /// It is not asked before that.
    pub not_before: Cell<Option<Instant>>,
    /// How often it has waited for a file that it may be a copy of.
    pub waits: Cell<u32>,
    /// The file, where it is open.
    pub file: RefCell<Option<Arc<dyn File>>>,
    /// Who tells of its changes.
    pub watch: Cell<Option<WatchId>>,
    /// As it was when it was looked at last.
    pub size_bytes: Cell<u64>,
    /// When it was changed last, as of then.
    pub modified_micros: Cell<i64>,
    /// Its length when the daemon started, where it was there by then.
    pub end_at_start: Cell<Option<u64>>,
    /// Some name that is followed leads to it.
    pub is_matched: Cell<bool>,
    /// It waits for its turn to be asked.
    pub is_queued: Cell<bool>,
    /// It waits for room in the sinks.
    pub is_blocked: Cell<bool>,
    /// It is followed no more.
    pub is_closed: Cell<bool>,
    /// It is among those that are being asked.
    pub is_asked: Cell<bool>,
    /// How often it was asked.
    pub asked: Cell<u64>,
    /// The file that had its name before: that is read to its end first.
    pub after: RefCell<Weak<Tail>>,
    /// Who waits for its end, each until an ask after so many.
    pub followers: RefCell<Vec<(u64, Weak<Tail>)>>,
    /// When an event that may go on is taken for complete.
    pub flush_at: Cell<Option<Instant>>,
    /// When it is given up, unless it grows.
    pub close_at: Cell<Option<Instant>>,
    /// Why it cannot be read, and when that is tried again.
    pub trouble: RefCell<Option<Trouble>>,
}

/// It cannot be read.
pub struct Trouble {
    /// The next attempt.
    pub retry_at: Instant,
    /// The pause after that.
    pub pause: Duration,
}

/// How far a file is.
pub enum Stage {
    /// Nobody knows what it is: it may be empty.
    New,
    /// It may be the file with these books.
    Comparing(Candidate),
    /// It is read.
    Reading(Reading),
}

/// Who a file may be.
pub struct Candidate {
    /// The books.
    pub progress: Rc<Progress>,
    /// The place that is to be found in it.
    pub position: Position,
    /// It has the inode of the books; else it may be a copy of their file.
    pub is_by_inode: bool,
}

/// A file that is read.
pub struct Reading {
    /// What cuts it.
    pub lines: Lines,
    /// Its books.
    pub progress: Rc<Progress>,
}

impl Tail {
    /// A file that was found at `path`.
    pub fn new(
        id: u64,
        path: &Path,
        found: &Metadata,
        origin: Arc<Origin>,
        intake: Intake,
    ) -> Rc<Self> {
        Rc::new(Tail {
            id,
            inode: found.inode,
            path: RefCell::new(path.into()),
            origin,
            intake,
            stage: RefCell::new(Stage::New),
            packing: Packing::of(path),
            unpacker: RefCell::default(),
            is_done: Cell::new(false),
            not_before: Cell::default(),
            waits: Cell::new(0),
            file: RefCell::default(),
            watch: Cell::default(),
            size_bytes: Cell::new(found.bytes),
            modified_micros: Cell::new(found.modified_micros),
            end_at_start: Cell::default(),
            is_matched: Cell::new(true),
            is_queued: Cell::new(false),
            is_blocked: Cell::new(false),
            is_closed: Cell::new(false),
            is_asked: Cell::new(false),
            asked: Cell::new(0),
            after: RefCell::default(),
            followers: RefCell::default(),
            flush_at: Cell::default(),
            close_at: Cell::default(),
            trouble: RefCell::default(),
        })
    }

    /// What is to be asked about it next.
    pub fn ask(&self) -> Ask {
        let what = match &*self.stage.borrow() {
            Stage::New => What::Identify,
            Stage::Comparing(candidate) => What::Compare(candidate.position),
            Stage::Reading(reading) if self.packing.is_some() => What::Unpack {
                offset: reading.lines.offset(),
                unpacker: self.unpacker.take(),
            },
            Stage::Reading(reading) => What::Read {
                offset: reading.lines.offset(),
                head: reading.lines.head,
                line: reading.lines.line(),
            },
        };
        self.asked.set(self.asked.get() + 1);
        self.is_asked.set(true);
        Ask {
            id: self.id,
            path: Arc::clone(&self.path.borrow()),
            inode: self.inode,
            file: self.file.borrow().clone(),
            packing: self.packing,
            what,
        }
    }

    /// Whether it is read.
    pub fn is_reading(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Reading(_))
    }

    /// Whether it is about to be read, or waits for room: more of it may be there.
    pub fn is_behind(&self) -> bool {
        self.is_blocked.get() || self.is_queued.get() || self.is_asked.get()
    }

    /// Bytes that are there and were not read yet, as far as is known.
    pub fn behind_bytes(&self) -> u64 {
        if self.packing.is_some() {
            // Nobody knows how much is in it.
            let is_done = self.is_done.get();
            return if is_done { 0 } else { self.size_bytes.get() };
        }
        let read = match &*self.stage.borrow() {
            Stage::New => 0,
            Stage::Comparing(candidate) => candidate.position.offset,
            Stage::Reading(reading) => reading.lines.offset(),
        };
        self.size_bytes.get().saturating_sub(read)
    }

    /// Whether it is not what it was when it was looked at last.
    pub fn has_changed(&self, found: &Metadata) -> bool {
        found.bytes != self.size_bytes.get() || found.modified_micros != self.modified_micros.get()
    }

    /// It was looked at.
    pub fn note(&self, found: &Metadata) {
        self.size_bytes.set(found.bytes);
        self.modified_micros.set(found.modified_micros);
    }

    /// The path, for people.
    pub fn shown(&self) -> String {
        self.path.borrow().display().to_string()
    }
}
