//! What may happen to events on their way: one file per step, listed here.

use crate::pipeline::descriptor::Descriptor;

/// Every step, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[];
