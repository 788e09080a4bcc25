//! Where events come from: one file per source, listed here.

mod generate;

use crate::pipeline::descriptor::Descriptor;

/// Every source, in the order of `marline list`.
pub const ALL: &[&Descriptor] = &[&generate::DESCRIPTOR];
