//! Requests that are broken, hostile or too large: what each is answered, that nothing of it
//! is taken, and that the next one is served.
//!
//! All by raw bytes: no client library would send them.

use std::net::Shutdown;
use std::time::Duration;

use super::posting::gz;
use super::world::{World, post};

/// Sends each head with the body `hello` behind it; all are answered so, nothing is taken.
fn check(status: &[u16], heads: &[&str]) {
    let mut world = World::http("");
    for head in heads {
        let request = format!("{head}\r\n\r\nhello");
        let answer = world.ask(request);
        assert!(status.contains(&answer.status), "{head:?}: {answer:?}");
        if answer.status != 405 {
            assert!(answer.closes(), "{head:?}: {answer:?}");
        }
        assert_eq!(world.events(), [""; 0], "{head:?}");
    }
    assert_eq!(world.post("probe").status, 200);
    assert_eq!(world.events(), ["probe"]);
    world.settled();
}

#[test]
fn f_091_broken_framing_is_refused() {
    const START: &str = "POST / HTTP/1.1\r\nHost: x";
    let fields = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 \0",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding : chunked",
        "X: a\r\n folded",
        "X: a\rb",
        "X: a\0b",
        "Host: y",
    ];
    let heads: Vec<String> = fields.iter().map(|f| format!("{START}\r\n{f}")).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    check(&[400], &heads);
    check(
        &[400],
        &[
            "POST / HTTP/1.1\r\nContent-Length: 5",
            "POST http://evil/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5",
            "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked",
            "GET /",
            "POST / HTTP/9.9\r\nHost: x",
            "\u{0}\u{1}\u{2}",
        ],
    );
}

#[test]
fn f_091_broken_chunks_are_refused() {
    let mut world = World::http("");
    for body in [
        "FFFFFFFFFFFFFFFFF\r\nx",
        "10000000000000000\r\nx",
        "-1\r\nx",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5;\r\r\nhello\r\n0\r\n\r\n",
        "G\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = world.ask(format!("{head}{body}"));
        assert!(
            answer.status == 400 && answer.closes(),
            "{body:?}: {answer:?}"
        );
        assert_eq!(world.events(), [""; 0], "{body:?}");
    }
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(100_000));
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(world.ask(format!("{head}{extension}")).status, 400);
    let trailers = format!("5\r\nhello\r\n0\r\nx: {}\r\n\r\n", "t".repeat(1 << 20));
    assert_eq!(world.ask(format!("{head}{trailers}")).status, 400);
    assert_eq!(world.post("probe").status, 200);
    world.settled();
}

#[test]
fn f_093_a_body_that_ends_early_gives_nothing() {
    let mut world = World::http("");
    let head = "POST / HTTP/1.1\r\nHost: x\r\n";
    for rest in [
        "Content-Length: 100\r\n\r\none\ntwo\n",
        "Transfer-Encoding: chunked\r\n\r\n8\r\none\ntwo\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n8\r\none\ntwo\n\r\n0\r\n",
    ] {
        for reset in [false, true] {
            let mut client = world.connect();
            client.send(&mut world, format!("{head}{rest}").as_bytes());
            world.run_for(Duration::from_millis(10));
            if reset {
                let socket = socket2::SockRef::from(client.stream());
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                world.run_for(Duration::from_millis(10));
            } else {
                client.stream().shutdown(Shutdown::Write).unwrap();
                assert_eq!(client.answer(&mut world).status, 400, "{rest:?}");
            }
            assert_eq!(world.events(), [""; 0], "{rest:?}");
        }
    }
    assert_eq!(world.post("probe").status, 200);
}

#[test]
fn heads_have_a_size() {
    let mut world = World::http("");
    let start = "POST / HTTP/1.1\r\nHost: x\r\n";
    let many = "a: b\r\n".repeat(10_000);
    let long = format!("a: {}\r\n", "b".repeat(1 << 20));
    for fields in [many, long] {
        let answer = world.ask(format!("{start}{fields}\r\n"));
        assert_eq!(answer.status, 431);
    }
    let line = format!("POST /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10));
    let answer = world.ask(line);
    assert!([414, 431].contains(&answer.status), "{answer:?}");
    assert_eq!(world.post("probe").status, 200);
}

#[test]
fn only_post_and_put_are_taken() {
    let mut world = World::http("");
    for method in ["GET", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = world.ask(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.has("allow: POST, PUT"), "{}", answer.head);
    }
    let mut client = world.connect();
    client.send(
        &mut world,
        b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let all = client.rest(&mut world);
    assert!(
        all.starts_with("HTTP/1.1 405 ") && all.ends_with("\r\n\r\n"),
        "{all:?}"
    );
}

#[test]
fn a_body_has_a_size() {
    let mut world = World::http("max_body = \"64KiB\"");
    assert_eq!(world.post(vec![b'x'; 64 << 10]).status, 200);
    let answer = world.post(vec![b'x'; (64 << 10) + 1]);
    assert!(answer.status == 413 && answer.closes(), "{answer:?}");
    // A body that never ends is cut off at the limit.
    let mut client = world.connect();
    client.send(
        &mut world,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
    for _ in 0..64 {
        client.send(&mut world, &chunk);
    }
    assert_eq!(client.answer(&mut world).status, 413);
    assert_eq!(world.events().len(), 1);
    world.settled();
}

#[test]
fn gzip_bombs_and_damage_are_refused() {
    let mut world = World::http("");
    let gzip = "content-encoding: gzip\r\n";
    let bomb = gz(&vec![0; 100 << 20]);
    assert_eq!(world.ask(post(&bomb, gzip)).status, 413);
    let twice = gz(&bomb);
    let answer = world.ask(post(&twice, "content-encoding: gzip, gzip\r\n"));
    assert!(answer.status == 415 && answer.has("accept-encoding: gzip"));
    let two_fields = "content-encoding: gzip\r\ncontent-encoding: gzip\r\n";
    assert_eq!(world.ask(post(&twice, two_fields)).status, 415);
    let whole = gz(b"one\ntwo\n");
    for end in 0..whole.len() {
        assert_eq!(world.ask(post(&whole[..end], gzip)).status, 400, "{end}");
    }
    let garbage = [whole.as_slice(), b"garbage"].concat();
    assert_eq!(world.ask(post(&garbage, gzip)).status, 400);
    assert_eq!(world.events(), [""; 0]);
    assert_eq!(world.ask(post(&whole, gzip)).status, 200);
    world.settled();
}

#[test]
fn too_many_bodies_at_once_are_told_to_come_again() {
    let mut world = World::http("");
    // Five bodies of 15 MiB without their last byte: one of them does not fit into 64 MiB.
    let request = post(&vec![b'x'; 15 << 20], "");
    let mut clients: Vec<_> = (0..5).map(|_| world.connect()).collect();
    for client in &mut clients {
        client.send(&mut world, &request[..request.len() - 1]);
    }
    world.run_for(Duration::from_millis(300));
    let mut statuses: Vec<u16> = Vec::new();
    for client in &mut clients {
        client.send(&mut world, b"x");
        statuses.push(client.answer(&mut world).status);
    }
    statuses.sort();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    world.settled();
}
