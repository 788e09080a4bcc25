//! The network of the simulated world: [`Net`] in memory, on virtual time, with faults.
//!
//! Streams have latency, limited buffers at both ends, half-close, resets and back-pressure as
//! TCP has them; `streams` and `link` say how. Datagrams may be lost, and overtake each other.
//! Peers of the code under test are sockets of the same network, driven by events that were
//! planned with [`SimIo::plan`]. Every draw comes from the seed, so a run repeats exactly.

mod datagrams;
mod host;
mod link;
mod lookup;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use self::datagrams::Post;
use self::host::Host;
use self::link::{Link, News, Side};
pub use self::lookup::SimLookup;
use self::table::Table;
use super::clock::VirtualClock;
use super::faults::{Fault, FaultCounts, FaultPlan, Faults};
use super::poller::SimIo;
use super::random::Random;
use crate::reactor::Pollable;
use crate::time::{Clock, Duration, Instant};
use crate::transport::{
    BindOptions, Endpoint, Lookup, Net, PeerState, Received, SocketId, SocketKind, SocketOption,
};

/// The simulated network as one host sees it; clones are the same network and host.
#[derive(Clone)]
pub struct SimNet(Rc<Inner>, Rc<Host>);

struct Inner {
    /// For events, which must not keep the network alive.
    this: Weak<Inner>,
    clock: VirtualClock,
    io: SimIo,
    faults: Rc<Faults>,
    random: RefCell<Random>,
    lookup: Arc<SimLookup>,
    state: RefCell<State>,
    /// The last port that was given to a socket without one.
    port: Cell<u16>,
}

#[derive(Default)]
struct State {
    sockets: Table<Socket>,
    links: BTreeMap<u64, Link>,
    links_made: u64,
}

struct Socket {
    io: u64,
    local: Endpoint,
    kind: Kind,
    user_timeout: Option<Duration>,
}

enum Kind {
    Listener(Backlog),
    /// A dial without an answer, or with the answer that it failed.
    Dialling(Option<ErrorKind>),
    Stream(u64, Side),
    Post(Post),
}

/// A call that the trace tells from others.
#[derive(Clone, Copy)]
enum Call {
    Accept,
    Read,
    Write,
    Receive,
    Send,
}

/// Who waits to be accepted.
struct Backlog {
    waiting: VecDeque<Waiting>,
    connections_max: usize,
}

struct Waiting {
    link: u64,
    from: Endpoint,
    ready_at: Instant,
}

impl SimNet {
    /// A network without sockets, in which things go wrong by `plan`.
    pub fn new(clock: VirtualClock, io: SimIo, plan: FaultPlan, mut random: Random) -> Self {
        let lookup = SimLookup::new(random.fork(), plan.per_mille(Fault::LookupFailed));
        let inner = Rc::new_cyclic(|this| Inner {
            this: this.clone(),
            clock,
            io,
            faults: Rc::new(Faults::new(plan, random.fork())),
            random: RefCell::new(random),
            lookup: Arc::new(lookup),
            state: RefCell::default(),
            port: Cell::new(PORT_FIRST),
        });
        SimNet(inner, Rc::default())
    }

    /// The names that there are.
    pub fn names(&self) -> &SimLookup {
        &self.0.lookup
    }

    /// What decides about faults here; other parts of the same world share it.
    pub fn faults(&self) -> Rc<Faults> {
        Rc::clone(&self.0.faults)
    }

    /// How often each fault has happened, those of the look-ups too.
    pub fn fault_counts(&self) -> FaultCounts {
        let mut counts = self.0.faults.counts();
        counts.note(Fault::LookupFailed, self.0.lookup.failed());
        counts
    }

    /// From now on things go wrong by another plan.
    pub fn plan_faults(&self, plan: FaultPlan) {
        let lookups = plan.per_mille(Fault::LookupFailed);
        self.0.lookup.set_fails_per_mille(lookups);
        self.0.faults.plan(plan);
    }

    /// Sockets that are open.
    pub fn open_sockets(&self) -> usize {
        self.0.state.borrow_mut().sockets.iter().count()
    }
}

impl Inner {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Adds a call on `socket` and its answer to the trace.
    fn traced<T>(
        &self,
        call: Call,
        socket: SocketId,
        answer: io::Result<T>,
        count: impl Fn(&T) -> usize,
    ) -> io::Result<T> {
        let came_of_it = match &answer {
            Ok(given) => count(given) as u64,
            Err(error) => u64::MAX - error.kind() as u64,
        };
        let what = (call as u64) << 32 | u64::from(socket.index);
        self.io.note(self.now(), what);
        self.io.note(self.now(), came_of_it);
        answer
    }

    /// Plans something `after` from now, if there is still a network then.
    fn plan(&self, at: Instant, event: impl FnOnce(&Inner) + 'static) {
        let this = self.this.clone();
        self.io.plan(at, move || {
            if let Some(net) = this.upgrade() {
                event(&net);
            }
        });
    }

    /// How long something takes to arrive.
    fn latency(&self) -> Duration {
        let mut random = self.random.borrow_mut();
        if self.faults.strike(Fault::Latency) {
            return random.span(SPIKE_MIN, SPIKE_MAX);
        }
        random.span(LATENCY_MIN, LATENCY_MAX)
    }

    fn span(&self, low: Duration, high: Duration) -> Duration {
        self.random.borrow_mut().span(low, high)
    }

    /// A part of `most`, at least 1, when the fault strikes.
    fn part_of(&self, most: usize, fault: Fault) -> usize {
        if most > 1 && self.faults.strike(fault) {
            return self.random.borrow_mut().between(1, most - 1);
        }
        most
    }

    /// Now and then readiness is reported of a socket that has nothing.
    fn cry_wolf(&self, io: u64) {
        if self.faults.strike(Fault::FalseReady) {
            let at = self.now() + self.span(LATENCY_MIN, LATENCY_MAX);
            self.plan(at, move |net| {
                net.io.set_readable(io);
                net.io.set_writable(io);
            });
        }
    }

    fn tell(&self, io: Option<u64>, news: News) {
        let Some(io) = io else { return };
        if news.reset {
            self.io.set_hangup(io);
        }
        if news.readable {
            self.io.set_readable(io);
        }
        if news.writable {
            self.io.set_writable(io);
        }
    }

    fn insert(&self, local: Endpoint, kind: Kind) -> SocketId {
        let io = self.io.open();
        let mut state = self.state.borrow_mut();
        state.sockets.insert(Socket {
            io,
            local,
            kind,
            user_timeout: None,
        })
    }

    /// The own end of a socket that was not told one.
    fn unbound(&self, peer: &Endpoint) -> Endpoint {
        match peer {
            Endpoint::Ip(peer) => {
                let host = match peer.ip() {
                    IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                    IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
                };
                Endpoint::Ip(SocketAddr::new(host, self.next_port()))
            }
            _ => Endpoint::Unnamed,
        }
    }

    fn next_port(&self) -> u16 {
        let next = self.port.get().checked_add(1).unwrap_or(PORT_FIRST);
        self.port.set(next);
        next
    }

    /// The endpoint to bind; `AddrInUse` where somebody of the same kind is there.
    fn bindable(&self, at: &Endpoint, is_stream: bool) -> io::Result<Endpoint> {
        let at = match at {
            Endpoint::Ip(address) if address.port() == 0 => {
                Endpoint::Ip(SocketAddr::new(address.ip(), self.next_port()))
            }
            Endpoint::Unnamed => return Err(ErrorKind::InvalidInput.into()),
            other => other.clone(),
        };
        let mut state = self.state.borrow_mut();
        let taken = state.sockets.iter().any(|socket| match socket.kind {
            Kind::Listener(_) => is_stream && socket.local == at,
            Kind::Post(_) => !is_stream && socket.local == at,
            _ => false,
        });
        if taken {
            return Err(ErrorKind::AddrInUse.into());
        }
        Ok(at)
    }

    fn close(&self, id: SocketId, in_order: bool) {
        let Some(socket) = self.state.borrow_mut().sockets.remove(id) else {
            return;
        };
        self.io.close(socket.io);
        match socket.kind {
            Kind::Listener(backlog) => backlog.waiting.iter().for_each(|it| self.cut(it.link)),
            Kind::Stream(link, side) => self.leave(link, side, in_order),
            Kind::Dialling(_) | Kind::Post(_) => {}
        }
    }
}

impl Net for SimNet {
    fn listen(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId> {
        self.check_host()?;
        let at = self.0.bindable(at, true)?;
        let backlog = Backlog {
            waiting: VecDeque::new(),
            connections_max: options.backlog.clamp(1, 4096) as usize,
        };
        Ok(self.own(self.0.insert(at, Kind::Listener(backlog))))
    }

    fn accept(&self, listener: SocketId) -> io::Result<(SocketId, Endpoint)> {
        let answer = self.0.accept(listener);
        let answer = answer.map(|(socket, from)| (self.own(socket), from));
        let index = |(socket, _): &(SocketId, Endpoint)| socket.index as usize;
        self.0.traced(Call::Accept, listener, answer, index)
    }

    fn shed(&self, listener: SocketId) -> io::Result<bool> {
        let waiting = self.0.take_waiting(listener)?;
        if let Some(waiting) = &waiting {
            self.0.cut(waiting.link);
        }
        Ok(waiting.is_some())
    }

    fn connect(&self, to: &Endpoint) -> io::Result<SocketId> {
        self.check_host()?;
        self.0.connect(to).map(|socket| self.own(socket))
    }

    fn connect_result(&self, socket: SocketId) -> io::Result<bool> {
        match &mut self.0.state.borrow_mut().sockets.get(socket)?.kind {
            Kind::Dialling(outcome) => match outcome.take() {
                Some(error) => Err(error.into()),
                None => Ok(false),
            },
            Kind::Stream(..) => Ok(true),
            Kind::Listener(_) | Kind::Post(_) => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn read(&self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let answer = self.0.read(socket, into);
        self.0.traced(Call::Read, socket, answer, |count| *count)
    }

    fn writev(&self, socket: SocketId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let answer = self.0.write(socket, slices);
        self.0.traced(Call::Write, socket, answer, |count| *count)
    }

    fn shutdown_write(&self, socket: SocketId) -> io::Result<()> {
        self.0.shut(socket)
    }

    fn take_error(&self, socket: SocketId) -> io::Result<()> {
        self.0.take_error(socket)
    }

    fn outq(&self, socket: SocketId) -> io::Result<usize> {
        self.0.with_link(socket, |link, side| Ok(link.outq(side)))
    }

    fn peer_state(&self, socket: SocketId) -> io::Result<PeerState> {
        self.0.with_link(socket, |link, side| {
            let window = link.window(side).ok_or(ErrorKind::Unsupported)?;
            Ok(PeerState {
                window_bytes: Some(window as u64),
                // Nobody here is gone without a word.
                silent_for: Duration::ZERO,
            })
        })
    }

    fn bind(&self, at: &Endpoint, _options: &BindOptions) -> io::Result<SocketId> {
        self.check_host()?;
        let at = self.0.bindable(at, false)?;
        Ok(self.own(self.0.insert(at, Kind::Post(Post::new(None)))))
    }

    fn dial(&self, to: &Endpoint) -> io::Result<SocketId> {
        self.check_host()?;
        let (local, post) = (self.0.unbound(to), Post::new(Some(to.clone())));
        Ok(self.own(self.0.insert(local, Kind::Post(post))))
    }

    fn recv(&self, socket: SocketId, into: &mut [u8]) -> io::Result<Received> {
        let answer = self.0.recv(socket, into);
        self.0
            .traced(Call::Receive, socket, answer, |received| received.bytes)
    }

    fn send(&self, socket: SocketId, payload: &[u8], to: Option<&Endpoint>) -> io::Result<()> {
        let answer = self.0.send(socket, payload, to);
        self.0.traced(Call::Send, socket, answer, |()| 0)
    }

    fn set(&self, socket: SocketId, option: SocketOption) -> io::Result<()> {
        let mut state = self.0.state.borrow_mut();
        let State { sockets, links, .. } = &mut *state;
        let socket = sockets.get(socket)?;
        if let SocketOption::UserTimeout(limit) = option {
            socket.user_timeout = limit;
            if let Kind::Stream(number, side) = socket.kind
                && let Some(link) = links.get_mut(&number)
            {
                link.ends[side].user_timeout = limit;
            }
        }
        Ok(())
    }

    fn receive_buffer(&self, socket: SocketId) -> io::Result<usize> {
        let mut state = self.0.state.borrow_mut();
        let known = state.sockets.get(socket);
        known.map(|_| datagrams::QUEUE_BYTES_MAX)
    }

    fn drops(&self, socket: SocketId) -> io::Result<u32> {
        self.0.drops(socket)
    }

    fn local(&self, socket: SocketId) -> io::Result<Endpoint> {
        let mut state = self.0.state.borrow_mut();
        state.sockets.get(socket).map(|socket| socket.local.clone())
    }

    fn close(&self, socket: SocketId) {
        self.0.close(socket, true);
    }

    fn abort(&self, socket: SocketId) {
        self.0.close(socket, false);
    }

    fn pollable(&self, socket: SocketId) -> io::Result<Pollable> {
        let mut state = self.0.state.borrow_mut();
        state
            .sockets
            .get(socket)
            .map(|socket| Pollable::Sim(socket.io))
    }

    fn adopt(&self, _descriptor: OwnedFd) -> io::Result<(SocketId, SocketKind)> {
        Err(io::Error::new(
            ErrorKind::Unsupported,
            "a descriptor of the machine has no place in the simulated network",
        ))
    }

    fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::clone(&self.0.lookup) as Arc<dyn Lookup>
    }
}

/// Whether a socket bound at `bound` is meant by `to`.
fn is_meant(bound: &Endpoint, to: &Endpoint) -> bool {
    let any = |ip: IpAddr| ip == IpAddr::from(Ipv4Addr::UNSPECIFIED);
    match (bound, to) {
        (Endpoint::Ip(bound), Endpoint::Ip(to)) => {
            bound.port() == to.port() && (bound.ip() == to.ip() || any(bound.ip()))
        }
        _ => bound == to,
    }
}

/// Ports above are given to sockets that ask for none.
const PORT_FIRST: u16 = 40_000;

/// How long something is on its way.
const LATENCY_MIN: Duration = Duration::from_micros(20);
const LATENCY_MAX: Duration = Duration::from_millis(4);

/// The same with [`Fault::Latency`].
const SPIKE_MIN: Duration = Duration::from_millis(50);
const SPIKE_MAX: Duration = Duration::from_secs(3);
