//! Listening for byte streams: accept in budgets, admit by limits, survive having no descriptors.
//!
//! When descriptors run out, waiting peers are closed with the help of the reserved one, so
//! that they learn of it, and accepting stops for a growing while (10 ms to 1 s): the loop does
//! not spin and existing connections go on (F-068). A peer that went away before it was
//! accepted is nobody's error (F-069). At most [`ACCEPTS_PER_TURN`] connections are accepted
//! per turn; the rest is on the ready list.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use rustix::io::Errno;

use super::address::Address;
use super::adopt::Carries;
use super::connection::{CloseReason, ConnectionOptions, Peer, Protocol};
use super::handover::Socket;
use super::limits::{CONNECTIONS_MAX, Limits, Permit, Refusal};
use super::net::{BindOptions, Endpoint, SocketId};
use super::network::Network;
use super::siblings::Siblings;
use super::stream::secure::Secure;
use super::stream::{self, Setting, Stream, StreamParts};
use super::tls::{Fault, HandshakeError, ServerTls};
use super::unix;
use crate::deferred::{Deferred, Failure};
use crate::reactor::{Handle, Handler, Progress, TimerGuard, Token};
use crate::telemetry::events::AcceptFailed;
use crate::time::{Duration, Instant};

/// Decides about connections: one object for all listeners of a source.
pub trait Accept {
    /// The protocol for a new connection; `None` closes it at once.
    fn accepted(&self, peer: &Peer) -> Option<Box<dyn Protocol>>;

    /// A connection was refused for a limit. A protocol given here is served outside of the
    /// limit, to say "busy" and close; `None` closes at once.
    fn refused(&self, _peer: &Peer, _why: Refusal) -> Option<Box<dyn Protocol>> {
        None
    }
}

/// How to listen.
#[derive(Clone, Default)]
pub struct ListenOptions {
    /// Of the socket.
    pub bind: BindOptions,
    /// Of the connections it accepts.
    pub connection: ConnectionOptions,
    /// Shared by all listeners that count together; `None`: [`CONNECTIONS_MAX`] of this call.
    pub limits: Option<Rc<Limits>>,
    /// How TLS is spoken, where the address asks for it.
    pub tls: Option<Rc<ServerTls>>,
}

/// Why it is not possible to listen, or to bind a datagram socket.
#[derive(Debug)]
pub struct ListenError {
    /// Where, as the configuration says it.
    pub address: Address,
    /// Why.
    pub cause: io::Error,
    /// What to do about it, where that is known.
    pub help: Option<String>,
}

impl ListenError {
    /// The error with the advice that fits it.
    pub fn new(address: &Address, cause: io::Error) -> Self {
        ListenError {
            help: help_for(address, &cause),
            address: address.clone(),
            cause,
        }
    }

    /// Whether another try later can succeed with the same configuration.
    pub fn is_temporary(&self) -> bool {
        let kind = self.cause.kind();
        matches!(kind, ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
            || out_of_descriptors(&self.cause)
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.cause)?;
        self.help
            .as_ref()
            .map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Without a source: its own text names the cause, once.
impl std::error::Error for ListenError {}

fn help_for(address: &Address, cause: &io::Error) -> Option<String> {
    let port = address.host_port().map(|(_, port)| port);
    let text = match (cause.kind(), address.path()) {
        (ErrorKind::AddrInUse, Some(path)) => {
            format!("{}; stop it or choose another path", unix::occupant(path))
        }
        (ErrorKind::AddrInUse, None) => {
            let port = port.unwrap_or_default();
            format!(
                "stop the other process (`ss -lnp 'sport = :{port}'` shows it) or choose \
                     another port"
            )
        }
        (ErrorKind::PermissionDenied, None) if port.is_some_and(|port| port < 1024) => {
            "use systemd/marline.socket or net.ipv4.ip_unprivileged_port_start".into()
        }
        (ErrorKind::PermissionDenied, Some(_)) => {
            "the directory must be writable for this user".into()
        }
        (ErrorKind::AddrNotAvailable, _) => {
            "no interface of this machine has the address; `ip addr` shows those there are".into()
        }
        (ErrorKind::NotFound, Some(_)) => "make the directory first".into(),
        _ => return None,
    };
    Some(text)
}

/// Whether the process or the system has no descriptor left.
pub(super) fn out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// A listening socket. Dropping it changes nothing; `stop` ends it. One whose socket was taken
/// over by somebody else does nothing any more.
#[derive(Clone)]
pub struct Listener {
    acceptor: Rc<Acceptor>,
    lease: u64,
}

impl Listener {
    /// Where it listens; the port is the real one.
    pub fn local_address(&self) -> &Endpoint {
        &self.acceptor.local
    }

    /// Accepts who waits already, then nothing more, and closes the socket; what was accepted
    /// lives on. All of it in a later turn, when the answer fires. A second call is harmless and
    /// fires too.
    pub fn stop(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        let listener = self.clone();
        self.acceptor.network.reactor().call_soon(move |_| {
            if listener.is_served() {
                listener.acceptor.accept_rest();
                listener.acceptor.close();
            }
            promise.callback(());
        });
        deferred
    }

    /// Whether the socket is still this owner's.
    fn is_served(&self) -> bool {
        self.acceptor.lease.get() == self.lease
    }

    /// Leaves new connections waiting in the backlog.
    pub fn pause(&self) {
        if let Some(token) = self.acceptor.token.get().filter(|_| self.is_served()) {
            self.acceptor.pause.set(Pause::Asked);
            self.acceptor.network.reactor().remove_reader(token);
        }
    }

    /// Accepts on.
    pub fn resume(&self) {
        if self.is_served() {
            self.acceptor.resume();
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.local_address())
    }
}

/// Opens the listeners that `address` means.
pub(super) fn listen(
    network: &Network,
    address: &Address,
    options: ListenOptions,
    accept: Rc<dyn Accept>,
) -> Result<Vec<Listener>, ListenError> {
    let error = |cause| ListenError::new(address, cause);
    let limits = options.limits.clone();
    if let (Some(limits), Some(siblings)) = (&limits, network.siblings()) {
        limits.count_in(siblings.tally(network.owner()));
    }
    let shared = Shared {
        limits: limits.unwrap_or_else(|| Limits::new(CONNECTIONS_MAX, None)),
        setting: Rc::new(Setting {
            network: network.clone(),
            options: Rc::new(options.connection),
        }),
        accept,
        tls: options
            .tls
            .filter(|_| matches!(address, Address::Tls { .. })),
    };
    if let Address::Tls { .. } = address {
        let made = shared.tls.as_ref().map(|tls| tls.session());
        let missing = || HandshakeError::new(Fault::Local, "there is no certificate");
        let made = made.unwrap_or_else(|| Err(missing()));
        made.map_err(|problem| error(io::Error::new(ErrorKind::InvalidInput, problem)))?;
    }
    let promised = network.promised_listeners(address);
    if !promised.is_empty() {
        let keep = |(place, acceptor)| Acceptor::promise(network, place, &acceptor, &shared);
        return Ok(promised.into_iter().map(keep).collect());
    }
    let once = network.siblings_at(address);
    let sockets = match (once, address) {
        (Some(siblings), _) if !siblings.is_first() => offered(network, siblings, address),
        (_, Address::Systemd(name)) => inherited(network, name),
        _ => open(network, address, &options.bind),
    };
    let sockets = sockets.map_err(error)?;
    let listeners: io::Result<Vec<Listener>> = sockets
        .iter()
        .map(|socket| Acceptor::start(network, *socket, &shared))
        .collect();
    let listeners = listeners.map_err(|cause| {
        // Some may listen already; all are closed, for a set is opened whole or not at all.
        sockets
            .iter()
            .for_each(|socket| network.close_bound(*socket));
        error(cause)
    })?;
    for listener in &listeners {
        let acceptor = Rc::downgrade(&listener.acceptor);
        network.note(address, Socket::Listener(acceptor));
    }
    if let Some(siblings) = once.filter(|siblings| siblings.is_first()) {
        offer(network, siblings, address, &sockets).map_err(error)?;
    }
    Ok(listeners)
}

/// The siblings get these sockets, too.
fn offer(
    network: &Network,
    siblings: &Siblings,
    address: &Address,
    sockets: &[SocketId],
) -> io::Result<()> {
    let duplicates = sockets.iter().map(|it| network.net().duplicate(*it));
    let duplicates = duplicates.collect::<io::Result<_>>()?;
    siblings.offer(network.owner(), address, duplicates);
    Ok(())
}

/// The sockets that a sibling has bound.
fn offered(network: &Network, siblings: &Siblings, address: &Address) -> io::Result<Vec<SocketId>> {
    let sockets = siblings.take_offer(network.owner(), address)?;
    let adopted = sockets
        .into_iter()
        .map(|socket| network.net().adopt(socket));
    adopted
        .map(|adopted| adopted.map(|(socket, _)| socket))
        .collect()
}

fn open(network: &Network, address: &Address, bind: &BindOptions) -> io::Result<Vec<SocketId>> {
    if address.is_datagram() == Some(true) {
        let text = "datagrams have no connections to accept";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let mut sockets = Vec::new();
    for endpoint in endpoints(address)? {
        match network.open(&endpoint, Carries::Streams, bind) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                sockets
                    .iter()
                    .for_each(|socket| network.close_bound(*socket));
                return Err(error);
            }
        }
    }
    Ok(sockets)
}

/// The endpoints to bind for an address. Names are not looked up: a listener has to be where
/// the configuration says, also when the name service is down.
pub(super) fn endpoints(address: &Address) -> io::Result<Vec<Endpoint>> {
    if let Some(path) = address.path() {
        return Ok(vec![Endpoint::of_path(path)]);
    }
    let Some((host, port)) = address.host_port() else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let ip: IpAddr = match host {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        _ => host.parse().map_err(|_| {
            let text = format!("`{host}` is a name; give the IP address to listen on");
            io::Error::new(ErrorKind::InvalidInput, text)
        })?,
    };
    Ok(vec![Endpoint::Ip(SocketAddr::new(ip, port))])
}

fn inherited(network: &Network, name: &str) -> io::Result<Vec<SocketId>> {
    let sockets = network.take_inherited(name, Carries::Streams)?;
    if sockets.is_empty() {
        return Err(nothing_inherited(network, name));
    }
    Ok(sockets.into_iter().map(|(socket, _)| socket).collect())
}

pub(super) fn nothing_inherited(network: &Network, name: &str) -> io::Error {
    for (what, text) in [
        (Carries::Datagrams, "carries datagrams"),
        (Carries::Streams, "carries a byte stream"),
    ] {
        if network.has_inherited(name, what) {
            let text = format!("the inherited socket `{name}` {text}");
            return io::Error::new(ErrorKind::InvalidInput, text);
        }
    }
    let there = network.unit_sockets().join(", ");
    let text = if there.is_empty() {
        format!("systemd handed over no socket named `{name}`, nor any other")
    } else {
        format!("systemd handed over no socket named `{name}`; there are: {there}")
    };
    io::Error::new(ErrorKind::NotFound, text)
}

/// What the listeners of one call have in common.
#[derive(Clone)]
struct Shared {
    limits: Rc<Limits>,
    setting: Rc<Setting>,
    accept: Rc<dyn Accept>,
    tls: Option<Rc<ServerTls>>,
}

/// One open listening socket, whoever it serves.
pub(super) struct Acceptor {
    network: Network,
    socket: SocketId,
    local: Endpoint,
    shared: RefCell<Shared>,
    /// Which [`Listener`] it serves, and the number of the last one that was made.
    lease: Cell<u64>,
    leases: Cell<u64>,
    /// `None` once it is stopped.
    token: Cell<Option<Token>>,
    pause: Cell<Pause>,
    /// How long the next pause for want of descriptors is.
    backoff: Cell<Duration>,
    /// Ends the running one.
    recovery: RefCell<Option<TimerGuard>>,
    /// When the next complaint may be logged, and how many were not.
    complaint_after: Cell<Instant>,
    complaints_left_out: Cell<u64>,
}

/// Why nothing is accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    None,
    /// By the user.
    Asked,
    /// For want of descriptors or memory.
    Recovering,
}

impl Acceptor {
    fn start(network: &Network, socket: SocketId, shared: &Shared) -> io::Result<Listener> {
        stream::set_up(network, socket, &shared.setting.options)?;
        let acceptor = Rc::new(Acceptor {
            network: network.clone(),
            socket,
            local: network.net().local(socket)?,
            shared: RefCell::new(shared.clone()),
            lease: Cell::new(0),
            leases: Cell::new(0),
            token: Cell::new(None),
            pause: Cell::new(Pause::None),
            backoff: Cell::new(BACKOFF_FIRST),
            recovery: RefCell::new(None),
            complaint_after: Cell::new(Instant::ZERO),
            complaints_left_out: Cell::new(0),
        });
        let handler = Box::new(AcceptorHandler(Rc::clone(&acceptor)));
        let pollable = network.net().pollable(socket)?;
        let token = network.reactor().register(pollable, handler)?;
        acceptor.token.set(Some(token));
        network.reactor().add_reader(token);
        Ok(Listener { acceptor, lease: 0 })
    }

    /// A listener that is to be served from the commit of the handover on.
    fn promise(
        network: &Network,
        place: u64,
        acceptor: &Rc<Acceptor>,
        shared: &Shared,
    ) -> Listener {
        let lease = acceptor.leases.get() + 1;
        acceptor.leases.set(lease);
        let acceptor = Rc::clone(acceptor);
        let (kept, shared) = (Rc::clone(&acceptor), shared.clone());
        network.keep(place, move || kept.serve(lease, shared));
        Listener { acceptor, lease }
    }

    /// Whoever connects from now on is the new owner's.
    fn serve(&self, lease: u64, shared: Shared) {
        // Accepted sockets inherit them; what cannot be set stays as it was.
        let options = &shared.setting.options;
        if let Err(error) = stream::set_up(&self.network, self.socket, options) {
            self.complain(&error, "cannot set the options of a listener that is kept");
        }
        self.lease.set(lease);
        *self.shared.borrow_mut() = shared;
        self.resume();
    }

    /// The socket, and where it listens.
    pub(super) fn socket(&self) -> (SocketId, &Endpoint) {
        (self.socket, &self.local)
    }

    pub(super) fn is_open(&self) -> bool {
        self.token.get().is_some()
    }

    fn resume(&self) {
        if let (Pause::Asked, Some(token)) = (self.pause.get(), self.token.get()) {
            self.pause.set(Pause::None);
            self.network.reactor().add_reader(token);
        }
    }

    pub(super) fn close(&self) {
        if let Some(token) = self.token.take() {
            self.network.reactor().deregister(token);
            self.network.close_bound(self.socket);
            drop(self.recovery.take());
        }
    }

    fn accept_some(self: &Rc<Self>) -> Progress {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.token.get().is_none() || self.pause.get() != Pause::None {
                return Progress::More;
            }
            match self.network.net().accept(self.socket) {
                Ok((socket, from)) => {
                    self.backoff.set(BACKOFF_FIRST);
                    self.admit(socket, Peer::new(from));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Blocked,
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    self.recover(&error);
                    return Progress::More;
                }
            }
        }
        Progress::More
    }

    /// Those in the backlog have connected, and may have sent: they are not turned away by a
    /// stop. Those who come while this runs are, at the latest after a whole backlog.
    fn accept_rest(self: &Rc<Self>) {
        for _ in 0..=BACKLOG_ROUNDS {
            if self.token.get().is_none() || matches!(self.accept_some(), Progress::Blocked) {
                return;
            }
        }
    }

    fn admit(&self, socket: SocketId, peer: Peer) {
        let shared = self.shared.borrow().clone();
        let accept = &shared.accept;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            match shared.limits.admit(peer.endpoint()) {
                Ok(permit) => (accept.accepted(&peer), Some(permit)),
                Err(refusal) => (accept.refused(&peer, refusal), None),
            }
        }));
        match asked {
            Ok((Some(protocol), permit)) => {
                self.open(socket, peer, protocol, permit, &shared);
            }
            Ok((None, _)) => self.network.net().close(socket),
            Err(_) => {
                // The panic hook has logged it; the connection it was for is closed.
                self.network.net().close(socket);
            }
        }
    }

    fn open(
        &self,
        socket: SocketId,
        peer: Peer,
        protocol: Box<dyn Protocol>,
        permit: Option<Permit>,
        shared: &Shared,
    ) {
        let secure = shared.tls.as_ref().map(|tls| {
            let layer = tls.session()?;
            Ok(Secure::accepted(layer, tls.handshake_timeout()))
        });
        let secure = match secure.transpose() {
            Ok(secure) => secure,
            Err(error) => {
                let error: HandshakeError = error;
                self.network.net().close(socket);
                shared.limits.count_failed_handshake(error.fault());
                return protocol.closed(&CloseReason::Handshake(error));
            }
        };
        let opened = Stream::open(StreamParts {
            setting: Rc::clone(&shared.setting),
            socket,
            peer,
            protocol,
            permit,
            secure,
            is_accepted: true,
        });
        if let Err(error) = opened {
            self.complain(&error, "cannot watch an accepted connection");
        }
    }

    /// Descriptors or memory are short: tells those who wait, then waits itself.
    fn recover(self: &Rc<Self>, error: &io::Error) {
        self.complain(error, "cannot accept connections; trying again");
        if out_of_descriptors(error) {
            let net = self.network.net();
            let shed =
                (0..ACCEPTS_PER_TURN).take_while(|_| matches!(net.shed(self.socket), Ok(true)));
            let _count = shed.count();
        }
        let Some(token) = self.token.get() else {
            return;
        };
        self.pause.set(Pause::Recovering);
        self.network.reactor().remove_reader(token);
        let wait = self.backoff.get();
        self.backoff.set((wait * 2).min(BACKOFF_MAX));
        let acceptor = Rc::downgrade(self);
        let timer = self.network.reactor().call_later(wait, move |reactor| {
            let Some(acceptor) = acceptor.upgrade() else {
                return;
            };
            if let (Pause::Recovering, Some(token)) = (acceptor.pause.get(), acceptor.token.get()) {
                acceptor.pause.set(Pause::None);
                reactor.add_reader(token);
            }
        });
        drop(self.recovery.replace(Some(timer.guard())));
    }

    fn complain(&self, error: &io::Error, what: &str) {
        let now = self.network.reactor().now();
        if now < self.complaint_after.get() {
            self.complaints_left_out
                .set(self.complaints_left_out.get() + 1);
            return;
        }
        self.complaint_after.set(now + COMPLAINT_INTERVAL);
        AcceptFailed {
            address: &self.local,
            error,
            left_out: self.complaints_left_out.take(),
            what,
        }
        .log();
    }
}

/// Whether the error is that of the connection which would have been accepted (accept(2)).
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}

struct AcceptorHandler(Rc<Acceptor>);

impl Handler for AcceptorHandler {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        self.0.accept_some()
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {
        self.0.close();
        self.0.network.net().close(self.0.socket);
    }
}

/// Connections accepted by one listener in one turn.
const ACCEPTS_PER_TURN: usize = 100;

/// Turns' worth of connections that fill a backlog of 4096.
const BACKLOG_ROUNDS: usize = 4096 / ACCEPTS_PER_TURN;

/// The first and the longest pause for want of descriptors.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One complaint in this time and per listener.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
