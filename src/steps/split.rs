//! `split`: makes one event into several: the elements of an array, or the lines of a text.
//!
//! An element that is an object becomes an event with its fields; any other becomes an event
//! whose `message` it is. The other fields of the event go; received time, source and peer stay.
//! Of an event that is still raw the whole text is taken for JSON. An empty array, or a text
//! without a line that has bytes in it, lets the event end here, counted as filtered.

use vrl::path::{OwnedSegment, parse_value_path};

use super::failed;
use super::parse::{List, Place, fields_of};
use crate::event::{Batch, Event, Field, Fielded, Fields, Key, Slot, Span, find, name};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::step::{Step, StepReport};
use crate::protocol::{self, json};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "split",
    summary: "makes the elements of an array, or the lines of a text, events of their own",
    options: &[Opt::new(
        VALUE,
        "path of an array, as `.items` or `.` for all of the event, whose elements become \
         events; \"lines\" for the lines of the message",
        Kind::Text(Some(check)),
    )
    .required()],
    shared: &[],
    example: "{ split = \".items\" }",
    build: Build::Step(build),
};

/// Most events that one is made into; an array with more is an error of the event.
pub const ELEMENTS_MAX: usize = 100_000;

fn check(text: &str) -> Result<(), Mistake> {
    parse(text).map(drop)
}

/// What to split by.
#[derive(Debug)]
enum By {
    Lines,
    /// The names on the way to the array.
    Path(Vec<String>),
}

fn parse(text: &str) -> Result<By, Mistake> {
    if text == "lines" {
        return Ok(By::Lines);
    }
    let wrong = || Mistake::new(format!("`{text}` is no path to an array"));
    let Some(rest) = text.strip_prefix('.') else {
        return Err(wrong().help(format!("did you mean `.{text}`?")));
    };
    if rest.is_empty() {
        return Ok(By::Path(Vec::new()));
    }
    let path = parse_value_path(text).map_err(|_| wrong().help("write it like `.data.items`"))?;
    let names = path.segments.into_iter().map(|segment| match segment {
        OwnedSegment::Field(name) => Ok(name.to_string()),
        OwnedSegment::Index(_) => Err(wrong().help("an index cannot stand in this path")),
    });
    names.collect::<Result<_, _>>().map(By::Path)
}

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let by = parse(options.text(VALUE)).map_err(|mistake| mistake.of(VALUE))?;
    Ok(Box::new(Split { by }))
}

struct Split {
    by: By,
}

impl Step for Split {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let before = std::mem::take(&mut batch.events);
        for mut event in before {
            let bytes = &batch.bytes;
            let parts = match &self.by {
                By::Lines => lines(&event, bytes),
                By::Path(path) => elements(path, &event, bytes),
            };
            match parts {
                Ok(parts) if parts.is_empty() => report.filtered += 1,
                Ok(mut parts) => {
                    report.produced += parts.len() as u64 - 1;
                    batch.events.append(&mut parts);
                }
                Err(reason) => {
                    if failed(&mut event, bytes, &reason, report) {
                        batch.events.push(event);
                    }
                }
            }
        }
    }

    fn changes_events(&self) -> bool {
        true
    }
}

fn lines(event: &Event, bytes: &bytes::Bytes) -> Result<Vec<Event>, String> {
    let place = Place::message(event, bytes).map_err(String::from)?;
    let text = place.bytes();
    let mut parts = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at);
        let line = text[start..end]
            .strip_suffix(b"\r")
            .unwrap_or(&text[start..end]);
        if !line.is_empty() {
            if parts.len() == ELEMENTS_MAX {
                return Err(format!("more than {ELEMENTS_MAX} lines"));
            }
            let line = place.part(protocol::Span::new(start, start + line.len()));
            parts.push(match line {
                Place::Batch(_, span) => Event::Raw(span),
                Place::Own(own) => with_message(event.raw(), Slot::text(own)),
            });
        }
        start = end + 1;
    }
    Ok(parts)
}

fn elements(path: &[String], event: &Event, bytes: &bytes::Bytes) -> Result<Vec<Event>, String> {
    let (place, names) = array_in(path, event, bytes)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let spans = json::elements(place.bytes(), &names).map_err(|error| error.to_string())?;
    if spans.len() > ELEMENTS_MAX {
        return Err(format!("more than {ELEMENTS_MAX} elements"));
    }
    let element = |span| {
        let element = place.part(span);
        let raw = element.raw(event.raw());
        let mut fielded = Fielded::empty(raw, true);
        if fields_of(&element, &mut List::new(bytes, &mut fielded.list)).is_ok() {
            return Event::Fields(fielded);
        }
        let whole = protocol::Span::new(0, element.bytes().len());
        with_message(raw, element.json_slot(whole))
    };
    Ok(spans.into_iter().map(element).collect())
}

/// The JSON text to look into, and the names that are left of the path in it.
fn array_in<'a, 'p>(
    path: &'p [String],
    event: &Event,
    bytes: &'a bytes::Bytes,
) -> Result<(Place<'a>, &'p [String]), String> {
    let parsed = matches!(event, Event::Fields(fields) if fields.parsed);
    let Some((first, rest)) = path.split_first().filter(|_| parsed) else {
        // `.` is the whole text, of a parsed event the one it was parsed from.
        let whole = Ok(Place::Batch(bytes, event.raw()));
        let place = if parsed {
            whole
        } else {
            Place::message(event, bytes)
        };
        return Ok((place.map_err(String::from)?, path));
    };
    match find(event, bytes, first.as_bytes()) {
        Some(found) => Ok((Place::json(found, bytes), rest)),
        None => Err(format!("there is no field `{first}`")),
    }
}

/// An event whose message is not its raw bytes.
fn with_message(raw: Span, slot: Slot) -> Event {
    Event::fielded(Fields {
        raw,
        list: vec![Field {
            key: Key::Static(name!("message")),
            slot,
        }],
        parsed: true,
    })
}
