//! `parse`: replaces an event by what is read out of its `message`.
//!
//! Of a raw event that is all of its bytes. What was parsed is ranges of the same bytes where
//! the message lies in them; nothing is copied and no value is built. The marks `truncated` and
//! `incomplete` stay, since what was parsed is then not all there was.

mod clf;
mod json;
mod list;
mod logfmt;
mod place;
mod regex;
pub mod syslog;
mod vrl;

use std::borrow::Cow;

pub(super) use json::fields_of;
pub(super) use list::List;
pub(super) use place::Place;

use super::failed;
use crate::event::zone::Zone;
use crate::event::{Batch, Event, Fielded, Shared, into_fields};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "parse",
    summary: "replaces the event by the fields read out of its message",
    options: &[Opt::new(
        VALUE,
        "\"json\", \"logfmt\", \"clf\" (the common and combined access-log formats), \"syslog\" \
         (RFC 5424, RFC 3164 and what devices send), { regex = '…' } whose named groups become \
         fields, or { vrl = '…' } that gives an object",
        Kind::Either(&[
            Kind::Word(&["json", "logfmt", "clf", "syslog"]),
            Kind::Choice(&[
                Opt::new(
                    "regex",
                    "a regular expression with named groups: `(?<user>\\S+)`",
                    Kind::Text(Some(regex::check)),
                ),
                Opt::new(
                    "syslog",
                    "syslog whose times without a zone are of this `timezone`",
                    Kind::Table(&[syslog::TIMEZONE]),
                ),
                Opt::new(
                    "vrl",
                    "a VRL program whose value is the event",
                    Kind::Text(Some(vrl::check)),
                ),
            ]),
        ]),
    )
    .required()],
    shared: &[],
    example: "{ parse = \"json\" }",
    build: Build::Step(build),
};

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    if let Some(choice) = options.table(VALUE) {
        return match choice.chosen() {
            "syslog" => {
                let zone = choice
                    .table("syslog")
                    .map_or_else(Zone::local, syslog::timezone);
                Ok(Box::new(Parse {
                    parser: syslog::Reader::new(zone),
                }))
            }
            "vrl" => vrl::build(choice.text("vrl")).map_err(|e| e.of("vrl")),
            _ => {
                let parser = regex::Regex::new(choice.text("regex")).map_err(|e| e.of("regex"))?;
                Ok(Box::new(Parse { parser }))
            }
        };
    }
    Ok(match options.word(VALUE) {
        "logfmt" => Box::new(Parse {
            parser: logfmt::Logfmt::default(),
        }),
        "clf" => Box::new(Parse {
            parser: clf::Clf::default(),
        }),
        "syslog" => Box::new(Parse {
            parser: syslog::Reader::new(Zone::local()),
        }),
        _ => Box::new(Parse {
            parser: json::Json::default(),
        }),
    })
}

/// Reads the fields out of one text.
pub(super) trait Parser {
    /// Events of a batch come next, which share this.
    fn begin(&mut self, _shared: Shared<'_>) {}

    /// Adds what is found to `found`, or says what is wrong with the text.
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason>;
}

/// Why an event could not be parsed.
pub(super) type Reason = Cow<'static, str>;

struct Parse<P> {
    parser: P,
}

impl<P: Parser> Step for Parse<P> {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let (shared, events) = batch.split();
        self.parser.begin(shared);
        events.retain_mut(|event| {
            let mut fielded = Fielded::empty(event.raw(), true);
            let mut found = List::new(shared.bytes, &mut fielded.list);
            let place = Place::message(event, shared.bytes);
            match place.and_then(|place| self.parser.parse(&place, &mut found)) {
                Ok(()) => {
                    replace(event, fielded, shared.bytes);
                    true
                }
                Err(reason) => failed(event, shared.bytes, &reason, report),
            }
        });
    }

    fn changes_events(&self) -> bool {
        true
    }
}

/// Makes `parsed` what the event is; marks about its bytes stay.
fn replace(event: &mut Event, parsed: Fielded, bytes: &[u8]) {
    let before = std::mem::replace(event, Event::Fields(parsed));
    let Event::Fields(mut before) = before else {
        return;
    };
    let fields = into_fields(event);
    for field in before.list.drain(..) {
        let key = field.key.of(bytes);
        let lasting = key == b"truncated" || key == b"incomplete";
        if lasting && fields.position(bytes, key).is_none() {
            fields.list.push(field);
        }
    }
}
