//! What may happen to events on their way: one file per step, listed here.
//!
//! A step is written as `{ NAME = VALUE }` in a pipeline's `steps`. All of them work on whole
//! batches in place; they know nothing of each other, of sources or of sinks, and do no IO. One
//! that cannot handle an event leaves it as it was, and [`failed`] decides what becomes of it.

mod dedupe;
mod drop_if;
mod identity;
mod keep;
mod keep_if;
mod name;
pub mod parse;
mod remove;
mod rename;
mod sample;
mod set;
mod split;
mod throttle;
mod vrl;

use bytes::Bytes;

use crate::event::Event;
use crate::pipeline::descriptor::Descriptor;
use crate::pipeline::step::StepReport;

/// Most events that `split` makes of one.
pub use split::ELEMENTS_MAX as SPLIT_EVENTS_MAX;

/// Every step, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[
    &parse::DESCRIPTOR,
    &keep_if::DESCRIPTOR,
    &drop_if::DESCRIPTOR,
    &set::DESCRIPTOR,
    &rename::DESCRIPTOR,
    &remove::DESCRIPTOR,
    &keep::DESCRIPTOR,
    &vrl::DESCRIPTOR,
    &split::DESCRIPTOR,
    &sample::DESCRIPTOR,
    &dedupe::DESCRIPTOR,
    &throttle::DESCRIPTOR,
];

/// Counts an event that a step could not handle: it goes to the dead letters where there are
/// any, else it stays, marked `parse_error`. Says whether it stays.
fn failed(event: &mut Event, bytes: &Bytes, reason: &str, report: &mut StepReport) -> bool {
    if report.takes_failed() {
        let raw = event.raw();
        let taken = std::mem::replace(event, Event::Raw(raw));
        report.fail(taken, reason);
        return false;
    }
    report.count_error(reason);
    event.mark(bytes, "parse_error", reason);
    true
}
