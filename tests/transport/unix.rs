//! Unix sockets: paths taken over, paths removed, mode bits, passed descriptors.
//!
//! Every path lies in a directory of its own; abstract names carry the test's name.
//! Datagrams over Unix sockets are tested in `datagrams`.

use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use marline::transport::*;

use super::world::*;

fn at(path: &Path) -> Address {
    format!("unix://{}", path.display()).parse().unwrap()
}

fn listen(world: &World, path: &Path, mode: u32) -> Result<Listener, ListenError> {
    let options = ListenOptions {
        bind: BindOptions {
            mode,
            ..BindOptions::default()
        },
        ..ListenOptions::default()
    };
    let listeners = world.network.listen(&at(path), options, Tapes::new());
    listeners.map(|mut listeners| listeners.remove(0))
}

#[test]
fn c_421_the_mode_is_exact_and_the_path_goes_with_the_listener() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    for mode in [0o600, 0o660, 0o666, 0o622] {
        let listener = listen(&world, &path, mode).unwrap();
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{found:o} instead of {mode:o}");
        world.wait("the stop", listener.stop()).unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn c_422_f_077_only_a_dead_owners_path_is_taken_over() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    // The owner lives.
    let owner = UnixListener::bind(&path).unwrap();
    let error = listen(&world, &path, 0o600).unwrap_err();
    assert!(
        error.to_string().contains("another process listens there"),
        "{error}"
    );
    UnixStream::connect(&path).unwrap();
    // The owner is dead.
    drop(owner);
    assert!(path.exists());
    let listener = listen(&world, &path, 0o600).unwrap();
    UnixStream::connect(&path).unwrap();
    world.wait("the stop", listener.stop()).unwrap();
    // Something else is there, and stays.
    std::fs::write(&path, "precious").unwrap();
    let error = listen(&world, &path, 0o600).unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn c_422_a_dead_datagram_owners_path_is_taken_over_too() {
    struct Nothing;
    impl Datagrams for Nothing {
        fn received(
            &mut self,
            _: &DatagramSocket,
            _: Datagram,
        ) -> Result<(), marline::deferred::Failure> {
            Ok(())
        }
        fn closed(self: Box<Self>, _: &CloseReason) {}
    }
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let to: Address = format!("unixgram://{}", path.display()).parse().unwrap();
    let bind = || {
        let options = DatagramOptions::default();
        world
            .network
            .bind_datagrams(&to, &options, || Box::new(Nothing))
    };
    let owner = UnixDatagram::bind(&path).unwrap();
    assert!(bind().is_err());
    drop(owner);
    let bound = bind().unwrap();
    assert_eq!(bound.len(), 1);
    bound[0].close();
}

#[test]
fn a_path_that_somebody_else_put_there_since_is_not_removed() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    let listener = listen(&world, &path, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    world.wait("the stop", listener.stop()).unwrap();
    assert!(path.exists(), "the successor's socket was removed");
}

#[test]
fn f_077_missing_directories_and_missing_rights_say_what_to_do() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let error = listen(&world, &dir.path().join("no/x.sock"), 0o600).unwrap_err();
    assert!(
        error.to_string().contains("make the directory first"),
        "{error}"
    );
}

#[test]
fn f_077_descriptors_that_a_peer_passes_are_closed() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut world = World::new();
    let address: Address = "unix://@marline-test-passing".parse().unwrap();
    let accept = Tapes::new();
    let options = ListenOptions::default();
    let listeners = world
        .network
        .listen(&address, options, accept.clone())
        .unwrap();
    let tape = Tape::default();
    let dialled = world
        .network
        .connect(&address, ConnectOptions::default(), tape.protocol());
    world.wait("the connection", dialled).unwrap();

    let peer = {
        use rustix::net::*;
        let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let name = SocketAddrUnix::new_abstract_name(b"marline-test-passing").unwrap();
        connect(&fd, &name).unwrap();
        fd
    };
    // A pipe whose write end is passed: when every copy is closed, its read end says so.
    let (read_end, write_end) = rustix::pipe::pipe().unwrap();
    let passed = [write_end.as_fd(); 100];
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
    sendmsg(
        &peer,
        &[IoSlice::new(b"here")],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    drop(write_end);
    world.until("the bytes", || {
        accept.len() == 2 && accept.get(1).received_len() == 4
    });
    rustix::io::ioctl_fionbio(&read_end, true).unwrap();
    let mut byte = [0];
    assert_eq!(
        rustix::io::read(&read_end, &mut byte),
        Ok(0),
        "a passed descriptor is open"
    );
    drop(listeners[0].stop());
}

#[test]
fn the_acked_mark_of_a_unix_stream_is_everything_or_nothing_new() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    let accept = Tapes::new();
    let options = ListenOptions::default();
    let listeners = world
        .network
        .listen(&at(&path), options, accept.clone())
        .unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.write_all(b"?").unwrap();
    world.until("the question", || {
        accept.len() == 1 && accept.get(0).received_len() == 1
    });
    let connection = accept.get(0).connection();
    let mark = connection.write("answer".into()).unwrap();
    connection.flush();
    assert_eq!((connection.written(), connection.acked()), (mark, Mark(0)));
    let mut answer = [0; 6];
    std::io::Read::read_exact(&mut peer, &mut answer).unwrap();
    assert_eq!(connection.acked(), mark);
    assert_eq!(connection.peer().ip(), None);
    drop(listeners[0].stop());
}

/// A Unix peer that closes throws away what it has not read; to our end that looks like read.
#[test]
fn what_a_unix_peer_had_not_read_when_it_closed_is_not_acked() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.sock");
    let accept = Tapes::new();
    let options = ListenOptions::default();
    let listeners = world
        .network
        .listen(&at(&path), options, accept.clone())
        .unwrap();
    let peer = UnixStream::connect(&path).unwrap();
    world.until("the connection", || accept.len() == 1);
    let connection = accept.get(0).connection();
    let mark = connection.write("unread".into()).unwrap();
    connection.flush();
    assert_eq!(connection.written(), mark);
    drop(peer);
    // Asked before the loop has seen that the peer is gone, and after.
    assert_eq!(connection.acked(), Mark(0));
    world.until("the loss", || accept.get(0).is_closed());
    assert_eq!(accept.get(0).reason(), Some("reset"));
    assert_eq!(connection.acked(), Mark(0));
    drop(listeners[0].stop());
}
