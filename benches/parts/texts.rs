//! What is done with bytes: cut into frames, read into fields, written as JSON.
//!
//! The texts are those of `bench/loadgen`, without their chance: a chunk of 256 KiB of unique
//! lines of each kind. A step is built from TOML, as the daemon builds it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use marline::event::{Batch, Event, Origin, Span};
use marline::pipeline::descriptor::Build;
use marline::pipeline::encode::{Encoder, Frame, Output};
use marline::pipeline::options::Options;
use marline::pipeline::step::{Step, StepReport};
use marline::protocol::{Frames, Framing, clf, framer, json, syslog};
use marline::steps;
use marline::time::{Instant, WallTime};

use super::measure::{Part, Table};

/// A read of a connection.
const CHUNK_BYTES: usize = 256 * 1024;

/// The default of `max_message`.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The pattern of the case `apache_regex_tcp` of `bench/`.
const APACHE: &str = concat!(
    r#"'^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)"#,
    r#"(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)"#,
    r#"(?: "(?<referer>[^\"]*)" "(?<agent>.*)")?$'"#,
);

/// Kinds of lines.
#[derive(Clone, Copy)]
enum Kind {
    Rfc5424,
    Rfc3164,
    Json,
    Apache,
}

/// Writes line number `seq` without its newline.
fn compose(kind: Kind, seq: usize, line: &mut String) {
    let level = ["debug", "info", "info", "warn", "info", "error"][seq % 6];
    let host = ["web-01", "edge-1.example.net", "10.1.2.3"][seq % 3];
    let path = ["/", "/api/v1/orders?limit=50", "/search?q=rust"][seq % 3];
    let text = &"connection closed by peer while shipped query was slow for worker of node \
                 upstream threshold retry scheduled"[..40 + seq % 50];
    let (second, pid) = (seq / 10 % 60, 100 + seq % 30_000);
    let composed = match kind {
        Kind::Rfc5424 => write!(
            line,
            "<{}>1 2026-11-23T18:42:{second:02}.{:03}Z {host} sshd {pid} ID{} \
             [meta@32473 seq=\"{seq}\" zone=\"eu-{}\"] {text}",
            128 + seq % 64,
            seq % 1000,
            seq % 999,
            seq % 9
        ),
        Kind::Rfc3164 => write!(
            line,
            "<{}>Nov 23 18:42:{second:02} {host} sshd[{pid}]: seq={seq} {text}",
            128 + seq % 64
        ),
        Kind::Json => write!(
            line,
            "{{\"ts\":\"2026-11-23T18:42:{second:02}.{:03}Z\",\"seq\":{seq},\
             \"level\":\"{level}\",\"host\":\"{host}\",\"app\":\"auth\",\"pid\":{pid},\
             \"status\":200,\"latency_ms\":{}.5,\"message\":\"{text}\"}}",
            seq % 1000,
            seq % 900
        ),
        Kind::Apache => write!(
            line,
            "192.0.2.{} - alice [23/Nov/2026:18:42:{second:02} +0000] \"GET {path} HTTP/1.1\" \
             200 {} \"https://example.com{path}\" \"Mozilla/5.0 (X11; Linux x86_64) seq/{seq}\"",
            seq % 255,
            seq * 7
        ),
    };
    composed.unwrap();
}

/// As many lines as fit into a chunk.
fn lines(kind: Kind) -> Vec<String> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        compose(kind, lines.len(), &mut line);
        bytes += line.len() + 1;
        if bytes > CHUNK_BYTES {
            return lines;
        }
        lines.push(line);
    }
}

/// A part that works through `lines`.
fn part<'a>(name: &'a str, lines: &[String]) -> Part<'a> {
    Part {
        name,
        unit: "line",
        units: lines.len(),
        bytes: lines.iter().map(|line| line.len() + 1).sum(),
        budget_ns: None,
    }
}

/// A chunk of lines, and of frames with a count, for each framer that may get it.
pub fn framing(table: &Table) {
    let lines = lines(Kind::Rfc5424);
    let plain = Bytes::from(lines.join("\n") + "\n");
    let counted = lines.iter().map(|line| format!("{} {line}", line.len()));
    let counted = Bytes::from(counted.collect::<String>());
    for (name, framing, chunk) in [
        ("framing lines", Framing::Lines, &plain),
        ("framing auto, lines", Framing::Auto, &plain),
        ("framing octet_counted", Framing::OctetCounted, &counted),
        ("framing auto, octet counts", Framing::Auto, &counted),
    ] {
        let mut framer = framer(framing, MESSAGE_BYTES_MAX);
        let mut frames = Frames::new();
        let mut push = |chunk| {
            framer.push(chunk, &mut frames);
            let found = frames.len();
            frames.clear();
            found
        };
        // Octet counting ends a frame where its count says, lines at their newlines.
        assert_eq!(push(chunk.clone()), lines.len(), "{name}");
        table.measure(&part(name, &lines), || chunk.clone(), push);
    }
}

/// The parser of each format, and the step.
pub fn syslog(table: &Table) {
    for (name, kind) in [
        ("syslog rfc3164", Kind::Rfc3164),
        ("syslog rfc5424, with data", Kind::Rfc5424),
    ] {
        let lines = lines(kind);
        let parse = |()| {
            let messages = lines.iter().map(|line| syslog::parse(line.as_bytes()));
            messages.filter(Result::is_ok).count()
        };
        assert_eq!(parse(()), lines.len());
        table.measure(&part(name, &lines), || (), parse);
        measure_step(table, &format!("{name}, step"), "\"syslog\"", &lines);
        measure_encoding(table, &format!("{name}, to json"), "\"syslog\"", &lines);
    }
}

/// The scanner, the step, and out again.
pub fn json(table: &Table) {
    let lines = lines(Kind::Json);
    let mut fields = Vec::new();
    let scan = |()| {
        let scanned = lines
            .iter()
            .map(|line| json::scan(line.as_bytes(), &mut fields));
        scanned.filter(Result::is_ok).count()
    };
    table.measure(&part("json scan", &lines), || (), scan);
    measure_step(table, "json step", "\"json\"", &lines);
    measure_encoding(table, "json to json", "\"json\"", &lines);
}

/// The parser by hand, and the same lines by a regular expression.
pub fn access_logs(table: &Table) {
    let lines = lines(Kind::Apache);
    let mut fields = Vec::new();
    let parse = |()| {
        let parsed = lines
            .iter()
            .map(|line| clf::parse(line.as_bytes(), &mut fields));
        parsed.filter(Result::is_ok).count()
    };
    table.measure(&part("clf", &lines), || (), parse);
    measure_step(table, "clf step", "\"clf\"", &lines);
    measure_encoding(table, "clf to json", "\"clf\"", &lines);
    let regex = format!("{{ regex = {APACHE} }}");
    measure_step(table, "clf by regex, step", &regex, &lines);
}

/// The step `parse` on a batch of `lines`, and the end of what it made.
fn measure_step(table: &Table, name: &str, parser: &str, lines: &[String]) {
    let raw = batch(lines);
    let mut step = build(parser);
    parsed(&mut *step, raw.clone());
    table.measure(
        &part(name, lines),
        || raw.clone(),
        |batch| parsed(&mut *step, batch).len(),
    );
}

/// A batch of parsed `lines` as lines of JSON.
fn measure_encoding(table: &Table, name: &str, parser: &str, lines: &[String]) {
    let batch = parsed(&mut *build(parser), batch(lines));
    let mut output = Output::new();
    let encode = |()| {
        Encoder::Json.encode(&batch, &batch.events, Frame::Lines, &mut output);
        output.take().len()
    };
    table.measure(&part(name, lines), || (), encode);
}

fn build(parser: &str) -> Box<dyn Step> {
    let parse = steps::ALL.iter().find(|step| step.name == "parse").unwrap();
    let options = Options::for_test(parse, parser).unwrap();
    let Build::Step(build) = parse.build else {
        panic!("parse is a step");
    };
    build(&options).unwrap()
}

fn parsed(step: &mut dyn Step, mut batch: Batch) -> Batch {
    let mut report = StepReport::new(Instant::ZERO, false);
    step.apply(&mut batch, &mut report);
    assert_eq!(report.errors, 0, "{:?}", report.first_error);
    batch
}

/// A batch of raw events, as a framer's run becomes one.
fn batch(lines: &[String]) -> Batch {
    let origin = Origin {
        source: "in".into(),
        peer: "192.0.2.1:5000".into(),
    };
    let bytes = Bytes::from(lines.join("\n") + "\n");
    let received = WallTime::from_micros(1_795_459_319_123_456);
    let mut batch = Batch::new(Arc::new(origin), received, bytes);
    let mut start = 0;
    let spans = lines.iter().map(|line| {
        let end = start + line.len();
        Event::Raw(Span::new(std::mem::replace(&mut start, end + 1), end))
    });
    batch.events = spans.collect();
    batch.lines = true;
    batch
}
