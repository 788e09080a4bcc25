//! Writing: order, the cap, water marks, marks and what the peer's kernel has.
//!
//! Send buffers are made small where a test needs the kernel to be full; sizes are chosen
//! beyond what the kernel's own buffers can hide.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use marline::reactor::PollerKind;
use marline::transport::*;

use super::world::*;

fn small_buffers() -> ConnectionOptions {
    ConnectionOptions {
        send_buffer_bytes: Some(16 * 1024),
        write_bytes_max: 1 << 20,
        ..ConnectionOptions::default()
    }
}

#[test]
fn c_307_many_small_writes_arrive_in_order_and_complete() {
    for poller in PollerKind::ALL {
        let mut world = World::on(poller);
        let (tape, mut peer) = world.pair_with(Tape::default(), small_buffers());
        let connection = tape.connection();
        let sent = pattern(300_000);
        let mut cut = sent.as_slice();
        let mut step = 1;
        while !cut.is_empty() {
            let (part, rest) = cut.split_at(step.min(cut.len()));
            connection.write(Bytes::copy_from_slice(part)).unwrap();
            (cut, step) = (rest, step % 97 + 1);
        }
        let end = connection.write(Bytes::new()).unwrap();
        assert_eq!(end, Mark(sent.len() as u64));
        connection.shutdown_write();
        let (received, _) = world.drain(&mut peer);
        assert!(received == sent);
        assert_eq!(connection.written(), end);
    }
}

#[test]
fn writes_of_one_turn_leave_in_one_vectored_write() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let parts = (0..100).map(|_| Bytes::from_static(b"0123456789"));
    tape.connection().write_vectored(parts).unwrap();
    assert_eq!(
        tape.connection().written(),
        Mark(0),
        "written before the turn's end"
    );
    world.until("the flush", || tape.connection().queued_bytes() == 0);
    // One segment: a single read of the peer gets all parts, with TCP_NODELAY on.
    let mut buffer = [0; 4096];
    assert_eq!(peer.read(&mut buffer).unwrap(), 1000);
}

#[test]
fn a_flush_that_is_asked_for_happens_at_once() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let mark = tape.connection().write("now".into()).unwrap();
    tape.connection().flush();
    assert_eq!(tape.connection().written(), mark);
    let mut buffer = [0; 3];
    peer.read_exact(&mut buffer).unwrap();
    world.turn(Duration::ZERO);
    assert!(!tape.is_closed());
}

#[test]
fn c_323_a_write_over_the_cap_is_refused_whole() {
    let mut world = World::new();
    let (tape, _peer) = world.pair_with(Tape::default(), small_buffers());
    let connection = tape.connection();
    let part = Bytes::from(vec![0; 100_000]);
    let refused = loop {
        if let Err(error) = connection.write(part.clone()) {
            break error;
        }
        world.turn(Duration::ZERO);
    };
    let WriteError::OverLimit {
        queued_bytes,
        bytes_max,
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(
        (queued_bytes, bytes_max),
        (connection.queued_bytes(), 1 << 20)
    );
    assert!(queued_bytes <= 1 << 20 && queued_bytes + part.len() > 1 << 20);
    let before = connection.queued_bytes();
    let vectored = connection.write_vectored([part.clone(), part]);
    assert!(matches!(vectored, Err(WriteError::OverLimit { .. })));
    assert_eq!(
        connection.queued_bytes(),
        before,
        "a part of a refused write was queued"
    );
    assert!(connection.write(Bytes::from_static(b"small")).is_ok());
}

#[test]
fn c_326_each_filling_is_followed_by_exactly_one_drained() {
    let mut world = World::new();
    let tape = Tape::default();
    let rounds = Rc::new(Cell::new(0));
    let seen = rounds.clone();
    *tape.on_drained.borrow_mut() = Some(Box::new(move |connection| {
        seen.set(seen.get() + 1);
        assert!(!connection.is_full());
        assert!(connection.queued_bytes() <= 128 * 1024);
        if seen.get() < 10 {
            connection.write(Bytes::from(vec![7; 1 << 20]))?;
            assert!(connection.is_full());
        }
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    tape.connection()
        .write(Bytes::from(vec![7; 1 << 20]))
        .unwrap();
    assert!(tape.connection().is_full());
    peer.set_nonblocking(true).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    world.until("ten rounds", || {
        received += peer.read(&mut buffer).unwrap_or(0);
        received == 10 << 20
    });
    world.run_for(Duration::from_millis(20));
    assert_eq!(rounds.get(), 10);
}

#[test]
fn c_274_write_interest_goes_with_the_queue() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair_with(Tape::default(), small_buffers());
    assert_eq!(world.reactor.handle().writers().len(), 0);
    tape.connection().write(vec![1; 1_000_000].into()).unwrap();
    world.turn(Duration::ZERO);
    assert_eq!(world.reactor.handle().writers().len(), 1);
    peer.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    world.until("an empty queue", || {
        let _ = peer.read(&mut buffer);
        tape.connection().queued_bytes() == 0
    });
    assert_eq!(world.reactor.handle().writers().len(), 0);
}

#[test]
fn c_336_a_proxy_stops_reading_while_its_other_side_is_full() {
    let mut world = World::new();
    let (to, mut to_peer) = world.pair();
    let (from, mut from_peer) = world.pair();
    let out = to.connection();
    *from.on_received.borrow_mut() = Some(Box::new(move |connection, bytes| {
        out.write(bytes.clone())?;
        if out.is_full() {
            connection.pause();
        }
        Ok(())
    }));
    let source = from.connection();
    *to.on_drained.borrow_mut() = Some(Box::new(move |_| {
        source.resume();
        Ok(())
    }));
    let source = from.connection();
    *to.on_closed.borrow_mut() = Some(Box::new(move || source.abort()));

    let sent = pattern(20 << 20);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || from_peer.write_all(&sent).map(|()| from_peer)
    });
    // Nobody reads: the proxy holds a bounded amount and the sender is held up.
    world.until("a pause", || from.connection().is_paused());
    world.run_for(Duration::from_millis(100));
    assert!(to.connection().queued_bytes() <= 512 * 1024 + CHUNK_BYTES);
    assert!(!writer.is_finished());
    // Somebody reads: everything comes through, in order.
    to_peer.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    world.until("all of it", || {
        while let Ok(bytes) = to_peer.read(&mut buffer) {
            received.extend_from_slice(&buffer[..bytes]);
        }
        received.len() == sent.len()
    });
    assert!(received == sent);
    let _from_peer = writer.join().unwrap().unwrap();
    // The loss of one side is told to the other.
    reset(to_peer);
    world.until("both ends", || from.is_closed());
    assert_eq!(
        (to.reason(), from.reason()),
        (Some("reset"), Some("aborted"))
    );
}

#[test]
fn f_081_a_paused_source_holds_its_sender_up_and_loses_nothing() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    tape.connection().pause();
    peer.set_nonblocking(true).unwrap();
    let part = pattern(1 << 16);
    let mut sent = 0;
    while let Ok(written) = peer.write(&part[sent % part.len()..]) {
        sent += written;
        assert!(sent < 64 << 20, "nothing holds the sender up");
    }
    tape.connection().resume();
    world.until("all of it", || tape.received_len() == sent);
    let received = tape.received.borrow();
    assert!(
        received
            .chunks(part.len())
            .all(|chunk| *chunk == part[..chunk.len()])
    );
}

#[test]
fn acked_says_what_the_peers_kernel_has_not_what_was_written() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let connection = tape.connection();
    let mark = connection.write(vec![5; 8 << 20].into()).unwrap();
    world.run_for(Duration::from_millis(50));
    let (acked, written) = (connection.acked(), connection.written());
    // The peer's kernel has a part of it; ours holds another; the rest waits in the queue.
    assert!(
        Mark(0) < acked && acked < written && written < mark,
        "{acked:?} {written:?}"
    );
    peer.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    world.until("everything acknowledged", || {
        while matches!(peer.read(&mut buffer), Ok(1..)) {}
        let now = connection.acked();
        assert!(now >= acked && now <= connection.written());
        now == mark
    });
}

#[test]
fn f_104_a_reset_leaves_acked_at_what_had_arrived() {
    let mut world = World::new();
    let (tape, peer) = world.pair();
    let connection = tape.connection();
    let mark = connection.write(vec![5; 8 << 20].into()).unwrap();
    world.run_for(Duration::from_millis(50));
    let known = connection.acked();
    let held = rustix::io::ioctl_fionread(&peer).unwrap();
    reset(peer);
    world.until("the loss", || tape.is_closed());
    assert_eq!(tape.reason(), Some("reset"));
    let after = connection.acked();
    assert!(
        known <= after && after < mark,
        "{known:?} {after:?} {mark:?}"
    );
    assert_eq!(after, Mark(held), "what the peer's kernel had");
}

#[test]
fn c_321_a_lost_connection_holds_neither_its_protocol_nor_timers() {
    let mut world = World::new();
    let options = ConnectionOptions {
        idle_timeout: Some(Duration::from_secs(60)),
        deadline: Some(Duration::from_secs(60)),
        ..ConnectionOptions::default()
    };
    let (tape, peer) = world.pair_with(Tape::default(), options);
    assert_eq!(world.reactor.handle().pending_timers().len(), 2);
    let connection = tape.connection();
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert_eq!(
        Rc::strong_count(&tape.0),
        1,
        "somebody still holds the protocol"
    );
    assert_eq!(world.reactor.handle().pending_timers().len(), 0);
    assert_eq!(connection.write("late".into()), Err(WriteError::Closed));
    connection.flush();
    connection.close();
    connection.abort();
    connection.shutdown_write();
    connection.set_idle_timeout(Some(Duration::from_millis(1)));
    connection.set_deadline(Some(Duration::from_millis(1)));
    assert_eq!(world.reactor.handle().pending_timers().len(), 0);
    world.run_for(Duration::from_millis(20));
    assert_eq!(tape.count("closed"), 1);
}
