//! Messages by hand, over real sockets: dialects side by side on one port, the table of who speaks
//! which, what is no syslog, numbers that are missing.
//!
//! And what has broken other parsers: it is an event here, whole.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use serde_json::Value;

use super::{check, events, receiver};
use crate::operator::{named, status};
use crate::process::{Daemon, count};

fn send(daemon: &Daemon, bytes: &[u8]) {
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(bytes).unwrap();
}

#[test]
fn dialects_are_told_apart_message_by_message_on_one_port() {
    let daemon = receiver("\"tcp://127.0.0.1:0\"", "timezone = \"UTC\"");
    let messages: &[&[u8]] = &[
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8\n",
        b"74 <34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - su failed",
        b"<165>1 2003-10-11T22:14:15.003Z m evntslog - ID47 [e@1 iut=\"3\"] An event\n",
        b"<189>45: router1: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured\n",
        b"<189>date=2026-11-27 time=10:00:00 devname=\"FGT\" logid=\"1\"\n",
        b"this is no syslog\n",
        b"<999>nor is this\n",
    ];
    send(&daemon, &messages.concat());
    let all = events(&daemon, messages.len());
    check(&all[0], &[("app", Some("su")), ("host", Some("mymachine"))]);
    assert!(
        all[0]["timestamp"]
            .as_str()
            .unwrap()
            .ends_with("-10-11T22:14:15.000000Z")
    );
    check(
        &all[1],
        &[("msgid", Some("ID47")), ("message", Some("su failed"))],
    );
    assert_eq!(all[1]["timestamp"], "2003-10-11T22:14:15.003000Z");
    assert_eq!(all[2]["structured_data"]["e@1"]["iut"], "3");
    check(
        &all[3],
        &[("severity", Some("notice")), ("parse_error", None)],
    );
    check(
        &all[4],
        &[("facility", Some("local7")), ("parse_error", None)],
    );
    for event in &all[5..] {
        let text = event["parse_error"].as_str().unwrap();
        assert!(text.starts_with("not syslog: "), "{text}");
        assert_eq!(event["source"], "in", "it stays raw: {event:#}");
    }
    assert_eq!(all[5]["message"], "this is no syslog");
    let report = status(&daemon, &[]);
    let source = named(&report["sources"], "in");
    let table = &source["dialects"][0];
    assert_eq!(table["sender"], "127.0.0.1", "{source:#}");
    let messages: u64 = count(&table["messages"], "unparsed");
    assert_eq!(messages, 2);
    assert_eq!(count(&table["messages"], "rfc5424"), 2);
    assert_eq!(count(&source["counts"], "unparsed"), 2);
    let ended = daemon.stop();
    let said: Vec<&Value> = ended
        .log
        .iter()
        .filter(|record| record["event"] == "syslog_counts")
        .collect();
    assert_eq!(count(said[0], "unparsed"), 2);
}

#[test]
fn rfc5424_7_3_1_messages_that_are_missing_by_their_numbers_are_counted() {
    let daemon = receiver("\"udp://127.0.0.1:0\"", "");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = daemon.address("source.in", "udp");
    for number in [1, 2, 3, 7, 8, 6, 9, 1] {
        let text = format!("<13>1 - host app - - [meta sequenceId=\"{number}\"] m");
        sender.send_to(text.as_bytes(), to).unwrap();
    }
    events(&daemon, 8);
    let report = status(&daemon, &[]);
    let counts = &named(&report["sources"], "in")["counts"];
    // 4, 5 and 6, of which 6 came late. A count that went down again would be no counter.
    assert_eq!(count(counts, "sequence_missing"), 3, "{counts:#}");
    assert_eq!(count(counts, "sequence_late"), 1, "{counts:#}");
    assert_eq!(count(counts, "sequence_restarts"), 1);
    daemon.stop();
}

/// CVE-2014-3634, CVE-2022-38725, CVE-2017-12588: what broke other parsers is an event here.
#[test]
fn what_broke_other_parsers_is_an_event_here() {
    let daemon = receiver("\"udp://127.0.0.1:0\"", "");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = daemon.address("source.in", "udp");
    let mut texts: Vec<String> = [
        "<192>x",
        "<999999>x",
        "<2147483648>x",
        "<-1>x",
        "<>x",
        "<0001>x",
        "<1",
        "<",
        "<34>*",
        "<34>1 - - - - - [a",
        "<34>Oct 11 22:14:15 2",
        "<34>Oct 11 22:14:15",
        "<34>%n%n%s%1000000d{}{{}}",
        "<34>1 - ../../etc/cron.d/x app - - - path",
        "<34>1 2003-10-11T22:14:60Z h a - - - leap",
        "<34>1 9999-99-99T99:99:99Z h a - - - time",
    ]
    .map(str::to_owned)
    .to_vec();
    let whole = "<34>Oct 11 22:14:15 h su: x";
    texts.extend((1..=whole.len()).map(|end| whole[..end].to_owned()));
    for text in &texts {
        sender.send_to(text.as_bytes(), to).unwrap();
    }
    let all = events(&daemon, texts.len());
    for (event, text) in all.iter().zip(&texts) {
        let is_raw = event["parse_error"].is_string();
        let kept = event["message"].as_str().unwrap_or_default();
        assert!(
            is_raw && kept == text || !is_raw && text.ends_with(kept),
            "{text} {event:#}"
        );
    }
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
}

/// LI-1: a peer's text does not reach the daemon's own log as it is.
#[test]
fn li_1_nothing_of_a_message_is_in_the_daemons_own_log() {
    let daemon = receiver("\"tcp://127.0.0.1:0\"", "");
    send(
        &daemon,
        b"<34>Oct 11 22:14:15 h\x1b]0;pwn\x07 su: \x1b[2J\xc2\x9b31m\n\x1b[2J no\n",
    );
    let all = events(&daemon, 2);
    assert!(
        all[0]["message"].as_str().unwrap().contains("\u{1b}[2J"),
        "it is data"
    );
    let ended = daemon.stop();
    for record in &ended.log {
        let text = record.to_string();
        assert!(!text.contains("[2J") && !text.contains("pwn"), "{text}");
    }
}
