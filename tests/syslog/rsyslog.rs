//! rsyslog as a sender and as a receiver, in every framing and format that both have.
//!
//! One rsyslogd a case, with a configuration and a folder of its own; nothing of the machine's
//! own rsyslog is touched.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Background, check, events, has, host_name, receiver};
use crate::process::{Daemon, PATIENCE};

/// rsyslogd with this configuration, in a folder of its own.
fn rsyslogd(folder: &TempDir, config: &str) -> Background {
    let path = folder.path().join("rsyslog.conf");
    let work = folder.path().display();
    fs::write(&path, format!("global(workDirectory=\"{work}\")\n{config}")).unwrap();
    let child = Command::new("rsyslogd")
        .args(["-n", "-f", path.to_str().unwrap()])
        .args(["-i", folder.path().join("pid").to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Background(child.unwrap())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// rsyslog reads a file and forwards its lines to the daemon.
fn forward(daemon: &Daemon, target: SocketAddr, options: &str) -> (TempDir, Background) {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("in.log");
    let lines: String = (0..MESSAGES)
        .map(|n| format!("message {n} of \u{fc}\n"))
        .collect();
    fs::write(&input, lines).unwrap();
    let (input, ip, port) = (input.display(), target.ip(), target.port());
    let config = format!(
        "module(load=\"imfile\")\n\
         input(type=\"imfile\" File=\"{input}\" Tag=\"web:\"\n\
         \x20     Facility=\"local5\" Severity=\"warning\")\n\
         action(type=\"omfwd\" target=\"{ip}\" port=\"{port}\" {options})\n"
    );
    let running = rsyslogd(&folder, &config);
    let _ = daemon;
    (folder, running)
}

const MESSAGES: usize = 200;

#[test]
fn rsyslog_sends_in_its_formats_and_framings() {
    if !has("rsyslogd", "rsyslog_sends_in_its_formats_and_framings") {
        return;
    }
    let ways = [
        (
            "tcp",
            "protocol=\"tcp\" template=\"RSYSLOG_SyslogProtocol23Format\"",
        ),
        (
            "tcp",
            "protocol=\"tcp\" template=\"RSYSLOG_SyslogProtocol23Format\" \
             TCP_Framing=\"octet-counted\"",
        ),
        ("tcp", "protocol=\"tcp\" template=\"RSYSLOG_ForwardFormat\""),
        (
            "tcp",
            "protocol=\"tcp\" template=\"RSYSLOG_TraditionalForwardFormat\"",
        ),
        (
            "udp",
            "protocol=\"udp\" template=\"RSYSLOG_SyslogProtocol23Format\"",
        ),
        (
            "udp",
            "protocol=\"udp\" template=\"RSYSLOG_TraditionalForwardFormat\"",
        ),
    ];
    for (scheme, options) in ways {
        let daemon = receiver("\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"", "");
        let target = match scheme {
            "udp" => daemon.address("source.in", "udp"),
            _ => daemon.tcp_address("source.in"),
        };
        let running = forward(&daemon, target, options);
        let all = events(&daemon, MESSAGES);
        let host = host_name();
        let host = host.split('.').next().unwrap();
        for (number, event) in all.iter().enumerate() {
            let text = format!("message {number} of \u{fc}");
            check(
                event,
                &[
                    ("message", Some(&text)),
                    ("app", Some("web")),
                    ("facility", Some("local5")),
                    ("severity", Some("warning")),
                    ("parse_error", None),
                ],
            );
            let found = event["host"].as_str().unwrap();
            assert_eq!(found.split('.').next().unwrap(), host, "{options}");
            assert!(event["timestamp"].is_string());
        }
        drop(running);
        daemon.stop();
    }
}

/// What rsyslog made of the messages, as JSON, once there are `count`.
fn received(folder: &TempDir, count: usize) -> Vec<Value> {
    let path = folder.path().join("out.jsonl");
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.lines().count() >= count {
            let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            return whole.lines().map(parse).collect();
        }
        assert!(start.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An rsyslog that listens on `port` and writes what it reads as JSON.
fn collector(folder: &TempDir, port: u16) -> Background {
    let out = folder.path().join("out.jsonl");
    let out = out.display();
    let field = |name: &str, property: &str| {
        format!(
            "property(outname=\"{name}\" name=\"{property}\" format=\"jsonf\")\n\
             constant(value=\",\")\n"
        )
    };
    let fields: String = [
        ("host", "hostname"),
        ("app", "app-name"),
        ("procid", "procid"),
        ("msgid", "msgid"),
        ("facility", "syslogfacility-text"),
        ("severity", "syslogseverity-text"),
        ("sd", "structured-data"),
        ("tag", "syslogtag"),
    ]
    .iter()
    .map(|(name, property)| field(name, property))
    .collect();
    let config = format!(
        "module(load=\"imtcp\")\nmodule(load=\"imudp\")\n\
         input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         input(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         template(name=\"j\" type=\"list\") {{ constant(value=\"{{\")\n{fields}\
         property(outname=\"timestamp\" name=\"timereported\" dateFormat=\"rfc3339\"\n\
         \x20        format=\"jsonf\")\n\
         constant(value=\",\")\n\
         property(outname=\"message\" name=\"msg\" format=\"jsonf\")\n\
         constant(value=\"}}\\n\") }}\n\
         action(type=\"omfile\" file=\"{out}\" template=\"j\")\n"
    );
    let running = rsyslogd(folder, &config);
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "rsyslogd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

#[test]
fn rsyslog_receives_what_the_syslog_encoding_sends() {
    if !has(
        "rsyslogd",
        "rsyslog_receives_what_the_syslog_encoding_sends",
    ) {
        return;
    }
    let ways = [
        ("tcp", "encode = \"syslog\""),
        ("tcp", "encode = \"syslog\"\nframing = \"octet_counted\""),
        ("udp", "encode = \"syslog\""),
        ("tcp", "encode = { syslog = { format = \"rfc3164\" } }"),
        ("udp", "encode = { syslog = { format = \"rfc3164\" } }"),
    ];
    for (scheme, options) in ways {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let running = collector(&folder, port);
        let daemon = Daemon::start(&format!(
            "[source.in]\ntype = \"syslog\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
             timezone = \"UTC\"\n\
             [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
             [sink.out]\ntype = \"socket\"\naddress = \"{scheme}://127.0.0.1:{port}\"\n{options}\n"
        ));
        let text =
            "<165>1 2026-10-11T22:14:15.003000Z db1 pg 77 ID47 [e@1 a=\"\\\"b\\]\"] hello \u{e9}\n";
        use std::io::Write;
        let mut sender = std::net::TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
        sender.write_all(text.as_bytes()).unwrap();
        let event = received(&folder, 1).remove(0);
        let is_new = !options.contains("rfc3164");
        check(
            &event,
            &[
                ("host", Some("db1")),
                ("app", Some("pg")),
                ("procid", Some("77")),
                ("facility", Some("local4")),
                ("severity", Some("notice")),
            ],
        );
        let message = event["message"].as_str().unwrap();
        assert_eq!(message.trim_start(), "hello \u{e9}", "{options}");
        if is_new {
            check(
                &event,
                &[
                    ("msgid", Some("ID47")),
                    ("sd", Some("[e@1 a=\"\\\"b\\]\"]")),
                ],
            );
            let time = event["timestamp"].as_str().unwrap();
            assert!(time.starts_with("2026-10-11T22:14:15.003"), "{time}");
        }
        daemon.stop();
        drop(running);
    }
}
