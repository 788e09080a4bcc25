//! Where damaged bytes and files that are not ours go: a folder of bounded size.
//!
//! Everything here is done as far as it can be: what cannot be kept (no room, the device) is
//! not, and reading goes on. What came first stays; a range that is there already is not kept
//! twice, so doing it again after a crash changes nothing. Beside each piece is a `.json` with
//! where it came from and why.

use std::io;

use super::finding::What;
use super::scan::{Damage, read_full};
use super::shared::{FILE_MODE, FOLDER_MODE, QUARANTINE, Shared, unlink};
use super::writer::write_all;
use crate::buffer::storage::{Directory, File, Open};

/// Copies a range of the segment `base_seq`; answers the name of the copy, if there is one.
pub(super) fn copy(
    shared: &Shared,
    file: &dyn File,
    base_seq: u64,
    damage: Damage,
    (from_seq, to_seq): (u64, u64),
) -> Option<String> {
    let bytes = damage.to.saturating_sub(damage.from);
    let stem = format!("{QUARANTINE}/{base_seq:020}-{}-{bytes}", damage.from);
    let why = format!(
        "{{\"segment\":\"{base_seq:020}\",\"offset\":{},\"bytes\":{bytes},\
         \"from_seq\":{from_seq},\"to_seq\":{to_seq},\"why\":\"damaged\"}}\n",
        damage.from
    );
    let directory = &*shared.directory;
    let name = format!("{stem}.bad");
    if directory.stat(&name).is_ok() {
        return Some(name);
    }
    if bytes == 0 || !take_room(shared, bytes + why.len() as u64) {
        return None;
    }
    let kept = directory
        .directory(QUARANTINE, Some(FOLDER_MODE))
        .and_then(|_| write(directory, &format!("{stem}.json"), why.as_bytes()))
        .and_then(|()| copy_range(directory, &name, file, damage));
    kept.is_ok().then_some(name)
}

/// Takes a whole file out of the log: into the quarantine, or where that is full, away.
///
/// # Errors
/// The file is still there.
pub(super) fn take(
    directory: &dyn Directory,
    room: impl FnOnce(u64) -> bool,
    file: &str,
    bytes: u64,
    what: &What,
) -> io::Result<Option<String>> {
    let name = format!("{QUARANTINE}/{}.bad", free_stem(directory, file));
    let why = format!(
        "{{\"file\":\"{file}\",\"bytes\":{bytes},\"why\":\"{}\"}}\n",
        text(what)
    );
    if bytes > 0 && room(bytes + why.len() as u64) {
        directory.directory(QUARANTINE, Some(FOLDER_MODE))?;
        directory.rename(file, &name)?;
        let _ = write(directory, &name.replace(".bad", ".json"), why.as_bytes());
        return Ok(Some(name));
    }
    unlink(directory, file)?;
    Ok(None)
}

/// What the quarantine takes, in bytes.
pub(super) fn used_bytes(directory: &dyn Directory) -> u64 {
    let Ok(folder) = directory.directory(QUARANTINE, None) else {
        return 0;
    };
    let names = folder.list().unwrap_or_default();
    let sizes = names.iter().filter_map(|name| folder.stat(name).ok());
    sizes.map(|metadata| metadata.bytes).sum()
}

/// A name that no file in quarantine has: two files of one name may come there.
fn free_stem(directory: &dyn Directory, file: &str) -> String {
    let stem = file.trim_end_matches(".seg");
    let numbered = (0..NAMES_MAX).map(|number| match number {
        0 => stem.to_owned(),
        _ => format!("{stem}.{number}"),
    });
    let mut free =
        numbered.filter(|stem| directory.stat(&format!("{QUARANTINE}/{stem}.bad")).is_err());
    free.next().unwrap_or_else(|| stem.to_owned())
}

fn take_room(shared: &Shared, bytes: u64) -> bool {
    let mut table = shared.table();
    let after = table.quarantine_bytes.saturating_add(bytes);
    let has_room = after <= shared.settings().quarantine_bytes_max();
    if has_room {
        table.quarantine_bytes = after;
    }
    has_room
}

/// The same for [`take`], when the buffer is in use.
pub(super) fn room(shared: &Shared) -> impl FnOnce(u64) -> bool {
    |bytes| take_room(shared, bytes)
}

fn write(directory: &dyn Directory, name: &str, bytes: &[u8]) -> io::Result<()> {
    unlink(directory, name)?;
    let file = directory.open(name, Open::Create(FILE_MODE))?;
    write_all(&*file, bytes, 0)
}

fn copy_range(
    directory: &dyn Directory,
    name: &str,
    from: &dyn File,
    damage: Damage,
) -> io::Result<()> {
    let to = directory.open(name, Open::Create(FILE_MODE))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = damage.from;
    while at < damage.to {
        let length = usize::try_from(damage.to - at).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        match read_full(from, &mut buffer[..length], at)? {
            0 => break,
            count => {
                write_all(&*to, &buffer[..count], at - damage.from)?;
                at += count as u64;
            }
        }
    }
    Ok(())
}

/// The reason as it may stand in a JSON string.
fn text(what: &What) -> String {
    what.to_string()
        .replace(['"', '\\'], "'")
        .replace(char::is_control, " ")
}

/// How much is copied at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// How many files of one name can be in quarantine before one takes another's place.
const NAMES_MAX: u32 = 1000;
