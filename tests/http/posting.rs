//! The `http` source with requests that are in order: what becomes of their bodies, when they
//! are answered, and what happens at a stop.
//!
//! The sink is the test's own, so that the moment of delivery is.

use std::cell::Cell;
use std::io::Write as _;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::world::{Client, Sink, World, post};

pub fn gz(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_line_of_a_body_is_an_event() {
    let mut world = World::http("");
    let answer = world.post("one\n{\"a\":1}\r\n\nthree");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.has("content-length: 0") && !answer.closes());
    assert_eq!(world.events(), ["one", "{\"a\":1}", "three"]);
    let peer = world.sink.peers.borrow()[0].clone();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert_eq!(world.post("").status, 200);
    let put = "PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
               2;a=b\r\nfo\r\n0002\r\nur\r\nA\r\n\nfive\nsix\n\r\n0\r\nx: y\r\n\r\n";
    assert_eq!(world.ask(put).status, 200);
    assert_eq!(world.events()[3..], ["four", "five", "six"]);
    world.settled();
}

#[test]
fn f_097_many_requests_on_one_connection_are_answered_in_order() {
    let mut world = World::http("");
    let mut client = world.connect();
    for round in 0..50 {
        let wanted = if round % 2 == 0 { 200 } else { 405 };
        let request = match wanted {
            200 => post(format!("kept {round}").as_bytes(), ""),
            _ => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        };
        client.send(&mut world, &request);
        assert_eq!(client.answer(&mut world).status, wanted);
    }
    // A hundred at once, answered in order.
    let pipelined: Vec<u8> = (0..100)
        .flat_map(|n| match n % 10 {
            9 => b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            _ => post(format!("piped {n}").as_bytes(), ""),
        })
        .collect();
    client.send(&mut world, &pipelined);
    for n in 0..100 {
        let wanted = if n % 10 == 9 { 405 } else { 200 };
        assert_eq!(client.answer(&mut world).status, wanted, "{n}");
    }
    assert_eq!(world.events().len(), 25 + 90);
    assert!(!client.is_closed);
    world.settled();
}

#[test]
fn the_answer_waits_for_the_delivery() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let mut client = world.connect();
    client.send(&mut world, &post(b"slow", ""));
    world.until("the event", |world| world.events().len() == 1);
    assert!(client.hears_nothing(&mut world));
    world.sink.release();
    assert_eq!(client.answer(&mut world).status, 200);
    world.sink.mode.set(Sink::Drop);
    client.send(&mut world, &post(b"lost", ""));
    let answer = client.answer(&mut world);
    assert_eq!(answer.status, 503);
    assert!(answer.has("retry-after: 5"), "{}", answer.head);
    world.settled();
}

#[test]
fn an_end_of_stream_behind_the_request_does_not_cost_the_answer() {
    let mut world = World::http("");
    let mut client = world.connect();
    client.send(&mut world, &post(b"then nothing", ""));
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer(&mut world).status, 200);
    assert!(client.closes_silently(&mut world));
}

#[test]
fn f_092_a_client_that_is_gone_before_the_answer_loses_nothing() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let mut client = world.connect();
    client.send(&mut world, &post(b"taken", ""));
    world.until("the event", |world| world.events().len() == 1);
    let socket = socket2::SockRef::from(client.stream());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.run_for(Duration::from_millis(20));
    world.sink.release();
    world.run_for(Duration::from_millis(20));
    world.settled();
    world.sink.mode.set(Sink::Deliver);
    assert_eq!(world.post("next").status, 200);
}

#[test]
fn f_096_a_line_that_is_no_json_is_an_event_like_the_others() {
    let mut world = World::http("");
    for bad in [0, 500, 999] {
        let line = |n| {
            if n == bad {
                "{bad\n".into()
            } else {
                format!("{{\"n\":{n}}}\n")
            }
        };
        let body: String = (0..1000).map(line).collect();
        assert_eq!(world.post(body).status, 200);
        assert_eq!(world.events()[bad], "{bad");
        assert_eq!(world.sink.events.take().len(), 1000);
    }
}

#[test]
fn gzip_is_decoded() {
    let mut world = World::http("");
    let packed = [gz(b"one\n"), gz(b"two\n")].concat();
    let answer = world.ask(post(&packed, "content-encoding: gzip\r\n"));
    assert_eq!(answer.status, 200);
    assert_eq!(world.events(), ["one", "two"]);
}

#[test]
fn f_098_the_body_is_asked_for_once_it_may_come() {
    let mut world = World::http("max_body = \"1KiB\"");
    let mut client = world.connect();
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.send(&mut world, head.as_bytes());
    assert_eq!(client.answer(&mut world).status, 100);
    client.send(&mut world, b"ab");
    assert_eq!(client.answer(&mut world).status, 200);
    let large = head.replace("length: 2", "length: 2000");
    assert_eq!(world.ask(large).status, 413);
    let coded = head.replace("host: x", "host: x\r\ncontent-encoding: br");
    assert_eq!(world.ask(coded).status, 415);
}

#[test]
fn f_094_without_room_a_request_is_told_to_come_again() {
    let mut world = World::http("busy_timeout = \"100ms\"");
    world.sink.mode.set(Sink::Hold);
    // Two bodies of 8 MiB fill the source's window.
    let body = vec![b'x'; 8 << 20];
    let waiting: Vec<Client> = (0..2)
        .map(|n| {
            let mut client = world.connect();
            client.send(&mut world, &post(&body, ""));
            world.until("the large event", |world| world.events().len() > n);
            client
        })
        .collect();
    let mut client = world.connect();
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.send(&mut world, head.as_bytes());
    let answer = client.answer(&mut world);
    assert_eq!(answer.status, 429);
    assert!(answer.has("retry-after: 1"), "{}", answer.head);
    world.sink.mode.set(Sink::Deliver);
    world.sink.release();
    for mut client in waiting {
        assert_eq!(client.answer(&mut world).status, 200);
    }
    assert_eq!(world.post("again").status, 200);
    world.settled();
}

#[test]
fn room_that_comes_in_time_is_waited_for() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let mut first = world.connect();
    // Its events count beside its bytes, so this is more than the window.
    first.send(&mut world, &post(&b"x\n".repeat(950_000), ""));
    world.until("the first", |world| !world.events().is_empty());
    let mut second = world.connect();
    second.send(&mut world, &post(b"second", ""));
    assert!(second.hears_nothing(&mut world));
    world.sink.mode.set(Sink::Deliver);
    world.sink.release();
    assert_eq!(second.answer(&mut world).status, 200);
    assert_eq!(first.answer(&mut world).status, 200);
}

#[test]
fn f_022_a_stop_answers_what_is_in_progress_and_closes() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let mut waiting = world.connect();
    waiting.send(&mut world, &post(b"in progress", ""));
    world.until("the event", |world| world.events().len() == 1);
    let mut half = world.connect();
    half.send(
        &mut world,
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab",
    );
    let mut idle = world.connect();
    idle.send(&mut world, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(idle.answer(&mut world).status, 405);
    let mut fresh = world.connect();
    world.run_for(Duration::from_millis(20));

    let stopped = Rc::new(Cell::new(false));
    let told = Rc::clone(&stopped);
    let stopping = world.source().stop();
    drop(stopping.add_both(move |_| told.set(true)));
    assert!(idle.closes_silently(&mut world));
    // One that has said nothing yet may still ask, and hears that it is too late.
    fresh.send(&mut world, &post(b"too late", ""));
    let answer = fresh.answer(&mut world);
    assert_eq!(answer.status, 503);
    assert!(answer.closes() && answer.has("retry-after: 5"));
    half.send(&mut world, b"cd");
    world.until("the half one", |world| world.events().len() == 2);
    assert!(!stopped.get(), "requests are in progress");
    world.sink.release();
    for mut client in [waiting, half] {
        let answer = client.answer(&mut world);
        assert!(answer.status == 200 && answer.closes(), "{answer:?}");
        assert!(client.closes_silently(&mut world));
    }
    world.until("the end", |_| stopped.get());
    assert_eq!(world.events(), ["in progress", "abcd"]);
    world.settled();
}

#[test]
fn f_022_close_cuts_what_is_left() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let mut client = world.connect();
    client.send(&mut world, &post(b"stuck", ""));
    world.until("the event", |world| world.events().len() == 1);
    let stopped = Rc::new(Cell::new(false));
    let told = Rc::clone(&stopped);
    drop(world.source().stop().add_both(move |_| told.set(true)));
    world.run_for(Duration::from_millis(20));
    assert!(!stopped.get());
    world.source().close();
    assert!(client.closes_silently(&mut world));
    world.until("the end", |_| stopped.get());
    world.sink.release();
}
