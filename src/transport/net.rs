//! The seam to the network: what transports ask of an operating system, by socket id.
//!
//! [`Net`] has two implementations, `sys` for the machine and the simulator's. No call blocks;
//! `WouldBlock` means what it means to a system call, and after it the socket's [`Pollable`]
//! reports a new edge when the direction is ready again. A handler never holds a descriptor:
//! an id that was closed gives `NotFound`, never another socket, because ids carry a
//! generation.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::reactor::Pollable;
use crate::time::Duration;

/// Names one socket of a [`Net`] for as long as the socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// Its place in the table.
    pub index: u32,
    /// How often the place had been used before.
    pub generation: u32,
}

/// One end of a socket, resolved: what bind, connect and accept speak of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix domain socket in the file system.
    Unix(PathBuf),
    /// A Unix domain socket in Linux's abstract namespace, without the leading NUL.
    Abstract(Box<[u8]>),
    /// The unbound end of a Unix domain socket.
    Unnamed,
}

impl Endpoint {
    /// The endpoint of a `unix://` or `unixgram://` path, where `@` begins an abstract name.
    pub fn of_path(path: &Path) -> Endpoint {
        match path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => Endpoint::Abstract(name.into()),
            None => Endpoint::Unix(path.to_path_buf()),
        }
    }

    /// The IP address, with an IPv4 address that IPv6 carries taken out of it (RFC 4291
    /// section 2.5.5.2), so that a peer counts as the same over both.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Endpoint::Ip(address) => Some(address.ip().to_canonical()),
            _ => None,
        }
    }

    /// Whether this is a TCP or UDP end.
    pub fn is_ip(&self) -> bool {
        matches!(self, Endpoint::Ip(_))
    }

    /// Where this machine itself reaches a listener that is bound here, if it is sure to: by
    /// its loopback address.
    pub fn from_here(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Ip(SocketAddr::V4(at)) if at.ip().is_unspecified() => {
                Some((Ipv4Addr::LOCALHOST, at.port()).into())
            }
            Endpoint::Ip(SocketAddr::V6(at)) if at.ip().is_unspecified() => {
                Some((Ipv6Addr::LOCALHOST, at.port()).into())
            }
            Endpoint::Ip(at) if at.ip().is_loopback() => Some(*at),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ip(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Endpoint::Unnamed => f.write_str("unix"),
        }
    }
}

/// How a listener or a datagram socket is bound.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// Connections that may wait for `accept`; the system's own limit may be lower.
    pub backlog: i32,
    /// Mode bits of a Unix socket's path; it is never wider than this, not for an instant.
    pub mode: u32,
    /// SO_REUSEPORT: several sockets of this process share the port.
    pub reuse_port: bool,
    /// IP_FREEBIND: an address that this machine does not have yet is accepted.
    pub free_bind: bool,
    /// SO_RCVBUF in bytes, for datagrams over IP; `None` keeps the system's. The system may
    /// grant less: [`Net::receive_buffer`] says what.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions {
            backlog: 4096,
            mode: 0o660,
            reuse_port: false,
            free_bind: false,
            receive_buffer_bytes: None,
        }
    }
}

/// An option of an open stream socket. A listener's options are inherited by what it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// TCP_NODELAY: small writes leave at once. On by default.
    NoDelay(bool),
    /// TCP_QUICKACK: what has arrived is acknowledged at once, for now.
    AcknowledgeNow,
    /// Keepalive probes after so much silence, or none.
    Keepalive(Option<Duration>),
    /// TCP_USER_TIMEOUT: how long written data may stay unacknowledged (RFC 5482).
    UserTimeout(Option<Duration>),
    /// SO_RCVBUF in bytes: bounds what the kernel holds of a peer that we do not read.
    ReceiveBuffer(usize),
    /// SO_SNDBUF in bytes.
    SendBuffer(usize),
}

/// What our kernel knows of the peer of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Bytes that the peer's kernel takes now beyond what it has acknowledged; `None` where
    /// ours does not say (before Linux 5.4).
    pub window_bytes: Option<u64>,
    /// Time since its last acknowledgement.
    pub silent_for: Duration,
}

/// One received datagram, its bytes lying in the caller's buffer.
#[derive(Clone, Debug)]
pub struct Received {
    /// Bytes that were stored.
    pub bytes: usize,
    /// Who sent it.
    pub from: Endpoint,
    /// The datagram was longer than the buffer; its end is lost.
    pub truncated: bool,
}

/// What an inherited descriptor turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// A listening TCP socket.
    TcpListener,
    /// A bound UDP socket.
    Udp,
    /// A listening Unix stream socket.
    UnixListener,
    /// A bound Unix datagram socket.
    UnixDatagram,
}

/// Looks names up; may block, so it is called on the resolver's worker threads only.
pub trait Lookup: Send + Sync {
    /// The addresses of `host`, best first (RFC 6724), without duplicates. An empty answer
    /// is an error.
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The network. All sockets are non-blocking and are not inherited by child processes.
pub trait Net {
    /// Binds a stream listener. A Unix path whose owner is dead is taken over, which is known
    /// by ECONNREFUSED and by nothing else; one whose owner lives gives `AddrInUse`.
    fn listen(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId>;

    /// The next waiting connection.
    fn accept(&self, listener: SocketId) -> io::Result<(SocketId, Endpoint)>;

    /// With no descriptor left for `accept`: gives up the reserved one for a moment to accept
    /// and close one waiting connection. Says whether there was one.
    fn shed(&self, listener: SocketId) -> io::Result<bool>;

    /// Begins to connect a stream. The socket becomes writable when the outcome is there.
    /// `WouldBlock`: the listener's backlog is full (Unix sockets only); try again later.
    fn connect(&self, to: &Endpoint) -> io::Result<SocketId>;

    /// The outcome of `connect`: `Ok(false)` while it is still open.
    fn connect_result(&self, socket: SocketId) -> io::Result<bool>;

    /// Reads from a stream; 0 is the peer's end of stream. Descriptors that come along are
    /// closed unseen.
    fn read(&self, socket: SocketId, into: &mut [u8]) -> io::Result<usize>;

    /// Writes the slices in order; may stop anywhere. Never raises SIGPIPE.
    fn writev(&self, socket: SocketId, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends the end of stream; what was written before goes first.
    fn shutdown_write(&self, socket: SocketId) -> io::Result<()>;

    /// The error that the socket has met since it was last asked, such as a reset.
    fn take_error(&self, socket: SocketId) -> io::Result<()>;

    /// Bytes written but not yet acknowledged by the peer's kernel (TCP, where an unacked end
    /// of stream counts as one), or an amount that is zero exactly when the peer has read
    /// everything (Unix). For TCP it holds after a reset, too.
    fn outq(&self, socket: SocketId) -> io::Result<usize>;

    /// What is known of the peer of a TCP socket; an error for any other.
    fn peer_state(&self, socket: SocketId) -> io::Result<PeerState>;

    /// Binds a datagram socket. Unix paths as in [`Net::listen`].
    fn bind(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId>;

    /// A datagram socket that sends to and hears from one peer only.
    fn dial(&self, to: &Endpoint) -> io::Result<SocketId>;

    /// The next datagram, which may be empty. One longer than `into` is cut and marked.
    fn recv(&self, socket: SocketId, into: &mut [u8]) -> io::Result<Received>;

    /// The next datagrams, at least one, as many as are there and `room` has slots of `slot_bytes`
    /// for, each at the beginning of its slot: in one system call where there is one for that. A
    /// Unix socket is given one slot.
    fn recv_many(
        &self,
        socket: SocketId,
        room: &mut [u8],
        slot_bytes: usize,
    ) -> io::Result<Vec<Received>> {
        let one = self.recv(socket, &mut room[..slot_bytes])?;
        Ok(vec![one])
    }

    /// What the system holds for a datagram socket at most, in bytes of SO_RCVBUF.
    fn receive_buffer(&self, socket: SocketId) -> io::Result<usize>;

    /// Datagrams that the system had no room for since the socket was opened, modulo 2^32; an
    /// error where it does not tell.
    fn drops(&self, socket: SocketId) -> io::Result<u32>;

    /// Sends one datagram, to `to` or else to the dialled peer.
    fn send(&self, socket: SocketId, payload: &[u8], to: Option<&Endpoint>) -> io::Result<()>;

    /// Sets an option; one that the kind of socket does not have is ignored.
    fn set(&self, socket: SocketId, option: SocketOption) -> io::Result<()>;

    /// Our own end.
    fn local(&self, socket: SocketId) -> io::Result<Endpoint>;

    /// Gives the socket up in order: what was written is still sent. Removes the path of a
    /// Unix socket that was bound here. Unknown ids are ignored.
    fn close(&self, socket: SocketId);

    /// Gives the socket up at once: unsent data are dropped and a TCP peer sees a reset.
    fn abort(&self, socket: SocketId);

    /// What a poller watches.
    fn pollable(&self, socket: SocketId) -> io::Result<Pollable>;

    /// Takes a socket that was opened by somebody else. Its path, if any, is left alone at
    /// `close`, for its owner goes on using it.
    fn adopt(&self, descriptor: OwnedFd) -> io::Result<(SocketId, SocketKind)>;

    /// Takes the end of a byte stream that somebody else opened, to be read: a pipe, a terminal,
    /// a connected socket. What cannot be waited for (a file) is refused by the poller later.
    fn adopt_stream(&self, _descriptor: OwnedFd) -> io::Result<SocketId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a socket back that a former process of this daemon had bound: from now on it is as
    /// if it had been bound here with these options, its path too.
    fn take_back(&self, descriptor: OwnedFd, _options: &BindOptions) -> io::Result<SocketId> {
        self.adopt(descriptor).map(|(socket, _)| socket)
    }

    /// Another descriptor of the same socket, for somebody else to adopt.
    fn duplicate(&self, _socket: SocketId) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The socket's path, if any, is left alone at `close`.
    fn leave_path(&self, _socket: SocketId) {}

    /// What the resolver's threads call.
    fn lookup(&self) -> Arc<dyn Lookup>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_at_sign_is_an_abstract_name() {
        let endpoint = Endpoint::of_path(Path::new("@log"));
        assert_eq!(endpoint, Endpoint::Abstract(b"log".as_slice().into()));
        assert_eq!(endpoint.to_string(), "@log");
        let endpoint = Endpoint::of_path(Path::new("/run/log"));
        assert_eq!(endpoint, Endpoint::Unix("/run/log".into()));
    }

    #[test]
    fn a_mapped_peer_counts_as_its_ipv4_self() {
        let mapped = Endpoint::Ip("[::ffff:10.0.0.1]:7".parse().unwrap());
        assert_eq!(mapped.ip(), Some("10.0.0.1".parse().unwrap()));
    }
}
