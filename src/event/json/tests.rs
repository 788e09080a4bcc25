//! What the pen writes, held against a writer that takes one byte at a time and knows no room,
//! no block and no word: random events from seeds, and every byte in every place of texts of
//! every length, with and without bytes behind them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::event::{Constant, Name, Origin};
use crate::sim::Random;

/// By the letter of RFC 8259, byte by byte.
fn slowly(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' | '\\' | '\0'..='\u{1f}' => write_escaped(character as u8, &mut out),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
    out
}

/// Bytes that are plain, those next to them, and those that are not.
const BYTES: [u8; 12] = [
    0, 0x1f, b' ', b'!', b'"', b'#', b'[', b'\\', b']', 0x7f, 0x80, 0xff,
];

#[test]
fn a_byte_that_is_not_plain_is_found_wherever_it_stands() {
    for len in 0..70 {
        let mut text = vec![b'a'; len];
        let check = |text: &[u8]| {
            let (mut out, expected) = (Vec::new(), slowly(text));
            write_text(text, &mut out);
            assert_eq!(out, expected, "{text:?}");
            // With what is not plain before it, and more or less of that behind it.
            for behind in [0, 1, 2, 7, 8, 9, 16, 40] {
                let bytes = [b"\"\xff", text, &vec![b'"'; behind]].concat();
                let mut out = Vec::new();
                with_pen(&mut out, |pen| {
                    pen.byte(b'<');
                    pen.text(&bytes, Span::new(2, 2 + len));
                    pen.byte(b'>');
                });
                assert_eq!(out, [b"<", &*expected, b">"].concat(), "{text:?} {behind}");
            }
        };
        check(&text);
        for at in 0..len {
            for byte in BYTES {
                text[at] = byte;
                check(&text);
            }
            text[at] = b'a';
        }
        let mut text = vec![b'"'; len];
        check(&text);
        text.fill(0xc3);
        check(&text);
    }
}

#[test]
fn whatever_is_written_is_written_right_at_the_end_of_the_room() {
    let long = "x".repeat(3000);
    let bytes = Bytes::from(format!("{long}[a@1 b=\"c\" d=\"\\]\"]\"\n"));
    let data = Span::new(3000, bytes.len() - 2);
    static LONG: Name = Name::new("a name that is too long for a block");
    static SHORT: Name = Name::new("short");
    let pieces: [(&str, &dyn Fn(&mut Pen<'_>)); 15] = [
        ("7", &|pen| pen.byte(b'7')),
        (",\"short\":", &|pen| pen.name(b',', &SHORT)),
        ("\"short\"", &|pen| pen.word(&SHORT)),
        (&format!(",\"{}\":", &*LONG), &|pen| pen.name(b',', &LONG)),
        (&format!("\"{}\"", &*LONG), &|pen| pen.word(&LONG)),
        ("99999999", &|pen| pen.integer(99_999_999)),
        ("-1", &|pen| pen.integer(-1)),
        ("\"1970-01-01T00:00:00.000007Z\"", &|pen| {
            pen.time(WallTime::from_micros(7))
        }),
        ("\"xxxxxxx\"", &|pen| pen.text(&bytes, Span::new(0, 7))),
        ("\"xxxxxxxxxxxxxxx\"", &|pen| {
            pen.text(&bytes, Span::new(0, 15))
        }),
        (&format!("\"{}\"", "x".repeat(40)), &|pen| {
            pen.text(&bytes, Span::new(0, 40))
        }),
        (&long, &|pen| pen.piece(&bytes, Span::new(0, 3000))),
        (&"x".repeat(20), &|pen| pen.piece(&bytes, Span::new(0, 20))),
        ("\"\\\"\\n\"", &|pen| {
            pen.text(&bytes, Span::new(bytes.len() - 2, bytes.len()))
        }),
        ("{\"a@1\":{\"b\":\"c\",\"d\":\"]\"}}", &|pen| {
            structured_data::write_json(&bytes, data, pen);
        }),
    ];
    for (text, write) in pieces {
        // The room is 1024 bytes; before the piece there is so much in it, of several pieces.
        for before in (0..8).chain(1024 - 70..1024 + 5).chain([2000]) {
            let mut out = vec![b'-'];
            with_pen(&mut out, |pen| {
                for _ in 0..before {
                    pen.byte(b'x');
                }
                write(pen);
                pen.byte(b'.');
            });
            assert_eq!(out, format!("-{}{text}.", &long[..before]).as_bytes());
        }
    }
}

#[test]
fn what_is_taken_back_was_never_there() {
    for (before, behind) in [(0, 3), (1000, 3), (1000, 100), (1000, 3000), (2050, 10)] {
        let mut out = Vec::new();
        with_pen(&mut out, |pen| {
            (0..before).for_each(|_| pen.byte(b'a'));
            let mark = pen.mark();
            (0..behind).for_each(|_| pen.byte(b'b'));
            pen.back_to(mark);
            pen.byte(b'c');
        });
        assert_eq!(out, format!("{}c", "a".repeat(before)).as_bytes());
    }
}

#[test]
fn numbers_are_written_in_all_their_digits() {
    let powers = (0..19).map(|power| 10_i64.pow(power));
    let around = powers.flat_map(|power| [power - 1, power, power + 1, -power, 7 * power]);
    for number in around.chain([i64::MIN, i64::MAX]).chain(0..2000) {
        let mut out = Vec::new();
        with_pen(&mut out, |pen| pen.integer(number));
        assert_eq!(out, number.to_string().as_bytes());
    }
}

/// Bytes in which everything occurs that somebody escapes or gets wrong, mostly plain.
fn append_text(random: &mut Random, bytes: &mut Vec<u8>) -> Span {
    let start = bytes.len();
    let len = random.pick(&[0, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1500]);
    let is_plain = random.chance(700);
    while bytes.len() < start + random.below(len + 1) {
        let special: &[&[u8]] = &[b"\"", b"\\", b"\n", b"\0", b"\x7f", b"\xff", b"\xe2\x82"];
        let piece = match random.below(if is_plain { 3 } else { 5 }) {
            0 => b"a",
            1 => b"plain text".as_slice(),
            2 => b" ",
            3 => "é😀".as_bytes(),
            _ => random.pick(special),
        };
        bytes.extend_from_slice(piece);
    }
    Span::new(start, bytes.len())
}

fn text(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    append_text(random, &mut text);
    text
}

/// Structured data as it should be, or nearly.
fn append_data(random: &mut Random, bytes: &mut Vec<u8>) -> Span {
    let start = bytes.len();
    let names = [
        "a",
        "b",
        "ip",
        "a_long_name",
        "exactly8",
        "meta@32473",
        "é",
        "q\"",
        "",
    ];
    for _ in 0..random.below(4) {
        let known = if random.chance(900) { 6 } else { names.len() };
        let mut text = format!("[{}", random.pick(&names[..known]));
        for _ in 0..random.below(5) {
            let value = random.pick(&["", "0", "eu-7", "eight by", "q\\\"\\\\\\]\\n", "é\n", "="]);
            let blanks = random.pick(&[" ", " ", "  "]);
            text += &format!("{blanks}{}=\"{value}\"", random.pick(&names[..known]));
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(random.pick(&["]", "]", "]", " ]", "", "x]"]).as_bytes());
    }
    Span::new(start, bytes.len())
}

/// An event of random fields, and what they lie in.
fn event(random: &mut Random) -> (Batch, Event) {
    static WORD: Name = Name::new("a_word");
    static LONG: Name = Name::new("a_name_of_more_than_thirty_two_bytes");
    let mut bytes = Vec::new();
    let mut list = Vec::new();
    for _ in 0..random.below(12) {
        bytes.extend_from_slice(random.pick(&["{", ",", "-", ", "]).as_bytes());
        let mut key = match random.below(5) {
            0 => Key::Static(&WORD),
            1 => Key::Static(&LONG),
            2 => Key::own(String::from_utf8_lossy(&text(random))),
            3 => Key::Span(append_text(random, &mut bytes)),
            _ => Key::named(random.pick(&["message", "host", "source", "timestamp", "é", "x"])),
        };
        let slot = match random.below(11) {
            0 => Slot::Text(append_text(random, &mut bytes)),
            1 | 2 => {
                let names = ["", "k", "a_key_of_json"];
                bytes.push(b'"');
                let start = bytes.len();
                bytes.extend_from_slice(random.pick(&names).as_bytes());
                key = Key::Json(Span::new(start, bytes.len()));
                bytes.extend_from_slice(random.pick(&["\":", "\": "]).as_bytes());
                let start = bytes.len();
                bytes.extend_from_slice(format!("[{}]", "7,".repeat(random.below(30))).as_bytes());
                Slot::Json(Span::new(start, bytes.len()))
            }
            3 | 4 => Slot::StructuredData(append_data(random, &mut bytes)),
            5 => Slot::Word(random.pick(&[&WORD, &LONG])),
            6 => Slot::Integer(random.number() as i64 >> random.below(64)),
            7 => Slot::time(random.number() as i64 >> random.below(20)),
            8 => Slot::text(Bytes::from(text(random))),
            9 => Slot::Value(Box::new(Value::Array(vec![Value::Null, Value::from(-1)]))),
            _ => Slot::Constant(Arc::new(Constant::new(Value::from("a \"constant\"")))),
        };
        list.push(Field { key, slot });
    }
    let raw = append_text(random, &mut bytes);
    let origin = Origin {
        source: "in".into(),
        peer: random.pick(&["", "192.0.2.1:7", "h\"o\\st"]).into(),
    };
    let batch = Batch::new(Arc::new(origin), WallTime::from_micros(7), bytes.into());
    let parsed = random.chance(700);
    let event = if random.chance(100) {
        Event::Raw(raw)
    } else {
        Event::fielded(Fields { raw, list, parsed })
    };
    (batch, event)
}

/// What [`Writer::write`] is to write.
fn event_slowly(batch: &Batch, event: &Event) -> Vec<u8> {
    let bytes = &batch.bytes;
    let none = Fields {
        raw: event.raw(),
        ..Fields::default()
    };
    let fields: &Fields = match event {
        Event::Raw(_) => &none,
        Event::Fields(fields) => fields,
    };
    let mut members: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if !fields.parsed {
        let message = fields.raw.of(bytes);
        let host = batch.origin.host().as_bytes();
        let shared = [
            ("message", slowly(message)),
            ("timestamp", slowly(batch.received.to_string().as_bytes())),
            ("host", slowly(host)),
            ("source", slowly(batch.origin.source.as_bytes())),
        ];
        for (name, value) in shared {
            let is_set = |field: &Field| field.key.of(bytes) == name.as_bytes();
            let is_left_out = name == "host" && host.is_empty();
            if !is_left_out && !fields.list.iter().any(is_set) {
                members.push((slowly(name.as_bytes()), value));
            }
        }
    }
    for Field { key, slot } in &fields.list {
        members.push((slowly(key.of(bytes)), slot_slowly(slot, bytes)));
    }
    object_slowly(&members)
}

fn object_slowly(members: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let members = members
        .iter()
        .map(|(name, value)| [name, &b":"[..], value].concat());
    [b"{", &*members.collect::<Vec<_>>().join(&b','), b"}"].concat()
}

fn slot_slowly(slot: &Slot, bytes: &[u8]) -> Vec<u8> {
    match slot {
        Slot::Text(span) => slowly(span.of(bytes)),
        Slot::Json(span) => span.of(bytes).to_vec(),
        Slot::StructuredData(span) => data_slowly(span.of(bytes)),
        Slot::Word(word) => slowly(word.as_bytes()),
        Slot::Integer(number) => number.to_string().into_bytes(),
        Slot::Time(time) => slowly(time.to_string().as_bytes()),
        Slot::Value(value) => match &**value {
            Value::Bytes(text) => slowly(text),
            value => value.to_string().replace(", ", ",").into_bytes(),
        },
        Slot::Constant(constant) => constant.json.to_vec(),
    }
}

/// Structured data byte by byte. Where a name comes twice, or may do so, the object is asked for.
fn data_slowly(text: &[u8]) -> Vec<u8> {
    let find = |from: usize, ends: &[u8]| {
        let mut rest = from..text.len();
        rest.find(|at| ends.contains(&text[*at]))
    };
    let is_clear = |names: &[&[u8]]| {
        let is_new = |(at, name): (usize, &&[u8])| !names[..at].contains(name) && name.is_ascii();
        names.len() <= 32 && names.iter().enumerate().all(is_new)
    };
    let (mut ids, mut elements, mut at) = (Vec::new(), Vec::new(), 0);
    let mut are_clear = true;
    while text.get(at) == Some(&b'[')
        && let Some(end) = find(at + 1, b" ]")
    {
        let (mut names, mut parameters) = (Vec::new(), Vec::new());
        ids.push(&text[at + 1..end]);
        at = end;
        loop {
            while text.get(at) == Some(&b' ') {
                at += 1;
            }
            if text.get(at) == Some(&b']') {
                at += 1;
                break;
            }
            let equals = find(at, b"=").filter(|at| text.get(at + 1) == Some(&b'"'));
            let (mut value, mut end) = (Vec::new(), equals.map_or(text.len(), |at| at + 2));
            while end < text.len() && text[end] != b'"' {
                let is_escaped = text[end] == b'\\' && end + 1 < text.len();
                if is_escaped && !matches!(text[end + 1], b'"' | b'\\' | b']') {
                    value.push(b'\\');
                }
                end += usize::from(is_escaped);
                value.push(text[end]);
                end += 1;
            }
            let Some(equals) = equals.filter(|_| end < text.len()) else {
                at = text.len();
                break;
            };
            names.push(&text[at..equals]);
            parameters.push((slowly(&text[at..equals]), slowly(&value)));
            at = end + 1;
        }
        are_clear &= is_clear(&names);
        elements.push((slowly(ids[ids.len() - 1]), object_slowly(&parameters)));
    }
    if are_clear && is_clear(&ids) {
        return object_slowly(&elements);
    }
    let mut out = Vec::new();
    let object = structured_data::object(&Bytes::copy_from_slice(text));
    write_value(&Value::Object(object), &mut out);
    out
}

#[test]
fn random_events_are_written_as_the_slow_writer_does() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let (batch, event) = event(&mut random);
        let expected = event_slowly(&batch, &event);
        let writer = Writer::new(&batch);
        let mut out = b"before".to_vec();
        // Twice: nothing of the first stays in the writer.
        writer.write(&event, &mut out);
        writer.write(&event, &mut out);
        let twice = [b"before", &*expected, &*expected].concat();
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&twice),
            "seed {seed}"
        );
        assert_eq!(out, twice, "seed {seed}");
    }
}
