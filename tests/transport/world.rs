//! A real reactor with real sockets, driven turn by turn, and protocols that write down what
//! happens to them.
//!
//! Every wait has a limit and fails loudly, naming what it waited for.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use marline::deferred::{Deferred, Failure};
use marline::reactor::{Options, PollerKind, Reactor, Seams};
use marline::transport::*;

use crate::reactor_support::left_behind;

/// The longest any step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub reactor: Reactor,
    pub network: Network,
    ends: Vec<Box<dyn FnOnce()>>,
}

/// A test that leaves a timer, a listener or a socket behind fails, and they are named by where
/// they were made. What the harness has made is ended by the harness: its listeners, and the
/// connections with a [`Tape`].
impl Drop for World {
    fn drop(&mut self) {
        let opened = OPENED.take();
        if std::thread::panicking() {
            return;
        }
        abort_all(opened);
        for end in std::mem::take(&mut self.ends) {
            end();
        }
        for _ in 0..TURNS_TO_END {
            drop(self.reactor.turn(Some(Duration::ZERO)));
            abort_all(OPENED.take());
        }
        let left = left_behind(&self.reactor.handle());
        assert!(
            left.is_empty(),
            "the test leaves behind: {}",
            left.join(", ")
        );
    }
}

/// Turns in which what was aborted or stopped is gone, also where it was still to be accepted.
const TURNS_TO_END: usize = 8;

thread_local! {
    /// The tapes that have a connection, or had one.
    static OPENED: RefCell<Vec<Weak<TapeParts>>> = const { RefCell::new(Vec::new()) };
}

fn abort_all(opened: Vec<Weak<TapeParts>>) {
    for tape in opened.into_iter().filter_map(|tape| tape.upgrade()) {
        if let Some(connection) = &*tape.connection.borrow() {
            connection.abort();
        }
    }
}

impl World {
    pub fn new() -> World {
        World::on(PollerKind::Epoll)
    }

    pub fn on(poller: PollerKind) -> World {
        World::with(poller, SysNet::new().unwrap(), NetworkOptions::default())
    }

    pub fn with_names(lookup: impl Lookup + 'static) -> World {
        let net = SysNet::new().unwrap().with_lookup(Arc::new(lookup));
        World::with(PollerKind::Epoll, net, NetworkOptions::default())
    }

    pub fn with(poller: PollerKind, net: impl Net + 'static, options: NetworkOptions) -> World {
        let seams = Seams::system(poller).unwrap();
        let reactor = Reactor::new(seams, Options::default()).unwrap();
        let network = Network::new(&reactor.handle(), Rc::new(net), options);
        World {
            reactor,
            network,
            ends: Vec::new(),
        }
    }

    /// Calls `end` when the test is over.
    pub fn at_end(&mut self, end: impl FnOnce() + 'static) {
        self.ends.push(Box::new(end));
    }

    /// Takes one turn, waiting at most `wait`.
    pub fn turn(&mut self, wait: Duration) {
        self.reactor.turn(Some(wait)).unwrap();
    }

    /// Takes turns until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < limit, "waited too long for: {what}");
            self.turn(Duration::from_millis(5));
        }
    }

    /// Takes turns for `time`.
    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left.min(Duration::from_millis(5)));
        }
    }

    /// The result of `deferred`.
    pub fn wait<T: 'static>(&mut self, what: &str, deferred: Deferred<T>) -> Result<T, Failure> {
        let result = keep(deferred);
        self.until(what, || result.borrow().is_some());
        result.take().unwrap()
    }

    /// A listener on a free TCP port of 127.0.0.1.
    pub fn listen(&mut self, accept: &Rc<Tapes>) -> (Listener, SocketAddr) {
        self.listen_with(accept, ListenOptions::default())
    }

    pub fn listen_with(
        &mut self,
        accept: &Rc<Tapes>,
        options: ListenOptions,
    ) -> (Listener, SocketAddr) {
        let at = "tcp://127.0.0.1:0".parse().unwrap();
        let listener = self
            .network
            .listen(&at, options, accept.clone())
            .unwrap()
            .remove(0);
        let Endpoint::Ip(address) = *listener.local_address() else {
            panic!("not a TCP listener")
        };
        let made = listener.clone();
        self.at_end(move || drop(made.stop()));
        (listener, address)
    }

    /// A connection of ours with a peer that is a plain blocking socket, and its tape.
    pub fn pair(&mut self) -> (Tape, TcpStream) {
        self.pair_with(Tape::default(), ConnectionOptions::default())
    }

    pub fn pair_with(&mut self, tape: Tape, connection: ConnectionOptions) -> (Tape, TcpStream) {
        let options = ListenOptions {
            connection,
            ..ListenOptions::default()
        };
        let accept = Tapes::of(tape.clone());
        let (listener, address) = self.listen_with(&accept, options);
        let peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        self.until("the connection", || tape.connection.borrow().is_some());
        let _stopped = listener.stop();
        // Stopped, it must not be held, nor what it accepted.
        self.ends.pop();
        (tape, peer)
    }

    /// Reads from the peer, while the reactor goes on, until its end of stream or an error.
    pub fn drain(&mut self, peer: &mut TcpStream) -> (Vec<u8>, std::io::Result<()>) {
        peer.set_nonblocking(true).unwrap();
        let (mut all, mut end) = (Vec::new(), None);
        let mut buffer = vec![0; 1 << 16];
        let limit = Instant::now() + PATIENCE;
        while end.is_none() {
            assert!(
                Instant::now() < limit,
                "the peer waited too long for the end"
            );
            match peer.read(&mut buffer) {
                Ok(0) => end = Some(Ok(())),
                Ok(bytes) => all.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.turn(Duration::from_millis(1));
                }
                Err(error) => end = Some(Err(error)),
            }
        }
        (all, end.unwrap())
    }
}

/// Where the result of a Deferred is put.
pub fn keep<T: 'static>(deferred: Deferred<T>) -> Rc<RefCell<Option<Result<T, Failure>>>> {
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    let _done = deferred.add_both(move |got| {
        *slot.borrow_mut() = Some(got);
    });
    result
}

type OnBytes = Box<dyn FnMut(&Connection, &Bytes) -> Result<(), Failure>>;
type OnConnection = Box<dyn FnMut(&Connection) -> Result<(), Failure>>;

/// What happened to one connection; its hooks let a test act inside a callback.
#[derive(Clone, Default)]
pub struct Tape(pub Rc<TapeParts>);

#[derive(Default)]
pub struct TapeParts {
    pub connection: RefCell<Option<Connection>>,
    pub received: RefCell<Vec<u8>>,
    pub largest: Cell<usize>,
    pub calls: RefCell<Vec<&'static str>>,
    pub closed: RefCell<Option<CloseReason>>,
    pub closed_text: RefCell<Option<String>>,
    pub on_connected: RefCell<Option<OnConnection>>,
    pub on_received: RefCell<Option<OnBytes>>,
    pub on_drained: RefCell<Option<OnConnection>>,
    pub on_eof: RefCell<Option<OnConnection>>,
    pub on_closed: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl std::ops::Deref for Tape {
    type Target = TapeParts;
    fn deref(&self) -> &TapeParts {
        &self.0
    }
}

impl Tape {
    pub fn connection(&self) -> Connection {
        self.0.connection.borrow().clone().expect("connected")
    }
    pub fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(TapeProtocol(self.clone()))
    }
    /// `eof`, `reset`, … once closed.
    pub fn reason(&self) -> Option<&'static str> {
        self.closed.borrow().as_ref().map(CloseReason::name)
    }
    pub fn is_closed(&self) -> bool {
        self.closed_text.borrow().is_some()
    }
    pub fn count(&self, call: &str) -> usize {
        self.calls.borrow().iter().filter(|it| **it == call).count()
    }
    pub fn received_len(&self) -> usize {
        self.received.borrow().len()
    }
}

struct TapeProtocol(Tape);

impl Protocol for TapeProtocol {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.0.calls.borrow_mut().push("connected");
        *self.0.connection.borrow_mut() = Some(connection.clone());
        let tape = Rc::downgrade(&self.0.0);
        OPENED.with_borrow_mut(|opened| opened.push(tape));
        let mut hook = self.0.on_connected.take();
        hook.as_mut().map_or(Ok(()), |hook| hook(connection))
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        assert!(!bytes.is_empty());
        assert!(!self.0.is_closed(), "received after closed");
        self.0.calls.borrow_mut().push("received");
        self.0.largest.set(self.0.largest.get().max(bytes.len()));
        self.0.received.borrow_mut().extend_from_slice(&bytes);
        match &mut *self.0.on_received.borrow_mut() {
            Some(hook) => hook(connection, &bytes),
            None => Ok(()),
        }
    }

    fn drained(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.0.calls.borrow_mut().push("drained");
        match &mut *self.0.on_drained.borrow_mut() {
            Some(hook) => hook(connection),
            None => Ok(()),
        }
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.0.calls.borrow_mut().push("eof");
        match &mut *self.0.on_eof.borrow_mut() {
            Some(hook) => hook(connection),
            None => {
                connection.finish();
                Ok(())
            }
        }
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        self.0.calls.borrow_mut().push("closed");
        *self.0.closed_text.borrow_mut() = Some(reason.to_string());
        *self.0.closed.borrow_mut() = Some(copy(reason));
        if let Some(hook) = self.0.on_closed.take() {
            hook();
        }
    }
}

fn copy(reason: &CloseReason) -> CloseReason {
    match reason {
        CloseReason::Eof => CloseReason::Eof,
        CloseReason::Local => CloseReason::Local,
        CloseReason::Reset(error) => CloseReason::Reset(error.raw_os_error().map_or_else(
            || std::io::Error::from(error.kind()),
            std::io::Error::from_raw_os_error,
        )),
        CloseReason::TimedOut(what) => CloseReason::TimedOut(what),
        CloseReason::Aborted => CloseReason::Aborted,
        CloseReason::Handshake(error) => CloseReason::Handshake(error.clone()),
        CloseReason::Handler(failure) => CloseReason::Handler(failure.clone()),
    }
}

/// Accepts connections, each with a tape.
#[derive(Default)]
pub struct Tapes {
    pub tapes: RefCell<Vec<Tape>>,
    /// Given out first.
    prepared: RefCell<Vec<Tape>>,
    pub refusals: RefCell<Vec<Refusal>>,
    /// Accept nobody.
    pub deny: Cell<bool>,
}

impl Tapes {
    pub fn new() -> Rc<Tapes> {
        Rc::default()
    }
    pub fn of(tape: Tape) -> Rc<Tapes> {
        let tapes = Tapes::new();
        tapes.prepared.borrow_mut().push(tape);
        tapes
    }
    pub fn len(&self) -> usize {
        self.tapes.borrow().len()
    }
    pub fn get(&self, index: usize) -> Tape {
        self.tapes.borrow()[index].clone()
    }
    pub fn open_count(&self) -> usize {
        self.tapes
            .borrow()
            .iter()
            .filter(|tape| !tape.is_closed())
            .count()
    }
}

impl Accept for Tapes {
    fn accepted(&self, _peer: &Peer) -> Option<Box<dyn Protocol>> {
        if self.deny.get() {
            return None;
        }
        let tape = self.prepared.borrow_mut().pop().unwrap_or_default();
        self.tapes.borrow_mut().push(tape.clone());
        Some(tape.protocol())
    }

    fn refused(&self, _peer: &Peer, why: Refusal) -> Option<Box<dyn Protocol>> {
        self.refusals.borrow_mut().push(why);
        None
    }
}

/// An address on which dials stay without an answer: the listener's backlog is full. Closed
/// when dropped.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<rustix::fd::OwnedFd>,
}

impl BlackHole {
    pub fn at(ip: &str, port: u16) -> BlackHole {
        let listener = TcpListener::bind((ip, port)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let filling = (0..3).map(|_| {
            use rustix::net::*;
            let flags = SocketFlags::NONBLOCK;
            let kind = SocketType::STREAM;
            let fd = socket_with(AddressFamily::INET, kind, flags, None).unwrap();
            let _ = connect(&fd, &address);
            fd
        });
        BlackHole {
            address,
            _filling: filling.collect(),
            _listener: listener,
        }
    }
}

/// A port of 127.0.0.1 where nobody listens.
pub fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes the close of `stream` a reset.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

pub fn tcp(address: SocketAddr) -> Address {
    format!("tcp://{address}").parse().unwrap()
}

/// Bytes that show a loss or a swap wherever it happens.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
