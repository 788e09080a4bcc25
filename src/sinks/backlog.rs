//! What a sink that writes on a storage thread holds on the reactor's side: encoded bytes by
//! target, in order, and the parts they came from.
//!
//! A target is whatever is written as one stream: a file, standard output. Bytes go out as
//! [`Write`]s and come back as [`Written`]; they are kept until then, so a failed write loses
//! nothing and continues at the exact byte. A part is finished when all of its bytes are
//! written. A target in trouble waits by itself; the others go on.
//!
//! Nothing is called from here: finished parts are handed back and settled by the caller once
//! it holds no borrow. Bound: the caller stops pushing past [`BYTES_MAX`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::storage::Inode;
use crate::pipeline::part::Part;
use crate::time::{Duration, Instant};

/// How many encoded bytes a sink holds before it takes no more parts; one part more may come
/// on top.
pub const BYTES_MAX: usize = 8 << 20;

/// How long a target waits after a failure.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest: what was put right is noticed this soon.
    pub longest: Duration,
}

/// What is to go to the end of one target. The first byte is the start of a line.
#[derive(Clone, Debug)]
pub struct Write {
    /// The target.
    pub name: Arc<str>,
    /// The bytes.
    pub slices: Vec<Bytes>,
    /// The piece of the first line that an earlier write has brought there.
    pub torn: Option<Torn>,
}

/// A line that was written in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How many of its bytes are at the end of the file.
    pub bytes: usize,
    /// The file.
    pub inode: Inode,
    /// The length of the file then.
    pub file_bytes: u64,
}

/// What became of a [`Write`].
#[derive(Debug)]
pub struct Written {
    /// The target.
    pub name: Arc<str>,
    /// Bytes written: all of them without an error; with one those of whole lines, and the
    /// others too where the target can never become another one.
    pub bytes: usize,
    /// Why the rest was not.
    pub error: Option<Trouble>,
    /// The piece of a line behind them.
    pub torn: Option<Torn>,
    /// Whether an old file was made.
    pub rotated: bool,
    /// Why a file that was due was not rotated; it was written to all the same.
    pub rotation_error: Option<io::Error>,
}

/// Where a write stopped.
#[derive(Debug)]
pub enum Trouble {
    /// The directory of all files could not be opened or made.
    Root(io::Error),
    /// The file could not be opened or made.
    Opening(io::Error),
    /// The file did not take the bytes.
    Writing(io::Error),
}

/// One target's share of a part.
pub struct Share {
    /// The target.
    pub name: Arc<str>,
    /// The encoded events, in order.
    pub slices: Vec<Bytes>,
    /// How many events they are.
    pub events: u64,
}

/// Everything taken from the inlet and not settled.
pub struct Backlog {
    pauses: Pauses,
    targets: BTreeMap<Arc<str>, Target>,
    bytes: usize,
    pushed: u64,
}

#[derive(Default)]
struct Target {
    items: VecDeque<Item>,
    torn: Option<Torn>,
    is_busy: bool,
    failures: u32,
    not_before: Instant,
}

struct Item {
    slices: Vec<Bytes>,
    bytes: usize,
    /// Bytes of it written, in whole lines.
    done: usize,
    events: u64,
    claim: Rc<Claim>,
}

/// A part, until its last share is written.
struct Claim {
    /// Which part it was, counted from the start.
    order: u64,
    part: RefCell<Option<Part>>,
    open: Cell<usize>,
}

impl Claim {
    /// One share less; answers the part when it was the last.
    fn release(&self) -> Option<Part> {
        self.open.set(self.open.get() - 1);
        if self.open.get() > 0 {
            return None;
        }
        self.part.borrow_mut().take()
    }
}

impl Backlog {
    /// Nothing held yet.
    pub fn new(pauses: Pauses) -> Backlog {
        Backlog {
            pauses,
            targets: BTreeMap::new(),
            bytes: 0,
            pushed: 0,
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether more parts may come.
    pub fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Whether some target's last write failed.
    pub fn has_failures(&self) -> bool {
        self.targets.values().any(|target| target.failures > 0)
    }

    /// Adds a part. Answers it when it has no shares: there is nothing to wait for.
    pub fn push(&mut self, part: Part, shares: Vec<Share>) -> Option<Part> {
        if shares.is_empty() {
            return Some(part);
        }
        self.pushed += 1;
        let claim = Rc::new(Claim {
            order: self.pushed,
            part: RefCell::new(Some(part)),
            open: Cell::new(shares.len()),
        });
        for share in shares {
            let bytes = share.slices.iter().map(Bytes::len).sum();
            self.bytes += bytes;
            self.targets
                .entry(share.name)
                .or_default()
                .items
                .push_back(Item {
                    slices: share.slices,
                    bytes,
                    done: 0,
                    events: share.events,
                    claim: Rc::clone(&claim),
                });
        }
        None
    }

    /// Everything that may be written at `now`; with `None` all, whatever pauses there are.
    pub fn take_writes(&mut self, now: Option<Instant>) -> Vec<Write> {
        let mut writes = Vec::new();
        for (name, target) in &mut self.targets {
            let is_due = now.is_none_or(|now| target.not_before <= now);
            if target.is_busy || !is_due {
                continue;
            }
            target.is_busy = true;
            let name = Arc::clone(name);
            writes.push(Write {
                name,
                slices: target.slices(),
                torn: target.torn,
            });
        }
        writes
    }

    /// When the first target whose pause is not over may be written to.
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = self.targets.values().filter(|target| !target.is_busy);
        waiting.map(|target| target.not_before).min()
    }

    /// Notes what became of a write; answers the parts that are finished by it.
    pub fn settle(&mut self, written: &Written, now: Instant) -> Vec<Part> {
        let Some(target) = self.targets.get_mut(&written.name) else {
            return Vec::new();
        };
        target.is_busy = false;
        target.torn = written.torn;
        match written.error {
            None => target.failures = 0,
            Some(_) => {
                let pause = self.pauses.first * (1 << target.failures.min(8));
                target.failures += 1;
                target.not_before = now + pause.min(self.pauses.longest);
            }
        }
        self.bytes -= written.bytes;
        let finished = target.advance(written.bytes);
        if target.items.is_empty() {
            self.targets.remove(&written.name);
        }
        finished
    }

    /// Gives up what is held for one target. Answers how many events that were, and the parts
    /// that are finished by it.
    pub fn drop_target(&mut self, name: &str, reason: &'static str) -> (u64, Vec<Part>) {
        let Some(target) = self.targets.remove(name) else {
            return (0, Vec::new());
        };
        let (mut events, mut finished) = (0, Vec::new());
        for item in target.items {
            self.bytes -= item.bytes - item.done;
            events += item.events;
            if let Some(part) = item.claim.part.borrow_mut().as_mut() {
                part.drop_some(reason, item.events);
            }
            finished.extend(item.claim.release());
        }
        (events, finished)
    }

    /// Lets go of everything that is not written: the parts it came from, in their order. A part
    /// of which some targets have got their share comes again whole.
    pub fn take_back(&mut self) -> Vec<Part> {
        let targets = std::mem::take(&mut self.targets).into_values();
        let claims = targets.flat_map(|target| target.items).map(|it| it.claim);
        let open: BTreeMap<u64, Rc<Claim>> = claims.map(|claim| (claim.order, claim)).collect();
        self.bytes = 0;
        let parts = open.values();
        parts
            .filter_map(|claim| claim.part.borrow_mut().take())
            .collect()
    }

    /// The jobs that wrote have been lost, with all they would have told.
    pub fn forget_jobs(&mut self, now: Instant) {
        for target in self.targets.values_mut().filter(|target| target.is_busy) {
            target.is_busy = false;
            target.failures += 1;
            target.not_before = now + self.pauses.longest;
        }
    }
}

impl Target {
    /// What is not written yet, from the start of a line.
    fn slices(&self) -> Vec<Bytes> {
        let mut slices = Vec::with_capacity(self.items.iter().map(|item| item.slices.len()).sum());
        for item in &self.items {
            let mut skip = item.done;
            for slice in &item.slices {
                let skipped = skip.min(slice.len());
                skip -= skipped;
                if skipped < slice.len() {
                    slices.push(slice.slice(skipped..));
                }
            }
        }
        slices
    }

    /// `bytes` more are written.
    fn advance(&mut self, mut bytes: usize) -> Vec<Part> {
        let mut finished = Vec::new();
        while let Some(item) = self.items.front_mut() {
            let here = (item.bytes - item.done).min(bytes);
            item.done += here;
            bytes -= here;
            if item.done < item.bytes {
                break;
            }
            finished.extend(item.claim.release());
            self.items.pop_front();
        }
        debug_assert_eq!(bytes, 0, "more was written than was held");
        finished
    }
}
