//! The reconnecting client: its states, its delays, its promises.
//!
//! Delays are scaled to milliseconds; their exact law is shown in `transport::backoff`, here
//! that the client follows it.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::deferred::{Cancelled, Deferred, Failure, Promise};
use marline::transport::*;

use super::world::*;

type Hook = Box<dyn Fn(&Connection)>;

/// Dials for a test and writes down what came of it.
#[derive(Default)]
pub(super) struct Dials {
    tapes: RefCell<Vec<Tape>>,
    retries: RefCell<Vec<Option<Duration>>>,
    pub(super) failures: RefCell<Vec<String>>,
    /// `prepare` waits for one of these, when there is one.
    prepare: RefCell<Vec<Deferred<()>>>,
    pub(super) prepared: Cell<usize>,
    fatal: Cell<bool>,
    /// Called with each new connection.
    on_prepare: RefCell<Option<Hook>>,
}

impl Dialler for Dials {
    fn protocol(&self) -> Box<dyn Protocol> {
        let tape = Tape::default();
        self.tapes.borrow_mut().push(tape.clone());
        tape.protocol()
    }
    fn prepare(&self, connection: &Connection) -> Deferred<()> {
        self.prepared.set(self.prepared.get() + 1);
        if let Some(hook) = &*self.on_prepare.borrow() {
            hook(connection);
        }
        let next = self.prepare.borrow_mut().pop();
        next.unwrap_or_else(|| Deferred::ready(()))
    }
    fn is_fatal(&self, _failure: &Failure) -> bool {
        self.fatal.get()
    }
    fn failed(&self, failure: &Failure, retry_in: Option<Duration>) {
        self.failures.borrow_mut().push(failure.to_string());
        self.retries.borrow_mut().push(retry_in);
    }
}

impl Dials {
    fn attempts(&self) -> usize {
        self.tapes.borrow().len()
    }
    fn prepare_with(&self) -> Promise<()> {
        let (promise, deferred) = Deferred::new();
        self.prepare.borrow_mut().push(deferred);
        promise
    }
}

fn quick(to: SocketAddr) -> ClientOptions {
    ClientOptions {
        backoff: BackoffOptions {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(160),
        },
        ..ClientOptions::new(tcp(to))
    }
}

pub(super) fn client(world: &World, to: SocketAddr) -> (Client, Rc<Dials>) {
    let dials = Rc::new(Dials::default());
    (world.network.client(quick(to), dials.clone()), dials)
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], closed_port()))
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn c_377_a_start_begins_one_attempt_and_a_second_start_none() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let (client, dials) = client(&world, to);
    client.start();
    client.start();
    world.until("the connection", || client.state() == "connected");
    client.start();
    world.run_for(Duration::from_millis(20));
    assert_eq!(dials.attempts(), 1);
}

#[test]
fn c_378_stopped_before_it_started() {
    let world = World::new();
    let (client, _) = client(&world, nobody());
    assert!(matches!(client.stop().now_or_pending(), Some(Ok(()))));
}

#[test]
fn c_379_a_stop_during_an_attempt_cancels_it_and_leaves_nothing() {
    let mut world = World::new();
    let hole = BlackHole::at("127.0.0.1", 0);
    let (client, dials) = client(&world, hole.address);
    client.start();
    world.run_for(Duration::from_millis(20));
    assert!(matches!(client.stop().now_or_pending(), Some(Ok(()))));
    let handle = world.reactor.handle();
    assert_eq!(
        (handle.writers().len(), handle.pending_timers().len()),
        (0, 0)
    );
    world.run_for(Duration::from_millis(50));
    assert_eq!(dials.attempts(), 1);
}

#[test]
fn c_381_a_stop_while_connected_fires_when_the_connection_is_gone() {
    let mut world = World::new();
    let (listener, to) = listener();
    let (client, dials) = client(&world, to);
    client.start();
    world.until("the connection", || client.state() == "connected");
    let (peer, _) = listener.accept().unwrap();
    let (one, two) = (keep(client.stop()), keep(client.stop()));
    assert!(one.borrow().is_none() && !dials.tapes.borrow()[0].is_closed());
    world.until("both stops", || {
        one.borrow().is_some() && two.borrow().is_some()
    });
    assert!(dials.tapes.borrow()[0].is_closed());
    assert_eq!(client.state(), "stopped");
    drop(peer);
}

#[test]
fn c_382_started_again_while_it_stops_it_connects_at_once_after_the_loss() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let (client, dials) = client(&world, to);
    client.start();
    world.until("the connection", || client.state() == "connected");
    let stopped = keep(client.stop());
    client.start();
    world.until("the stop", || stopped.borrow().is_some());
    world.until("the second", || client.state() == "connected");
    assert_eq!((dials.attempts(), dials.retries.borrow().len()), (2, 0));
}

#[test]
fn c_383_c_384_all_who_wait_get_the_same_connection_and_later_ones_at_once() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let (client, _) = client(&world, to);
    client.start();
    let waiting: Vec<_> = (0..3).map(|_| keep(client.when_connected(None))).collect();
    world.until("the connection", || {
        waiting.iter().all(|it| it.borrow().is_some())
    });
    let id = |it: Option<Result<Connection, Failure>>| it.unwrap().unwrap().id();
    let ids: Vec<_> = waiting.iter().map(|it| id(it.take())).collect();
    assert!(ids.iter().all(|it| *it == ids[0]));
    assert_eq!(id(client.when_connected(None).now_or_pending()), ids[0]);
}

#[test]
fn c_386_c_387_a_waiter_bears_as_many_failures_as_it_said_from_when_it_asked() {
    let mut world = World::new();
    let (client, dials) = client(&world, nobody());
    client.start();
    let one = keep(client.when_connected(Some(1)));
    let patient = keep(client.when_connected(None));
    world.until("the first failure", || dials.retries.borrow().len() == 1);
    assert!(matches!(*one.borrow(), Some(Err(_))));
    let two = keep(client.when_connected(Some(2)));
    world.until("the second failure", || dials.retries.borrow().len() == 2);
    assert!(
        two.borrow().is_none(),
        "a failure before it asked was counted"
    );
    world.until("the third failure", || dials.retries.borrow().len() == 3);
    assert!(two.borrow().is_some() && patient.borrow().is_none());
    let _stopped = client.stop();
    assert!(patient.take().unwrap().unwrap_err().is::<Cancelled>());
}

#[test]
fn c_388_asking_a_stopped_client_is_cancelled_at_once() {
    let world = World::new();
    let (client, _) = client(&world, nobody());
    let answer = client.when_connected(None).now_or_pending();
    assert!(answer.unwrap().unwrap_err().is::<Cancelled>());
}

#[test]
fn delays_between_attempts_double_up_to_the_cap_within_half_and_full() {
    let mut world = World::new();
    let (client, dials) = client(&world, nobody());
    client.start();
    world.until("seven failures", || dials.retries.borrow().len() == 7);
    let full = [20, 40, 80, 160, 160, 160, 160].map(Duration::from_millis);
    for (delay, full) in dials.retries.borrow().iter().zip(full) {
        let delay = delay.unwrap();
        assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
    }
    let _stopped = client.stop();
}

#[test]
fn c_394_a_peer_that_accepts_and_closes_is_not_hit_in_a_loop() {
    let mut world = World::new();
    let (listener, to) = listener();
    listener.set_nonblocking(true).unwrap();
    let (client, dials) = client(&world, to);
    client.start();
    world.until("seven losses", || {
        while listener.accept().is_ok() {}
        dials.retries.borrow().len() >= 7
    });
    let last = dials.retries.borrow()[6].unwrap();
    assert!(
        last >= Duration::from_millis(80),
        "the delay was reset: {last:?}"
    );
    // A connection that stays up for long enough does reset it.
    let _stopped = client.stop();
    let dials = Rc::new(Dials::default());
    let options = ClientOptions {
        stable_after: Duration::from_millis(50),
        ..quick(to)
    };
    let client = world.network.client(options, dials.clone());
    client.start();
    for round in 1..=6 {
        world.until("a connection", || client.state() == "connected");
        let peer = listener.accept().unwrap();
        world.run_for(Duration::from_millis(70));
        drop(peer);
        world.until("its loss", || dials.retries.borrow().len() == round);
        assert!(dials.retries.borrow()[round - 1].unwrap() <= Duration::from_millis(20));
    }
    let _stopped = client.stop();
}

#[test]
fn c_396_c_397_a_failing_prepare_closes_its_connection_and_counts_as_a_failure() {
    let mut world = World::new();
    let (listener, to) = listener();
    let (client, dials) = client(&world, to);
    dials
        .prepare
        .borrow_mut()
        .push(Deferred::failed(Failure::msg("bad greeting")));
    client.start();
    let asked = keep(client.when_connected(Some(1)));
    world.until("the failure", || dials.retries.borrow().len() == 1);
    assert!(
        asked
            .take()
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("bad greeting")
    );
    assert!(dials.retries.borrow()[0].is_some());
    world.until("its connection's end", || {
        dials.tapes.borrow()[0].is_closed()
    });
    world.until("the next one", || client.state() == "connected");
    assert_eq!((dials.attempts(), dials.prepared.get()), (2, 2));
    drop(listener);
}

#[test]
fn a_prepare_that_never_ends_is_left_when_its_limit_passes() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let dials = Rc::new(Dials::default());
    let _never = dials.prepare_with();
    let options = ClientOptions {
        prepare_timeout: Duration::from_millis(50),
        ..quick(to)
    };
    let client = world.network.client(options, dials.clone());
    client.start();
    world.until("the second attempt", || client.state() == "connected");
    assert_eq!((dials.attempts(), dials.retries.borrow().len()), (2, 1));
}

#[test]
fn c_398_a_loss_during_prepare_is_a_failed_attempt() {
    let mut world = World::new();
    let (listener, to) = listener();
    let (client, dials) = client(&world, to);
    let promise = dials.prepare_with();
    client.start();
    world.until("prepare", || client.state() == "preparing");
    reset(listener.accept().unwrap().0);
    world.until("the retry", || dials.retries.borrow().len() == 1);
    assert!(
        !promise.callback(()).is_accepted(),
        "prepare was not cancelled"
    );
    world.until("the next one", || client.state() == "connected");
    world.wait("the stop", client.stop()).unwrap();
    assert_eq!(dials.attempts(), 2);
}

#[test]
fn c_399_a_stop_during_prepare_cancels_it_closes_and_fires_after_the_loss() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let (client, dials) = client(&world, to);
    let promise = dials.prepare_with();
    client.start();
    world.until("prepare", || client.state() == "preparing");
    let stopped = keep(client.stop());
    assert!(stopped.borrow().is_none());
    assert!(promise.is_cancelled());
    world.until("the stop", || stopped.borrow().is_some());
    assert!(dials.tapes.borrow()[0].is_closed());
    world.run_for(Duration::from_millis(50));
    assert_eq!((dials.attempts(), client.state()), (1, "stopped"));
}

#[test]
fn a_stop_from_within_prepare_leaves_no_connection_open() {
    let mut world = World::new();
    let (_listener, to) = listener();
    let (client, dials) = client(&world, to);
    let inner = client.clone();
    *dials.on_prepare.borrow_mut() = Some(Box::new(move |_| inner.stop().log_err("stopping")));
    client.start();
    world.until("the end", || {
        dials.tapes.borrow().iter().any(Tape::is_closed)
    });
    world.run_for(Duration::from_millis(50));
    assert_eq!((dials.attempts(), client.state()), (1, "stopped"));
}

#[test]
fn c_402_one_loss_is_one_retry() {
    let mut world = World::new();
    let (listener, to) = listener();
    let (client, dials) = client(&world, to);
    client.start();
    world.until("the connection", || client.state() == "connected");
    let connection = dials.tapes.borrow()[0].connection();
    connection.abort();
    connection.close();
    reset(listener.accept().unwrap().0);
    world.until("the next one", || {
        client.state() == "connected" && dials.attempts() == 2
    });
    world.run_for(Duration::from_millis(60));
    assert_eq!((dials.attempts(), dials.retries.borrow().len()), (2, 1));
}

#[test]
fn c_403_a_fatal_failure_ends_the_service() {
    let mut world = World::new();
    let (client, dials) = client(&world, nobody());
    dials.fatal.set(true);
    client.start();
    let asked = keep(client.when_connected(None));
    world.until("the end", || client.state() == "failed");
    assert!(matches!(*asked.borrow(), Some(Err(_))));
    assert_eq!(*dials.retries.borrow(), [None]);
    world.run_for(Duration::from_millis(60));
    assert_eq!(dials.attempts(), 1);
    assert!(
        client
            .when_connected(None)
            .now_or_pending()
            .unwrap()
            .is_err()
    );
    assert!(world.reactor.handle().pending_timers().is_empty());
}

#[test]
fn f_108_the_next_address_is_tried_at_once_and_the_first_one_first_after_a_loss() {
    let mut world = World::new();
    let (listener, second) = listener();
    let first = nobody();
    let dials = Rc::new(Dials::default());
    let options = ClientOptions {
        addresses: vec![tcp(first), tcp(second)],
        ..quick(first)
    };
    let client = world.network.client(options, dials.clone());
    let began = Instant::now();
    client.start();
    world.until("the second", || client.state() == "connected");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(*dials.retries.borrow(), [Some(Duration::ZERO)]);
    // The first one is back: after a loss it has the connection again.
    let back = TcpListener::bind(first).unwrap();
    reset(listener.accept().unwrap().0);
    world.until("the loss", || dials.retries.borrow().len() == 2);
    world.until("the first", || client.state() == "connected");
    let (peer, _): (TcpStream, _) = back.accept().unwrap();
    assert_eq!(peer.local_addr().unwrap(), first);
    let _stopped = client.stop();
}
