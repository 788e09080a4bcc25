//! What the answers of a server mean: again, slowly, in halves, never.
//!
//! The table is that of `src/sinks/http/verdict.rs`; here it is the whole daemon that keeps to
//! it, and the events are counted on the server's side.

use std::time::Duration;

use super::double::{Asked, Double, Then, raw, status, with};
use super::{QUICK, Relay, config, lines};

/// Answers these statuses one after the other, then 200.
fn first(statuses: &'static [u16]) -> Double {
    Double::start(move |asked| status(*statuses.get(asked.number).unwrap_or(&200)))
}

/// All of these requests are one request, made again.
fn check_same(asked: &[Asked]) {
    for again in asked {
        assert_eq!(again.body, asked[0].body);
        let key = again.field("idempotency-key").unwrap();
        assert_eq!(Some(key), asked[0].field("idempotency-key"));
        assert!(key.len() > 16, "{key}");
    }
}

#[test]
fn f_101_a_server_in_trouble_is_asked_again_until_it_takes_the_events() {
    const STATUSES: &[u16] = &[500, 502, 503, 504, 408, 425, 429, 599];
    let double = first(STATUSES);
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post("a\nb\n"), 200);
    let asked = double.asked();
    assert_eq!(asked.len(), STATUSES.len() + 1);
    check_same(&asked);
    assert_eq!(double.accepted(), ["a", "b"]);
    assert_eq!(relay.post("c\n"), 200);
    let keys = double.asked();
    let key = |asked: &Asked| asked.field("idempotency-key").unwrap().to_owned();
    assert_ne!(key(&keys[8]), key(&keys[9]), "another body has another key");
    let news = relay.daemon.records("post_failed");
    let warned = news.iter().filter(|record| record["level"] == "warn");
    assert!(warned.count() > 0, "{news:?}");
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 3));
    assert_eq!(ended.sink("out", "retries"), 8);
    let over = ended
        .log
        .iter()
        .filter(|it| it["event"] == "post_recovered");
    assert_eq!(over.count(), 1);
}

#[test]
fn f_101_a_wrong_path_or_token_is_no_fault_of_the_events() {
    const STATUSES: &[u16] = &[401, 403, 404, 301, 307, 405, 415];
    let double = first(STATUSES);
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post("a\nb\n"), 200);
    check_same(&double.asked());
    let record = relay.daemon.wait_for("post_failed");
    assert_eq!(record["level"], "error", "{record}");
    let message = record["message"].as_str().unwrap();
    assert!(
        message.contains("answered 401 Unauthorized; check `auth`"),
        "{message}"
    );
    let ended = relay.daemon.stop();
    let counts = ["delivered", "dropped", "dead_lettered"].map(|name| ended.sink("out", name));
    assert_eq!((ended.code(), counts), (0, [2, 0, 0]));
}

#[test]
fn a_matter_of_config_is_retried_slowly() {
    let double = Double::start(|asked| match asked.number {
        0 => with(404, "", "no such \x1b[31mindex\n"),
        _ => status(200),
    });
    let relay = Relay::start(&double, "retry.max_delay = \"3s\"");
    assert_eq!(relay.post("a"), 200);
    let asked = double.asked();
    let pause = asked[1].at - asked[0].at;
    assert!(pause >= Duration::from_millis(1500), "{pause:?}");
    let message = relay.daemon.wait_for("post_failed")["message"].clone();
    let message = message.as_str().unwrap();
    assert!(
        message.contains("(it says: no such [31mindex)"),
        "{message}"
    );
    assert_eq!(relay.daemon.stop().code(), 0);
}

#[test]
fn f_101_what_is_too_large_goes_in_halves_and_what_follows_is_smaller() {
    let double = Double::start(|asked| match asked.body.len() {
        ..50_000 => status(200),
        _ => status(413),
    });
    let relay = Relay::start(&double, QUICK);
    let text: String = (0..20_000)
        .map(|n| format!("line number {n:06}\n"))
        .collect();
    assert_eq!(relay.post(&text), 200);
    let expected: Vec<&str> = text.lines().collect();
    assert_eq!(double.accepted(), expected, "each once, in order");
    let before = double.asked().len();
    assert_eq!(relay.post(&text), 200);
    let refused = |asked: &&Asked| asked.answered == 413;
    assert_eq!(double.asked()[before..].iter().filter(refused).count(), 0);
    relay.daemon.wait_for("posts_smaller");
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 40_000);
}

#[test]
fn f_101_one_event_that_is_too_large_is_refused_alone() {
    let double = Double::start(|asked| match asked.text().contains("huge") {
        false => status(200),
        true => status(413),
    });
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post("a\nb\nhuge\nc\n"), 422);
    assert_eq!(double.accepted(), ["a", "b", "c"]);
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 3));
}

#[test]
fn f_101_an_interim_answer_is_read_over() {
    let double = Double::start(|_| {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n";
        let text = format!("{interim}HTTP/1.1 204 No Content\r\n\r\n");
        raw(&text, Then::Keep)
    });
    let relay = Relay::start(&double, QUICK);
    assert_eq!([relay.post("a"), relay.post("b")], [200, 200]);
    let asked = double.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].connection, 0, "and the connection is used again");
    assert_eq!(relay.daemon.stop().code(), 0);
}

#[test]
fn f_109_a_server_that_names_a_time_is_left_alone_until_then() {
    let double = Double::start(|asked| match asked.number {
        0 => with(429, "Retry-After: 1\r\n", ""),
        1 => with(503, "Retry-After: 1\r\n", ""),
        _ => status(200),
    });
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post("a"), 200);
    let at: Vec<_> = double.asked().iter().map(|asked| asked.at).collect();
    for pair in at.windows(2) {
        // Not before the time, and not all at the same one: the back-off comes on top.
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_millis(1010), "{pause:?}");
    }
    assert_eq!(relay.daemon.stop().code(), 0);
}

#[test]
fn f_059_only_the_poison_goes_to_the_dead_letters_and_the_rest_goes_on() {
    let double = Double::start(|asked| match asked.text().contains("poison") {
        false => status(200),
        true => with(400, "", "what is this"),
    });
    let letters = "[sink.letters]\ntype = \"file\"\npath = \"{folder}/letters\"\n";
    let config = config(&double, &format!("{QUICK}\n{letters}"));
    let relay = Relay::on(&config.replace("to = ", "errors_to = \"letters\"\nto = "));
    let mut text: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    text[0] = "poison 1".into();
    text[333] = "poison 2".into();
    assert_eq!(relay.post(&text.join("\n")), 200, "everything has a place");
    text.retain(|line| !line.contains("poison"));
    assert_eq!(double.accepted(), text, "each once, in order");
    let letters = std::fs::read_to_string(relay.daemon.path("letters")).unwrap();
    let letters: Vec<serde_json::Value> = letters
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (letter, original) in letters.iter().zip(["poison 1", "poison 2"]) {
        let reason = "answered 400 Bad Request: what is this";
        let expected = serde_json::json!({
            "reason": reason, "source": "in", "sink": "out", "original": original
        });
        assert_eq!(*letter, expected);
    }
    assert_eq!(letters.len(), 2);
    relay.daemon.wait_for("events_refused");
    let ended = relay.daemon.stop();
    let counts = ["delivered", "dead_lettered", "dropped"].map(|name| ended.sink("out", name));
    assert_eq!((ended.code(), counts), (0, [498, 2, 0]));
    assert_eq!(ended.sink("letters", "delivered"), 2);
}

#[test]
fn f_059_without_dead_letters_the_sender_is_told() {
    let double = Double::start(|asked| match asked.text().contains("poison") {
        false => status(200),
        true => with(400, "", "what is this"),
    });
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post("a\npoison\nb"), 422);
    assert_eq!(double.accepted(), ["a", "b"]);
    assert_eq!(relay.post("next"), 200);
    let ended = relay.daemon.stop();
    let requests = ended.log.iter().rfind(|it| it["event"] == "http_counts");
    let requests = requests.unwrap();
    assert_eq!(
        (requests["accepted"].as_u64(), requests["failed"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(ended.code(), 0);
    let counts = ["delivered", "dead_lettered", "dropped"].map(|name| ended.sink("out", name));
    assert_eq!(counts, [3, 0, 1]);
}

#[test]
fn f_059_finding_the_poison_costs_a_bounded_number_of_requests() {
    let double = Double::start(|_| status(422));
    let relay = Relay::start(&double, QUICK);
    assert_eq!(relay.post(&lines(1000)), 422);
    let requests = double.asked().len();
    assert!((2..=129).contains(&requests), "{requests} requests");
    let ended = relay.daemon.stop();
    let refused = ended.sink("out", "dropped") + ended.sink("out", "dead_lettered");
    assert_eq!((ended.code(), refused), (0, 1000));
}

#[test]
fn retries_are_given_up_when_the_config_says_so() {
    let double = Double::start(|asked| match asked.text() {
        "a\n" => status(503),
        _ => status(200),
    });
    let relay = Relay::start(&double, &format!("{QUICK}\nretry.give_up = \"200ms\""));
    assert_eq!(relay.post("a"), 422);
    assert!(double.asked().len() > 3, "it was tried for a while");
    assert_eq!(relay.post("b"), 200);
    let record = relay.daemon.wait_for("events_refused");
    let why = record["why"].as_str().unwrap();
    assert_eq!(why, "given up: answered 503 Service Unavailable");
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 1));
}
