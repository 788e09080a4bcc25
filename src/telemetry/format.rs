//! The four forms of a record: text for people, logfmt, JSON, the journal's native fields.
//!
//! Text: `18:42:00.123 INFO  source.syslog  listening on tcp://127.0.0.1:5514`, time in UTC,
//! then the fields that the message does not show already. logfmt and JSON: one line with
//! `time level component event message` and the fields. Journal: the datagram of
//! `systemd.journal-fields(7)`, a field `peer` as `MARLINE_PEER`. All values are escaped.

use std::fmt::Write;
use std::str::FromStr;

use super::escape;
use super::record::{Level, Record, Value};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people, with colours if the terminal has them.
    Human {
        /// Whether escape sequences for colours are used.
        colour: bool,
    },
    /// `key=value` lines.
    Logfmt,
    /// One JSON object per line.
    Json,
    /// Datagrams to the journal's socket.
    Journald,
}

impl Format {
    /// The words of the config.
    pub const WORDS: [&'static str; 4] = ["human", "logfmt", "json", "journald"];

    /// Appends `record` in this form; lines with their newline.
    pub fn write(self, record: &Record, out: &mut Vec<u8>) {
        let mut line = String::with_capacity(192);
        match self {
            Format::Human { colour } => human(record, colour, &mut line),
            Format::Logfmt => logfmt(record, &mut line),
            Format::Json => json(record, &mut line),
            Format::Journald => journal(record, &mut line),
        }
        out.extend_from_slice(line.as_bytes());
    }
}

/// No format has this name.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word {
            "human" => Ok(Format::Human { colour: false }),
            "logfmt" => Ok(Format::Logfmt),
            "json" => Ok(Format::Json),
            "journald" => Ok(Format::Journald),
            _ => Err(UnknownFormat),
        }
    }
}

/// What a person reads: the message, or the event's name in words.
fn sentence(record: &Record) -> String {
    if record.message.is_empty() {
        record.event.replace('_', " ")
    } else {
        record.message.clone()
    }
}

/// The width that most components fit in, so that messages start in one column.
const COMPONENT_WIDTH: usize = 14;

fn human(record: &Record, colour: bool, line: &mut String) {
    let time = record.time.civil();
    let (level, paint) = match record.level {
        Level::Error => ("ERROR", "\x1b[1;31m"),
        Level::Warn => ("WARN ", "\x1b[33m"),
        Level::Info => ("INFO ", "\x1b[32m"),
        Level::Debug => ("DEBUG", "\x1b[36m"),
        Level::Trace => ("TRACE", "\x1b[2m"),
    };
    let (paint, dim, reset) = if colour {
        (paint, "\x1b[2m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let (hour, minute, second) = (time.hour, time.minute, time.second);
    let millis = time.micros / 1000;
    let stamp = format_args!("{hour:02}:{minute:02}:{second:02}.{millis:03}");
    let mut component = String::new();
    escape::plain(&record.component, &mut component);
    put(
        line,
        format_args!("{dim}{stamp}{reset} {paint}{level}{reset} "),
    );
    put(line, format_args!("{component:COMPONENT_WIDTH$} "));
    let message = sentence(record);
    escape::plain(&message, line);
    for (name, value) in &record.fields {
        let is_shown = matches!(value, Value::Text(text) if message.contains(text.as_str()));
        if !is_shown {
            put(line, format_args!(" {dim}{name}={reset}"));
            escape::value(&value.to_string(), line);
        }
    }
    line.push('\n');
}

fn logfmt(record: &Record, line: &mut String) {
    put(
        line,
        format_args!("time={} level={}", record.time, record.level.word()),
    );
    let mut pair = |name: &str, text: &str| {
        put(line, format_args!(" {name}="));
        escape::value(text, line);
    };
    pair("component", &record.component);
    if !record.event.is_empty() {
        pair("event", &record.event);
    }
    pair("message", &sentence(record));
    for (name, value) in &record.fields {
        pair(name, &value.to_string());
    }
    line.push('\n');
}

fn json(record: &Record, line: &mut String) {
    put(
        line,
        format_args!(
            "{{\"time\":\"{}\",\"level\":\"{}\"",
            record.time,
            record.level.word()
        ),
    );
    json_text("component", &record.component, line);
    if !record.event.is_empty() {
        json_text("event", &record.event, line);
    }
    json_text("message", &sentence(record), line);
    for (name, value) in &record.fields {
        match value {
            Value::Text(text) => json_text(name, text, line),
            // JSON has no word for these.
            Value::Float(number) if !number.is_finite() => {
                json_text(name, &number.to_string(), line);
            }
            number => put(line, format_args!(",\"{name}\":{number}")),
        }
    }
    line.push_str("}\n");
}

fn json_text(name: &str, text: &str, line: &mut String) {
    put(line, format_args!(",\"{name}\":"));
    escape::json(text, line);
}

/// No value holds a newline once it is escaped, so the simple form of the protocol does.
fn journal(record: &Record, datagram: &mut String) {
    let mut pair = |name: &str, text: &str| {
        put(datagram, format_args!("{name}="));
        escape::plain(text, datagram);
        datagram.push('\n');
    };
    pair("MESSAGE", &sentence(record));
    pair("PRIORITY", &record.level.severity().to_string());
    pair("SYSLOG_IDENTIFIER", "marline");
    pair("MARLINE_COMPONENT", &record.component);
    if !record.event.is_empty() {
        pair("MARLINE_EVENT", &record.event);
    }
    for (name, value) in &record.fields {
        pair(&journal_name(name), &value.to_string());
    }
}

/// A field's name in the journal: capitals, digits and underscores, at most 64.
fn journal_name(name: &str) -> String {
    let letters = name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    "MARLINE_".chars().chain(letters).take(64).collect()
}

fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text)
        .expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn record() -> Record {
        Record {
            time: WallTime::from_micros(1_795_459_320_123_456),
            level: Level::Info,
            component: "source.syslog".to_owned(),
            event: "listening".to_owned(),
            message: "listening on tcp://127.0.0.1:5514".to_owned(),
            fields: vec![
                ("address", Value::Text("tcp://127.0.0.1:5514".to_owned())),
                ("backlog", Value::Uint(4096)),
                ("peer", Value::Text("a\x1b[2J\nb\"".to_owned())),
            ],
            callsite: 0,
        }
    }

    fn check(format: Format, expected: &str) {
        let mut out = Vec::new();
        format.write(&record(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn each_format_in_full() {
        check(
            Format::Human { colour: false },
            "18:42:00.123 INFO  source.syslog  listening on tcp://127.0.0.1:5514 backlog=4096 \
             peer=\"a\\x1b[2J\\nb\\\"\"\n",
        );
        check(
            Format::Logfmt,
            "time=2026-11-23T18:42:00.123456Z level=info component=source.syslog \
             event=listening message=\"listening on tcp://127.0.0.1:5514\" \
             address=tcp://127.0.0.1:5514 backlog=4096 peer=\"a\\x1b[2J\\nb\\\"\"\n",
        );
        check(
            Format::Json,
            "{\"time\":\"2026-11-23T18:42:00.123456Z\",\"level\":\"info\",\
             \"component\":\"source.syslog\",\"event\":\"listening\",\
             \"message\":\"listening on tcp://127.0.0.1:5514\",\
             \"address\":\"tcp://127.0.0.1:5514\",\"backlog\":4096,\
             \"peer\":\"a\\u001b[2J\\nb\\\"\"}\n",
        );
        check(
            Format::Journald,
            "MESSAGE=listening on tcp://127.0.0.1:5514\nPRIORITY=6\nSYSLOG_IDENTIFIER=marline\n\
             MARLINE_COMPONENT=source.syslog\nMARLINE_EVENT=listening\n\
             MARLINE_ADDRESS=tcp://127.0.0.1:5514\nMARLINE_BACKLOG=4096\n\
             MARLINE_PEER=a\\x1b[2J\\nb\"\n",
        );
    }

    #[test]
    fn colours_are_ours_alone() {
        let mut out = Vec::new();
        Format::Human { colour: true }.write(&record(), &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("\x1b[32mINFO \x1b[0m"), "{text}");
        assert!(!text.contains("\x1b[2J"), "{text}");
    }
}
