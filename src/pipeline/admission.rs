//! Admission: all or nothing over the required sinks of a batch.
//!
//! A batch that finds no room holds nothing and is [`Waiting`] at its source; one that is
//! admitted is shared out into the sinks' buffers as parts, each with its claim.

use std::rc::Rc;

use crate::deferred::{Failure, Promise};
use crate::event::Batch;
use crate::time::Cancel;

use super::graph::{Plan, Share};
use super::memory::Memory;
use super::part::{Making, Part, Picked, Refused, Stage, Ticket};
use super::port::Port;
use super::queue::WhenFull;

/// Events that wait are copied out when they are less than one part in so many of the chunks
/// that they keep in memory.
const SPARSE_WAITING: usize = 2;
/// The same for events that go on at once: at most an eighth of a chunk is copied then.
const SPARSE: usize = 8;

/// A batch that found no room.
pub(super) struct Waiting {
    pub(super) plan: Plan,
    pub(super) ticket: Rc<Ticket>,
    pub(super) stage: Stage,
    /// Whether its sender is told what became of it, and sends again what was not taken.
    pub(super) is_answered: bool,
    /// When it is refused, if there is no room before.
    pub(super) limit: Option<Box<dyn Cancel>>,
    /// Another reactor handed it over, and is told when it has room there.
    pub(super) admitted: Option<Promise<()>>,
}

impl Waiting {
    /// Nobody gets anything of it.
    pub(super) fn give_up(mut self, reason: &str, failure: Failure) {
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
        for (pipeline, events) in &self.plan.held {
            pipeline.ledger().in_flight.sub(*events);
            pipeline.ledger().dropped.add(reason, *events);
        }
        if let Some(admitted) = self.admitted.take() {
            admitted.errback(failure.clone());
        }
        self.ticket.release(Some(failure));
    }

    /// What waits keeps no more memory than it needs.
    pub(super) fn compact(&mut self, memory: &Memory) {
        self.plan.compact(SPARSE_WAITING, memory);
    }

    /// Whether some of it is for `port`.
    pub(super) fn is_for(&self, port: &Rc<Port>) -> bool {
        let mut shares = self.plan.shares.iter();
        shares.any(|share| Rc::ptr_eq(&share.port, port))
    }
}

/// Each required sink of the plan, with the bytes of all that the plan has for it.
pub(super) fn required(plan: &Plan) -> impl Iterator<Item = (&Rc<Port>, usize)> {
    let shares = || plan.shares.iter().filter(|share| share.required);
    shares().enumerate().filter_map(move |(index, share)| {
        let same_port = |other: &&Share| Rc::ptr_eq(&other.port, &share.port);
        if shares().take(index).any(|other| same_port(&other)) {
            return None;
        }
        let bytes = shares().filter(same_port).map(|other| other.bytes).sum();
        Some((&share.port, bytes))
    })
}

/// Whether every required sink of the plan has room for all of its shares, or needs none.
/// Nothing is given up for the plan while it must wait for a sink that blocks.
pub(super) fn make_room(plan: &Plan) -> bool {
    let blocks = |port: &Port| port.when_full() == WhenFull::Block;
    required(plan).all(|(port, bytes)| !blocks(port) || port.fits(bytes))
        && required(plan).all(|(port, bytes)| port.make_room(bytes))
}

pub(super) fn want_room(plan: &Plan) {
    plan.shares
        .iter()
        .filter(|share| share.required)
        .for_each(|share| share.port.want_room());
}

/// Puts every share into its sink's buffer.
pub(super) fn admit(waiting: Waiting, memory: &Memory) {
    let Waiting {
        mut plan,
        ticket,
        stage,
        is_answered,
        limit,
        admitted,
    } = waiting;
    if let Some(limit) = limit {
        limit.cancel();
    }
    for (pipeline, events) in plan.held.drain(..) {
        pipeline.ledger().in_flight.sub(events);
        pipeline.ledger().passed.add(events);
    }
    // A sink keeps what it has sent until its peer has it: also what needs not wait must not
    // keep many times its size.
    let waits = plan.shares.iter().any(|share| share.port.has_backlog());
    plan.compact(if waits { SPARSE_WAITING } else { SPARSE }, memory);
    let batches: Vec<Rc<Batch>> = plan.batches.into_iter().map(Rc::new).collect();
    for share in plan.shares {
        let picked = Picked::new(Rc::clone(&batches[share.batch]), share.selection);
        if share.port.when_full() != WhenFull::Block || !share.required {
            // Room was made for what is required, where that was possible at all.
            if !share.port.fits(share.bytes) {
                let events = picked.len() as u64;
                share.port.refuse_full(events);
                if share.is_taken_over {
                    share.port.ledger().taken_over.add(events);
                }
                if share.required && is_answered {
                    let sink = share.port.name().to_owned();
                    ticket.fail(Failure::new(Refused::BufferFull { sink }));
                }
                continue;
            }
        }
        let port = Rc::clone(&share.port);
        let stage = contributed(stage, &port);
        // What goes to another reactor is received when that one has it.
        let claims = share.required && (stage != Stage::Received || port.is_relay());
        if share.is_taken_over {
            port.ledger().taken_over.add(picked.len() as u64);
        }
        port.push(Part::new(Making {
            picked,
            bytes: share.bytes,
            port: share.port,
            via: share.via,
            claim: claims.then(|| ticket.claim(stage)),
            record: None,
        }));
    }
    if let Some(admitted) = admitted {
        admitted.callback(());
    }
    ticket.release(None);
}

/// How far one sink must bring its part for a source that acknowledges at `stage`: without a
/// disk there is nothing between *received* and *delivered*.
fn contributed(stage: Stage, port: &Port) -> Stage {
    match stage {
        // Which of the two it is at another reactor is for that one to say.
        Stage::Durable if !port.is_relay() && !port.queue().is_disk() => Stage::Delivered,
        other => other,
    }
}
