//! Payloads of hand-made events: every kind of key, slot and value, what is shared, what is
//! copied, and what damage does.
//!
//! What encoders make of events that steps left is in `tests/event_codec.rs`.
#![allow(clippy::unwrap_used)]

use chrono::DateTime;
use regex::Regex;
use vrl::value::{ObjectMap, Value};

use super::*;
use crate::event::{Constant, Origin, json, name, object};

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        source: "in".into(),
        peer: "[2001:db8::1]:5000".into(),
    })
}

/// Lines of `len` bytes, as a line framer leaves them.
fn lines(count: usize, len: usize) -> Batch {
    let text = format!("{}\n", "x".repeat(len)).repeat(count);
    let mut batch = Batch::new(origin(), WallTime::from_micros(-7), Bytes::from(text));
    let span = |index| Span::new(index * (len + 1), index * (len + 1) + len);
    batch.events = (0..count).map(|index| Event::Raw(span(index))).collect();
    batch.lines = true;
    batch
}

fn payload(batch: &Batch, picked: Option<&[u32]>) -> Bytes {
    let mut out = vec![1, 2, 3];
    encode(batch, picked, "main", &mut out);
    let payload = Bytes::from(out).slice(3..);
    let bound = encoded_bytes_max(batch, picked, "main");
    assert!(payload.len() <= bound, "{} beyond {bound}", payload.len());
    payload
}

fn read(payload: &Bytes) -> Decoded {
    decode(payload.clone(), &mut NameCache::new()).unwrap()
}

/// As every reader sees the events: JSON and the object of a program, with its kinds.
fn seen(batch: &Batch) -> Vec<(Vec<u8>, Vec<u8>, String)> {
    let writer = json::Writer::new(batch);
    let one = |event: &Event| {
        let mut text = Vec::new();
        writer.write(event, &mut text);
        let object = format!("{:?}", object(event, &batch.bytes));
        (batch.raw(event).to_vec(), text, object)
    };
    batch.events.iter().map(one).collect()
}

/// The same lines as a source leaves them that has only counted them.
fn uncut(count: usize, len: usize) -> Batch {
    let mut batch = lines(count, len);
    let whole = Span::new(0, batch.bytes.len());
    batch.events = Events::uncut(batch.bytes.clone(), whole, count);
    batch
}

#[test]
fn lines_that_were_only_counted_come_back_so() {
    let back = round(&uncut(1000, 7));
    assert_eq!(back.events.lines().map(Span::len), Some(8000));
    assert_eq!(seen(&back), seen(&lines(1000, 7)));
    let overhead = payload(&uncut(1000, 7), None).len() - 8000;
    assert!(overhead < 64, "{overhead} bytes beside the lines");
    // Some of them are listed.
    let some = read(&payload(&uncut(1000, 7), Some(&[3, 4, 900])));
    assert_eq!((some.batch.len(), some.batch.events.lines()), (3, None));
}

#[test]
fn another_number_of_lines_than_there_are_is_damage() {
    let whole = payload(&uncut(9, 3), None);
    let (last, rest) = whole.split_last().unwrap();
    assert_eq!(*last, 9);
    for wrong in [
        [rest, &[8]].concat(),
        [rest, &[9, 0]].concat(),
        rest.to_vec(),
    ] {
        let found = decode(wrong.into(), &mut NameCache::new());
        assert!(
            matches!(found, Err(DecodeError::Damaged { .. })),
            "{found:?}"
        );
    }
    // A version that had no such payloads.
    let mut old = whole.to_vec();
    old[0] = 1;
    let found = decode(old.into(), &mut NameCache::new());
    assert!(
        matches!(found, Err(DecodeError::Damaged { .. })),
        "{found:?}"
    );
}

/// Encodes, decodes, compares, and gives what was decoded.
fn round(batch: &Batch) -> Batch {
    let first = payload(batch, None);
    let back = read(&first);
    assert_eq!(seen(&back.batch), seen(batch));
    assert_eq!(&*back.pipeline, "main");
    assert_eq!(back.batch.origin, batch.origin);
    assert_eq!(back.batch.received, batch.received);
    assert_eq!(back.batch.lines, batch.lines);
    assert_eq!(payload(&back.batch, None), first, "not stable");
    back.batch
}

/// A batch of one event with these slots.
fn fielded(slots: Vec<Slot>) -> Batch {
    let mut batch = Batch::new(
        origin(),
        WallTime::from_micros(1),
        Bytes::from("raw, twice: raw"),
    );
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let list = slots.into_iter().zip(names).map(|(slot, name)| Field {
        key: Key::named(name),
        slot,
    });
    batch.events.push(Event::fielded(Fields {
        raw: Span::new(0, 3),
        list: list.collect(),
        parsed: true,
    }));
    batch
}

#[test]
fn a_run_of_lines_is_copied_as_it_stands_and_read_without_a_copy() {
    let batch = lines(1000, 200);
    let payload = payload(&batch, None);
    let more = payload.len() - (batch.bytes.len() - 1);
    assert!(more <= 2 * 1000 + 64, "{more} bytes more than the lines");
    let back = round(&batch);
    let run = back.events[0].raw().start..back.events[999].raw().end;
    assert_eq!(
        back.bytes[run.start as usize..run.end as usize],
        batch.bytes[..200_999]
    );
    let again = read(&payload).batch;
    assert_eq!(again.bytes.as_ptr(), payload.as_ptr(), "copied");
}

#[test]
fn only_what_is_picked_is_written() {
    let batch = lines(1000, 200);
    let picked = [3, 4, 5, 900, 2];
    let payload = payload(&batch, Some(&picked));
    assert!(payload.len() < 5 * 200 + 100, "{} bytes", payload.len());
    let back = read(&payload).batch;
    assert!(back.lines);
    let raws: Vec<_> = back.events.iter().map(Event::raw).collect();
    assert_eq!(raws.len(), 5);
    assert_eq!(
        raws[1].start,
        raws[0].end + 1,
        "neighbours keep their newline"
    );
    assert_eq!(back.bytes[raws[0].end as usize], b'\n');
    assert_eq!(
        raws[3].start, raws[2].end,
        "others have nothing between them"
    );
    let none = read(&self::payload(&batch, Some(&[])));
    assert!(none.batch.is_empty());
}

#[test]
fn every_kind_of_key_and_slot_comes_back() {
    let text = r#"{"k":"v","n":[1, 2],"t":"x\ny"} plain name=text [a b="\]" c="1"]"#;
    let mut batch = Batch::new(origin(), WallTime::from_micros(i64::MIN), Bytes::from(text));
    let constant = Arc::new(Constant::new(Value::from("a constant")));
    let find = |part: &str| {
        let start = text.find(part).unwrap();
        Span::new(start, start + part.len())
    };
    let field = |key, slot| Field { key, slot };
    let list = vec![
        field(Key::Json(find("k")), Slot::Json(find("\"v\""))),
        field(Key::Json(find("n")), Slot::Json(find("[1, 2]"))),
        field(Key::Span(find("name")), Slot::Text(find("text"))),
        field(
            Key::Static(name!("structured_data")),
            Slot::StructuredData(find(r#"[a b="\]" c="1"]"#)),
        ),
        field(Key::own("é"), Slot::Constant(Arc::clone(&constant))),
        field(Key::Static(name!("severity")), Slot::Word(name!("info"))),
        field(Key::Static(name!("int")), Slot::Integer(i64::MIN)),
        field(Key::Static(name!("time")), Slot::time(i64::MAX)),
        field(
            Key::Static(name!("")),
            Slot::text(Bytes::from_static(b"\xff\0")),
        ),
    ];
    for parsed in [true, false, true] {
        batch.events.push(Event::fielded(Fields {
            raw: Span::new(0, text.len()),
            list: list.clone(),
            parsed,
        }));
    }
    batch.events.insert(1, Event::Raw(find("plain")));
    let back = round(&batch);
    let slot = |event: usize, name: &str| {
        let found = super::super::find(&back.events[event], &back.bytes, name.as_bytes());
        found.unwrap().to_slot()
    };
    for name in ["severity", "é"] {
        let (Slot::Constant(one), Slot::Constant(two)) = (slot(0, name), slot(3, name)) else {
            panic!("{name} is no constant");
        };
        assert!(Arc::ptr_eq(&one, &two), "{name} was made twice");
    }
    let short = payload(&batch, None).len();
    batch.events.truncate(3);
    let more = short - payload(&batch, None).len();
    assert!(
        more < 64,
        "a further event of the same look takes {more} bytes"
    );
}

fn values() -> Vec<Value> {
    let time = |seconds, nanos| Value::Timestamp(DateTime::from_timestamp(seconds, nanos).unwrap());
    let float = |number: f64| Value::Float(number.try_into().unwrap());
    let mut map = ObjectMap::new();
    map.insert("".into(), Value::Null);
    map.insert(
        "k\"y".into(),
        Value::Array(vec![Value::Boolean(true), Value::Boolean(false)]),
    );
    map.insert("object".into(), Value::Object(map.clone()));
    vec![
        Value::Null,
        Value::Integer(i64::MAX),
        Value::Bytes(Bytes::from_static(b"no \xe2\x82 text")),
        Value::Bytes(Bytes::new()),
        Value::from("a string"),
        Value::from(Arc::new(Regex::new(r"^a+(?<n>\d)$").unwrap())),
        time(-1, 999_999_999),
        time(1_483_228_799, 1_999_999_999),
        float(-0.0),
        float(f64::MIN_POSITIVE / 3.0),
        float(f64::INFINITY),
        Value::Array(vec![Value::Array(Vec::new()), Value::Object(map.clone())]),
        Value::Object(map),
    ]
}

#[test]
fn every_kind_of_value_comes_back_exactly() {
    for value in values() {
        let slots = vec![
            Slot::Value(Box::new(value.clone())),
            Slot::Constant(Arc::new(Constant::new(value.clone()))),
        ];
        let back = round(&fielded(slots));
        let Event::Fields(fields) = &back.events[0] else {
            panic!("raw");
        };
        let Slot::Value(found) = &fields.list[0].slot else {
            panic!("{fields:?}");
        };
        assert_eq!(format!("{found:?}"), format!("{value:?}"));
        if let (Value::Float(a), Value::Float(b)) = (&**found, &value) {
            assert_eq!(a.to_bits(), b.to_bits());
        }
        if let (Value::Timestamp(a), Value::Timestamp(b)) = (&**found, &value) {
            assert_eq!(a.timestamp_nanos_opt(), b.timestamp_nanos_opt());
        }
    }
}

#[test]
fn values_share_the_payload_and_let_go_of_it_when_compacted() {
    let filler = Slot::text(Bytes::from(vec![b'.'; 1000]));
    let batch = fielded(vec![filler, Slot::Value(Box::new(Value::from("b")))]);
    let payload = payload(&batch, None);
    let mut back = read(&payload).batch;
    let Event::Fields(fields) = &back.events[0] else {
        panic!("raw");
    };
    let Slot::Value(value) = &fields.list[0].slot else {
        panic!("{fields:?}");
    };
    let at = value.as_bytes().unwrap().as_ptr() as usize - payload.as_ptr() as usize;
    assert!(at < payload.len(), "copied");
    let before = seen(&back);
    assert!(back.compact_below(2));
    assert_eq!(seen(&back), before);
    drop(batch);
    assert!(
        payload.is_unique(),
        "something still points into the payload"
    );
}

fn nested(depth: usize) -> Value {
    let mut value = Value::from("core");
    for level in 0..depth {
        value = match level % 2 {
            0 => Value::Array(vec![value]),
            _ => Value::Object([("k".into(), value)].into_iter().collect()),
        };
    }
    value
}

#[test]
fn values_too_deep_keep_their_text() {
    let deep = |depth| fielded(vec![Slot::Value(Box::new(nested(depth)))]);
    round(&deep(values::DEPTH_MAX));
    let back = read(&payload(&deep(values::DEPTH_MAX + 2), None)).batch;
    let text = String::from_utf8(seen(&back)[0].1.clone()).unwrap();
    assert!(text.contains(r#""{\"k\":[\"core\"]}""#), "{text}");
    round(&back);
}

#[test]
fn regexes_beyond_the_bounds_are_their_text() {
    let mut names = NameCache::new();
    let mut check = |text: &str, compiled: bool| {
        let mut out = vec![8];
        put_text(text.as_bytes(), &mut out);
        let bytes = Bytes::from(out);
        names.begin();
        let value = values::read(&mut Reader::new(&bytes).unwrap(), &mut names).unwrap();
        assert_eq!(value.is_regex(), compiled, "{text}");
        assert_eq!(value.to_string_lossy(), text);
    };
    check("a+", true);
    check("a+", true);
    check("(", false);
    check(r"(?:\w{200}){200}", false);
    check(&"a".repeat(5000), false);
    (0..40).for_each(|index| check(&format!("a{index}"), true));
}

#[test]
fn names_and_origins_are_made_once_for_all_payloads() {
    let payload = payload(&fielded(vec![Slot::Integer(1)]), None);
    let mut names = NameCache::new();
    let mut read = || {
        let read = decode(payload.clone(), &mut names).unwrap();
        let Event::Fields(fields) = &read.batch.events[0] else {
            panic!("raw");
        };
        let Key::Shared(key) = fields.list[0].key.clone() else {
            panic!("{fields:?}");
        };
        (read.batch.origin, read.pipeline, key)
    };
    let (one, two) = (read(), read());
    assert!(Arc::ptr_eq(&one.0, &two.0));
    assert!(Arc::ptr_eq(&one.1, &two.1));
    assert!(Arc::ptr_eq(&one.2, &two.2));
    // More names than places: each is still itself.
    for index in 0..2000 {
        let name = format!("name {index}");
        assert_eq!(&*names.name(&name), name);
        let origin = names.origin(&name, "peer");
        assert_eq!((&*origin.source, &*origin.peer), (&*name, "peer"));
    }
}

#[test]
fn more_names_than_have_numbers() {
    let mut batch = fielded(Vec::new());
    for _ in 0..3 {
        let list = (0..100).map(|index| Field {
            key: Key::own(format!("name {index}")),
            slot: Slot::Constant(Arc::new(Constant::new(Value::Integer(index)))),
        });
        batch.events.push(Event::fielded(Fields {
            raw: Span::new(12, 15),
            list: list.collect(),
            parsed: false,
        }));
    }
    round(&batch);
}

/// An error, or events that can be used in every way and written again.
fn survives(damaged: Vec<u8>) {
    let Ok(read) = decode(Bytes::from(damaged), &mut NameCache::new()) else {
        return;
    };
    let reach = read.batch.events.iter().map(Event::reach);
    assert!(
        reach
            .into_iter()
            .all(|span| { span.start <= span.end && span.end as usize <= read.batch.bytes.len() })
    );
    round_damaged(&read);
}

fn round_damaged(read: &Decoded) {
    let mut out = Vec::new();
    encode(&read.batch, None, &read.pipeline, &mut out);
    let again = decode(Bytes::from(out), &mut NameCache::new()).unwrap();
    assert_eq!(seen(&again.batch), seen(&read.batch));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error_or_a_batch() {
    let slots = values()
        .into_iter()
        .map(|value| Slot::Value(Box::new(value)));
    let payloads = [
        payload(&lines(5, 40), None),
        payload(&fielded(slots.collect()), None),
        payload(
            &fielded(vec![
                Slot::Json(Span::new(0, 3)),
                Slot::StructuredData(Span::new(0, 3)),
                Slot::Word(name!("info")),
            ]),
            None,
        ),
    ];
    for payload in payloads {
        for len in 0..payload.len() {
            let cut = decode(payload.slice(..len), &mut NameCache::new());
            assert!(cut.is_err(), "cut to {len} of {}", payload.len());
        }
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            survives(damaged);
        }
        let longer = [&payload[..], b"\0"].concat();
        assert!(decode(Bytes::from(longer), &mut NameCache::new()).is_err());
    }
}

#[test]
fn errors_say_where_and_what() {
    let check = |bytes: &'static [u8], expected: &str| {
        let error = decode(Bytes::from_static(bytes), &mut NameCache::new());
        assert_eq!(error.unwrap_err().to_string(), expected);
    };
    check(b"", "the payload is damaged at byte 0: it ends too early");
    check(
        b"\x03",
        "the payload is of version 3, this marline reads those up to 2: \
         read it with the marline that wrote it",
    );
    check(
        b"\x01\x02",
        "the payload is damaged at byte 2: an unknown flag",
    );
    let long = "the payload is damaged at byte 4: more things than bytes";
    check(b"\x01\0\xff\x01", long);
    let head: &[u8] = b"\x01\0\0\0\0\0";
    let check = |rest: &[u8], expected: &str| {
        let payload = Bytes::from([head, rest].concat());
        let error = decode(payload, &mut NameCache::new()).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
    };
    check(b"\x01x\x01\x08", "a span beyond the bytes");
    check(b"\x01x\x01\x06\x01", "a span beyond the bytes");
    check(b"\x01x\x01\x04\0", "bytes after the last event");
    check(b"\x01x\x01\x05\0\x01\x03\0\0", "an unknown kind of key");
    check(b"\x01x\x01\x05\0\x01\x1c\0\0\0", "an unknown kind of slot");
    check(
        b"\x01x\x01\x05\0\x01\x08\x01\0",
        "a number that nothing has",
    );
    check(
        b"\x01x\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "a number beyond 64 bits",
    );
}
