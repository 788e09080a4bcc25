//! How requests are made: by size, by age, one at a time, with what fields and coding.
//!
//! Sizes are those of the bodies that the server got. Where it is about time, only what is too
//! early is a failure: how late something comes is up to the machine.

use std::io::Read;
use std::time::{Duration, Instant};

use super::double::{Asked, Double, status};
use super::{Relay, lines};

#[test]
fn requests_are_as_large_as_the_config_says_and_not_larger() {
    let double = Double::start(|_| status(200));
    let relay = Relay::start(&double, "batch.bytes = \"10KiB\"");
    let text = lines(20_000);
    assert_eq!(relay.post(&text), 200);
    assert_eq!(double.accepted(), text.lines().collect::<Vec<_>>());
    let sizes: Vec<usize> = double
        .asked()
        .iter()
        .map(|asked| asked.body.len())
        .collect();
    let (last, full) = sizes.split_last().unwrap();
    assert!(
        full.iter().all(|bytes| (10_200..=10_240).contains(bytes)),
        "{sizes:?}"
    );
    assert!(*last <= 10_240);
    let long = "x".repeat(50_000);
    assert_eq!(relay.post(&format!("{long}\nshort\n")), 200);
    let asked = double.asked();
    assert_eq!(asked[asked.len() - 2].body.len(), 50_001, "alone");
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 20_002);
}

#[test]
fn a_request_is_made_when_its_first_event_is_old_enough() {
    let double = Double::start(|_| status(200));
    let relay = Relay::start(&double, "batch.age = \"700ms\"");
    let start = Instant::now();
    let posts: Vec<_> = (0..5).map(|n| relay.begin(&n.to_string())).collect();
    for post in posts {
        assert_eq!(post.join().unwrap(), 200);
    }
    assert!(start.elapsed() >= Duration::from_millis(650));
    let asked = double.asked();
    assert!(
        asked.len() <= 2,
        "gathered, not one by one: {}",
        asked.len()
    );
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 5);
}

#[test]
fn senders_that_wait_for_room_do_not_wait_for_the_age_too() {
    let double = Double::start(|_| status(200));
    let options = "batch.age = \"1h\"\nbatch.bytes = \"64MiB\"\nbuffer.memory = \"128KiB\"";
    let relay = Relay::start(&double, options);
    let text = lines(10_000);
    let posts: Vec<_> = (0..8).map(|_| relay.begin(&text)).collect();
    double.wait_for(2);
    // What is left is too little for a request: it goes at the stop.
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 80_000));
    for post in posts {
        assert_eq!(post.join().unwrap(), 200);
    }
}

#[test]
fn one_request_is_under_way_at_a_time_and_a_connection_is_used_again() {
    let double = Double::start(|_| {
        std::thread::sleep(Duration::from_millis(3));
        status(200)
    });
    let relay = Relay::start(&double, "batch.bytes = \"1KiB\"");
    let posts: Vec<_> = (0..4).map(|_| relay.begin(&lines(500))).collect();
    for post in posts {
        assert_eq!(post.join().unwrap(), 200);
    }
    let asked = double.asked();
    assert!(asked.len() > 10);
    assert!(asked.iter().all(|asked| asked.connection == 0));
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 2000);
}

#[test]
fn a_request_says_what_is_in_it_and_who_asks() {
    let double = Double::start(|_| status(200));
    let options = "headers = { x-team = \"ops\", x-key = { file = \"key\" } }\n\
                   auth = { bearer = { file = \"token\" } }";
    let config = super::config(&double, options).replace("encode = \"raw\"\n", "");
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [("key", "k1"), ("token", "t0p-s3cr3t")] {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let place = |name: &str| format!("file = \"{}/{name}\"", folder.path().display());
    let config = config
        .replace("file = \"key\"", &place("key"))
        .replace("file = \"token\"", &place("token"));
    let relay = Relay::on(&config);
    assert_eq!(relay.post("hello"), 200);
    let asked: &Asked = &double.asked()[0];
    assert!(
        asked.head.starts_with("post /in http/1.1\r\n"),
        "{}",
        asked.head
    );
    let field = |name| asked.field(name).unwrap_or_default();
    assert_eq!(field("content-type"), "application/x-ndjson");
    assert_eq!(field("authorization"), "bearer t0p-s3cr3t");
    assert_eq!((field("x-team"), field("x-key")), ("ops", "k1"));
    assert_eq!(field("host"), double.address.to_string());
    let event: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(event["message"], "hello");
    let ended = relay.daemon.stop();
    let log = format!("{:?}", ended.log);
    assert!(
        !log.contains("t0p-s3cr3t") && !log.contains("k1"),
        "secrets are not shown"
    );
}

#[test]
fn a_body_may_go_as_gzip() {
    let double = Double::start(|_| status(200));
    let relay = Relay::start(&double, "compress = \"gzip\"");
    let text = lines(5000);
    assert_eq!(relay.post(&text), 200);
    let mut plain = String::new();
    for asked in double.asked() {
        assert_eq!(asked.field("content-encoding"), Some("gzip"));
        assert!(asked.body.len() < text.len() / 2);
        let mut decoder = flate2::read::GzDecoder::new(&asked.body[..]);
        decoder.read_to_string(&mut plain).unwrap();
    }
    assert_eq!(plain, text);
    assert_eq!(relay.daemon.stop().sink("out", "delivered"), 5000);
}
