//! Sockets that stay open while their owners change: promised, given, or not given after all.
//!
//! Peers are plain sockets; the owners are two views of one network.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use marline::transport::*;

use super::world::*;

fn listen(network: &Network, at: SocketAddr, accept: &Rc<Tapes>) -> Result<Listener, ListenError> {
    let mut listeners = network.listen(&tcp(at), ListenOptions::default(), accept.clone())?;
    Ok(listeners.remove(0))
}

/// A connection, and a moment for it to be accepted.
fn connect(world: &mut World, to: SocketAddr) -> TcpStream {
    let mut peer = TcpStream::connect(to).unwrap();
    peer.write_all(b"x").unwrap();
    world.run_for(Duration::from_millis(30));
    peer
}

#[test]
fn a_socket_is_the_old_owners_until_the_commit_and_then_the_new_ones() {
    let mut world = World::new();
    let (old, new) = (
        world.network.owned_by("source.a"),
        world.network.owned_by("source.b"),
    );
    let (first, second) = (Tapes::new(), Tapes::new());
    let at = SocketAddr::from(([127, 0, 0, 1], closed_port()));
    let mine = listen(&old, at, &first).unwrap();
    // Without a handover, or with another's, the port is in use.
    assert!(listen(&new, at, &second).is_err());
    old.begin_handover(["source.c".to_owned()]);
    assert!(listen(&new, at, &second).is_err());
    old.abort_handover();

    old.begin_handover(["source.a".to_owned()]);
    let next = listen(&new, at, &second).unwrap();
    let _one = connect(&mut world, at);
    assert_eq!((first.len(), second.len()), (1, 0));
    new.commit_handover();
    let _two = connect(&mut world, at);
    assert_eq!((first.len(), second.len()), (1, 1));
    // The old owner's handle means nothing now.
    mine.pause();
    world.wait("the stop", mine.stop()).unwrap();
    let _three = connect(&mut world, at);
    assert_eq!((first.len(), second.len()), (1, 2));
    world.wait("the stop", next.stop()).unwrap();
    assert!(TcpListener::bind(at).is_ok(), "it is closed");
}

#[test]
fn what_is_not_committed_leaves_everything_as_it_was() {
    let mut world = World::new();
    let (old, new) = (
        world.network.owned_by("source.a"),
        world.network.owned_by("source.b"),
    );
    let (first, second) = (Tapes::new(), Tapes::new());
    let [at, other] = [0; 2].map(|_| SocketAddr::from(([127, 0, 0, 1], closed_port())));
    let mine = listen(&old, at, &first).unwrap();
    mine.pause();
    old.begin_handover(["source.a".to_owned()]);
    let promised = listen(&new, at, &second).unwrap();
    let opened = listen(&new, other, &second).unwrap();
    new.abort_handover();
    // What was opened for nothing is closed, what was promised is not.
    assert!(TcpListener::bind(other).is_ok(), "it is closed");
    for listener in [promised, opened] {
        world.wait("the stop", listener.stop()).unwrap();
    }
    mine.resume();
    let _one = connect(&mut world, at);
    assert_eq!((first.len(), second.len()), (1, 0));
    world.wait("the stop", mine.stop()).unwrap();
}
