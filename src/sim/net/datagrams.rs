//! Datagrams of the simulated network: sent, perhaps lost, received whole or cut.
//!
//! Over IP each is on its way for a time of its own, so they overtake each other, and one that
//! finds nobody comes back as an error to a dialled socket. Over Unix sockets a send is taken
//! or refused at once, and a full receiver makes the sender wait.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use super::{Inner, Kind, is_meant};
use crate::sim::faults::Fault;
use crate::transport::{Endpoint, Received, SocketId};

/// A datagram socket.
pub(super) struct Post {
    /// The one peer that it was dialled to.
    to: Option<Endpoint>,
    queue: VecDeque<(Vec<u8>, Endpoint)>,
    queued_bytes: usize,
    /// Datagrams that found it full.
    drops: u32,
    /// What became of a former send.
    error: Option<ErrorKind>,
    /// Who met a full queue here.
    waiting: Vec<u64>,
}

/// Bytes that wait at one socket; what is more is dropped.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// The longest datagram (RFC 768 over IPv4).
const DATAGRAM_BYTES_MAX: usize = 65_507;

impl Post {
    pub(super) fn new(to: Option<Endpoint>) -> Post {
        Post {
            to,
            queue: VecDeque::new(),
            queued_bytes: 0,
            drops: 0,
            error: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn take_error(&mut self) -> io::Result<()> {
        let error = self.error.take();
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn is_full(&self, bytes: usize) -> bool {
        !self.queue.is_empty() && self.queued_bytes + bytes > QUEUE_BYTES_MAX
    }

    fn push(&mut self, payload: Vec<u8>, from: Endpoint) {
        self.queued_bytes += payload.len();
        self.queue.push_back((payload, from));
    }
}

impl Inner {
    pub(super) fn send(
        &self,
        id: SocketId,
        payload: &[u8],
        to: Option<&Endpoint>,
    ) -> io::Result<()> {
        let (io, from, to) = self.sender(id, to)?;
        if payload.len() > DATAGRAM_BYTES_MAX {
            return Err(rustix::io::Errno::MSGSIZE.into());
        }
        let payload = payload.to_vec();
        if !to.is_ip() {
            return self.send_unix(io, payload, from, &to);
        }
        if !self.faults.strike(Fault::DatagramLost) {
            let at = self.now() + self.latency();
            self.plan(at, move |net| net.arrive(id, payload, from, &to));
        }
        Ok(())
    }

    /// Who sends from where to whom; an error of a former send comes first.
    fn sender(&self, id: SocketId, to: Option<&Endpoint>) -> io::Result<(u64, Endpoint, Endpoint)> {
        let mut state = self.state.borrow_mut();
        let socket = state.sockets.get(id)?;
        let Kind::Post(post) = &mut socket.kind else {
            return Err(ErrorKind::InvalidInput.into());
        };
        post.take_error()?;
        let to = to.or(post.to.as_ref()).cloned();
        let to = to.ok_or(io::Error::from(rustix::io::Errno::DESTADDRREQ))?;
        Ok((socket.io, socket.local.clone(), to))
    }

    fn send_unix(
        &self,
        sender: u64,
        payload: Vec<u8>,
        from: Endpoint,
        to: &Endpoint,
    ) -> io::Result<()> {
        let receiver = self.receiver(to).ok_or(ErrorKind::ConnectionRefused)?;
        let mut state = self.state.borrow_mut();
        let socket = state.sockets.get(receiver)?;
        let Kind::Post(post) = &mut socket.kind else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        if post.is_full(payload.len()) {
            post.waiting.push(sender);
            return Err(ErrorKind::WouldBlock.into());
        }
        post.push(payload, from);
        self.io.set_readable(socket.io);
        Ok(())
    }

    /// A datagram has come to where it was sent to.
    fn arrive(&self, sender: SocketId, payload: Vec<u8>, from: Endpoint, to: &Endpoint) {
        let receiver = self.receiver(to);
        let mut state = self.state.borrow_mut();
        let found = receiver.and_then(|id| state.sockets.get(id).ok());
        if let Some(socket) = found {
            if let Kind::Post(post) = &mut socket.kind {
                if post.is_full(payload.len()) {
                    post.drops += 1;
                    return;
                }
                post.push(payload, from);
                self.io.set_readable(socket.io);
            }
            return;
        }
        if let Ok(socket) = state.sockets.get(sender)
            && let Kind::Post(post) = &mut socket.kind
            && post.to.is_some()
        {
            post.error = Some(ErrorKind::ConnectionRefused);
            self.io.set_hangup(socket.io);
        }
    }

    pub(super) fn recv(&self, id: SocketId, into: &mut [u8]) -> io::Result<Received> {
        let mut state = self.state.borrow_mut();
        let socket = state.sockets.get(id)?;
        self.cry_wolf(socket.io);
        let Kind::Post(post) = &mut socket.kind else {
            return Err(ErrorKind::InvalidInput.into());
        };
        post.take_error()?;
        let (payload, from) = post.queue.pop_front().ok_or(ErrorKind::WouldBlock)?;
        post.queued_bytes -= payload.len();
        for io in post.waiting.drain(..) {
            self.io.set_writable(io);
        }
        let bytes = payload.len().min(into.len());
        into[..bytes].copy_from_slice(&payload[..bytes]);
        Ok(Received {
            bytes,
            from,
            truncated: payload.len() > into.len(),
        })
    }

    pub(super) fn drops(&self, id: SocketId) -> io::Result<u32> {
        let mut state = self.state.borrow_mut();
        match &state.sockets.get(id)?.kind {
            Kind::Post(post) => Ok(post.drops),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// The socket that is bound at `to`.
    fn receiver(&self, to: &Endpoint) -> Option<SocketId> {
        let state = self.state.borrow();
        let bound = |kind: &Kind| matches!(kind, Kind::Post(post) if post.to.is_none());
        state
            .sockets
            .find(|socket| bound(&socket.kind) && is_meant(&socket.local, to))
    }
}
