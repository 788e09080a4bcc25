//! Where events come from: one file per source, listed here.
//!
//! A source turns what its peers send into batches and hands them to its outlet. Sources know
//! nothing of each other or of sinks, and of steps only how they read a protocol.

mod bodies;
mod checkpoint;
mod command;
mod datagrams;
mod exec;
mod fetch;
pub mod file;
pub mod framed;
pub mod generate;
mod http;
mod http_poll;
mod internal;
mod journald;
mod listening;
mod losses;
pub mod reading;
mod socket;
mod stdin;
pub mod syslog;

use crate::pipeline::descriptor::Descriptor;

/// Every source, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[
    &socket::DESCRIPTOR,
    &syslog::DESCRIPTOR,
    &fetch::DESCRIPTOR,
    &file::DESCRIPTOR,
    &http::DESCRIPTOR,
    &http_poll::DESCRIPTOR,
    &stdin::DESCRIPTOR,
    &exec::DESCRIPTOR,
    &journald::DESCRIPTOR,
    &internal::DESCRIPTOR,
    &generate::DESCRIPTOR,
];
