//! `parse = "syslog"`: RFC 5424, RFC 3164 and what devices send.
//!
//! Fields: `timestamp host app procid msgid facility severity facility_code severity_code message
//! structured_data`; what a message does not have is absent. A time without a zone is of the
//! option `timezone`, the daemon's by default; one without a year is near the received time.
//!
//! [`Reader`] is what a source that speaks syslog uses in its own right: one call per message,
//! which says what format it was.

use bytes::Bytes;

use super::place::{Place, add, add_integer, add_word};
use super::{List, Parser, Reason};
use crate::event::zone::{KeptZone, Zone};
use crate::event::{Event, Field, Fielded, Name, Shared, Slot, Span, name};
use crate::pipeline::descriptor::{Kind, Opt};
use crate::pipeline::options::{Mistake, Options};
use crate::protocol;
use crate::protocol::syslog::{
    FACILITIES, LocalOffsets, Message, Offsets, SEVERITIES, SyslogError, Time, parse_into, resolve,
};

/// The option that names the zone of times without one.
pub const TIMEZONE: Opt = Opt::new(
    "timezone",
    "the zone of times that name none, as in the IANA database: \"Europe/Berlin\", \"UTC\"; \
     the daemon's own where it is not set",
    Kind::Text(Some(check_timezone)),
);

fn check_timezone(name: &str) -> Result<(), Mistake> {
    match Zone::named(name) {
        Some(_) => Ok(()),
        None => Err(Mistake::new(format!("there is no time zone \"{name}\""))
            .help("names are those of the IANA database, such as \"Europe/Berlin\"")),
    }
}

/// The zone that [`TIMEZONE`] asks for.
pub fn timezone(options: &Options) -> Zone {
    let named = options.maybe_text("timezone").and_then(Zone::named);
    named.unwrap_or_else(Zone::local)
}

/// The keywords of facilities, by their codes, for slots to point at.
pub static FACILITY_WORDS: [Name; 24] = Name::all(FACILITIES);

/// The keywords of severities, by their codes.
pub static SEVERITY_WORDS: [Name; 8] = Name::all(SEVERITIES);

/// Room for fields that later steps set.
const SPARE_FIELDS: usize = 2;

/// Makes events of messages.
#[derive(Debug)]
pub struct Reader {
    times: Times,
    /// The last message that was read.
    message: Message,
}

/// What finds the instants that times stand for.
#[derive(Debug)]
struct Times {
    clocks: Clocks,
    /// When the messages came, in microseconds since 1970-01-01T00:00:00Z.
    received: i64,
    last: LastTime,
}

/// A time to the second and what it was resolved to: messages come many in a second.
#[derive(Debug, Default)]
struct LastTime {
    time: Option<Time>,
    received: i64,
    micros: i64,
}

#[derive(Debug)]
struct Clocks(KeptZone);

impl LocalOffsets for Clocks {
    fn offsets(&mut self, local_seconds: i64) -> Offsets {
        let (before, after) = self.0.at_local(local_seconds);
        Offsets { before, after }
    }
}

impl Reader {
    /// A reader for messages whose times are of `zone` where they name none.
    pub fn new(zone: Zone) -> Reader {
        Reader {
            times: Times {
                clocks: Clocks(KeptZone::new(zone)),
                received: 0,
                last: LastTime::default(),
            },
            message: Message::default(),
        }
    }

    /// When the next messages were received, in microseconds since 1970-01-01T00:00:00Z. Events
    /// do not carry it; it tells the year of times that have none.
    pub fn received_at(&mut self, micros: i64) {
        self.times.received = micros;
    }

    /// The event of the message that is `raw` of `bytes`, and the message, whose ranges are of
    /// that text. One that is not syslog stays raw and is marked `parse_error` with the reason.
    pub fn event(&mut self, bytes: &Bytes, raw: Span) -> (Event, Result<&Message, SyslogError>) {
        let place = Place::Batch(bytes, raw);
        match parse_into(raw.of(bytes), &mut self.message) {
            Ok(()) => {
                let mut fielded = Fielded::empty(raw, true);
                self.fields(&place, &mut fielded.list);
                (Event::Fields(fielded), Ok(&self.message))
            }
            Err(error) => {
                let mut event = Event::Raw(raw);
                event.mark(bytes, "parse_error", &reason(&error));
                (event, Err(error))
            }
        }
    }

    /// Adds the fields of the message, which was read out of `place`; no name occurs twice.
    fn fields(&mut self, place: &Place<'_>, list: &mut Vec<Field>) {
        list.reserve(11 + SPARE_FIELDS);
        let message = &self.message;
        let time = message.time.as_ref();
        if let Some(micros) = time.and_then(|time| self.times.micros(time)) {
            add(list, name!("timestamp"), Slot::time(micros));
        }
        let mut add_text = |name, part: Option<protocol::Span>| {
            if let Some(part) = part {
                place.add_text(list, name, part);
            }
        };
        add_text(name!("host"), message.host);
        add_text(name!("app"), message.app);
        add_text(name!("procid"), message.procid);
        add_text(name!("msgid"), message.msgid);
        if let Some(priority) = message.priority {
            let (facility, severity) = (priority.facility(), priority.severity());
            let word = &FACILITY_WORDS[usize::from(facility)];
            add_word(list, name!("facility"), word);
            let word = &SEVERITY_WORDS[usize::from(severity)];
            add_word(list, name!("severity"), word);
            add_integer(list, name!("facility_code"), facility.into());
            add_integer(list, name!("severity_code"), severity.into());
        }
        if let Some(part) = message.message {
            place.add_text(list, name!("message"), part);
        }
        if let Some(part) = message.structured_data {
            add(
                list,
                name!("structured_data"),
                place.structured_data_slot(part),
            );
        }
    }
}

impl Times {
    fn micros(&mut self, time: &Time) -> Option<i64> {
        let second = Time { micros: 0, ..*time };
        let is_last = self.last.time == Some(second) && self.last.received == self.received;
        if !is_last {
            self.last = self.of(second)?;
        }
        Some(self.last.micros + i64::from(time.micros))
    }

    /// What a second is that is not the last one again. Not inlined, for that is rare.
    #[inline(never)]
    fn of(&mut self, second: Time) -> Option<LastTime> {
        let micros = resolve(&second, self.received, &mut self.clocks)?;
        Some(LastTime {
            time: Some(second),
            received: self.received,
            micros,
        })
    }
}

fn reason(error: &SyslogError) -> String {
    format!("not syslog: {error}")
}

impl Parser for Reader {
    fn begin(&mut self, shared: Shared<'_>) {
        self.received_at(shared.received.as_micros());
    }

    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        parse_into(place.bytes(), &mut self.message).map_err(|error| reason(&error))?;
        found.fill(|list| self.fields(place, list));
        Ok(())
    }
}
