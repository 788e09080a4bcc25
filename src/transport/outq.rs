//! What our kernel knows: how much of what was written the peer's has not acknowledged yet
//! (SIOCOUTQ), how much more that takes and since when it is silent (TCP_INFO), and how many
//! datagrams our own had no room for (SO_MEMINFO).
//!
//! The only file of the crate with `unsafe`: no library wraps these calls, or none for a
//! TCP_INFO of another length than it had when the library was written.
//! For TCP the answer is `write_seq - snd_una` (tcp(7)), which counts an unacknowledged end
//! of stream as one byte. For Unix sockets it is buffer memory with its overhead, of which
//! only zero can be trusted: the peer has then read everything (unix(7)).
#![allow(unsafe_code)] // none of these calls has a safe wrapper; see SAFETY below

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use rustix::ioctl::{Getter, Opcode, ioctl};

use super::net::PeerState;
use crate::time::Duration;

/// linux/sockios.h: `#define SIOCOUTQ TIOCOUTQ`.
const SIOCOUTQ: Opcode = 0x5411;

/// Unacknowledged bytes of a stream socket. After a reset it still says what was unacknowledged
/// before, for TCP.
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

/// Where `struct tcp_info` of linux/tcp.h, which only ever grows at its end, has
/// `tcpi_last_ack_recv` (milliseconds) and `tcpi_snd_wnd` (bytes; since Linux 5.4).
const LAST_ACK_AT: usize = 56;
const WINDOW_AT: usize = 228;
const INFO_BYTES: usize = WINDOW_AT + 4;

/// What is known of a TCP socket's peer.
pub fn peer_state(socket: BorrowedFd<'_>) -> io::Result<PeerState> {
    let mut info = [0; INFO_BYTES];
    let mut length = INFO_BYTES as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes to the buffer, which has so many, and
    // stores in `length` how many it wrote; both live until it returns (getsockopt(2), tcp(7)).
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(answer)?;
    let known = &info[..INFO_BYTES.min(length as usize)];
    let silent = number_at(known, LAST_ACK_AT).unwrap_or(0);
    Ok(PeerState {
        window_bytes: number_at(known, WINDOW_AT).map(u64::from),
        silent_for: Duration::from_millis(silent.into()),
    })
}

/// A field of the structure, if this kernel has it.
fn number_at(info: &[u8], at: usize) -> Option<u32> {
    let bytes = info.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_window_is_what_the_peer_has_room_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        // An answer makes sure that the window's scale is known to both.
        peer.write_all(b"?").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let before = peer_state(stream.as_fd()).unwrap();
        assert!(before.window_bytes.unwrap() >= 16 * 1024, "{before:?}");
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 65_536]).is_ok() {}
        let mut waited = 0;
        while peer_state(stream.as_fd()).unwrap().window_bytes != Some(0) {
            assert!(waited < 5000, "the window never closed");
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
            while stream.write(&[0; 65_536]).is_ok() {}
        }
    }

    #[test]
    fn a_field_that_an_older_kernel_has_not_is_none() {
        let info = [7; WINDOW_AT];
        assert_eq!(number_at(&info, WINDOW_AT), None);
        assert_eq!(number_at(&info, LAST_ACK_AT), Some(0x0707_0707));
    }
}
