//! One byte stream at work: reading in budgets, writing from the queue, ending once.
//!
//! A [`Stream`] is shared by the slot in the reactor ([`StreamHandler`]) and the handles that
//! users hold ([`Connection`]). Its fields are cells, borrowed for one statement each and never
//! while the protocol runs; the protocol itself is taken out while it runs and put back after.
//! Protocol calls come from the reactor's dispatch or from the turn's notifications only.
//!
//! TLS is a layer in here (`secure`): inbound between the read and `deliver`, outbound between
//! the queue and the socket. The protocol is `connected` when the handshake is complete, and
//! every mark that anybody sees is one of plaintext.
//!
//! Ending: `Open -> (Finishing ->) Closing -> Lingering -> Lost`, each step at most once.
//! Closing flushes; Lingering has sent the end of stream and discards input until the peer's
//! kernel has everything, because closing a TCP socket under incoming data resets the
//! connection and can destroy what was just sent (RFC 2525 section 2.17).

mod ending;
mod reading;
pub(super) mod secure;
mod times;
mod writing;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use super::connection::{CloseReason, Connection, ConnectionId, ConnectionOptions, Peer, Protocol};
use super::limits::Permit;
use super::net::{Endpoint, SocketId, SocketOption};
use super::network::Network;
use super::outbox::Outbox;
use crate::deferred::Failure;
use crate::reactor::{Handle, Handler, Progress, TimerGuard, Token};
use crate::time::Duration;
use secure::Secure;
use times::Times;

/// The state of one connection.
pub struct Stream {
    setting: Rc<Setting>,
    id: ConnectionId,
    socket: SocketId,
    token: Cell<Option<Token>>,
    peer: Peer,
    phase: Cell<Phase>,
    input: Cell<Input>,
    output: Cell<Output>,
    flush: Cell<Flush>,
    /// The queue passed its high mark and has not sunk to the low one since.
    full: Cell<bool>,
    holds: Cell<u32>,
    outbox: RefCell<Outbox>,
    /// TLS; nothing on a plain connection.
    secure: Option<Box<Secure>>,
    /// Nothing has been read yet of a client that is to send plain text.
    is_unread: Cell<bool>,
    /// The end of stream is with the kernel.
    has_sent_end: Cell<bool>,
    /// The highest answer `acked` gave.
    acked: Cell<u64>,
    /// Absent while it runs, and after the end.
    protocol: Cell<Option<Box<dyn Protocol>>>,
    /// Why the connection is ending, once it is. Boxed, like all that most never have: ten
    /// thousand idle connections are to cost little.
    reason: Cell<Option<Box<CloseReason>>>,
    times: Times,
    permit: Cell<Option<Permit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The peer's stream ended; closes when the queue is empty and nobody holds it.
    Finishing,
    /// No more writes and no more deliveries; flushes, then closes.
    Closing,
    /// Everything is written, the end of stream too; waits for the peer's kernel.
    Lingering,
    /// Over; the handler's `lost` has run or is on its way.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    On,
    Paused,
    /// The peer's end of stream was read.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// The end of stream goes out behind the queue.
    ShutWanted,
    Shut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// The queue is empty.
    Idle,
    /// A flush is on the turn's list.
    Scheduled,
    /// The kernel is full; there is write interest.
    Blocked,
}

/// What streams have in common that come of one listener, or of one dial.
pub(super) struct Setting {
    pub network: Network,
    pub options: Rc<ConnectionOptions>,
}

/// What a stream is made of.
pub(super) struct StreamParts {
    pub setting: Rc<Setting>,
    pub socket: SocketId,
    pub peer: Peer,
    pub protocol: Box<dyn Protocol>,
    /// Of a connection that was accepted.
    pub permit: Option<Permit>,
    /// TLS, if it is spoken.
    pub secure: Option<Box<Secure>>,
    /// Whether the peer has dialled us.
    pub is_accepted: bool,
}

impl Stream {
    /// Puts a connected socket to work: registers it and tells its protocol, in this order.
    /// On an error the socket is closed and the protocol was not called.
    pub(super) fn open(parts: StreamParts) -> io::Result<Connection> {
        let stream = Rc::new(Stream {
            id: parts.setting.network.next_connection_id(),
            socket: parts.socket,
            token: Cell::new(None),
            peer: parts.peer,
            phase: Cell::new(Phase::Open),
            input: Cell::new(Input::On),
            output: Cell::new(Output::Open),
            flush: Cell::new(Flush::Idle),
            full: Cell::new(false),
            holds: Cell::new(0),
            outbox: RefCell::default(),
            is_unread: Cell::new(parts.is_accepted && parts.secure.is_none()),
            secure: parts.secure,
            has_sent_end: Cell::new(false),
            acked: Cell::new(0),
            protocol: Cell::new(Some(parts.protocol)),
            reason: Cell::new(None),
            times: Times::default(),
            permit: Cell::new(parts.permit),
            setting: parts.setting,
        });
        stream.register()?;
        let connection = Connection { stream };
        match connection.stream.secure {
            None => connection.stream.begin(),
            Some(_) => connection.stream.begin_handshake(),
        }
        Ok(connection)
    }

    /// The protocol may write and is delivered to from now on.
    fn begin(self: &Rc<Self>) {
        let options = self.options();
        if options.idle_timeout.is_some() {
            self.set_idle_timeout(options.idle_timeout);
        }
        if options.deadline.is_some() {
            self.set_deadline(options.deadline);
        }
        self.with_protocol(|protocol, connection| protocol.connected(connection));
    }

    fn register(self: &Rc<Self>) -> io::Result<()> {
        let net = self.network().net();
        let handler = Box::new(StreamHandler(Rc::clone(self)));
        let pollable = net.pollable(self.socket);
        let reactor = self.network().reactor();
        match pollable.and_then(|pollable| reactor.register(pollable, handler)) {
            Ok(token) => {
                self.token.set(Some(token));
                reactor.add_reader(token);
                Ok(())
            }
            Err(error) => {
                net.close(self.socket);
                Err(error)
            }
        }
    }

    /// Runs the protocol, out of its place meanwhile. Nothing happens when it is gone.
    fn with_protocol(
        self: &Rc<Self>,
        call: impl FnOnce(&mut dyn Protocol, &Connection) -> Result<(), Failure>,
    ) {
        let Some(protocol) = self.protocol.take() else {
            return;
        };
        let mut running = Running {
            stream: self,
            protocol: Some(protocol),
            failure: Some(Failure::msg("the protocol panicked")),
        };
        let protocol = running.protocol.as_mut().expect("it was put there");
        let connection = Connection {
            stream: Rc::clone(self),
        };
        running.failure = call(&mut **protocol, &connection).err();
    }

    pub(super) fn set_idle_timeout(self: &Rc<Self>, limit: Option<Duration>) {
        let reading = self.phase.get() == Phase::Open && self.input.get() == Input::On;
        let timer = limit
            .filter(|_| reading)
            .map(|limit| self.close_after(limit, "idle"));
        self.times.set_idle(limit, timer);
    }

    pub(super) fn set_deadline(self: &Rc<Self>, limit: Option<Duration>) {
        let open = matches!(self.phase.get(), Phase::Open | Phase::Finishing);
        let timer = limit
            .filter(|_| open)
            .map(|limit| self.close_after(limit, "total"));
        self.times.set().deadline = timer;
    }

    fn close_after(self: &Rc<Self>, limit: Duration, what: &'static str) -> TimerGuard {
        self.call_later(limit, move |stream| {
            stream.close(CloseReason::TimedOut(what))
        })
    }

    /// Calls the stream `delay` from now, if it is still there and the timer was not dropped.
    fn call_later(
        self: &Rc<Self>,
        delay: Duration,
        call: impl FnOnce(&Rc<Self>) + 'static,
    ) -> TimerGuard {
        let stream = Rc::downgrade(self);
        let timer = self.network().reactor().call_later(delay, move |_| {
            if let Some(stream) = stream.upgrade() {
                call(&stream);
            }
        });
        timer.guard()
    }

    fn network(&self) -> &Network {
        &self.setting.network
    }

    fn options(&self) -> &ConnectionOptions {
        &self.setting.options
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn local(&self) -> Option<Endpoint> {
        self.network().net().local(self.socket).ok()
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    fn interest(&self, change: fn(&Handle, Token)) {
        if let Some(token) = self.token.get() {
            change(self.network().reactor(), token);
        }
    }
}

/// The protocol while it runs: goes back to its place also when it panics, and ends the
/// connection when it failed.
struct Running<'a> {
    stream: &'a Rc<Stream>,
    protocol: Option<Box<dyn Protocol>>,
    failure: Option<Failure>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stream.protocol.set(self.protocol.take());
        if let Some(failure) = self.failure.take() {
            self.stream.end(CloseReason::Handler(failure));
        }
    }
}

/// What sits in the reactor's slot.
struct StreamHandler(Rc<Stream>);

impl Handler for StreamHandler {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        self.0.readable()
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        let progress = self.0.go_on();
        self.0.tell_drained();
        progress
    }

    fn hangup(&mut self, _reactor: &Handle) -> Progress {
        self.0.hangup()
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {
        self.0.lost();
    }

    fn has_output(&self) -> bool {
        self.0.queued_bytes() > 0
    }
}

/// Sets the options that a connection has from its first moment.
pub(super) fn set_up(
    network: &Network,
    socket: SocketId,
    options: &ConnectionOptions,
) -> io::Result<()> {
    let net = network.net();
    net.set(socket, SocketOption::Keepalive(options.keepalive))?;
    net.set(socket, SocketOption::UserTimeout(options.user_timeout))?;
    if let Some(bytes) = options.send_buffer_bytes {
        net.set(socket, SocketOption::SendBuffer(bytes))?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        net.set(socket, SocketOption::ReceiveBuffer(bytes))?;
    }
    Ok(())
}

// An idle connection may cost 1 KB, all that it is made of together (docs/PERFORMANCE.md): what
// only a busy, secured or closing one needs is boxed, and made when it is needed.
const _: () = assert!(size_of::<Stream>() <= 176, "a stream has grown");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use bytes::Bytes;

    use super::super::network::NetworkOptions;
    use super::super::sys::SysNet;
    use super::*;
    use crate::reactor::{Options, PollerKind, Reactor, Seams};

    /// Counts what it receives.
    struct Counts(Rc<Cell<usize>>);

    impl Protocol for Counts {
        fn received(&mut self, _connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
            self.0.set(self.0.get() + bytes.len());
            Ok(())
        }

        fn closed(self: Box<Self>, _reason: &CloseReason) {}
    }

    #[test]
    fn who_only_reads_owns_neither_a_queue_nor_timers() {
        let seams = Seams::system(PollerKind::Epoll).unwrap();
        let mut reactor = Reactor::new(seams, Options::default()).unwrap();
        let net = Rc::new(SysNet::new().unwrap());
        let network = Network::new(&reactor.handle(), net, NetworkOptions::default());
        let (near, mut far) = UnixStream::pair().unwrap();
        let count = Rc::<Cell<usize>>::default();
        let protocol = Box::new(Counts(Rc::clone(&count)));
        let connection = network.adopt_stream(near.into(), protocol).unwrap();
        far.write_all(b"hello").unwrap();
        for _ in 0..8 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            connection.pause();
            connection.resume();
        }
        assert_eq!(count.get(), 5);
        let stream = &connection.stream;
        let owns = (stream.times.is_made(), stream.outbox.borrow().is_made());
        assert_eq!(owns, (false, false));
        connection.set_deadline(Some(Duration::from_secs(1)));
        connection.write(Bytes::from_static(b"hello")).unwrap();
        let owns = (stream.times.is_made(), stream.outbox.borrow().is_made());
        assert_eq!(owns, (true, true), "the question means something");
    }
}
