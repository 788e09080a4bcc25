//! Texts with places that are filled from an event: file paths and `encode = { template = … }`.
//!
//! Between `{{` and `}}` stands one of
//! - a field by its VRL path: `{{ host }}`, `{{ .user.name }}`, `{{ .tags[0] }}`;
//! - metadata: `{{ %source }}`, `{{ %peer }}`, `{{ %received }}`;
//! - the received time in UTC: `{{ date:%Y-%m-%d }}` with `%Y %m %d %H %M %S %f %%`;
//! - a text in double quotes, which is how `{{` itself is written: `{{ "{{" }}`.
//!
//! A string is written as it is, everything else as JSON; null and an absent field are nothing.

use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix, parse_target_path};

use super::options::Mistake;
use crate::event::{Event, Shared, write_plain};
use crate::time::WallTime;

/// A compiled template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Field(Vec<OwnedSegment>),
    Source,
    Peer,
    Received,
    Date(Vec<Unit>),
}

/// A piece of a date.
#[derive(Clone, Debug, PartialEq)]
enum Unit {
    Literal(char),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Micros,
}

impl Template {
    /// Compiles `text`.
    ///
    /// # Errors
    /// `{{` is not closed, or what stands inside is none of the four. The offset is in bytes
    /// of `text`.
    pub fn compile(text: &str) -> Result<Template, Mistake> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find("{{").map(|found| at + found) {
            push_literal(&mut parts, &text[at..open]);
            let inner = open + 2;
            let close = closing(&text[inner..])
                .map(|found| inner + found)
                .ok_or_else(|| {
                    Mistake::new("`{{` is never closed")
                        .at(open, 2)
                        .help("write `}}` after the field, or `{{ \"{{\" }}` for the signs")
                })?;
            let expression = text[inner..close].trim();
            let start = text[inner..close].find(expression).unwrap_or(0) + inner;
            let part = parse(expression).map_err(|mistake| {
                let len = mistake.len.max(expression.len().min(1));
                let offset = start + mistake.offset;
                mistake.at(offset, len)
            })?;
            match part {
                Part::Literal(literal) => push_literal(&mut parts, &literal),
                part => parts.push(part),
            }
            at = close + 2;
        }
        push_literal(&mut parts, &text[at..]);
        Ok(Template { parts })
    }

    /// A template that is one field or metadata alone, written without braces: `host`,
    /// `.user.name`, `%peer`.
    ///
    /// # Errors
    /// It is no path. The offset is in bytes of `text`.
    pub fn of_field(text: &str) -> Result<Template, Mistake> {
        match parse(text)? {
            part @ (Part::Field(_) | Part::Source | Part::Peer) => {
                Ok(Template { parts: vec![part] })
            }
            _ => Err(Mistake::new(format!("`{text}` is no field")).help("write it like `.host`")),
        }
    }

    /// What stands before the first place that is filled.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// What stands after the last place that is filled.
    pub fn literal_suffix(&self) -> &str {
        match self.parts.last() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether all events of a batch have the same text: no field of theirs is filled in.
    pub fn is_same_for_batch(&self) -> bool {
        let is_field = |part: &Part| matches!(part, Part::Field(_));
        !self.parts.iter().any(is_field)
    }

    /// Whether nothing is filled in: the same text for every event.
    pub fn is_literal(&self) -> bool {
        matches!(self.parts.as_slice(), [] | [Part::Literal(_)])
    }

    /// Appends the text for `event`. Says whether every field was there.
    pub fn render(&self, shared: Shared<'_>, event: &Event, out: &mut Vec<u8>) -> bool {
        let mut complete = true;
        for part in &self.parts {
            complete &= part.write(shared, event, out);
        }
        complete
    }

    /// Like [`Template::render`], with every filled-in text passed through `escape`; what the
    /// configuration wrote itself is not.
    pub fn render_escaped(
        &self,
        shared: Shared<'_>,
        event: &Event,
        escape: &mut dyn FnMut(&[u8], &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> bool {
        let mut complete = true;
        let mut filled = Vec::new();
        for part in &self.parts {
            if let Part::Literal(text) = part {
                out.extend_from_slice(text.as_bytes());
                continue;
            }
            filled.clear();
            complete &= part.write(shared, event, &mut filled);
            escape(&filled, out);
        }
        complete
    }
}

/// Where the `}}` is that closes an expression; not one inside double quotes.
fn closing(rest: &str) -> Option<usize> {
    let lead = rest.len() - rest.trim_start().len();
    let from = match rest[lead..].strip_prefix('"') {
        Some(quoted) => lead + 1 + quoted.find('"')?,
        None => 0,
    };
    rest[from..].find("}}").map(|found| from + found)
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if text.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(Part::Literal(before)) => before.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

/// One expression; the mistake's offset is relative to it.
fn parse(expression: &str) -> Result<Part, Mistake> {
    if expression.is_empty() {
        return Err(Mistake::new("nothing stands between `{{` and `}}`")
            .help("name a field, as in `{{ .host }}`"));
    }
    if let Some(format) = expression.strip_prefix("date:") {
        return parse_date(format).map_err(|mistake| {
            let offset = mistake.offset + "date:".len();
            Mistake { offset, ..mistake }
        });
    }
    if let Some(text) = expression
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        return Ok(Part::Literal(text.to_owned()));
    }
    let whole = |message: String| Mistake::new(message).at(0, expression.len());
    let path = parse_target_path(expression).map_err(|_| {
        whole(format!("`{expression}` is no path of a field"))
            .help("write it like `.host` or `.user.name`; a date like `date:%Y-%m-%d`")
    })?;
    part_of(path).ok_or_else(|| {
        whole(format!("there is no metadata `{expression}`"))
            .help("there are `%source`, `%peer` and `%received`")
    })
}

fn part_of(path: OwnedTargetPath) -> Option<Part> {
    let segments = path.path.segments;
    if path.prefix == PathPrefix::Event {
        return Some(Part::Field(segments));
    }
    match segments.as_slice() {
        [OwnedSegment::Field(name)] if **name == *"source" => Some(Part::Source),
        [OwnedSegment::Field(name)] if **name == *"peer" => Some(Part::Peer),
        [OwnedSegment::Field(name)] if **name == *"received" => Some(Part::Received),
        _ => None,
    }
}

fn parse_date(format: &str) -> Result<Part, Mistake> {
    let mut units = Vec::new();
    let mut letters = format.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter != '%' {
            units.push(Unit::Literal(letter));
            continue;
        }
        let unit = match letters.next().map(|(_, letter)| letter) {
            Some('Y') => Unit::Year,
            Some('m') => Unit::Month,
            Some('d') => Unit::Day,
            Some('H') => Unit::Hour,
            Some('M') => Unit::Minute,
            Some('S') => Unit::Second,
            Some('f') => Unit::Micros,
            Some('%') => Unit::Literal('%'),
            other => {
                let shown: String = other.into_iter().collect();
                return Err(Mistake::new(format!("there is no date part `%{shown}`"))
                    .at(at, 1 + shown.len())
                    .help("there are %Y %m %d %H %M %S %f and %%"));
            }
        };
        units.push(unit);
    }
    Ok(Part::Date(units))
}

impl Part {
    fn write(&self, shared: Shared<'_>, event: &Event, out: &mut Vec<u8>) -> bool {
        match self {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Field(path) => return write_plain(event, shared.bytes, path, out),
            Part::Source => out.extend_from_slice(shared.origin.source.as_bytes()),
            Part::Peer => out.extend_from_slice(shared.origin.peer.as_bytes()),
            Part::Received => shared.received.write_rfc3339(out),
            Part::Date(units) => write_date(units, shared.received, out),
        }
        true
    }
}

fn write_date(units: &[Unit], time: WallTime, out: &mut Vec<u8>) {
    let date = time.civil();
    for unit in units {
        let (number, width) = match unit {
            Unit::Literal(letter) => {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            Unit::Year => (date.year, 4),
            Unit::Month => (date.month, 2),
            Unit::Day => (date.day, 2),
            Unit::Hour => (date.hour, 2),
            Unit::Minute => (date.minute, 2),
            Unit::Second => (date.second, 2),
            Unit::Micros => (date.micros, 6),
        };
        out.extend_from_slice(format!("{number:0width$}").as_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::event::{Batch, Field, Fields, Key, Origin, Slot, Span, name};

    fn batch() -> Batch {
        let origin = Origin {
            source: "in".into(),
            peer: "/run/x".into(),
        };
        let text = br#""w\u00e9b"null[1, 2]{"b":"c/d"}plain"#;
        let received = WallTime::from_micros(1_795_459_319_123_456);
        let mut batch = Batch::new(Arc::new(origin), received, Bytes::from_static(text));
        let json = |start, end| Slot::Json(Span::new(start, end));
        let slots = [
            ("host", json(0, 10)),
            ("none", json(10, 14)),
            ("list", json(14, 20)),
            ("a", json(20, 31)),
            ("text", Slot::Text(Span::new(31, 36))),
            ("code", Slot::Integer(-7)),
            ("severity", Slot::Word(name!("info"))),
            ("time", Slot::Time(WallTime::from_micros(0))),
        ];
        let list = slots.map(|(key, slot)| Field {
            key: Key::named(key),
            slot,
        });
        batch.events = vec![Event::fielded(Fields {
            raw: Span::new(0, text.len()),
            list: list.into(),
            parsed: true,
        })]
        .into();
        batch
    }

    #[test]
    fn places_are_filled() {
        let batch = batch();
        let check = |text: &str, expected: &str, complete: bool| {
            let template = Template::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut out = Vec::new();
            let found = template.render(batch.shared(), &batch.events[0], &mut out);
            assert_eq!(
                (out.as_slice(), found),
                (expected.as_bytes(), complete),
                "{text}"
            );
        };
        check("", "", true);
        check("plain } {", "plain } {", true);
        check("/logs/{{ host }}/{{.host}}.log", "/logs/wéb/wéb.log", true);
        check(
            "{{ .a.b }} {{ .list[-1] }} {{ a }}",
            "c/d 2 {\"b\":\"c/d\"}",
            true,
        );
        check("{{ .text }}{{ code }}{{severity}}", "plain-7info", true);
        check("{{ %source }}@{{ %peer }}", "in@/run/x", true);
        check("{{ %received }}", "2026-11-23T18:41:59.123456Z", true);
        check("{{ time }}", "1970-01-01T00:00:00.000000Z", true);
        check(
            "{{ date:%Y-%m-%d/%H:%M:%S.%f %% }}",
            "2026-11-23/18:41:59.123456 %",
            true,
        );
        check("{{ \"{{ }}\" }}", "{{ }}", true);
        check("<{{ none }}{{ nowhere }}{{ .a.x.y }}>", "<>", false);
    }

    #[test]
    fn filled_in_texts_are_escaped_and_literals_are_not() {
        let batch = batch();
        let template = Template::compile("/x/{{ .a.b }}/{{ \"/\" }}").unwrap();
        let mut out = Vec::new();
        let mut slashes = |text: &[u8], out: &mut Vec<u8>| {
            out.extend(
                text.iter()
                    .map(|byte| if *byte == b'/' { b'_' } else { *byte }),
            );
        };
        template.render_escaped(batch.shared(), &batch.events[0], &mut slashes, &mut out);
        assert_eq!(out, b"/x/c_d//");
        assert_eq!(template.literal_prefix(), "/x/");
        assert_eq!(template.literal_suffix(), "//");
        assert!(!template.is_same_for_batch());
        assert!(!template.is_literal());
        assert!(Template::compile("{{ \"a\" }}b").unwrap().is_literal());
    }

    #[test]
    fn mistakes_point_into_the_text() {
        let check = |text: &str, wrong: &str, message: &str| {
            let mistake = Template::compile(text).unwrap_err();
            let place = &text[mistake.offset..mistake.offset + mistake.len];
            assert_eq!(place, wrong, "{text}: {mistake}");
            assert!(mistake.message.contains(message), "{text}: {mistake}");
            assert!(mistake.help.is_some(), "{text}");
        };
        check("a{{ host", "{{", "never closed");
        check("a{{ \"}} ", "{{", "never closed");
        check("a{{  .b..c }}", ".b..c", "no path");
        check("{{ %port }}", "%port", "no metadata");
        check("{{ date:%Y-%q }}", "%q", "no date part `%q`");
        check("{{ date:% }}", "%", "no date part");
        check("é{{ }}", "", "nothing stands");
        check("{{ host name }}", "host name", "no path");
    }
}
