//! The end: what is under way is finished, what is gathered goes at once, what cannot go is
//! counted.
//!
//! Each stops the daemon by SIGTERM while the server is slow, silent or not asked yet.

use std::time::{Duration, Instant};

use super::double::{Double, Then, raw, status};
use super::{QUICK, Relay, config};

#[test]
fn a_request_under_way_is_finished_at_a_stop() {
    let double = Double::start(|_| {
        std::thread::sleep(Duration::from_millis(700));
        status(200)
    });
    let relay = Relay::start(&double, QUICK);
    let post = relay.begin("a\nb\n");
    double.wait_for(1);
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 2));
    assert_eq!(post.join().unwrap(), 200);
}

#[test]
fn what_is_gathered_does_not_wait_at_a_stop() {
    let double = Double::start(|_| status(200));
    let relay = Relay::start(&double, "batch.age = \"1h\"");
    let post = relay.begin("a\nb\n");
    std::thread::sleep(Duration::from_millis(100));
    assert!(double.asked().is_empty());
    let start = Instant::now();
    let ended = relay.daemon.stop();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 2));
    assert_eq!(post.join().unwrap(), 200);
}

#[test]
fn what_cannot_go_is_counted_and_not_acknowledged() {
    let double = Double::start(|_| raw("", Then::Hang));
    let text = config(&double, QUICK);
    let daemon = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nlog.level = \"debug\"\n\
                  stop_timeout = \"300ms\"\n";
    let relay = Relay::on(&format!("{daemon}{text}"));
    let post = relay.begin("a\nb\n");
    double.wait_for(1);
    let ended = relay.daemon.stop();
    // Its connection is closed, or the answer says that it failed.
    assert!(post.join().map_or(true, |status| status == 503));
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (1, 2));
    let last = ended
        .log
        .iter()
        .rfind(|it| it["event"] == "sink_counts")
        .unwrap();
    assert_eq!(last["dropped_by"], "shutdown=2");
}
