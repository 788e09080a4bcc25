//! Peers that speak something else, nothing, or TLS that is none: each is told from the others
//! in the log, brings no event in, and disturbs nobody.
//!
//! After each of them somebody who keeps the rules is served by the same daemon.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::certificates::Keys;
use super::peers::{Client, client_config, old_client_config, plain, session};
use crate::daemon::peers::Collector;
use crate::process::{Daemon, PATIENCE};

/// A source that listens on TLS and on TCP, and one for HTTP that does.
fn listen(keys: &Keys, collector: &Collector) -> Daemon {
    let tls = keys.option("server", ", handshake_timeout = \"400ms\"");
    Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\n\
         listen = [\"tls://127.0.0.1:0\", \"tcp://127.0.0.1:0\"]\nframing = \"lines\"\n{tls}\
         [source.web]\ntype = \"http\"\n\
         listen = [\"https://127.0.0.1:0\", \"http://127.0.0.1:0\"]\n\
         {tls}\
         [pipeline.main]\nfrom = [\"in\", \"web\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
        collector.address
    ))
}

/// Waits for the record of a handshake that failed by an error with `part` in it.
fn closed(daemon: &Daemon, component: &str, part: &str) {
    daemon.wait_until(part, |record| {
        let error = record["error"].as_str().unwrap_or_default();
        record["component"] == component
            && record["event"] == "handshake_failed"
            && error.contains(part)
    });
}

/// Somebody who keeps the rules is served, and nothing else has come in.
fn still_serves(daemon: Daemon, keys: &Keys, collector: &Collector) {
    let config = client_config(&keys.authority.pem(), None);
    let mut client = Client::connect(daemon.address("source.in", "tls"), &config);
    client.send(b"by the rules\n");
    assert!(client.close());
    assert_eq!(collector.lines(1), ["by the rules"]);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.source("in", "events"), 1);
    assert_eq!(ended.pipeline("main", "received"), 1);
    assert!(collector.rest().is_empty());
}

/// Sends `bytes` and reads until the daemon closes; how long that took.
fn answer(to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut stream = plain(to);
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (answer, began.elapsed())
}

/// F-087, one way.
#[test]
fn f_087_plain_text_on_a_tls_port_is_told_by_name() {
    let (keys, collector) = (Keys::new(), Collector::start());
    for text in [
        &b"<34>Oct 11 22:14:15 mymachine su: hello\n"[..],
        b"52 <34>1 2026-01-01T00:00:00Z h a - - - hello",
        b"{\"message\":\"hello\"}\n",
        b"hi\n",
    ] {
        let daemon = listen(&keys, &collector);
        let (answer, _) = answer(daemon.address("source.in", "tls"), text);
        // An alert, if anything: a record of type 21.
        assert!(answer.first().is_none_or(|byte| *byte == 21), "{answer:?}");
        closed(
            &daemon,
            "source.in",
            "the client speaks plain text to a TLS port",
        );
        still_serves(daemon, &keys, &collector);
    }
    let daemon = listen(&keys, &collector);
    answer(
        daemon.address("source.web", "https"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    closed(
        &daemon,
        "source.web",
        "the client speaks plain text to a TLS port",
    );
    still_serves(daemon, &keys, &collector);
}

/// F-087, the other way.
#[test]
fn f_087_tls_on_a_plain_port_is_told_by_name_and_is_no_event() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let config = client_config(&keys.authority.pem(), None);
    for (component, scheme) in [("source.in", "tcp"), ("source.web", "http")] {
        let to = daemon.address(component, scheme);
        assert!(Client::try_connect(to, &config).is_err());
        closed(&daemon, component, "the client speaks TLS to a plain port");
    }
    still_serves(daemon, &keys, &collector);
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_ended() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let to = daemon.address("source.in", "tls");
    let config = client_config(&keys.authority.pem(), None);
    let mut hello = Vec::new();
    session(&config).write_tls(&mut hello).unwrap();
    for cut in [0, 1, 5, hello.len() / 2, hello.len()] {
        let (_, took) = answer(to, &hello[..cut]);
        assert!(
            took >= Duration::from_millis(350) && took < PATIENCE / 2,
            "{cut}: {took:?}"
        );
    }
    closed(
        &daemon,
        "source.in",
        "the client sent nothing within the time limit",
    );
    closed(
        &daemon,
        "source.in",
        "did not finish it within the time limit",
    );
    still_serves(daemon, &keys, &collector);
}

/// F-086: stalled handshakes are bounded as other connections are, and go.
#[test]
fn f_086_stalled_handshakes_keep_nobody_out_for_longer_than_their_limit() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let to = daemon.address("source.in", "tls");
    let config = client_config(&keys.authority.pem(), None);
    let mut hello = Vec::new();
    session(&config).write_tls(&mut hello).unwrap();
    let stalled: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = plain(to);
            let cut = number * 7 % hello.len();
            stream.write_all(&hello[..cut]).unwrap();
            stream
        })
        .collect();
    let mut client = Client::connect(to, &config);
    client.send(b"beside them\n");
    assert!(client.close());
    assert_eq!(collector.lines(1), ["beside them"]);
    for mut stream in stalled {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.source("in", "events")), (0, 1));
}

/// TL-3: garbage in all the places where a length or a type stands.
#[test]
fn garbage_ends_its_own_connection_and_nothing_else() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let to = daemon.address("source.in", "tls");
    let config = client_config(&keys.authority.pem(), None);
    let mut hello = Vec::new();
    session(&config).write_tls(&mut hello).unwrap();
    let mut changed = vec![
        vec![0xff; 2_000],
        vec![0x16; 70_000],
        [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat(),
        [
            &[0x16, 3, 1, 0x40, 0][..],
            &[1, 0xff, 0xff, 0xff],
            &[0; 70_000],
        ]
        .concat(),
        [&[0x17, 3, 3, 0x40, 0][..], &[0; 16_384]].concat(),
        // Warnings without end, and records without content.
        [0x15, 3, 3, 0, 2, 1, 90].repeat(5_000),
        [0x17, 3, 3, 0, 0].repeat(5_000),
        // close_notify in the middle of the handshake.
        [&hello[..], &[0x15, 3, 3, 0, 2, 1, 0]].concat(),
    ];
    for at in (0..hello.len()).step_by(hello.len() / 40) {
        let mut one = hello.clone();
        one[at] ^= 0x80;
        changed.push(one);
    }
    for bytes in &changed {
        answer(to, bytes);
    }
    still_serves(daemon, &keys, &collector);
}

/// After the handshake: a record that is damaged, and floods of empty ones.
#[test]
fn garbage_after_the_handshake_is_a_cut() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let config = client_config(&keys.authority.pem(), None);
    for garbage in [
        [&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat(),
        b"plain text after all\n".to_vec(),
        [0x17, 3, 3, 0, 0].repeat(100),
    ] {
        let mut client = Client::connect(daemon.address("source.in", "tls"), &config);
        client.0.sock.write_all(&garbage).unwrap();
        let _ = client.0.sock.shutdown(Shutdown::Write);
        let _ = client.0.sock.read_to_end(&mut Vec::new());
    }
    daemon.wait_until("the reason", |record| {
        let reason = record["reason"].as_str().unwrap_or_default();
        reason.contains("the TLS session broke")
    });
    still_serves(daemon, &keys, &collector);
}

#[test]
fn a_client_without_tls_1_3_is_refused_where_that_is_the_minimum() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tls://127.0.0.1:0\"]\nframing = \"lines\"\n{}\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
        keys.option("server", ", minimum_version = \"1.3\""),
        collector.address
    ));
    let config = old_client_config(&keys.authority.pem(), None);
    let to = daemon.address("source.in", "tls");
    assert!(Client::try_connect(to, &config).is_err());
    closed(
        &daemon,
        "source.in",
        "speaks no version of TLS that is allowed here",
    );
    still_serves(daemon, &keys, &collector);
}

/// openssl s_client with these arguments and what `talk` tells it; its output.
fn s_client(to: SocketAddr, arguments: &[&str], talk: impl FnOnce(&mut ChildStdin)) -> String {
    let mut child = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-connect"])
        .arg(to.to_string())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    talk(&mut stdin);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let (out, err) = (output.stdout, output.stderr);
    String::from_utf8_lossy(&[out, err].concat()).into_owned()
}

/// TL-1: what is older than TLS 1.2 is refused, whatever it offers.
#[test]
fn tls_1_1_is_refused() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let to = daemon.address("source.in", "tls");
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let shown = s_client(to, &old, |_| {});
    assert!(shown.contains("alert"), "{shown}");
    closed(
        &daemon,
        "source.in",
        "speaks no version of TLS that is allowed here",
    );
    still_serves(daemon, &keys, &collector);
}

/// TL-3: a renegotiation is refused; what was sent before it is kept.
#[test]
fn a_renegotiation_is_refused() {
    let (keys, collector) = (Keys::new(), Collector::start());
    let daemon = listen(&keys, &collector);
    let to = daemon.address("source.in", "tls");
    // It takes an R for a command where that begins what it reads.
    let shown = s_client(to, &["-tls1_2"], |stdin| {
        stdin.write_all(b"by the rules\n").unwrap();
        assert_eq!(collector.lines(1), ["by the rules"]);
        stdin.write_all(b"R\n").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let _ = stdin.write_all(b"and after it\n");
    });
    assert!(shown.contains("RENEGOTIATING"), "{shown}");
    assert!(shown.contains("no renegotiation"), "{shown}");
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert!((1..=2).contains(&ended.source("in", "events")));
}
