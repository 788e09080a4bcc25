//! What is in a buffer's folder, by names and cursor alone; nothing is changed.
//!
//! Recovery and the offline commands both begin here.

use std::io;

use super::finding::{Finding, What};
use super::format::{CURSOR_BYTES, SLOT_STRIDE, Slot};
use super::scan::read_full;
use super::shared::{CURSOR, base_seq_of};
use crate::buffer::storage::{Directory, Kind, Open};

/// A segment by its name.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub base_seq: u64,
    pub name: String,
    /// The file's length.
    pub bytes: u64,
}

/// The segments by base seq, the findings for what only looks like one, and all other names.
#[derive(Default)]
pub(super) struct Listing {
    pub segments: Vec<Listed>,
    pub findings: Vec<Finding>,
    pub others: Vec<String>,
}

/// Lists the folder.
pub(super) fn list(directory: &dyn Directory) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for name in directory.list()? {
        let Some(base_seq) = base_seq_of(&name) else {
            listing.others.push(name);
            continue;
        };
        let found = directory
            .stat(&name)
            .and_then(|metadata| match metadata.kind {
                Kind::File => Ok(metadata.bytes),
                Kind::Directory | Kind::Other => Err(io::Error::other("no regular file")),
            });
        match found {
            Ok(bytes) => listing.segments.push(Listed {
                base_seq,
                name,
                bytes,
            }),
            Err(error) => {
                let error = error.to_string();
                let finding = Finding::whole(name, 0, What::Unreadable { error });
                listing.findings.push(finding);
            }
        }
    }
    listing.segments.sort_by_key(|listed| listed.base_seq);
    Ok(listing)
}

/// The cursor.
pub(super) enum CursorFound {
    /// There is no such file.
    Missing,
    /// It has no valid slot.
    Damaged,
    /// The slot that counts.
    Slot(Slot),
}

impl CursorFound {
    /// The slot that counts, if any does.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            CursorFound::Slot(slot) => Some(*slot),
            CursorFound::Missing | CursorFound::Damaged => None,
        }
    }
}

/// Reads the cursor. What can be opened by nobody (a link, a folder) counts as damaged.
pub(super) fn cursor(directory: &dyn Directory) -> io::Result<CursorFound> {
    let file = match directory.open(CURSOR, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CursorFound::Missing),
        Err(error) => match directory.stat(CURSOR) {
            Ok(metadata) if metadata.kind != Kind::File => return Ok(CursorFound::Damaged),
            _ => return Err(error),
        },
    };
    let mut bytes = vec![0; CURSOR_BYTES as usize];
    let count = read_full(&*file, &mut bytes, 0)?;
    let slots = [0, SLOT_STRIDE as usize].map(|at| Slot::decode(bytes[..count].get(at..)?));
    let newest = slots
        .into_iter()
        .flatten()
        .max_by_key(|slot| slot.generation);
    Ok(newest.map_or(CursorFound::Damaged, CursorFound::Slot))
}
