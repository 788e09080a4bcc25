//! Which files are one log: `a.log` with what rotation made of it, `a.log.1`, `a.log-20261127`,
//! `a.log.2.gz`. Not a component.
//!
//! A guess by the names, for the order in which files are read; what is read does not depend on
//! it.

use std::cmp::Reverse;
use std::path::Path;

/// Endings of compressed files.
const PACKED: [&str; 4] = [".gz", ".zst", ".bz2", ".xz"];

/// The path of the log that the file at `path` belongs to: its own without what rotation adds,
/// which is the ending of compressed files, and numbers behind `.`, `-` or `_`.
pub fn log_of(path: &Path) -> &Path {
    let Some(text) = path.to_str() else {
        return path;
    };
    let name_at = text.rfind('/').map_or(0, |slash| slash + 1);
    let packed = PACKED.iter().find_map(|ending| text.strip_suffix(ending));
    let mut log = packed.unwrap_or(text);
    while let Some(at) = log.rfind(['.', '-', '_']).filter(|at| *at > name_at) {
        let addition = &log[at + 1..];
        if addition.is_empty() || !addition.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        log = &log[..at];
    }
    Path::new(log)
}

/// How old a file of a log is; the greatest is the one that is written to.
///
/// The time of the last change says it. Where two are the same, for clocks are coarse, the name
/// does: the one without an addition is the newest, of two numbers the smaller one is newer, of
/// two dates the later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    modified_micros: i64,
    is_log: bool,
    number: Reverse<u32>,
    addition: String,
}

impl Age {
    /// Of the file at `path`.
    pub fn new(path: &Path, modified_micros: i64) -> Age {
        let (text, log) = (path.to_string_lossy(), log_of(path).to_string_lossy());
        let addition = text.strip_prefix(&*log).unwrap_or_default();
        let digits: String = addition
            .chars()
            .skip(1)
            .take_while(char::is_ascii_digit)
            .collect();
        // What is longer is a date.
        let number = digits.parse().ok().filter(|_| digits.len() <= 5);
        Age {
            modified_micros,
            is_log: addition.is_empty(),
            number: Reverse(number.unwrap_or(0)),
            addition: addition.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_log_are_found_and_sorted() {
        let check = |path: &str, log: &str| {
            assert_eq!(log_of(Path::new(path)), Path::new(log), "{path}");
        };
        check("/l/a.log", "/l/a.log");
        check("/l/a.log.1", "/l/a.log");
        check("/l/a.log.12.gz", "/l/a.log");
        check("/l/a.log-20261127.zst", "/l/a.log");
        check("/l/a.log-2026-11-27", "/l/a.log");
        check("/l/b.1", "/l/b");
        check("/l.1/b", "/l.1/b");
        check("/l/.1", "/l/.1");
        check("/l/a-1.log", "/l/a-1.log");
        let age = |name: &str, micros| Age::new(Path::new(name), micros);
        let sorted = [
            age("a.log", 5),
            age("a.log.10", 7),
            age("a.log.2", 7),
            age("a.log.1", 7),
            age("a.log", 7),
            age("a.log-20261126", 8),
            age("a.log-20261127", 8),
        ];
        assert!(sorted.is_sorted(), "{sorted:?}");
    }
}
