//! The door from other threads: `call_from_thread`.
//!
//! Calls are queued in order and run by the reactor's thread, those that were there when the
//! step began; the others in the next turn. The reactor is woken once however many calls come.
//! After its end the door is shut: a call comes back as [`Closed`] and what it held is dropped.
//! The queue has no limit of its own; who calls keeps one (a pool's queue, a window of batches).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::core::Place;
use super::handle::Handle;
use super::poller::Wake;
use crate::deferred::{Deferred, Failure, Link};

/// Reaches a reactor from any thread.
#[derive(Clone)]
pub struct Remote(Arc<Door>);

struct Door {
    queue: Mutex<Queue>,
    /// There are calls that the reactor has not looked at: it was woken and need not be again.
    called: AtomicBool,
    waker: Arc<dyn Wake>,
    thread: ThreadId,
}

struct Queue {
    calls: VecDeque<RemoteCall>,
    is_closed: bool,
}

struct RemoteCall {
    call: Box<dyn FnOnce(&Handle) + Send>,
    at: &'static Location<'static>,
}

/// The reactor has ended; nothing can be called there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has ended")
    }
}

impl std::error::Error for Closed {}

/// A blocking call was made on the thread that would have to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerIsReactor;

impl fmt::Display for CallerIsReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor's thread cannot wait for itself")
    }
}

impl std::error::Error for CallerIsReactor {}

impl Remote {
    pub(super) fn new(waker: Arc<dyn Wake>) -> Remote {
        Remote(Arc::new(Door {
            queue: Mutex::new(Queue {
                calls: VecDeque::new(),
                is_closed: false,
            }),
            called: AtomicBool::new(false),
            waker,
            thread: std::thread::current().id(),
        }))
    }

    /// Runs `call` on the reactor's thread, after the calls made before.
    ///
    /// # Errors
    /// [`Closed`] when the reactor has ended; `call` is dropped.
    #[track_caller]
    pub fn call(&self, call: impl FnOnce(&Handle) + Send + 'static) -> Result<(), Closed> {
        let call = RemoteCall {
            call: Box::new(call),
            at: Location::caller(),
        };
        self.queue_call(call)?;
        self.nudge();
        Ok(())
    }

    /// Ends the wait of the reactor, or the next one.
    pub(super) fn nudge(&self) {
        // The reactor's own thread cannot be asleep, so it needs no system call to wake it.
        if !self.0.called.swap(true, Ordering::SeqCst) && !self.is_here() {
            self.0.waker.wake();
        }
    }

    /// Runs `call` on the reactor's thread and waits for what it returns, Deferred or not. For
    /// threads that may block.
    ///
    /// # Errors
    /// The failure of `call`; [`Closed`] when the reactor ends first; [`CallerIsReactor`] on the
    /// reactor's own thread, which would wait for itself.
    #[track_caller]
    pub fn call_blocking<L: Link + 'static>(
        &self,
        call: impl FnOnce(&Handle) -> L + Send + 'static,
    ) -> Result<L::Out, Failure>
    where
        L::Out: Send,
    {
        if self.is_here() {
            return Err(Failure::new(CallerIsReactor));
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.call(move |reactor| {
            let result = Deferred::call(|| call(reactor));
            drop(result.add_both(move |result| {
                // An error says that the caller's thread is gone.
                let _ = sender.send(result);
            }));
        })
        .map_err(Failure::new)?;
        receiver
            .recv()
            .unwrap_or_else(|_| Err(Failure::new(Closed)))
    }

    fn queue_call(&self, call: RemoteCall) -> Result<(), Closed> {
        let mut queue = self.0.lock();
        if queue.is_closed {
            drop(queue); // before `call` is: it may hold what calls us again
            return Err(Closed);
        }
        queue.calls.push_back(call);
        Ok(())
    }

    /// This is the reactor's thread.
    pub fn is_here(&self) -> bool {
        std::thread::current().id() == self.0.thread
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing foreign runs under the lock, so a poisoned queue is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reactor's side of the door.
pub(super) struct Inbox {
    remote: Remote,
    /// An empty queue with its memory, to be swapped for the full one.
    spare: RefCell<VecDeque<RemoteCall>>,
}

impl Inbox {
    pub(super) fn new(remote: Remote) -> Inbox {
        Inbox {
            remote,
            spare: RefCell::default(),
        }
    }

    pub(super) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// There are calls to run.
    pub(super) fn is_called(&self) -> bool {
        self.remote.0.called.load(Ordering::SeqCst)
    }

    fn take(&self) -> VecDeque<RemoteCall> {
        // The flag first: a call made between the two is run now and looked for once more.
        if !self.remote.0.called.swap(false, Ordering::SeqCst) {
            return VecDeque::new();
        }
        let spare = self.spare.take();
        std::mem::replace(&mut self.remote.0.lock().calls, spare)
    }

    fn give_back(&self, spare: VecDeque<RemoteCall>) {
        self.spare.replace(spare);
    }

    /// Shuts the door and drops the calls that came too late.
    pub(super) fn close(&self) {
        let late = {
            let mut queue = self.remote.0.lock();
            queue.is_closed = true;
            std::mem::take(&mut queue.calls)
        };
        drop(late);
    }
}

impl Handle {
    /// Runs the calls of other threads that were there when the step began.
    pub(super) fn run_remote_calls(&self) {
        let mut batch = self.core.inbox.take();
        for RemoteCall { call, at } in batch.drain(..) {
            // Logged by `enter`.
            let _ = self.enter(
                Place {
                    kind: "remote call",
                    at,
                },
                call,
            );
        }
        if batch.capacity() > 0 {
            self.core.inbox.give_back(batch);
        }
    }
}
