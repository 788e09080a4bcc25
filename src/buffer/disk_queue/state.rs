//! What a disk queue knows: which events are where. No IO, no calls to anybody.
//!
//! ```text
//!  popped by the sink | ready, in memory | on disk alone | being written | not written
//!                     ^ next for the sink ^ read_seq      ^ durable_seq                 ^ next_seq
//! ```
//! Events are durable below `durable_seq`. A part that becomes durable stays in memory when it
//! follows what is ready and there is room for it, so that a sink that keeps up never waits for
//! a read; else only its number is remembered, and what its source waits for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::disk::{Committed, Record as LogRecord, Recovered};
use crate::pipeline::part::{Claim, Part, Record};

use super::acked::Acked;

/// A part that is not durable.
pub(super) struct Unwritten {
    pub(super) part: Part,
    pub(super) record: LogRecord,
}

/// What a source waits for, of events that are on disk alone.
pub(super) struct Awaited {
    pub(super) first_seq: u64,
    pub(super) claim: Claim,
}

/// Which events are where.
pub(super) struct State {
    pub(super) uuid: [u8; 16],
    pub(super) next_seq: u64,
    pub(super) durable_seq: u64,
    /// The first number that is neither ready nor with the sink.
    pub(super) read_seq: u64,
    pub(super) acked: Acked,
    /// In order; a commit is at work on the first of them.
    unwritten: VecDeque<Unwritten>,
    pub(super) unwritten_bytes: usize,
    /// How many of them.
    writing: usize,
    /// Durable, in memory, the next for the sink first.
    ready: VecDeque<Part>,
    ready_bytes: usize,
    ready_bytes_max: usize,
    awaited: VecDeque<Awaited>,
    /// Somebody reads from `read_seq` on.
    pub(super) is_reading: bool,
    /// Parts that were ready at the end and are on disk alone now: the number of the first event
    /// of each, and how many of them are open. An eviction may be under way that takes them.
    left: Vec<(u64, u64)>,
    /// Events below may have been delivered by an earlier process.
    doubtful_seq: u64,
}

impl State {
    /// What is there after a start. What is ready takes at most `ready_bytes_max`, and one part.
    pub(super) fn new(recovered: &Recovered, ready_bytes_max: usize) -> State {
        State {
            uuid: recovered.uuid,
            next_seq: recovered.next_seq,
            durable_seq: recovered.next_seq,
            read_seq: recovered.first_seq,
            acked: Acked::new(recovered.first_seq),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            writing: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            ready_bytes_max,
            awaited: VecDeque::new(),
            is_reading: false,
            left: Vec::new(),
            doubtful_seq: match recovered.may_repeat {
                0 => 0,
                _ => recovered.next_seq,
            },
        }
    }

    /// A new part with its payload gets its numbers.
    pub(super) fn push(&mut self, part: Part, payload: Bytes) {
        let count = part.len() as u32;
        self.unwritten_bytes += part.bytes() + payload.len();
        let record = LogRecord {
            first_seq: self.next_seq,
            count,
            payload,
        };
        self.next_seq += u64::from(count);
        self.unwritten.push_back(Unwritten { part, record });
    }

    /// Events that are not durable.
    pub(super) fn unwritten_events(&self) -> u64 {
        self.unwritten.iter().map(|waits| waits.part.len()).sum()
    }

    /// The longest payload of those, in bytes.
    pub(super) fn largest_unwritten_bytes(&self) -> usize {
        let payloads = self.unwritten.iter().map(|it| it.record.payload.len());
        payloads.max().unwrap_or(0)
    }

    /// What is ready takes at most so many bytes from now on, and one part.
    pub(super) fn set_ready_bytes_max(&mut self, bytes_max: usize) {
        self.ready_bytes_max = bytes_max;
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// The records of the next commit: of `bytes_max` payload, at least one. They stay here
    /// until it has ended.
    pub(super) fn next_group(&mut self, bytes_max: usize) -> Vec<LogRecord> {
        let mut bytes = 0;
        let mut group = Vec::new();
        for waits in &self.unwritten {
            bytes += waits.record.payload.len();
            if bytes > bytes_max && !group.is_empty() {
                break;
            }
            group.push(waits.record.clone());
        }
        self.writing = group.len();
        group
    }

    /// The commit has failed: all of it is to be written again.
    pub(super) fn not_committed(&mut self) {
        self.writing = 0;
    }

    /// The commit went well. Answers the claims that waited for no more, and whether something
    /// became ready.
    pub(super) fn committed(&mut self, committed: &Committed) -> Vec<Claim> {
        let mut claims = Vec::new();
        self.durable_seq = committed.durable_seq;
        for Unwritten { mut part, record } in self.unwritten.drain(..self.writing) {
            self.unwritten_bytes -= part.bytes() + record.payload.len();
            claims.extend(part.take_durable_claim());
            part.set_record(Record {
                uuid: self.uuid,
                epoch: committed.epoch,
                first_seq: record.first_seq,
                count: record.count,
            });
            let follows = record.first_seq == self.read_seq && !self.is_reading;
            let has_room =
                self.ready.is_empty() || self.ready_bytes + part.bytes() <= self.ready_bytes_max;
            if follows && has_room {
                self.read_seq += u64::from(record.count);
                self.ready_bytes += part.bytes();
                self.ready.push_back(part);
            } else if let Some(claim) = part.spilled() {
                let first_seq = record.first_seq;
                self.awaited.push_back(Awaited { first_seq, claim });
            }
        }
        self.writing = 0;
        claims
    }

    /// Whether there is something to read, and room for it.
    pub(super) fn wants_read(&self) -> bool {
        let has_room = self.ready_bytes < self.ready_bytes_max.min(READY_BYTES_LOW);
        !self.is_reading && has_room && self.read_seq < self.durable_seq
    }

    /// A part that was read comes behind what is ready.
    pub(super) fn push_read(&mut self, part: Part) {
        self.ready_bytes += part.bytes();
        self.ready.push_back(part);
    }

    /// The claim on the events that begin with `first_seq`; those before it are lost with
    /// theirs, which come first.
    pub(super) fn claim_of(&mut self, first_seq: u64) -> (Vec<Claim>, Option<Claim>) {
        let lost = self.claims_below(first_seq);
        let is_it = |first: &mut Awaited| first.first_seq == first_seq;
        let found = self.awaited.pop_front_if(is_it);
        (lost, found.map(|awaited| awaited.claim))
    }

    /// Takes the claims on events below `seq`.
    pub(super) fn claims_below(&mut self, seq: u64) -> Vec<Claim> {
        let is_below = |first: &mut Awaited| first.first_seq < seq;
        let next = || self.awaited.pop_front_if(is_below);
        std::iter::from_fn(next).map(|it| it.claim).collect()
    }

    pub(super) fn pop(&mut self) -> Option<Part> {
        let part = self.ready.pop_front()?;
        self.ready_bytes -= part.bytes();
        Some(part)
    }

    pub(super) fn take_back(&mut self, part: Part) {
        self.ready_bytes += part.bytes();
        self.ready.push_front(part);
    }

    /// Takes the parts that are ready and begin below `seq`, which is on disk no more.
    pub(super) fn ready_below(&mut self, seq: u64) -> Vec<Part> {
        let is_below = |part: &mut Part| part.record().is_some_and(|it| it.first_seq < seq);
        let mut taken = Vec::new();
        while let Some(part) = self.ready.pop_front_if(is_below) {
            self.ready_bytes -= part.bytes();
            taken.push(part);
        }
        taken
    }

    /// Whether all that is not done with was left on disk as it had come: nothing of it is with
    /// a sink or may have been delivered.
    pub(super) fn is_left_whole(&self) -> bool {
        let left: u64 = self.left.iter().map(|(_, events)| events).sum();
        let done_seq = self.acked.through();
        let is_doubtful = done_seq < self.doubtful_seq;
        !is_doubtful && left == self.read_seq.saturating_sub(done_seq)
    }

    /// Takes what was left on disk below `seq`, which is there no more; answers how many events.
    pub(super) fn left_below(&mut self, seq: u64) -> u64 {
        let gone = self.left.extract_if(.., |(first_seq, _)| *first_seq < seq);
        gone.map(|(_, events)| events).sum()
    }

    /// Takes what no commit is at work on.
    pub(super) fn take_unwritten(&mut self) -> Vec<Part> {
        let taken: Vec<Unwritten> = self.unwritten.drain(self.writing..).collect();
        for Unwritten { part, record } in &taken {
            self.unwritten_bytes -= part.bytes() + record.payload.len();
            self.next_seq = self.next_seq.min(record.first_seq);
        }
        let parts = taken.into_iter().map(|waits| waits.part);
        parts.map(Part::without_room).collect()
    }

    /// Takes who waits for what is not durable yet, to be told.
    pub(super) fn take_durable_answers(&mut self) -> Vec<Claim> {
        let parts = self.unwritten.iter_mut();
        parts
            .filter_map(|waits| waits.part.take_durable_answer())
            .collect()
    }

    /// Takes who waits for whatever is not durable or not in memory, to be told.
    pub(super) fn take_answers(&mut self) -> Vec<Claim> {
        let parts = self.unwritten.iter_mut();
        let parts = parts.filter_map(|waits| waits.part.take_answer());
        let awaited = self.awaited.iter_mut();
        let awaited = awaited.filter_map(|awaited| awaited.claim.take_answer());
        parts.chain(awaited).collect()
    }

    /// Leaves everything on disk: the claims on what was there, and the parts that are there no
    /// more. The cursor says `kept_seq`; what is below and was not delivered was evicted while
    /// the sink had it.
    pub(super) fn leave(&mut self, kept_seq: u64) -> (Vec<Claim>, Vec<Part>) {
        self.ready_bytes = 0;
        let is_gone = |part: &Part| part.record().is_some_and(|it| it.first_seq < kept_seq);
        let (gone, ready): (Vec<_>, Vec<_>) = self.ready.drain(..).partition(is_gone);
        let place = |part: &Part| Some((part.record()?.first_seq, part.len()));
        self.left.extend(ready.iter().filter_map(place));
        let ready = ready.into_iter().filter_map(Part::spilled);
        let awaited = self.awaited.drain(..).map(|awaited| awaited.claim);
        (ready.chain(awaited).collect(), gone)
    }
}

/// Below so many bytes ready, more is read. It is half a megabyte so that the sink has work while
/// the next megabyte is fetched.
const READY_BYTES_LOW: usize = 512 << 10;
