//! Dialling: the limit, all addresses, names, cancelling.
//!
//! Names are made up by the test; an address that never answers is a listener whose backlog is
//! full.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::deferred::Cancelled;
use marline::transport::*;

use super::world::*;

fn options(timeout: Duration) -> ConnectOptions {
    ConnectOptions {
        timeout,
        ..ConnectOptions::default()
    }
}

fn host(name: &str, port: u16) -> Address {
    format!("tcp://{name}:{port}").parse().unwrap()
}

/// Names that a test makes up.
struct Names(Vec<(&'static str, Vec<IpAddr>)>);

impl Names {
    fn one(name: &'static str, ips: &[&str]) -> Names {
        Names(vec![(
            name,
            ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        )])
    }
}

impl Lookup for Names {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.iter().find(|(name, _)| *name == host);
        found
            .map(|(_, ips)| ips.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[test]
fn a_dialled_stream_carries_bytes_both_ways() {
    let mut world = World::new();
    for at in [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        "unix://@marline-test-dial",
    ] {
        let accept = Tapes::new();
        let listeners = world
            .network
            .listen(
                &at.parse().unwrap(),
                ListenOptions::default(),
                accept.clone(),
            )
            .unwrap();
        let to = match listeners[0].local_address() {
            Endpoint::Ip(address) => tcp(*address),
            _ => at.parse().unwrap(),
        };
        let tape = Tape::default();
        let dialled = world
            .network
            .connect(&to, ConnectOptions::default(), tape.protocol());
        let connection = world.wait("the connection", dialled).unwrap();
        assert_eq!(
            *tape.calls.borrow(),
            ["connected"],
            "told before the Deferred fires"
        );
        connection.write("ping".into()).unwrap();
        world.until("the ping", || {
            accept.len() == 1 && accept.get(0).received_len() == 4
        });
        accept.get(0).connection().write("pong!".into()).unwrap();
        world.until("the pong", || tape.received_len() == 5);
        world.wait("the stop", listeners[0].stop()).unwrap();
    }
}

#[test]
fn c_301_a_refusal_comes_in_a_later_turn() {
    let mut world = World::new();
    let tape = Tape::default();
    let to = host("127.0.0.1", closed_port());
    let dialled = world
        .network
        .connect(&to, ConnectOptions::default(), tape.protocol());
    assert!(!dialled.is_fired());
    let failure = world.wait("the refusal", dialled).unwrap_err();
    let error = failure.downcast_ref::<ConnectError>().unwrap();
    assert_eq!(error.attempts[0].1.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(
        tape.calls.borrow().len(),
        0,
        "a protocol that never was on a connection"
    );
}

#[test]
fn c_302_a_black_hole_is_left_when_the_limit_passes() {
    let mut world = World::new();
    let hole = BlackHole::at("127.0.0.1", 0);
    let limit = Duration::from_millis(150);
    let began = Instant::now();
    let protocol = Tape::default().protocol();
    let dialled = world
        .network
        .connect(&tcp(hole.address), options(limit), protocol);
    let failure = world.wait("the limit", dialled).unwrap_err();
    assert!(began.elapsed() >= limit && began.elapsed() < Duration::from_secs(5));
    let error = failure.downcast_ref::<ConnectError>().unwrap();
    assert!(error.is_timeout());
    assert!(
        error.to_string().contains(&hole.address.to_string()),
        "{error}"
    );
    let handle = world.reactor.handle();
    assert_eq!(
        (handle.writers().len(), handle.pending_timers().len()),
        (0, 0)
    );
}

#[test]
fn c_303_a_cancelled_dial_closes_its_socket_and_says_nothing_later() {
    let mut world = World::new();
    let hole = BlackHole::at("127.0.0.1", 0);
    let tape = Tape::default();
    let to = tcp(hole.address);
    let dialled = world
        .network
        .connect(&to, ConnectOptions::default(), tape.protocol());
    let cancel = dialled.canceller();
    let result = keep(dialled);
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.reactor.handle().writers().len(), 1);
    cancel.cancel();
    assert!(
        result
            .borrow()
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap_err()
            .is::<Cancelled>()
    );
    let handle = world.reactor.handle();
    assert_eq!(
        (handle.writers().len(), handle.pending_timers().len()),
        (0, 0)
    );
    drop(hole);
    world.run_for(Duration::from_millis(30));
    assert_eq!(tape.calls.borrow().len(), 0);
}

#[test]
fn c_304_a_name_without_address_fails_later_and_is_named() {
    let mut world = World::with_names(Names(vec![]));
    let to = host("nobody.invalid", 1);
    let protocol = Tape::default().protocol();
    let dialled = world
        .network
        .connect(&to, ConnectOptions::default(), protocol);
    assert!(!dialled.is_fired());
    let failure = world.wait("the failure", dialled).unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("cannot resolve host `nobody.invalid`"),
        "{failure}"
    );
}

#[test]
fn the_limit_covers_the_resolver_too_which_never_blocks_the_reactor() {
    struct Stuck;
    impl Lookup for Stuck {
        fn lookup(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            std::thread::sleep(Duration::from_millis(600));
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        }
    }
    let mut world = World::with_names(Stuck);
    let ticks = Rc::new(Cell::new(0));
    let (seen, handle) = (ticks.clone(), world.reactor.handle());
    for n in 1..10 {
        let seen = seen.clone();
        let _ = handle.call_later(Duration::from_millis(10 * n), move |_| {
            seen.set(seen.get() + 1)
        });
    }
    let began = Instant::now();
    let limit = options(Duration::from_millis(120));
    let protocol = Tape::default().protocol();
    let dialled = world
        .network
        .connect(&host("slow.example", 1), limit, protocol);
    let failure = world.wait("the limit", dialled).unwrap_err();
    assert!(failure.downcast_ref::<ConnectError>().unwrap().is_timeout());
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "the reactor waited for a name"
    );
    assert_eq!(
        ticks.get(),
        9,
        "timers did not run while a name was looked up"
    );
}

#[test]
fn c_306_when_all_addresses_fail_the_failure_lists_each() {
    let mut world = World::with_names(Names::one("multi", &["127.0.0.2", "127.0.0.3", "::1"]));
    let port = closed_port();
    let protocol = Tape::default().protocol();
    let options = ConnectOptions::default();
    let dialled = world
        .network
        .connect(&host("multi", port), options, protocol);
    let failure = world.wait("the failure", dialled).unwrap_err();
    let error = failure.downcast_ref::<ConnectError>().unwrap();
    let tried: Vec<String> = error
        .attempts
        .iter()
        .map(|(to, _)| to.to_string())
        .collect();
    let expected = ["127.0.0.2", "[::1]", "127.0.0.3"].map(|ip| format!("{ip}:{port}"));
    assert_eq!(tried, expected, "in the order of RFC 8305");
    for to in expected {
        assert!(error.to_string().contains(&format!("{to}: ")), "{error}");
    }
}

#[test]
fn f_108_a_silent_address_costs_a_quarter_second_not_the_limit() {
    // The port may be another test's at the other address.
    let both = || {
        let hole = BlackHole::at("127.0.0.2", 0);
        let listener = TcpListener::bind(("127.0.0.1", hole.address.port()));
        listener.ok().map(|listener| (hole, listener))
    };
    let (hole, _listener) = (0..100).find_map(|_| both()).expect("a port of both");
    let port = hole.address.port();
    let mut world = World::with_names(Names::one("two", &["127.0.0.2", "127.0.0.1"]));
    let began = Instant::now();
    let protocol = Tape::default().protocol();
    let options = ConnectOptions::default();
    let dialled = world.network.connect(&host("two", port), options, protocol);
    let connection = world.wait("the connection", dialled).unwrap();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(250) && took < Duration::from_secs(2),
        "{took:?}"
    );
    assert_eq!(connection.peer().ip(), Some(IpAddr::from([127, 0, 0, 1])));
    // The one that is silent was given up.
    let handle = world.reactor.handle();
    assert_eq!(
        (handle.writers().len(), handle.pending_timers().len()),
        (0, 0)
    );
}

#[test]
fn a_refused_address_is_followed_by_the_next_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = World::with_names(Names::one("two", &["127.0.0.2", "127.0.0.1"]));
    let began = Instant::now();
    let protocol = Tape::default().protocol();
    let options = ConnectOptions::default();
    let dialled = world.network.connect(&host("two", port), options, protocol);
    world.wait("the connection", dialled).unwrap();
    assert!(began.elapsed() < Duration::from_millis(200));
}

#[test]
fn f_107_a_name_is_asked_for_again_and_its_last_good_answer_is_kept() {
    struct Once(std::sync::atomic::AtomicUsize);
    impl Lookup for Once {
        fn lookup(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            match self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Ok(vec![IpAddr::from([127, 0, 0, 2])]),
                1 => Ok(vec![IpAddr::from([127, 0, 0, 3])]),
                _ => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
    let mut world = World::with_names(Once(Default::default()));
    let resolver = world.network.resolver().clone();
    for expected in [2, 3, 3] {
        let found = world
            .wait("an answer", resolver.resolve("moves.example"))
            .unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, expected])]);
    }
    let unknown = world.wait("an answer", resolver.resolve("other.example"));
    assert!(unknown.unwrap_err().to_string().contains("other.example"));
}

#[test]
fn a_unix_listener_with_a_full_backlog_is_waited_for() {
    let mut world = World::new();
    let at: Address = "unix://@marline-test-full-backlog".parse().unwrap();
    let accept = Tapes::new();
    let options = ListenOptions {
        bind: BindOptions {
            backlog: 0,
            ..BindOptions::default()
        },
        ..ListenOptions::default()
    };
    let listener = world
        .network
        .listen(&at, options, accept.clone())
        .unwrap()
        .remove(0);
    listener.pause();
    let dials: Vec<_> = (0..3)
        .map(|_| {
            let protocol = Tape::default().protocol();
            keep(
                world
                    .network
                    .connect(&at, ConnectOptions::default(), protocol),
            )
        })
        .collect();
    world.run_for(Duration::from_millis(100));
    assert!(
        dials.iter().any(|it| it.borrow().is_none()),
        "the backlog has room for all"
    );
    listener.resume();
    world.until("all three", || {
        dials.iter().all(|it| matches!(*it.borrow(), Some(Ok(_)))) && accept.len() == 3
    });
    drop(listener.stop());
}

#[test]
fn addresses_that_nobody_can_dial_say_so() {
    let mut world = World::new();
    for (at, why) in [
        ("systemd:x", "nobody to dial"),
        ("tls://127.0.0.1:1", "TLS"),
    ] {
        let protocol = Tape::default().protocol();
        let options = ConnectOptions::default();
        let dialled = world
            .network
            .connect(&at.parse().unwrap(), options, protocol);
        let failure = world.wait("the failure", dialled).unwrap_err();
        assert!(failure.to_string().contains(why), "{failure}");
    }
}
