//! More than the sinks take: who waits, what is dropped, and that every event is accounted for.
//!
//! The sums are those of the two ledgers after the stop, against what the client was answered and
//! what the collector got.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Daemon, config, fill, http, judged, sink, until, until_delivered};
use crate::crashes::collector::{Collector, Received};
use crate::crashes::judge::judge;
use crate::crashes::load::{Client, EVENTS};
use crate::faults::{check_memory, peak};

/// Two sources and two sinks, each pipeline to both, in the other order.
fn crossed(x: &Collector, y: &Collector) -> String {
    let source = |name| {
        format!(
            "[source.{name}]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
             busy_timeout = \"300ms\"\n"
        )
    };
    let sink = |name, to: &Collector| {
        format!(
            "[sink.{name}]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:{}\"\n\
             encode = \"raw\"\nretry.max_delay = \"1s\"\nbuffer.disk = \"8MiB\"\n",
            to.port()
        )
    };
    [
        source("a"),
        source("b"),
        "[pipeline.one]\nfrom = [\"a\"]\nto = [\"x\", \"y\"]\n".to_owned(),
        "[pipeline.two]\nfrom = [\"b\"]\nto = [\"y\", \"x\"]\n".to_owned(),
        sink("x", x),
        sink("y", y),
    ]
    .concat()
}

/// Where the second client's numbers begin.
const SECOND: u64 = 5_000_000_000;

#[test]
fn f_056_two_full_buffers_crosswise_hold_their_senders_up_and_lock_nobody_out() {
    let (x, y) = (Collector::new(), Collector::new());
    let daemon = Daemon::start(&crossed(&x, &y));
    let addresses = ["a", "b"].map(|name| daemon.address(&format!("source.{name}"), "http"));
    let mut clients = [Client::new(), Client::new()];
    clients[1].issued = SECOND;
    let both = |clients: &mut [Client; 2], post: &(dyn Fn(&mut Client, SocketAddr) + Sync)| {
        std::thread::scope(|scope| {
            for (client, address) in clients.iter_mut().zip(addresses) {
                scope.spawn(move || post(client, address));
            }
        });
    };
    both(&mut clients, &|client, address| fill(client, address));
    // One sink drains: the other still holds everybody up.
    x.listen();
    std::thread::sleep(Duration::from_millis(500));
    both(&mut clients, &|client, address| {
        assert_eq!(client.post(address).unwrap(), 429);
    });
    for collector in [&x, &y] {
        collector.pause_after_each_line(Duration::from_micros(50));
        collector.listen();
    }
    both(&mut clients, &|client, address| {
        until("room again", || client.post(address).unwrap() == 200);
        // Full and drained, full and drained.
        for _ in 0..30 {
            client.post(address).unwrap();
        }
    });
    for collector in [&x, &y] {
        for client in &clients {
            until_delivered(collector, client);
        }
    }
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    for (name, collector) in [("x", x), ("y", y)] {
        assert_eq!(ended.sink(name, "dropped"), 0);
        let received = collector.end();
        for (index, client) in clients.iter().enumerate() {
            let own = |number: &&u64| (**number >= SECOND) == (index == 1);
            let numbers = received.numbers.iter().filter(own).copied().collect();
            let strange = received.strange.clone();
            let verdict = judge(client, &Received { numbers, strange }).unwrap();
            assert_eq!(verdict.doubled, 0);
        }
    }
}

#[test]
fn f_057_what_drop_newest_drops_was_refused_and_is_counted_to_the_event() {
    let collector = Collector::new();
    // Half of what the client sends, or less.
    collector.pause_after_each_line(Duration::from_micros(300));
    collector.listen();
    let config = config(&collector) + "buffer.when_full = \"drop_newest\"\n";
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    let start = Instant::now();
    while client.refused < 20 || client.acked.len() < 40 {
        match client.post(address).unwrap() {
            200 => {}
            429 => std::thread::sleep(Duration::from_millis(20)),
            other => panic!("answered {other}"),
        }
        assert!(start.elapsed() < super::PATIENCE * 2, "{}", client.refused);
    }
    collector.pause_after_each_line(Duration::ZERO);
    until_delivered(&collector, &client);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    let acked = client.acked.len() as u64 * EVENTS;
    // Refused on the way in by the pipeline, or by the buffer that finds its disk full.
    let refused = [
        ended.pipeline("main", "dropped"),
        ended.sink("out", "dropped"),
    ];
    assert_eq!(refused[0] + refused[1], client.refused * EVENTS);
    assert_eq!(ended.sink("out", "accepted"), client.issued - refused[0]);
    assert_eq!(ended.sink("out", "delivered"), acked);
    println!("{acked} acknowledged, {} requests refused", client.refused);
    let received = collector.end();
    assert_eq!(
        received.numbers.len() as u64,
        acked,
        "what was refused never came"
    );
    assert_eq!(judge(&client, &received).unwrap().doubled, 0);
}

#[test]
fn f_057_what_drop_oldest_drops_is_counted_and_memory_stays_flat() {
    const LASTS: Duration = Duration::from_secs(6);
    let collector = Collector::new();
    let config = config(&collector) + "buffer.when_full = \"drop_oldest\"\n";
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    let before = peak(&daemon);
    let (start, mut half) = (Instant::now(), None);
    while start.elapsed() < LASTS || client.issued < 60 * EVENTS {
        assert_eq!(client.post(address).unwrap(), 200, "everything is taken");
        if start.elapsed() > LASTS / 2 {
            half.get_or_insert_with(|| peak(&daemon));
        }
    }
    check_memory(&daemon, before);
    let grown = peak(&daemon).saturating_sub(half.unwrap());
    assert!(grown < 8 << 20, "{grown} bytes more in the second half");
    let files = std::fs::read_dir(daemon.path("state/buffer/out")).unwrap();
    let used: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(used <= 8 << 20, "{used} bytes on disk");
    collector.listen();
    let last = client.issued - 1..client.issued;
    until("the last one came", || {
        collector.has_all(std::slice::from_ref(&last))
    });
    until("all settled", || sink(&daemon)["buffer"]["events"] == 0);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    let (dropped, delivered) = (ended.sink("out", "dropped"), ended.sink("out", "delivered"));
    assert_eq!(ended.sink("out", "accepted"), client.issued);
    assert_eq!(dropped + delivered, client.issued);
    println!(
        "{} bytes peak, {dropped} of {} dropped",
        half.unwrap(),
        client.issued
    );
    assert!(dropped > 0, "nothing was ever too much");
    let received = collector.end();
    assert_eq!(received.numbers.len() as u64, delivered);
    // Of those that were acknowledged only dropped ones are missing: the oldest.
    let oldest = received.numbers[0];
    client.acked.retain(|range| range.start >= oldest);
    assert_eq!(judge(&client, &received).unwrap().doubled, 0);
}

#[test]
fn f_057_lines_that_nobody_answers_are_dropped_and_counted() {
    const LINES: u64 = 40_000;
    let collector = Collector::new();
    let config = config(&collector)
        .replace("type = \"http\"", "type = \"socket\"")
        .replace("busy_timeout = \"300ms\"\n", "")
        + "buffer.when_full = \"drop_newest\"\n";
    let daemon = Daemon::start(&config);
    let mut sender = std::net::TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    for number in 0..LINES {
        let line = crate::crashes::load::line(number);
        std::io::Write::write_all(&mut sender, line.as_bytes()).unwrap();
    }
    until("all taken in", || {
        sink(&daemon)["ledger"]["accepted"] == LINES
    });
    collector.listen();
    until("all settled", || sink(&daemon)["buffer"]["events"] == 0);
    drop(sender);
    let ended = daemon.stop();
    let (dropped, delivered) = (ended.sink("out", "dropped"), ended.sink("out", "delivered"));
    println!("{dropped} of {LINES} lines dropped");
    assert!(dropped > 0, "nothing was ever too much");
    assert_eq!(dropped + delivered, LINES);
    let all = Client {
        issued: LINES,
        ..Client::new()
    };
    let verdict = judged(&ended, collector, &all);
    assert_eq!(verdict.doubled, 0);
}
