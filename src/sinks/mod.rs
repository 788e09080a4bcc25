//! Where events go: one file per sink, listed here.
//!
//! A sink takes parts of batches from its inlet, encodes and delivers them, and settles each.
//! Sinks know nothing of each other, of sources or of steps. `backlog` is no sink: it is what
//! those that write on a storage thread hold.

mod backlog;
mod file;
mod socket;

use crate::pipeline::descriptor::Descriptor;

/// Every sink, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[&file::DESCRIPTOR, &socket::DESCRIPTOR];
