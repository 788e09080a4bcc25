//! A world for each poller: the same test runs on epoll, poll, select and the simulator.
//!
//! [`World`] hides what differs: a pair of connected streams, and how time passes. On real
//! pollers time is the machine's, so tests assert order and "never early", not "on time".

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use marline::deferred::Failure;
use marline::reactor::{
    Handle, Handler, Options, Pollable, PollerKind, PoolSizes, Progress, Reactor, Seams, Status,
    Threads, Token,
};
use marline::sim::{SimIo, SimPoller, SimStream, VirtualClock, pipe};
use marline::time::Instant;

/// Runs each body as four tests, named by their pollers.
#[macro_export]
macro_rules! each_poller {
    ($(fn $name:ident($world:ident: &mut World) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::reactor_support::{Kind, World};

            fn body($world: &mut World) $body

            #[test]
            fn epoll() {
                body(&mut World::new(Kind::Epoll));
            }
            #[test]
            fn poll() {
                body(&mut World::new(Kind::Poll));
            }
            #[test]
            fn select() {
                body(&mut World::new(Kind::Select));
            }
            #[test]
            fn sim() {
                body(&mut World::new(Kind::Sim));
            }
        }
    )*};
}

/// Like [`each_poller`], for tests that make their worlds themselves.
#[macro_export]
macro_rules! each_kind {
    ($(fn $name:ident($kind:ident: Kind) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::reactor_support::Kind;

            fn body($kind: Kind) $body

            #[test]
            fn epoll() {
                body(Kind::Epoll);
            }
            #[test]
            fn poll() {
                body(Kind::Poll);
            }
            #[test]
            fn select() {
                body(Kind::Select);
            }
            #[test]
            fn sim() {
                body(Kind::Sim);
            }
        }
    )*};
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Epoll,
    Poll,
    Select,
    Sim,
}

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub kind: Kind,
    pub reactor: Reactor,
    pub handle: Handle,
    /// In a simulated world.
    pub clock: Option<VirtualClock>,
    io: SimIo,
}

impl World {
    pub fn new(kind: Kind) -> World {
        World::with_options(kind, Options::default())
    }

    pub fn with_options(kind: Kind, options: Options) -> World {
        let (clock, io) = (VirtualClock::new(), SimIo::new());
        let system = |kind| Seams::system(kind).unwrap();
        let seams = match kind {
            Kind::Epoll => system(PollerKind::Epoll),
            Kind::Poll => system(PollerKind::Poll),
            Kind::Select => system(PollerKind::Select),
            Kind::Sim => Seams {
                clock: Rc::new(clock.clone()),
                poller: Box::new(SimPoller::new(clock.clone(), io.clone())),
                worker: Rc::new(Threads::new(PoolSizes::default())),
            },
        };
        let reactor = Reactor::new(seams, options).unwrap();
        World {
            kind,
            handle: reactor.handle(),
            reactor,
            clock: (kind == Kind::Sim).then_some(clock),
            io,
        }
    }

    pub fn is_sim(&self) -> bool {
        self.kind == Kind::Sim
    }

    /// Takes turns until `span` has passed.
    pub fn run_for(&mut self, span: Duration) {
        if let Some(clock) = self.clock.clone() {
            clock.drive(&mut self.reactor, span).unwrap();
            return;
        }
        let until = self.handle.fresh() + span;
        while self.handle.fresh() < until {
            let left = until.since(self.handle.fresh());
            if let Status::Ended(_) = self.reactor.turn(Some(left)).unwrap() {
                return;
            }
        }
    }

    /// Takes turns until `done`; fails the test when that takes too long.
    pub fn run_until(&mut self, mut done: impl FnMut() -> bool) {
        let began = std::time::Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "waited in vain");
            self.reactor.turn(Some(ms(10))).unwrap();
        }
    }

    /// Takes `count` turns that do not wait.
    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    /// Two connected streams that do not block.
    pub fn streams(&self) -> (Stream, Stream) {
        if self.is_sim() {
            let (first, second) = pipe(&self.io);
            return (Stream::Sim(Rc::new(first)), Stream::Sim(Rc::new(second)));
        }
        let (first, second) = UnixStream::pair().unwrap();
        first.set_nonblocking(true).unwrap();
        second.set_nonblocking(true).unwrap();
        (
            Stream::Real(Rc::new(first.into())),
            Stream::Real(Rc::new(second.into())),
        )
    }
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// One end of a connection. Clones are the same end; the last one closes it.
#[derive(Clone)]
pub enum Stream {
    Real(Rc<OwnedFd>),
    Sim(Rc<SimStream>),
}

impl Stream {
    pub fn pollable(&self) -> Pollable {
        match self {
            Stream::Real(fd) => Pollable::Fd(fd.clone()),
            Stream::Sim(stream) => stream.pollable(),
        }
    }

    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Real(fd) => Ok(rustix::io::read(fd, buffer)?),
            Stream::Sim(stream) => stream.read(buffer),
        }
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Real(fd) => Ok(rustix::net::send(
                fd,
                bytes,
                rustix::net::SendFlags::NOSIGNAL,
            )?),
            Stream::Sim(stream) => stream.write(bytes),
        }
    }

    /// Writes until it would block; how much.
    pub fn fill(&self) -> usize {
        let mut written = 0;
        while let Ok(count) = self.write(&[b'x'; 4096]) {
            written += count;
        }
        written
    }
}

/// What happened, in order; clones share it.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub fn add(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    /// A call that adds an entry, for `call_later` and the like.
    pub fn entry(&self, text: &str) -> impl FnOnce(&Handle) + 'static {
        let (log, text) = (self.clone(), text.to_owned());
        move |_| log.add(text)
    }

    pub fn entries(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    #[track_caller]
    pub fn expect(&self, entries: &[&str]) {
        assert_eq!(self.entries(), entries);
    }
}

/// A handler made of closures, with what most tests want as defaults.
pub struct Source {
    pub stream: Stream,
    pub log: Log,
    pub name: &'static str,
    #[allow(clippy::type_complexity)]
    pub on_read: Box<dyn FnMut(&Handle, &Stream) -> Progress>,
    #[allow(clippy::type_complexity)]
    pub on_write: Box<dyn FnMut(&Handle, &Stream) -> Progress>,
    pub has_output: Rc<Cell<bool>>,
}

impl Source {
    /// Reads everything and logs "NAME read COUNT"; writes nothing and logs "NAME write".
    pub fn new(stream: &Stream, log: &Log, name: &'static str) -> Source {
        let (read_log, write_log) = (log.clone(), log.clone());
        Source {
            stream: stream.clone(),
            log: log.clone(),
            name,
            on_read: Box::new(move |_, stream| read_all(stream, &read_log, name)),
            on_write: Box::new(move |_, _| {
                write_log.add(format!("{name} write"));
                Progress::Blocked
            }),
            has_output: Rc::new(Cell::new(true)),
        }
    }

    pub fn on_read(mut self, f: impl FnMut(&Handle, &Stream) -> Progress + 'static) -> Source {
        self.on_read = Box::new(f);
        self
    }

    pub fn on_write(mut self, f: impl FnMut(&Handle, &Stream) -> Progress + 'static) -> Source {
        self.on_write = Box::new(f);
        self
    }

    pub fn register(self, handle: &Handle) -> Token {
        let pollable = self.stream.pollable();
        handle.register(pollable, Box::new(self)).unwrap()
    }

    pub fn register_reader(self, handle: &Handle) -> Token {
        let token = self.register(handle);
        handle.add_reader(token);
        token
    }
}

/// Reads until `WouldBlock` and logs how much; the end is death.
pub fn read_all(stream: &Stream, log: &Log, name: &str) -> Progress {
    let mut buffer = [0_u8; 65_536];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                if total > 0 {
                    log.add(format!("{name} read {total}"));
                }
                return Progress::Dead(Failure::msg("end of file"));
            }
            Ok(count) => total += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Progress::Dead(Failure::new(error)),
        }
    }
    if total > 0 {
        log.add(format!("{name} read {total}"));
    }
    Progress::Blocked
}

impl Handler for Source {
    fn readable(&mut self, reactor: &Handle) -> Progress {
        (self.on_read)(reactor, &self.stream)
    }

    fn writable(&mut self, reactor: &Handle) -> Progress {
        (self.on_write)(reactor, &self.stream)
    }

    fn hangup(&mut self, _reactor: &Handle) -> Progress {
        self.log.add(format!("{} hangup", self.name));
        Progress::Blocked
    }

    fn lost(self: Box<Self>, reason: Failure, _reactor: &Handle) {
        self.log.add(format!("{} lost: {reason}", self.name));
    }

    fn has_output(&self) -> bool {
        self.has_output.get()
    }
}

/// The time on the world's clock, in whole milliseconds.
pub fn millis(instant: Instant) -> u64 {
    instant.as_nanos() / 1_000_000
}
