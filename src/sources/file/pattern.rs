//! Patterns of paths, and the walk that finds what matches them. Not a component.
//!
//! A pattern is matched part by part, so that only directories that may hold a match are
//! listed. `*`, `?` and `[a-z]` match within one part, `**` any number of directories; hidden
//! names are matched by a pattern that begins with a dot alone. Names that are not UTF-8 are
//! not seen. Before a directory is listed it is watched: what comes later is told.
//!
//! Bounds: [`FILES_MAX`] files, [`DIRECTORIES_MAX`] directories, [`DEPTH_MAX`] below a `**`.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};

use crate::buffer::storage::{Directory, Kind, Metadata, Storage};
use crate::buffer::watcher::{WatchId, Watcher};
use crate::pipeline::options::Mistake;

/// Files that one source follows at most.
pub const FILES_MAX: usize = 65_536;
/// Directories that one source looks into at most.
pub const DIRECTORIES_MAX: usize = 4_096;
/// How deep `**` goes.
const DEPTH_MAX: usize = 32;
/// How often a directory is listed again in which names come and go.
const LISTINGS_MAX: usize = 3;
/// Findings about what is no file that one walk brings at most.
const PROBLEMS_MAX: usize = 64;

/// What a source follows: paths, without those that are excluded.
#[derive(Clone, Debug)]
pub struct Patterns {
    paths: Vec<PathPattern>,
    exclude: Vec<Pattern>,
}

/// One pattern, cut into its parts.
#[derive(Clone, Debug)]
struct PathPattern {
    is_absolute: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Wild(Pattern),
    /// `**`
    Deep,
}

impl Patterns {
    /// Compiles what the options say.
    ///
    /// # Errors
    /// A text is no pattern.
    pub fn new(paths: &[&str], exclude: &[&str]) -> Result<Patterns, Mistake> {
        let paths = paths.iter().map(|text| PathPattern::compile(text));
        let exclude = exclude.iter().map(|text| compile(text));
        Ok(Patterns {
            paths: paths.collect::<Result<_, _>>()?,
            exclude: exclude.collect::<Result<_, _>>()?,
        })
    }

    /// Whether something of that name in a watched directory may be wanted, or lead to it.
    pub fn concerns(&self, name: &str) -> bool {
        let parts = self.paths.iter().flat_map(|pattern| &pattern.parts);
        parts.into_iter().any(|part| part.matches(name))
    }

    fn excludes(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        self.exclude.iter().any(|pattern| {
            let by_name = !pattern.as_str().contains('/');
            match name {
                Some(name) if by_name => pattern.matches_with(name, EXCLUDING),
                _ => pattern.matches_path_with(path, EXCLUDING),
            }
        })
    }
}

/// Tests a text of the options.
///
/// # Errors
/// It is no pattern of a path, or names no file.
pub fn check(text: &str) -> Result<(), Mistake> {
    PathPattern::compile(text).map(drop)
}

impl PathPattern {
    fn compile(text: &str) -> Result<PathPattern, Mistake> {
        if text.ends_with('/') || text.is_empty() {
            let help = "name the files in it: \"/var/log/app/*.log\"";
            return Err(Mistake::new("this is a directory").help(help));
        }
        let mut at = 0;
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    let message = "`..` leads nowhere a pattern can follow";
                    return Err(Mistake::new(message).at(at, 2));
                }
                "**" => parts.push(Part::Deep),
                _ if part.contains(['*', '?', '[']) => {
                    let wild = compile(part).map_err(|mistake| Mistake {
                        offset: mistake.offset + at,
                        ..mistake
                    })?;
                    parts.push(Part::Wild(wild));
                }
                _ => parts.push(Part::Literal(part.to_owned())),
            }
            at += part.len() + 1;
        }
        match parts.last() {
            None | Some(Part::Deep) => Err(Mistake::new("this names no file")
                .help("end it in the pattern of a file's name: \"/var/log/**/*.log\"")),
            Some(_) => Ok(PathPattern {
                is_absolute: text.starts_with('/'),
                parts,
            }),
        }
    }
}

fn compile(text: &str) -> Result<Pattern, Mistake> {
    Pattern::new(text).map_err(|error| Mistake::new(error.msg).at(error.pos, 1))
}

impl Part {
    fn matches(&self, name: &str) -> bool {
        match self {
            Part::Literal(literal) => literal == name,
            Part::Wild(pattern) => pattern.matches_with(name, OPTIONS),
            Part::Deep => true,
        }
    }
}

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// What is left out may be hidden.
const EXCLUDING: MatchOptions = MatchOptions {
    require_literal_leading_dot: false,
    ..OPTIONS
};

/// What a walk found.
#[derive(Default)]
pub struct Found {
    /// Files that match, each path once, by path.
    pub files: BTreeMap<PathBuf, Metadata>,
    /// Directories that are watched.
    pub directories: Vec<(WatchId, PathBuf)>,
    /// What matches and is no file, or could not be looked at, with the reason.
    pub problems: Vec<(PathBuf, String)>,
    /// There is more than may be followed.
    pub is_cut: bool,
    /// Why changes are not told of everything, if so.
    pub unwatched: Option<String>,
}

/// One walk. It blocks for as long as the file systems like.
pub struct Walk<'a> {
    /// Where files are.
    pub storage: &'a dyn Storage,
    /// Who tells of changes, if anybody.
    pub watcher: Option<&'a dyn Watcher>,
    /// Whether to trust file systems that do not tell of all changes.
    pub trusts_all: bool,
    /// What is looked for.
    pub patterns: &'a Patterns,
}

impl Walk<'_> {
    /// Looks everywhere.
    pub fn run(&self) -> Found {
        let mut walking = Walking {
            walk: self,
            found: Found::default(),
            entered: HashSet::new(),
        };
        for pattern in &self.patterns.paths {
            let start = if pattern.is_absolute { "/" } else { "." };
            walking.go(Path::new(start), &pattern.parts, 0);
        }
        walking.found
    }
}

struct Walking<'a> {
    walk: &'a Walk<'a>,
    found: Found,
    /// Directories that were watched.
    entered: HashSet<PathBuf>,
}

impl Walking<'_> {
    /// Finds what matches `parts` in the directory at `path`.
    fn go(&mut self, path: &Path, parts: &[Part], depth: usize) {
        let Some((first, rest)) = parts.split_first() else {
            return;
        };
        match first {
            Part::Literal(name) if !rest.is_empty() => {
                self.watch_link(path, name);
                self.go(&path.join(name), rest, depth);
            }
            Part::Literal(name) => {
                if let Some(directory) = self.enter(path) {
                    self.take(&*directory, path, name, true);
                }
            }
            Part::Wild(pattern) if rest.is_empty() => self.take_all(path, pattern),
            Part::Wild(pattern) => {
                for (directory, name) in self.list(path) {
                    let is_match = pattern.matches_with(&name, OPTIONS);
                    if is_match && self.leads_on(&*directory, &name) {
                        self.go(&path.join(&name), rest, depth);
                    }
                }
            }
            Part::Deep => self.go_deep(path, parts, depth),
        }
    }

    /// Takes the files of a directory, all at one instant: where names came or went meanwhile,
    /// which a rotation in the middle of its renames looks like, it is done again.
    fn take_all(&mut self, path: &Path, pattern: &Pattern) {
        for _ in 0..LISTINGS_MAX {
            let names = self.list(path);
            for (directory, name) in &names {
                if pattern.matches_with(name, OPTIONS) {
                    self.take(&**directory, path, name, false);
                }
            }
            let again = self.list(path);
            let same = |((_, a), (_, b)): (&(_, String), &(_, String))| a == b;
            if again.len() == names.len() && again.iter().zip(&names).all(same) {
                return;
            }
            // Others that lie here were found by another pattern, and are not looked for again.
            let taken = names.iter().map(|(_, name)| name);
            for name in taken.filter(|name| pattern.matches_with(name, OPTIONS)) {
                self.found.files.remove(&path.join(name));
            }
        }
        for (directory, name) in self.list(path) {
            if pattern.matches_with(&name, OPTIONS) {
                self.take(&*directory, path, &name, false);
            }
        }
    }

    /// `**`: here, and in every directory below that is no link.
    fn go_deep(&mut self, path: &Path, parts: &[Part], depth: usize) {
        self.go(path, &parts[1..], depth);
        if depth >= DEPTH_MAX {
            self.found.is_cut = true;
            return;
        }
        for (directory, name) in self.list(path) {
            let is_directory = |found: Metadata| found.kind == Kind::Directory;
            if !name.starts_with('.') && directory.stat(&name).is_ok_and(is_directory) {
                self.go(&path.join(&name), parts, depth + 1);
            }
        }
    }

    /// Whether a wildcard may go into what has that name: a directory, or a link to one that
    /// belongs to root or to its owner.
    fn leads_on(&self, directory: &dyn Directory, name: &str) -> bool {
        let (Ok(here), Ok(there)) = (directory.stat(name), directory.target(name)) else {
            return false;
        };
        let is_owned = here.kind == Kind::Directory || [0, there.owner].contains(&here.owner);
        there.kind == Kind::Directory && is_owned
    }

    fn list(&mut self, path: &Path) -> Vec<(Arc<dyn Directory>, String)> {
        let Some(directory) = self.enter(path) else {
            return Vec::new();
        };
        match directory.list() {
            Ok(mut names) => {
                names.sort_unstable();
                let with = |name| (Arc::clone(&directory), name);
                names.into_iter().map(with).collect()
            }
            Err(error) => {
                self.problem(path.to_owned(), error.to_string());
                Vec::new()
            }
        }
    }

    /// Watches a directory and opens it. One that is not there is waited for, by watching what
    /// is there of the way to it.
    fn enter(&mut self, path: &Path) -> Option<Arc<dyn Directory>> {
        if self.entered.len() >= DIRECTORIES_MAX {
            self.found.is_cut = true;
            return None;
        }
        let mut there = path;
        while !self.watch(there) {
            there = match there.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => break,
            };
        }
        match self.walk.storage.root(path, None) {
            Ok(directory) => {
                // It may have come since what is above it was watched.
                self.watch(path);
                Some(directory)
            }
            Err(error) if is_absent(&error) => None,
            Err(error) => {
                self.problem(path.to_owned(), error.to_string());
                None
            }
        }
    }

    /// A link on the way may be made to lead elsewhere, and only the directory that it lies in
    /// tells of that.
    fn watch_link(&mut self, path: &Path, name: &str) {
        if self.walk.watcher.is_none() || self.entered.len() >= DIRECTORIES_MAX {
            return;
        }
        let directory = self.walk.storage.root(path, None);
        let found = directory.and_then(|directory| directory.stat(name));
        if found.is_ok_and(|found| found.kind == Kind::Other) {
            self.watch(path);
        }
    }

    /// Says whether it is there.
    fn watch(&mut self, path: &Path) -> bool {
        let Some(watcher) = self.walk.watcher else {
            return true;
        };
        if self.entered.contains(path) {
            return true;
        }
        match watcher.watch_directory(path) {
            Ok(watch) => {
                self.entered.insert(path.to_owned());
                self.found.directories.push((watch, path.to_owned()));
                let is_reliable = self.walk.trusts_all || watcher.is_reliable(path).unwrap_or(true);
                if !is_reliable {
                    let why = format!("the file system of {} tells of no changes", path.display());
                    self.found.unwatched.get_or_insert(why);
                }
                true
            }
            Err(error) if is_absent(&error) => false,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
            Err(error) => {
                let why = format!("cannot watch {}: {error}", path.display());
                self.found.unwatched.get_or_insert(why);
                true
            }
        }
    }

    /// Takes the file of that name, or says why not. `is_named` where no wildcard led to it.
    fn take(&mut self, directory: &dyn Directory, path: &Path, name: &str, is_named: bool) {
        let full = path.join(name);
        if self.walk.patterns.excludes(&full) {
            return;
        }
        match directory.target(name) {
            Ok(found) if found.kind == Kind::File => {
                if self.found.files.len() < FILES_MAX {
                    self.found.files.insert(full, found);
                } else {
                    self.found.is_cut = true;
                }
            }
            // A wildcard matches directories as a matter of course.
            Ok(found) if found.kind == Kind::Directory && !is_named => {}
            Ok(found) if found.kind == Kind::Directory => {
                self.problem(full, "it is a directory".to_owned());
            }
            Ok(_) => self.problem(full, "it is no regular file".to_owned()),
            Err(error) if is_absent(&error) => {}
            Err(error) => self.problem(full, error.to_string()),
        }
    }

    fn problem(&mut self, path: PathBuf, why: String) {
        if self.found.problems.len() < PROBLEMS_MAX {
            self.found.problems.push((path, why));
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::storage_sys::SystemStorage;

    fn found(folder: &Path, paths: &[&str], exclude: &[&str]) -> Vec<String> {
        let folder = folder.to_str().unwrap();
        let full: Vec<String> = paths.iter().map(|it| format!("{folder}/{it}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let walk = Walk {
            storage: &SystemStorage,
            watcher: None,
            trusts_all: false,
            patterns: &Patterns::new(&full, exclude).unwrap(),
        };
        let files = walk.run().files.into_keys();
        let relative = |path: PathBuf| {
            let path = path.strip_prefix(folder).unwrap();
            path.to_str().unwrap().to_owned()
        };
        files.map(relative).collect()
    }

    #[test]
    fn patterns_find_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for path in [
            "a.log",
            "b.txt",
            ".h.log",
            "x/c.log",
            "x/y/d.log",
            "x/.y/e.log",
        ] {
            std::fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            std::fs::write(folder.join(path), "").unwrap();
        }
        std::fs::create_dir(folder.join("dir.log")).unwrap();
        std::os::unix::fs::symlink("a.log", folder.join("link.log")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("broken.log")).unwrap();
        let check = |paths: &[&str], exclude: &[&str], expected: &[&str]| {
            assert_eq!(
                found(folder, paths, exclude),
                expected,
                "{paths:?} {exclude:?}"
            );
        };
        check(&["*.log"], &[], &["a.log", "link.log"]);
        check(&["*.log", "a.log"], &["link*"], &["a.log"]);
        check(&["[ab].*"], &[], &["a.log", "b.txt"]);
        check(&["*/*.log"], &[], &["x/c.log"]);
        check(
            &["**/*.log"],
            &["**/y/*"],
            &["a.log", "link.log", "x/c.log"],
        );
        check(&["x/**/?.log"], &[], &["x/c.log", "x/y/d.log"]);
        check(&[".*.log"], &[], &[".h.log"]);
        check(&["none/*.log", "none.log"], &[], &[]);
    }

    #[test]
    fn what_names_no_file_is_a_mistake() {
        for text in ["", "/var/log/", "/var/**", "/", "a/../b", "/a/b**", "/a/[z"] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check("/a/[z").unwrap_err().offset, 3);
    }
}
