//! JSON in and out, held against serde_json as the reference.
//!
//! Whatever an event holds, what is written is JSON, and says the same as the original did:
//! equal values after a parse, equal bytes where values are copied as they stand.

use bytes::Bytes;
use marline::event::{Event, Name, Slot, Span, into_fields, json, parse_json};
use serde_json::Value;

use super::event_random::{batch, batch_of, seeds};
use super::steps_events::{apply_at, build, show};

fn written(text: &[u8]) -> String {
    let mut out = Vec::new();
    json::write_text(text, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn text_is_escaped_as_the_reference_does_it() {
    for byte in 0..=0x10ffff {
        if let Some(letter) = char::from_u32(byte) {
            let text = format!("1234567{letter}12345678{letter}");
            assert_eq!(
                written(text.as_bytes()),
                serde_json::to_string(&text).unwrap()
            );
        }
    }
    seeds(20_000, |random| {
        let bytes = random.bytes(60);
        let lossy = String::from_utf8_lossy(&bytes);
        assert_eq!(
            written(&bytes),
            serde_json::to_string(&lossy).unwrap(),
            "{bytes:?}"
        );
    });
}

#[test]
fn broken_utf8_becomes_one_sign_per_broken_part() {
    let check =
        |bytes: &[u8], expected: &str| assert_eq!(written(bytes), format!("\"{expected}\""));
    check(b"a\xffb", "a\u{fffd}b");
    check(b"\xe2\x82", "\u{fffd}");
    check(b"\xff\xfe\"", "\u{fffd}\u{fffd}\\\"");
    check(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}");
    check(b"\xc0\xaf\n", "\u{fffd}\u{fffd}\\n");
}

#[test]
fn values_are_read_as_the_reference_reads_them() {
    seeds(20_000, |random| {
        let text = random.json(3);
        let bytes = Bytes::from(text.clone());
        let value = parse_json(&bytes, Span::new(0, bytes.len()));
        let mut out = Vec::new();
        json::write_value(&value, &mut out);
        let ours: Value = serde_json::from_slice(&out).unwrap();
        assert!(
            same(&ours, &serde_json::from_str(&text).unwrap()),
            "{text} became {ours}"
        );
    });
}

/// Equal but for integers that 64 bits cannot hold, which are floats here.
fn same(ours: &Value, reference: &Value) -> bool {
    match (ours, reference) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => ours == reference,
    }
}

#[test]
fn integers_are_exact_to_the_last_digit() {
    for number in [
        0,
        1,
        -1,
        9,
        10,
        i64::MAX,
        i64::MIN,
        999_999_999_999_999_999,
        -1_000_000,
    ] {
        let bytes = Bytes::from(number.to_string());
        let value = parse_json(&bytes, Span::new(0, bytes.len()));
        let mut out = Vec::new();
        json::write_value(&value, &mut out);
        assert_eq!(out, number.to_string().as_bytes());
    }
}

#[test]
fn numbers_beyond_a_float_are_texts_and_no_infinity() {
    for number in ["1e999", "-1e400", "[1e999]"] {
        let bytes = Bytes::from(number);
        let value = parse_json(&bytes, Span::new(0, number.len()));
        let mut out = Vec::new();
        json::write_value(&value, &mut out);
        assert_eq!(out, format!("\"{number}\"").as_bytes());
    }
}

#[test]
fn objects_go_through_unchanged_in_meaning() {
    let mut parse = build("parse", "\"json\"");
    let mut set = build("set", "{ a = 7, new = \"x\" }");
    seeds_with(&mut |random| {
        let texts: Vec<_> = (0..5).map(|_| random.object(2)).collect();
        let mut batch = batch_of(&texts, b"\n");
        apply_at(&mut *parse, &mut batch, 0, false);
        for (text, shown) in texts.iter().zip(show(&batch)) {
            let before: Value = serde_json::from_str(text).unwrap();
            let after: Value = serde_json::from_str(&shown).unwrap();
            assert!(after == before, "{text} became {shown}");
        }
        apply_at(&mut *set, &mut batch, 0, false);
        for (text, shown) in texts.iter().zip(show(&batch)) {
            let mut before: Value = serde_json::from_str(text).unwrap();
            before["a"] = 7.into();
            before["new"] = "x".into();
            let after: Value = serde_json::from_str(&shown).unwrap();
            assert!(after == before, "{text} became {shown}");
        }
    });
}

/// As [`seeds`], for steps, which change themselves.
fn seeds_with(property: &mut dyn FnMut(&mut super::event_random::Random)) {
    let property = std::cell::RefCell::new(property);
    seeds(5_000, |random| (property.borrow_mut())(random));
}

#[test]
fn neighbours_are_copied_as_they_stand_and_strangers_are_not() {
    let text = r#"{"a":1.0,"b":[1, 2],  "c" : 3,"d":"\/"}"#;
    let mut batch = batch_of(&[text], b"\n");
    apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
    assert_eq!(show(&batch), [r#"{"a":1.0,"b":[1, 2],"c":3,"d":"\/"}"#]);
    apply_at(&mut *build("remove", "[\"b\"]"), &mut batch, 0, false);
    assert_eq!(show(&batch), [r#"{"a":1.0,"c":3,"d":"\/"}"#]);
    apply_at(&mut *build("rename", "{ c = \"a\" }"), &mut batch, 0, false);
    assert_eq!(show(&batch), [r#"{"a":3,"d":"\/"}"#]);
}

#[test]
fn a_raw_event_shows_where_it_came_from() {
    let check = |peer: &str, host: Option<&str>| {
        let mut batch = batch(b"hi", &[(0, 2)]);
        let origin = std::sync::Arc::make_mut(&mut batch.origin);
        origin.peer = peer.into();
        let shown: Value = serde_json::from_str(&show(&batch)[0]).unwrap();
        assert_eq!(shown.get("host").and_then(Value::as_str), host, "{peer}");
        assert_eq!(shown["message"], "hi");
        assert_eq!(shown["source"], "in");
        assert_eq!(shown["timestamp"], "1970-01-01T00:00:00.000000Z");
    };
    check("192.0.2.1:5000", Some("192.0.2.1"));
    check("[2001:db8::1]:5000", Some("2001:db8::1"));
    check("2001:db8::1", Some("2001:db8::1"));
    check("/run/app.sock", Some("/run/app.sock"));
    check("@abstract:1", Some("@abstract:1"));
    check(
        "http://user@a.example.net:8080/status?x=1",
        Some("a.example.net"),
    );
    check("http://[::1]/x", Some("::1"));
    check("localhost", Some("localhost"));
    check("", None);
}

#[test]
fn marks_are_added_to_what_a_raw_event_shows() {
    let mut batch = batch(b"hi\xff", &[(0, 3)]);
    let bytes = batch.bytes.clone();
    batch.events[0].mark(&bytes, "truncated", "longer than \"3\"");
    let rest = r#""host":"192.0.2.1","source":"in","truncated":"longer than \"3\"""#;
    let time = r#""timestamp":"1970-01-01T00:00:00.000000Z""#;
    let expected = format!("{{\"message\":\"hi\u{fffd}\",{time},{rest}}}");
    assert_eq!(show(&batch), [expected]);
    assert_eq!(
        batch.raw(&batch.events[0]),
        b"hi\xff",
        "the original bytes stay"
    );
}

#[test]
fn every_kind_of_slot_is_json() {
    let mut batch = batch(b"\"\xff", &[(0, 2)]);
    let bytes = batch.bytes.clone();
    let fields = into_fields(&mut batch.events[0]);
    fields.parsed = true;
    let slots = [
        ("text", Slot::Text(Span::new(0, 2))),
        ("word", Slot::Word(const { &Name::new("info") })),
        ("min", Slot::Integer(i64::MIN)),
        ("time", Slot::time(1_500_000)),
        ("own", Slot::text(Bytes::from_static(b"\xffx"))),
    ];
    for (name, slot) in slots {
        fields.set(&bytes, marline::event::Key::own(name), slot);
    }
    let expected = concat!(
        r#"{"text":"\"�","word":"info","min":-9223372036854775808,"#,
        r#""time":"1970-01-01T00:00:01.500000Z","own":"�x"}"#
    );
    assert_eq!(show(&batch), [expected]);
    assert!(matches!(batch.events[0], Event::Fields(_)));
}
