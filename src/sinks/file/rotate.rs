//! Rotation: the names of old files, and moving them up by one.
//!
//! `x.log` becomes `x.log.1`, what was `x.log.1.gz` becomes `x.log.2.gz`, and so on; numbers
//! beyond `keep` are removed. Only the unbroken run of numbers from 1 moves, so a run that was
//! killed half way leaves a gap that the next one fills, and nothing is ever overwritten.
//!
//! All of this is done by the write job, the only one that changes names.

use std::io;

use crate::buffer::storage::Directory;

/// When files are rotated and what becomes of the old ones.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// Rotate before a file would grow beyond so many bytes.
    pub bytes: Option<u64>,
    /// Rotate with the first write of a new period of UTC, so many microseconds long.
    pub period_micros: Option<i64>,
    /// Old files kept.
    pub keep: u32,
    /// How old files are compressed.
    pub compression: Option<Compression>,
}

/// A format of compressed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What is added to the name.
    pub const fn extension(self) -> &'static str {
        match self {
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// What is added to the name of a file while its old content is compressed.
pub const UNFINISHED: &str = ".tmp";

/// An old file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Old {
    /// 1 is the newest.
    pub number: u32,
    /// `.gz` or `.zst`, or nothing.
    pub extension: &'static str,
}

impl Old {
    /// The name, of an old file of `name`.
    pub fn name(&self, name: &str) -> String {
        format!("{name}.{}{}", self.number, self.extension)
    }

    /// Reads `entry` as the name of an old file of `name`.
    fn parse(name: &str, entry: &str) -> Option<Old> {
        let rest = entry.strip_prefix(name)?.strip_prefix('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = rest.split_at(digits);
        let extension = match rest {
            "" => "",
            ".gz" => ".gz",
            ".zst" => ".zst",
            _ => return None,
        };
        let is_canonical = !number.starts_with('0');
        let number = number.parse().ok().filter(|_| is_canonical)?;
        Some(Old { number, extension })
    }
}

/// The old files of `name`, newest first; of one number the plain one comes first.
pub fn old_files(directory: &dyn Directory, name: &str) -> io::Result<Vec<Old>> {
    let entries = directory.list()?;
    let mut old: Vec<Old> = entries
        .iter()
        .filter_map(|entry| Old::parse(name, entry))
        .collect();
    old.sort();
    Ok(old)
}

/// Gives `name` the number 1 and every older file the next one; removes those beyond `keep`.
pub fn rotate(directory: &dyn Directory, name: &str, keep: u32) -> io::Result<()> {
    let mut old = old_files(directory, name)?;
    remove_compressed_twice(directory, name, &mut old)?;
    while let Some(last) = old.pop_if(|last| last.number >= keep) {
        directory.unlink(&last.name(name))?;
    }
    let run = old
        .iter()
        .zip(1..)
        .take_while(|(old, number)| old.number == *number);
    let moving = run.count();
    for old in old[..moving].iter().rev() {
        let number = old.number + 1;
        let next = Old {
            number,
            ..old.clone()
        };
        directory.rename(&old.name(name), &next.name(name))?;
    }
    if keep == 0 {
        return directory.unlink(name);
    }
    let first = Old {
        number: 1,
        extension: "",
    };
    directory.rename(name, &first.name(name))
}

/// A kill between "compressed" and "removed the original" leaves both: the original goes.
fn remove_compressed_twice(
    directory: &dyn Directory,
    name: &str,
    old: &mut Vec<Old>,
) -> io::Result<()> {
    for index in (1..old.len()).rev() {
        let (plain, next) = (&old[index - 1], &old[index]);
        if plain.number == next.number && plain.extension.is_empty() {
            directory.unlink(&old.remove(index - 1).name(name))?;
        }
    }
    Ok(())
}

/// Whether a path that ends in the literal text `tail`, after a field, could be the name of an
/// old file of another such path: then one peer's value could name another's old file.
pub fn tail_is_ambiguous(tail: &str) -> bool {
    let extensions = [".gz", ".zst", UNFINISHED];
    let is_part = extensions.iter().any(|extension| extension.ends_with(tail));
    let bare = extensions
        .iter()
        .find_map(|extension| tail.strip_suffix(extension));
    let bare = bare.unwrap_or(tail);
    is_part || bare.is_empty() || bare.ends_with(|last: char| last.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::buffer::storage::Storage;
    use crate::buffer::storage_sys::SystemStorage;

    fn rotated(before: &[&str], keep: u32) -> Vec<String> {
        let guard = tempfile::tempdir().unwrap();
        for name in before {
            std::fs::write(guard.path().join(name), name).unwrap();
        }
        let directory = SystemStorage.root(guard.path(), None).unwrap();
        rotate(&*directory, "x", keep).unwrap();
        let content = |name: &String| std::fs::read_to_string(guard.path().join(name)).unwrap();
        let names = directory.list().unwrap();
        let mut shown: Vec<String> = names
            .iter()
            .map(|name| format!("{name}={}", content(name)))
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn old_files_move_up_and_the_last_goes() {
        assert_eq!(rotated(&["x"], 3), ["x.1=x"]);
        assert_eq!(
            rotated(&["x", "x.1", "x.2.gz", "x.3.zst"], 3),
            ["x.1=x", "x.2=x.1", "x.3.gz=x.2.gz"]
        );
        assert_eq!(rotated(&["x", "x.1"], 1), ["x.1=x"]);
    }

    #[test]
    fn a_gap_stays_a_gap_is_filled_and_nothing_is_overwritten() {
        assert_eq!(
            rotated(&["x", "x.1", "x.3"], 9),
            ["x.1=x", "x.2=x.1", "x.3=x.3"]
        );
        assert_eq!(rotated(&["x", "x.2", "x.12"], 9), ["x.1=x", "x.2=x.2"]);
    }

    #[test]
    fn the_original_of_a_compressed_file_goes() {
        assert_eq!(
            rotated(&["x", "x.1", "x.1.gz"], 9),
            ["x.1=x", "x.2.gz=x.1.gz"]
        );
    }

    #[test]
    fn other_files_are_left_alone() {
        let others = ["x.01", "x.1.bak", "x.gz", "xx.1", "x.1.2", "x.", "y.1"];
        let mut before = vec!["x"];
        before.extend(others);
        let mut expected: Vec<String> = others.iter().map(|o| format!("{o}={o}")).collect();
        expected.push("x.1=x".into());
        expected.sort();
        assert_eq!(rotated(&before, 3), expected);
    }

    #[test]
    fn tails_that_old_files_can_have_are_ambiguous() {
        for tail in [
            "", "1", ".1", ".gz", "z", ".zst", "t", ".1.gz", ".9.zst", ".tmp", "p",
        ] {
            assert!(tail_is_ambiguous(tail), "{tail}");
        }
        for tail in [".log", ".txt", ".log.gz", "-", "1.log"] {
            assert!(!tail_is_ambiguous(tail), "{tail}");
        }
    }
}
