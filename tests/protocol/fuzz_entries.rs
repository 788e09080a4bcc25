//! What must hold for any input: one function per framer and parser.
//!
//! The seeded mutator of the test suite and the coverage-guided targets of `fuzz/` both call
//! these. A function returns or panics; nothing is kept from one call to the next.

use bytes::Bytes;
use marline::event::Batch;
use marline::event::codec::{self, NameCache};
use marline::event::syslog::Settings;
use marline::pipeline::encode::{Encoder, Frame, Output};
use marline::protocol::journal_export::{ADDRESS_BYTES_MAX, Entries, FIELDS_MAX, Parser};
use marline::protocol::json::{self, Kind};
use marline::protocol::{End, Framing, clf, encode_frame_replacing, logfmt, syslog};

use super::harness::{Random, cut, feed, feed_one_by_one, feed_whole};
use super::reference::reference;

/// The framer gives what its slow twin gives, however the stream is cut. The first two bytes
/// choose the limit, the end and the cuts; the rest is the stream.
pub fn framer(kind: Framing, data: &[u8]) {
    let [first, second, stream @ ..] = data else {
        return;
    };
    let max = [1, 2, 5, 16, 100, 65_536][usize::from(first % 6)];
    let end = if first & 64 == 0 {
        End::Clean
    } else {
        End::Cut("reset by peer")
    };
    let expected = reference(kind, max, stream, end);
    let mut random = Random::new(u64::from(*second));
    let offsets = match kind {
        Framing::Datagram => Vec::new(),
        _ => random.offsets(stream.len(), usize::from(second % 8)),
    };
    let got = feed(kind, max, cut(stream, &offsets), end);
    assert_eq!(
        got, expected,
        "{kind}, max {max}, {end:?}, cut at {offsets:?}"
    );
    if first & 128 != 0 && kind != Framing::Datagram {
        let got = feed_one_by_one(kind, max, stream, end);
        assert_eq!(got, expected, "{kind}, max {max}, {end:?}, one by one");
    }
}

/// The verdict is serde_json's, and the fields are those that serde_json finds.
pub fn json(text: &[u8]) {
    // This key means something else to serde_json, which would parse the string under it.
    if memchr::memmem::find(text, b"serde_json::private").is_some() {
        return;
    }
    let oracle = serde_json::from_slice::<serde_json::Value>(text);
    let verdict = json::validate(text);
    assert_eq!(
        verdict.is_ok(),
        oracle.is_ok(),
        "{verdict:?}, serde_json says {oracle:?}"
    );
    let mut fields = Vec::new();
    let scanned = json::scan(text, &mut fields);
    assert_eq!(
        scanned.is_ok(),
        verdict == Ok(Kind::Object),
        "{scanned:?} {verdict:?}"
    );
    if let (Ok(()), Ok(serde_json::Value::Object(object))) = (scanned, &oracle) {
        same_fields(text, &fields, object);
    }
    if let Ok(serde_json::Value::Array(array)) = &oracle {
        let spans = json::elements(text, &[]).unwrap();
        let values: Vec<serde_json::Value> = spans
            .iter()
            .map(|span| serde_json::from_slice(span.of(text)).unwrap())
            .collect();
        assert_eq!(&values, array);
    }
}

fn same_fields(
    text: &[u8],
    fields: &[json::Field],
    object: &serde_json::Map<String, serde_json::Value>,
) {
    let mut last = serde_json::Map::new();
    for field in fields {
        let mut key = Vec::new();
        json::unescape(field.key.of(text), &mut key);
        assert_eq!(field.key_escaped, field.key.of(text).contains(&b'\\'));
        let value: serde_json::Value = serde_json::from_slice(field.value.of(text)).unwrap();
        assert_eq!(Some(field.kind), kind_of(&value, field.value.of(text)));
        if let serde_json::Value::String(string) = &value {
            let mut content = Vec::new();
            json::unescape(field.content().of(text), &mut content);
            assert_eq!(content, string.as_bytes());
            assert_eq!(
                field.value_escaped,
                field.content().of(text).contains(&b'\\')
            );
        }
        last.insert(String::from_utf8(key).unwrap(), value);
    }
    assert_eq!(&last, object);
}

fn kind_of(value: &serde_json::Value, text: &[u8]) -> Option<Kind> {
    Some(match value {
        serde_json::Value::Null => Kind::Null,
        serde_json::Value::Bool(_) => Kind::Bool,
        serde_json::Value::Number(_) if text.iter().any(|byte| b".eE".contains(byte)) => {
            Kind::Float
        }
        serde_json::Value::Number(_) => Kind::Integer,
        serde_json::Value::String(_) => Kind::String,
        serde_json::Value::Array(_) => Kind::Array,
        serde_json::Value::Object(_) => Kind::Object,
    })
}

/// What is escaped reads back as the lossy text of the bytes, by serde_json and by us.
pub fn escape(bytes: &[u8]) {
    let expected = String::from_utf8_lossy(bytes);
    let mut string = Vec::new();
    json::string_into(bytes, &mut string);
    assert_eq!(serde_json::from_slice::<String>(&string).unwrap(), expected);
    let mut back = Vec::new();
    json::unescape(&string[1..string.len() - 1], &mut back);
    assert_eq!(back, expected.as_bytes());
    let mut anything = Vec::new();
    json::unescape(bytes, &mut anything);
    assert!(anything.len() <= bytes.len() * 3);
}

/// What is encoded reads back as one frame: the payload, or what the framing can carry of it.
pub fn encode(payload: &[u8]) {
    for kind in Framing::ALL {
        let mut wire = Vec::new();
        let replaced = encode_frame_replacing(kind, payload, &mut wire).unwrap();
        let back = feed_whole(kind, payload.len() + 9, &wire);
        assert_eq!((back.error, back.skipped_bytes), (None, 0), "{kind}");
        let expected = carried(kind, payload);
        let changed = payload.iter().zip(&wire).filter(|(a, b)| a != b).count();
        if matches!(kind, Framing::Lines | Framing::Nul) {
            assert_eq!(replaced, changed, "{kind}");
        }
        let frames: Vec<Vec<u8>> = back.frames.into_iter().map(|(bytes, _)| bytes).collect();
        if kind != Framing::Auto {
            let one: &[Vec<u8>] = if expected.is_empty() {
                &[]
            } else {
                &[expected]
            };
            assert_eq!(frames, one, "{kind}");
        }
    }
}

/// What a framing carries of a payload.
fn carried(kind: Framing, payload: &[u8]) -> Vec<u8> {
    let delimited = |delimiter| {
        let payload = payload.strip_suffix(&[delimiter]).unwrap_or(payload);
        let bytes = payload
            .iter()
            .map(|&byte| if byte == delimiter { b' ' } else { byte });
        bytes.collect::<Vec<u8>>()
    };
    match kind {
        Framing::Lines | Framing::Auto => {
            let line = delimited(b'\n');
            line.strip_suffix(b"\r").map(<[u8]>::to_vec).unwrap_or(line)
        }
        Framing::Nul => delimited(0),
        Framing::Datagram => {
            let text = payload
                .strip_suffix(b"\r\n")
                .or(payload.strip_suffix(b"\n"));
            text.unwrap_or(payload).to_vec()
        }
        _ => payload.to_vec(),
    }
}

/// What is read as logfmt is written as logfmt that reads the same.
pub fn logfmt(text: &[u8]) {
    let mut pairs = Vec::new();
    if logfmt::parse(text, &mut pairs).is_err() {
        return;
    }
    let mut end = 0;
    for pair in &pairs {
        assert!(pair.key.start >= end && !pair.key.is_empty(), "{pair:?}");
        end = pair.value.end;
        let mut value = Vec::new();
        match pair.escaped {
            true => json::unescape(pair.value.of(text), &mut value),
            false => value.extend_from_slice(pair.value.of(text)),
        }
        logfmt_pair(pair.key.of(text), &value);
    }
}

/// A pair that is written reads back as itself, as far as logfmt can hold it.
pub fn logfmt_pair(key: &[u8], value: &[u8]) {
    let mut line = Vec::new();
    logfmt::pair_into(key, value, &mut line);
    let mut pairs = Vec::new();
    logfmt::parse(&line, &mut pairs).unwrap();
    let [pair] = pairs[..] else {
        panic!("{} pairs", pairs.len())
    };
    let forbidden = |byte: &u8| *byte <= b' ' || b"=\"\x7f".contains(byte);
    if !key.is_empty() && std::str::from_utf8(key).is_ok() && !key.iter().any(forbidden) {
        assert_eq!(pair.key.of(&line), key);
    }
    let mut read = Vec::new();
    match pair.quoted() {
        true => json::unescape(pair.value.of(&line), &mut read),
        false => read.extend_from_slice(pair.value.of(&line)),
    }
    assert_eq!(read, String::from_utf8_lossy(value).as_bytes());
}

/// The fields of an access log are ranges in order; integers are integers, times stay times.
pub fn clf(text: &[u8]) {
    let mut fields = Vec::new();
    let parsed = clf::parse(text, &mut fields);
    let mut end = 0;
    for field in &fields {
        assert!(field.value.start >= end, "{field:?} after {end}");
        end = field.value.end;
        let value = field.value.of(text);
        if field.kind == clf::Kind::Integer {
            std::str::from_utf8(value).unwrap().parse::<i64>().unwrap();
        }
        let mut unescaped = Vec::new();
        clf::unescape(value, &mut unescaped);
        assert!(unescaped.len() <= value.len());
        assert!(field.escaped || unescaped == value);
        let mut time = Vec::new();
        assert!(!clf::rfc3339_into(value, &mut time) || time.len() == 27);
    }
    if parsed.is_ok() {
        assert!(
            fields.len() <= 13
                && fields
                    .iter()
                    .any(|field| field.name == clf::Name::Timestamp)
        );
    }
}

/// The ranges of a message lie in its text, in order and apart; its time is one.
pub fn syslog(text: &[u8]) {
    let Ok(message) = syslog::parse(text) else {
        return;
    };
    let (app, procid) = (message.app, message.procid);
    // The app of a Cisco message is the start of its message id.
    let nests = app
        .zip(message.msgid)
        .is_some_and(|(app, msgid)| app.start == msgid.start);
    let app = if nests { None } else { app };
    let parts = [
        message.host,
        app,
        procid,
        message.msgid,
        message.structured_data,
        message.message,
    ];
    let mut end = 0;
    for part in parts.into_iter().flatten() {
        assert!(part.start >= end && part.start < part.end, "{message:?}");
        end = part.end;
        assert!(part.of(text).len() == part.len());
    }
    if let Some(part) = message.message {
        assert!(!part.of(text).ends_with(b"\n"), "{message:?}");
    }
    if let Some(time) = message.time {
        let now = 1_795_459_319_000_000;
        let micros = syslog::resolve(&time, now, &mut Fixed(3600));
        let micros = micros.expect("every date is in nine years");
        let ahead = (syslog::AHEAD_DAYS_MAX + 1) * 86_400_000_000;
        assert!(time.year.is_some() || micros < now + ahead, "{message:?}");
    }
}

/// A zone whose clocks nobody puts forward or back.
struct Fixed(i32);

impl syslog::LocalOffsets for Fixed {
    fn offsets(&mut self, _local_seconds: i64) -> syslog::Offsets {
        syslog::Offsets {
            before: self.0,
            after: self.0,
        }
    }
}

/// The same entries however the stream is cut, all within their limits. The first two bytes
/// choose the limit and the cuts.
pub fn journal_export(data: &[u8]) {
    let [first, second, stream @ ..] = data else {
        return;
    };
    let max = [1, 3, 20, 65_536][usize::from(first % 4)];
    let read = |parts: &[&[u8]]| {
        let mut parser = Parser::new(max);
        let mut entries = Entries::default();
        let read = parts
            .iter()
            .try_for_each(|part| parser.push(part, &mut entries));
        (entries, read, parser.is_inside())
    };
    let whole = read(&[stream]);
    let mut random = Random::new(u64::from(*second));
    let mut parts = Vec::new();
    let mut rest = stream;
    for _ in 0..second % 8 {
        let (part, after) = rest.split_at(random.below(rest.len() + 1));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    assert_eq!(read(&parts), whole);
    let (entries, _, _) = &whole;
    assert!(entries.bytes.len() <= stream.len());
    for entry in &entries.list {
        assert!(!entry.fields.is_empty() && entry.fields.len() <= FIELDS_MAX);
        for field in &entry.fields {
            let name = field.name.of(&entries.bytes);
            let value_bytes_max = match name.starts_with(b"__") {
                true => max.max(ADDRESS_BYTES_MAX),
                false => max,
            };
            assert!(!name.is_empty() && field.value.len() <= value_bytes_max);
            assert_eq!(field.name.end, field.value.start);
            assert!(!name.contains(&b'=') && !name.contains(&b'\n'));
        }
    }
}

/// What is read of a payload can be used in every way, and written it reads the same.
pub fn payload(data: &[u8]) {
    let Ok(read) = codec::decode(Bytes::copy_from_slice(data), &mut NameCache::new()) else {
        return;
    };
    let mut written = Vec::new();
    codec::encode(&read.batch, None, &read.pipeline, &mut written);
    let written = Bytes::from(written);
    let again = codec::decode(written.clone(), &mut NameCache::new()).unwrap();
    let mut twice = Vec::new();
    codec::encode(&again.batch, None, &again.pipeline, &mut twice);
    assert_eq!(twice, written);
    let syslog = Encoder::Syslog(Settings::default());
    for encoder in [Encoder::Raw, Encoder::Json, Encoder::Logfmt, syslog] {
        let output = |batch: &Batch| {
            let mut out = Output::new();
            encoder.encode(batch, &batch.events, Frame::Netstring, &mut out);
            out.take().concat()
        };
        assert_eq!(output(&again.batch), output(&read.batch), "{encoder:?}");
    }
}
