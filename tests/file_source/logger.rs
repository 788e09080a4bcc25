//! A program that logs: numbered lines, one write each, and its file rotated under it.
//!
//! Each line carries a checksum, so that one that was changed is not taken for another.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The line with this number: `NUMBER CRC PADDING`, of a length that depends on it.
pub fn line(number: u64) -> String {
    let pad = char::from(b'a' + (number % 26) as u8);
    let pad: String = std::iter::repeat_n(pad, 20 + (number * 37 % 160) as usize).collect();
    let crc = crc32c::crc32c(format!("{number:010} {pad}").as_bytes());
    format!("{number:010} {crc:08x} {pad}\n")
}

/// The number of a line that is as it was written.
pub fn number(text: &str) -> Option<u64> {
    let number: u64 = text.split(' ').next()?.parse().ok()?;
    (line(number).trim_end() == text).then_some(number)
}

/// Writes lines to a file that it holds open, as a daemon does.
pub struct Logger {
    path: PathBuf,
    file: File,
    next: u64,
}

impl Logger {
    pub fn new(path: &Path) -> Logger {
        Logger {
            path: path.to_owned(),
            file: open(path),
            next: 0,
        }
    }

    /// How many lines it has written.
    pub fn count(&self) -> u64 {
        self.next
    }

    pub fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.file.write_all(line(self.next).as_bytes()).unwrap();
            self.next += 1;
        }
    }

    /// Writes the first part of a line, waits, and writes the rest.
    pub fn write_in_parts(&mut self, pause: Duration) {
        let line = line(self.next);
        let (first, rest) = line.split_at(15);
        self.file.write_all(first.as_bytes()).unwrap();
        std::thread::sleep(pause);
        self.file.write_all(rest.as_bytes()).unwrap();
        self.next += 1;
    }

    /// Renames the files as logrotate does, `NAME.1` to `NAME.2` and so on, keeping `keep`; it
    /// still writes to the file that it has.
    pub fn rotate(&self, keep: u32) {
        let name = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..keep).rev() {
            let _ = std::fs::rename(name(n), name(n + 1));
        }
        std::fs::rename(&self.path, name(1)).unwrap();
    }

    /// Opens its file anew, as a daemon does on a signal.
    pub fn reopen(&mut self) {
        self.file = open(&self.path);
    }

    /// Copies the file to `NAME.1` and cuts it, as logrotate's copytruncate does.
    pub fn copy_and_truncate(&self, to: &Path) {
        std::fs::copy(&self.path, to).unwrap();
        self.file.set_len(0).unwrap();
    }
}

fn open(path: &Path) -> File {
    let options = OpenOptions::new().create(true).append(true).open(path);
    options.unwrap()
}
