//! How much of what was written the peer's kernel has not acknowledged yet (SIOCOUTQ), and how
//! many datagrams our own had no room for (SO_MEMINFO).
//!
//! The only file of the crate with `unsafe`: no library wraps these calls.
//! For TCP the answer is `write_seq - snd_una` (tcp(7)), which counts an unacknowledged end
//! of stream as one byte. For Unix sockets it is buffer memory with its overhead, of which
//! only zero can be trusted: the peer has then read everything (unix(7)).
#![allow(unsafe_code)] // neither call has a safe wrapper; see SAFETY below

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
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

/// linux/sock_diag.h: the numbers that SO_MEMINFO gives, the last of which are the drops.
const MEMINFO_VARS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Datagrams that were dropped at a socket because its receive buffer was full (`sk_drops`),
/// since it was opened, modulo 2^32.
///
/// SO_RXQ_OVFL gives the same counter, as of the moment when the datagram that it comes with
/// was queued: what is dropped behind the last datagram of a burst it never tells.
pub fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut numbers = [0_u32; MEMINFO_VARS];
    let mut length = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: SO_MEMINFO (Linux 4.12) stores at most `length` bytes of u32s at `numbers`, which
    // is as long as `length` says, and the number of bytes stored at `length`; both outlive the
    // call, and the descriptor is open for as long as it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let stored = length as usize / size_of::<u32>();
    match stored > MEMINFO_DROPS {
        true => Ok(numbers[MEMINFO_DROPS]),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}
