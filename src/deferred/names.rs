//! Names of Deferreds and the list of those that are still pending.
//!
//! A name moves along a chain: it belongs to the end, until the result is taken there. What is
//! listed is what somebody may wait for in vain: a chain without a result, and a failure that
//! nobody has looked at. The list is per thread, like everything here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use crate::time::{Clock, Instant};

use super::failure::{Failure, Place};

/// A named Deferred that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its name.
    pub name: String,
    /// Where it was named.
    pub place: Place,
    /// Since when it is in this state; [`Instant::ZERO`] without a [`set_clock`].
    pub since: Instant,
    /// The text of its failure, if it failed and nobody has handled that.
    pub failed: Option<String>,
}

/// The named Deferreds of this thread that have no result yet, or hold a failure that nobody
/// has handled; in the order in which their slots were taken, which is arbitrary.
pub fn pending() -> Vec<Pending> {
    let listed = NAMES.try_with(|names| {
        let names = names.borrow();
        let entries = names.entries.iter().flatten();
        entries.filter_map(Entry::pending).collect()
    });
    listed.unwrap_or_default()
}

/// Sets the clock that [`Pending::since`] is read from, for this thread.
pub fn set_clock(clock: Rc<dyn Clock>) {
    // While the thread ends there is nothing to be listed any more.
    let former = NAMES.try_with(|names| names.borrow_mut().clock.replace(clock));
    drop(former);
}

/// A slot in the list; gives it back when dropped.
pub(super) struct NameTag(usize);

#[derive(Default)]
struct Names {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    clock: Option<Rc<dyn Clock>>,
}

struct Entry {
    name: Cow<'static, str>,
    place: Place,
    since: Instant,
    state: Stage,
}

enum Stage {
    Unfired,
    Failed(String),
    Resolved,
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

impl NameTag {
    /// `None` only while the thread ends.
    pub(super) fn new(name: Cow<'static, str>, place: Place) -> Option<Self> {
        let now = now();
        let entry = Entry {
            name,
            place,
            since: now,
            state: Stage::Unfired,
        };
        NAMES
            .try_with(|names| NameTag(names.borrow_mut().insert(entry)))
            .ok()
    }

    pub(super) fn name(&self) -> Option<String> {
        self.with(|entry| entry.name.clone().into_owned())
    }

    /// The node that carries it has a result.
    pub(super) fn fired(&self, failure: Option<&Failure>) {
        let now = now();
        let state = failure.map_or(Stage::Resolved, |failure| Stage::Failed(failure.text()));
        self.with(|entry| {
            entry.state = state;
            entry.since = now;
        });
    }

    /// It moves to a node that has no result yet.
    pub(super) fn carried_on(self) -> Self {
        self.with(|entry| entry.state = Stage::Unfired);
        self
    }

    fn with<R>(&self, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let changed = NAMES.try_with(|names| {
            let mut names = names.borrow_mut();
            names.entries.get_mut(self.0)?.as_mut().map(change)
        });
        changed.ok().flatten()
    }
}

impl Drop for NameTag {
    fn drop(&mut self) {
        // While the thread ends the list is gone, and the slot with it.
        let _ = NAMES.try_with(|names| {
            let mut names = names.borrow_mut();
            names.free.push(self.0);
            names.entries[self.0].take()
        });
    }
}

impl Names {
    fn insert(&mut self, entry: Entry) -> usize {
        if let Some(index) = self.free.pop() {
            self.entries[index] = Some(entry);
            return index;
        }
        self.entries.push(Some(entry));
        self.entries.len() - 1
    }
}

impl Entry {
    fn pending(&self) -> Option<Pending> {
        let failed = match &self.state {
            Stage::Unfired => None,
            Stage::Failed(text) => Some(text.clone()),
            Stage::Resolved => return None,
        };
        Some(Pending {
            name: self.name.clone().into_owned(),
            place: self.place,
            since: self.since,
            failed,
        })
    }
}

/// The clock is foreign code, so it is asked without a borrow.
fn now() -> Instant {
    let clock = NAMES.try_with(|names| names.borrow().clock.clone());
    clock
        .ok()
        .flatten()
        .map_or(Instant::ZERO, |clock| clock.now())
}
