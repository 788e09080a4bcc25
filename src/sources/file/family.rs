//! Which files are one log: `a.log` with what rotation made of it, `a.log.1`, `a.log-20261127`,
//! `a.log.2.gz`. Not a component.
//!
//! A guess by the names, for the order in which files are read; what is read does not depend on
//! it.

use std::cmp::Reverse;
use std::path::Path;

/// The path of the log that the file at `path` belongs to: the shortest that it begins with, up
/// to a `.`, `-` or `_`, and that is one by `is_log`; else its own.
pub fn log_of(path: &Path, is_log: impl Fn(&Path) -> bool) -> &Path {
    let Some(text) = path.to_str() else {
        return path;
    };
    let name_at = text.rfind('/').map_or(0, |slash| slash + 1);
    let ends = text[name_at..].match_indices(['.', '-', '_']);
    let candidates = ends.map(|(at, _)| Path::new(&text[..name_at + at]));
    let mut candidates = candidates.filter(|it| it.file_name().is_some());
    candidates.find(|log| is_log(log)).unwrap_or(path)
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
    /// Of the file at `path`, which is one of `log`.
    pub fn new(path: &Path, log: &Path, modified_micros: i64) -> Age {
        let (path, log) = (path.to_string_lossy(), log.to_string_lossy());
        let addition = path.strip_prefix(&*log).unwrap_or_default();
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
        let logs = ["/l/a.log", "/l/b", "/l/a"];
        let is_log = |path: &Path| logs[..2].iter().any(|log| Path::new(log) == path);
        let check = |path: &str, log: &str| {
            assert_eq!(log_of(Path::new(path), is_log), Path::new(log), "{path}");
        };
        check("/l/a.log", "/l/a.log");
        check("/l/a.log.1", "/l/a.log");
        check("/l/a.log-20261127.gz", "/l/a.log");
        check("/l/b.1", "/l/b");
        check("/l/c.log.1", "/l/c.log.1");
        check("/l/.hidden", "/l/.hidden");
        let age = |name: &str, micros| Age::new(Path::new(name), Path::new("a.log"), micros);
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
