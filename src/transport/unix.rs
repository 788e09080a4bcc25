//! Paths of Unix domain sockets: bound, taken over from the dead, removed at the end.
//!
//! A path in use is taken over only when a connect to it says ECONNREFUSED: its owner is gone
//! (F-077). Anything else there, a living socket or a file, is left alone. Mode bits are set
//! on the socket before it is bound, so the path is at no instant wider than asked for, and
//! once more after, because the umask narrows. At the end the path is removed if it is still
//! the one that was made here.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A path that a socket of ours is bound to.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    /// Device and inode of what was made, so that a successor's socket is not removed.
    made: (u64, u64),
}

impl BoundPath {
    /// Removes the path unless somebody else has put something there since.
    pub(super) fn remove(self) {
        let now = std::fs::symlink_metadata(&self.path);
        if !now.is_ok_and(|now| (now.dev(), now.ino()) == self.made) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(event = "socket_path_left", %path, %error, "cannot remove the socket");
        }
    }
}

/// Binds `socket`, of type `kind`, to `path` with exactly these mode bits.
pub(super) fn bind(
    socket: &OwnedFd,
    path: &Path,
    kind: SocketType,
    mode: u32,
) -> io::Result<BoundPath> {
    let address = SocketAddrUnix::new(path)?;
    let mode = Mode::from_raw_mode(mode);
    // Linux gives the path the socket's own mode, narrowed by the umask.
    rustix::fs::fchmod(socket, mode)?;
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRINUSE) if is_stale(path, &address, kind) => {
            std::fs::remove_file(path)?;
            rustix::net::bind(socket, &address)?;
        }
        bound => bound?,
    }
    rustix::fs::chmod(path, mode)?;
    let made = std::fs::symlink_metadata(path)?;
    Ok(BoundPath {
        path: path.to_path_buf(),
        made: (made.dev(), made.ino()),
    })
}

/// Makes the path of a socket that was bound by a former process ours, with these mode bits.
pub(super) fn take_back(path: &Path, mode: u32) -> io::Result<BoundPath> {
    let made = std::fs::symlink_metadata(path)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    Ok(BoundPath {
        path: path.to_path_buf(),
        made: (made.dev(), made.ino()),
    })
}

/// Whether the socket at `path` has no owner any more.
fn is_stale(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|at| at.file_type().is_socket());
    if !is_socket {
        return false;
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(probe) = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None) else {
        return false;
    };
    rustix::net::connect(&probe, address) == Err(Errno::CONNREFUSED)
}

/// The path in a socket address.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// What stands in the way at `path`, for an error's text: `AddrInUse` alone does not say.
pub(super) fn occupant(path: &Path) -> &'static str {
    match std::fs::symlink_metadata(path) {
        Ok(at) if at.file_type().is_socket() => "another process listens there",
        Ok(_) => "the path exists and is not a socket",
        Err(error) if error.kind() == ErrorKind::NotFound => "the path was there and is gone now",
        Err(_) => "the path cannot be examined",
    }
}
