//! Tests that cannot run on this machine say so, loudly.
//!
//! A skip is printed as `SKIPPED: name: reason` and, where `MARLINE_SKIPS` names a file, added
//! to it: `.ci/run` prints how many there were and fails on one that
//! `tests/expected_skips.txt` does not list.

use std::fs::OpenOptions;
use std::io::Write;

/// Records that the test `name` was not run, and why.
pub fn skip(name: &str, reason: &str) {
    let line = format!("SKIPPED: {name}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("MARLINE_SKIPS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
