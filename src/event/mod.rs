//! What flows: a [`Batch`] of [`Event`]s, and JSON in and out of them.
//!
//! A batch is what one read or one request brought: its events, what they share (source, peer,
//! received time) and one `Bytes` that all their spans point into. An event is either *raw*, a
//! span without any allocation, or *fielded*, a flat list of keys and slots. A slot stays an
//! unparsed span until somebody asks for its value; VRL objects are never what flows, because
//! building one costs ten times what finding a field does.
//!
//! Invariants: every span lies within `Batch::bytes`; a batch holds at most 4 GiB of bytes;
//! a list of fields has no key twice. A batch is `Send`: it may be handed to another
//! reactor whole.

mod access;
pub mod codec;
mod eight;
mod events;
mod fielded;
mod fields;
pub mod json;
pub mod logfmt;
mod names;
mod structured_data;
pub mod syslog;
mod value;
pub mod zone;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::time::WallTime;

pub use access::{Access, Change, Names, Shared};
pub use events::Events;
pub use fielded::Fielded;
pub use fields::{Constant, Field, Fields, Found, Key, Slot, find, into_fields};
pub use names::Name;
pub(crate) use names::name;
pub use value::{
    object, parse_json, structured_data_value, timestamp, to_value, walk, write_plain,
    write_plain_slot, write_plain_value,
};

/// A range of a batch's bytes, in bytes from their start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte; never less than `start`.
    pub end: u32,
}

impl Span {
    /// The span `start..end`.
    ///
    /// # Panics
    /// When `end < start` or either is beyond 4 GiB: no batch is that large.
    pub fn new(start: usize, end: usize) -> Span {
        assert!(
            start <= end && u32::try_from(end).is_ok(),
            "span {start}..{end}"
        );
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Its length in bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// As a range for indexing.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes it stands for.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.range()]
    }

    /// The same bytes as a handle of their own, sharing the buffer.
    pub fn share(self, bytes: &Bytes) -> Bytes {
        bytes.slice(self.range())
    }

    /// A span that was relative to `base`'s start, made relative to the batch.
    pub const fn within(self, base: Span) -> Span {
        Span {
            start: base.start + self.start,
            end: base.start + self.end,
        }
    }
}

/// What the events of a batch have in common and is not printed: the `%` of VRL and templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `%source`: the name of the source in the configuration.
    pub source: Arc<str>,
    /// `%peer`: an address with port, a path or a URL; empty where there is none.
    pub peer: Arc<str>,
}

impl Origin {
    /// The peer without its port: the `host` of a raw event's JSON. Empty where there is none.
    pub fn host(&self) -> &str {
        host_of(&self.peer)
    }
}

/// The events of one read or one request.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where they came from.
    pub origin: Arc<Origin>,
    /// `%received`: when the read or request returned.
    pub received: WallTime,
    /// What every span of every event points into.
    pub bytes: Bytes,
    /// The events, in order of arrival.
    pub events: Events,
    /// The events are lines as a framer found them: there is no newline in their original
    /// bytes, and where exactly one byte lies between two neighbours it is one. Who writes
    /// lines need not look at the bytes again. False where nobody knows.
    pub lines: bool,
}

/// One event: 16 bytes, and no allocation while it is raw.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes that nobody has looked into; one field, `message`.
    Raw(Span),
    /// What was parsed or set.
    Fields(Fielded),
}

impl Event {
    /// An event of these fields.
    pub fn fielded(fields: Fields) -> Event {
        Event::Fields(Fielded::from(fields))
    }

    /// The original bytes of the event, whatever steps have made of it since.
    pub fn raw(&self) -> Span {
        match self {
            Event::Raw(span) => *span,
            Event::Fields(fields) => fields.raw,
        }
    }

    /// Sets a mark (`parse_error`, `truncated`, `incomplete`) with its reason; a raw event
    /// stays raw in meaning and keeps its `message`.
    pub fn mark(&mut self, bytes: &Bytes, mark: &'static str, reason: &str) {
        let reason = Slot::text(Bytes::copy_from_slice(reason.as_bytes()));
        into_fields(self).set(bytes, Key::named(mark), reason);
    }
}

impl Batch {
    /// A batch without events over `bytes`.
    ///
    /// # Panics
    /// When `bytes` is longer than 4 GiB; frames and bodies are bounded far below.
    pub fn new(origin: Arc<Origin>, received: WallTime, bytes: Bytes) -> Batch {
        assert!(
            u32::try_from(bytes.len()).is_ok(),
            "a batch of {} bytes",
            bytes.len()
        );
        Batch {
            origin,
            received,
            bytes,
            events: Events::default(),
            lines: false,
        }
    }

    /// The same, with no events yet: for some of its own.
    pub fn without_events(&self) -> Batch {
        Batch {
            origin: Arc::clone(&self.origin),
            received: self.received,
            bytes: self.bytes.clone(),
            events: Events::default(),
            lines: self.lines,
        }
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The original bytes of one of its events.
    pub fn raw(&self, event: &Event) -> &[u8] {
        event.raw().of(&self.bytes)
    }

    /// The sum of the events' original lengths, in bytes.
    pub fn event_bytes(&self) -> usize {
        self.events.raw_bytes()
    }

    /// The bytes that stay allocated while this batch lives.
    pub fn pinned_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What the batch counts for in windows: the bytes it pins and the list of events, whether a
    /// source has read them already or not. Else one read of a source that parses would fill the
    /// window of its connection, which then waited for each to be delivered.
    pub fn received_bytes(&self) -> usize {
        self.bytes.len() + self.events.len() * size_of::<Event>()
    }

    /// What the batch counts for in buffers: the bytes it pins, the list of events and an
    /// estimate of 64 bytes a field.
    pub fn weight_bytes(&self) -> usize {
        let heap = |event: &Event| match event {
            Event::Raw(_) => size_of::<Event>(),
            Event::Fields(fields) => 64 + fields.list.len() * 64,
        };
        let events = match self.events.lines() {
            Some(_) => self.events.len() * size_of::<Event>(),
            None => self.events.iter().map(heap).sum(),
        };
        self.bytes.len() + events
    }

    /// Copies what the events point at into one buffer of the exact size, so that the chunk
    /// they came in can go, when that is less than one part in `parts` of it. Says whether it did.
    ///
    /// Neighbours with exactly one newline between them keep it, so that a run of lines can
    /// still be written as one piece.
    pub fn compact_below(&mut self, parts: usize) -> bool {
        if let Some(lines) = self.events.lines() {
            return self.compact_lines_below(lines, parts);
        }
        // The usual answer, without a look at the fields: they lie within the events.
        let lengths = self.events.iter().map(|event| event.raw().len());
        if !is_below(lengths, parts, self.bytes.len()) {
            return false;
        }
        let runs = runs(self.events.iter(), &self.bytes);
        if !is_below(runs.iter().map(Run::len), parts, self.bytes.len()) {
            return false;
        }
        let live = runs.iter().map(Run::len).sum();
        let old = self.bytes.clone();
        let mut exact = BytesMut::with_capacity(live);
        let mut events = self.events.iter_mut();
        for run in &runs {
            let moved = Move {
                from: run.start,
                to: exact.len() as u32,
            };
            exact.extend_from_slice(run.of(&old));
            for event in events.by_ref().take(run.events) {
                event.relocate(&old, moved);
            }
        }
        self.bytes = exact.freeze();
        true
    }

    /// The same of nothing but lines.
    fn compact_lines_below(&mut self, lines: Span, parts: usize) -> bool {
        if lines.len().saturating_mul(parts) >= self.bytes.len() {
            return false;
        }
        self.bytes = Bytes::copy_from_slice(lines.of(&self.bytes));
        let whole = Span::new(0, self.bytes.len());
        self.events = Events::uncut(self.bytes.clone(), whole, self.events.len());
        true
    }

    /// A batch of its own of the events at `picked`, when they are less than one part in
    /// `parts` of the bytes that this one pins.
    pub fn pick_out(&self, picked: &[u32], parts: usize) -> Option<Batch> {
        let events = picked.iter().map(|index| &self.events[*index as usize]);
        let lengths = events.clone().map(|event| event.raw().len());
        if !is_below(lengths, parts, self.bytes.len()) {
            return None;
        }
        let origin = Arc::clone(&self.origin);
        let mut batch = Batch::new(origin, self.received, self.bytes.clone());
        batch.events = events.cloned().collect();
        batch.compact_below(parts).then_some(batch)
    }

    /// Lets go of the events and their bytes.
    pub fn forget(&mut self) {
        self.events = Events::default();
        self.bytes = Bytes::new();
    }
}

impl Event {
    /// The smallest span that holds the original bytes and everything the slots point at.
    fn reach(&self) -> Span {
        match self {
            Event::Raw(span) => *span,
            Event::Fields(fields) => fields.reach(),
        }
    }

    fn relocate(&mut self, old: &Bytes, moved: Move) {
        match self {
            Event::Raw(span) => moved.apply(span),
            Event::Fields(fields) => fields.relocate(old, moved),
        }
    }
}

/// Whether the lengths add up to less than one part in `parts` of `whole`. The usual answer, no,
/// comes after a few of them.
fn is_below(lengths: impl Iterator<Item = usize>, parts: usize, whole: usize) -> bool {
    let mut sum = 0;
    for length in lengths {
        sum += length;
        if sum.saturating_mul(parts) >= whole {
            return false;
        }
    }
    whole > 0
}

/// The live ranges in order of the events, neighbours joined over their newline.
fn runs<'a>(events: impl Iterator<Item = &'a Event>, bytes: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for event in events {
        let reach = event.reach();
        match runs.last_mut() {
            Some(run) if run.continues(reach, bytes) => {
                run.end = run.end.max(reach.end);
                run.events += 1;
            }
            _ => runs.push(Run {
                start: reach.start,
                end: reach.end,
                events: 1,
            }),
        }
    }
    runs
}

/// A live range and how many consecutive events lie in it.
struct Run {
    start: u32,
    end: u32,
    events: usize,
}

impl Run {
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// Whether `next` overlaps, touches or follows after one newline.
    fn continues(&self, next: Span, bytes: &[u8]) -> bool {
        let touches = (self.start..=self.end).contains(&next.start);
        let follows = Some(next.start) == self.end.checked_add(1);
        touches || (follows && bytes[self.end as usize] == b'\n')
    }
}

/// How spans change when their bytes move.
#[derive(Clone, Copy)]
struct Move {
    from: u32,
    to: u32,
}

impl Move {
    fn apply(self, span: &mut Span) {
        *span = self.shift(*span);
    }

    fn shift(self, span: Span) -> Span {
        Span {
            start: span.start - self.from + self.to,
            end: span.end - self.from + self.to,
        }
    }
}

/// The host of `address:port`, `[v6]:port` or a URL; a path and anything else as it stands.
fn host_of(peer: &str) -> &str {
    let authority = match peer.split_once("://") {
        Some((_, rest)) => {
            let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            rest.rsplit_once('@').map_or(rest, |(_, host)| host)
        }
        None if peer.starts_with(['/', '@']) => return peer,
        None => peer,
    };
    if let Some((host, _)) = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return host;
    }
    match authority.rsplit_once(':') {
        // More than one colon and no brackets: an IPv6 address without a port.
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}
