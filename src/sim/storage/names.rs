//! The names of the simulated disk: as the system sees them, and as the disk has them.
//!
//! What is made, renamed and removed is durable once its directory was synced, and not before,
//! even where the file itself was synced. In a crash each change that is not durable is kept or
//! undone by itself, but that none is kept for a name whose change before was undone: all
//! journals keep that order, and without it no rotation could ever be safe. A rename is one
//! change: it is never seen half, and syncing either of its directories makes it durable, along
//! with what had become of the file before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::io::Errno;

use super::content::Keeps;
use crate::sim::faults::{Fault, FaultCounts};
use crate::sim::random::Random;

/// Directories, and files by name.
#[derive(Clone, Default)]
struct Tree {
    directories: BTreeSet<String>,
    files: BTreeMap<String, u64>,
}

/// The names.
#[derive(Default)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    /// What leads from the one to the other, in order.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Directory(String),
    Made(String, u64),
    Renamed {
        from: String,
        to: String,
        inode: u64,
    },
    Removed(String, u64),
}

impl Names {
    /// Makes `path` and what it is in, where missing.
    pub(super) fn make_directories(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let part = &path[..end];
            if self.now.files.contains_key(part) {
                return Err(Errno::NOTDIR.into());
            }
            if !self.now.directories.contains(part) {
                self.change(Change::Directory(part.to_owned()));
            }
        }
        Ok(())
    }

    /// What was made to be a root is there for good: nobody here can sync what it is in.
    pub(super) fn make_root(&mut self, path: &str) -> io::Result<()> {
        self.make_directories(path)?;
        let is_above = |change: &Change| match change {
            Change::Directory(made) => is_in(path, made),
            _ => false,
        };
        self.commit(is_above);
        Ok(())
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        self.now.directories.contains(path)
    }

    pub(super) fn check_directory(&self, path: &str) -> io::Result<()> {
        if self.is_directory(path) {
            return Ok(());
        }
        let is_file = self.now.files.contains_key(path);
        Err(if is_file { Errno::NOTDIR } else { Errno::NOENT }.into())
    }

    pub(super) fn find(&self, path: &str) -> io::Result<u64> {
        self.check_directory(parent(path))?;
        if self.is_directory(path) {
            return Err(Errno::ISDIR.into());
        }
        self.now.files.get(path).copied().ok_or(Errno::NOENT.into())
    }

    /// The files, by path.
    pub(super) fn files(&self) -> &BTreeMap<String, u64> {
        &self.now.files
    }

    /// What is directly in a directory.
    pub(super) fn list(&self, directory: &str) -> Vec<String> {
        let here = |path: &String| {
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        let files = self.now.files.keys().filter_map(here);
        let directories = self.now.directories.iter().filter_map(here);
        files.chain(directories).collect()
    }

    pub(super) fn has_name(&self, inode: u64) -> bool {
        self.now.files.values().any(|named| *named == inode)
    }

    pub(super) fn make(&mut self, path: &str, inode: u64) {
        self.change(Change::Made(path.to_owned(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: u64) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(Change::Renamed { from, to, inode });
    }

    pub(super) fn remove(&mut self, path: &str, inode: u64) {
        self.change(Change::Removed(path.to_owned(), inode));
    }

    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.pending.push(change);
    }

    /// What was done in `directory` is durable.
    pub(super) fn sync(&mut self, directory: &str) {
        self.commit(|change| change.paths().any(|path| parent(path) == directory));
    }

    /// Makes what is `wanted` durable, and what happened to the same files before.
    fn commit(&mut self, wanted: impl Fn(&Change) -> bool) {
        let mut files = BTreeSet::new();
        let mut later = Vec::new();
        let mut now = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let inode = change.inode();
            if wanted(&change) || inode.is_some_and(|inode| files.contains(&inode)) {
                files.extend(inode);
                now.push(change);
            } else {
                later.push(change);
            }
        }
        now.iter()
            .rev()
            .for_each(|change| self.durable.apply(change));
        later.reverse();
        self.pending = later;
    }

    /// The power is cut.
    pub(super) fn crash(&mut self, keeps: Keeps, random: &mut Random, counts: &mut FaultCounts) {
        let mut undone: BTreeSet<String> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let is_kept = match keeps {
                Keeps::Nothing => false,
                Keeps::Everything => true,
                Keeps::Some => random.chance(600),
            };
            let is_kept = is_kept && !change.paths().any(|path| undone.contains(path));
            match is_kept {
                true => self.durable.apply(&change),
                false => undone.extend(change.paths().map(str::to_owned)),
            }
            counts.note(Fault::NameUndone, u64::from(!is_kept));
        }
        self.durable.drop_orphans();
        self.now = self.durable.clone();
    }

    /// The files that have a name, or could have one after a crash.
    pub(super) fn inodes(&self) -> BTreeSet<u64> {
        let named = [&self.now, &self.durable];
        let named = named.into_iter().flat_map(|tree| tree.files.values());
        let pending = self.pending.iter().filter_map(Change::inode);
        named.copied().chain(pending).collect()
    }
}

impl Tree {
    /// Only what still applies: something before may have been undone.
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Directory(path) => {
                self.directories.insert(path.clone());
            }
            Change::Made(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            Change::Renamed { from, to, inode } => {
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
            Change::Removed(path, inode) => {
                if self.files.get(path) == Some(inode) {
                    self.files.remove(path);
                }
            }
        }
    }

    /// What is in a directory that is not there is not there either.
    fn drop_orphans(&mut self) {
        let all = self.directories.clone();
        let is_there = |path: &str| {
            let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
            above.all(|part| part.is_empty() || all.contains(part))
        };
        self.directories.retain(|path| is_there(path));
        self.files.retain(|path, _| is_there(path));
    }
}

impl Change {
    fn inode(&self) -> Option<u64> {
        match self {
            Change::Directory(_) => None,
            Change::Made(_, inode) | Change::Removed(_, inode) => Some(*inode),
            Change::Renamed { inode, .. } => Some(*inode),
        }
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Change::Directory(path) | Change::Made(path, _) | Change::Removed(path, _) => {
                (path, None)
            }
            Change::Renamed { from, to, .. } => (from, Some(to)),
        };
        [Some(first), second].into_iter().flatten().map(|it| &**it)
    }
}

/// The directory that `path` is in.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap_or_default().0
}

/// Whether `path` is `above`, or beneath it.
fn is_in(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
