//! Listening: addresses, accepting in budgets, limits, having no descriptors.
//!
//! Peers connect with plain sockets. What needs the process to itself (a limit on descriptors)
//! runs in a child process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::reactor::PollerKind;
use marline::transport::*;

use super::world::*;

#[test]
fn c_293_the_real_port_is_known_before_the_first_connection() {
    let mut world = World::new();
    for at in ["tcp://127.0.0.1:0", "tcp://[::1]:0"] {
        let accept = Tapes::new();
        let listeners = world
            .network
            .listen(
                &at.parse().unwrap(),
                ListenOptions::default(),
                accept.clone(),
            )
            .unwrap();
        let Endpoint::Ip(address) = *listeners[0].local_address() else {
            panic!("no port")
        };
        assert_ne!(address.port(), 0);
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(b"found you").unwrap();
        world.until("the data", || {
            accept.len() == 1 && accept.get(0).received_len() == 9
        });
        let connection = accept.get(0).connection();
        assert_eq!(
            connection.peer().to_string(),
            peer.local_addr().unwrap().to_string()
        );
        assert_eq!(connection.local(), Some(Endpoint::Ip(address)));
        drop(listeners[0].stop());
    }
}

#[test]
#[should_panic(expected = "the test leaves behind: a source of src/transport/listener.rs")]
fn c_427_a_listener_that_a_test_leaves_behind_fails_it() {
    let world = World::new();
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let options = ListenOptions::default();
    let _listeners = world.network.listen(&at, options, Tapes::new()).unwrap();
}

#[test]
fn c_294_f_079_a_used_port_says_where_why_and_what_to_do() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let at: Address = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    let error = world
        .network
        .listen(&at, ListenOptions::default(), Tapes::new())
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot listen on tcp://127.0.0.1:{port}: ")),
        "{text}"
    );
    assert!(
        text.contains("in use") && text.contains("ss -lnp"),
        "{text}"
    );
    assert!(error.is_temporary());
    assert!(world.reactor.handle().readers().is_empty());
}

#[test]
fn f_079_other_refusals_name_their_cause() {
    let world = World::new();
    let check = |at: &str, expected: &str| {
        let options = ListenOptions::default();
        let error = world
            .network
            .listen(&at.parse().unwrap(), options, Tapes::new());
        let text = error.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    // TEST-NET-1 (RFC 5737) is on no interface.
    check(
        "tcp://192.0.2.1:0",
        "no interface of this machine has the address",
    );
    check("tcp://example.invalid:1", "is a name; give the IP address");
    check("udp://127.0.0.1:0", "datagrams have no connections");
    check("systemd:nobody", "no socket named `nobody`, nor any other");
    check("unix:///nonexistent/dir/x.sock", "make the directory first");
}

#[test]
fn a_privileged_port_says_how_to_get_it() {
    // The text only: whoever runs this may be root.
    let cause = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let at: Address = "udp://0.0.0.0:514".parse().unwrap();
    let text = ListenError::new(&at, cause).to_string();
    assert!(
        text.contains("use systemd/marline.socket or net.ipv4.ip_unprivileged_port_start"),
        "{text}"
    );
}

#[test]
fn c_296_c_412_stop_closes_the_port_and_leaves_connections_alone() {
    let mut world = World::new();
    let accept = Tapes::new();
    let (listener, address) = world.listen(&accept);
    let mut peer = TcpStream::connect(address).unwrap();
    world.until("the connection", || accept.len() == 1);
    let stopped = listener.stop();
    assert!(!stopped.is_fired(), "fired from within stop");
    world.wait("the stop", stopped).unwrap();
    assert!(TcpStream::connect(address).is_err());
    world.wait("the second stop", listener.stop()).unwrap();
    peer.write_all(b"still here").unwrap();
    world.until("the data", || accept.get(0).received_len() == 10);
    assert_eq!(accept.len(), 1);
}

#[test]
fn c_297_nobody_for_a_connection_closes_it_at_once() {
    let mut world = World::new();
    let accept = Tapes::new();
    accept.deny.set(true);
    let (_listener, address) = world.listen(&accept);
    let mut peer = TcpStream::connect(address).unwrap();
    let (received, end) = world.drain(&mut peer);
    assert_eq!((received.len(), end.is_ok()), (0, true));
}

#[test]
fn c_298_a_backlog_beyond_one_turns_budget_is_accepted_without_another_client() {
    for poller in PollerKind::ALL {
        let mut world = World::on(poller);
        let accept = Tapes::new();
        let (_listener, address) = world.listen(&accept);
        let peers: Vec<TcpStream> = (0..250)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        world.turn(Duration::from_secs(1));
        assert!(accept.len() <= 100, "{} in one turn", accept.len());
        world.until("all of them", || accept.len() == peers.len());
    }
}

#[test]
fn the_backlog_is_4096_unless_said_otherwise() {
    assert_eq!(BindOptions::default().backlog, 4096);
    let mut world = World::new();
    let (_listener, address) = world.listen(&Tapes::new());
    // ss shows the backlog of a listener as its send queue, as the kernel bounded it.
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let expected = somaxconn.trim().parse::<u32>().unwrap().min(4096);
    // Waiting connections far beyond std's 128 prove it without ss.
    let count = expected.min(400);
    let peers: Vec<_> = (0..count)
        .map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap())
        .collect();
    assert_eq!(peers.len() as u32, count);
}

#[test]
fn c_369_a_total_limit_refuses_the_third_until_one_ends() {
    let mut world = World::new();
    let accept = Tapes::new();
    let options = ListenOptions {
        limits: Some(Limits::new(2, None)),
        ..ListenOptions::default()
    };
    let (_listener, address) = world.listen_with(&accept, options);
    let first = TcpStream::connect(address).unwrap();
    let _second = TcpStream::connect(address).unwrap();
    world.until("two", || accept.len() == 2);
    let mut third = TcpStream::connect(address).unwrap();
    let (received, end) = world.drain(&mut third);
    assert_eq!((received.len(), end.is_ok()), (0, true));
    assert_eq!(*accept.refusals.borrow(), [Refusal::Total(2)]);
    drop(first);
    world.until("room", || accept.open_count() == 1);
    let _fourth = TcpStream::connect(address).unwrap();
    world.until("the fourth", || accept.len() == 3);
}

#[test]
fn c_369_a_refused_peer_may_be_told() {
    struct Busy(Rc<Tapes>);
    impl Accept for Busy {
        fn accepted(&self, peer: &Peer) -> Option<Box<dyn Protocol>> {
            self.0.accepted(peer)
        }
        fn refused(&self, _peer: &Peer, why: Refusal) -> Option<Box<dyn Protocol>> {
            let tape = Tape::default();
            *tape.on_connected.borrow_mut() = Some(Box::new(move |connection| {
                connection.write(why.to_string().into())?;
                connection.close();
                Ok(())
            }));
            Some(tape.protocol())
        }
    }
    let mut world = World::new();
    let options = ListenOptions {
        limits: Some(Limits::new(0, None)),
        ..ListenOptions::default()
    };
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let accept = Rc::new(Busy(Tapes::new()));
    let listener = world
        .network
        .listen(&at, options, accept)
        .unwrap()
        .remove(0);
    let Endpoint::Ip(address) = *listener.local_address() else {
        panic!()
    };
    let mut peer = TcpStream::connect(address).unwrap();
    let (received, _) = world.drain(&mut peer);
    assert_eq!(received, b"0 connections are open, which is the limit");
    drop(listener.stop());
}

#[test]
fn c_371_a_limit_per_peer_leaves_room_for_others() {
    let mut world = World::new();
    let accept = Tapes::new();
    let limits = Limits::new(100, Some(1));
    let options = ListenOptions {
        limits: Some(limits.clone()),
        ..ListenOptions::default()
    };
    let (_listener, address) = world.listen_with(&accept, options);
    let from = |ip: [u8; 4]| {
        use rustix::net::*;
        let kind = SocketType::STREAM;
        let fd = socket(AddressFamily::INET, kind, None).unwrap();
        bind(&fd, &std::net::SocketAddr::from((ip, 0))).unwrap();
        connect(&fd, &address).unwrap();
        TcpStream::from(fd)
    };
    let first = from([127, 0, 0, 2]);
    world.until("the first", || accept.len() == 1);
    let mut again = from([127, 0, 0, 2]);
    world.drain(&mut again).1.unwrap();
    assert_eq!(*accept.refusals.borrow(), [Refusal::PerPeer(1)]);
    let _other = from([127, 0, 0, 3]);
    world.until("another peer", || accept.len() == 2);
    drop(first);
    world.until("room", || limits.open_count() == 1);
    let _back = from([127, 0, 0, 2]);
    world.until("the first again", || accept.len() == 3);
}

#[test]
fn a_panic_in_accepted_costs_one_connection() {
    struct Fragile(Rc<Tapes>, std::cell::Cell<bool>);
    impl Accept for Fragile {
        fn accepted(&self, peer: &Peer) -> Option<Box<dyn Protocol>> {
            assert!(self.1.replace(true), "planted");
            self.0.accepted(peer)
        }
    }
    let mut world = World::new();
    let accept = Tapes::new();
    let fragile = Rc::new(Fragile(accept.clone(), std::cell::Cell::new(false)));
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let options = ListenOptions::default();
    let listener = world
        .network
        .listen(&at, options, fragile)
        .unwrap()
        .remove(0);
    let Endpoint::Ip(address) = *listener.local_address() else {
        panic!()
    };
    let mut first = TcpStream::connect(address).unwrap();
    world.drain(&mut first).1.unwrap();
    let _second = TcpStream::connect(address).unwrap();
    world.until("the second", || accept.len() == 1);
    drop(listener.stop());
}

#[test]
fn f_067_churn_leaves_nothing_behind() {
    let mut world = World::new();
    let accept = Tapes::new();
    let (_listener, address) = world.listen(&accept);
    for round in 0..300 {
        let mut peer = TcpStream::connect(address).unwrap();
        let _ = peer.write_all(b"hello");
        if round % 2 == 0 {
            reset(peer);
        }
        if round % 10 == 0 {
            world.turn(Duration::ZERO);
        }
    }
    world.until("the ends", || {
        accept.len() == 300 && accept.open_count() == 0
    });
    let handle = world.reactor.handle();
    assert_eq!(
        (handle.readers().len(), handle.pending_timers().len()),
        (1, 0)
    );
}

/// The rest runs in a process of its own, because a limit on descriptors is the process's.
#[test]
fn c_299_f_068_without_descriptors_waiting_peers_are_closed_without_spinning() {
    if std::env::var_os("MARLINE_TEST_FEW_DESCRIPTORS").is_some() {
        return without_descriptors();
    }
    let name = "transport::accepting::\
                c_299_f_068_without_descriptors_waiting_peers_are_closed_without_spinning";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1"])
        .env("MARLINE_TEST_FEW_DESCRIPTORS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

fn without_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mut world = World::new();
    let accept = Tapes::new();
    let (_listener, address) = world.listen(&accept);
    let mut old = TcpStream::connect(address).unwrap();
    world.until("the first", || accept.len() == 1);
    // Peers that are connected already and wait in the backlog.
    let mut peers: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: Some(4096),
    };
    setrlimit(Resource::Nofile, limit(64)).unwrap();
    let open = || std::fs::File::open("/dev/null").ok();
    let _all: Vec<std::fs::File> = std::iter::from_fn(open).collect();
    for peer in &mut peers {
        assert!(world.drain(peer).0.is_empty());
    }
    assert_eq!(accept.len(), 1, "accepted without a descriptor");
    setrlimit(Resource::Nofile, limit(67)).unwrap();
    let waiting = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    // Below the number of the reserved one nobody can even be closed: more wait, and the loop
    // sleeps between its tries.
    setrlimit(Resource::Nofile, limit(3)).unwrap();
    drop(peers);
    old.write_all(b"served").unwrap();
    let stats = world.reactor.handle().stats();
    let end = Instant::now() + Duration::from_millis(400);
    while Instant::now() < end {
        world.turn(Duration::from_millis(400));
    }
    let turns = world.reactor.handle().stats().turns - stats.turns;
    assert!(turns < 40, "{turns} turns in 400 ms");
    assert_eq!(
        accept.get(0).received_len(),
        6,
        "an existing connection was not served"
    );
    // With descriptors again it accepts again.
    setrlimit(Resource::Nofile, limit(4096)).unwrap();
    world.until("those who waited", || accept.len() == 1 + waiting.len());
    let mut late = TcpStream::connect(address).unwrap();
    world.until("the late one", || accept.len() == 2 + waiting.len());
    let last = accept.get(1 + waiting.len()).connection();
    last.write("welcome".into()).unwrap();
    last.close();
    late.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    world.until("its greeting", || {
        let mut buffer = [0; 64];
        while let Ok(bytes @ 1..) = late.read(&mut buffer) {
            got.extend_from_slice(&buffer[..bytes]);
        }
        got == b"welcome"
    });
}
