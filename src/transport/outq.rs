//! How much of what was written the peer's kernel has not acknowledged yet (SIOCOUTQ).
//!
//! The only file of the crate with `unsafe`: no library wraps this ioctl.
//! For TCP the answer is `write_seq - snd_una` (tcp(7)), which counts an unacknowledged end
//! of stream as one byte. For Unix sockets it is buffer memory with its overhead, of which
//! only zero can be trusted: the peer has then read everything (unix(7)).
#![allow(unsafe_code)] // SIOCOUTQ has no safe wrapper; see SAFETY below

use std::ffi::c_int;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// linux/sockios.h: `#define SIOCOUTQ TIOCOUTQ`.
const SIOCOUTQ: Opcode = 0x5411;

/// Unacknowledged bytes of a stream socket.
pub fn unacked(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: SIOCOUTQ stores one C int through its argument and has no other effect, which
    // is what `Getter` with this opcode and this type passes a place for (tcp(7), unix(7)).
    let bytes: c_int = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new())? };
    Ok(usize::try_from(bytes).unwrap_or(0))
}
