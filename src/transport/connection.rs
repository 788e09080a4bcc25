//! What a user of a byte stream sees: [`Protocol`] to implement, [`Connection`] to hold.
//!
//! A Connection is a cheap handle. Its methods never call the protocol back: what they cause
//! (drained, closed) arrives later in the turn. Writes are queued and leave together once per
//! turn. `closed` comes exactly once, and no `received` after it; when it has come the
//! connection no longer holds the protocol, and every method is a no-op or says `Closed`.
//!
//! Bounded everywhere: past `write_bytes_max` a write is refused whole; `is_full` and
//! `drained` are the two water marks; `close` waits for the flush only while the peer takes
//! something every `close_timeout`, then aborts.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::net::{Endpoint, PeerState};
use super::outbox::Mark;
use super::stream::Stream;
use super::tls::HandshakeError;
use crate::deferred::Failure;
use crate::telemetry::events::{ConnectionClosed, DisplayDebug, HandshakeFailed};
use crate::time::Duration;

/// What lives on a connection. A callback that fails or panics closes this connection, with
/// that as its reason, and no other.
pub trait Protocol {
    /// The connection stands. Called before anything else.
    fn connected(&mut self, _connection: &Connection) -> Result<(), Failure> {
        Ok(())
    }

    /// The next bytes of the stream, however they were cut; never empty.
    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure>;

    /// The write queue was full and has sunk to its low mark.
    fn drained(&mut self, _connection: &Connection) -> Result<(), Failure> {
        Ok(())
    }

    /// The peer has sent its end of stream and may still be reading. Unless told otherwise the
    /// connection is closed once everything written has left and every [`Hold`] is gone.
    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        connection.finish();
        Ok(())
    }

    /// The connection is gone. Called once, last.
    fn closed(self: Box<Self>, reason: &CloseReason);
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// The peer ended its stream in order, and what we had to say was said.
    Eof,
    /// We closed it, and what was queued was written.
    Local,
    /// The peer reset it or the network failed it.
    Reset(io::Error),
    /// A limit passed; which one. `"close"`: the peer did not take what was queued; `"answer"`:
    /// it did not even acknowledge.
    TimedOut(&'static str),
    /// `abort` was called, or the reactor shut down.
    Aborted,
    /// The protocol failed.
    Handler(Failure),
    /// There was no TLS, or where none was expected there was some. The protocol was never told
    /// of a connection, or of a byte on it.
    Handshake(HandshakeError),
}

impl CloseReason {
    /// Whether somebody should look at it whatever the connection was for: a peer broke the
    /// rules, or does not fit.
    pub fn is_fault(&self) -> bool {
        matches!(self, CloseReason::Handler(_) | CloseReason::Handshake(_))
    }

    /// Logs how a connection of `component` ended that `peer` had dialled.
    pub fn log_of_accepted(&self, component: &str, peer: &dyn DisplayDebug) {
        if let CloseReason::Handshake(error) = self {
            let reason = error.fault().name();
            let record = HandshakeFailed {
                component,
                peer,
                reason,
                error,
            };
            return record.log();
        }
        let record = ConnectionClosed {
            component,
            peer,
            reason: self,
            is_fault: self.is_fault(),
        };
        record.log();
    }

    /// One word for logs and counts.
    pub fn name(&self) -> &'static str {
        match self {
            CloseReason::Eof => "eof",
            CloseReason::Local => "local",
            CloseReason::Reset(_) => "reset",
            CloseReason::TimedOut(_) => "timeout",
            CloseReason::Aborted => "aborted",
            CloseReason::Handler(_) => "handler",
            CloseReason::Handshake(_) => "handshake",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Eof => f.write_str("the peer closed the connection"),
            CloseReason::Local => f.write_str("closed"),
            CloseReason::Reset(error) => write!(f, "the connection was lost: {error}"),
            CloseReason::TimedOut(what) => write!(f, "the {what} time limit passed"),
            CloseReason::Aborted => f.write_str("aborted"),
            CloseReason::Handler(failure) => write!(f, "the handler failed: {failure}"),
            CloseReason::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}

/// Why a write was refused. Nothing of it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The connection is closed, closing, or its write side was shut down.
    Closed,
    /// The write would bring the queue over its cap.
    OverLimit {
        /// Bytes in the queue.
        queued_bytes: usize,
        /// The cap.
        bytes_max: usize,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Closed => f.write_str("the connection is closed"),
            WriteError::OverLimit {
                queued_bytes,
                bytes_max,
            } => write!(
                f,
                "{queued_bytes} bytes are queued for writing; the limit is {bytes_max}"
            ),
        }
    }
}

impl std::error::Error for WriteError {}

/// How connections behave; shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The cap of the write queue, in bytes.
    pub write_bytes_max: usize,
    /// Above so many queued bytes the connection is full.
    pub write_high_bytes: usize,
    /// At so many queued bytes or fewer a full connection has drained.
    pub write_low_bytes: usize,
    /// A closing connection is aborted when its peer takes nothing for so long.
    pub close_timeout: Duration,
    /// Closed when nothing is received for so long while reading.
    pub idle_timeout: Option<Duration>,
    /// Closed so long after it was opened, whatever happens on it.
    pub deadline: Option<Duration>,
    /// Keepalive probes after so much silence (TCP).
    pub keepalive: Option<Duration>,
    /// Written data may stay unacknowledged for so long (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// SO_SNDBUF in bytes.
    pub send_buffer_bytes: Option<usize>,
    /// SO_RCVBUF in bytes.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            write_bytes_max: 16 * 1024 * 1024,
            write_high_bytes: 512 * 1024,
            write_low_bytes: 128 * 1024,
            close_timeout: Duration::from_secs(10),
            idle_timeout: None,
            deadline: None,
            keepalive: Some(Duration::from_secs(60)),
            user_timeout: Some(Duration::from_secs(30)),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer(Endpoint);

impl Peer {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Peer(endpoint)
    }

    /// The other end's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    /// Its IP address; `None` for Unix sockets.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.ip()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a connection for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A byte stream.
#[derive(Clone)]
pub struct Connection {
    pub(super) stream: Rc<Stream>,
}

impl Connection {
    /// Queues `bytes` and says where in the output they end.
    pub fn write(&self, bytes: Bytes) -> Result<Mark, WriteError> {
        self.stream.write(std::iter::once(bytes))
    }

    /// Queues all parts or, when they do not fit together, none.
    pub fn write_vectored(
        &self,
        parts: impl IntoIterator<Item = Bytes, IntoIter: Clone>,
    ) -> Result<Mark, WriteError> {
        self.stream.write(parts.into_iter())
    }

    /// Writes what is queued now, instead of at the end of the turn.
    pub fn flush(&self) {
        self.stream.flush();
    }

    /// Bytes that the kernel has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.stream.queued_bytes()
    }

    /// The queue is above its high mark, and `drained` will be called when it has sunk to the
    /// low one.
    pub fn is_full(&self) -> bool {
        self.stream.is_full()
    }

    /// Up to where the output has reached the peer's kernel (TCP), or was read by the peer
    /// (Unix, where only "everything" can be told). Never goes back; after the end of the
    /// connection, a reset too, it says what is known to have arrived.
    pub fn acked(&self) -> Mark {
        self.stream.acked()
    }

    /// Up to where the output has been handed to our kernel.
    pub fn written(&self) -> Mark {
        self.stream.written()
    }

    /// What our kernel knows of a TCP peer; `None` for other peers, and after the end.
    pub fn peer_state(&self) -> Option<PeerState> {
        self.stream.peer_state()
    }

    /// Suspends the limit on how long written data may stay unacknowledged
    /// ([`ConnectionOptions::user_timeout`]), or sets it again: the kernel applies it also to a
    /// peer that answers and has no room.
    pub fn set_patient(&self, patient: bool) {
        self.stream.set_patient(patient);
    }

    /// The peer has not answered for too long: drops what is queued and resets the connection,
    /// for the reason `TimedOut("answer")`.
    pub fn give_up_on_peer(&self) {
        self.stream.end(CloseReason::TimedOut("answer"));
    }

    /// Stops reading. What arrives stays in the kernel, whose window closes; a reset is noticed
    /// all the same, an end of stream only after `resume`.
    pub fn pause(&self) {
        self.stream.pause();
    }

    /// Reads on; nothing happens unless paused.
    pub fn resume(&self) {
        self.stream.resume();
    }

    /// Whether reading is paused.
    pub fn is_paused(&self) -> bool {
        self.stream.is_paused()
    }

    /// Delivers nothing more, writes what is queued, then closes.
    pub fn close(&self) {
        self.stream.close(CloseReason::Local);
    }

    /// As `close`, but writes are taken until the queue is empty and no [`Hold`] is left: what
    /// follows the peer's end of stream.
    pub fn finish(&self) {
        self.stream.finish();
    }

    /// Delivers what has arrived by now, then closes; at most for `limit` while the peer goes on
    /// sending. For a stop that loses nothing which the kernel has taken from the peer.
    pub fn drain(&self, limit: Duration) {
        self.stream.drain(limit);
    }

    /// Drops what is queued and resets the connection.
    pub fn abort(&self) {
        self.stream.end(CloseReason::Aborted);
    }

    /// Sends our end of stream behind what is queued. Further writes are refused; reading goes
    /// on.
    pub fn shutdown_write(&self) {
        self.stream.shutdown_write();
    }

    /// Keeps `finish` from closing until the guard is dropped: a reply is being made.
    pub fn hold(&self) -> Hold {
        self.stream.hold();
        Hold(self.clone())
    }

    /// Whether the end has come, or is on its way to `closed`.
    pub fn is_lost(&self) -> bool {
        self.stream.is_lost()
    }

    /// Whether writes are taken.
    pub fn is_open(&self) -> bool {
        self.stream.is_open()
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        self.stream.peer()
    }

    /// Our own end, as far as it is known still.
    pub fn local(&self) -> Option<Endpoint> {
        self.stream.local()
    }

    /// Unique among the connections of this network.
    pub fn id(&self) -> ConnectionId {
        self.stream.id()
    }

    /// Closes the connection when nothing is received for so long; counts from now.
    pub fn set_idle_timeout(&self, limit: Option<Duration>) {
        self.stream.set_idle_timeout(limit);
    }

    /// Closes the connection so long from now, whatever happens on it; `None` takes it back.
    pub fn set_deadline(&self, limit: Option<Duration>) {
        self.stream.set_deadline(limit);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {})", self.id(), self.peer())
    }
}

/// Something is still to be written to a connection whose peer may have ended its stream.
pub struct Hold(Connection);

impl Hold {
    /// The connection that is held.
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.stream.release();
    }
}
