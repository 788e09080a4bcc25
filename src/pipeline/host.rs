//! What a component may ask of the daemon as a whole: its stop, its books, where its state is.
//!
//! Lent to components as a resource. The service gives the answers once the daemon is put
//! together; until then a request for a stop waits, and the books are empty.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ledger::Tally;
use crate::deferred::{Deferred, Permit, Semaphore};

/// The accounts of one component, each with its stable name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The component: `sink.out`.
    pub component: String,
    /// Its counts, as the log names them.
    pub counts: Vec<(&'static str, u64)>,
    /// What some of them are made of: by step, by reason.
    pub parts: Vec<(&'static str, Tally)>,
}

/// The daemon, as components see it. Clones are the same one.
#[derive(Clone, Default)]
pub struct Host(Rc<Inner>);

#[derive(Default)]
struct Inner {
    state_dir: PathBuf,
    stop: RefCell<Option<Rc<dyn Fn(&str)>>>,
    /// A stop was asked for before anybody could answer: why.
    waiting: Cell<Option<String>>,
    books: RefCell<Option<Rc<dyn Fn() -> Deferred<Vec<Account>>>>>,
    /// By what one component alone may have at a time; as many as were ever in the config.
    places: RefCell<BTreeMap<String, Semaphore>>,
}

impl Host {
    /// A daemon whose state is in `state_dir`.
    pub fn new(state_dir: &Path) -> Host {
        Host(Rc::new(Inner {
            state_dir: state_dir.to_path_buf(),
            ..Inner::default()
        }))
    }

    /// The folder of everything that must survive a restart. It may not be there yet.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// Asks for the stop of the daemon, as SIGTERM does; `reason` is for the log. Nothing
    /// happens when it is stopping already.
    pub fn stop(&self, reason: &str) {
        let stop = self.0.stop.borrow().clone();
        match stop {
            Some(stop) => stop(reason),
            None => self.0.waiting.set(Some(reason.to_owned())),
        }
    }

    /// The books of every pipeline and every sink. They may be on other threads: the answer may
    /// take its time, and fails, with a line in the log, where somebody keeps theirs back.
    pub fn books(&self) -> Deferred<Vec<Account>> {
        let books = self.0.books.borrow().clone();
        books.map_or_else(|| Deferred::ready(Vec::new()), |books| books())
    }

    /// The turn at `place` (`"stdin"`, `"journald.in"`), which one component has at a time: a
    /// source that takes another's place after a reload goes on where that one has ended.
    /// Dropping the permit gives it back.
    pub fn turn_at(&self, place: &str) -> Deferred<Permit> {
        let mut places = self.0.places.borrow_mut();
        let turns = places.entry(place.to_owned());
        let turns = turns.or_insert_with(|| Semaphore::new(1)).clone();
        drop(places);
        turns.acquire()
    }

    /// Who answers requests for a stop; one that waits is answered at once.
    pub fn on_stop(&self, stop: impl Fn(&str) + 'static) {
        *self.0.stop.borrow_mut() = Some(Rc::new(stop));
        if let Some(reason) = self.0.waiting.take() {
            self.stop(&reason);
        }
    }

    /// Who keeps the books.
    pub fn set_books(&self, books: impl Fn() -> Deferred<Vec<Account>> + 'static) {
        *self.0.books.borrow_mut() = Some(Rc::new(books));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_comes_too_early_waits() {
        let host = Host::default();
        host.stop("the input has ended");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&seen);
        host.on_stop(move |reason| told.borrow_mut().push(reason.to_owned()));
        host.stop("again");
        assert_eq!(*seen.borrow(), ["the input has ended", "again"]);
    }

    #[test]
    fn a_place_is_had_by_one_at_a_time() {
        let host = Host::default();
        let first = host.turn_at("stdin").now_or_pending();
        let second = host.turn_at("stdin");
        assert!(first.is_some() && !second.is_fired());
        assert!(host.turn_at("another").is_fired());
        drop(first);
        assert!(second.is_fired());
    }
}
