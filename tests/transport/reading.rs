//! Reading: budgets, pausing, the order of data and loss, half-closed peers, time limits.
//!
//! Where the poller could make a difference the test runs on each; how a poller reports is
//! shown in the reactor's own tests.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use marline::reactor::PollerKind;
use marline::transport::*;

use super::world::*;

#[test]
fn c_268_a_megabyte_that_waits_is_read_without_another_packet() {
    for poller in PollerKind::ALL {
        let mut world = World::on(poller);
        let (tape, mut peer) = world.pair();
        tape.connection().pause();
        let sent = pattern(1 << 20);
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || peer.write_all(&sent).map(|()| peer)
        });
        world.run_for(Duration::from_millis(30));
        assert_eq!(tape.received_len(), 0);
        tape.connection().resume();
        world.until("all of it", || tape.received_len() == sent.len());
        assert!(*tape.received.borrow() == sent);
        drop(writer.join().unwrap().unwrap());
    }
}

#[test]
fn f_071_one_turn_reads_one_budget_of_a_connection_and_serves_the_others() {
    let mut world = World::new();
    let (fast, mut fast_peer) = world.pair();
    let (slow, mut slow_peer) = world.pair();
    fast.connection().pause();
    fast_peer.set_nonblocking(true).unwrap();
    // As much as the kernel takes, which is more than a budget.
    let mut waiting = 0;
    let bytes = pattern(1 << 16);
    while let Ok(written) = fast_peer.write(&bytes) {
        waiting += written;
    }
    assert!(
        waiting > 2 * CHUNK_BYTES,
        "the kernel took only {waiting} bytes"
    );
    fast.connection().resume();
    slow_peer.write_all(b"x").unwrap();
    let mut turns = 0;
    while slow.received_len() == 0 {
        world.turn(Duration::from_millis(100));
        turns += 1;
    }
    assert!(turns <= 3, "the slow one waited for {turns} turns");
    assert!(fast.received_len() <= turns * CHUNK_BYTES);
    assert!(fast.largest.get() <= CHUNK_BYTES);
    world.until("the rest", || fast.received_len() == waiting);
}

#[test]
fn c_271_what_arrived_while_paused_comes_at_resume() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    tape.connection().pause();
    peer.write_all(b"while paused").unwrap();
    world.run_for(Duration::from_millis(30));
    assert_eq!(tape.received_len(), 0);
    tape.connection().resume();
    world.until("the data", || tape.received_len() == 12);
}

#[test]
fn c_272_data_that_came_with_the_end_are_delivered_before_the_loss() {
    for poller in PollerKind::ALL {
        let mut world = World::on(poller);
        let (tape, mut peer) = world.pair();
        peer.write_all(b"last words").unwrap();
        drop(peer);
        world.until("the end", || tape.is_closed());
        assert_eq!(&tape.received.borrow()[..], b"last words");
        assert_eq!(
            *tape.calls.borrow(),
            ["connected", "received", "eof", "closed"]
        );
    }
}

#[test]
fn c_273_a_reset_is_noticed_while_reading_is_paused() {
    // select(2) cannot tell: it knows no hang-ups.
    for poller in [PollerKind::Epoll, PollerKind::Poll] {
        let mut world = World::on(poller);
        let (tape, peer) = world.pair();
        tape.connection().pause();
        world.turn(Duration::ZERO);
        reset(peer);
        world.until("the loss", || tape.is_closed());
        assert_eq!(tape.reason(), Some("reset"));
    }
}

#[test]
fn f_081_a_reset_behind_unread_data_and_an_end_of_stream_is_noticed_while_paused() {
    // select(2) cannot tell: it knows no hang-ups.
    for poller in [PollerKind::Epoll, PollerKind::Poll] {
        let mut world = World::on(poller);
        let (tape, mut peer) = world.pair();
        world.run_for(Duration::from_millis(20));
        tape.connection().pause();
        peer.write_all(b"unread").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        world.run_for(Duration::from_millis(20));
        assert!(!tape.is_closed(), "{poller}: an end of stream is no reset");
        reset(peer);
        world.until("the loss", || tape.is_closed());
        assert_eq!(tape.reason(), Some("reset"), "{poller}");
    }
}

#[test]
fn an_end_of_stream_while_paused_waits_for_resume() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    tape.connection().pause();
    peer.write_all(b"kept").unwrap();
    drop(peer);
    world.run_for(Duration::from_millis(50));
    assert!(!tape.is_closed());
    tape.connection().resume();
    world.until("the end", || tape.is_closed());
    assert_eq!(
        (&tape.received.borrow()[..], tape.reason()),
        (&b"kept"[..], Some("eof"))
    );
}

#[test]
fn c_333_paused_reading_delivers_nothing_then_everything_in_order() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    // Pauses itself after every call, from within.
    *tape.on_received.borrow_mut() = Some(Box::new(|connection, _| {
        connection.pause();
        Ok(())
    }));
    let sent = pattern(1 << 20);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || peer.write_all(&sent).map(|()| peer)
    });
    while tape.received_len() < sent.len() {
        let before = tape.count("received");
        tape.connection().resume();
        world.until("one delivery", || tape.count("received") > before);
        world.run_for(Duration::from_millis(3));
        assert_eq!(tape.count("received"), before + 1, "delivered while paused");
    }
    assert!(*tape.received.borrow() == sent);
    drop(writer.join().unwrap().unwrap());
}

#[test]
fn c_334_resume_while_closing_or_after_the_loss_is_nothing() {
    let mut world = World::new();
    let (tape, peer) = world.pair();
    let connection = tape.connection();
    connection.pause();
    connection.close();
    connection.resume();
    connection.pause();
    drop(peer);
    world.until("the end", || tape.is_closed());
    connection.resume();
    connection.pause();
    world.run_for(Duration::from_millis(20));
    assert_eq!((tape.count("received"), tape.count("closed")), (0, 1));
}

#[test]
fn c_314_a_handler_that_fails_closes_its_own_connection_with_that_reason() {
    let mut world = World::new();
    let (bad, mut bad_peer) = world.pair();
    let (good, mut good_peer) = world.pair();
    *bad.on_received.borrow_mut() = Some(Box::new(|_, _| {
        Err(marline::deferred::Failure::msg("not a number"))
    }));
    bad_peer.write_all(b"x").unwrap();
    world.until("the end", || bad.is_closed());
    assert_eq!(bad.reason(), Some("handler"));
    assert!(
        bad.closed_text
            .borrow()
            .as_ref()
            .unwrap()
            .contains("not a number")
    );
    good_peer.write_all(b"y").unwrap();
    world.until("the other one", || good.received_len() == 1);
}

#[test]
fn a_handler_that_panics_is_told_of_its_end_and_nobody_else_is_hurt() {
    let mut world = World::new();
    let (bad, mut bad_peer) = world.pair();
    let (good, mut good_peer) = world.pair();
    *bad.on_drained.borrow_mut() = Some(Box::new(|_| panic!("planted")));
    *bad.on_received.borrow_mut() = Some(Box::new(|connection, _| {
        let _ = connection.write(vec![0; 600_000].into());
        Ok(())
    }));
    // The panic comes from a notification here, not from a dispatch.
    bad_peer.write_all(b"x").unwrap();
    let (bytes, _) = world.drain(&mut bad_peer);
    assert_eq!(bytes.len(), 600_000);
    world.until("the end", || bad.is_closed());
    assert_eq!(bad.reason(), Some("handler"));
    good_peer.write_all(b"y").unwrap();
    world.until("the other one", || good.received_len() == 1);
}

#[test]
fn c_316_a_reply_that_is_made_after_the_peers_end_is_delivered() {
    let mut world = World::new();
    let reactor = world.reactor.handle();
    let tape = Tape::default();
    *tape.on_received.borrow_mut() = Some(Box::new(move |connection, _| {
        let hold = connection.hold();
        let _ = reactor.call_later(Duration::from_millis(100), move |_| {
            let written = hold.connection().write("the reply".into());
            assert!(written.is_ok());
        });
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    peer.write_all(b"the request").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let (reply, end) = world.drain(&mut peer);
    assert_eq!((&reply[..], end.is_ok()), (&b"the reply"[..], true));
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("eof"));
}

#[test]
fn c_317_eight_megabytes_are_flushed_to_a_peer_that_has_ended_its_side() {
    let mut world = World::new();
    let tape = Tape::default();
    let sent = pattern(8_000_000);
    let reply = bytes::Bytes::from(sent.clone());
    *tape.on_received.borrow_mut() = Some(Box::new(move |connection, _| {
        connection.write(reply.clone())?;
        Ok(())
    }));
    let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
    peer.write_all(b"?").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let (received, end) = world.drain(&mut peer);
    assert!(
        received == sent && end.is_ok(),
        "{} bytes, {end:?}",
        received.len()
    );
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("eof"));
}

#[test]
fn f_063_an_end_of_stream_after_every_byte_count_delivers_exactly_those_bytes() {
    let mut world = World::new();
    let text = b"<13>one\n<13>two\n";
    for cut in 0..=text.len() {
        let (tape, mut peer) = world.pair();
        peer.write_all(&text[..cut]).unwrap();
        drop(peer);
        world.until("the end", || tape.is_closed());
        assert_eq!(
            (&tape.received.borrow()[..], tape.reason()),
            (&text[..cut], Some("eof"))
        );
    }
}

#[test]
fn f_064_a_reset_after_every_byte_count_ends_one_connection_also_while_it_writes() {
    let mut world = World::new();
    let text = b"<13>one\n<13>two\n";
    for cut in 0..=text.len() {
        let tape = Tape::default();
        *tape.on_received.borrow_mut() = Some(Box::new(|connection, bytes| {
            connection.write(bytes.clone())?;
            Ok(())
        }));
        let (tape, mut peer) = world.pair_with(tape, ConnectionOptions::default());
        peer.write_all(&text[..cut]).unwrap();
        if cut % 2 == 0 {
            world.turn(Duration::ZERO);
        }
        reset(peer);
        world.until("the end", || tape.is_closed());
        assert_eq!(tape.reason(), Some("reset"), "after {cut} bytes");
        assert_eq!(tape.count("closed"), 1);
    }
    assert!(world.reactor.handle().readers().is_empty());
}

#[test]
fn c_363_c_367_silence_closes_once_and_leaves_no_timer() {
    let mut world = World::new();
    let options = ConnectionOptions {
        idle_timeout: Some(Duration::from_millis(60)),
        ..ConnectionOptions::default()
    };
    let (tape, mut peer) = world.pair_with(Tape::default(), options.clone());
    let (_, end) = world.drain(&mut peer);
    assert!(end.is_ok());
    world.until("the end", || tape.is_closed());
    assert!(matches!(
        *tape.closed.borrow(),
        Some(CloseReason::TimedOut("idle"))
    ));
    // One that ends for another reason takes its timer along.
    let (tape, peer) = world.pair_with(Tape::default(), options);
    assert_eq!(world.reactor.handle().pending_timers().len(), 1);
    drop(peer);
    world.until("the end", || tape.is_closed());
    assert_eq!(world.reactor.handle().pending_timers().len(), 0);
}

#[test]
fn c_364_data_move_the_idle_limit() {
    let mut world = World::new();
    let options = ConnectionOptions {
        idle_timeout: Some(Duration::from_millis(200)),
        ..ConnectionOptions::default()
    };
    let (tape, mut peer) = world.pair_with(Tape::default(), options);
    for _ in 0..6 {
        world.run_for(Duration::from_millis(80));
        assert!(!tape.is_closed(), "closed although data came");
        peer.write_all(b".").unwrap();
    }
    world.until("the end", || tape.is_closed());
    assert_eq!(tape.reason(), Some("timeout"));
}

#[test]
fn c_366_a_new_idle_limit_replaces_the_old_one() {
    let mut world = World::new();
    let (tape, _peer) = world.pair();
    let connection = tape.connection();
    connection.set_idle_timeout(Some(Duration::from_secs(30)));
    connection.set_idle_timeout(Some(Duration::from_millis(50)));
    assert_eq!(world.reactor.handle().pending_timers().len(), 1);
    world.until("the end", || tape.is_closed());
    assert_eq!(world.reactor.handle().pending_timers().len(), 0);
    // And one that is taken back does nothing.
    let (tape, _peer) = world.pair();
    tape.connection()
        .set_idle_timeout(Some(Duration::from_millis(30)));
    tape.connection().set_idle_timeout(None);
    world.run_for(Duration::from_millis(80));
    assert!(!tape.is_closed());
}

#[test]
fn the_idle_limit_does_not_run_while_we_do_not_read() {
    let mut world = World::new();
    let (tape, mut peer) = world.pair();
    let connection = tape.connection();
    connection.set_idle_timeout(Some(Duration::from_millis(50)));
    connection.pause();
    peer.write_all(b"held up by us").unwrap();
    world.run_for(Duration::from_millis(150));
    assert!(!tape.is_closed(), "a peer was blamed for our own pause");
    connection.resume();
    world.until("the idle limit", || tape.is_closed());
    assert_eq!(tape.received_len(), 13);
}

#[test]
fn c_368_a_total_limit_closes_a_peer_that_drips() {
    let mut world = World::new();
    let options = ConnectionOptions {
        idle_timeout: Some(Duration::from_millis(120)),
        deadline: Some(Duration::from_millis(250)),
        ..ConnectionOptions::default()
    };
    let (tape, mut peer) = world.pair_with(Tape::default(), options);
    for _ in 0..20 {
        let _ = peer.write_all(b".");
        world.run_for(Duration::from_millis(40));
        if tape.is_closed() {
            break;
        }
    }
    assert!(matches!(
        *tape.closed.borrow(),
        Some(CloseReason::TimedOut("total"))
    ));
    assert!(tape.received_len() >= 3);
}
