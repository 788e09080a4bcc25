//! Syslog over TLS as RFC 5425 has it: octet counting on a `tls://` listener of the `syslog`
//! source, from the programs that speak it.
//!
//! What comes is looked at field by field; none may be missing, and none come twice.

use std::io::Write;
use std::process::{Command, Stdio};

use super::certificates::Keys;
use super::programs::{DRIVERS, is_there, rsyslogd, wait_for_listener};
use crate::daemon::peers::free_port;
use crate::process::Daemon;
use crate::skips::skip;
use crate::syslog::{check, events, loggen, loggen_folder, receiver};

/// A `syslog` source behind TLS that writes what it reads as JSON.
fn listener(keys: &Keys, more: &str) -> Daemon {
    receiver("\"tls://127.0.0.1:0\"", &keys.option("server", more))
}

/// A message in a frame of its own (RFC 5425 section 4.3): its length in octets, a space, itself.
fn frame(message: &str) -> String {
    format!("{} {message}", message.len())
}

/// What only octet counting can carry is sent, too: an event of several lines.
#[test]
fn openssl_s_client_sends_frames() {
    let name = "openssl_s_client_sends_frames";
    if !is_there("openssl", name) {
        return;
    }
    let keys = Keys::new();
    let ca = keys.path("ca.pem");
    let daemon = listener(&keys, &format!(", client_ca = \"{ca}\""));
    let to = daemon.address("source.in", "tls").to_string();
    let mut expected = Vec::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let (certificate, key) = (keys.path("client.pem"), keys.path("client.key"));
        let mut child = Command::new("timeout")
            .args(["20", "openssl", "s_client", "-verify_return_error"])
            .args(["-connect", &to, "-CAfile", &ca, version])
            .args(["-cert", &certificate, "-key", &key])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let texts = [
            format!("first by {version}"),
            "of several\nlines \u{e9}".into(),
        ];
        let head = "<165>1 2026-10-11T22:14:15.003Z db1 pg 77 ID47 -";
        let frames = texts
            .each_ref()
            .map(|text| frame(&format!("{head} {text}")));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(frames.concat().as_bytes()).unwrap();
        expected.extend(texts);
        let all = events(&daemon, expected.len());
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{version}");
        for (event, text) in all.iter().zip(&expected) {
            check(
                event,
                &[
                    ("message", Some(text)),
                    ("host", Some("db1")),
                    ("app", Some("pg")),
                    ("msgid", Some("ID47")),
                    ("facility", Some("local4")),
                    ("parse_error", None),
                ],
            );
        }
    }
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.source("in", "incomplete")), (0, 0));
}

#[test]
fn loggen_loses_nothing_over_tls() {
    let Some(folder) = loggen_folder() else {
        let name = "loggen_loses_nothing_over_tls";
        return skip(name, "syslog-ng's loggen is not unpacked on this machine");
    };
    const MESSAGES: usize = 2_000;
    let keys = Keys::new();
    let daemon = listener(&keys, "");
    let port = daemon.address("source.in", "tls").port().to_string();
    let modes: [&[&str]; 2] = [&["--use-ssl", "--syslog-proto"], &["--use-ssl"]];
    for (index, options) in modes.into_iter().enumerate() {
        loggen::send(&folder, options, MESSAGES, &["127.0.0.1", &port]);
        let before = index * MESSAGES;
        loggen::check_all(&daemon, before, MESSAGES, &format!("{options:?}"));
    }
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn rsyslog_sends_frames_by_both_of_its_drivers() {
    const MESSAGES: usize = 300;
    let name = "rsyslog_sends_frames_by_both_of_its_drivers";
    let keys = Keys::new();
    for driver in DRIVERS {
        let more = format!(", client_ca = \"{}\"", keys.path("ca.pem"));
        let daemon = listener(&keys, &more);
        let to = daemon.address("source.in", "tls");
        let input = free_port();
        let config = format!(
            "global(DefaultNetstreamDriverCAFile=\"{ca}\"\n\
             DefaultNetstreamDriverCertFile=\"{certificate}\"\n\
             DefaultNetstreamDriverKeyFile=\"{key}\" workDirectory=\"/tmp\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{in_port}\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\"\n\
             TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\"\n\
             StreamDriver=\"{driver}\" StreamDriverMode=\"1\"\n\
             StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"localhost\")\n",
            ca = keys.path("ca.pem"),
            certificate = keys.path("client.pem"),
            key = keys.path("client.key"),
            in_port = input.port(),
            port = to.port()
        );
        let Some((_rsyslog, _folder)) = rsyslogd(driver, &config, name) else {
            return;
        };
        wait_for_listener(input);
        let lines: String = (0..MESSAGES)
            .map(|n| format!("<34>Oct 11 22:14:15 mymachine su[{n}]: message {n} by {driver}\n"))
            .collect();
        let mut stream = std::net::TcpStream::connect(input).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        for (number, event) in events(&daemon, MESSAGES).iter().enumerate() {
            let text = format!("message {number} by {driver}");
            check(
                event,
                &[
                    ("app", Some("su")),
                    ("procid", Some(&number.to_string())),
                    ("host", Some("mymachine")),
                    ("facility", Some("auth")),
                    ("severity", Some("crit")),
                    ("parse_error", None),
                ],
            );
            let message = event["message"].as_str().unwrap();
            assert_eq!(message.trim_start(), text);
        }
        assert_eq!(daemon.stop().code(), 0);
    }
}
