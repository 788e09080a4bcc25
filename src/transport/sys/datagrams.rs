//! Many datagrams in one system call, recvmmsg(2).
//!
//! A call costs as much as what it brings when datagrams are small: a burst of them comes in with
//! a sixty-fourth of the calls. For IP sockets alone: there every sender has an address, and the
//! library reads none that is missing.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use super::super::net::{Endpoint, Received};

/// Fills the slots of `room` with what has come to an IP socket, one at least.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    slot_bytes: usize,
) -> io::Result<Vec<Received>> {
    loop {
        match receive_once(socket, room, slot_bytes) {
            Err(nix::Error::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

fn receive_once(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    slot_bytes: usize,
) -> nix::Result<Vec<Received>> {
    let slots = room.chunks_exact_mut(slot_bytes);
    let mut slots: Vec<_> = slots.map(|slot| [IoSliceMut::new(slot)]).collect();
    // New ones for each call: what one says of how long an address was, the next would take for
    // how long one may be.
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slots.len(), None);
    let received = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slots.iter_mut(),
        MsgFlags::MSG_DONTWAIT,
        None,
    )?;
    let received = received.map(|one| Received {
        bytes: one.bytes,
        from: one.address.as_ref().map_or(Endpoint::Unnamed, endpoint),
        truncated: one.flags.contains(MsgFlags::MSG_TRUNC),
    });
    Ok(received.collect())
}

fn endpoint(address: &SockaddrStorage) -> Endpoint {
    if let Some(v4) = address.as_sockaddr_in() {
        return Endpoint::Ip(SocketAddr::V4((*v4).into()));
    }
    match address.as_sockaddr_in6() {
        Some(v6) => Endpoint::Ip(SocketAddr::V6((*v6).into())),
        None => Endpoint::Unnamed,
    }
}
