//! Dialling a byte stream: resolve, try every address, one limit over all of it.
//!
//! Happy Eyeballs (RFC 8305): addresses alternate between IPv6 and IPv4, the next one is tried
//! when the one before failed or has not answered for 250 ms, and the first to connect wins.
//! The failure of the whole lists every address with its cause. Nothing is reported from
//! within `connect` itself. While it dials, the reactor's slots and the time limit's timer
//! keep the [`Dial`] alive; it ends exactly once, when its promise is taken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::address::Address;
use super::connection::{CloseReason, Connection, ConnectionOptions, Peer, Protocol};
use super::net::{Endpoint, SocketId};
use super::network::Network;
use super::stream::secure::Secure;
use super::stream::{self, Setting, Stream, StreamParts};
use super::tls::{ClientTls, HandshakeError, Layer};
use crate::deferred::{CancelHandle, Deferred, Failure, Promise};
use crate::reactor::{Handle, Handler, Progress, TimerGuard, Token};
use crate::time::Duration;

/// How to dial.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The limit over look-up and all attempts.
    pub timeout: Duration,
    /// Of the connection, once there is one.
    pub connection: Rc<ConnectionOptions>,
    /// How TLS is spoken, where the address asks for it.
    pub tls: Option<Rc<ClientTls>>,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("timeout", &self.timeout)
            .field("connection", &self.connection)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            timeout: Duration::from_secs(10),
            connection: Rc::default(),
            tls: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    /// Who was dialled.
    pub address: Address,
    /// What went wrong.
    pub kind: ConnectErrorKind,
    /// Every address that was tried, in the order of their failures.
    pub attempts: Vec<(Endpoint, io::Error)>,
}

/// The ways in which a dial fails.
#[derive(Debug)]
pub enum ConnectErrorKind {
    /// The name has no address that is known.
    Unresolved(Failure),
    /// Every address failed.
    AllFailed,
    /// The time limit passed.
    TimedOut(Duration),
    /// The protocol failed in `connected`; the connection was closed.
    Protocol,
    /// An address that nobody can dial.
    Undialable(&'static str),
}

impl ConnectError {
    /// Whether the time limit passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ConnectErrorKind::TimedOut(_))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.address)?;
        match &self.kind {
            ConnectErrorKind::Unresolved(failure) => write!(f, ": {failure}")?,
            ConnectErrorKind::TimedOut(limit) => write!(f, " within {limit:?}")?,
            ConnectErrorKind::Protocol => write!(f, ": the protocol failed")?,
            ConnectErrorKind::Undialable(why) => write!(f, ": {why}")?,
            ConnectErrorKind::AllFailed => {}
        }
        let mut separator = ": ";
        for (endpoint, error) in &self.attempts {
            write!(f, "{separator}{endpoint}: {error}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

/// Begins to dial; see [`Network::connect`].
pub(super) fn connect(
    network: &Network,
    address: &Address,
    options: ConnectOptions,
    protocol: Box<dyn Protocol>,
) -> Deferred<Connection> {
    let dial = Rc::new(Dial {
        network: network.clone(),
        address: address.clone(),
        options,
        promise: RefCell::new(None),
        protocol: RefCell::new(Some(protocol)),
        waiting: RefCell::default(),
        attempts: RefCell::default(),
        failures: RefCell::default(),
        handshake: RefCell::new(None),
        lookup: RefCell::new(None),
        limit: RefCell::new(None),
        stagger: RefCell::new(None),
    });
    let cancelled = Rc::downgrade(&dial);
    let (promise, deferred) = Deferred::with_canceller(move |_promise| {
        if let Some(dial) = cancelled.upgrade() {
            dial.over();
        }
    });
    *dial.promise.borrow_mut() = Some(promise);
    dial.start_limit();
    network.reactor().call_soon(move |_| dial.start());
    deferred
}

struct Dial {
    network: Network,
    address: Address,
    options: ConnectOptions,
    /// Taken when the outcome is there.
    promise: RefCell<Option<Promise<Connection>>>,
    protocol: RefCell<Option<Box<dyn Protocol>>>,
    /// Addresses that were not tried yet, in their order.
    waiting: RefCell<VecDeque<Endpoint>>,
    /// Attempts without an outcome.
    attempts: RefCell<Vec<Attempt>>,
    failures: RefCell<Vec<(Endpoint, io::Error)>>,
    /// The connection whose handshake is under way.
    handshake: RefCell<Option<Connection>>,
    lookup: RefCell<Option<CancelHandle>>,
    limit: RefCell<Option<TimerGuard>>,
    /// When the next address is tried although the last one has not failed.
    stagger: RefCell<Option<TimerGuard>>,
}

struct Attempt {
    socket: SocketId,
    token: Token,
    endpoint: Endpoint,
}

impl Dial {
    fn start_limit(self: &Rc<Self>) {
        let dial = Rc::clone(self);
        let limit = self.options.timeout;
        let timer = self
            .network
            .reactor()
            .call_later(limit, move |_| dial.timed_out(limit));
        *self.limit.borrow_mut() = Some(timer.guard());
    }

    fn start(self: Rc<Self>) {
        if self.promise.borrow().is_none() {
            return;
        }
        if let Some(path) = self.address.path() {
            return self.try_all(vec![Endpoint::of_path(path)]);
        }
        let (host, port) = match &self.address {
            Address::Tls { .. } if self.options.tls.is_none() => {
                return self.undialable("nobody said how TLS is to be spoken");
            }
            Address::Tcp { host, port } | Address::Tls { host, port } => (host, *port),
            _ => return self.undialable("there is nobody to dial behind an inherited socket"),
        };
        let found = self.network.resolver().resolve(host);
        *self.lookup.borrow_mut() = Some(found.canceller());
        let (dial, other) = (Rc::clone(&self), Rc::clone(&self));
        let done = found.add_callbacks(
            move |addresses| {
                let order = interleave(&addresses).into_iter();
                dial.try_all(
                    order
                        .map(|ip| Endpoint::Ip(SocketAddr::new(ip, port)))
                        .collect(),
                );
            },
            move |failure| other.fail(ConnectErrorKind::Unresolved(failure)),
        );
        done.log_err("dialling");
    }

    fn undialable(&self, why: &'static str) {
        self.fail(ConnectErrorKind::Undialable(why));
    }

    fn try_all(self: &Rc<Self>, endpoints: Vec<Endpoint>) {
        self.waiting.borrow_mut().extend(endpoints);
        self.try_next();
    }

    /// Tries the next address; with none left and nothing open the dial has failed.
    fn try_next(self: &Rc<Self>) {
        drop(self.stagger.take());
        loop {
            if self.promise.borrow().is_none() {
                return;
            }
            let next = self.waiting.borrow_mut().pop_front();
            let Some(endpoint) = next else {
                if self.attempts.borrow().is_empty() {
                    self.fail(ConnectErrorKind::AllFailed);
                }
                return;
            };
            match self.attempt(&endpoint) {
                Ok(()) => return self.try_next_in(ATTEMPT_DELAY),
                // Only a Unix listener with a full backlog says this; there is room soon.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting.borrow_mut().push_front(endpoint);
                    return self.try_next_in(FULL_BACKLOG_DELAY);
                }
                Err(error) => self.failures.borrow_mut().push((endpoint, error)),
            }
        }
    }

    fn try_next_in(self: &Rc<Self>, delay: Duration) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let dial = Rc::downgrade(self);
        let timer = self.network.reactor().call_later(delay, move |_| {
            if let Some(dial) = dial.upgrade() {
                dial.try_next();
            }
        });
        drop(self.stagger.replace(Some(timer.guard())));
    }

    fn attempt(self: &Rc<Self>, endpoint: &Endpoint) -> io::Result<()> {
        let net = self.network.net();
        let reactor = self.network.reactor();
        let socket = net.connect(endpoint)?;
        let handler = Box::new(AttemptHandler {
            dial: Rc::clone(self),
            socket,
        });
        let set_up = stream::set_up(&self.network, socket, &self.options.connection);
        let registered = set_up
            .and_then(|()| net.pollable(socket))
            .and_then(|pollable| reactor.register(pollable, handler));
        let token = registered.inspect_err(|_| net.close(socket))?;
        reactor.add_writer(token);
        self.attempts.borrow_mut().push(Attempt {
            socket,
            token,
            endpoint: endpoint.clone(),
        });
        Ok(())
    }

    /// A socket has news: it connected, failed, or neither yet.
    fn check(self: &Rc<Self>, socket: SocketId) -> Progress {
        match self.network.net().connect_result(socket) {
            Ok(false) => return Progress::Blocked,
            Ok(true) => self.won(socket),
            Err(error) => {
                if let Some(attempt) = self.take_attempt(socket) {
                    self.network.net().close(socket);
                    self.failures.borrow_mut().push((attempt.endpoint, error));
                    self.try_next();
                }
            }
        }
        Progress::Blocked
    }

    fn take_attempt(&self, socket: SocketId) -> Option<Attempt> {
        let mut attempts = self.attempts.borrow_mut();
        let index = attempts
            .iter()
            .position(|attempt| attempt.socket == socket)?;
        let attempt = attempts.remove(index);
        drop(attempts);
        self.network.reactor().deregister(attempt.token);
        Some(attempt)
    }

    fn won(self: &Rc<Self>, socket: SocketId) {
        let Some(attempt) = self.take_attempt(socket) else {
            return;
        };
        match self.session() {
            None => self.open(socket, attempt.endpoint),
            Some(Ok(layer)) => self.shake_hands(socket, attempt.endpoint, layer),
            Some(Err(error)) => {
                self.network.net().close(socket);
                self.failed_at(attempt.endpoint, io::Error::other(error));
            }
        }
    }

    /// TLS, if the address asks for it.
    fn session(&self) -> Option<Result<Layer, HandshakeError>> {
        match (&self.address, &self.options.tls) {
            (Address::Tls { host, .. }, Some(tls)) => Some(tls.session(host)),
            _ => None,
        }
    }

    fn open(self: &Rc<Self>, socket: SocketId, endpoint: Endpoint) {
        let protocol = self.protocol.take();
        let Some((promise, protocol)) = self.over().zip(protocol) else {
            self.network.net().close(socket);
            return;
        };
        match Stream::open(self.parts(socket, &endpoint, protocol)) {
            Ok(connection) => self.succeeded(promise, connection),
            Err(error) => {
                self.failures.borrow_mut().push((endpoint, error));
                promise.errback(Failure::new(self.error(ConnectErrorKind::AllFailed)));
            }
        }
    }

    /// The first to connect has won; what is left of the limit is for the handshake.
    fn shake_hands(self: &Rc<Self>, socket: SocketId, endpoint: Endpoint, layer: Layer) {
        let Some(protocol) = self.protocol.take() else {
            self.network.net().close(socket);
            return;
        };
        self.drop_others();
        let (dial, at) = (Rc::downgrade(self), endpoint.clone());
        let secured = move |outcome: Result<Connection, &CloseReason>| {
            if let Some(dial) = dial.upgrade() {
                dial.shook_hands(at, outcome);
            }
        };
        let parts = StreamParts {
            secure: Some(Secure::dialled(layer, Box::new(secured))),
            ..self.parts(socket, &endpoint, protocol)
        };
        match Stream::open(parts) {
            Ok(connection) => *self.handshake.borrow_mut() = Some(connection),
            Err(error) => self.failed_at(endpoint, error),
        }
    }

    fn shook_hands(&self, endpoint: Endpoint, outcome: Result<Connection, &CloseReason>) {
        drop(self.handshake.take());
        match outcome {
            Ok(connection) => match self.over() {
                Some(promise) => self.succeeded(promise, connection),
                None => connection.abort(),
            },
            Err(reason @ CloseReason::Handshake(_)) => {
                self.failed_at(endpoint, io::Error::other(reason.to_string()));
            }
            Err(reason) => {
                let text = format!("TLS handshake failed: {reason}");
                self.failed_at(endpoint, io::Error::other(text));
            }
        }
    }

    fn failed_at(&self, endpoint: Endpoint, error: io::Error) {
        self.failures.borrow_mut().push((endpoint, error));
        self.fail(ConnectErrorKind::AllFailed);
    }

    fn parts(
        &self,
        socket: SocketId,
        endpoint: &Endpoint,
        protocol: Box<dyn Protocol>,
    ) -> StreamParts {
        let setting = Rc::new(Setting {
            network: self.network.clone(),
            options: Rc::clone(&self.options.connection),
        });
        StreamParts {
            setting,
            socket,
            peer: Peer::new(endpoint.clone()),
            protocol,
            permit: None,
            secure: None,
            is_accepted: false,
        }
    }

    fn succeeded(&self, promise: Promise<Connection>, connection: Connection) {
        if connection.is_lost() {
            promise.errback(Failure::new(self.error(ConnectErrorKind::Protocol)));
        } else if !promise.callback(connection.clone()).is_accepted() {
            connection.abort(); // cancelled from within `connected`
        }
    }

    fn timed_out(&self, limit: Duration) {
        let text = match self.handshake.borrow().is_some() {
            true => "no end of the TLS handshake in time",
            false => "no answer in time",
        };
        let mut open = self
            .attempts
            .borrow()
            .iter()
            .map(|a| a.endpoint.clone())
            .collect::<Vec<_>>();
        let shaking = self.handshake.borrow();
        open.extend(shaking.as_ref().map(|it| it.peer().endpoint().clone()));
        drop(shaking);
        let unanswered = open
            .into_iter()
            .map(|to| (to, io::Error::new(ErrorKind::TimedOut, text)));
        self.failures.borrow_mut().extend(unanswered);
        self.fail(ConnectErrorKind::TimedOut(limit));
    }

    fn fail(&self, kind: ConnectErrorKind) {
        let protocol = self.protocol.take();
        if let Some(promise) = self.over() {
            promise.errback(Failure::new(self.error(kind)));
        }
        drop(protocol);
    }

    fn error(&self, kind: ConnectErrorKind) -> ConnectError {
        ConnectError {
            address: self.address.clone(),
            kind,
            attempts: self.failures.take(),
        }
    }

    /// The outcome is there: takes the promise and everything that was under way.
    fn over(&self) -> Option<Promise<Connection>> {
        let promise = self.promise.take();
        drop(self.limit.take());
        self.drop_others();
        if let Some(connection) = self.handshake.take() {
            connection.abort();
        }
        if let Some(lookup) = self.lookup.take() {
            lookup.cancel();
        }
        promise
    }

    /// Gives up what was not tried yet or has no outcome.
    fn drop_others(&self) {
        drop(self.stagger.take());
        self.waiting.borrow_mut().clear();
        for attempt in self.attempts.take() {
            self.network.reactor().deregister(attempt.token);
            self.network.net().close(attempt.socket);
        }
    }
}

/// One attempt in the reactor's slot.
struct AttemptHandler {
    dial: Rc<Dial>,
    socket: SocketId,
}

impl Handler for AttemptHandler {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        self.dial.check(self.socket)
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        self.dial.check(self.socket)
    }

    fn hangup(&mut self, _reactor: &Handle) -> Progress {
        self.dial.check(self.socket)
    }

    /// The reactor shuts down.
    fn lost(self: Box<Self>, reason: Failure, _reactor: &Handle) {
        let dial = &self.dial;
        let attempt = dial
            .attempts
            .borrow()
            .iter()
            .any(|it| it.socket == self.socket);
        if attempt {
            dial.attempts
                .borrow_mut()
                .retain(|it| it.socket != self.socket);
            dial.network.net().close(self.socket);
            if let Some(promise) = dial.over() {
                promise.errback(reason);
            }
        }
    }
}

/// Alternates between the families, beginning with that of the best address (RFC 8305
/// section 4).
fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    let longest = first.len().max(second.len());
    (0..longest)
        .flat_map(|index| [first.get(index), second.get(index)])
        .flatten()
        .copied()
        .collect()
}

/// How long an attempt may be silent before the next begins beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How soon a Unix listener with a full backlog is tried again.
const FULL_BACKLOG_DELAY: Duration = Duration::from_millis(20);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_none_is_left_out() {
        let check = |input: &[&str], expected: &[&str]| {
            let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
            let found = interleave(&input.iter().map(parse).collect::<Vec<_>>());
            assert_eq!(found, expected.iter().map(parse).collect::<Vec<_>>());
        };
        check(
            &["::1", "::2", "1.1.1.1", "2.2.2.2"],
            &["::1", "1.1.1.1", "::2", "2.2.2.2"],
        );
        check(
            &["1.1.1.1", "::1", "::2", "::3"],
            &["1.1.1.1", "::1", "::2", "::3"],
        );
        check(
            &["1.1.1.1", "2.2.2.2", "::1"],
            &["1.1.1.1", "::1", "2.2.2.2"],
        );
        check(&["1.1.1.1"], &["1.1.1.1"]);
        check(&[], &[]);
    }
}
