//! The structure rules of the crate, read off its sources.
#![allow(clippy::unwrap_used)]
