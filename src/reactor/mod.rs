//! The reactor: waits for readiness, and runs handlers, calls, timers and notifications in turn.
//!
//! A reader of Twisted knows it: `add_reader`, `call_later`, `call_when_running`,
//! `call_from_thread` (here [`Remote::call`]), `defer_to_thread`, triggers at shutdown, one loop.
//! A reader of mio knows the rest: edges, tokens, a waker. The order of things is in one place,
//! [`Reactor::turn`]; everything foreign is run by one function, `Handle::enter`.
//!
//! - One reactor per thread. Everything of it is `!Send` but [`Remote`].
//! - No borrow of the reactor's state is held while foreign code runs, and foreign code is never
//!   run from within foreign code: what a component wants to tell another one is queued with
//!   [`Handle::call_soon`].
//! - An idle reactor makes no system call: it waits for an edge, a deadline or its waker.
//! - A panic or an error ends what it belongs to (a source, a call), never the loop.

pub mod child;
mod cooperate;
mod core;
mod durability;
mod handle;
mod jobs;
mod mailbox;
mod periodic;
pub mod poller;
mod ready;
mod remote;
mod run_main;
mod signal;
mod source;
mod task;
mod timer;
mod timers;
mod token;
mod triggers;
mod watch;
pub mod worker;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::time::{Clock, SystemClock};

pub use self::child::{Child, CommandLine, Ending, Spawned, Tell};
pub use self::cooperate::{CooperativeTask, Cooperator, Step, TaskError};
pub use self::core::{Exit, Options, PanicPolicy};
#[doc(hidden)]
pub use self::durability::abort_for_durability;
pub use self::handle::Handle;
pub use self::mailbox::{Sender, Unsent};
pub use self::periodic::{AlreadyRunning, Periodic};
pub use self::poller::{Direction, Pollable, Poller, PollerKind, Readiness, Wake};
pub use self::remote::{CallerIsReactor, Closed, Remote};
pub use self::run_main::ExitWith;
pub use self::signal::{Signal, SignalWatch};
pub use self::source::{Handler, Progress};
pub use self::timer::{PendingTimer, Timer, TimerGuard};
pub use self::token::Token;
pub use self::triggers::{Phase, TriggerId};
pub use self::watch::Stats;
pub use self::worker::{Pool, PoolSizes, Refused, Threads, Worker, start_thread};

/// The seams through which a reactor touches the system, the real ones or the simulator's.
pub struct Seams {
    /// What time it is.
    pub clock: Rc<dyn Clock>,
    /// What is ready.
    pub poller: Box<dyn Poller>,
    /// Who runs what blocks.
    pub worker: Rc<dyn Worker>,
}

impl Seams {
    /// The machine's clock, a poller of this kind, and threads.
    ///
    /// # Errors
    /// The poller's: mostly that no descriptor is left.
    pub fn system(poller: PollerKind) -> io::Result<Seams> {
        Ok(Seams {
            clock: Rc::new(SystemClock::new()),
            poller: poller.open()?,
            worker: Rc::new(Threads::new(PoolSizes::default())),
        })
    }
}

/// The loop and the owner of all that is registered with it; dropping it drops them.
pub struct Reactor {
    handle: Handle,
    /// What the poller said last; kept for its memory.
    events: Vec<Readiness>,
    poll_errors: PollErrors,
}

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There will be more turns.
    Going,
    /// That was the last one.
    Ended(Exit),
}

impl Reactor {
    /// Makes this thread's reactor.
    ///
    /// # Errors
    /// [`ReactorError::AlreadyHere`] when the thread has one.
    pub fn new(seams: Seams, options: Options) -> Result<Reactor, ReactorError> {
        Ok(Reactor {
            handle: Handle::new(seams, options)?,
            events: Vec::new(),
            poll_errors: PollErrors::default(),
        })
    }

    /// The door to this reactor for everything that runs on its thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Whether there will be more turns.
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Takes turns until the reactor has been stopped and has shut down, or was aborted.
    ///
    /// A handler cannot call it: it has a [`Handle`], and this needs the reactor itself (C-244).
    ///
    /// ```compile_fail
    /// # fn check(handle: marline::reactor::Handle) {
    /// handle.call_soon(|reactor| { reactor.run(); });
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`turn`](Self::turn).
    pub fn run(&mut self) -> Result<Exit, ReactorError> {
        loop {
            if let Status::Ended(exit) = self.turn(None)? {
                return Ok(exit);
            }
        }
    }

    /// One turn of the loop. This is the order of things; each step serves what was there when
    /// it began, so whoever queues more waits for the next turn and nobody starves.
    ///
    /// Sources come before timers: who has bytes waiting is served before its time limit is
    /// looked at. Notifications come last, so what the steps before caused (writes to flush,
    /// consumers to resume) is done in the same turn.
    ///
    /// It waits at most `max_wait`, and not at all when there is something to do.
    ///
    /// # Errors
    /// The poller fails again and again, or the reactor has ended already.
    pub fn turn(&mut self, max_wait: Option<Duration>) -> Result<Status, ReactorError> {
        self.handle.start_once()?; //           first turn only: the calls waiting for it
        self.wait(max_wait)?; //             1. sleep until an edge, a deadline or the waker
        self.handle.serve_sources(); //      2. readable, writable: the ready list
        self.handle.run_remote_calls(); //   3. calls from other threads
        self.handle.run_timers(); //         4. timers that are due
        self.handle.run_notices(); //        5. notifications, losses, woken futures
        self.handle.advance_shutdown(); //   6. when stopped: the phases of the end
        Ok(self.handle.status())
    }

    fn wait(&mut self, max_wait: Option<Duration>) -> Result<(), ReactorError> {
        let limit = self.handle.before_wait();
        let timeout = match (limit, max_wait) {
            (Some(limit), Some(max_wait)) => Some(limit.min(max_wait)),
            (limit, max_wait) => limit.or(max_wait),
        };
        self.events.clear();
        let mut result = self.handle.poll(timeout, &mut self.events);
        if is_interrupted(&result) {
            // A process that was stopped and goes on gets this, whatever is ready. What came
            // meanwhile must be seen before the time limits that passed meanwhile.
            result = self.handle.poll(Some(Duration::ZERO), &mut self.events);
        }
        match result {
            Ok(()) => self.poll_errors = PollErrors::default(),
            Err(error) => {
                self.events.clear();
                // Interrupted again: an empty wait.
                if error.kind() != io::ErrorKind::Interrupted {
                    self.poll_errors.count(error)?;
                }
            }
        }
        for event in &self.events {
            self.handle.note_readiness(*event);
        }
        Ok(())
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn is_interrupted(result: &io::Result<()>) -> bool {
    let error = result.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// So many failures of the poller in a row are fatal.
const POLL_ERRORS_MAX: u32 = 16;

/// How often the poller has failed in a row.
#[derive(Default)]
struct PollErrors {
    in_a_row: u32,
}

impl PollErrors {
    /// A wait that failed is an empty one, until there are too many.
    fn count(&mut self, error: io::Error) -> Result<(), ReactorError> {
        self.in_a_row += 1;
        if self.in_a_row >= POLL_ERRORS_MAX {
            return Err(ReactorError::Poller(error));
        }
        tracing::error!(%error, "the poller failed; trying again");
        Ok(())
    }
}

/// Why there is no reactor, or no more turns of it.
#[derive(Debug)]
pub enum ReactorError {
    /// This thread has a reactor; there is one per thread.
    AlreadyHere,
    /// It has ended; make a new one.
    Ended,
    /// The poller failed so many times in a row that trying again is pointless.
    Poller(io::Error),
    /// The signal handlers could not be set up.
    Signals(io::Error),
}

impl fmt::Display for ReactorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReactorError::AlreadyHere => f.write_str("this thread has a reactor already"),
            ReactorError::Ended => f.write_str("the reactor has ended; make a new one"),
            ReactorError::Poller(error) => {
                write!(
                    f,
                    "the poller failed {POLL_ERRORS_MAX} times in a row: {error}"
                )
            }
            ReactorError::Signals(error) => write!(f, "cannot receive signals: {error}"),
        }
    }
}

impl std::error::Error for ReactorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReactorError::Poller(error) | ReactorError::Signals(error) => Some(error),
            ReactorError::AlreadyHere | ReactorError::Ended => None,
        }
    }
}
