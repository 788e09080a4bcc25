//! Exchanges that break: none is taken for an acknowledgement, and each is made again whole.
//!
//! The daemon must bring the same body with the same key on a new connection, and the sender of
//! the events must not have heard of it before.

use std::time::{Duration, Instant};

use super::double::{Double, Reply, Then, raw, status};
use super::{QUICK, Relay};

/// The first request gets `reply`; it must be made again, and not be acknowledged before.
fn check(what: &str, reply: impl Fn() -> Reply + Send + Sync + 'static) {
    let double = Double::start(move |asked| match asked.number {
        0 => reply(),
        _ => status(200),
    });
    let relay = Relay::start(&double, &format!("{QUICK}\ntimeout = \"500ms\""));
    assert_eq!(relay.post("one\ntwo\n"), 200, "{what}");
    let asked = double.asked();
    assert_eq!(asked.len(), 2, "{what}");
    assert_eq!(asked[0].body, asked[1].body, "{what}");
    let key = asked[0].field("idempotency-key");
    assert!(
        key.is_some() && key == asked[1].field("idempotency-key"),
        "{what}"
    );
    assert_eq!(asked[1].connection, 1, "{what}: on a new connection");
    let ended = relay.daemon.stop();
    assert_eq!(
        (ended.code(), ended.sink("out", "delivered")),
        (0, 2),
        "{what}"
    );
    assert_eq!(ended.sink("out", "retries"), 1, "{what}");
}

#[test]
fn f_102_a_request_that_timed_out_is_made_again_with_the_same_key() {
    check("silence", || raw("", Then::Hang));
}

#[test]
fn f_103_an_answer_that_is_cut_garbage_or_endless_is_no_acknowledgement() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for (what, text, then) in [
        ("no answer", "", Then::Close),
        ("a cut status line", "HTTP/1.1 20", Then::Close),
        ("a cut head", "HTTP/1.1 200 OK\r\nContent-Le", Then::Close),
        ("a cut body", &format!("{ok}abc"), Then::Close),
        (
            "a cut chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            Then::Close,
        ),
        ("a body that was reset", &format!("{ok}abc"), Then::Reset),
        ("a body that stands still", &format!("{ok}abc"), Then::Hang),
        (
            "a head that stands still",
            "HTTP/1.1 200 OK\r\n",
            Then::Hang,
        ),
        ("garbage", "\0\x01\x02 what is this\r\n\r\n", Then::Close),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", Then::Hang),
        ("no HTTP/1", "HTTP/3 200 OK\r\n\r\n", Then::Close),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            Then::Close,
        ),
        (
            "damaged gzip",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
            Then::Close,
        ),
        (
            "another protocol on demand",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            Then::Close,
        ),
    ] {
        let text = text.to_owned();
        check(what, move || raw(&text, then));
    }
}

#[test]
fn f_103_endless_answers_cost_a_bounded_amount() {
    let many = "x".repeat(60_000);
    for (what, text) in [
        ("an endless status line", many.clone()),
        (
            "endless header fields",
            format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(10_000)),
        ),
        ("an endless body", format!("HTTP/1.1 200 OK\r\n\r\n{many}")),
    ] {
        check(what, move || raw(&text, Then::Repeat));
    }
}

#[test]
fn f_103_a_connection_closed_while_idle_costs_no_pause() {
    // The server closes the connection when the second request arrives on it.
    let double = Double::start(|asked| match asked.number {
        1 => raw("", Then::Reset),
        _ => status(200),
    });
    let relay = Relay::start(&double, "retry.max_delay = \"1h\"");
    let start = Instant::now();
    assert_eq!([relay.post("a"), relay.post("b")], [200, 200]);
    assert!(start.elapsed() < Duration::from_secs(10));
    let asked = double.asked();
    let places: Vec<_> = asked
        .iter()
        .map(|it| (it.connection, it.on_connection))
        .collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(
        asked[1].field("idempotency-key"),
        asked[2].field("idempotency-key")
    );
    let ended = relay.daemon.stop();
    assert_eq!(
        (ended.sink("out", "delivered"), ended.sink("out", "retries")),
        (2, 0)
    );
}

#[test]
fn f_103_a_server_that_closes_after_each_answer_gets_each_request_once() {
    let double = Double::start(|_| {
        let text = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        raw(text, Then::Close)
    });
    let relay = Relay::start(&double, QUICK);
    for n in 0..20 {
        assert_eq!(relay.post(&n.to_string()), 200);
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(double.accepted(), expected);
    assert_eq!(relay.daemon.stop().sink("out", "retries"), 0);
}

#[test]
fn f_104_a_reset_in_the_middle_of_a_body_sends_the_whole_body_again() {
    let double = Double::with_early(
        |asked| (asked.number == 0).then(|| raw("", Then::Reset)),
        |_| status(200),
    );
    let relay = Relay::start(&double, QUICK);
    let text: String = (0..40_000)
        .map(|n| format!("a line with number {n}\n"))
        .collect();
    assert_eq!(relay.post(&text), 200);
    assert_eq!(double.accepted(), text.lines().collect::<Vec<_>>());
    let asked = double.asked();
    assert_eq!(
        asked[0].field("idempotency-key"),
        asked[1].field("idempotency-key")
    );
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 40_000);
}

#[test]
fn a_server_that_answers_and_closes_without_reading_is_heard() {
    // Its answer is followed by a reset, since the daemon is still writing.
    let double = Double::with_early(
        |asked| {
            let length: usize = asked.field("content-length").unwrap().parse().unwrap();
            let text = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
            (length > 100_000).then(|| raw(text, Then::Close))
        },
        |_| status(200),
    );
    let relay = Relay::start(&double, QUICK);
    let text: String = (0..40_000)
        .map(|n| format!("a line with number {n}\n"))
        .collect();
    assert_eq!(relay.post(&text), 200);
    assert_eq!(double.accepted(), text.lines().collect::<Vec<_>>());
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 40_000);
}

#[test]
fn a_refusal_counts_though_its_body_cannot_be_had() {
    let double = Double::start(|asked| match asked.number {
        0 => raw(
            "HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\nab",
            Then::Close,
        ),
        1 => raw("HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\nab", Then::Hang),
        _ => status(200),
    });
    let relay = Relay::start(&double, QUICK);
    relay.post("a");
    relay.post("b");
    assert_eq!(relay.post("c"), 200);
    assert_eq!(double.accepted(), ["c"]);
    assert_eq!(double.asked().len(), 3);
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 1);
}
