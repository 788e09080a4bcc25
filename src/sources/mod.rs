//! Where events come from: one file per source, listed here.
//!
//! A source turns what its peers send into batches and hands them to its outlet. Sources know
//! nothing of each other, of steps or of sinks.

mod bodies;
mod datagrams;
mod fetch;
pub mod file;
mod framed;
mod generate;
mod http;
mod http_poll;
mod listening;
mod losses;
mod reading;
mod socket;

use crate::pipeline::descriptor::Descriptor;

/// Every source, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[
    &socket::DESCRIPTOR,
    &fetch::DESCRIPTOR,
    &file::DESCRIPTOR,
    &http::DESCRIPTOR,
    &http_poll::DESCRIPTOR,
    &generate::DESCRIPTOR,
];
