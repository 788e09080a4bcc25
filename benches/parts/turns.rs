//! The reactor: timers that are set and taken back, turns with and without something to do.
//!
//! What has a system call in it is measured on epoll, with the kernel's time; the same on the
//! simulator's poller shows what of it is the reactor's own.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use marline::deferred::Failure;
use marline::reactor::{
    Handle, Handler, Options, Pollable, Poller, PollerKind, PoolSizes, Progress, Reactor, Seams,
    Threads,
};
use marline::sim::{SimIo, SimPoller, VirtualClock, pipe};
use marline::time::{Clock, Duration, SystemClock};

use super::measure::{Part, Table};

/// Nanoseconds that a timer may take, set and taken back; Twisted's takes 4 000.
const TIMER_NS: u32 = 80;

/// Timers that are pending beside the one that is measured.
const PENDING: u64 = 1000;

fn part(name: &'static str, unit: &'static str, budget_ns: Option<u32>) -> Part<'static> {
    Part {
        name,
        unit,
        units: 1,
        bytes: 0,
        budget_ns,
    }
}

fn reactor(clock: Rc<dyn Clock>, poller: Box<dyn Poller>) -> Reactor {
    let worker = Rc::new(Threads::new(PoolSizes::default()));
    let seams = Seams {
        clock,
        poller,
        worker,
    };
    Reactor::new(seams, Options::default()).unwrap()
}

fn real() -> Reactor {
    reactor(
        Rc::new(SystemClock::new()),
        PollerKind::Epoll.open().unwrap(),
    )
}

fn simulated(io: &SimIo) -> Reactor {
    let clock = VirtualClock::new();
    let poller = SimPoller::new(clock.clone(), io.clone());
    reactor(Rc::new(clock), Box::new(poller))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A timer among others, with a call that holds something.
pub fn timers(table: &Table) {
    let reactor = real();
    let handle = reactor.handle();
    for after in 0..PENDING {
        let _ = handle.call_later(millis(10_000 + after), |_| ());
    }
    let held = Rc::new(());
    table.measure(
        &part("timer set, cancel", "timer", Some(TIMER_NS)),
        || (),
        |()| {
            let held = held.clone();
            handle
                .call_later(millis(60_000), move |_| drop(held))
                .cancel()
        },
    );
    let timer = handle.call_later(millis(30_000), |_| ());
    table.measure(
        &part("timer moved later", "timer", Some(TIMER_NS)),
        || (),
        |()| timer.reset(millis(60_000)),
    );
}

/// A turn with nothing to do, and turns that serve one source.
pub fn turns(table: &Table) {
    {
        let mut reactor = real();
        let turn = |()| reactor.turn(Some(Duration::ZERO)).unwrap();
        table.measure(&part("turn empty, epoll", "turn", None), || (), turn);
    }
    {
        let mut reactor = simulated(&SimIo::new());
        let turn = |()| reactor.turn(Some(Duration::ZERO)).unwrap();
        table.measure(&part("turn empty, simulated", "turn", None), || (), turn);
    }
    one_ready(table);
    one_ready_simulated(table);
    one_listed(table);
}

/// A source whose socket got a byte: the write of it, the wait, and two reads.
fn one_ready(table: &Table) {
    let mut reactor = real();
    let (mut near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let far = Rc::new(std::os::fd::OwnedFd::from(far));
    let reads = far.clone();
    let read = move |buffer: &mut [u8]| Ok(rustix::io::read(&reads, buffer)?);
    register(&reactor.handle(), Pollable::Fd(far), Box::new(read));
    table.measure(
        &part("turn with one ready, epoll", "turn", None),
        || (),
        |()| {
            near.write_all(b"x").unwrap();
            reactor.turn(Some(Duration::ZERO)).unwrap()
        },
    );
}

/// The same without the system's part.
fn one_ready_simulated(table: &Table) {
    let io = SimIo::new();
    let mut reactor = simulated(&io);
    let (near, far) = pipe(&io);
    let pollable = far.pollable();
    let read = move |buffer: &mut [u8]| far.read(buffer);
    register(&reactor.handle(), pollable, Box::new(read));
    table.measure(
        &part("turn with one ready, simulated", "turn", None),
        || (),
        |()| {
            near.write(b"x").unwrap();
            reactor.turn(Some(Duration::ZERO)).unwrap()
        },
    );
}

/// A source that always stops before `WouldBlock`, and so is on the ready list.
fn one_listed(table: &Table) {
    let io = SimIo::new();
    let mut reactor = simulated(&io);
    let (near, far) = pipe(&io);
    near.write(b"x").unwrap();
    let token = reactor.handle().register(far.pollable(), Box::new(Busy));
    reactor.handle().add_reader(token.unwrap());
    table.measure(
        &part("turn with one on the ready list", "turn", None),
        || (),
        |()| reactor.turn(Some(Duration::ZERO)).unwrap(),
    );
}

fn register(handle: &Handle, pollable: Pollable, read: ReadCall) {
    let token = handle.register(pollable, Box::new(Reads(read)));
    handle.add_reader(token.unwrap());
}

type ReadCall = Box<dyn FnMut(&mut [u8]) -> std::io::Result<usize>>;

/// Reads until there is no more.
struct Reads(ReadCall);

impl Handler for Reads {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        let mut buffer = [0; 64];
        while (self.0)(&mut buffer).is_ok() {}
        Progress::Blocked
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {}
}

/// Has always more to read.
struct Busy;

impl Handler for Busy {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        Progress::More
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {}
}
