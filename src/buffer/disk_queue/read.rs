//! The lane that reads: what is durable and not in memory, a megabyte at a time.
//!
//! Records become parts again. What cannot be had is a gap, which is booked as dropped, and its
//! numbers count as done with, so that the cursor passes them.

use std::rc::Rc;

use super::Inner;
use super::lanes::Done;
use crate::buffer::disk::{ReadOutcome, ReadRecord};
use crate::event::codec;
use crate::pipeline::part::{Making as PartMaking, Part, Picked, Record};
use crate::pipeline::queue::EVICTED;
use crate::telemetry::events::BufferDamaged;
use crate::time::Duration;

impl Inner {
    pub(super) fn read(&self) {
        let (from, until) = {
            let state = self.state.borrow();
            let lanes = self.lanes.borrow();
            if !state.wants_read() || lanes.is_read_paused || lanes.reader.is_none() {
                return;
            }
            (state.read_seq, state.durable_seq)
        };
        let Some(mut reader) = self.lanes.borrow_mut().reader.take() else {
            return;
        };
        self.state.borrow_mut().is_reading = true;
        self.submit(
            "disk buffer read",
            Box::new(move || {
                let result = reader.read(from, until, READ_BYTES);
                Done::Read(reader, result)
            }),
        );
    }

    pub(super) fn was_read(&self, result: std::io::Result<ReadOutcome>) {
        self.state.borrow_mut().is_reading = false;
        if self.is_closing() {
            return;
        }
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                let mut lanes = self.lanes.borrow_mut();
                lanes.read_failures += 1;
                lanes.is_read_paused = true;
                if lanes.read_failures == 1 {
                    self.log_failure(&format!("cannot read the disk buffer: {error}"));
                }
                drop(lanes);
                let resume = |inner: &Inner| inner.lanes.borrow_mut().is_read_paused = false;
                return self.after(READ_PAUSE, resume);
            }
        };
        self.lanes.borrow_mut().read_failures = 0;
        for finding in &outcome.findings {
            BufferDamaged {
                sink: &self.name,
                what: finding,
                is_alarm: finding.what.is_alarm(),
            }
            .log();
        }
        self.take_outcome(outcome);
        if let Some(port) = self.port() {
            port.ready();
        }
    }

    /// Takes records and gaps in the order of their numbers: whoever waits for a record must not
    /// hear of a gap behind it first.
    fn take_outcome(&self, outcome: ReadOutcome) {
        let mut gaps = outcome.gaps.into_iter().peekable();
        for record in outcome.records {
            while let Some(gap) = gaps.next_if(|gap| gap.from_seq < record.first_seq) {
                self.skip(gap.from_seq, gap.to_seq);
            }
            self.take_read(record);
        }
        gaps.for_each(|gap| self.skip(gap.from_seq, gap.to_seq));
        self.pass_evicted(outcome.next_seq);
    }

    /// What the reader passed over without a word, up to `seq`, was deleted while it read; the
    /// eviction that did it may not have been heard of yet.
    fn pass_evicted(&self, seq: u64) {
        let (events, claims) = {
            let mut state = self.state.borrow_mut();
            let from = state.read_seq;
            if seq <= from {
                return;
            }
            state.acked.add(from, seq);
            state.read_seq = seq;
            (seq - from, state.claims_below(seq))
        };
        self.lost(events, claims, EVICTED);
    }

    /// The events from `from` to before `to` cannot be had.
    pub(super) fn skip(&self, from: u64, to: u64) {
        self.pass_evicted(from);
        let (events, claims) = {
            let mut state = self.state.borrow_mut();
            // What was evicted meanwhile is booked already.
            let from = from.max(state.read_seq);
            if to <= from {
                return;
            }
            state.acked.add(from, to);
            state.read_seq = to;
            (to - from, state.claims_below(to))
        };
        self.lost(events, claims, DAMAGED);
    }

    pub(super) fn take_read(&self, read: ReadRecord) {
        let end = read.first_seq + u64::from(read.count);
        self.pass_evicted(read.first_seq);
        let from = self.state.borrow().read_seq.max(read.first_seq);
        if end <= from {
            return;
        }
        let Some(port) = self.port() else { return };
        let payload = self.memory.hold(read.payload);
        let decoded = codec::decode(payload, &mut self.names.borrow_mut());
        let decoded = match decoded {
            Ok(decoded) if decoded.batch.len() == read.count as usize => decoded,
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "it holds another number of events than its header says".to_owned(),
                };
                let what = format!("the record of event {}: {why}", read.first_seq);
                BufferDamaged {
                    sink: &self.name,
                    what: &what,
                    is_alarm: true,
                }
                .log();
                return self.skip(from, end);
            }
        };
        let skipped = (from - read.first_seq) as u32;
        let selection = (skipped > 0).then(|| (skipped..read.count).collect());
        let bytes = decoded.batch.weight_bytes();
        let (lost, claim) = self.state.borrow_mut().claim_of(from);
        debug_assert!(lost.is_empty(), "a claim was passed over");
        let part = Part::new(PartMaking {
            picked: Picked::new(Rc::new(decoded.batch), selection),
            bytes,
            port,
            via: (!decoded.pipeline.is_empty()).then(|| self.vias.of(&decoded.pipeline)),
            claim,
            record: Some(Record {
                uuid: self.state.borrow().uuid,
                epoch: read.epoch,
                first_seq: from,
                count: read.count - skipped,
            }),
        });
        let mut state = self.state.borrow_mut();
        state.push_read(part);
        state.read_seq = end;
    }
}

/// Payload that one job reads.
const READ_BYTES: usize = 1 << 20;
/// A read that failed is tried again after this.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// The reason under which events are counted that were damaged on the disk.
const DAMAGED: &str = "damaged";
