//! Unit tests of the simulated network: what each promise of [`SimNet`] looks like from outside.
//!
//! No reactor: time passes by hand, and a socket is tried again until it answers.

#![allow(clippy::unwrap_used)]

use super::*;

struct World {
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
}

fn world(plan: FaultPlan) -> World {
    let (clock, io) = (VirtualClock::new(), SimIo::new());
    let net = SimNet::new(clock.clone(), io.clone(), plan, Random::new(5));
    World { net, io, clock }
}

fn at(text: &str) -> Endpoint {
    Endpoint::Ip(text.parse().unwrap())
}

impl World {
    fn pass(&self, span: Duration) {
        self.io.pass(&self.clock, self.clock.now() + span);
    }

    fn second(&self) {
        self.pass(Duration::from_secs(1));
    }

    fn listen(&self) -> SocketId {
        let options = BindOptions::default();
        self.net.listen(&at("127.0.0.1:7"), &options).unwrap()
    }

    /// Both ends of a new connection: who dialled, who accepted.
    fn connected(&self) -> (SocketId, SocketId) {
        let listener = self.listen();
        let dialled = self.net.connect(&at("127.0.0.1:7")).unwrap();
        self.second();
        assert!(self.net.connect_result(dialled).unwrap());
        let (accepted, from) = self.net.accept(listener).unwrap();
        assert_eq!(self.net.local(dialled).unwrap(), from);
        self.net.close(listener);
        (dialled, accepted)
    }

    fn write(&self, socket: SocketId, bytes: &[u8]) -> io::Result<usize> {
        self.net.writev(socket, &[IoSlice::new(bytes)])
    }

    fn read(&self, socket: SocketId) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        let count = self.net.read(socket, &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    fn read_error(&self, socket: SocketId) -> ErrorKind {
        self.read(socket).unwrap_err().kind()
    }
}

#[test]
fn bytes_take_their_time_and_are_unacknowledged_until_they_have_arrived() {
    let world = world(FaultPlan::quiet());
    let (client, server) = world.connected();
    assert_eq!(world.write(client, b"hello").unwrap(), 5);
    assert_eq!(world.read_error(server), ErrorKind::WouldBlock);
    assert_eq!(world.net.outq(client).unwrap(), 5);
    world.second();
    assert_eq!(world.net.outq(client).unwrap(), 0);
    assert_eq!(world.read(server).unwrap(), b"hello");
    assert_eq!(world.read_error(server), ErrorKind::WouldBlock);
}

#[test]
fn who_does_not_read_stops_who_writes_and_nothing_is_lost() {
    let world = world(FaultPlan::quiet());
    let (client, server) = world.connected();
    let mut written = 0;
    for _ in 0..100 {
        let piece = [written as u8; 1];
        written += world.write(client, &piece.repeat(4096)).unwrap_or(0);
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(written, link::SEND_BYTES_MAX + link::RECEIVE_BYTES_MAX);
    assert_eq!(world.net.outq(client).unwrap(), link::SEND_BYTES_MAX);
    let mut read = 0;
    while let Ok(bytes) = world.read(server) {
        read += bytes.len();
        world.second();
    }
    assert_eq!(read, written);
    assert_eq!(world.write(client, b"more").unwrap(), 4);
}

#[test]
fn an_end_of_stream_comes_after_the_bytes_and_the_other_way_stays_open() {
    let world = world(FaultPlan::quiet());
    let (client, server) = world.connected();
    world.write(client, b"last").unwrap();
    world.net.shutdown_write(client).unwrap();
    assert_eq!(world.net.outq(client).unwrap(), 5);
    world.second();
    assert_eq!(world.read(server).unwrap(), b"last");
    assert_eq!(world.read(server).unwrap(), b"");
    let error = world.write(client, b"late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(world.write(server, b"reply").unwrap(), 5);
    world.second();
    assert_eq!(world.read(client).unwrap(), b"reply");
}

#[test]
fn a_reset_destroys_what_has_not_arrived_and_comes_after_what_has() {
    let world = world(FaultPlan::quiet());
    let (client, server) = world.connected();
    world.write(client, b"there").unwrap();
    world.second();
    world.write(client, b"gone").unwrap();
    world.net.abort(client);
    world.second();
    assert_eq!(world.read(server).unwrap(), b"there");
    assert_eq!(world.read_error(server), ErrorKind::ConnectionReset);
    assert_eq!(world.read(server).unwrap(), b"");
    let error = world.write(server, b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_close_over_unread_bytes_and_bytes_to_a_closed_end_are_resets() {
    let world = world(FaultPlan::quiet());
    let (client, server) = world.connected();
    world.write(client, b"unread").unwrap();
    world.second();
    world.net.close(server);
    world.second();
    assert_eq!(world.read_error(client), ErrorKind::ConnectionReset);

    let (client, server) = world.connected();
    world.net.close(server);
    world.second();
    assert_eq!(world.read(client).unwrap(), b"");
    world.write(client, b"to nobody").unwrap();
    world.second();
    assert_eq!(world.net.outq(client).unwrap(), 9);
    assert_eq!(world.read_error(client), ErrorKind::ConnectionReset);
}

#[test]
fn a_dial_is_refused_where_nobody_listens_and_unanswered_dials_stay_open() {
    let quiet = world(FaultPlan::quiet());
    let dialled = quiet.net.connect(&at("127.0.0.1:7")).unwrap();
    assert!(!quiet.net.connect_result(dialled).unwrap());
    quiet.second();
    let error = quiet.net.connect_result(dialled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    let silent = world(FaultPlan::quiet().with(Fault::ConnectUnanswered, 1000));
    silent.listen();
    let dialled = silent.net.connect(&at("127.0.0.1:7")).unwrap();
    silent.pass(Duration::from_secs(100));
    assert!(!silent.net.connect_result(dialled).unwrap());
    assert_eq!(silent.net.fault_counts().of(Fault::ConnectUnanswered), 1);
}

#[test]
fn partial_reads_and_writes_lose_nothing() {
    let plan = FaultPlan::quiet()
        .with(Fault::PartialRead, 700)
        .with(Fault::PartialWrite, 700);
    let world = world(plan);
    let (client, server) = world.connected();
    let text: Vec<u8> = (0..2000).map(|n| n as u8).collect();
    let (mut written, mut read) = (0, Vec::new());
    for _ in 0..10_000 {
        written += world.write(client, &text[written..]).unwrap_or(0);
        world.pass(Duration::from_millis(5));
        read.extend(world.read(server).unwrap_or_default());
    }
    assert_eq!(read, text);
    let counts = world.net.fault_counts();
    assert!(counts.of(Fault::PartialRead) > 0 && counts.of(Fault::PartialWrite) > 0);
}

#[test]
fn a_stalled_connection_goes_on_with_everything() {
    let world = world(FaultPlan::quiet().with(Fault::Stall, 1000));
    let (client, server) = world.connected();
    world.write(client, b"late").unwrap();
    world.pass(Duration::from_millis(50));
    assert_eq!(world.read_error(server), ErrorKind::WouldBlock);
    world.net.plan_faults(FaultPlan::quiet());
    world.pass(Duration::from_secs(30));
    assert_eq!(world.read(server).unwrap(), b"late");
    assert!(world.net.fault_counts().of(Fault::Stall) > 0);
}

#[test]
fn accepting_fails_in_three_ways() {
    let check = |fault, expected: fn(&io::Error) -> bool| {
        let world = world(FaultPlan::quiet().with(fault, 1000));
        let listener = world.listen();
        let dialled = world.net.connect(&at("127.0.0.1:7")).unwrap();
        world.pass(Duration::from_millis(4));
        let error = world.net.accept(listener).unwrap_err();
        assert!(expected(&error), "{fault:?}: {error}");
        world.net.plan_faults(FaultPlan::quiet());
        world.pass(Duration::from_secs(3));
        let later = world.net.accept(listener).is_ok();
        assert_eq!(later, fault != Fault::AcceptAborted, "{fault:?}");
        let told = world.read_error(dialled);
        assert_eq!(
            told == ErrorKind::ConnectionReset,
            !later,
            "{fault:?}: {told}"
        );
    };
    check(Fault::AcceptDelayed, |e| e.kind() == ErrorKind::WouldBlock);
    check(Fault::AcceptAborted, |e| {
        e.kind() == ErrorKind::ConnectionAborted
    });
    check(Fault::AcceptRefused, |e| {
        e.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
    });
}

#[test]
fn a_unix_stream_is_acknowledged_when_it_was_read() {
    let world = world(FaultPlan::quiet());
    let path = Endpoint::Unix("/run/in.sock".into());
    let refused = world.net.connect(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let listener = world.net.listen(&path, &BindOptions::default()).unwrap();
    let client = world.net.connect(&path).unwrap();
    assert!(world.net.connect_result(client).unwrap());
    let (server, _) = world.net.accept(listener).unwrap();
    world.write(client, b"abc").unwrap();
    world.second();
    assert_eq!(world.net.outq(client).unwrap(), 3);
    assert_eq!(world.read(server).unwrap(), b"abc");
    assert_eq!(world.net.outq(client).unwrap(), 0);
}

#[test]
fn datagrams_are_whole_or_cut_and_marked_and_some_are_lost() {
    let world = world(FaultPlan::quiet().with(Fault::DatagramLost, 500));
    let bound = world.net.bind(&at("127.0.0.1:9"), &BindOptions::default());
    let (bound, to) = (bound.unwrap(), at("127.0.0.1:9"));
    let sender = world.net.dial(&to).unwrap();
    (0..100).for_each(|_| world.net.send(sender, b"datagram", None).unwrap());
    world.second();
    let mut buffer = [0; 4];
    let mut got = 0;
    while let Ok(received) = world.net.recv(bound, &mut buffer) {
        assert_eq!((received.bytes, received.truncated), (4, true));
        assert_eq!(received.from, world.net.local(sender).unwrap());
        got += 1;
    }
    assert_eq!(got + world.net.fault_counts().of(Fault::DatagramLost), 100);
    assert!((20..80).contains(&got), "{got}");
}

#[test]
fn datagrams_that_find_a_full_socket_are_dropped_and_counted() {
    let world = world(FaultPlan::quiet());
    let bound = world.net.bind(&at("127.0.0.1:9"), &BindOptions::default());
    let bound = bound.unwrap();
    let sender = world.net.dial(&at("127.0.0.1:9")).unwrap();
    (0..100).for_each(|_| world.net.send(sender, &[0; 1024], None).unwrap());
    world.second();
    let mut buffer = [0; 1024];
    let taken = std::iter::from_fn(|| world.net.recv(bound, &mut buffer).ok());
    let got = taken.count();
    assert_eq!(got * 1024, world.net.receive_buffer(bound).unwrap());
    assert_eq!(world.net.drops(bound).unwrap(), 100 - got as u32);
}

#[test]
fn a_datagram_to_nobody_comes_back_as_an_error_once() {
    let world = world(FaultPlan::quiet());
    let sender = world.net.dial(&at("127.0.0.1:9")).unwrap();
    world.net.send(sender, b"x", None).unwrap();
    world.second();
    let error = world.net.send(sender, b"x", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(world.net.send(sender, b"x", None).is_ok());
}

#[test]
fn a_closed_id_never_names_the_next_socket_and_a_taken_port_is_refused() {
    let world = world(FaultPlan::quiet());
    let first = world.listen();
    let again = world
        .net
        .listen(&at("127.0.0.1:7"), &BindOptions::default());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    world.net.close(first);
    let second = world.listen();
    assert_eq!(first.index, second.index);
    assert_eq!(
        world.net.local(first).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    world.net.close(first);
    assert!(world.net.local(second).is_ok());
    world.net.close(second);
    assert_eq!(world.net.open_sockets(), 0);
}

#[test]
fn a_name_is_looked_up_and_now_and_then_is_not_there() {
    let world = world(FaultPlan::quiet());
    world
        .net
        .names()
        .insert("here", vec![IpAddr::from([127, 0, 0, 1])]);
    let lookup = world.net.lookup();
    assert_eq!(lookup.lookup("here").unwrap().len(), 1);
    assert_eq!(
        lookup.lookup("gone").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    world
        .net
        .plan_faults(FaultPlan::quiet().with(Fault::LookupFailed, 1000));
    assert_eq!(
        lookup.lookup("here").unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(world.net.fault_counts().of(Fault::LookupFailed), 1);
}

/// A host that has written, and its peer; how it ends is up to the test.
fn host_and_peer(world: &World) -> (SimNet, SocketId, SocketId) {
    let listener = world.listen();
    let host = world.net.host();
    let dialled = host.connect(&at("127.0.0.1:7")).unwrap();
    world.second();
    let (accepted, _) = world.net.accept(listener).unwrap();
    world.net.close(listener);
    host.writev(dialled, &[IoSlice::new(b"last words")])
        .unwrap();
    (host, dialled, accepted)
}

#[test]
fn what_a_killed_host_has_written_arrives_and_then_the_end() {
    let world = world(FaultPlan::quiet());
    let (host, dialled, accepted) = host_and_peer(&world);
    host.kill_host();
    world.second();
    assert_eq!(world.read(accepted).unwrap(), b"last words");
    assert_eq!(world.read(accepted).unwrap(), b"");
    assert!(host.read(dialled, &mut [0]).is_err());
    let refused = host.connect(&at("127.0.0.1:7")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NetworkDown);
    world.net.close(accepted);
    assert_eq!(world.net.open_sockets(), 0);
}

#[test]
fn what_a_host_without_power_has_not_got_across_never_arrives() {
    let world = world(FaultPlan::quiet());
    let (host, _, accepted) = host_and_peer(&world);
    host.crash_host();
    world.second();
    let reset = world.read(accepted).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}
