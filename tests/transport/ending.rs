//! Closing, aborting, half-closing: what the peer sees and what we are told.
//!
//! The peer's side is the judge: which bytes it gets, and whether its stream ends cleanly or by
//! a reset.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::transport::*;

use super::world::*;

#[test]
fn c_308_what_was_written_before_close_arrives_then_a_clean_end() {
    let mut world = World::new();
    let tape = Tape::default();
    let sent = pattern(3 << 20);
    let reply = bytes::Bytes::from(sent.clone());
    *tape.on_received.borrow_mut() = Some(Box::new(move |connection, _| {
        connection.write(reply.clone())?;
        connection.close();
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    peer.write_all(b"go").unwrap();
    let (received, end) = world.drain(&mut peer);
    assert!(
        received == sent && end.is_ok(),
        "{} bytes, {end:?}",
        received.len()
    );
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("local"));
}

#[test]
fn what_was_written_before_close_arrives_although_the_peer_goes_on_sending() {
    let mut world = World::new();
    let tape = Tape::default();
    let sent = pattern(1 << 20);
    let reply = bytes::Bytes::from(sent.clone());
    *tape.on_received.borrow_mut() = Some(Box::new(move |connection, _| {
        connection.write(reply.clone())?;
        connection.close();
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    let mut writing = peer.try_clone().unwrap();
    writing.set_nonblocking(false).unwrap();
    let pouring = std::thread::spawn(move || {
        // Until the connection is gone; far more than was asked for.
        let part = vec![0; 1 << 16];
        (0..1000)
            .take_while(|_| writing.write_all(&part).is_ok())
            .count()
    });
    let mut received = Vec::new();
    let mut buffer = vec![0; 4096];
    let reading = std::thread::spawn(move || {
        while received.len() < (1 << 20) {
            match peer.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
            }
        }
        (received, peer)
    });
    world.until("the end", || tape.is_closed() && reading.is_finished());
    let (received, peer) = reading.join().unwrap();
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
    drop(peer);
    pouring.join().unwrap();
}

#[test]
fn c_309_after_close_nothing_more_is_taken() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let connection = tape.connection();
    connection.write("before".into()).unwrap();
    connection.close();
    assert_eq!(connection.write("after".into()), Err(WriteError::Closed));
    assert!(!connection.is_open());
    let (received, end) = world.drain(&mut peer);
    assert_eq!((&received[..], end.is_ok()), (&b"before"[..], true));
}

#[test]
fn after_close_nothing_more_is_delivered() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    peer.write_all(b"on its way").unwrap();
    tape.connection().close();
    world.run_for(Duration::from_millis(20));
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert_eq!((tape.received_len(), tape.count("eof")), (0, 0));
}

#[test]
fn c_311_a_clean_end_and_a_reset_are_told_apart() {
    let mut world = World::new();
    let (tape, peer) = world.pair();
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert!(matches!(*tape.closed.borrow(), Some(CloseReason::Eof)));
    let (tape, peer) = world.pair();
    reset(peer);
    world.until("the end", || tape.is_closed());
    match &*tape.closed.borrow() {
        Some(CloseReason::Reset(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    };
}

#[test]
fn c_312_abort_sends_nothing_more_and_resets_and_tells_later() {
    let mut world = World::new();
    let tape = Tape::default();
    let calls_inside = Rc::new(Cell::new(None));
    let (seen, inner) = (calls_inside.clone(), tape.clone());
    *tape.on_received.borrow_mut() = Some(Box::new(move |connection, _| {
        connection.write(vec![0; 1 << 20].into())?;
        connection.abort();
        seen.set(Some(inner.count("closed")));
        assert_eq!(connection.write("x".into()), Err(WriteError::Closed));
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    peer.write_all(b"x").unwrap();
    let (received, end) = world.drain(&mut peer);
    assert_eq!(calls_inside.get(), Some(0), "told from within abort");
    assert_eq!(received.len(), 0);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(matches!(*tape.closed.borrow(), Some(CloseReason::Aborted)));
}

#[test]
fn c_313_however_often_and_in_whatever_order_one_loss_is_told() {
    let orders: [&[fn(&Connection)]; 4] = [
        &[Connection::abort, Connection::abort],
        &[Connection::abort, Connection::close],
        &[Connection::close, Connection::abort],
        &[Connection::close, Connection::close, Connection::finish],
    ];
    let mut world = World::new();
    for (index, calls) in orders.into_iter().enumerate() {
        let (tape, peer) = world.pair();
        let connection = tape.connection();
        calls.iter().for_each(|call| call(&connection));
        drop(peer);
        world.until("the end", || tape.is_closed());
        world.run_for(Duration::from_millis(10));
        assert_eq!(tape.count("closed"), 1);
        let expected = if index < 3 { "aborted" } else { "local" };
        assert_eq!(tape.reason(), Some(expected), "order {index}");
    }
}

#[test]
fn c_318_close_gives_up_on_a_peer_that_never_reads() {
    let mut world = World::new();
    let options = ConnectionOptions {
        close_timeout: Duration::from_millis(200),
        ..ConnectionOptions::default()
    };
    let (tape, mut peer) = world.pair_with(Tape::default(), options);
    tape.connection().write(vec![0; 15 << 20].into()).unwrap();
    let began = Instant::now();
    tape.connection().close();
    world.until("the end", || tape.is_closed());
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert!(matches!(
        *tape.closed.borrow(),
        Some(CloseReason::TimedOut("close"))
    ));
    let (_, end) = world.drain(&mut peer);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn c_319_the_end_of_stream_goes_out_behind_the_queue_once() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let connection = tape.connection();
    let sent = pattern(2 << 20);
    connection.write(sent.clone().into()).unwrap();
    connection.shutdown_write();
    connection.shutdown_write();
    assert_eq!(connection.write("more".into()), Err(WriteError::Closed));
    let (received, end) = world.drain(&mut peer);
    assert!(received == sent && end.is_ok());
    connection.shutdown_write();
    // Reading goes on.
    peer.set_nonblocking(false).unwrap();
    peer.write_all(b"still there").unwrap();
    world.until("the answer", || tape.received_len() == 11);
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("eof"));
}

#[test]
fn c_322_a_new_connect_from_within_closed_is_not_touched_by_the_old_ones_end() {
    let mut world = World::new();
    let accept = Tapes::new();
    let (_listener, address) = world.listen(&accept);
    let first = Tape::default();
    let second = Tape::default();
    let (network, next) = (world.network.clone(), second.clone());
    *first.on_closed.borrow_mut() = Some(Box::new(move || {
        let dialled = network.connect(&tcp(address), ConnectOptions::default(), next.protocol());
        dialled.log_err("dialling");
    }));
    let dialled = world
        .network
        .connect(&tcp(address), ConnectOptions::default(), first.protocol());
    world.wait("the first", dialled).unwrap().abort();
    world.until("the second", || second.connection.borrow().is_some());
    second.connection().write("hello".into()).unwrap();
    world.until("both sides", || {
        accept.len() == 2 && accept.get(1).received_len() == 5
    });
    assert!(first.is_closed() && !second.is_closed());
}

#[test]
fn a_failure_in_connected_closes_the_accepted_connection() {
    let mut world = World::new();
    let tape = Tape::default();
    *tape.on_connected.borrow_mut() = Some(Box::new(|_| {
        Err(marline::deferred::Failure::msg("not today"))
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    let (received, _) = world.drain(&mut peer);
    assert!(received.is_empty());
    assert_eq!(*tape.calls.borrow(), ["connected", "closed"]);
    assert_eq!(tape.reason(), Some("handler"));
}

#[test]
fn a_reactor_that_shuts_down_tells_every_connection() {
    let mut world = World::new();
    let (tape, _peer) = world.pair();
    let handle = world.reactor.handle();
    handle.call_soon(|reactor| {
        reactor.stop(marline::reactor::Exit::Stopped);
    });
    world.reactor.run().unwrap();
    assert!(matches!(*tape.closed.borrow(), Some(CloseReason::Aborted)));
    assert_eq!(tape.count("closed"), 1);
}

#[test]
fn data_sent_before_a_write_failed_are_delivered_before_the_loss() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    peer.write_all(b"everything I had to say").unwrap();
    drop(peer);
    // The first write meets a closed socket and provokes a reset, the second one fails.
    tape.connection().write("anybody there?".into()).unwrap();
    tape.connection().flush();
    std::thread::sleep(Duration::from_millis(20));
    let _ = tape.connection().write("hello?".into());
    tape.connection().flush();
    world.until("the end", || tape.is_closed());
    assert_eq!(&tape.received.borrow()[..], b"everything I had to say");
}

/// F-013: the end of what a peer wrote may be held back by its kernel until the rest is
/// acknowledged, and comes a moment after the connection was found empty.
#[test]
fn f_013_a_drained_connection_waits_for_what_is_on_its_way() {
    let late_bytes_came = |_| {
        let mut world = World::new();
        let (tape, mut peer) = world.pair();
        peer.write_all(b"early ").unwrap();
        tape.connection().drain(Duration::from_secs(10));
        world.until("what was there", || tape.received_len() == 6);
        world.turn(Duration::ZERO);
        peer.write_all(b"late").unwrap();
        world.until("the end", || tape.is_closed());
        assert_eq!(tape.reason(), Some("local"));
        tape.received_len() == 10
    };
    // A machine that stands still for longer than the wait may miss it once, not each time.
    assert!((0..10).any(late_bytes_came));
}

#[test]
fn a_drain_ends_at_its_limit_although_the_peer_goes_on() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let pouring = std::thread::spawn(move || while peer.write_all(&[b'x'; 100]).is_ok() {});
    tape.connection().drain(Duration::from_millis(200));
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("local"));
    drop((tape, world));
    pouring.join().unwrap();
}
