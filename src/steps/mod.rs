//! What may happen to events on their way: one file per step, listed here.
//!
//! A step changes a batch in place. Steps know nothing of each other, of sources or of sinks,
//! and do no IO.

use crate::pipeline::descriptor::Descriptor;

/// Every step, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[];
