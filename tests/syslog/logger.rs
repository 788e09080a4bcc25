//! `logger` of util-linux, in all its modes.
//!
//! What it was told is compared with the fields of the event, for each format, with each part left
//! out that it can leave out.

use std::process::Command;

use super::{check, events, has, host_name, receiver, run};
use crate::process::Daemon;

/// `logger` to the daemon's port, told the fields that the tests ask for.
fn logger(daemon: &Daemon, scheme: &str, arguments: &[&str]) {
    let address = match scheme {
        "udp" => daemon.address("source.in", "udp"),
        _ => daemon.tcp_address("source.in"),
    };
    let transport = if scheme == "udp" { "--udp" } else { "--tcp" };
    let mut command = Command::new("logger");
    command
        .args(["--server", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .arg(transport)
        .args(["--tag", "backup", "--priority", "local3.err"])
        .args(arguments);
    run(&mut command);
}

const BOTH: &str = "\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"";

#[test]
fn logger_in_all_its_formats_over_tcp_and_udp() {
    if !has("logger", "logger_in_all_its_formats_over_tcp_and_udp") {
        return;
    }
    let host = host_name();
    let host = host.as_str();
    let daemon = receiver(BOTH, "");
    let formats: [(&[&str], Option<&str>); 6] = [
        (&["--rfc3164"], Some(host)),
        (&["--rfc5424"], Some(host)),
        (&["--rfc5424=notime"], Some(host)),
        (&["--rfc5424=notq"], Some(host)),
        (&["--rfc5424=nohost"], None),
        (&["--rfc5424=notime,notq,nohost"], None),
    ];
    let mut sent = 0;
    for scheme in ["tcp", "udp"] {
        for (format, host) in formats {
            let arguments = [format, &["--id=4711", "the disk is full"]].concat();
            logger(&daemon, scheme, &arguments);
            sent += 1;
            let all = events(&daemon, sent);
            let event = &all[sent - 1];
            check(
                event,
                &[
                    ("app", Some("backup")),
                    ("procid", Some("4711")),
                    ("facility", Some("local3")),
                    ("severity", Some("err")),
                    ("message", Some("the disk is full")),
                    ("parse_error", None),
                ],
            );
            // RFC 3164 has a host's name without its domain.
            let short = |name: &str| name.split('.').next().unwrap().to_owned();
            let found = event["host"].as_str().map(short);
            assert_eq!(found, host.map(short), "{format:?} {event:#}");
            assert_eq!(event["severity_code"], 3);
            assert_eq!(event["facility_code"], 19);
            let has_time = !format[0].contains("notime");
            assert_eq!(event["timestamp"].is_string(), has_time, "{event:#}");
        }
    }
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "events"), sent as u64);
}

#[test]
fn logger_with_structured_data_octet_counts_and_many_lines() {
    if !has(
        "logger",
        "logger_with_structured_data_octet_counts_and_many_lines",
    ) {
        return;
    }
    let daemon = receiver(BOTH, "");
    let data = [
        "--rfc5424",
        "--msgid",
        "ID47",
        "--sd-id",
        "job@32473",
        "--sd-param",
        "name=\"a \\\"b\\\" \\]\"",
        "--sd-param",
        "size=\"7\"",
        "--octet-count",
        "with data",
    ];
    logger(&daemon, "tcp", &data);
    let event = events(&daemon, 1).remove(0);
    check(
        &event,
        &[("msgid", Some("ID47")), ("message", Some("with data"))],
    );
    let element = &event["structured_data"]["job@32473"];
    assert_eq!(element["name"], "a \"b\" ]", "{event:#}");
    assert_eq!(element["size"], "7");
    // Lines of a file, each a message of its own, octet counted or not, on one port.
    let lines = daemon.path("lines.txt");
    let text: String = (0..500).map(|n| format!("line {n} \u{e4}\n")).collect();
    std::fs::write(&lines, text).unwrap();
    let path = lines.to_str().unwrap();
    logger(
        &daemon,
        "tcp",
        &["--rfc5424", "--octet-count", "--file", path],
    );
    logger(&daemon, "tcp", &["--rfc3164", "--file", path]);
    let all = events(&daemon, 1001);
    let mut numbers: Vec<usize> = all[1..]
        .iter()
        .map(|event| {
            let text = event["message"].as_str().unwrap();
            let number = text.strip_prefix("line ").unwrap();
            number.strip_suffix(" \u{e4}").unwrap().parse().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    let expected: Vec<usize> = (0..500).flat_map(|n| [n, n]).collect();
    assert_eq!(numbers, expected);
    daemon.stop();
}

#[test]
fn logger_over_a_local_socket_as_dev_log_is_one() {
    if !has("logger", "logger_over_a_local_socket_as_dev_log_is_one") {
        return;
    }
    let daemon = receiver("\"unixgram://./log\"", "");
    let path = daemon.path("log");
    run(Command::new("logger")
        .args(["--socket", path.to_str().unwrap(), "--tag", "cron[12]"])
        .args(["--priority", "cron.info", "a job has ended"]));
    let event = events(&daemon, 1).remove(0);
    check(
        &event,
        &[
            ("app", Some("cron")),
            ("procid", Some("12")),
            ("facility", Some("cron")),
            ("severity", Some("info")),
            ("message", Some("a job has ended")),
        ],
    );
    daemon.stop();
}
