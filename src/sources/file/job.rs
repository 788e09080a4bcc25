//! What a storage thread does for a file source in one go: a few files opened, compared, read.
//! Not a component.
//!
//! There is one such job at a time for a source. A file is looked at before it is read: one that
//! is shorter than what was read of it, begins otherwise, or holds something else before the
//! place, has been cut and written anew.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::storage::{File, Inode, Metadata, Storage};
use crate::buffer::watcher::{WatchId, Watcher};
use crate::transport::{CHUNK_BYTES, ChunkPool};

use super::position::{BEFORE_BYTES, HEAD_BYTES, Position, Print};
use super::unpack::{Packing, Unpacker};

/// Files that one job serves at most, a chunk each.
pub const ASKS_MAX: usize = 8;

/// What is asked about one file.
pub struct Ask {
    /// Who asks.
    pub id: u64,
    /// Where the file was seen last.
    pub path: Arc<Path>,
    /// Which one it is.
    pub inode: Inode,
    /// The file, where it is open.
    pub file: Option<Arc<dyn File>>,
    /// How it is compressed.
    pub packing: Option<Packing>,
    /// What is asked.
    pub what: What,
}

/// A question.
pub enum What {
    /// What it begins with.
    Identify,
    /// Whether this is a place in it.
    Compare(Position),
    /// What is there from `offset` on, if it still begins like that.
    Read {
        /// Where to read.
        offset: u64,
        /// What the file began with.
        head: Print,
        /// Where the line under way begins, and what was before it.
        line: (u64, Print),
    },
    /// What a compressed file holds from `offset` on.
    Unpack {
        /// Where to read.
        offset: u64,
        /// The decoder, where there is one.
        unpacker: Option<Unpacker>,
    },
}

/// What came of one question.
pub struct Answer {
    /// Who asked.
    pub id: u64,
    /// The file, which is open now, and the answer.
    pub told: io::Result<(Arc<dyn File>, Told)>,
}

/// An answer.
pub enum Told {
    /// What the file is and begins with.
    Head {
        /// As it was before it was read.
        metadata: Metadata,
        /// At most [`HEAD_BYTES`].
        bytes: Vec<u8>,
        /// Changes of it are told of from before that on.
        watch: Option<WatchId>,
        /// Why they are not, where they should be.
        unwatched: Option<String>,
    },
    /// The place is one of this file.
    Same(bool),
    /// The file was cut, or written anew.
    Anew(Metadata),
    /// The next bytes, none at its end.
    Bytes {
        /// As it was before it was read.
        metadata: Metadata,
        /// What it begins with.
        head: Print,
        /// At most a chunk.
        bytes: Bytes,
    },
    /// The next bytes of a compressed file; less than a chunk at its end.
    Unpacked {
        /// The file.
        metadata: Metadata,
        /// For the bytes after these.
        unpacker: Unpacker,
        /// At most a chunk.
        bytes: Bytes,
    },
}

/// What all questions share.
#[derive(Clone)]
pub struct Desk {
    /// Where files are.
    pub storage: Arc<dyn Storage>,
    /// Who tells of changes.
    pub watcher: Option<Arc<dyn Watcher>>,
    /// What is read into.
    pub chunks: ChunkPool,
}

impl Desk {
    /// Answers all. Blocks for as long as the device likes.
    pub fn answer(&self, asks: Vec<Ask>) -> Vec<Answer> {
        let answer = |ask: Ask| Answer {
            id: ask.id,
            told: self.tell(ask),
        };
        asks.into_iter().map(answer).collect()
    }

    fn tell(&self, ask: Ask) -> io::Result<(Arc<dyn File>, Told)> {
        let file = match ask.file {
            Some(file) => file,
            None => self.storage.reader(&ask.path)?,
        };
        let metadata = file.metadata()?;
        if metadata.inode != ask.inode {
            // Another one has the name by now; the next walk finds where this one went.
            return Err(io::ErrorKind::NotFound.into());
        }
        let told = match (ask.what, ask.packing) {
            (What::Identify, packing) => self.identify(&file, packing)?,
            (What::Compare(position), None) => {
                Told::Same(is_place(&*file, metadata.bytes, position)?)
            }
            (What::Compare(position), Some(packing)) => {
                let mut unpacker = Unpacker::new(Arc::clone(&file), packing)?;
                Told::Same(self.is_packed_place(&mut unpacker, position)?)
            }
            (What::Read { offset, head, line }, _) => {
                if is_other_line(&*file, metadata.bytes, head, line)? {
                    return Ok((file, Told::Anew(metadata)));
                }
                self.read(&*file, metadata, offset, head)?
            }
            (What::Unpack { offset, unpacker }, packing) => {
                let packing = packing.unwrap_or(Packing::Gzip);
                let unpacker = match unpacker {
                    Some(unpacker) => unpacker,
                    None => Unpacker::new(Arc::clone(&file), packing)?,
                };
                self.unpack(metadata, unpacker, offset)?
            }
        };
        Ok((file, told))
    }

    fn identify(&self, file: &Arc<dyn File>, packing: Option<Packing>) -> io::Result<Told> {
        let (mut watch, mut unwatched) = (None, None);
        if let Some(watcher) = &self.watcher {
            match watcher.watch_file(&**file) {
                Ok(id) => watch = Some(id),
                Err(error) => unwatched = Some(format!("cannot watch files: {error}")),
            }
        }
        let metadata = file.metadata()?;
        let bytes = match packing {
            None => read_at(&**file, 0, HEAD_BYTES)?,
            Some(packing) => {
                let mut bytes = vec![0; HEAD_BYTES];
                let filled = Unpacker::new(Arc::clone(file), packing)?.fill(&mut bytes);
                // A file that is being written ends early; then nothing is known of it yet.
                bytes.truncate(match filled {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                    filled => filled?,
                });
                bytes
            }
        };
        Ok(Told::Head {
            metadata,
            bytes,
            watch,
            unwatched,
        })
    }

    fn unpack(&self, metadata: Metadata, mut unpacker: Unpacker, offset: u64) -> io::Result<Told> {
        let mut chunk = self.chunks.lend();
        if unpacker.at() < offset && !unpacker.skip_to(offset, &mut chunk[..CHUNK_BYTES])? {
            return Err(io::Error::other("it holds less than was read of it"));
        }
        let filled = unpacker.fill(&mut chunk[..CHUNK_BYTES])?;
        Ok(Told::Unpacked {
            metadata,
            unpacker,
            bytes: chunk.keep(filled),
        })
    }

    /// Whether what is in a compressed file has been there before.
    fn is_packed_place(&self, unpacker: &mut Unpacker, position: Position) -> io::Result<bool> {
        let mut chunk = self.chunks.lend();
        let before = usize::from(position.before.len).min(BEFORE_BYTES);
        let Some(at) = position.offset.checked_sub(before as u64) else {
            return Ok(false);
        };
        if !unpacker.skip_to(at, &mut chunk[..CHUNK_BYTES])? {
            return Ok(false);
        }
        let filled = unpacker.fill(&mut chunk[..before])?;
        Ok(Print::of(&chunk[..filled]) == position.before)
    }

    fn read(
        &self,
        file: &dyn File,
        metadata: Metadata,
        offset: u64,
        known: Print,
    ) -> io::Result<Told> {
        let mut head = known;
        let is_all_known = usize::from(known.len) >= HEAD_BYTES;
        if offset > metadata.bytes {
            return Ok(Told::Anew(metadata));
        }
        if !(known.is_empty() && metadata.bytes == 0) {
            let first = read_at(file, 0, HEAD_BYTES)?;
            if !known.begins(&first) {
                return Ok(Told::Anew(metadata));
            }
            if !is_all_known {
                head = Print::of(&first);
            }
        }
        let mut chunk = self.chunks.lend();
        let filled = file.read_at(&mut chunk[..CHUNK_BYTES], offset)?;
        Ok(Told::Bytes {
            metadata,
            head,
            bytes: chunk.keep(filled),
        })
    }
}

/// Whether there is something else now before the line under way, where the beginning does not
/// tell: a file that was written anew may begin like the one before.
fn is_other_line(
    file: &dyn File,
    bytes: u64,
    head: Print,
    (offset, before): (u64, Print),
) -> io::Result<bool> {
    if offset <= u64::from(head.len) {
        return Ok(false);
    }
    let line = Position {
        offset,
        before,
        ..Position::default()
    };
    Ok(!is_place(file, bytes, line)?)
}

/// Whether the file of so many bytes has been there before.
fn is_place(file: &dyn File, bytes: u64, position: Position) -> io::Result<bool> {
    let before = usize::from(position.before.len).min(BEFORE_BYTES);
    let Some(at) = position.offset.checked_sub(before as u64) else {
        return Ok(false);
    };
    if position.offset > bytes {
        return Ok(false);
    }
    Ok(Print::of(&read_at(file, at, before)?) == position.before)
}

fn read_at(file: &dyn File, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; bytes_max];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
