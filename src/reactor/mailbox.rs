//! Mailboxes: typed messages from other threads to one that has a reactor, in order.
//!
//! What [`Remote`](super::Remote) is for calls, this is for data: the receiver says once what is
//! to be done with a message, and the senders need know nothing of it. Like calls, messages have
//! no limit here; whoever sends them keeps one (a window of batches that are not answered).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handle::Handle;
use super::remote::Remote;

/// Messages that are received in one turn; those behind them wait for the next.
const MESSAGES_PER_TURN: usize = 64;

/// The sending side; clones send to the same mailbox, from any thread.
pub struct Sender<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    remote: Remote,
    /// Of the mailbox, among those of its reactor.
    number: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// The reactor was told, and has not looked yet.
    is_told: bool,
    is_closed: bool,
}

/// The reactor has ended: the message, which it has not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent<T>(pub T);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Sends `message`.
    ///
    /// # Errors
    /// The reactor has ended.
    pub fn send(&self, message: T) -> Result<(), Unsent<T>> {
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(Unsent(message));
        }
        state.waiting.push_back(message);
        let is_told = std::mem::replace(&mut state.is_told, true);
        drop(state);
        if !is_told {
            self.0.tell();
        }
        Ok(())
    }
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing foreign runs under the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let number = self.number;
        let told = self
            .remote
            .call(move |reactor| reactor.empty_mailbox(number));
        if told.is_err() {
            self.close();
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let lost = std::mem::take(&mut state.waiting);
        drop(state);
        drop(lost); // with the lock given back: a message may hold what sends another
    }

    fn next(&self) -> Option<T> {
        self.lock().waiting.pop_front()
    }

    /// The reactor has looked; says whether there is more, of which it was told then.
    fn has_looked(&self) {
        let mut state = self.lock();
        state.is_told = !state.waiting.is_empty();
        let has_more = state.is_told;
        drop(state);
        if has_more {
            self.tell();
        }
    }
}

/// Tells of what is left, also where the receiver panics over a message.
struct Look<'a, T: Send + 'static>(&'a Shared<T>);

impl<T: Send + 'static> Drop for Look<'_, T> {
    fn drop(&mut self) {
        self.0.has_looked();
    }
}

/// The receiving side, as its reactor has it.
pub(super) trait Mailbox {
    /// Receives some of what has come.
    fn empty(&self);
    /// Receives nothing more.
    fn close(&self);
}

struct Inside<T, F> {
    shared: Arc<Shared<T>>,
    receive: F,
}

impl<T: Send + 'static, F: Fn(T)> Mailbox for Inside<T, F> {
    fn empty(&self) {
        let _look = Look(&*self.shared);
        let messages = std::iter::from_fn(|| self.shared.next());
        messages.take(MESSAGES_PER_TURN).for_each(&self.receive);
    }

    fn close(&self) {
        self.shared.close();
    }
}

impl Handle {
    /// A mailbox: `receive` is called with each message, in the turn. It is there until the
    /// reactor ends.
    pub fn mailbox<T: Send + 'static>(&self, receive: impl Fn(T) + 'static) -> Sender<T> {
        let mut mailboxes = self.core.mailboxes.borrow_mut();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                is_told: false,
                is_closed: false,
            }),
            remote: self.remote(),
            number: mailboxes.len(),
        });
        mailboxes.push(Rc::new(Inside {
            shared: Arc::clone(&shared),
            receive,
        }));
        Sender(shared)
    }

    fn empty_mailbox(&self, number: usize) {
        let mailbox = self.core.mailboxes.borrow().get(number).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.empty();
        }
    }

    /// Nothing is received any more; what was not received is dropped.
    pub(super) fn shut_mailboxes(&self) {
        let mailboxes = self.core.mailboxes.borrow().clone();
        mailboxes.iter().for_each(|mailbox| mailbox.close());
    }

    /// As [`Handle::shut_mailboxes`], and drops what would receive.
    pub(super) fn drop_mailboxes(&self) {
        self.shut_mailboxes();
        let mailboxes = self.core.mailboxes.take();
        drop(mailboxes);
    }
}
