//! A world for each poller: the same test runs on epoll, poll, select and the simulator.
//!
//! [`World`] hides what differs: a pair of connected streams, and how time passes. On real
//! pollers time is the machine's, so tests assert order and "never early", not "on time".

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marline::deferred::Failure;
use marline::reactor::{
    Handle, Handler, Options, Pollable, Poller, PollerKind, PoolSizes, Progress, Reactor, Seams,
    Status, Threads, Token,
};
use marline::sim::{SimIo, SimPoller, SimStream, VirtualClock, pipe};
use marline::time::{Clock, Instant, SystemClock};
use tracing_subscriber::layer::SubscriberExt;

/// Runs each body as four tests, named by their pollers.
#[macro_export]
macro_rules! each_poller {
    ($(fn $name:ident($world:ident: &mut World) $body:block)*) => {
        $crate::each_kind! {$(
            fn $name(kind: Kind) {
                let $world = &mut $crate::reactor_support::World::new(kind);
                $body
            }
        )*}
    };
}

/// Like [`each_poller`], with a clock that only the test moves: times are exact on all pollers.
#[macro_export]
macro_rules! each_poller_by_hand {
    ($(fn $name:ident($world:ident: &mut World) $body:block)*) => {
        $crate::each_kind! {$(
            fn $name(kind: Kind) {
                let $world = &mut $crate::reactor_support::World::by_hand(kind);
                $body
            }
        )*}
    };
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
    /// Where time is not the machine's.
    pub clock: Option<VirtualClock>,
    /// For a test of what becomes of things left behind: nobody minds.
    pub is_left_full: bool,
    io: SimIo,
}

/// A test that leaves a timer or a source behind fails, and they are named by where they were
/// made. The [`Source`]s of the harness are taken away by the harness.
impl Drop for World {
    fn drop(&mut self) {
        let fixtures = FIXTURES.take();
        if self.is_left_full {
            return;
        }
        for token in fixtures {
            self.handle.deregister(token);
        }
        let left = left_behind(&self.handle);
        if !std::thread::panicking() {
            assert!(
                left.is_empty(),
                "the test leaves behind: {}",
                left.join(", ")
            );
        }
    }
}

thread_local! {
    /// What the harness has registered on this thread, which has one reactor.
    static FIXTURES: RefCell<Vec<Token>> = const { RefCell::new(Vec::new()) };
}

/// The timers and sources that are still there, by where they were made.
pub fn left_behind(handle: &Handle) -> Vec<String> {
    let timers = handle.pending_timers().into_iter();
    let timers = timers.map(|timer| format!("a timer of {}", timer.at));
    let sources = handle.source_places().into_iter();
    let sources = sources.map(|at| format!("a source of {at}"));
    timers.chain(sources).collect()
}

impl World {
    /// A world whose time passes by itself: really, or while the simulated poller waits.
    pub fn new(kind: Kind) -> World {
        World::with_options(kind, Options::default())
    }

    pub fn with_options(kind: Kind, options: Options) -> World {
        World::make(kind, options, kind != Kind::Sim)
    }

    /// A world whose time only the test moves.
    pub fn by_hand(kind: Kind) -> World {
        World::by_hand_with(kind, Options::default())
    }

    pub fn by_hand_with(kind: Kind, options: Options) -> World {
        World::make(kind, options, false)
    }

    fn make(kind: Kind, options: Options, real_time: bool) -> World {
        let (clock, io) = (VirtualClock::new(), SimIo::new());
        let poller: Box<dyn Poller> = match kind {
            Kind::Epoll => PollerKind::Epoll.open().unwrap(),
            Kind::Poll => PollerKind::Poll.open().unwrap(),
            Kind::Select => PollerKind::Select.open().unwrap(),
            Kind::Sim => Box::new(SimPoller::new(clock.clone(), io.clone())),
        };
        let seams = Seams {
            clock: if real_time {
                Rc::new(SystemClock::new())
            } else {
                Rc::new(clock.clone())
            },
            poller,
            worker: Rc::new(Threads::new(PoolSizes::default())),
        };
        let reactor = Reactor::new(seams, options).unwrap();
        World {
            kind,
            handle: reactor.handle(),
            reactor,
            clock: (!real_time).then_some(clock),
            is_left_full: false,
            io,
        }
    }

    pub fn is_sim(&self) -> bool {
        self.kind == Kind::Sim
    }

    /// Takes turns until `span` has passed.
    pub fn run_for(&mut self, span: Duration) {
        match (self.clock.clone(), self.kind) {
            (Some(clock), Kind::Sim) => {
                clock.drive(&mut self.reactor, span).unwrap();
            }
            (Some(clock), _) => self.step_through(&clock, span),
            (None, _) => self.run_really(span),
        }
    }

    fn run_really(&mut self, span: Duration) {
        let until = self.handle.fresh() + span;
        while self.handle.fresh() < until {
            let left = until.since(self.handle.fresh());
            if let Status::Ended(_) = self.reactor.turn(Some(left)).unwrap() {
                return;
            }
        }
    }

    /// From deadline to deadline, as the simulated poller does.
    fn step_through(&mut self, clock: &VirtualClock, span: Duration) {
        let until = clock.now() + span;
        for _ in 0..100_000 {
            if let Status::Ended(_) = self.reactor.turn(Some(Duration::ZERO)).unwrap() {
                return;
            }
            let wait = self.handle.next_wait();
            let left = until.since(clock.now());
            if wait != Some(Duration::ZERO) && left == Duration::ZERO {
                return;
            }
            clock.move_by(wait.map_or(left, |wait| wait.min(left)));
        }
        panic!("livelock");
    }

    /// Moves the clock at once and takes one turn.
    pub fn jump(&mut self, span: Duration) {
        self.clock.as_ref().unwrap().move_by(span);
        self.turns(1);
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

    #[track_caller]
    pub fn register(self, handle: &Handle) -> Token {
        let pollable = self.stream.pollable();
        let token = handle.register(pollable, Box::new(self)).unwrap();
        FIXTURES.with_borrow_mut(|tokens| tokens.push(token));
        token
    }

    #[track_caller]
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

/// What is logged on this thread while it lives, one line per record: `LEVEL message key=value`.
pub struct Captured {
    lines: Lines,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Captured {
    pub fn new() -> Captured {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let layer = CaptureLayer(lines.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        Captured {
            lines: Lines(lines),
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The records that contain `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.0.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }
}

struct Lines(Arc<Mutex<Vec<String>>>);

struct CaptureLayer(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for CaptureLayer {
    fn on_event(
        &self,
        event: &tracing::Event<'_>,
        _context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut line = event.metadata().level().to_string();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                line.push_str(&format!(" {}={value:?}", field.name()));
            },
        );
        self.0.lock().unwrap().push(line);
    }
}
