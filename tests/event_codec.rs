//! Events that went through a payload behave as before: every encoder writes the same bytes of
//! them, a program sees the same object, and writing them again gives the same payload.
//!
//! Events come out of random steps over random bytes, all of a batch or some of it.

use bytes::Bytes;
use marline::event::codec::{NameCache, decode, encode, encoded_bytes_max};
use marline::event::syslog::Settings;
use marline::event::{Batch, object};
use marline::pipeline::encode::{Encoder, Frame, Output};
use marline::pipeline::template::Template;

use super::event_batch::mixed;
use super::event_random::{Random, seeds};
use super::steps_events::{apply_at, build};

/// What each encoder writes, and the object of each event with the kinds of its values.
fn seen(batch: &Batch) -> Vec<Vec<u8>> {
    let template = "{{ %source }} {{ %peer }} {{ message }} {{ .a }} {{ .copy }} {{ .n.float }}";
    let encoders = [
        Encoder::Raw,
        Encoder::Json,
        Encoder::Logfmt,
        Encoder::Syslog(Settings::default()),
        Encoder::Template(Template::compile(template).unwrap()),
    ];
    let mut all = Vec::new();
    for encoder in encoders {
        for frame in [Frame::Lines, Frame::Datagram, Frame::Netstring] {
            let mut out = Output::new();
            encoder.encode(batch, &batch.events, frame, &mut out);
            all.push(out.take().concat());
        }
    }
    let objects = batch.events.iter().map(|event| {
        let object = object(event, &batch.bytes);
        format!("{object:?}").into_bytes()
    });
    all.extend(objects);
    all
}

fn payload(batch: &Batch, picked: Option<&[u32]>) -> Bytes {
    let mut out = Vec::new();
    encode(batch, picked, "main", &mut out);
    let bound = encoded_bytes_max(batch, picked, "main");
    assert!(out.len() <= bound, "{} beyond {bound}", out.len());
    Bytes::from(out)
}

fn same_after(batch: &Batch, picked: Option<&[u32]>, names: &mut NameCache) {
    let first = payload(batch, picked);
    let back = decode(first.clone(), names).unwrap();
    assert_eq!(&*back.pipeline, "main");
    assert_eq!(back.batch.origin, batch.origin);
    assert_eq!(back.batch.received, batch.received);
    assert_eq!(back.batch.bytes.as_ptr(), first.as_ptr(), "copied");
    let mut chosen = batch.clone();
    if let Some(picked) = picked {
        let events = picked
            .iter()
            .map(|index| batch.events[*index as usize].clone());
        chosen.events = events.collect();
    }
    assert_eq!(seen(&back.batch), seen(&chosen));
    let second = payload(&back.batch, None);
    assert_eq!(second, first, "not stable");
}

/// A batch with values that only a program makes.
fn with_values(random: &mut Random) -> Batch {
    let mut batch = mixed(random);
    let program = "'''.n = {\"float\": -0.1, \"at\": t'2026-11-23T18:42:00.123456789Z', \
                   \"re\": r'a+', \"list\": [null, true, .], \"bytes\": .message}'''";
    if random.below(2) == 0 {
        apply_at(&mut *build("vrl", program), &mut batch, 0, false);
    }
    batch
}

#[test]
fn events_behave_as_before_they_were_written() {
    seeds(3_000, |random| {
        let mut names = NameCache::new();
        let batch = with_values(random);
        same_after(&batch, None, &mut names);
        let indices = 0..batch.len() as u32;
        let picked: Vec<_> = indices.filter(|_| random.below(3) == 0).collect();
        same_after(&batch, Some(&picked), &mut names);
    });
}

/// Payloads for the mutator: lines, and events of every step.
pub fn corpus() -> Vec<Vec<u8>> {
    let payloads = std::cell::RefCell::new(Vec::new());
    seeds(40, |random| {
        let batch = with_values(random);
        payloads.borrow_mut().push(payload(&batch, None).to_vec());
    });
    payloads.into_inner()
}
