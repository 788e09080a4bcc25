//! Bodies in the daemon's memory budget: counted from their first byte to the drop of their
//! last event, paused while it is used up, refused when that lasts.
//!
//! The budget is filled and freed by the test, as other sources would.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::posting::gz;
use super::world::{Sink, World, post};

/// Lines, together half a MiB.
fn body() -> Vec<u8> {
    b"0123456789abcde\n".repeat(1 << 15)
}

#[test]
fn a_body_counts_from_its_first_byte_until_its_events_are_gone() {
    let mut world = World::http("");
    world.sink.mode.set(Sink::Hold);
    let (plain, packed) = (body(), gz(&body()));
    let gzip = "content-encoding: gzip\r\n";
    for request in [post(&plain, ""), post(&packed, gzip)] {
        let mut client = world.connect();
        let (first, rest) = request.split_at(request.len() - 100);
        client.send(&mut world, first);
        // A packed body gives its content with its last blocks.
        let under_way = if first.len() > 1 << 18 { 1 << 18 } else { 1 };
        world.until("the first bytes to count", |world| {
            world.memory.used_bytes() >= under_way
        });
        client.send(&mut world, rest);
        world.until("the events", |world| !world.sink.held.borrow().is_empty());
        assert_eq!(
            world.memory.used_bytes(),
            plain.len(),
            "exactly, once whole"
        );
        world.sink.release();
        assert_eq!(client.answer(&mut world).status, 200);
        assert_eq!(world.memory.used_bytes(), 0);
    }
    let mut client = world.connect();
    client.send(&mut world, &post(&plain, "")[..1 << 18]);
    world.until("the first bytes to count", |world| {
        world.memory.used_bytes() >= 1 << 17
    });
    drop(client);
    world.until("the end of what was cut off", |world| {
        world.memory.used_bytes() == 0
    });
    world.settled();
}

#[test]
fn while_the_memory_is_used_up_a_body_is_not_read_on() {
    let mut world = World::http("busy_timeout = \"20s\"");
    let limit = world.memory.limit_bytes();
    let request = post(&body().repeat(20), "");
    let mut client = world.connect();
    client.send(&mut world, &request[..1 << 18]);
    world.until("the first bytes to count", |world| {
        world.memory.used_bytes() >= 1 << 17
    });
    world.memory.add(limit);
    let before = world.memory.used_bytes();
    // More than the kernel's buffers take: the sender is held up.
    client.stream().set_nonblocking(true).unwrap();
    let mut sent = 1 << 18;
    for _ in 0..100 {
        if let Ok(bytes) = (&mut client.stream()).write(&request[sent..]) {
            sent += bytes;
        }
        world.turn();
    }
    assert!(sent < request.len(), "all of it was taken");
    let grown = world.memory.used_bytes() - before;
    assert!(grown <= 1 << 17, "{grown} bytes were read on");
    world.memory.sub(limit);
    client.send(&mut world, &request[sent..]);
    assert_eq!(client.answer(&mut world).status, 200);
    world.settled();
}

#[test]
fn memory_that_stays_used_up_refuses_the_body() {
    let mut world = World::http("busy_timeout = \"200ms\"");
    let limit = world.memory.limit_bytes();
    let request = post(&body(), "");
    let mut client = world.connect();
    client.send(&mut world, &request[..1 << 18]);
    world.until("the first bytes to count", |world| {
        world.memory.used_bytes() >= 1 << 17
    });
    world.memory.add(limit);
    client.send(&mut world, &request[1 << 18..(1 << 18) + 1000]);
    let answer = client.answer(&mut world);
    assert!(answer.status == 429 && answer.closes(), "{answer:?}");
    assert!(answer.has("retry-after: 1"), "{answer:?}");
    assert!(answer.body.contains("daemon.memory"), "{answer:?}");
    drop(client);
    world.until("what it held to be free", |world| {
        world.memory.used_bytes() == limit
    });
    world.memory.sub(limit);
    assert_eq!(world.post("probe").status, 200);
    assert_eq!(world.events(), ["probe"]);
    world.settled();
}

#[test]
fn a_document_that_is_fetched_counts_and_waits_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, may_go_on) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let document = body();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            document.len()
        );
        let (first, rest) = document.split_at(1 << 18);
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(first);
        let _ = may_go_on.recv();
        let _ = stream.write_all(rest);
        let _ = stream.read(&mut [0; 1]);
    });
    let options = format!("urls = [\"http://{address}/\"]\nevery = \"1s\"\ntimeout = \"20s\"");
    let mut world = World::new("http_poll", &options);
    world.until("the first bytes to count", |world| {
        world.memory.used_bytes() >= 1 << 18
    });
    let limit = world.memory.limit_bytes();
    world.memory.add(limit);
    go_on.send(()).unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.events(), [""; 0], "it was read on");
    world.memory.sub(limit);
    world.until("the document", |world| !world.events().is_empty());
    assert_eq!(world.memory.used_bytes(), 0);
}
