//! Syslog out: RFC 5424 and RFC 3164, in one pass into a buffer.
//!
//! ```text
//! <PRI>1 TIME HOST APP PROCID MSGID SD MSG      2026-11-23T18:42:00.000001Z
//! <PRI>TIME HOST TAG[PROCID]: MSG               Nov 23 19:42:00, as the clocks of a zone show it
//! ```
//! The fields are those that `parse = "syslog"` gives. What is missing: `host` is the peer,
//! `timestamp` when the event was received, facility, severity and app are settings. In a word of
//! the header, what is not graphic ASCII becomes `_`, and it is cut at its maximum. The text goes
//! as it is; without a byte order mark it may be in any encoding (RFC 5424, 6.4). A raw event is
//! its bytes, and one that has other fields but no `message` is its JSON.

use std::cell::RefCell;

use chrono::DateTime;
use vrl::value::Value;

use super::zone::{KeptZone, Zone};
use super::{Batch, Event, Fields, Found, Slot, json, structured_data, to_value, write_plain_slot};
use crate::time::WallTime;

/// The layout of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164, which has no year, no zone, no fraction, no message id and no structured data.
    Rfc3164,
}

/// How events are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The layout.
    pub layout: Layout,
    /// The code of the facility of events that have none, 0 to 23.
    pub facility: u8,
    /// The code of the severity of events that have none, 0 to 7.
    pub severity: u8,
    /// The app of events that have none; `None`: nothing in RFC 5424, the source in RFC 3164,
    /// where a receiver would take a text's first word for it.
    pub app: Option<Box<str>>,
    /// The zone of RFC 3164's times.
    pub zone: Zone,
}

/// The keywords of severities, in order of their codes (RFC 5424, table 2).
pub const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// The keywords of facilities, in order of their codes (RFC 5424, table 1).
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Other words for severities, as programs and older systems have them.
const SEVERITY_ALIASES: [(&str, u8); 10] = [
    ("emergency", 0),
    ("panic", 0),
    ("critical", 2),
    ("fatal", 2),
    ("error", 3),
    ("warn", 4),
    ("information", 6),
    ("informational", 6),
    ("trace", 7),
    ("verbose", 7),
];

/// Longest HOSTNAME, in bytes (RFC 5424, 6).
const HOST_BYTES_MAX: usize = 255;
/// Longest APP-NAME, in bytes.
const APP_BYTES_MAX: usize = 48;
/// Longest PROCID, in bytes.
const PROCID_BYTES_MAX: usize = 128;
/// Longest MSGID, in bytes.
const MSGID_BYTES_MAX: usize = 32;
/// Longest tag, in bytes (RFC 3164, 4.1.3).
const TAG_BYTES_MAX: usize = 32;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Default for Settings {
    fn default() -> Self {
        Settings {
            layout: Layout::Rfc5424,
            facility: 1,
            severity: 5,
            app: None,
            zone: Zone::local(),
        }
    }
}

/// Writes the events of one batch.
pub struct Writer<'a> {
    settings: &'a Settings,
    batch: &'a Batch,
    zone: RefCell<KeptZone>,
}

/// What an event has of a message.
#[derive(Default)]
struct Parts<'a> {
    time: Option<Found<'a>>,
    host: Option<Found<'a>>,
    app: Option<Found<'a>>,
    procid: Option<Found<'a>>,
    msgid: Option<Found<'a>>,
    facility: Option<Found<'a>>,
    facility_code: Option<Found<'a>>,
    severity: Option<Found<'a>>,
    severity_code: Option<Found<'a>>,
    structured_data: Option<Found<'a>>,
    message: Option<Found<'a>>,
    /// There are other fields.
    has_more: bool,
}

impl<'a> Parts<'a> {
    fn of(event: &'a Event, bytes: &[u8]) -> Parts<'a> {
        let mut parts = Parts::default();
        match event {
            Event::Raw(raw) => parts.message = Some(Found::Message(*raw)),
            Event::Fields(fields) => parts.read(fields, bytes),
        }
        parts
    }

    fn read(&mut self, fields: &'a Fields, bytes: &[u8]) {
        for field in &fields.list {
            let place = match field.key.of(bytes) {
                b"timestamp" => &mut self.time,
                b"host" => &mut self.host,
                b"app" => &mut self.app,
                b"procid" => &mut self.procid,
                b"msgid" => &mut self.msgid,
                b"facility" => &mut self.facility,
                b"facility_code" => &mut self.facility_code,
                b"severity" => &mut self.severity,
                b"severity_code" => &mut self.severity_code,
                b"structured_data" => &mut self.structured_data,
                b"message" => &mut self.message,
                _ => {
                    self.has_more = true;
                    continue;
                }
            };
            *place = Some(Found::Slot(&field.slot));
        }
        if self.message.is_none() && !fields.parsed {
            self.message = Some(Found::Message(fields.raw));
        }
    }
}

impl<'a> Writer<'a> {
    /// A writer for the events of `batch`.
    pub fn new(settings: &'a Settings, batch: &'a Batch) -> Writer<'a> {
        Writer {
            settings,
            batch,
            zone: RefCell::new(KeptZone::new(settings.zone)),
        }
    }

    /// Appends `event` as one message without a delimiter.
    pub fn write(&self, event: &Event, out: &mut Vec<u8>) {
        let parts = Parts::of(event, &self.batch.bytes);
        out.push(b'<');
        json::write_integer(i64::from(self.priority(&parts)), out);
        match self.settings.layout {
            Layout::Rfc5424 => self.write_5424(event, &parts, out),
            Layout::Rfc3164 => self.write_3164(event, &parts, out),
        }
    }

    fn write_5424(&self, event: &Event, parts: &Parts<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b">1 ");
        self.time(parts.time).write_rfc3339(out);
        out.push(b' ');
        self.write_host(parts, out);
        out.push(b' ');
        let app = self.settings.app.as_deref().unwrap_or("");
        self.write_word(parts.app, app, APP_BYTES_MAX, out);
        out.push(b' ');
        self.write_word(parts.procid, "", PROCID_BYTES_MAX, out);
        out.push(b' ');
        self.write_word(parts.msgid, "", MSGID_BYTES_MAX, out);
        out.push(b' ');
        self.write_structured_data(parts.structured_data, out);
        self.write_message(event, parts, out);
    }

    fn write_3164(&self, event: &Event, parts: &Parts<'_>, out: &mut Vec<u8>) {
        out.push(b'>');
        self.write_bsd_time(parts.time, out);
        out.push(b' ');
        self.write_host(parts, out);
        out.push(b' ');
        let app = self.settings.app.as_deref();
        let app = app.unwrap_or(&self.batch.origin.source);
        let start = out.len();
        self.write_word(parts.app, app, TAG_BYTES_MAX, out);
        blank_tag(&mut out[start..]);
        if parts.procid.is_some() {
            out.push(b'[');
            let start = out.len();
            self.write_word(parts.procid, "", PROCID_BYTES_MAX, out);
            blank_tag(&mut out[start..]);
            out.push(b']');
        }
        out.push(b':');
        self.write_message(event, parts, out);
    }

    fn priority(&self, parts: &Parts<'_>) -> u8 {
        let code = |word, number, names: &[&str], aliases: &[(&str, u8)], default| {
            let code = self.code(word, names, aliases);
            let code = code.or_else(|| self.code(number, names, aliases));
            code.unwrap_or(default)
        };
        let (facility, facility_code) = (parts.facility, parts.facility_code);
        let default = self.settings.facility;
        let facility = code(
            facility,
            facility_code,
            &FACILITIES,
            &[("security", 4)],
            default,
        );
        let (severity, severity_code) = (parts.severity, parts.severity_code);
        let default = self.settings.severity;
        let severity = code(
            severity,
            severity_code,
            &SEVERITIES,
            &SEVERITY_ALIASES,
            default,
        );
        facility * 8 + severity
    }

    /// The code that a field names, by a keyword in any case or by a number.
    fn code(&self, found: Option<Found<'_>>, names: &[&str], aliases: &[(&str, u8)]) -> Option<u8> {
        match found? {
            Found::Slot(Slot::Integer(number)) => {
                let number = usize::try_from(*number).ok();
                let number = number.filter(|&number| number < names.len());
                number.map(|number| number as u8)
            }
            found => self.with_text(found, |text| {
                let text = std::str::from_utf8(text).ok()?;
                let is = |name: &&str| name.eq_ignore_ascii_case(text);
                if let Some(index) = names.iter().position(&is) {
                    return Some(index as u8);
                }
                let alias = aliases.iter().find(|(name, _)| is(name));
                let number = || {
                    text.parse()
                        .ok()
                        .filter(|&code| usize::from(code) < names.len())
                };
                alias.map(|(_, code)| *code).or_else(number)
            }),
        }
    }

    /// The time of the event, where its field is one, else when it was received.
    fn time(&self, found: Option<Found<'_>>) -> WallTime {
        let received = self.batch.received;
        match found {
            None => received,
            Some(Found::Slot(Slot::Time(time))) => *time,
            Some(found) => match to_value(found, &self.batch.bytes) {
                Value::Timestamp(time) => WallTime::from_micros(time.timestamp_micros()),
                value => {
                    let text = value.as_bytes().map(|text| String::from_utf8_lossy(text));
                    let time = text.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
                    time.map_or(received, |time| {
                        WallTime::from_micros(time.timestamp_micros())
                    })
                }
            },
        }
    }

    fn write_bsd_time(&self, found: Option<Found<'_>>, out: &mut Vec<u8>) {
        let time = self.time(found).as_micros();
        let offset = self.zone.borrow_mut().at_utc(time.div_euclid(1_000_000));
        let local = time.saturating_add(i64::from(offset) * 1_000_000);
        let date = WallTime::from_micros(local).civil();
        let month = MONTHS.get(date.month as usize - 1).unwrap_or(&MONTHS[0]);
        out.extend_from_slice(month.as_bytes());
        // RFC 3164, 4.1.2: a day below 10 has a blank before it.
        let tens = if date.day < 10 {
            b' '
        } else {
            b'0' + (date.day / 10) as u8
        };
        out.extend_from_slice(&[b' ', tens, b'0' + (date.day % 10) as u8]);
        for (mark, number) in [(b' ', date.hour), (b':', date.minute), (b':', date.second)] {
            let digits = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
            out.extend_from_slice(&[mark, digits[0], digits[1]]);
        }
    }

    fn write_host(&self, parts: &Parts<'_>, out: &mut Vec<u8>) {
        self.write_word(parts.host, self.batch.origin.host(), HOST_BYTES_MAX, out);
    }

    /// A field, or `default` where it is absent, as a word of the header; `-` where it is empty.
    fn write_word(
        &self,
        found: Option<Found<'_>>,
        default: &str,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        match found {
            Some(found) => self.with_text(found, |text| write_graphic(text, bytes_max, out)),
            None => write_graphic(default.as_bytes(), bytes_max, out),
        }
    }

    fn write_structured_data(&self, found: Option<Found<'_>>, out: &mut Vec<u8>) {
        let is_written = match found {
            Some(Found::Slot(Slot::StructuredData(span))) => {
                let text = span.of(&self.batch.bytes);
                out.extend_from_slice(text);
                !text.is_empty()
            }
            Some(found) => match to_value(found, &self.batch.bytes) {
                Value::Object(elements) => structured_data::write(&elements, out),
                _ => false,
            },
            None => false,
        };
        if !is_written {
            out.push(b'-');
        }
    }

    /// A blank and the text, where there is one.
    fn write_message(&self, event: &Event, parts: &Parts<'_>, out: &mut Vec<u8>) {
        if let Some(found) = parts.message {
            out.push(b' ');
            self.with_text(found, |text| out.extend_from_slice(text));
        } else if parts.has_more {
            out.push(b' ');
            json::Writer::new(self.batch).write(event, out);
        }
    }

    /// What a field is as plain text.
    fn with_text<T>(&self, found: Found<'_>, read: impl FnOnce(&[u8]) -> T) -> T {
        let bytes = &self.batch.bytes;
        match found {
            Found::Message(span) | Found::Slot(&Slot::Text(span)) => read(span.of(bytes)),
            Found::Slot(Slot::Word(word)) => read(word.as_bytes()),
            Found::Slot(slot) => {
                let mut text = Vec::new();
                write_plain_slot(slot, bytes, &mut text);
                read(&text)
            }
        }
    }
}

fn write_graphic(text: &[u8], bytes_max: usize, out: &mut Vec<u8>) {
    if text.is_empty() {
        out.push(b'-');
    }
    let text = text.iter().take(bytes_max);
    out.extend(text.map(|byte| if byte.is_ascii_graphic() { *byte } else { b'_' }));
}

/// Replaces what would end a tag, or a process id in brackets.
fn blank_tag(tag: &mut [u8]) {
    for byte in tag {
        if matches!(byte, b':' | b'[' | b']') {
            *byte = b'_';
        }
    }
}
