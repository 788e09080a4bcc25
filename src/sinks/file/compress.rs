//! Compressing one old file into another, 64 KiB at a time.
//!
//! [`compress`] runs beside the write jobs and touches no names: it is given both files open.
//! Names are given and taken by write jobs alone, before ([`Files::begin_compression`]) and
//! after ([`Files::finish_compression`]). In between the old file may have moved on to another
//! number or be gone; it is found again by its inode.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::buffer::storage::{Directory, File, Inode, Open};

use super::files::Files;
use super::rotate::{Compression, Old, UNFINISHED, old_files};

/// An old file that is being compressed.
pub struct Compressing {
    /// The current file that it once was, beneath the root.
    pub name: Arc<str>,
    source: Arc<dyn File>,
    source_inode: Inode,
    target: Arc<dyn File>,
    compression: Compression,
}

impl Compressing {
    /// Does the work.
    pub fn run(&self, cancelled: &AtomicBool) -> io::Result<()> {
        let target = Arc::clone(&self.target);
        compress(&*self.source, target, self.compression, cancelled)
    }
}

impl Files {
    /// Opens the oldest plain old file of `name` and the file for its compressed content.
    /// `None` when all are compressed.
    pub fn begin_compression(&self, name: &Arc<str>) -> io::Result<Option<Compressing>> {
        let Some(compression) = self.settings().rotation.compression else {
            return Ok(None);
        };
        let (parent, last) = self.parent_of(name)?;
        let Some(oldest) = plain_files(&*parent, last)?.pop() else {
            return Ok(None);
        };
        let source = parent.open(&oldest.name(last), Open::Read)?;
        let unfinished = format!("{last}{UNFINISHED}");
        remove(&*parent, &unfinished)?;
        Ok(Some(Compressing {
            name: Arc::clone(name),
            source_inode: source.metadata()?.inode,
            source,
            target: parent.open(&unfinished, Open::Create(self.settings().mode))?,
            compression,
        }))
    }

    /// Puts the compressed file in the place of the plain one, or removes it where it is not
    /// complete or the plain one is gone.
    pub fn finish_compression(&self, done: &Compressing, is_complete: bool) -> io::Result<()> {
        let (parent, last) = self.parent_of(&done.name)?;
        let unfinished = format!("{last}{UNFINISHED}");
        let is_source = |old: &Old| {
            let found = parent.stat(&old.name(last));
            found.is_ok_and(|metadata| metadata.inode == done.source_inode)
        };
        let plain = plain_files(&*parent, last)?.into_iter().find(is_source);
        let Some(plain) = plain.filter(|_| is_complete) else {
            return remove(&*parent, &unfinished);
        };
        let extension = done.compression.extension();
        let compressed = Old {
            extension,
            ..plain.clone()
        };
        parent.rename(&unfinished, &compressed.name(last))?;
        // The plain file goes only once the other is sure to be found after a power cut.
        parent.sync()?;
        parent.unlink(&plain.name(last))
    }
}

/// The old files of `name` that are not compressed, newest first.
fn plain_files(directory: &dyn Directory, name: &str) -> io::Result<Vec<Old>> {
    let mut old = old_files(directory, name)?;
    old.retain(|old| old.extension.is_empty());
    Ok(old)
}

/// Removes what may not be there.
fn remove(directory: &dyn Directory, name: &str) -> io::Result<()> {
    match directory.unlink(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes the content of `source` to `target`, compressed, and makes it durable.
///
/// # Errors
/// Whatever reading or writing brings; `Interrupted` once `cancelled` is set.
fn compress(
    source: &dyn File,
    target: Arc<dyn File>,
    compression: Compression,
    cancelled: &AtomicBool,
) -> io::Result<()> {
    let sink = FileWriter {
        file: target,
        bytes: 0,
    };
    let sink = match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(sink, flate2::Compression::default());
            copy(source, &mut encoder, cancelled)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            copy(source, &mut encoder, cancelled)?;
            encoder.finish()?
        }
    };
    sink.file.sync()
}

fn copy(source: &dyn File, target: &mut dyn Write, cancelled: &AtomicBool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the sink stops"));
        }
        let bytes = source.read_at(&mut chunk, offset)?;
        if bytes == 0 {
            return Ok(());
        }
        target.write_all(&chunk[..bytes])?;
        offset += bytes as u64;
    }
}

/// A file as the encoders want it.
struct FileWriter {
    file: Arc<dyn File>,
    bytes: u64,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write_at(bytes, self.bytes)?;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How much is read at once, and how soon a stop is noticed.
const CHUNK_BYTES: usize = 64 << 10;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
