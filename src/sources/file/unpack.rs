//! Compressed old files: what is in them, a chunk at a time. Not a component.
//!
//! The decoder travels with the job that reads and is kept between two jobs, so a file is
//! decompressed once. What it holds is its window; one such file is read at a time, and nothing
//! is held of what comes out but the chunk, so it does not matter how far it is packed.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::buffer::storage::File;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952, in any number of members.
    Gzip,
    /// RFC 8878, in any number of frames.
    Zstd,
}

impl Packing {
    /// By the ending of its name.
    pub fn of(path: &Path) -> Option<Packing> {
        match path.extension()?.to_str()? {
            "gz" => Some(Packing::Gzip),
            "zst" => Some(Packing::Zstd),
            _ => None,
        }
    }
}

/// A compressed file that is being read.
pub struct Unpacker {
    decoder: Box<dyn Read + Send>,
    at: u64,
}

impl Unpacker {
    /// Reads `file` from its beginning.
    ///
    /// # Errors
    /// There is no memory for the decoder.
    pub fn new(file: Arc<dyn File>, packing: Packing) -> io::Result<Unpacker> {
        let packed = BufReader::with_capacity(PACKED_BYTES, Packed { file, at: 0 });
        let decoder: Box<dyn Read + Send> = match packing {
            Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        };
        Ok(Unpacker { decoder, at: 0 })
    }

    /// How many bytes came out.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Fills `buffer` as far as there is something; less is the end.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or ends too early.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    /// Leaves out what is before byte `offset`, by way of `buffer`. Says whether there is so
    /// much.
    ///
    /// # Errors
    /// As [`Unpacker::fill`].
    pub fn skip_to(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        while self.at < offset {
            let left = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
            let part = left.min(buffer.len());
            if self.fill(&mut buffer[..part])? < part {
                return Ok(false);
            }
        }
        Ok(self.at == offset)
    }
}

/// The bytes of the file as they are.
struct Packed {
    file: Arc<dyn File>,
    at: u64,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// How much is read of the compressed file at once.
const PACKED_BYTES: usize = 64 << 10;
