//! Byte streams and datagrams with flow control, over TCP, UDP and Unix sockets.
//!
//! In reading order:
//! - [`address`]: what the configuration writes; [`net`]: the seam, [`Net`], and [`sys`], the
//!   real network behind it (with `unix` paths and `outq`); [`adopt`]: sockets of systemd
//! - [`network`]: [`Network`], through which everything goes
//! - [`connection`]: [`Protocol`] and [`Connection`]; `stream`: how they work; `outbox`: the
//!   write queue; [`chunk`]: what sockets are read into
//! - [`tls`]: the layer between the bytes of a socket and those of a protocol
//! - [`listener`] and [`limits`]; [`connector`] and [`resolver`]; [`client`] and [`backoff`]
//! - [`stdin`]: what the process was given to read
//! - [`siblings`]: listening in one place from several reactors
//! - [`datagram`]; `handover`: sockets that stay open while their owners change; [`store`]:
//!   sockets that outlive the process
//!
//! What holds everywhere: a handler never holds a descriptor, nothing here grows without a
//! named bound, protocols are called from the reactor only, and every socket that was opened
//! is closed exactly once.

pub mod address;
pub mod adopt;
pub mod backoff;
pub mod chunk;
pub mod client;
pub mod connection;
pub mod connector;
pub mod datagram;
mod handover;
pub mod limits;
pub mod listener;
pub mod net;
pub mod network;
mod outbox;
mod outq;
pub mod resolver;
pub mod siblings;
pub mod stdin;
pub mod store;
mod stream;
pub mod sys;
pub mod tls;
mod unix;

pub use address::{Address, AddressError};
pub use adopt::{Carries, Inherited};
pub use backoff::{Backoff, BackoffOptions};
pub use chunk::{CHUNK_BYTES, ChunkPool, Meter};
pub use client::{Client, ClientOptions, Dialler};
pub use connection::{
    CloseReason, Connection, ConnectionId, ConnectionOptions, Hold, Peer, Protocol, WriteError,
};
pub use connector::{ConnectError, ConnectErrorKind, ConnectOptions};
pub use datagram::{DATAGRAM_BYTES_MAX, Datagram, DatagramOptions, DatagramSocket, Datagrams};
pub use limits::{CONNECTIONS_MAX, Limits, Refusal};
pub use listener::{Accept, ListenError, ListenOptions, Listener};
pub use net::{
    BindOptions, Endpoint, Lookup, Net, PeerState, Received, SocketId, SocketKind, SocketOption,
};
pub use network::{Network, NetworkOptions};
pub use outbox::Mark;
pub use resolver::Resolver;
pub use siblings::Siblings;
pub use stdin::StandardInput;
pub use store::FdStore;
pub use sys::SysNet;
