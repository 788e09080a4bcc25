//! Batches as they are held and moved: sizes, compaction, and encoding held against the
//! protocol room's own framing and parsing.
//!
//! Events come out of random steps over random bytes, so that every kind of key and slot is met.

use std::cell::RefCell;

use marline::event::{Batch, Event};
use marline::pipeline::encode::{Encoder, Frame, Output};
use marline::protocol::{Framing, encode_frame, json, logfmt};

use super::event_random::{Random, batch, batch_of, seeds};
use super::steps_events::{apply_at, build, show};

#[test]
fn a_batch_is_sendable_and_a_raw_event_small() {
    fn sendable<T: Send>() {}
    sendable::<Batch>();
    assert_eq!(size_of::<Event>(), 16);
    assert!(size_of::<marline::event::Field>() <= 48);
}

/// A batch as steps leave it: raw, parsed, set and split events in any mixture.
pub fn mixed(random: &mut Random) -> Batch {
    let texts: Vec<_> = (0..random.below(12))
        .map(|_| match random.below(4) {
            0 => random.bytes(40),
            1 => random.object(2).into_bytes(),
            2 => format!("<34>1 - h a - - [x y=\"{}\"] t", random.below(99)).into_bytes(),
            _ => format!("[{},{}]", random.object(1), random.json(1)).into_bytes(),
        })
        .collect();
    let mut batch = batch_of(
        &texts,
        random.one_of(&["", "\n", "\r\n", "xxxxxxxxxxx"]).as_bytes(),
    );
    let steps = [
        ("parse", "\"syslog\""),
        ("parse", "\"json\""),
        ("split", "\".\""),
        ("set", "{ site = \"lab\", line = \"<{{ message }}>\" }"),
        ("vrl", "'.copy = .; .m = .message'"),
        ("rename", "{ message = \"m2\" }"),
        ("sample", "2"),
    ];
    for (name, value) in steps {
        if random.below(2) == 0 {
            apply_at(&mut *build(name, value), &mut batch, 0, false);
        }
    }
    batch
}

#[test]
fn compaction_changes_nothing_but_the_bytes_held() {
    let compacted = RefCell::new(0);
    seeds(3_000, |random| {
        let mut batch = mixed(random);
        batch.events.retain(|_| random.below(3) == 0);
        let before = show(&batch);
        let raws = |batch: &Batch| -> Vec<Vec<u8>> {
            batch
                .events
                .iter()
                .map(|event| batch.raw(event).to_vec())
                .collect()
        };
        let (raw_before, held) = (raws(&batch), batch.bytes.clone());
        let done = batch.compact_below(2);
        assert_eq!((show(&batch), raws(&batch)), (before, raw_before));
        if done {
            *compacted.borrow_mut() += 1;
            assert!(batch.pinned_bytes() * 2 < held.len());
            assert!(
                held.is_unique(),
                "something still points into the old bytes"
            );
            assert!(
                !batch.compact_below(2) || batch.is_empty(),
                "compacted twice"
            );
        } else {
            assert_eq!(batch.bytes.as_ptr(), held.as_ptr());
        }
    });
    assert!(
        compacted.into_inner() > 500,
        "hardly any batch was worth compacting"
    );
}

#[test]
fn a_run_of_lines_survives_compaction_as_one_piece() {
    let texts: Vec<_> = (0..100)
        .map(|index| format!("line {index} {}", "x".repeat(50)))
        .collect();
    let mut batch = batch_of(&texts, b"\n");
    batch.events = batch.events.split_off(70).into();
    assert!(batch.compact_below(2));
    assert_eq!(
        batch.pinned_bytes(),
        batch.event_bytes() + 29,
        "lines and newlines between"
    );
    let mut out = Output::new();
    Encoder::Raw.encode(&batch, &batch.events, Frame::Lines, &mut out);
    let pieces = out.take();
    assert_eq!(pieces[0].as_ptr(), batch.bytes.as_ptr());
    assert_eq!(
        pieces.concat(),
        texts[70..].join("\n").into_bytes().add(b'\n')
    );
}

trait Add {
    fn add(self, byte: u8) -> Self;
}

impl Add for Vec<u8> {
    fn add(mut self, byte: u8) -> Self {
        self.push(byte);
        self
    }
}

const FRAMES: [(Frame, Framing); 6] = [
    (Frame::Lines, Framing::Lines),
    (Frame::Nul, Framing::Nul),
    (Frame::OctetCounted, Framing::OctetCounted),
    (Frame::LengthU32, Framing::LengthU32),
    (Frame::Netstring, Framing::Netstring),
    (Frame::Datagram, Framing::Datagram),
];

/// What the protocol room writes for the same payloads, one by one.
fn framed<'a>(framing: Framing, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        encode_frame(framing, payload, &mut out).unwrap();
    }
    out
}

fn encode(encoder: &Encoder, batch: &Batch, frame: Frame) -> Vec<u8> {
    let mut out = Output::new();
    encoder.encode(batch, &batch.events, frame, &mut out);
    out.take().concat()
}

#[test]
fn raw_output_is_what_framing_each_event_gives() {
    seeds(20_000, |random| {
        // Any spans over any bytes, in order, with newlines everywhere.
        let bytes = random.bytes(4000);
        let mut spans = Vec::new();
        let mut at = 0;
        while at < bytes.len() && spans.len() < 200 {
            let newline = bytes[at..].iter().position(|byte| *byte == b'\n');
            let end = match newline {
                Some(newline) if random.below(4) > 0 => at + newline,
                _ => at + random.below((bytes.len() - at).min(1500)),
            };
            if random.below(5) > 0 {
                spans.push((at, end));
            }
            at = end + 1 + random.below(8) / 6;
        }
        let batch = batch(&bytes, &spans);
        for (frame, framing) in FRAMES {
            let payloads = spans.iter().map(|(start, end)| &bytes[*start..*end]);
            let expected = framed(framing, payloads);
            assert_eq!(
                encode(&Encoder::Raw, &batch, frame),
                expected,
                "{frame:?} {spans:?}"
            );
        }
    });
}

#[test]
fn other_encodings_frame_their_payloads_too() {
    seeds(1_000, |random| {
        let batch = mixed(random);
        for encoder in [Encoder::Json, Encoder::Logfmt] {
            let one = |event: &Event| {
                let mut single = batch.clone();
                single.events = vec![event.clone()].into();
                encode(&encoder, &single, Frame::Datagram)
            };
            let payloads: Vec<_> = batch.events.iter().map(one).collect();
            for (frame, framing) in FRAMES {
                let expected = framed(framing, payloads.iter().map(Vec::as_slice));
                assert_eq!(encode(&encoder, &batch, frame), expected, "{frame:?}");
            }
        }
    });
}

#[test]
fn logfmt_is_read_back_as_it_was_written() {
    seeds(5_000, |random| {
        let mut batch = batch_of(&[random.object(1)], b"\n");
        apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
        let line = encode(&Encoder::Logfmt, &batch, Frame::Datagram);
        assert!(std::str::from_utf8(&line).is_ok() && !line.contains(&b'\n'));
        let object: serde_json::Map<_, _> = serde_json::from_str(&show(&batch)[0]).unwrap();
        let mut pairs = Vec::new();
        match logfmt::parse(&line, &mut pairs) {
            Ok(()) => assert_eq!(pairs.len(), object.len()),
            Err(_) => assert!(object.is_empty()),
        }
        for pair in pairs {
            let mut value = Vec::new();
            json::unescape(pair.value.of(&line), &mut value);
            let value = String::from_utf8(value).unwrap();
            let written = object.values().any(|original| match original {
                serde_json::Value::String(text) => *text == value,
                serde_json::Value::Null => value == "null" && !pair.quoted(),
                other => serde_json::from_str(&value).is_ok_and(|v: serde_json::Value| v == *other),
            });
            assert!(written, "{value} is not in {object:?}");
        }
    });
}
