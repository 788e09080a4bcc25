//! All integration tests in one binary: a module per file, in alphabetical order.
#![allow(clippy::unwrap_used)]
