//! The daemon from its command line to its exit code.
//!
//! See docs/ARCHITECTURE.md for its phases; [`cli`] is where arguments come in.

pub mod cli;

use std::path::Path;

use crate::config::{Config, Parts};

/// Runs the daemon with this configuration, which was read from `path`; gives the exit code.
pub fn run(path: &Path, config: Config, parts: Parts) -> u8 {
    let _ = (path, config, parts);
    1
}
