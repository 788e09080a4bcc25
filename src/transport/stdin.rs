//! Standard input, as something to read: a stream that can be waited for, or a file.
//!
//! The process shares its standard input with others: whoever opened a terminal, or a shell
//! whose next command goes on reading. To make theirs non-blocking would break them, so a pipe
//! or terminal is opened once more, by its name in /proc; where that is not allowed (a pipe of
//! another user), and for a socket, which has no such name, it is a duplicate after all.
//!
//! Opened each time it is asked for: a reader that has gone leaves what it had not read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

/// What standard input is.
pub enum StandardInput {
    /// A pipe, a socket or a terminal.
    Stream(OwnedFd),
    /// A file or a device that is always ready: nothing can be waited for, and a read may take
    /// as long as the disk does.
    File(File),
}

impl StandardInput {
    /// Opens it.
    ///
    /// # Errors
    /// There is none, or no descriptor is left.
    pub fn open() -> io::Result<StandardInput> {
        let stdin = io::stdin();
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode);
        let is_stream = match kind {
            FileType::Fifo | FileType::Socket => true,
            FileType::CharacterDevice => rustix::termios::isatty(&stdin),
            _ => false,
        };
        if !is_stream {
            let file = stdin.as_fd().try_clone_to_owned()?;
            return Ok(StandardInput::File(file.into()));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(BY_NAME, flags, Mode::empty());
        match opened {
            Ok(stream) => Ok(StandardInput::Stream(stream)),
            Err(_) => Ok(StandardInput::Stream(stdin.as_fd().try_clone_to_owned()?)),
        }
    }
}

/// The name of the process's standard input (proc(5)).
const BY_NAME: &str = "/proc/self/fd/0";
