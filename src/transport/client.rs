//! A connection that is made again whenever it is lost.
//!
//! `Stopped -> Connecting -> Preparing -> Connected -> (lost) -> Waiting -> Connecting …`; each
//! state owns what is under way in it, so leaving a state ends that too. Attempts go round the
//! addresses; after a whole round without success, or after a loss, the client waits for the
//! back-off, which starts over only when a connection was up for `stable_after`: a peer that
//! accepts and closes at once is not hit in a loop. A fatal failure ends the service until it
//! is started again.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use super::address::Address;
use super::backoff::{Backoff, BackoffOptions};
use super::connection::{CloseReason, Connection, Protocol};
use super::connector::ConnectOptions;
use super::network::Network;
use crate::deferred::{CancelHandle, Cancelled, Deferred, Failure, Promise};
use crate::reactor::TimerGuard;
use crate::time::{Duration, Instant};

/// What a [`Client`] connects.
pub trait Dialler {
    /// The protocol for one attempt; dropped untold when the attempt fails.
    fn protocol(&self) -> Box<dyn Protocol>;

    /// What must succeed on a new connection before it counts, such as a log-in. When it
    /// fails the connection is closed and the attempt has failed.
    fn prepare(&self, _connection: &Connection) -> Deferred<()> {
        Deferred::ready(())
    }

    /// Whether trying again is pointless, such as for bad credentials.
    fn is_fatal(&self, _failure: &Failure) -> bool {
        false
    }

    /// An attempt failed, or a connection was lost; the next attempt is `retry_in` from now,
    /// `None` for never.
    fn failed(&self, _failure: &Failure, _retry_in: Option<Duration>) {}
}

/// How to keep a connection.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// At least one; tried in this order.
    pub addresses: Vec<Address>,
    /// Of each attempt.
    pub connect: ConnectOptions,
    /// The limit of `prepare`.
    pub prepare_timeout: Duration,
    /// The delays between rounds of attempts.
    pub backoff: BackoffOptions,
    /// A connection that was up for so long resets the back-off.
    pub stable_after: Duration,
}

impl ClientOptions {
    /// The defaults, for one address.
    pub fn new(address: Address) -> Self {
        ClientOptions {
            addresses: vec![address],
            connect: ConnectOptions::default(),
            prepare_timeout: Duration::from_secs(10),
            backoff: BackoffOptions::default(),
            stable_after: Duration::from_secs(30),
        }
    }
}

/// A reconnecting connection service. A clone is the same service. Dropping it does not stop
/// it.
#[derive(Clone)]
pub struct Client {
    service: Rc<Service>,
}

struct Service {
    network: Network,
    options: ClientOptions,
    dialler: Rc<dyn Dialler>,
    state: RefCell<State>,
    /// Tells the events of this attempt from those of former ones.
    attempt: Cell<u64>,
    /// Index of the address that is tried next.
    next_address: Cell<usize>,
    backoff: RefCell<Backoff>,
    waiters: RefCell<Vec<Waiter>>,
    stopped: RefCell<Vec<Promise<()>>>,
}

enum State {
    Stopped,
    Connecting(CancelHandle),
    Preparing(Connection, CancelHandle),
    Connected(Connection, Instant),
    Waiting(#[expect(dead_code, reason = "held: dropping it takes the attempt back")] TimerGuard),
    /// Closing; `true` when it is to be started again afterwards.
    Disconnecting(bool),
    /// Gave up for good.
    Failed(Failure),
}

/// Somebody who waits for a connection.
struct Waiter {
    promise: Promise<Connection>,
    /// Failures it still bears; `None` bears all.
    failures_left: Option<u32>,
}

impl Client {
    pub(super) fn new(network: Network, options: ClientOptions, dialler: Rc<dyn Dialler>) -> Self {
        assert!(
            !options.addresses.is_empty(),
            "a client needs somebody to dial"
        );
        let backoff = Backoff::new(options.backoff, network.next_seed());
        Client {
            service: Rc::new(Service {
                network,
                options,
                dialler,
                state: RefCell::new(State::Stopped),
                attempt: Cell::new(0),
                next_address: Cell::new(0),
                backoff: RefCell::new(backoff),
                waiters: RefCell::default(),
                stopped: RefCell::default(),
            }),
        }
    }

    /// Begins to connect; started already, nothing happens.
    pub fn start(&self) {
        let service = &self.service;
        let mut state = service.state.borrow_mut();
        match &mut *state {
            State::Stopped | State::Failed(_) => {}
            State::Disconnecting(again) => {
                *again = true;
                return;
            }
            _ => {
                tracing::debug!(event = "client_started_twice", "the client runs already");
                return;
            }
        }
        drop(state);
        service.next_address.set(0);
        service.backoff.borrow_mut().reset();
        service.connect();
    }

    /// Ends the service: gives the attempt up, or closes the connection and fires when it is
    /// gone. Every call has its own Deferred.
    pub fn stop(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.service.stopped.borrow_mut().push(promise);
        self.service.stop();
        deferred
    }

    /// The connection: at once when there is one, else when it has been made. With
    /// `fail_after` the Deferred fails at the so-manieth failed attempt from now on. `Cancelled`
    /// when the service is stopped.
    pub fn when_connected(&self, fail_after: Option<u32>) -> Deferred<Connection> {
        match &*self.service.state.borrow() {
            State::Connected(connection, _) => return Deferred::ready(connection.clone()),
            State::Stopped | State::Disconnecting(false) => {
                return Deferred::failed(Failure::new(Cancelled));
            }
            State::Failed(failure) => return Deferred::failed(failure.clone()),
            _ => {}
        }
        let (promise, deferred) = Deferred::new();
        self.service.waiters.borrow_mut().push(Waiter {
            promise,
            failures_left: fail_after.map(|count| count.max(1)),
        });
        deferred
    }

    /// The present state in one word, for logs.
    pub fn state(&self) -> &'static str {
        match &*self.service.state.borrow() {
            State::Stopped => "stopped",
            State::Connecting(_) => "connecting",
            State::Preparing(..) => "preparing",
            State::Connected(..) => "connected",
            State::Waiting(_) => "waiting",
            State::Disconnecting(_) => "disconnecting",
            State::Failed(_) => "failed",
        }
    }
}

impl Service {
    fn connect(self: &Rc<Self>) {
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        let address = &self.options.addresses[self.next_address.get()];
        let watched = Box::new(Watched {
            inner: self.dialler.protocol(),
            service: Rc::downgrade(self),
            attempt,
        });
        let dialled = self
            .network
            .connect(address, self.options.connect.clone(), watched);
        drop(self.state.replace(State::Connecting(dialled.canceller())));
        let (service, other) = (Rc::downgrade(self), Rc::downgrade(self));
        let done = dialled.add_callbacks(
            move |connection| with(&service, attempt, |it| it.prepare(connection)),
            move |failure| with(&other, attempt, |it| it.attempt_failed(failure)),
        );
        done.log_err("connecting");
    }

    fn prepare(self: &Rc<Self>, connection: Connection) {
        let attempt = self.attempt.get();
        let ready = self.dialler.prepare(&connection);
        let ready = ready.timeout(self.options.prepare_timeout, self.network.reactor());
        if attempt != self.attempt.get() {
            // The service was stopped by `prepare` itself.
            ready.cancel();
            return connection.close();
        }
        let preparing = State::Preparing(connection.clone(), ready.canceller());
        drop(self.state.replace(preparing));
        let service = Rc::downgrade(self);
        let done = ready.add_both(move |outcome| {
            with(&service, attempt, |it| it.prepared(connection, outcome));
        });
        done.log_err("preparing a connection");
    }

    fn prepared(self: &Rc<Self>, connection: Connection, outcome: Result<(), Failure>) {
        if !matches!(*self.state.borrow(), State::Preparing(..)) {
            return; // cancelled by whoever left that state
        }
        match outcome {
            Ok(()) => self.connected(connection),
            Err(failure) => {
                // The attempt is over first, so that its loss means nothing any more.
                self.attempt.set(self.attempt.get() + 1);
                connection.abort();
                self.attempt_failed(failure);
            }
        }
    }

    fn connected(&self, connection: Connection) {
        let since = self.network.reactor().now();
        drop(
            self.state
                .replace(State::Connected(connection.clone(), since)),
        );
        for waiter in self.waiters.take() {
            waiter.promise.callback(connection.clone());
        }
    }

    /// The connection of the present attempt is gone.
    fn lost(self: &Rc<Self>, reason: &CloseReason) {
        let failure = Failure::msg(format!("connection lost: {reason}"));
        // Its place is kept by a state that nothing follows from by itself.
        match self.state.replace(State::Disconnecting(false)) {
            State::Disconnecting(again) => self.disconnected(again),
            State::Connected(_, since) => {
                let up = self.network.reactor().now().since(since);
                if up >= self.options.stable_after {
                    self.backoff.borrow_mut().reset();
                }
                self.next_address.set(0);
                self.retry(failure, true);
            }
            State::Preparing(_, preparing) => {
                self.attempt.set(self.attempt.get() + 1);
                preparing.cancel();
                self.attempt_failed(failure);
            }
            // Lost before the dial's Deferred fired: that fails, and says so.
            other => drop(self.state.replace(other)),
        }
    }

    fn attempt_failed(self: &Rc<Self>, failure: Failure) {
        let count = self.options.addresses.len();
        let next = (self.next_address.get() + 1) % count;
        self.next_address.set(next);
        self.count_failure(&failure);
        self.retry(failure, next == 0);
    }

    fn count_failure(&self, failure: &Failure) {
        let mut waiters = self.waiters.take();
        for waiter in &mut waiters {
            waiter.failures_left = waiter.failures_left.map(|left| left - 1);
        }
        let (failed, left): (Vec<_>, Vec<_>) = waiters
            .into_iter()
            .partition(|waiter| waiter.failures_left == Some(0));
        *self.waiters.borrow_mut() = left;
        for waiter in failed {
            waiter.promise.errback(failure.clone());
        }
    }

    /// Tries again, after the back-off when a round is complete; never after a fatal failure.
    fn retry(self: &Rc<Self>, failure: Failure, round_is_complete: bool) {
        if self.dialler.is_fatal(&failure) {
            self.dialler.failed(&failure, None);
            drop(self.state.replace(State::Failed(failure.clone())));
            for waiter in self.waiters.take() {
                waiter.promise.errback(failure.clone());
            }
            return;
        }
        let wait = if round_is_complete {
            self.backoff.borrow_mut().delay()
        } else {
            Duration::ZERO
        };
        let service = Rc::downgrade(self);
        let timer = self.network.reactor().call_later(wait, move |_| {
            if let Some(service) = service.upgrade() {
                service.connect();
            }
        });
        drop(self.state.replace(State::Waiting(timer.guard())));
        self.dialler.failed(&failure, Some(wait));
    }

    fn stop(self: &Rc<Self>) {
        for waiter in self.waiters.take() {
            waiter.promise.errback(Cancelled);
        }
        match self.state.replace(State::Stopped) {
            State::Stopped | State::Failed(_) | State::Waiting(_) => self.stopped(),
            State::Connecting(dialled) => {
                self.attempt.set(self.attempt.get() + 1);
                dialled.cancel();
                self.stopped();
            }
            State::Preparing(connection, preparing) => {
                drop(self.state.replace(State::Disconnecting(false)));
                connection.close();
                preparing.cancel();
            }
            State::Connected(connection, _) => {
                drop(self.state.replace(State::Disconnecting(false)));
                connection.close();
            }
            State::Disconnecting(_) => drop(self.state.replace(State::Disconnecting(false))),
        }
    }

    fn disconnected(self: &Rc<Self>, again: bool) {
        drop(self.state.replace(State::Stopped));
        self.stopped();
        if again {
            Client {
                service: Rc::clone(self),
            }
            .start();
        }
    }

    fn stopped(&self) {
        for promise in self.stopped.take() {
            promise.callback(());
        }
    }
}

/// Runs `then` if the service is still there and still at this attempt.
fn with(service: &Weak<Service>, attempt: u64, then: impl FnOnce(&Rc<Service>)) {
    let service = service.upgrade();
    if let Some(service) = service.filter(|service| service.attempt.get() == attempt) {
        then(&service);
    }
}

/// A protocol that tells the service of its end.
struct Watched {
    inner: Box<dyn Protocol>,
    service: Weak<Service>,
    attempt: u64,
}

impl Protocol for Watched {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.inner.connected(connection)
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.inner.received(connection, bytes)
    }

    fn drained(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.inner.drained(connection)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.inner.eof(connection)
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        self.inner.closed(reason);
        with(&self.service, self.attempt, |service| service.lost(reason));
    }
}
