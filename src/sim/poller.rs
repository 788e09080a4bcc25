//! The simulated poller: readiness of simulated sockets, and sleep that moves the clock.
//!
//! [`SimIo`] is where the simulated network says what became ready; it holds the edges until the
//! poller reports them, and what will happen in the world meanwhile. A direction is reported
//! once until it is re-armed, like everywhere. Where nothing is ready, a wait moves the clock
//! from event to event, up to its timeout; without both it blocks until another thread wakes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::agenda::Agenda;
use super::clock::VirtualClock;
use crate::reactor::{Direction, Pollable, Poller, Readiness, Token, Wake};
use crate::time::{Clock, Instant};

/// The readiness of all simulated sockets, and what is going to happen to them; clones are the
/// same registry.
#[derive(Clone, Default)]
pub struct SimIo(Rc<Shared>);

#[derive(Default)]
struct Shared {
    registry: RefCell<Registry>,
    agenda: Agenda,
}

#[derive(Default)]
struct Registry {
    sockets: BTreeMap<u64, Socket>,
    ids: BTreeMap<Token, u64>,
    /// Sockets that may have something to report, in the order in which that came up.
    queue: VecDeque<u64>,
    next_id: u64,
}

#[derive(Default)]
struct Socket {
    token: Option<Token>,
    edges: Edges,
    /// What was reported and not re-armed.
    masked: Edges,
    queued: bool,
}

#[derive(Clone, Copy, Default)]
struct Edges {
    read: bool,
    write: bool,
    hangup: bool,
}

impl SimIo {
    /// A registry without sockets.
    pub fn new() -> Self {
        SimIo::default()
    }

    /// A new socket's id.
    pub fn open(&self) -> u64 {
        let mut registry = self.0.registry.borrow_mut();
        let id = registry.next_id;
        registry.next_id += 1;
        registry.sockets.insert(id, Socket::default());
        id
    }

    /// Forgets a socket.
    pub fn close(&self, id: u64) {
        let mut registry = self.0.registry.borrow_mut();
        let socket = registry.sockets.remove(&id);
        if let Some(token) = socket.and_then(|socket| socket.token) {
            registry.ids.remove(&token);
        }
    }

    /// There is something (more) to read.
    pub fn set_readable(&self, id: u64) {
        self.change(id, |socket| socket.edges.read = true);
    }

    /// There is room (again) to write.
    pub fn set_writable(&self, id: u64) {
        self.change(id, |socket| socket.edges.write = true);
    }

    /// The peer is gone or there is an error: both directions will say so.
    pub fn set_hangup(&self, id: u64) {
        self.change(id, |socket| {
            socket.edges = Edges {
                read: true,
                write: true,
                hangup: true,
            }
        });
    }

    /// Whether the next wait has something to report.
    pub fn is_ready(&self) -> bool {
        let registry = self.0.registry.borrow();
        let mut queued = registry.queue.iter();
        queued.any(|id| registry.sockets.get(id).is_some_and(Socket::has_news))
    }

    /// Plans something that happens in the world outside of the reactor, at `at` or, where that
    /// has passed, during the next wait. It may plan more, but not for ever more at one instant.
    pub fn plan(&self, at: Instant, event: impl FnOnce() + 'static) {
        self.0.agenda.plan(at, Box::new(event));
    }

    /// Lets everything happen that is due until `until`, and moves the clock there: for worlds
    /// without a reactor.
    pub fn pass(&self, clock: &VirtualClock, until: Instant) {
        while let Some(at) = self.0.agenda.next_at().filter(|at| *at <= until) {
            clock.move_by(at.since(clock.now()));
            self.0.agenda.run_due(at.max(clock.now()));
        }
        clock.move_by(until.since(clock.now()));
    }

    /// How many planned things have happened.
    pub fn happened(&self) -> u64 {
        self.0.agenda.happened()
    }

    /// Adds something that was seen at `now` to the trace of the run.
    pub(super) fn note(&self, now: Instant, seen: u64) {
        self.0.agenda.note(now, seen);
    }

    /// A number that stands for every call of the network so far, when it came, in which order,
    /// and what it gave: two runs of one seed have the same.
    pub fn trace(&self) -> u64 {
        self.0.agenda.trace()
    }

    /// Nothing more happens: what was planned is forgotten, which lets go of what it holds.
    pub fn end(&self) {
        self.0.agenda.clear();
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Socket)) {
        let mut registry = self.0.registry.borrow_mut();
        let Registry { sockets, queue, .. } = &mut *registry;
        if let Some(socket) = sockets.get_mut(&id) {
            change(socket);
            if socket.has_news() && !socket.queued {
                socket.queued = true;
                queue.push_back(id);
            }
        }
    }

    /// Reports what is new, each socket once.
    fn report(&self, events: &mut Vec<Readiness>) {
        let mut registry = self.0.registry.borrow_mut();
        let Registry { sockets, queue, .. } = &mut *registry;
        for id in queue.drain(..) {
            if let Some(socket) = sockets.get_mut(&id) {
                socket.queued = false;
                events.extend(socket.report());
            }
        }
    }
}

impl Socket {
    fn has_news(&self) -> bool {
        let news = (self.edges.read && !self.masked.read)
            || (self.edges.write && !self.masked.write)
            || self.edges.hangup;
        news && self.token.is_some()
    }

    fn report(&mut self) -> Option<Readiness> {
        let token = self.token?;
        let readable = self.edges.read && !self.masked.read;
        let writable = self.edges.write && !self.masked.write;
        let hangup = std::mem::take(&mut self.edges.hangup);
        self.edges.read &= !readable;
        self.edges.write &= !writable;
        self.masked.read |= readable;
        self.masked.write |= writable;
        (readable || writable || hangup).then_some(Readiness {
            token,
            readable,
            writable,
            hangup,
        })
    }
}

/// The poller of a simulated world.
pub struct SimPoller {
    clock: VirtualClock,
    io: SimIo,
    waker: Arc<SimWake>,
}

#[derive(Default)]
struct SimWake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl SimWake {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> bool {
        std::mem::take(&mut self.lock())
    }

    fn block(&self) -> io::Result<()> {
        let mut woken = self.lock();
        while !std::mem::take(&mut *woken) {
            woken = self
                .changed
                .wait(woken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Wake for SimWake {
    fn wake(&self) {
        *self.lock() = true;
        self.changed.notify_one();
    }
}

impl SimPoller {
    /// A poller that moves `clock` and reports what `io` says.
    pub fn new(clock: VirtualClock, io: SimIo) -> Self {
        SimPoller {
            clock,
            io,
            waker: Arc::default(),
        }
    }
}

impl Poller for SimPoller {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()> {
        let Pollable::Sim(id) = *source else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the simulated poller watches simulated sockets only",
            ));
        };
        self.io.0.registry.borrow_mut().ids.insert(token, id);
        self.io.change(id, |socket| {
            socket.token = Some(token);
            socket.masked = Edges::default();
        });
        Ok(())
    }

    fn rearm(&mut self, token: Token, direction: Direction) {
        let id = self.io.0.registry.borrow().ids.get(&token).copied();
        let Some(id) = id else {
            return;
        };
        self.io.change(id, |socket| match direction {
            Direction::Read => socket.masked.read = false,
            Direction::Write => socket.masked.write = false,
        });
    }

    fn deregister(&mut self, token: Token) {
        let id = self.io.0.registry.borrow_mut().ids.remove(&token);
        if let Some(id) = id {
            self.io.change(id, |socket| socket.token = None);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        let agenda = &self.io.0.agenda;
        let until = timeout.map(|timeout| self.clock.now() + timeout);
        let before = events.len();
        loop {
            let now = self.clock.now();
            agenda.run_due(now);
            self.io.report(events);
            let is_over = until.is_some_and(|until| until <= now);
            if self.waker.take() || events.len() > before || is_over {
                return Ok(());
            }
            match agenda.next_at().into_iter().chain(until).min() {
                Some(at) => self.clock.move_by(at.since(now)),
                None => return self.waker.block(),
            }
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}
