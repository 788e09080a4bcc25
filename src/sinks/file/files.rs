//! The files of one sink as its write job sees them: open ones, bounded; appending; rotation.
//!
//! A [`Files`] goes into each write job and comes back with it, so only one job at a time
//! touches it and nothing is locked. Names are changed here and nowhere else.
//!
//! Exactness: what a write brought to disk is reported in whole lines, and the piece of a line
//! after them as [`Torn`]. The next write begins at that line's start and skips the piece if
//! it still is at the end of the same file; where the file is another one by then (moved,
//! rotated, truncated) the line is written anew, so that one file has it whole.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::storage::{Directory, File, Inode, Mode, Open, Storage};
use crate::time::WallTime;

use super::rotate::{self, Rotation};
use crate::sinks::backlog::{Torn, Trouble, Write, Written};
use crate::sinks::lines::Lines;

/// How files are opened and kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory that nothing leads out of.
    pub root: PathBuf,
    /// Of new files; new directories may also be searched by who may read.
    pub mode: Mode,
    /// Files held open at once.
    pub max_open: usize,
    /// When and how files are rotated.
    pub rotation: Rotation,
    /// Whether a write counts only once it is durable.
    pub syncs: bool,
}

impl Settings {
    /// The mode of new directories: search permission where there is read permission.
    pub fn directory_mode(&self) -> Mode {
        self.mode | 0o700 | ((self.mode & 0o444) >> 2)
    }
}

/// The open files of one sink.
pub struct Files {
    storage: Arc<dyn Storage>,
    root: Arc<dyn Directory>,
    settings: Arc<Settings>,
    open: HashMap<Arc<str>, OpenFile>,
    /// Counts uses, to find the file whose last use is longest ago.
    uses: u64,
}

struct OpenFile {
    file: Arc<dyn File>,
    inode: Inode,
    bytes: u64,
    /// Just opened, with content of an earlier life.
    is_fresh: bool,
    /// The rotation period of its content; `None` while it is empty.
    period: Option<i64>,
    last_use: u64,
}

/// One write on its way.
struct Progress<'a> {
    lines: Lines<'a>,
    now: WallTime,
    inode: Option<(Inode, u64)>,
    rotated: bool,
    rotation_error: Option<io::Error>,
}

impl Files {
    /// No file open yet beneath the settings' root, which is made where it is missing.
    pub fn new(storage: Arc<dyn Storage>, settings: Arc<Settings>) -> io::Result<Files> {
        let root = storage.root(&settings.root, Some(settings.directory_mode()))?;
        Ok(Files {
            storage,
            root,
            settings,
            open: HashMap::new(),
            uses: 0,
        })
    }

    /// Closes all files and finds the root anew, so that what was moved away is left alone.
    ///
    /// # Errors
    /// There is no such root any more; the one that is held stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.open.clear();
        self.root = self.storage.root(&self.settings.root, None)?;
        Ok(())
    }

    /// Sees that a file can be opened, made where it is missing. It is not held open: the sink
    /// before this one may still rotate it, and it would be the wrong one then.
    pub fn try_open(&mut self, name: &Arc<str>) -> io::Result<()> {
        self.take(name).map(drop)
    }

    /// Appends to one file, rotating it as often as it is due.
    pub fn write(&mut self, write: &Write, now: WallTime) -> Written {
        let mut progress = Progress {
            lines: Lines::new(&write.slices),
            now,
            inode: None,
            rotated: false,
            rotation_error: None,
        };
        let result = self.write_lines(write, &mut progress);
        let bytes = progress.lines.whole_bytes();
        let piece = progress.lines.position() - bytes;
        let torn = match progress.inode {
            Some((inode, file_bytes)) => (piece > 0).then_some(Torn {
                bytes: piece,
                inode,
                file_bytes,
            }),
            None => write.torn,
        };
        Written {
            name: Arc::clone(&write.name),
            bytes,
            error: result.err(),
            torn,
            rotated: progress.rotated,
            rotation_error: progress.rotation_error,
        }
    }

    fn write_lines(&mut self, write: &Write, progress: &mut Progress<'_>) -> Result<(), Trouble> {
        let mut file = self.take(&write.name).map_err(Trouble::Opening)?;
        self.join(&mut file, write, progress)
            .map_err(Trouble::Writing)?;
        let mut is_mid_line = progress.lines.position() > 0;
        while !progress.lines.is_done() {
            let may_rotate = !is_mid_line && progress.rotation_error.is_none();
            if may_rotate && self.is_due(&file, progress) {
                match self.rotate(&write.name) {
                    Ok(()) => {
                        progress.rotated = true;
                        file = self.take(&write.name).map_err(Trouble::Opening)?;
                    }
                    Err(error) => progress.rotation_error = Some(error),
                }
            }
            let run = self.run_bytes(&file, progress, is_mid_line);
            self.write_run(&mut file, progress, run)
                .map_err(Trouble::Writing)?;
            is_mid_line = false;
        }
        self.keep(Arc::clone(&write.name), file);
        Ok(())
    }

    /// Finds the place of the first byte: behind the piece of a line that an earlier write
    /// left, or at the start of a line.
    fn join(
        &self,
        file: &mut OpenFile,
        write: &Write,
        progress: &mut Progress<'_>,
    ) -> io::Result<()> {
        let is_behind = |torn: &Torn| torn.inode == file.inode && torn.file_bytes <= file.bytes;
        if let Some(torn) = write.torn.filter(is_behind) {
            progress.lines.advance(torn.bytes);
            progress.inode = Some((file.inode, file.bytes));
        } else if file.is_fresh && file.bytes > 0 && self.ends_torn(&write.name, file) {
            // A run that was killed left a piece of a line: end it, rather than add to it.
            append_all(
                &*file.file,
                &mut Lines::new(&[Bytes::from_static(b"\n")]),
                1,
            )?;
            file.bytes += 1;
        }
        file.is_fresh = false;
        Ok(())
    }

    /// Whether the last byte is not a newline. What cannot be read is taken to be torn: an empty
    /// line does less harm than a line behind a piece of another.
    fn ends_torn(&self, name: &str, file: &OpenFile) -> bool {
        let mut last = [b'\n'];
        let read = self.root.open(name, Open::Read);
        let read = read.and_then(|readable| readable.read_at(&mut last, file.bytes - 1));
        !matches!(read, Ok(1)) || last != [b'\n']
    }

    fn is_due(&self, file: &OpenFile, progress: &Progress<'_>) -> bool {
        let rotation = &self.settings.rotation;
        let period = rotation
            .period_micros
            .map(|micros| period(progress.now, micros));
        let is_old = matches!((file.period, period), (Some(of), Some(now)) if of < now);
        let limit = rotation.bytes.unwrap_or(u64::MAX);
        let line = progress.lines.line_bytes() as u64;
        file.bytes > 0 && (is_old || file.bytes.saturating_add(line) > limit)
    }

    /// How much goes into the file as it is: what fits in whole lines, and at least one.
    fn run_bytes(&self, file: &OpenFile, progress: &Progress<'_>, is_mid_line: bool) -> usize {
        let lines = &progress.lines;
        match self.settings.rotation.bytes {
            _ if progress.rotation_error.is_some() => usize::MAX,
            None => usize::MAX,
            Some(_) if is_mid_line => lines.line_bytes(),
            Some(limit) => {
                let room = usize::try_from(limit.saturating_sub(file.bytes));
                let fitting = lines.lines_within(room.unwrap_or(usize::MAX));
                if fitting > 0 {
                    fitting
                } else {
                    lines.line_bytes()
                }
            }
        }
    }

    /// Appends `bytes` bytes (or what there is), and makes them durable where that is asked.
    fn write_run(
        &self,
        file: &mut OpenFile,
        progress: &mut Progress<'_>,
        bytes: usize,
    ) -> io::Result<()> {
        let (start, start_bytes) = (progress.lines.position(), file.bytes);
        let appended = append_all(&*file.file, &mut progress.lines, bytes);
        let appended_bytes = (progress.lines.position() - start) as u64;
        file.bytes += appended_bytes;
        progress.inode = Some((file.inode, file.bytes));
        if appended_bytes > 0 {
            let micros = self.settings.rotation.period_micros.unwrap_or(i64::MAX);
            file.period = Some(period(progress.now, micros));
        }
        // Also where the append has failed half way: the lines before are about to be answered for.
        if self.settings.syncs && appended_bytes > 0 {
            file.file.sync().inspect_err(|_| {
                // After a failed fdatasync nobody knows what the disk has, and asking again would
                // be told a lie: the bytes are taken back and written anew.
                let unchanged =
                    |now: &io::Result<_>| matches!(now, Ok(bytes) if *bytes == file.bytes);
                if unchanged(&file.file.metadata().map(|metadata| metadata.bytes)) {
                    drop(file.file.truncate(start_bytes));
                }
                progress.lines.rewind(start);
                progress.inode = Some((file.inode, start_bytes));
            })?;
        }
        appended
    }

    /// The file, open, out of the list; one that was deleted meanwhile is made anew.
    fn take(&mut self, name: &Arc<str>) -> io::Result<OpenFile> {
        if let Some(mut file) = self.open.remove(name) {
            let metadata = file.file.metadata()?;
            if metadata.links > 0 {
                file.bytes = metadata.bytes;
                return Ok(file);
            }
        }
        self.make_room();
        let file = self.open_or_make(name)?;
        let metadata = file.metadata()?;
        let micros = self.settings.rotation.period_micros.unwrap_or(i64::MAX);
        let modified = WallTime::from_micros(metadata.modified_micros);
        Ok(OpenFile {
            file,
            inode: metadata.inode,
            bytes: metadata.bytes,
            is_fresh: true,
            period: (metadata.bytes > 0).then(|| period(modified, micros)),
            last_use: 0,
        })
    }

    fn open_or_make(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let settings = &self.settings;
        let open = || self.root.open(name, Open::Append(settings.mode));
        let parent = name.rsplit_once('/').map(|(parent, _)| parent);
        let file = match (open(), parent) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                self.root
                    .directory(parent, Some(settings.directory_mode()))?;
                open()?
            }
            (other, _) => other?,
        };
        if settings.syncs {
            self.parent_of(name)?.0.sync()?;
        }
        Ok(file)
    }

    fn keep(&mut self, name: Arc<str>, mut file: OpenFile) {
        self.uses += 1;
        file.last_use = self.uses;
        self.open.insert(name, file);
    }

    /// Closes the files whose last use is longest ago until one more may be opened.
    fn make_room(&mut self) {
        while self.open.len() >= self.settings.max_open {
            let oldest = self.open.iter().min_by_key(|(_, file)| file.last_use);
            let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) else {
                return;
            };
            self.open.remove(&name);
        }
    }

    fn rotate(&mut self, name: &str) -> io::Result<()> {
        let (parent, last) = self.parent_of(name)?;
        match rotate::rotate(&*parent, last, self.settings.rotation.keep) {
            // Somebody moved the file away: what is written next goes to a new one all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The directory that `name` is in, and its last part.
    pub(super) fn parent_of<'a>(&self, name: &'a str) -> io::Result<(Arc<dyn Directory>, &'a str)> {
        match name.rsplit_once('/') {
            Some((parent, last)) => Ok((self.root.directory(parent, None)?, last)),
            None => Ok((Arc::clone(&self.root), name)),
        }
    }

    /// The settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Appends up to `bytes` bytes from the position on.
fn append_all(file: &dyn File, lines: &mut Lines<'_>, bytes: usize) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 && !lines.is_done() {
        let slices: Vec<IoSlice<'_>> = lines.next(left);
        match file.append(&slices)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            taken => {
                lines.advance(taken);
                left -= taken.min(left);
            }
        }
    }
    Ok(())
}

fn period(time: WallTime, micros: i64) -> i64 {
    time.as_micros().div_euclid(micros)
}

#[cfg(test)]
mod tests;
