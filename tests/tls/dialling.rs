//! Servers that are not who they should be: they are sent nothing, and the log says what is
//! wrong with them.
//!
//! Each is a collector that could read what it is sent, and counts it.

use std::net::TcpListener;

use rcgen::CertificateParams;

use super::certificates::{HERE, Keys, Pair, expired, for_clients, not_yet_valid};
use super::peers::{Collector, server_config};
use crate::daemon::peers::send;
use crate::process::Daemon;

/// A plain source, and a sink for `address` with `options`.
fn dial(address: &str, options: &str) -> Daemon {
    Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"{address}\"\nencode = \"raw\"\n\
         retry.max_delay = \"1s\"\n{options}\n"
    ))
}

/// Stops a daemon that could not deliver, without waiting for it to.
fn give_up(daemon: Daemon) {
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for("stopping");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.sink("out", "delivered"), 0);
}

/// The sink cannot connect for a reason with `part` in it, and says so once.
fn refuses(daemon: Daemon, part: &str) {
    send(daemon.tcp_address("source.in"), b"a secret\n");
    let is_it = |record: &serde_json::Value| {
        record["event"] == "connect_failed" && record["level"] == "warn"
    };
    let record = daemon.wait_until("connect_failed", is_it);
    let message = record["message"].as_str().unwrap();
    assert!(message.contains(part), "{message}");
    daemon.wait_until("another attempt", |record| {
        record["event"] == "connect_failed" && record["level"] == "debug"
    });
    give_up(daemon);
}

/// F-083.
#[test]
fn f_083_a_server_with_a_wrong_certificate_is_sent_nothing() {
    let keys = Keys::new();
    let others = Keys::new();
    let ca = format!("tls.ca = \"{}\"", keys.path("ca.pem"));
    let sign = |adjust: fn(&mut CertificateParams)| keys.authority.sign_with(HERE, adjust);
    let check = |pair: &Pair, options: &str, part: &str| {
        let collector = Collector::start(server_config(pair, None));
        refuses(dial(&format!("tls://{}", collector.address), options), part);
        assert_eq!(collector.rest(), 0);
    };
    check(
        &sign(expired),
        &ca,
        "has expired: it was valid until 2002-03-04T00:00:00",
    );
    check(
        &sign(not_yet_valid),
        &ca,
        "is valid only from 2999-01-02T00:00:00",
    );
    check(
        &sign(for_clients),
        &ca,
        "is not made for a server (extendedKeyUsage)",
    );
    check(
        &others.server,
        &ca,
        "set tls.ca to the file with the certificate of its authority",
    );
    check(
        &others.server,
        "",
        "set tls.ca to the file with the certificate of its authority",
    );
    let elsewhere = keys.authority.sign(&["a.example", "b.example"]);
    let wrong_name = "is not for 127.0.0.1 but for a.example, b.example: dial that name, or set \
                      tls.server_name to it";
    check(&elsewhere, &ca, wrong_name);
    let named = format!("{ca}\ntls.server_name = \"c.example\"");
    check(&elsewhere, &named, "is not for c.example but for a.example");
}

/// Matching is webpki's alone: a star stands for one whole label and nothing else.
#[test]
fn a_star_in_a_name_stands_for_one_label() {
    let keys = Keys::new();
    let ca = format!("tls.ca = \"{}\"", keys.path("ca.pem"));
    let check = |presented: &str, wanted: &str| {
        let pair = keys.authority.sign(&[presented]);
        let collector = Collector::start(server_config(&pair, None));
        let options = format!("{ca}\ntls.server_name = \"{wanted}\"");
        let daemon = dial(&format!("tls://{}", collector.address), &options);
        (daemon, collector)
    };
    for (presented, wanted) in [("*.b.com", "x.y.b.com"), ("f*.b.com", "foo.b.com")] {
        let (daemon, collector) = check(presented, wanted);
        refuses(daemon, "certificate of the server");
        assert_eq!(collector.rest(), 0);
    }
    let (daemon, collector) = check("*.b.com", "x.b.com");
    send(daemon.tcp_address("source.in"), b"to the right one\n");
    assert_eq!(collector.lines(1), ["to the right one"]);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_name_that_the_certificate_is_for_may_stand_in_place_of_the_host() {
    let keys = Keys::new();
    let pair = keys.authority.sign(&["collector.example"]);
    let collector = Collector::start(server_config(&pair, None));
    let options = format!(
        "tls = {{ ca = \"{}\", server_name = \"collector.example\" }}",
        keys.path("ca.pem")
    );
    let daemon = dial(&format!("tls://{}", collector.address), &options);
    send(daemon.tcp_address("source.in"), b"hello\n");
    assert_eq!(collector.lines(1), ["hello"]);
    assert_eq!(daemon.stop().code(), 0);
}

/// TL-1: what answers in plain text is never answered in plain text.
#[test]
fn a_server_without_tls_is_told_by_name() {
    let keys = Keys::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Write::write_all(&mut stream, b"220 mail.example ESMTP\r\n");
            let _ = std::io::Read::read_to_end(&mut stream, &mut heard);
        }
        heard
    });
    let ca = format!("tls.ca = \"{}\"", keys.path("ca.pem"));
    refuses(
        dial(&format!("tls://{address}"), &ca),
        "the server answers in plain text",
    );
    let heard = heard.join().unwrap();
    assert!(!heard.windows(6).any(|window| window == b"secret"));
}

/// A server that takes the connection and says nothing is given up within the limit of the
/// attempt.
#[test]
fn a_handshake_is_within_the_limit_of_the_attempt() {
    let keys = Keys::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ca = format!(
        "tls.ca = \"{}\"\nconnect_timeout = \"300ms\"",
        keys.path("ca.pem")
    );
    let daemon = dial(&format!("tls://{address}"), &ca);
    refuses(daemon, "no end of the TLS handshake in time");
    drop(listener);
}

/// With TLS 1.3 a client is refused after it believes that it is connected.
#[test]
fn a_server_that_wants_a_certificate_says_so() {
    let keys = Keys::new();
    let collector = Collector::start(server_config(&keys.server, Some(&keys.authority.pem())));
    let ca = format!("tls.ca = \"{}\"", keys.path("ca.pem"));
    let daemon = dial(&format!("tls://{}", collector.address), &ca);
    daemon.wait_until("the reason", |record| {
        let message = record["message"].as_str().unwrap_or_default();
        message.contains("the server wants to see a certificate: set tls.certificate")
    });
    send(daemon.tcp_address("source.in"), b"a secret\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(collector.rest(), 0);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for("stopping");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
}
