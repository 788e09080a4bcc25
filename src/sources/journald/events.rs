//! Entries of the journal as events.
//!
//! The names of the journal's fields are those of systemd.journal-fields(7); those that a syslog
//! message has, too, get its names (`host`, `app`, `procid`, …), so that both go through the same
//! steps. The text of an event is its `MESSAGE`.

use bytes::Bytes;

use crate::event::{Event, Field, Fields, Key, Name, Slot, Span, name};
use crate::protocol;
use crate::protocol::journal_export::{Entries, Entry};
use crate::steps::parse::syslog::{FACILITY_WORDS, SEVERITY_WORDS};

/// Events, and what they lie in.
pub struct Made {
    /// The bytes that the events point into.
    pub bytes: Bytes,
    /// One for each entry.
    pub events: Vec<Event>,
    /// The cursor of the last entry that has one.
    pub cursor: Option<String>,
}

/// Makes events of entries, with their usual fields or with all.
pub fn make(entries: Entries, has_all_fields: bool) -> Made {
    let Entries { mut bytes, list } = entries;
    for field in list.iter().flat_map(|entry| &entry.fields) {
        bytes[field.name.range()].make_ascii_lowercase();
    }
    let bytes = Bytes::from(bytes);
    let cursors = list.iter().rev();
    let cursor = cursors
        .filter_map(|entry| value(entry, &bytes, b"__cursor"))
        .next();
    let cursor = cursor.map(|span| String::from_utf8_lossy(span.of(&bytes)).into_owned());
    let events = list
        .iter()
        .map(|entry| event(entry, &bytes, has_all_fields))
        .collect();
    Made {
        events,
        cursor,
        bytes,
    }
}

fn event(entry: &Entry, bytes: &Bytes, has_all_fields: bool) -> Event {
    let find = |name: &[u8]| value(entry, bytes, name);
    let message = find(b"message");
    let mut list = Vec::new();
    let mut add = |name: &'static Name, slot: Option<Slot>| {
        let key = Key::Static(name);
        list.extend(slot.map(|slot| Field { key, slot }));
    };
    let number = |name: &[u8]| {
        let text = std::str::from_utf8(find(name)?.of(bytes)).ok()?;
        text.parse::<i64>().ok()
    };
    let either = |first: &[u8], second: &[u8]| find(first).or_else(|| find(second));
    let time = number(b"__realtime_timestamp");
    let app = either(b"syslog_identifier", b"_comm");
    let procid = either(b"_pid", b"syslog_pid");
    add(name!("timestamp"), time.map(Slot::time));
    add(name!("host"), find(b"_hostname").map(Slot::Text));
    add(name!("app"), app.map(Slot::Text));
    add(name!("procid"), procid.map(Slot::Text));
    let codes: [(&[u8], _, _, &'static [Name]); 2] = [
        (
            b"syslog_facility",
            name!("facility"),
            name!("facility_code"),
            &FACILITY_WORDS,
        ),
        (
            b"priority",
            name!("severity"),
            name!("severity_code"),
            &SEVERITY_WORDS,
        ),
    ];
    for (name, word, code, words) in codes {
        let number = number(name).filter(|number| *number >= 0);
        let known = number.and_then(|number| words.get(usize::try_from(number).ok()?));
        add(word, known.map(Slot::Word));
        add(code, number.map(Slot::Integer));
    }
    add(name!("unit"), find(b"_systemd_unit").map(Slot::Text));
    add(name!("message"), message.map(Slot::Text));
    if has_all_fields {
        add_others(entry, bytes, &mut list);
    }
    let start = entry.fields.first().map_or(0, |field| field.name.start);
    let empty = Span { start, end: start };
    let mut event = Event::fielded(Fields {
        raw: message.unwrap_or(empty),
        list,
        parsed: true,
    });
    if entry.is_truncated {
        event.mark(bytes, "truncated", "longer than max_message");
    }
    event
}

/// Adds the fields that have no other name, the last one where a name comes more than once.
fn add_others(entry: &Entry, bytes: &Bytes, list: &mut Vec<Field>) {
    let usual = list.len();
    for field in &entry.fields {
        let name = field.name.of(bytes);
        // Two underscores: the address of the entry, not what it says.
        if name.starts_with(b"__") || RENAMED.contains(&name) {
            continue;
        }
        let slot = Slot::Text(ours(field.value));
        let known = list.iter().position(|known| known.key.of(bytes) == name);
        match known {
            Some(index) if index >= usual => list[index].slot = slot,
            // A name of ours means what it means everywhere.
            Some(_) => {}
            None => list.push(Field {
                key: Key::Span(ours(field.name)),
                slot,
            }),
        }
    }
}

/// The value of the last field of that name.
fn value(entry: &Entry, bytes: &[u8], name: &[u8]) -> Option<Span> {
    let mut fields = entry.fields.iter().rev();
    let found = fields.find(|field| field.name.of(bytes) == name);
    found.map(|field| ours(field.value))
}

fn ours(span: protocol::Span) -> Span {
    Span {
        start: span.start,
        end: span.end,
    }
}

/// Fields that are there under a name of ours.
const RENAMED: &[&[u8]] = &[
    b"message",
    b"priority",
    b"syslog_facility",
    b"syslog_identifier",
    b"_hostname",
    b"_pid",
    b"_systemd_unit",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::json::Writer;
    use crate::event::{Batch, Origin};
    use crate::protocol::journal_export::Parser;
    use crate::time::WallTime;

    const ENTRY: &[u8] = b"__CURSOR=s=1;i=9\n__REALTIME_TIMESTAMP=1795459319123456\n\
        _HOSTNAME=web-01\nPRIORITY=3\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=sshd\n_COMM=ssh\n\
        _PID=77\n_SYSTEMD_UNIT=sshd.service\nCODE_LINE=5\nHOST=mine\nMESSAGE=no \"way\"\n\n";

    fn shown(stream: &[u8], has_all_fields: bool) -> (serde_json::Value, Option<String>, String) {
        let mut entries = Entries::default();
        Parser::new(1000).push(stream, &mut entries).unwrap();
        let made = make(entries, has_all_fields);
        let origin = Arc::new(Origin {
            source: "in".into(),
            peer: "".into(),
        });
        let batch = Batch::new(origin, WallTime::default(), made.bytes);
        let event = &made.events[0];
        let mut text = Vec::new();
        Writer::new(&batch).write(event, &mut text);
        let raw = String::from_utf8_lossy(batch.raw(event)).into_owned();
        (serde_json::from_slice(&text).unwrap(), made.cursor, raw)
    }

    #[test]
    fn an_entry_has_the_fields_of_a_syslog_message() {
        let (event, cursor, raw) = shown(ENTRY, false);
        let expected = serde_json::json!({
            "timestamp": "2026-11-23T18:41:59.123456Z", "host": "web-01", "app": "sshd",
            "procid": "77", "facility": "authpriv", "facility_code": 10, "severity": "err",
            "severity_code": 3, "unit": "sshd.service", "message": "no \"way\"",
        });
        assert_eq!(event, expected);
        assert_eq!(
            (cursor.as_deref(), raw.as_str()),
            (Some("s=1;i=9"), "no \"way\"")
        );
    }

    #[test]
    fn all_fields_are_all_but_addresses_and_ours_win() {
        let (event, _, _) = shown(ENTRY, true);
        assert_eq!(
            (&event["code_line"], &event["_comm"]),
            (&"5".into(), &"ssh".into())
        );
        assert_eq!(
            (&event["host"], event.get("__cursor")),
            (&"web-01".into(), None)
        );
        assert_eq!(event.as_object().unwrap().len(), 12);
    }

    #[test]
    fn an_entry_without_message_and_with_strange_numbers_is_an_event_all_the_same() {
        let (event, _, raw) = shown(b"PRIORITY=99\nSYSLOG_FACILITY=-1\n_PID=x\n\n", false);
        let expected = serde_json::json!({ "procid": "x", "severity_code": 99 });
        assert_eq!((event, raw.as_str()), (expected, ""));
    }
}
