//! Handshakes that fail are counted by fault where an operator looks, and fill no log.
//!
//! The status, its table and the metrics are asked for the same numbers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::date_time_ymd;
use rustls::ClientConfig;
use serde_json::json;

use super::certificates::Keys;
use super::peers::{Client, client_config, old_client_config, plain, session};
use crate::operator::{marline, named, status_when};
use crate::process::Daemon;

/// A source on TLS that wants certificates, and on TCP, and one for HTTP.
fn listen(keys: &Keys) -> Daemon {
    let ca = keys.path("ca.pem");
    let more =
        format!(", client_ca = \"{ca}\", handshake_timeout = \"400ms\", minimum_version = \"1.3\"");
    Daemon::start(&format!(
        "[daemon]\nstate_dir = \"state\"\nmetrics = \"tcp://127.0.0.1:0\"\n\
         [source.in]\ntype = \"socket\"\n\
         listen = [\"tls://127.0.0.1:0\", \"tcp://127.0.0.1:0\"]\n{}\
         [source.web]\ntype = \"http\"\nlisten = [\"https://127.0.0.1:0\"]\n{}\
         [pipeline.main]\nfrom = [\"in\", \"web\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"discard\"\n",
        keys.option("server", &more),
        keys.option("server", "")
    ))
}

/// Sends `bytes` and reads until the daemon closes.
fn say(to: SocketAddr, bytes: &[u8], ends: bool) {
    let mut stream = plain(to);
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let _ = stream.read_to_end(&mut Vec::new());
}

/// What the metrics listener answers.
fn metrics(daemon: &Daemon) -> String {
    let opened = daemon.wait_for("metrics_opened");
    let mut stream = TcpStream::connect(opened["address"].as_str().unwrap()).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Each fault once, one after the other.
fn fail_in_every_way(daemon: &Daemon, keys: &Keys) {
    let others = Keys::new();
    let to = daemon.address("source.in", "tls");
    let (ours, theirs) = (keys.authority.pem(), others.authority.pem());
    let mut hello = Vec::new();
    let config = client_config(&ours, Some(&keys.client));
    session(&config).write_tls(&mut hello).unwrap();
    say(to, b"<34>Oct 11 22:14:15 mymachine su: hello\n", false);
    say(to, &[0xff; 2_000], false);
    say(to, &[], false);
    say(to, &hello[..50], false);
    say(to, &hello[..50], true);
    // A load balancer that looks whether the port is open.
    say(to, &[], true);
    let refused = |to, config: Arc<ClientConfig>| {
        if let Ok(mut client) = Client::try_connect(to, &config) {
            assert!(client.0.read(&mut [0]).is_err(), "it is let in");
        }
    };
    refused(to, client_config(&ours, None));
    refused(to, client_config(&ours, Some(&others.client)));
    refused(to, client_config(&theirs, Some(&keys.client)));
    refused(to, old_client_config(&ours, Some(&keys.client)));
    refused(daemon.tcp_address("source.in"), Arc::clone(&config));
    say(
        daemon.address("source.web", "https"),
        b"GET / HTTP/1.1\r\n\r\n",
        false,
    );
}

#[test]
fn each_failed_handshake_is_counted_under_its_fault() {
    let keys = Keys::new();
    let daemon = listen(&keys);
    fail_in_every_way(&daemon, &keys);
    let to = daemon.address("source.in", "tls");
    let config = client_config(&keys.authority.pem(), Some(&keys.client));
    let mut client = Client::connect(to, &config);
    client.send(b"by the rules\n");
    assert!(client.close());
    let expected = json!({
        "plain_text": 1, "no_tls": 1, "silent": 1, "timeout": 1, "broken_off": 1,
        "no_certificate": 1, "certificate": 1, "refused_by_peer": 1, "version": 1,
        "tls_to_plain_port": 1,
    });
    let failed = "failed_handshakes";
    let report = status_when(&daemon, "all of them", |report| {
        let source = named(&report["sources"], "in");
        source["received_events"] == 1 && source["connections"]["open"] == 0
    });
    assert_eq!(
        named(&report["sources"], "in")["connections"][failed],
        expected
    );
    let web = &named(&report["sources"], "web")["connections"][failed];
    assert_eq!(*web, json!({ "plain_text": 1 }));
    let (table, _, _) = marline(daemon.folder(), &["status", "--config", "marline.toml"]);
    assert!(
        table.contains("failed TLS handshakes: plain_text=1"),
        "{table}"
    );
    let page = metrics(&daemon);
    for sample in [
        "marline_source_handshakes_failed_total{source=\"in\",reason=\"refused_by_peer\"} 1\n",
        "marline_source_handshakes_failed_total{source=\"web\",reason=\"plain_text\"} 1\n",
    ] {
        assert!(page.contains(sample), "{page}");
    }
    assert_eq!(daemon.stop().code(), 0);
}

/// A peer chooses the dates of its certificate, and so the text of the complaint about it.
#[test]
fn a_flood_of_failures_that_all_read_otherwise_is_one_line_in_the_log() {
    const CLIENTS: i32 = 40;
    let keys = Keys::new();
    let daemon = listen(&keys);
    let to = daemon.address("source.in", "tls");
    let began = std::time::Instant::now();
    for year in 1970..1970 + CLIENTS {
        let expired = keys.authority.sign_with(&["client.example"], |params| {
            params.not_before = date_time_ymd(1960, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
        });
        let config = client_config(&keys.authority.pem(), Some(&expired));
        if let Ok(mut client) = Client::try_connect(to, &config) {
            assert!(client.0.read(&mut [0]).is_err());
        }
    }
    status_when(&daemon, "all of them", |report| {
        let failed = &named(&report["sources"], "in")["connections"]["failed_handshakes"];
        failed["certificate"] == CLIENTS
    });
    let lines = daemon.records("handshake_failed").len() as u64;
    let windows = 1 + began.elapsed().as_secs() / 10;
    assert!((1..=windows).contains(&lines), "{lines} lines");
    assert_eq!(daemon.stop().code(), 0);
}
