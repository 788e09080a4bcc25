//! File name patterns of `daemon.include`: `*` and `?` within the last part of a path.
//!
//! Hidden files are matched only by a pattern that begins with a dot. Matching takes linear
//! space and at most quadratic time in lengths that the file system bounds.

use std::io;
use std::path::{Path, PathBuf};

use super::files::plain;

/// The files that match `pattern` under `folder`, sorted by name. A pattern without `*` and
/// `?` is the path itself, whether the file exists or not.
pub fn expand(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let full = folder.join(pattern);
    let (Some(parent), Some(name)) = (full.parent(), full.file_name().and_then(|n| n.to_str()))
    else {
        return Err("it names no file".into());
    };
    if has_wildcard(&parent.to_string_lossy()) && !parent.exists() {
        return Err("`*` and `?` match only in the last part of a path".into());
    }
    if !has_wildcard(name) {
        return Ok(vec![full]);
    }
    let listed = match std::fs::read_dir(if parent == Path::new("") {
        Path::new(".")
    } else {
        parent
    }) {
        Ok(listed) => listed,
        // A folder of additions that nobody has made yet has no additions.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(plain(&error)),
    };
    let mut paths = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|error| plain(&error))?;
        let found = entry.file_name();
        if found.to_str().is_some_and(|found| matches(name, found)) {
            paths.push(parent.join(found));
        }
    }
    paths.sort();
    Ok(paths)
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether `name` matches: on a mismatch the last `*` takes one character more.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern, name, is| assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        check("*.toml", "a.toml", true);
        check("*.toml", "a.toml.bak", false);
        check("*.toml", ".hidden.toml", false);
        check("??-*.toml", "10-web.toml", true);
        check("??-*.toml", "1-web.toml", false);
        check("*a*b*", "xxaxxbxx", true);
        check("*a*b*", "xxbxxaxx", false);
        check("*", "", true);
    }

    #[test]
    fn files_come_sorted_and_a_missing_folder_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = expand(folder.path(), "*.toml").unwrap();
        assert_eq!(
            found,
            [folder.path().join("a.toml"), folder.path().join("b.toml")]
        );
        assert!(expand(folder.path(), "conf.d/*.toml").unwrap().is_empty());
        assert!(expand(folder.path(), "*/x.toml").is_err());
    }
}
