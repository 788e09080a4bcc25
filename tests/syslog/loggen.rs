//! syslog-ng's `loggen`: many messages, every one of which must come.
//!
//! Each message has a number: none may be missing, and none may come twice. Datagrams are sent no
//! faster than the receive buffer of 8 MiB bears.

use std::collections::BTreeSet;
use std::process::Command;

use super::{events, loggen_folder, receiver, run};
use crate::process::Daemon;
use crate::skips::skip;

/// Sends `count` messages by `loggen` with these options to `place`.
pub fn send(folder: &std::path::Path, options: &[&str], count: usize, place: &[&str]) {
    let usr = folder.join("usr");
    let mut command = Command::new(usr.join("bin/loggen"));
    command
        .env("SYSLOGNG_PREFIX", &usr)
        .env("LD_LIBRARY_PATH", usr.join("lib/syslog-ng"))
        .args(["--rate", "100000", "--size", "200", "--quiet"])
        .args(["--number", &count.to_string()])
        .args(options)
        .args(place);
    run(&mut command);
}

/// Every number came once, of an app and a message as `loggen` makes them.
pub fn check_all(daemon: &Daemon, before: usize, count: usize, format: &str) {
    let all = events(daemon, before + count);
    let mut numbers = BTreeSet::new();
    for event in &all[before..] {
        assert_eq!(event["app"], "prg00000", "{event:#}");
        assert_eq!(event["procid"], "1234", "{event:#}");
        assert_eq!(event["host"], "localhost");
        assert_eq!(event["facility"], "auth");
        assert_eq!(event["severity"], "info");
        assert!(event["timestamp"].is_string());
        let text = event["message"].as_str().unwrap();
        let rest = text
            .strip_prefix("seq: ")
            .unwrap_or_else(|| panic!("{format} {text:?}"));
        let number: usize = rest.split(',').next().unwrap().parse().unwrap();
        assert!(numbers.insert(number), "{number} came twice");
    }
    assert_eq!(numbers.len(), count);
}

#[test]
fn loggen_loses_nothing_in_any_of_its_modes() {
    let Some(folder) = loggen_folder() else {
        let name = "loggen_loses_nothing_in_any_of_its_modes";
        return skip(name, "syslog-ng's loggen is not unpacked on this machine");
    };
    const MESSAGES: usize = 2000;
    let daemon = receiver(
        "\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\", \"unix://./stream\", \"unixgram://./log\"",
        "",
    );
    let tcp = daemon.tcp_address("source.in").port().to_string();
    let udp = daemon.address("source.in", "udp").port().to_string();
    let (stream, log) = (daemon.path("stream"), daemon.path("log"));
    let (stream, log) = (stream.to_str().unwrap(), log.to_str().unwrap());
    let modes: [(&[&str], &[&str]); 6] = [
        (&["--inet", "--stream"], &["127.0.0.1", &tcp]),
        (
            &["--inet", "--stream", "--syslog-proto"],
            &["127.0.0.1", &tcp],
        ),
        (&["--inet", "--dgram"], &["127.0.0.1", &udp]),
        (
            &["--inet", "--dgram", "--syslog-proto"],
            &["127.0.0.1", &udp],
        ),
        (&["--unix", "--stream"], &[stream]),
        (&["--unix", "--dgram"], &[log]),
    ];
    for (index, (options, place)) in modes.into_iter().enumerate() {
        send(&folder, options, MESSAGES, place);
        check_all(&daemon, index * MESSAGES, MESSAGES, &format!("{options:?}"));
    }
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "kernel_drops"), 0);
}
