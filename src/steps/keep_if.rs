//! `keep_if`: lets only the events go on for which a condition holds.
//!
//! An event for which the condition gives null or an error ends here too, counted as filtered
//! and as an error.

use super::drop_if::{check, filter};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "keep_if",
    summary: "keeps only the events for which a VRL condition is true",
    options: &[Opt::new(
        VALUE,
        "a VRL expression that gives true or false; null or an error counts as false and is \
         counted",
        Kind::Text(Some(check)),
    )
    .required()],
    shared: &[],
    example: "{ keep_if = '.status >= 500' }",
    build: Build::Step(|options| filter(options, false)),
};
