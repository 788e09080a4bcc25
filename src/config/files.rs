//! The files of a configuration: reading them without ever blocking, and finding lines in them.
//!
//! A file is opened non-blocking and must be a regular file of at most [`FILE_BYTES_MAX`], so
//! that a fifo, a terminal or an endless device in its place is an error and not a hang.

use std::fmt;
use std::fs::{File as Handle, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::pipeline::options::Place;

/// The largest file that is read as configuration: 16 MiB.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// The largest number of files in one configuration.
pub const FILES_MAX: usize = 1024;

/// A file that was read.
#[derive(Debug)]
pub struct File {
    /// Where it was found.
    pub path: PathBuf,
    /// Its text; bytes that are not UTF-8 are U+FFFD.
    pub text: String,
    /// The first byte that is not UTF-8.
    pub invalid_utf8: Option<usize>,
}

impl File {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<File, ReadError> {
        let bytes = read_regular(path, FILE_BYTES_MAX)?;
        Ok(File::new(path, bytes))
    }

    /// A file with these bytes, however they were had.
    pub fn new(path: &Path, bytes: Vec<u8>) -> File {
        let path = path.to_owned();
        match String::from_utf8(bytes) {
            Ok(text) => File {
                path,
                text,
                invalid_utf8: None,
            },
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let first = error.utf8_error().valid_up_to();
                File {
                    path,
                    text,
                    invalid_utf8: Some(first),
                }
            }
        }
    }

    /// The line that holds byte `at`: its number from 1, and its range without the newline.
    pub fn line_of(&self, at: usize) -> (usize, std::ops::Range<usize>) {
        let at = at.min(self.text.len());
        let before = &self.text.as_bytes()[..at];
        let number = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |n| n + 1);
        let rest = &self.text[start..];
        let end = start + rest.find('\n').unwrap_or(rest.len());
        let end = end - usize::from(self.text[start..end].ends_with('\r'));
        (number, start..end)
    }
}

/// All files of one configuration, the main one first.
#[derive(Debug, Default)]
pub struct Files(Vec<File>);

impl Files {
    /// Adds a file and gives its index.
    pub fn add(&mut self, file: File) -> u16 {
        debug_assert!(self.0.len() < FILES_MAX);
        self.0.push(file);
        (self.0.len() - 1) as u16
    }

    /// The file with that index.
    pub fn get(&self, index: u16) -> &File {
        &self.0[usize::from(index)]
    }

    /// All files.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    /// The source text at `place`; empty for a default.
    pub fn text(&self, place: Place) -> &str {
        let file = self.0.get(usize::from(place.file));
        let text = file.and_then(|f| f.text.get(place.start as usize..place.end as usize));
        text.unwrap_or_default()
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The system's answer.
    Io(io::Error),
    /// It is no regular file but this.
    NotAFile(&'static str),
    /// It is larger than this many bytes.
    TooLarge(u64),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => f.write_str(&plain(error)),
            ReadError::NotAFile(what) => write!(f, "it is {what}, not a regular file"),
            ReadError::TooLarge(bytes) => write!(f, "it is larger than {bytes} bytes"),
        }
    }
}

impl std::error::Error for ReadError {}

/// The system's words without the number: `no such file or directory`.
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a directory, not a regular file".into(),
        _ => {
            let text = error.to_string();
            let cut = text.find(" (os error").unwrap_or(text.len());
            text[..cut].to_lowercase()
        }
    }
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nonblocking);
    let handle = match options.open(path) {
        Ok(handle) => handle,
        // A socket cannot be opened at all (ENXIO); its type still says what it is.
        Err(error) => {
            let kind = path.metadata().map(|data| data.file_type());
            return Err(match kind {
                Ok(kind) if kind.is_socket() => ReadError::NotAFile("a socket"),
                _ => ReadError::Io(error),
            });
        }
    };
    check_regular(&handle)?;
    let mut bytes = Vec::new();
    handle
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(bytes)
}

/// Whether everybody may read the file.
pub fn is_readable_by_all(path: &Path) -> bool {
    let metadata = path.metadata();
    metadata.is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

fn check_regular(handle: &Handle) -> Result<(), ReadError> {
    let kind = handle.metadata().map_err(ReadError::Io)?.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a fifo",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    };
    Err(ReadError::NotAFile(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_ending() {
        let file = File::new(Path::new("x"), b"ab\r\ncd\n\nef".to_vec());
        let check = |at, number, line: &str| {
            let (n, range) = file.line_of(at);
            assert_eq!((n, &file.text[range]), (number, line), "byte {at}");
        };
        check(0, 1, "ab");
        check(3, 1, "ab");
        check(4, 2, "cd");
        check(7, 3, "");
        check(8, 4, "ef");
        check(99, 4, "ef");
    }

    #[test]
    fn invalid_utf8_is_found_where_it_is() {
        let file = File::new(Path::new("x"), b"a = \"\xff\"".to_vec());
        assert_eq!(file.invalid_utf8, Some(5));
        assert!(file.text[5..].starts_with('\u{fffd}'));
    }

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path, limit, words: &str| {
            let error = read_regular(path, limit).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(folder.path(), 9, "a directory");
        check(&folder.path().join("none"), 9, "no such file");
        check(Path::new("/dev/zero"), 9, "a device");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(&fifo, 9, "a fifo");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        check(&socket, 9, "a socket");
        let large = folder.path().join("large");
        std::fs::write(&large, [b'x'; 10]).unwrap();
        check(&large, 9, "larger than 9 bytes");
        assert_eq!(read_regular(&large, 10).unwrap().len(), 10);
    }
}
