//! From events to the bytes that a sink writes: encoding and framing in one pass.
//!
//! `raw` copies nothing where it need not: lines that lay side by side in the chunk they came in
//! become one slice of it, newlines included, so that relaying a read of a thousand lines is one
//! piece. Short leftovers are copied into a buffer, longer ones are slices. The other encodings
//! write straight into the buffer.
//!
//! Framing is never broken by what an event holds: under `lines` a newline inside a payload
//! becomes a blank and one at its end is the line's own; under `nul` the same of NUL. A run of
//! lines is taken for one where the batch says that they are lines, or after its newlines were
//! counted.

mod output;
mod spare;

use std::ops::Range;

use bytes::Bytes;

use super::descriptor::{Kind, Opt};
use super::options::{Mistake, Options};
use super::part::Part;
use super::template::Template;
use crate::event::zone::Zone;
use crate::event::{Batch, Event, Span, json, logfmt, syslog};

pub use output::Output;

/// How an event becomes a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoder {
    /// Its original bytes.
    Raw,
    /// One JSON object.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// A syslog message.
    Syslog(syslog::Settings),
    /// A text of the user's.
    Template(Template),
}

/// How payloads are told apart on the wire or in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A newline after each.
    Lines,
    /// A NUL after each.
    Nul,
    /// Its length in decimal and a blank before each (RFC 6587, 3.4.1).
    OctetCounted,
    /// Its length as 32 bits, big endian, before each.
    LengthU32,
    /// `length:payload,`.
    Netstring,
    /// Nothing: each payload is a piece of its own.
    Datagram,
}

/// The option `encode` of sinks.
pub const ENCODE: Opt = Opt::new(
    "encode",
    "what is written of an event: \"json\", \"logfmt\", \"raw\" (its original bytes), \"syslog\" \
     (RFC 5424), { syslog = { format = \"rfc3164\" } } or \
     { template = \"{{ .host }} {{ .message }}\" }",
    Kind::Either(&[
        Kind::Word(&["json", "raw", "logfmt", "syslog"]),
        Kind::Choice(&[
            Opt::new(
                "template",
                "text with fields in it: `{{ .host }}`, `{{ %source }}`, `{{ date:%Y-%m-%d }}`",
                Kind::Text(Some(check_template)),
            ),
            Opt::new(
                "syslog",
                "a message of the fields that `parse = \"syslog\"` gives; `format` is \"rfc5424\" \
                 or \"rfc3164\", `timezone` the zone of the latter's times; `facility` \
                 (\"user\"), `severity` (\"notice\") and `app` are for events without them",
                Kind::Table(SYSLOG),
            ),
        ]),
    ]),
)
.default("\"json\"");

/// What a syslog message looks like, and what is written where an event lacks a field.
const SYSLOG: &[Opt] = &[
    Opt::new(
        "format",
        "the layout; rfc3164 has no year, no zone and no structured data",
        Kind::Word(&["rfc5424", "rfc3164"]),
    )
    .default("\"rfc5424\""),
    Opt::new(
        "facility",
        "of events without `facility` and `facility_code`",
        Kind::Word(&syslog::FACILITIES),
    )
    .default("\"user\""),
    Opt::new(
        "severity",
        "of events without `severity` and `severity_code`",
        Kind::Word(&syslog::SEVERITIES),
    )
    .default("\"notice\""),
    Opt::new(
        "app",
        "of events without `app`: nothing (`-`) where it is not set, the source in rfc3164",
        Kind::TEXT,
    ),
    Opt::new(
        "timezone",
        "the zone of rfc3164's times, as in the IANA database; the daemon's own where it is not \
         set",
        Kind::Text(Some(check_timezone)),
    ),
];

/// The words of [`Frame::of`], for the option `framing` of sinks.
pub const FRAMES: &[&str] = &[
    "lines",
    "nul",
    "octet_counted",
    "length_u32",
    "netstring",
    "datagram",
];

fn check_template(text: &str) -> Result<(), Mistake> {
    Template::compile(text).map(drop)
}

fn check_timezone(name: &str) -> Result<(), Mistake> {
    let unknown = || Mistake::new(format!("there is no time zone \"{name}\""));
    Zone::named(name).map(drop).ok_or_else(unknown)
}

fn syslog_settings(options: &Options) -> syslog::Settings {
    let index = |words: &[&str], word| words.iter().position(|known| *known == word);
    let code = |words, option| index(words, options.word(option)).unwrap_or(0) as u8;
    syslog::Settings {
        layout: match options.word("format") {
            "rfc3164" => syslog::Layout::Rfc3164,
            _ => syslog::Layout::Rfc5424,
        },
        facility: code(&syslog::FACILITIES, "facility"),
        severity: code(&syslog::SEVERITIES, "severity"),
        app: options.maybe_text("app").map(Box::from),
        zone: options
            .maybe_text("timezone")
            .and_then(Zone::named)
            .unwrap_or_else(Zone::local),
    }
}

impl Encoder {
    /// The encoder that the option [`ENCODE`] asks for.
    ///
    /// # Errors
    /// The template does not compile.
    pub fn of(options: &Options) -> Result<Encoder, Mistake> {
        if let Some(choice) = options.table("encode") {
            if let Some(settings) = choice.table("syslog") {
                return Ok(Encoder::Syslog(syslog_settings(settings)));
            }
            let template = Template::compile(choice.text("template"));
            return template
                .map(Encoder::Template)
                .map_err(|e| e.of("encode.template"));
        }
        Ok(match options.word("encode") {
            "raw" => Encoder::Raw,
            "logfmt" => Encoder::Logfmt,
            "syslog" => Encoder::Syslog(syslog::Settings::default()),
            _ => Encoder::Json,
        })
    }

    /// Appends events of `batch` to `out`, a line each, for as long as it holds no more than
    /// `bytes_max`; one that alone is longer is taken where there is nothing else. Answers how
    /// many were taken.
    pub fn encode_within<'a>(
        &self,
        batch: &Batch,
        picked: impl Iterator<Item = &'a Event>,
        bytes_max: usize,
        out: &mut Output,
    ) -> usize {
        const LINES: Frame = Frame::Lines;
        out.begin_within(picked.size_hint().0, bytes_max);
        match self {
            Encoder::Raw => within(picked, bytes_max, out, |event, out| {
                raw_framed(&batch.bytes, event.raw(), LINES, out);
            }),
            Encoder::Json => {
                let writer = json::Writer::new(batch);
                within(picked, bytes_max, out, |event, out| {
                    out.payload_that(LINES, |out| writer.write(event, out));
                })
            }
            Encoder::Logfmt => within(picked, bytes_max, out, |event, out| {
                out.payload(LINES, |out| logfmt::write(batch, event, out));
            }),
            Encoder::Syslog(settings) => {
                let writer = syslog::Writer::new(settings, batch);
                within(picked, bytes_max, out, |event, out| {
                    out.payload(LINES, |out| writer.write(event, out));
                })
            }
            Encoder::Template(template) => within(picked, bytes_max, out, |event, out| {
                out.payload(LINES, |out| {
                    template.render(batch.shared(), event, out);
                });
            }),
        }
    }

    /// Appends the events of `part` that have not arrived, each framed.
    pub fn encode_part(&self, part: &Part, frame: Frame, out: &mut Output) {
        let batch = part.batch();
        match part.lines() {
            Some(lines) if *self == Encoder::Raw && frame == Frame::Lines => {
                out.lines(&batch.bytes, lines);
            }
            _ => self.encode(batch, part.events(), frame, out),
        }
    }

    /// Appends `picked`, events of `batch`, to `out`, each framed.
    pub fn encode<'a>(
        &self,
        batch: &Batch,
        picked: impl IntoIterator<Item = &'a Event, IntoIter: Clone>,
        frame: Frame,
        out: &mut Output,
    ) {
        let picked = picked.into_iter();
        out.begin(picked.size_hint().0);
        match self {
            Encoder::Raw if frame == Frame::Lines => raw_lines(batch, picked, out),
            Encoder::Raw => {
                picked.for_each(|event| raw_framed(&batch.bytes, event.raw(), frame, out));
            }
            Encoder::Json => {
                let writer = json::Writer::new(batch);
                picked.for_each(|event| out.payload_that(frame, |out| writer.write(event, out)));
            }
            Encoder::Logfmt => {
                picked.for_each(|e| out.payload(frame, |out| logfmt::write(batch, e, out)));
            }
            Encoder::Syslog(settings) => {
                let writer = syslog::Writer::new(settings, batch);
                picked.for_each(|event| out.payload(frame, |out| writer.write(event, out)));
            }
            Encoder::Template(template) => picked.for_each(|event| {
                out.payload(frame, |out| {
                    template.render(batch.shared(), event, out);
                });
            }),
        }
    }
}

/// Lines out of one batch that stay within a limit; see [`Encoder::encode_within`].
fn within<'a>(
    picked: impl Iterator<Item = &'a Event>,
    bytes_max: usize,
    out: &mut Output,
    write: impl Fn(&'a Event, &mut Output),
) -> usize {
    let mut events = 0;
    for event in picked {
        let before = out.checkpoint();
        write(event, out);
        if out.len() > bytes_max && before.bytes > 0 {
            out.undo(&before);
            break;
        }
        events += 1;
    }
    events
}

impl Frame {
    /// The frame that a word of [`FRAMES`] stands for; `lines` for any other.
    pub fn of(word: &str) -> Frame {
        match word {
            "nul" => Frame::Nul,
            "octet_counted" => Frame::OctetCounted,
            "length_u32" => Frame::LengthU32,
            "netstring" => Frame::Netstring,
            "datagram" => Frame::Datagram,
            _ => Frame::Lines,
        }
    }

    /// The byte that ends a payload and so must not be in one.
    fn delimiter(self) -> Option<u8> {
        match self {
            Frame::Lines => Some(b'\n'),
            Frame::Nul => Some(0),
            _ => None,
        }
    }

    /// Whether a payload's length stands before it.
    fn has_head(self) -> bool {
        matches!(
            self,
            Frame::OctetCounted | Frame::LengthU32 | Frame::Netstring
        )
    }

    /// What stands before a payload of `len` bytes.
    fn write_head(self, len: usize, out: &mut Vec<u8>) {
        match self {
            Frame::Lines | Frame::Nul | Frame::Datagram => {}
            Frame::OctetCounted => out.extend_from_slice(format!("{len} ").as_bytes()),
            Frame::Netstring => out.extend_from_slice(format!("{len}:").as_bytes()),
            Frame::LengthU32 => {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
    }

    /// What stands after a payload.
    fn write_tail(self, out: &mut Vec<u8>) {
        match self {
            Frame::Lines => out.push(b'\n'),
            Frame::Nul => out.push(0),
            Frame::Netstring => out.push(b','),
            Frame::OctetCounted | Frame::LengthU32 | Frame::Datagram => {}
        }
    }
}

/// Payloads up to this size, in bytes, are copied; a longer one is a slice of its batch. A copy
/// of that much costs as much as a slice and its entry in a vectored write.
const COPY_MAX: usize = 1024;

/// Neighbouring lines: `events` payloads with one newline between each two.
struct Run<I> {
    start: usize,
    end: usize,
    events: usize,
    /// The events from its first one on.
    from: I,
}

fn raw_lines<'a, I>(batch: &Batch, mut picked: I, out: &mut Output)
where
    I: Iterator<Item = &'a Event> + Clone,
{
    let bytes = &batch.bytes;
    let mut run: Option<Run<I>> = None;
    loop {
        let here = picked.clone();
        let Some(event) = picked.next() else {
            break;
        };
        let Range { start, end } = event.raw().range();
        match &mut run {
            Some(run) if start == run.end + 1 && (batch.lines || bytes[run.end] == b'\n') => {
                run.end = end;
                run.events += 1;
            }
            _ => {
                finish_run(run.take(), batch, out);
                run = Some(Run {
                    start,
                    end,
                    events: 1,
                    from: here,
                });
            }
        }
    }
    finish_run(run, batch, out);
}

/// Writes a run in one piece, unless it has newlines that end no payload.
fn finish_run<'a, I>(run: Option<Run<I>>, batch: &Batch, out: &mut Output)
where
    I: Iterator<Item = &'a Event>,
{
    let Some(run) = run else {
        return;
    };
    let bytes = &batch.bytes;
    let lines = &bytes[run.start..run.end];
    if !batch.lines && memchr::memchr_iter(b'\n', lines).count() != run.events - 1 {
        for event in run.from.take(run.events) {
            out.payload(Frame::Lines, |out| {
                out.extend_from_slice(event.raw().of(bytes))
            });
        }
        return;
    }
    if lines.len() <= COPY_MAX {
        out.buffer.extend_from_slice(lines);
        out.buffer.push(b'\n');
        return;
    }
    let ended = bytes.get(run.end) == Some(&b'\n');
    out.slice(bytes.slice(run.start..run.end + usize::from(ended)));
    if !ended {
        out.buffer.push(b'\n');
    }
}

/// One event's original bytes in any frame but `lines`.
fn raw_framed(bytes: &Bytes, span: Span, frame: Frame, out: &mut Output) {
    let payload = span.of(bytes);
    let broken = frame
        .delimiter()
        .is_some_and(|byte| memchr::memchr(byte, payload).is_some());
    if broken || payload.len() <= COPY_MAX {
        return out.payload(frame, |out| out.extend_from_slice(payload));
    }
    frame.write_head(payload.len(), &mut out.buffer);
    out.slice(span.share(bytes));
    frame.write_tail(&mut out.buffer);
}

impl Output {
    /// Appends one payload that `write` makes, framed.
    fn payload(&mut self, frame: Frame, write: impl FnOnce(&mut Vec<u8>)) {
        self.payload_that(frame, |out| {
            write(out);
            true
        });
    }

    /// The same of one that says whether a delimiter may be in it.
    fn payload_that(&mut self, frame: Frame, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        self.payloads += 1;
        if frame.has_head() {
            self.scratch.clear();
            write(&mut self.scratch);
            // RFC 6587 knows no empty message: its count starts with a nonzero digit.
            if frame == Frame::OctetCounted && self.scratch.is_empty() {
                return;
            }
            frame.write_head(self.scratch.len(), &mut self.buffer);
            self.buffer.extend_from_slice(&self.scratch);
        } else {
            let start = self.buffer.len();
            if write(&mut self.buffer)
                && let Some(delimiter) = frame.delimiter()
            {
                if self.buffer.len() > start && self.buffer.last() == Some(&delimiter) {
                    self.buffer.pop();
                }
                blank(&mut self.buffer[start..], delimiter);
            }
        }
        frame.write_tail(&mut self.buffer);
        if frame == Frame::Datagram {
            self.cut();
        }
    }
}

/// Replaces every `delimiter` in a payload by a blank.
fn blank(payload: &mut [u8], delimiter: u8) {
    let mut from = 0;
    while let Some(at) = memchr::memchr(delimiter, &payload[from..]) {
        payload[from + at] = b' ';
        from += at + 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Field, Fields, Key, Origin, Slot};
    use crate::time::WallTime;

    fn batch(text: &str, spans: &[(usize, usize)]) -> Batch {
        let origin = Origin {
            source: "in".into(),
            peer: "[::1]:5000".into(),
        };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut batch = Batch::new(Arc::new(origin), WallTime::from_micros(0), bytes);
        let events = spans
            .iter()
            .map(|(start, end)| Event::Raw(Span::new(*start, *end)));
        batch.events = events.collect();
        batch
    }

    fn pieces(encoder: &Encoder, batch: &Batch, frame: Frame) -> Vec<Bytes> {
        let mut out = Output::new();
        encoder.encode(batch, &batch.events, frame, &mut out);
        let len = out.len();
        let pieces = out.take();
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), len);
        assert!(out.is_empty() && out.take().is_empty());
        pieces
    }

    fn text(encoder: &Encoder, batch: &Batch, frame: Frame) -> String {
        String::from_utf8(pieces(encoder, batch, frame).concat()).unwrap()
    }

    /// Lines of `len` bytes, as a line framer leaves them.
    fn lines(count: usize, len: usize) -> Batch {
        let text = format!("{}\n", "x".repeat(len)).repeat(count);
        let spans: Vec<_> = (0..count)
            .map(|i| (i * (len + 1), i * (len + 1) + len))
            .collect();
        batch(&text, &spans)
    }

    #[test]
    fn a_run_of_lines_is_one_slice_of_the_chunk() {
        let batch = lines(100, 60);
        let pieces = pieces(&Encoder::Raw, &batch, Frame::Lines);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].as_ptr(), batch.bytes.as_ptr(), "copied");
        assert_eq!(pieces[0], batch.bytes);
    }

    #[test]
    fn a_gap_parts_two_slices_and_short_runs_are_copied() {
        let mut batch = lines(100, 60);
        batch.events.remove(50);
        let parted = pieces(&Encoder::Raw, &batch, Frame::Lines);
        assert_eq!(parted.len(), 2);
        assert_eq!(
            parted.concat(),
            format!("{}\n", "x".repeat(60)).repeat(99).as_bytes()
        );
        batch.events.retain({
            let mut index = 0;
            move |_| {
                index += 1;
                index % 2 == 0
            }
        });
        let copied = pieces(&Encoder::Raw, &batch, Frame::Lines);
        assert_eq!(copied.len(), 1, "sixty-byte leftovers share one buffer");
    }

    #[test]
    fn a_newline_inside_a_payload_never_makes_a_line() {
        // The middle event is a lone newline that a step has filtered: its neighbours seem to
        // be lines side by side, and the first of them has a newline inside.
        let text_ = "ab\ncd\nef";
        let check = |spans: &[(usize, usize)], expected: &str| {
            assert_eq!(
                text(&Encoder::Raw, &batch(text_, spans), Frame::Lines),
                expected
            );
        };
        check(&[(0, 5), (6, 8)], "ab cd\nef\n");
        check(&[(0, 2), (3, 5), (6, 8)], "ab\ncd\nef\n");
        check(&[(0, 8)], "ab cd ef\n");
        check(&[(0, 0), (2, 2)], "\n\n");
        check(&[], "");
    }

    #[test]
    fn a_newline_within_json_that_is_copied_never_makes_a_line() {
        let text_ = "{\"a\":[1,\n2],\"b\":3}";
        let at = |part: &str| {
            let start = text_.find(part).unwrap();
            Span::new(start, start + part.len())
        };
        let json = |key: Key, part| Field {
            key,
            slot: Slot::Json(at(part)),
        };
        let member = vec![
            json(Key::Json(at("a")), "[1,\n2]"),
            json(Key::Json(at("b")), "3"),
        ];
        let renamed = vec![json(Key::named("x"), "[1,\n2]")];
        let mut batch = batch(text_, &[]);
        batch.events = [member, renamed]
            .map(|list| {
                Event::fielded(Fields {
                    raw: Span::new(0, text_.len()),
                    list,
                    parsed: true,
                })
            })
            .into_iter()
            .collect();
        assert_eq!(
            text(&Encoder::Json, &batch, Frame::Lines),
            "{\"a\":[1, 2],\"b\":3}\n{\"x\":[1, 2]}\n"
        );
    }

    #[test]
    fn every_frame_holds_its_payload() {
        let batch = batch("ab\n\0cd", &[(0, 3), (3, 6), (6, 6)]);
        let check = |frame, expected: &str| {
            assert_eq!(text(&Encoder::Raw, &batch, frame), expected, "{frame:?}");
        };
        check(Frame::Lines, "ab\n\0cd\n\n");
        check(Frame::Nul, "ab\n\0 cd\0\0");
        check(Frame::OctetCounted, "3 ab\n3 \0cd");
        check(Frame::LengthU32, "\0\0\0\x03ab\n\0\0\0\x03\0cd\0\0\0\0");
        check(Frame::Netstring, "3:ab\n,3:\0cd,0:,");
        check(Frame::Datagram, "ab\n\0cd");
        let datagrams = pieces(&Encoder::Raw, &batch, Frame::Datagram);
        assert_eq!(datagrams, ["ab\n", "\0cd", ""]);
    }

    #[test]
    fn long_payloads_are_slices_in_every_frame() {
        let long = "y".repeat(COPY_MAX + 1);
        let batch = batch(&format!("ab{long}cd"), &[(0, 2), (2, COPY_MAX + 3), (0, 2)]);
        for word in FRAMES {
            let frame = Frame::of(word);
            let found = pieces(&Encoder::Raw, &batch, frame);
            let slice = found.iter().find(|piece| piece.len() == long.len());
            let at = slice
                .unwrap_or_else(|| panic!("{word}: {found:?}"))
                .as_ptr();
            assert_eq!(at, batch.bytes[2..].as_ptr(), "{word}: copied");
        }
    }

    #[test]
    fn lines_within_a_limit_are_the_same_lines_and_stop_before_it() {
        let long = "y".repeat(COPY_MAX + 1);
        let text = format!("ab\n{long}\nc\nd");
        let at = COPY_MAX + 4;
        let batch = batch(
            &text,
            &[(0, 2), (3, at), (at + 1, at + 2), (at + 3, at + 4)],
        );
        let template = Template::compile("{{ message }}").unwrap();
        let encoders = [
            Encoder::Raw,
            Encoder::Json,
            Encoder::Logfmt,
            Encoder::Syslog(syslog::Settings::default()),
            Encoder::Template(template),
        ];
        for encoder in encoders {
            let whole = pieces(&encoder, &batch, Frame::Lines).concat();
            let mut out = Output::new();
            let (mut taken, mut bytes) = (0, Vec::new());
            for bytes_max in [whole.len(), 1, 2, 3, 150, 400, COPY_MAX] {
                taken = 0;
                bytes.clear();
                while taken < 4 {
                    let left = batch.events[taken..].iter();
                    let events = encoder.encode_within(&batch, left, bytes_max, &mut out);
                    assert!(events > 0, "{encoder:?} within {bytes_max}");
                    assert!(out.len() <= bytes_max || events == 1, "{encoder:?}");
                    taken += events;
                    bytes.extend(out.take().concat());
                }
                assert!(bytes == whole, "{encoder:?} within {bytes_max}");
            }
            assert_eq!((taken, bytes.len()), (4, whole.len()));
            let again = encoder.encode_within(&batch, batch.events.iter(), 1, &mut out);
            let more = encoder.encode_within(&batch, batch.events.iter(), 1, &mut out);
            assert_eq!((again, more), (1, 0), "what is there counts");
        }
    }

    #[test]
    fn json_logfmt_and_templates_are_one_buffer() {
        let batch = batch("a \"b\"\nc", &[(0, 5), (6, 7)]);
        let json = "{\"message\":\"a \\\"b\\\"\",\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\
                    \"host\":\"::1\",\"source\":\"in\"}\n";
        let found = text(&Encoder::Json, &batch, Frame::Lines);
        assert_eq!(found.split_inclusive('\n').next().unwrap(), json);
        let logfmt =
            "message=\"a \\\"b\\\"\" timestamp=1970-01-01T00:00:00.000000Z host=::1 source=in\n";
        let found = text(&Encoder::Logfmt, &batch, Frame::Lines);
        assert_eq!(found.split_inclusive('\n').next().unwrap(), logfmt);
        let template = Template::compile("{{ %source }} {{ message }}\n.").unwrap();
        let found = text(&Encoder::Template(template), &batch, Frame::Lines);
        assert_eq!(found, "in a \"b\" .\nin c .\n");
        assert_eq!(pieces(&Encoder::Json, &batch, Frame::Datagram).len(), 2);
    }
}
