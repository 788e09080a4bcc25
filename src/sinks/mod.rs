//! Where events go: one file per sink, listed here.
//!
//! A sink takes parts of batches from its inlet, encodes and delivers them, and settles each.
//! Sinks know nothing of each other, of sources or of steps. `backlog` and `lines` are no
//! sinks: they are what those that write on a storage thread hold; `outage` is what those that
//! dial say of it.

mod backlog;
mod discard;
mod file;
mod http;
mod lines;
mod outage;
mod socket;
mod stdout;

use crate::pipeline::descriptor::Descriptor;

/// Every sink, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[
    &discard::DESCRIPTOR,
    &file::DESCRIPTOR,
    &http::DESCRIPTOR,
    &socket::DESCRIPTOR,
    &stdout::DESCRIPTOR,
];
