//! Syslog in and out: what the step makes of messages, what the encoder makes of events, and
//! that a message read, written and read again keeps every field.
//!
//! Messages for the last are random; what the parser tells apart is in `tests/protocol/syslog.rs`.

use bytes::Bytes;
use marline::event::zone::Zone;
use marline::event::{Batch, Span, syslog as writer};
use marline::pipeline::encode::{Encoder, Frame, Output};
use marline::protocol::syslog;
use marline::steps::parse::syslog::Reader;
use marline::time::WallTime;
use serde_json::{Map, Value, json};

use super::event_random::{Random, batch_of, seeds};
use super::steps_events::{apply_at, build, lines, show, try_build};

/// 2026-11-23T18:41:59.123456Z
const NOW: i64 = 1_795_459_319_123_456;

const UTC: &str = "{ syslog = { timezone = \"UTC\" } }";

fn received<T: AsRef<[u8]>>(texts: &[T]) -> Batch {
    let mut batch = batch_of(texts, b"\n");
    batch.received = WallTime::from_micros(NOW);
    batch
}

/// The event of one message, as JSON.
fn parsed(text: &[u8], step: &str) -> (Batch, Map<String, Value>) {
    let mut batch = received(&[text]);
    let counts = apply_at(&mut *build("parse", step), &mut batch, 0, false);
    assert_eq!(counts.first_error, None, "{}", text.escape_ascii());
    let shown = serde_json::from_str(&show(&batch)[0]).unwrap();
    (batch, shown)
}

fn settings(layout: writer::Layout, zone: &str) -> writer::Settings {
    writer::Settings {
        layout,
        zone: Zone::named(zone).unwrap(),
        ..writer::Settings::default()
    }
}

fn written(settings: &writer::Settings, batch: &Batch, frame: Frame) -> Vec<u8> {
    let mut out = Output::new();
    Encoder::Syslog(settings.clone()).encode(batch, &batch.events, frame, &mut out);
    out.take().concat()
}

#[test]
fn a_message_becomes_its_fields() {
    let check = |text: &str, expected: Value| {
        let (_, found) = parsed(text.as_bytes(), UTC);
        assert_eq!(Value::Object(found), expected, "{text}");
    };
    check(
        "<165>1 2003-10-11T22:14:15.003Z h.example app 12 ID47 [a@1 x=\"y\\\"\"][b] text",
        json!({
            "timestamp": "2003-10-11T22:14:15.003000Z", "host": "h.example", "app": "app",
            "procid": "12", "msgid": "ID47", "facility": "local4", "severity": "notice",
            "facility_code": 20, "severity_code": 5, "message": "text",
            "structured_data": {"a@1": {"x": "y\""}, "b": {}},
        }),
    );
    check(
        "<34>Nov 23 10:00:00 h su[7]: text",
        json!({
            "timestamp": "2026-11-23T10:00:00.000000Z", "host": "h", "app": "su", "procid": "7",
            "facility": "auth", "severity": "crit", "facility_code": 4, "severity_code": 2,
            "message": "text",
        }),
    );
    let nothing = json!({
        "facility": "kern", "severity": "emerg", "facility_code": 0, "severity_code": 0,
    });
    check("<0>1 - - - - - -", nothing);
    let (_, found) = parsed(b"<0>Dec 25 00:00:00.5 h \xff\xfe", UTC);
    assert_eq!(found["message"], "\u{fffd}\u{fffd}");
    assert_eq!(found["timestamp"], "2025-12-25T00:00:00.500000Z");
}

#[test]
fn the_time_zone_is_an_option() {
    let berlin = "{ syslog = { timezone = \"Europe/Berlin\" } }";
    let (_, found) = parsed(b"<34>Jul  1 10:00:00 h su: t", berlin);
    assert_eq!(found["timestamp"], "2026-07-01T08:00:00.000000Z");
    let (_, found) = parsed(b"<34>1 2026-07-01T10:00:00Z h su - - - t", berlin);
    assert_eq!(found["timestamp"], "2026-07-01T10:00:00.000000Z");
    let error = try_build("parse", "{ syslog = { timezone = \"Europe/Nowhere\" } }");
    let error = error.map(drop).unwrap_err();
    assert!(error.contains("no time zone \"Europe/Nowhere\""), "{error}");
}

#[test]
fn a_message_of_an_event_is_parsed_too() {
    let mut batch = lines(r#"{"message":"<34>1 - h a - - [x y=\"\\\"z\"] t"}"#);
    apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
    apply_at(&mut *build("parse", "\"syslog\""), &mut batch, 0, false);
    let found: Value = serde_json::from_str(&show(&batch)[0]).unwrap();
    assert_eq!(found["structured_data"], json!({"x": {"y": "\"z"}}));
    assert_eq!(
        (&found["host"], &found["message"]),
        (&json!("h"), &json!("t"))
    );
}

#[test]
fn programs_see_structured_data_as_an_object() {
    let mut batch = received(&["<34>1 - h a - - [o ip=\"::1\" ip=\"::2\"][m n=\"1\"] t"]);
    apply_at(&mut *build("parse", UTC), &mut batch, 0, false);
    let program = "'''.second = .structured_data.o.ip[1]\n.n = .structured_data.m.n'''";
    apply_at(&mut *build("vrl", program), &mut batch, 0, false);
    let found: Value = serde_json::from_str(&show(&batch)[0]).unwrap();
    assert_eq!(
        (&found["second"], &found["n"]),
        (&json!("::2"), &json!("1"))
    );
}

#[test]
fn a_reader_makes_events_and_says_what_they_were() {
    let bytes = Bytes::from_static(b"xx<34>Nov 23 10:00:00 su: t\nhello");
    let mut reader = Reader::new(Zone::UTC);
    reader.received_at(NOW);
    let (event, message) = reader.event(&bytes, Span::new(2, 27));
    let message = message.unwrap();
    assert_eq!(message.format, syslog::Format::Rfc3164NoHost);
    let (hello, error) = reader.event(&bytes, Span::new(28, 33));
    assert_eq!(error.unwrap_err().what, "neither a priority nor a time");
    let mut batch = received::<&str>(&[]);
    batch.bytes = bytes;
    batch.events = vec![event, hello].into();
    let shown = show(&batch);
    assert!(shown[0].contains(r#""timestamp":"2026-11-23T10:00:00.000000Z","app":"su""#));
    assert!(shown[1].contains(r#""message":"hello""#), "{}", shown[1]);
    assert!(
        shown[1].contains(r#""parse_error":"not syslog: neither"#),
        "{}",
        shown[1]
    );
}

#[test]
fn raw_and_other_events_are_messages_with_defaults() {
    let mut settings = settings(writer::Layout::Rfc5424, "UTC");
    let raw = received(&["a\"b"]);
    let time = "2026-11-23T18:41:59.123456Z";
    let check = |settings: &writer::Settings, batch: &Batch, expected: &str| {
        let found = written(settings, batch, Frame::Lines);
        assert_eq!(String::from_utf8_lossy(&found), expected);
    };
    check(
        &settings,
        &raw,
        &format!("<13>1 {time} 192.0.2.1 - - - - a\"b\n"),
    );
    (settings.facility, settings.severity) = (16, 6);
    settings.app = Some("an app".into());
    check(
        &settings,
        &raw,
        &format!("<134>1 {time} 192.0.2.1 an_app - - - a\"b\n"),
    );
    let mut batch = received(&[r#"{"a":1,"severity":"WARN","facility":"23"}"#]);
    apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
    let start = format!("<188>1 {time} 192.0.2.1 an_app - - - ");
    let text = r#"{"a":1,"severity":"WARN","facility":"23"}"#;
    check(&settings, &batch, &format!("{start}{text}\n"));
    let text = r#"{"message":"m\nn","timestamp":"2026-01-02T03:04:05+01:00","msgid":"a b\u00e9"}"#;
    let mut batch = received(&[text]);
    apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
    let expected = "<134>1 2026-01-02T02:04:05.000000Z 192.0.2.1 an_app - a_b__ - m n\n";
    check(&settings, &batch, expected);
}

#[test]
fn words_are_cut_at_their_maxima() {
    let long = "x".repeat(300);
    let text = format!("<34>1 - {long} {long} {long} {long} - t");
    let (batch, _) = parsed(text.as_bytes(), UTC);
    let settings = settings(writer::Layout::Rfc5424, "UTC");
    let found = written(&settings, &batch, Frame::Datagram);
    let lengths: Vec<_> = found.split(|byte| *byte == b' ').map(<[u8]>::len).collect();
    assert_eq!(lengths[2..], [255, 48, 128, 32, 1, 1]);
    let message = syslog::parse(&found).unwrap();
    assert_eq!(message.overlong, 0);
}

#[test]
fn rfc_3164_has_local_time_and_always_a_tag() {
    let settings = settings(writer::Layout::Rfc3164, "Europe/Berlin");
    let check = |text: &str, expected: &str| {
        let (batch, _) = parsed(text.as_bytes(), UTC);
        let found = written(&settings, &batch, Frame::Lines);
        assert_eq!(String::from_utf8_lossy(&found), expected, "{text}");
    };
    check(
        "<34>1 2026-07-01T10:00:00.9Z h a 1 - [x] t",
        "<34>Jul  1 12:00:00 h a[1]: t\n",
    );
    check(
        "<34>1 2026-12-31T23:00:01Z h - - - - t",
        "<34>Jan  1 00:00:01 h in: t\n",
    );
    check(
        "<34>1 2026-12-31T23:00:01Z h a:b[ ] - -",
        "<34>Jan  1 00:00:01 h a_b_[_]:\n",
    );
}

#[test]
fn framing_counts_the_message() {
    let settings = settings(writer::Layout::Rfc5424, "UTC");
    let found = written(&settings, &received(&["x"]), Frame::OctetCounted);
    assert_eq!(
        found,
        b"53 <13>1 2026-11-23T18:41:59.123456Z 192.0.2.1 - - - - x"
    );
}

#[test]
fn both_rooms_have_the_same_keywords() {
    assert_eq!(writer::SEVERITIES, syslog::SEVERITIES);
    assert_eq!(writer::FACILITIES, syslog::FACILITIES);
}

/// A word of the header, or `-`.
fn word(random: &mut Random, chars: &[&str]) -> String {
    if random.below(4) == 0 {
        return "-".to_owned();
    }
    let pieces = (0..=random.below(6)).map(|_| random.one_of(chars));
    let word: String = pieces.collect();
    if word == "-" { "a".to_owned() } else { word }
}

/// A text of any bytes, without what the end of a message loses and without a mark in front.
fn text(random: &mut Random) -> Vec<u8> {
    let mut text = random.bytes(40);
    while let Some(b'\r' | b'\n' | 0) = text.last() {
        text.pop();
    }
    text
}

fn value(random: &mut Random) -> String {
    let text = random.text(12);
    let escape = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(']', "\\]")
    };
    escape(&text)
}

fn structured_data(random: &mut Random) -> String {
    let elements = (0..random.below(3)).map(|index| {
        let parameters = (0..random.below(4)).map(|_| {
            let name = random.one_of(&["ip", "x", "sequenceId", "n.1"]);
            format!(" {name}=\"{}\"", value(random))
        });
        let parameters: String = parameters.collect();
        format!("[id{index}@32473{parameters}]")
    });
    let elements: String = elements.collect();
    if elements.is_empty() {
        "-".to_owned()
    } else {
        elements
    }
}

fn message_5424(random: &mut Random) -> Vec<u8> {
    let times = [
        "-",
        "2026-11-27T10:00:00Z",
        "1985-04-12T23:20:50.52-04:00",
        "2028-02-29T00:00:00.000001+01:00",
    ];
    let chars = [
        "a", "B7", "-", ".", "[", ":", "\"", "=", "\\", "<34>", "~", "]",
    ];
    let mut message = format!(
        "<{}>1 {} {} {} {} {} {}",
        random.below(192),
        random.one_of(&times),
        word(random, &chars),
        word(random, &chars),
        word(random, &chars),
        word(random, &chars),
        structured_data(random)
    )
    .into_bytes();
    if random.below(4) > 0 {
        message.push(b' ');
        message.extend(text(random));
    }
    message
}

/// Every field of the first is in the second, and no other but time and host.
fn keeps(first: &Map<String, Value>, second: &Map<String, Value>, text: &[u8]) {
    let text = text.escape_ascii();
    for (name, value) in first {
        assert_eq!(second.get(name), Some(value), "{name} of {text}");
    }
    let made = |name: &&String| !first.contains_key(*name);
    let more: Vec<_> = second.keys().filter(made).collect();
    let defaults = |name: &&String| *name == "host" || *name == "timestamp";
    assert!(more.iter().all(defaults), "{more:?} of {text}");
}

#[test]
fn rfc_5424_read_and_written_keeps_every_field() {
    let settings = settings(writer::Layout::Rfc5424, "UTC");
    seeds(5_000, |random| {
        let text = message_5424(random);
        let (mut batch, first) = parsed(&text, UTC);
        if random.below(4) == 0 {
            // A program's object in place of the text it came from.
            let program = "'''.structured_data = object(.structured_data) ?? {}'''";
            apply_at(&mut *build("vrl", program), &mut batch, 0, false);
        }
        let again = written(&settings, &batch, Frame::Datagram);
        let (_, second) = parsed(&again, UTC);
        keeps(&first, &second, &text);
    });
}

#[test]
fn rfc_3164_read_and_written_keeps_every_field() {
    let settings = settings(writer::Layout::Rfc3164, "America/St_Johns");
    let step = "{ syslog = { timezone = \"America/St_Johns\" } }";
    seeds(3_000, |random| {
        let month = random.one_of(&["Jan", "Jul", "Nov"]);
        let day = 1 + random.below(20);
        let host = random.one_of(&["h", "192.0.2.1", "2001:db8::1", "a-b.example"]);
        let app = random.one_of(&["su", "postfix/smtpd", "CRON(pam_unix)", "a.b-c@1"]);
        let pid = random.one_of(&["", "[1]", "[a/b]"]);
        let priority = random.below(192);
        let time = format!("{month} {day:2} 0{}:59:07", random.below(10));
        let mut message = format!("<{priority}>{time} {host} {app}{pid}: ").into_bytes();
        message.extend(text(random));
        let (batch, first) = parsed(&message, step);
        let again = written(&settings, &batch, Frame::Datagram);
        let (_, second) = parsed(&again, step);
        assert_eq!(first, second, "{}", message.escape_ascii());
    });
}
