//! A real network whose next accepts or connects fail as the test says, and what the
//! listeners and clients above make of it.
//!
//! Errors that no peer can be made to cause at will.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::reactor::{Pollable, PollerKind};
use marline::transport::*;
use rustix::io::Errno;

use super::client::client;
use super::world::{Tapes, World};

/// The errors that are still to come, and how often each call was made.
#[derive(Default)]
struct Plan {
    accept_fails: RefCell<VecDeque<Errno>>,
    accepts: Cell<usize>,
    connect_fails: RefCell<VecDeque<Errno>>,
}

struct Failing {
    net: SysNet,
    plan: Rc<Plan>,
}

fn next(errors: &RefCell<VecDeque<Errno>>) -> io::Result<()> {
    let next = errors.borrow_mut().pop_front();
    next.map_or(Ok(()), |error| Err(error.into()))
}

impl Net for Failing {
    fn accept(&self, listener: SocketId) -> io::Result<(SocketId, Endpoint)> {
        self.plan.accepts.set(self.plan.accepts.get() + 1);
        next(&self.plan.accept_fails)?;
        self.net.accept(listener)
    }
    fn connect(&self, to: &Endpoint) -> io::Result<SocketId> {
        next(&self.plan.connect_fails)?;
        self.net.connect(to)
    }
    fn listen(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId> {
        self.net.listen(at, options)
    }
    fn shed(&self, listener: SocketId) -> io::Result<bool> {
        self.net.shed(listener)
    }
    fn connect_result(&self, socket: SocketId) -> io::Result<bool> {
        self.net.connect_result(socket)
    }
    fn read(&self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        self.net.read(socket, into)
    }
    fn writev(&self, socket: SocketId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.writev(socket, slices)
    }
    fn shutdown_write(&self, socket: SocketId) -> io::Result<()> {
        self.net.shutdown_write(socket)
    }
    fn take_error(&self, socket: SocketId) -> io::Result<()> {
        self.net.take_error(socket)
    }
    fn outq(&self, socket: SocketId) -> io::Result<usize> {
        self.net.outq(socket)
    }
    fn peer_state(&self, socket: SocketId) -> io::Result<PeerState> {
        self.net.peer_state(socket)
    }
    fn bind(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId> {
        self.net.bind(at, options)
    }
    fn dial(&self, to: &Endpoint) -> io::Result<SocketId> {
        self.net.dial(to)
    }
    fn recv(&self, socket: SocketId, into: &mut [u8]) -> io::Result<Received> {
        self.net.recv(socket, into)
    }
    fn receive_buffer(&self, socket: SocketId) -> io::Result<usize> {
        self.net.receive_buffer(socket)
    }
    fn drops(&self, socket: SocketId) -> io::Result<u32> {
        self.net.drops(socket)
    }
    fn send(&self, socket: SocketId, payload: &[u8], to: Option<&Endpoint>) -> io::Result<()> {
        self.net.send(socket, payload, to)
    }
    fn set(&self, socket: SocketId, option: SocketOption) -> io::Result<()> {
        self.net.set(socket, option)
    }
    fn local(&self, socket: SocketId) -> io::Result<Endpoint> {
        self.net.local(socket)
    }
    fn close(&self, socket: SocketId) {
        self.net.close(socket);
    }
    fn abort(&self, socket: SocketId) {
        self.net.abort(socket);
    }
    fn pollable(&self, socket: SocketId) -> io::Result<Pollable> {
        self.net.pollable(socket)
    }
    fn adopt(&self, descriptor: OwnedFd) -> io::Result<(SocketId, SocketKind)> {
        self.net.adopt(descriptor)
    }
    fn lookup(&self) -> Arc<dyn Lookup> {
        self.net.lookup()
    }
}

fn world() -> (World, Rc<Plan>) {
    let plan = Rc::<Plan>::default();
    let net = Failing {
        net: SysNet::new().unwrap(),
        plan: Rc::clone(&plan),
    };
    let world = World::with(PollerKind::Epoll, net, NetworkOptions::default());
    (world, plan)
}

/// A listener with one open connection whose accepts fail with `error` so many times, and then
/// not; how often it was tried meanwhile. The open connection goes on all the time.
fn accepts_after(error: Errno, times: usize) -> usize {
    let (mut world, plan) = world();
    let accept = Tapes::new();
    let (_listener, address) = world.listen(&accept);
    let mut old = TcpStream::connect(address).unwrap();
    world.until("the first", || accept.len() == 1);
    plan.accept_fails.borrow_mut().extend(vec![error; times]);
    let before = plan.accepts.get();
    let _new = TcpStream::connect(address).unwrap();
    old.write_all(b"meanwhile").unwrap();
    let tape = accept.get(0);
    world.until("the old one's bytes", || tape.received_len() == 9);
    world.run_for(Duration::from_millis(300));
    let calls = plan.accepts.get() - before;
    plan.accept_fails.borrow_mut().clear();
    world.until("the new one", || accept.len() == 2);
    calls
}

#[test]
fn f_069_however_accept_fails_the_listener_goes_on_and_does_not_spin() {
    // Those of one connection cost that connection.
    let of_the_peer = [
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::PERM,
        Errno::HOSTUNREACH,
    ];
    for error in of_the_peer {
        assert!((4..=8).contains(&accepts_after(error, 3)), "{error:?}");
    }
    // The others make pauses of 10, 20, 40 ms and so on.
    for error in [Errno::NOBUFS, Errno::NOMEM, Errno::IO] {
        let calls = accepts_after(error, 1_000_000);
        assert!((2..=12).contains(&calls), "{error:?}: {calls} calls");
    }
}

#[test]
fn f_126_a_client_without_a_descriptor_tries_again_and_says_so() {
    let (mut world, plan) = world();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS];
    plan.connect_fails.borrow_mut().extend(errors);
    let (client, dials) = client(&world, address);
    client.start();
    world.until("the connection", || dials.prepared.get() == 1);
    let failures = dials.failures.borrow();
    assert_eq!(failures.len(), errors.len(), "{failures:?}");
    let named = |text: &String| text.contains(&address.to_string());
    assert!(failures.iter().all(named), "{failures:?}");
    assert!(failures[0].contains("open files"), "{failures:?}");
}
