//! What a reactor consists of, and the one place where foreign code is run.
//!
//! [`Core`] is shared by all handles of one reactor. Its fields are cells: each is borrowed for
//! one statement, never across a call into a handler, a closure or a destructor of theirs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::handle::Handle;
use super::jobs::Jobs;
use super::mailbox::Mailbox;
use super::poller::Poller;
use super::ready::ReadyList;
use super::remote::{Inbox, Remote};
use super::source::{Handler, Sources};
use super::timer::TimerCall;
use super::timers::TimerQueue;
use super::triggers::Shutdown;
use super::watch::Watch;
use super::worker::Worker;
use super::{ReactorError, Seams, Status};
use crate::deferred::{self, Failure, Panicked};
use crate::telemetry::events::CallbackPanicked;
use crate::time::{Clock, Instant};

/// How a reactor behaves; the defaults are the daemon's.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a panic of a handler does beyond ending what the handler belongs to.
    pub panic: PanicPolicy,
    /// A callback that runs longer is named in a warning.
    pub slow_callback: Duration,
    /// How long the triggers before shutdown may take altogether.
    pub drain_timeout: Duration,
    /// How long what follows may take: triggers during, triggers after, unfinished jobs; each.
    pub finish_timeout: Duration,
    /// SIGTERM and SIGINT stop the reactor. False: no signal handler is touched.
    pub signals: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            panic: PanicPolicy::Continue,
            slow_callback: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(60),
            finish_timeout: Duration::from_secs(5),
            signals: false,
        }
    }
}

/// What a panic does, once it has been logged and its source closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicPolicy {
    /// The others go on.
    Continue,
    /// The reactor stops, in order.
    Exit,
}

/// Why a reactor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Somebody asked for it.
    Stopped,
    /// Somebody asked for it and for this exit code.
    Code(u8),
    /// A signal asked for it: its number.
    Signal(i32),
    /// A handler panicked and the policy says [`PanicPolicy::Exit`].
    Panicked,
    /// `abort` was called: nothing was shut down.
    Aborted,
}

/// Where the reactor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    New,
    Running,
    Stopping,
    Ended(Exit),
}

/// A notification: something to run at the end of this turn.
pub(super) enum Notice {
    Call(Box<dyn FnOnce(&Handle)>, &'static Location<'static>),
    Lost(Box<dyn Handler>, Failure, &'static Location<'static>),
}

/// A call that waits for the reactor to run.
pub(super) type StartCall = (Box<dyn FnOnce(&Handle)>, &'static Location<'static>);

pub(super) struct Core {
    pub(super) options: Options,
    /// [`Options::drain_timeout`], which may change while the reactor runs.
    pub(super) drain_timeout: Cell<Duration>,
    pub(super) clock: Rc<dyn Clock>,
    pub(super) worker: Rc<dyn Worker>,
    pub(super) poller: RefCell<Box<dyn Poller>>,
    /// The clock as it was read last: after the wait and after each dispatch.
    pub(super) now: Cell<Instant>,
    pub(super) life: Cell<Life>,
    pub(super) sources: RefCell<Sources>,
    pub(super) ready: RefCell<ReadyList>,
    /// What sources may still read in this turn, in bytes.
    pub(super) readable_bytes: Cell<usize>,
    pub(super) timers: RefCell<TimerQueue<TimerCall>>,
    pub(super) notices: RefCell<VecDeque<Notice>>,
    pub(super) start_calls: RefCell<VecDeque<StartCall>>,
    pub(super) inbox: Inbox,
    /// By their numbers.
    pub(super) mailboxes: RefCell<Vec<Rc<dyn Mailbox>>>,
    pub(super) jobs: RefCell<Jobs>,
    pub(super) shutdown: RefCell<Shutdown>,
    pub(super) watch: Watch,
    /// How many foreign calls of the reactor are on the stack; more than 1 is a bug.
    pub(super) depth: Cell<u32>,
    /// The most of them so far.
    pub(super) depth_peak: Cell<u32>,
}

thread_local! {
    /// This thread has a reactor.
    static OCCUPIED: Cell<bool> = const { Cell::new(false) };
}

/// What is being run, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// `timer`, `source`, …
    pub(super) kind: &'static str,
    /// Where it was handed to the reactor.
    pub(super) at: &'static Location<'static>,
}

impl Handle {
    pub(super) fn new(seams: Seams, options: Options) -> Result<Handle, ReactorError> {
        if OCCUPIED.replace(true) {
            return Err(ReactorError::AlreadyHere);
        }
        let now = seams.clock.now();
        let core = Rc::new(Core {
            inbox: Inbox::new(Remote::new(seams.poller.waker())),
            mailboxes: RefCell::default(),
            clock: seams.clock,
            worker: seams.worker,
            poller: RefCell::new(seams.poller),
            now: Cell::new(now),
            life: Cell::new(Life::New),
            sources: RefCell::default(),
            ready: RefCell::default(),
            timers: RefCell::new(TimerQueue::new()),
            notices: RefCell::default(),
            start_calls: RefCell::default(),
            jobs: RefCell::new(Jobs::new()),
            shutdown: RefCell::default(),
            watch: Watch::new(now),
            depth: Cell::new(0),
            depth_peak: Cell::new(0),
            readable_bytes: Cell::new(0),
            drain_timeout: Cell::new(options.drain_timeout),
            options,
        });
        deferred::set_clock(core.clock.clone());
        let handle = Handle { core };
        handle.adopt_futures();
        Ok(handle)
    }

    /// Runs foreign code: the only place that does. A panic is caught and logged and comes back
    /// as a failure; a long run is named in a warning. Costs one reading of the clock.
    pub(super) fn enter<R>(
        &self,
        place: Place,
        call: impl FnOnce(&Handle) -> R,
    ) -> Result<R, Failure> {
        let core = &*self.core;
        let depth = core.depth.get() + 1;
        core.depth_peak.set(core.depth_peak.get().max(depth));
        debug_assert_eq!(depth, 1, "foreign code is run by foreign code");
        core.depth.set(depth);
        let began = core.now.get();
        let result = catch_unwind(AssertUnwindSafe(|| call(self)));
        core.depth.set(depth - 1);
        let now = self.fresh();
        core.watch
            .dispatched(place, now.since(began), now, &core.options);
        result.map_err(|payload| self.panicked(place, &*payload))
    }

    fn panicked(&self, place: Place, payload: &(dyn std::any::Any + Send)) -> Failure {
        let message = panic_text(payload).to_owned();
        self.core.watch.panicked();
        let (kind, at, text) = (place.kind, &place.at, message.as_str());
        CallbackPanicked { kind, at, text }.log();
        if self.core.options.panic == PanicPolicy::Exit {
            self.stop(Exit::Panicked);
        }
        Failure::new(Panicked {
            message,
            place: place.at,
        })
    }

    /// Runs the calls that waited for the first turn.
    pub(super) fn start_once(&self) -> Result<(), ReactorError> {
        match self.core.life.get() {
            Life::New => {}
            Life::Ended(_) => return Err(ReactorError::Ended),
            Life::Running | Life::Stopping => return Ok(()),
        }
        if self.core.options.signals {
            self.stop_on_signals().map_err(ReactorError::Signals)?;
        }
        self.core.life.set(Life::Running);
        self.fresh();
        while let Some((call, at)) = self.take_start_call() {
            // Logged by `enter`; the others are called all the same.
            let _ = self.enter(
                Place {
                    kind: "start call",
                    at,
                },
                call,
            );
        }
        Ok(())
    }

    fn take_start_call(&self) -> Option<StartCall> {
        self.core.start_calls.borrow_mut().pop_front()
    }

    /// Runs the notifications that were there when the step began.
    pub(super) fn run_notices(&self) {
        self.run_woken_futures();
        let mut batch = self.core.notices.take();
        for notice in batch.drain(..) {
            // Logged by `enter`.
            let _ = match notice {
                Notice::Call(call, at) => self.enter(
                    Place {
                        kind: "notification",
                        at,
                    },
                    call,
                ),
                Notice::Lost(handler, reason, at) => self
                    .enter(Place { kind: "lost", at }, |reactor| {
                        handler.lost(reason, reactor)
                    }),
            };
        }
        let mut queued = self.core.notices.borrow_mut();
        if queued.is_empty() {
            *queued = batch; // its memory is used again
        }
    }

    pub(super) fn notify(&self, notice: Notice) {
        if self.has_ended() {
            return; // nobody would run it; dropping it now breaks cycles
        }
        self.core.notices.borrow_mut().push_back(notice);
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.core.life.get(), Life::Ended(_))
    }

    pub(super) fn status(&self) -> Status {
        match self.core.life.get() {
            Life::Ended(exit) => Status::Ended(exit),
            Life::New | Life::Running | Life::Stopping => Status::Going,
        }
    }

    /// Drops everything that was registered. Components hold handles and the reactor holds
    /// components, so without this nobody would ever be dropped.
    pub(super) fn close(&self) {
        if !self.has_ended() {
            self.core.life.set(Life::Ended(Exit::Aborted));
        }
        self.core.inbox.close();
        self.drop_mailboxes();
        self.drop_futures();
        let sources = self.remove_everything();
        let jobs = self.core.jobs.borrow_mut().drain();
        let timers = self.core.timers.borrow_mut().drain();
        let notices = self.core.notices.take();
        let start_calls = self.core.start_calls.take();
        let shutdown = self.core.shutdown.take();
        drop((sources, jobs, timers, notices, start_calls, shutdown));
        OCCUPIED.set(false);
    }
}

/// What a caught panic says.
pub(super) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text")
}
