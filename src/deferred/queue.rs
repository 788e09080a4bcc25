//! A bounded queue between producers and consumers on one thread; a consumer gets a Deferred.
//! Both bounds are the owner's: items kept and getters that wait. At either the newcomer is
//! refused, and an item that is refused comes back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use super::chain::Deferred;
use super::promise::Promise;

/// A queue of at most `size` items and at most `backlog` waiting getters; it never has both.
/// Clones are handles of one queue.
pub struct Queue<T: 'static> {
    state: Rc<RefCell<State<T>>>,
}

struct State<T: 'static> {
    items: VecDeque<T>,
    getters: VecDeque<Promise<T>>,
    size: usize,
    backlog: usize,
}

/// The queue is full; the item comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// As many getters wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underflow;

impl<T: 'static> Queue<T> {
    /// An empty queue. A `size` of 0 only hands over to waiting getters, a `backlog` of 0 only
    /// gives what is there.
    pub fn new(size: usize, backlog: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            getters: VecDeque::new(),
            size,
            backlog,
        };
        Queue {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Gives the item to the getter that has waited longest, or else keeps it.
    pub fn put(&self, item: T) -> Result<(), Full<T>> {
        if let Some(getter) = self.next_getter() {
            getter.callback(item);
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        if state.items.len() >= state.size {
            return Err(Full(item));
        }
        state.items.push_back(item);
        Ok(())
    }

    /// The oldest item, now or when there is one; fails with [`Underflow`] at once when
    /// `backlog` getters wait already. A cancelled or abandoned getter takes no item.
    #[track_caller]
    pub fn get(&self) -> Deferred<T> {
        let item = self.state.borrow_mut().items.pop_front();
        if let Some(item) = item {
            return Deferred::ready(item);
        }
        if self.is_backlog_full() {
            self.sweep();
        }
        if self.is_backlog_full() {
            return Deferred::failed(Underflow);
        }
        let (promise, deferred) = Deferred::new();
        self.state.borrow_mut().getters.push_back(promise);
        deferred
    }

    /// Items kept.
    pub fn len(&self) -> usize {
        self.state.borrow().items.len()
    }

    /// Whether no item is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Getters that wait.
    pub fn waiting(&self) -> usize {
        let state = self.state.borrow();
        let waits = |getter: &&Promise<T>| !has_left(getter);
        state.getters.iter().filter(waits).count()
    }

    fn is_backlog_full(&self) -> bool {
        let state = self.state.borrow();
        state.getters.len() >= state.backlog
    }

    fn next_getter(&self) -> Option<Promise<T>> {
        loop {
            let getter = self.state.borrow_mut().getters.pop_front()?;
            if !has_left(&getter) {
                return Some(getter);
            }
        }
    }

    /// Lets go of the getters that nobody waits for any more.
    fn sweep(&self) {
        let getters = std::mem::take(&mut self.state.borrow_mut().getters);
        let (gone, stay) = getters.into_iter().partition::<VecDeque<_>, _>(has_left);
        self.state.borrow_mut().getters = stay;
        drop(gone);
    }
}

fn has_left<T>(getter: &Promise<T>) -> bool {
    getter.is_cancelled() || getter.is_abandoned()
}

impl<T: 'static> Clone for Queue<T> {
    fn clone(&self) -> Self {
        let state = self.state.clone();
        Queue { state }
    }
}

impl<T: 'static> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} items, {} waiting)", self.len(), self.waiting())
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full")
    }
}

impl<T> Error for Full<T> {}

impl fmt::Display for Underflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many getters wait as the queue allows")
    }
}

impl Error for Underflow {}
