//! Where events go: one file per sink, listed here.

use crate::pipeline::descriptor::Descriptor;

/// Every sink, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[];
