//! Lines from end to end, in order and whole; and what is said of those that are not.
//!
//! The daemon is real, its peers are threads of the test.

use std::io::Write;
use std::net::Shutdown;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::certificates::Keys;
use super::peers::{
    Client, Collector, Trickle, client_config, old_client_config, plain, server_config, session,
};
use crate::daemon::peers;
use crate::process::{Daemon, PATIENCE};

/// A source behind TLS with `more` in its option, and a sink for `to`.
fn relay(keys: &Keys, more: &str, to: &str) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tls://127.0.0.1:0\"]\nframing = \"lines\"\n\
         {}\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\n{to}\n",
        keys.option("server", more)
    )
}

fn to_plain(collector: &peers::Collector) -> String {
    format!("address = \"tcp://{}\"", collector.address)
}

fn events(lines: &[String]) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(parse).collect()
}

/// Both hops want to see each other's certificates.
#[test]
fn lines_go_from_end_to_end_whole_and_in_order() {
    let keys = Keys::new();
    for version in ["1.2", "1.3"] {
        let collector = Collector::start(server_config(&keys.server, Some(&keys.authority.pem())));
        let ca = keys.path("ca.pem");
        let own = keys.option("client", &format!(", ca = \"{ca}\""));
        let to = format!(
            "address = \"tls://{}\"\nencode = \"raw\"\n{own}",
            collector.address
        );
        let more = format!(", client_ca = \"{ca}\", minimum_version = \"{version}\"");
        let daemon = Daemon::start(&relay(&keys, &more, &to));
        let make = match version {
            "1.2" => old_client_config,
            _ => client_config,
        };
        let config = make(&keys.authority.pem(), Some(&keys.client));
        let mut client = Client::connect(daemon.address("source.in", "tls"), &config);
        let text: String = (0..50_000)
            .map(|number| format!("line {number} {}\n", "x".repeat(number % 300)))
            .collect();
        client.send(text.as_bytes());
        assert!(client.close(), "the daemon ends its stream in order");
        let lines = collector.lines(50_000);
        assert!(lines.iter().eq(text.lines()), "not what was sent");
        let ended = daemon.stop();
        assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 50_000));
        assert_eq!(
            collector.errors.lock().unwrap().len(),
            0,
            "close_notify came"
        );
    }
}

#[test]
fn a_byte_at_a_time_is_as_good_as_all_at_once() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let config = client_config(&keys.authority.pem(), None);
    let mut session = session(&config);
    let mut wire = Trickle(plain(daemon.address("source.in", "tls")));
    while session.is_handshaking() {
        session.complete_io(&mut wire).unwrap();
    }
    session.writer().write_all(b"slowly\nbut surely\n").unwrap();
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut wire).unwrap();
    }
    let found = events(&collector.lines(2));
    assert_eq!(
        (&found[0]["message"], &found[1]["message"]),
        (&"slowly".into(), &"but surely".into())
    );
    assert_eq!(daemon.stop().code(), 0);
}

/// F-088: the end of the stream without close_notify may be anybody's doing.
#[test]
fn f_088_a_stream_that_is_cut_keeps_its_whole_lines_and_marks_the_rest() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let to = daemon.address("source.in", "tls");
    let config = client_config(&keys.authority.pem(), None);
    let mut client = Client::connect(to, &config);
    client.send(b"one\ntwo\nthr");
    client.cut();
    let found = events(&collector.lines(3));
    assert_eq!(found[0]["message"], "one");
    assert_eq!(found[2]["message"], "thr");
    assert_eq!(found[2]["incomplete"], "the connection was reset");
    daemon.wait_until("the reason", |record| {
        let reason = record["reason"].as_str().unwrap_or_default();
        reason.contains("without close_notify")
    });
    // In the middle of a record: nothing of it is known.
    for cut in [1, 4, 5, 6, 20, 25] {
        let mut client = Client::connect(to, &config);
        client.send(b"whole\n");
        let session = &mut client.0.conn;
        session.writer().write_all(b"cut\n").unwrap();
        let mut record = Vec::new();
        session.write_tls(&mut record).unwrap();
        assert!(cut < record.len());
        client.0.sock.write_all(&record[..cut]).unwrap();
        client.cut();
        assert_eq!(
            events(&collector.lines(1))[0]["message"],
            "whole",
            "cut at {cut}"
        );
    }
    let ended = daemon.stop();
    assert_eq!(
        (
            ended.source("in", "events"),
            ended.source("in", "incomplete")
        ),
        (9, 1)
    );
    assert!(collector.rest().is_empty());
}

/// The last line needs no newline where the end of the stream was said.
#[test]
fn a_last_line_without_a_newline_is_whole_after_a_close_notify() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let config = client_config(&keys.authority.pem(), None);
    let mut client = Client::connect(daemon.address("source.in", "tls"), &config);
    client.send(b"no newline");
    assert!(client.close());
    let found = events(&collector.lines(1));
    assert_eq!(
        (&found[0]["message"], found[0].get("incomplete")),
        (&"no newline".into(), None)
    );
    assert_eq!(daemon.stop().code(), 0);
}

/// A client that only ever sends is sent nothing that it would have to read: closing with
/// something unread it would reset the connection, and its last lines with it.
#[test]
fn a_client_that_never_reads_loses_nothing_when_it_closes() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let config = client_config(&keys.authority.pem(), None);
    let to = daemon.address("source.in", "tls");
    // More than the daemon has read when the client closes.
    let text = format!("{}\n", "x".repeat(99)).repeat(40_000);
    for _ in 0..3 {
        let mut client = Client::connect(to, &config);
        client.send(text.as_bytes());
        client.0.conn.send_close_notify();
        client.0.flush().unwrap();
        drop(client);
        assert_eq!(collector.lines(40_000).len(), 40_000);
    }
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "incomplete"), 0);
}

/// TL-4: who shows no certificate, or one of another authority, brings nothing in.
#[test]
fn a_client_has_to_show_a_certificate_of_the_right_authority() {
    let (keys, others, collector) = (Keys::new(), Keys::new(), peers::Collector::start());
    let more = format!(", client_ca = \"{}\"", keys.path("ca.pem"));
    let daemon = Daemon::start(&relay(&keys, &more, &to_plain(&collector)));
    let to = daemon.address("source.in", "tls");
    let ca = keys.authority.pem();
    let refused = |identity| {
        let config = client_config(&ca, identity);
        let Ok(mut client) = Client::try_connect(to, &config) else {
            return;
        };
        let _ = client.0.write_all(b"let me in\n");
        let _ = client.0.flush();
        let _ = client.0.sock.shutdown(Shutdown::Write);
        let answer = std::io::Read::read(&mut client.0, &mut [0]);
        assert!(answer.is_err(), "the client hears of it");
    };
    let closed = |part: &str| {
        daemon.wait_until(part, |record| {
            let error = record["error"].as_str().unwrap_or_default();
            record["event"] == "handshake_failed" && error.contains(part)
        });
    };
    refused(None);
    closed("the client has no certificate, and tls.client_ca asks for one");
    refused(Some(&others.client));
    closed("set tls.client_ca to the file with the certificate of its authority");
    let many: Vec<String> = (0..500)
        .map(|n| format!("{n}.{}.example", "n".repeat(50)))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = keys.authority.sign(&many);
    let config = client_config(&ca, Some(&large));
    let mut client = Client::connect(to, &config);
    client.send(b"five hundred names\n");
    assert!(client.close());
    let found = events(&collector.lines(1));
    assert_eq!(found[0]["message"], "five hundred names");
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "events"), 1);
}

#[test]
fn a_certificate_that_is_optional_is_still_looked_at() {
    let (keys, others, collector) = (Keys::new(), Keys::new(), peers::Collector::start());
    let ca = keys.path("ca.pem");
    let more = format!(", client_ca = \"{ca}\", client_auth = \"optional\"");
    let daemon = Daemon::start(&relay(&keys, &more, &to_plain(&collector)));
    let to = daemon.address("source.in", "tls");
    for identity in [None, Some(&keys.client)] {
        let config = client_config(&keys.authority.pem(), identity);
        let mut client = Client::connect(to, &config);
        client.send(b"welcome\n");
        assert!(client.close());
        collector.lines(1);
    }
    let config = client_config(&keys.authority.pem(), Some(&others.client));
    if let Ok(mut client) = Client::try_connect(to, &config) {
        let _ = client.0.write_all(b"not welcome\n");
        assert!(std::io::Read::read(&mut client.0, &mut [0]).is_err());
    }
    assert_eq!(daemon.stop().source("in", "events"), 2);
}

/// What a stop finds in a connection is taken, and the connection ended in order.
#[test]
fn a_stop_takes_what_has_arrived_and_says_close_notify() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let config = client_config(&keys.authority.pem(), None);
    let mut client = Client::connect(daemon.address("source.in", "tls"), &config);
    client.send(b"before the stop\n");
    let half_open = plain(daemon.address("source.in", "tls"));
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert!(
        ended.took < PATIENCE / 3,
        "a handshake that never ends holds nothing up"
    );
    drop(half_open);
    let end = std::io::Read::read(&mut client.0, &mut [0]);
    assert_eq!(end.unwrap(), 0, "a close_notify, not a cut");
    assert_eq!(events(&collector.lines(1))[0]["message"], "before the stop");
}

/// Starts, stops in the middle of a handshake, and says how many events came behind its end.
fn stop_in_a_handshake() -> u64 {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&relay(&keys, "", &to_plain(&collector)));
    let config = client_config(&keys.authority.pem(), None);
    let mut wire = plain(daemon.address("source.in", "tls"));
    let mut session = session(&config);
    session.write_tls(&mut wire).unwrap();
    while session.is_handshaking() {
        session.read_tls(&mut wire).unwrap();
        session.process_new_packets().unwrap();
    }
    session.writer().write_all(b"right behind it\n").unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("stopping");
    while session.wants_write() {
        session.write_tls(&mut wire).unwrap();
    }
    let ended = daemon.wait();
    assert_eq!(ended.code(), 0);
    let count = ended.source("in", "events");
    assert_eq!(collector.rest().len() as u64, count);
    count
}

/// For a client of TLS 1.3 the handshake is complete with what it sends last, and its lines come
/// right behind it: a stop waits for that as it waits for what is on its way on others. On a busy
/// machine the client may be later than that; not every time.
#[test]
fn a_stop_takes_what_comes_behind_the_end_of_a_handshake() {
    assert!((0..5).any(|_| stop_in_a_handshake() == 1));
}
