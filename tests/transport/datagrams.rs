//! Datagrams: sizes, senders, refusals, budgets.
//!
//! Over UDP on 127.0.0.1, where none is lost as long as the buffers hold, and over Unix
//! sockets, which hold the sender up instead.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use marline::deferred::Failure;
use marline::reactor::PollerKind;
use marline::transport::*;

use super::world::*;

#[derive(Default)]
struct Letters {
    all: RefCell<Vec<Datagram>>,
    refusals: RefCell<Vec<io::ErrorKind>>,
    turns: Cell<usize>,
    closed: RefCell<Option<String>>,
    fail: Cell<Option<&'static str>>,
}

struct Box_(Rc<Letters>);

impl Datagrams for Box_ {
    fn received(&mut self, _: &DatagramSocket, datagram: Datagram) -> Result<(), Failure> {
        self.0.all.borrow_mut().push(datagram);
        match self.0.fail.take() {
            Some("panic") => panic!("planted"),
            Some(text) => Err(Failure::msg(text)),
            None => Ok(()),
        }
    }
    fn turn_ends(&mut self, _: &DatagramSocket) {
        self.0.turns.set(self.0.turns.get() + 1);
    }
    fn refused(&mut self, _: &DatagramSocket, error: &io::Error) {
        self.0.refusals.borrow_mut().push(error.kind());
    }
    fn closed(self: Box<Self>, reason: &CloseReason) {
        *self.0.closed.borrow_mut() = Some(reason.name().to_string());
    }
}

fn bound(world: &mut World, max_bytes: usize) -> (Rc<Letters>, DatagramSocket, SocketAddr) {
    let letters = Rc::new(Letters::default());
    let options = DatagramOptions {
        max_bytes,
        ..DatagramOptions::default()
    };
    let at = "udp://127.0.0.1:0".parse().unwrap();
    let mut sockets = world
        .network
        .bind_datagrams(&at, &options, || Box::new(Box_(letters.clone())))
        .unwrap();
    let socket = sockets.remove(0);
    let Endpoint::Ip(address) = *socket.local_address() else {
        panic!()
    };
    let made = socket.clone();
    world.at_end(move || made.close());
    (letters, socket, address)
}

#[test]
fn c_417_three_datagrams_are_three_calls_with_their_senders_the_empty_one_too() {
    for poller in PollerKind::ALL {
        let mut world = World::on(poller);
        let (letters, _socket, address) = bound(&mut world, 65536);
        let peers = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        for (peer, text) in peers.iter().zip([&b"one"[..], b"", b"three"]) {
            peer.send_to(text, address).unwrap();
        }
        world.until("three", || letters.all.borrow().len() == 3);
        for (index, text) in [&b"one"[..], b"", b"three"].into_iter().enumerate() {
            let datagram = &letters.all.borrow()[index];
            assert_eq!(&datagram.bytes[..], text);
            assert_eq!(
                datagram.from.to_string(),
                peers[index].local_addr().unwrap().to_string()
            );
            assert!(!datagram.truncated);
        }
    }
}

/// Many come with one call, and each is what was sent, from whom, whatever lay in its slot before.
#[test]
fn datagrams_that_come_together_are_told_apart() {
    let mut world = World::on(PollerKind::ALL[0]);
    let (letters, _socket, address) = bound(&mut world, 65536);
    let peers = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let payload = |index: usize| vec![index as u8; index * 37 % 1400];
    for round in 0..5 {
        let sent = round * 60..(round + 1) * 60;
        for index in sent.clone() {
            let peer = &peers[index % peers.len()];
            peer.send_to(&payload(index), address).unwrap();
        }
        world.until("a round", || letters.all.borrow().len() == sent.end);
    }
    for (index, datagram) in letters.all.borrow().iter().enumerate() {
        assert!(datagram.bytes == payload(index), "datagram {index}");
        let from = peers[index % peers.len()].local_addr().unwrap();
        assert_eq!(datagram.from.to_string(), from.to_string());
        assert!(!datagram.truncated);
    }
}

#[test]
fn f_076_a_datagram_over_the_limit_is_cut_and_marked_and_the_largest_fits() {
    let mut world = World::new();
    let (letters, _socket, address) = bound(&mut world, 1000);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [999, 1000, 1001, 65_507] {
        peer.send_to(&pattern(len), address).unwrap();
    }
    world.until("four", || letters.all.borrow().len() == 4);
    let seen: Vec<(usize, bool)> = letters
        .all
        .borrow()
        .iter()
        .map(|it| (it.bytes.len(), it.truncated))
        .collect();
    assert_eq!(
        seen,
        [(999, false), (1000, false), (1000, true), (1000, true)]
    );
    let (letters, _socket, address) = bound(&mut world, DATAGRAM_BYTES_MAX);
    peer.send_to(&pattern(65_507), address).unwrap();
    world.until("the largest", || letters.all.borrow().len() == 1);
    assert!(letters.all.borrow()[0].bytes == pattern(65_507));
    assert!(!letters.all.borrow()[0].truncated);
}

#[test]
fn c_418_a_refused_dialled_socket_says_so_and_stays_usable() {
    let mut world = World::new();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    drop(receiver);
    let letters = Rc::new(Letters::default());
    let to: Address = format!("udp://{address}").parse().unwrap();
    let options = DatagramOptions::default();
    let dialled = world
        .network
        .dial_datagrams(&to, options, Box::new(Box_(letters.clone())));
    let socket = world.wait("the socket", dialled).unwrap();
    socket.send(b"nobody there", None).unwrap();
    world.until("the refusal", || letters.refusals.borrow().len() == 1);
    assert_eq!(
        letters.refusals.borrow()[0],
        io::ErrorKind::ConnectionRefused
    );
    // Somebody is there now.
    let receiver = UdpSocket::bind(address).unwrap();
    socket.send(b"hello", None).unwrap();
    let mut buffer = [0; 16];
    let (bytes, from) = receiver.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"hello");
    receiver.send_to(b"hello yourself", from).unwrap();
    world.until("the answer", || letters.all.borrow().len() == 1);
    socket.close();
}

#[test]
fn c_419_f_078_a_send_that_would_block_is_dropped_and_reported() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let stuck = UnixDatagram::bind(&path).unwrap();
    let letters = Rc::new(Letters::default());
    let to: Address = format!("unixgram://{}", path.display()).parse().unwrap();
    let options = DatagramOptions::default();
    let dialled = world
        .network
        .dial_datagrams(&to, options, Box::new(Box_(letters)));
    let socket = world.wait("the socket", dialled).unwrap();
    let mut sent = 0_u64;
    let error = loop {
        match socket.send(&sent.to_be_bytes(), None) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000_000);
    };
    assert_eq!(
        (error.kind(), socket.dropped_count()),
        (io::ErrorKind::WouldBlock, 1)
    );
    assert_eq!(
        world.reactor.handle().writers().len(),
        0,
        "something waits to be sent"
    );
    // The receiver gets those and no other, and there is room again.
    stuck.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8];
    for expected in 0..sent {
        stuck.recv(&mut buffer).unwrap();
        assert_eq!(u64::from_be_bytes(buffer), expected);
    }
    assert!(stuck.recv(&mut buffer).is_err());
    socket.send(b"again", None).unwrap();
    socket.close();
}

#[test]
fn a_handler_that_fails_or_panics_misses_one_datagram() {
    let mut world = World::new();
    let (letters, _socket, address) = bound(&mut world, 1000);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (index, how) in ["an error", "panic"].into_iter().enumerate() {
        letters.fail.set(Some(how));
        peer.send_to(b"bad", address).unwrap();
        peer.send_to(b"good", address).unwrap();
        world.until("both", || letters.all.borrow().len() == 2 * (index + 1));
    }
    assert!(letters.closed.borrow().is_none());
}

#[test]
fn datagrams_beyond_one_turns_budget_come_in_the_next() {
    let mut world = World::new();
    let (letters, socket, address) = bound(&mut world, 65536);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.pause();
    // Each needs room for the longest one: at most four large ones fit into a chunk.
    for _ in 0..3 {
        peer.send_to(&pattern(60_000), address).unwrap();
    }
    world.run_for(Duration::from_millis(20));
    assert_eq!(letters.all.borrow().len(), 0, "received while paused");
    socket.resume();
    world.until("all", || letters.all.borrow().len() == 3);
    assert!(
        letters
            .all
            .borrow()
            .iter()
            .all(|it| it.bytes == pattern(60_000))
    );
    for round in 0..50_u32 {
        for n in 0..40_u32 {
            peer.send_to(&(round * 40 + n).to_be_bytes(), address)
                .unwrap();
        }
        world.until("a round", || {
            letters.all.borrow().len() == 3 + (round as usize + 1) * 40
        });
    }
    let numbers = letters.all.borrow()[3..]
        .iter()
        .map(|it| u32::from_be_bytes(it.bytes[..].try_into().unwrap()))
        .collect::<Vec<_>>();
    assert_eq!(numbers, (0..2000).collect::<Vec<_>>());
    assert!(
        letters.turns.get() < 2000,
        "the end of a turn was told for each datagram"
    );
}

#[test]
fn a_reply_goes_to_the_sender_and_close_is_told_once() {
    let mut world = World::new();
    let (letters, socket, address) = bound(&mut world, 1000);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send_to(b"ping", address).unwrap();
    world.until("the ping", || letters.all.borrow().len() == 1);
    let from = letters.all.borrow()[0].from.clone();
    socket.send(b"pong", Some(&from)).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 4);
    socket.close();
    assert!(letters.closed.borrow().is_none(), "told from within close");
    socket.close();
    world.until("the end", || letters.closed.borrow().is_some());
    assert_eq!(letters.closed.borrow().as_deref(), Some("local"));
    assert!(socket.send(b"late", Some(&from)).is_err());
    assert!(UdpSocket::bind(address).is_ok(), "the port is still taken");
}

#[test]
fn unix_datagrams_arrive_whole() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let letters = Rc::new(Letters::default());
    let at: Address = format!("unixgram://{}", path.display()).parse().unwrap();
    let options = DatagramOptions::default();
    let make = || Box::new(Box_(letters.clone())) as Box<dyn Datagrams>;
    let socket = world
        .network
        .bind_datagrams(&at, &options, make)
        .unwrap()
        .remove(0);
    let peer = UnixDatagram::unbound().unwrap();
    peer.connect(&path).unwrap();
    peer.send(b"<13>hello").unwrap();
    peer.send(b"").unwrap();
    world.until("both", || letters.all.borrow().len() == 2);
    assert_eq!(&letters.all.borrow()[0].bytes[..], b"<13>hello");
    assert_eq!(letters.all.borrow()[1].from.to_string(), "unix");
    socket.close();
    world.until("the end", || letters.closed.borrow().is_some());
    assert!(!path.exists());
}
