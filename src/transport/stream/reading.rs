//! Reading one stream: a budget per turn, pausing, the end of the peer's stream.
//!
//! Read until `WouldBlock` or until the turn's budget is used up; what is left is on the ready
//! list. A short read is not taken for an empty socket, although it nearly always is: an end
//! of stream that came together with the data has no edge of its own, and would be missed.

use std::io::ErrorKind;
use std::rc::Rc;

use bytes::Bytes;

use super::{Input, Phase, Stream};
use crate::reactor::{Handle, Progress};
use crate::time::Duration;
use crate::transport::chunk::CHUNK_BYTES;
use crate::transport::connection::CloseReason;
use crate::transport::net::SocketOption;
use crate::transport::tls;

impl Stream {
    pub(super) fn readable(self: &Rc<Self>) -> Progress {
        let mut left = READ_BYTES_PER_TURN;
        while self.input.get() == Input::On && self.phase.get() != Phase::Lost {
            if left < READ_BYTES_MIN {
                self.end_overdue_drain();
                return Progress::More;
            }
            let mut chunk = self.network().chunks().lend();
            match self.network().net().read(self.socket, &mut chunk[..left]) {
                Ok(0) => self.cut_or_ended(),
                Ok(bytes) => {
                    left -= bytes;
                    self.network().reactor().count_read(bytes);
                    match &self.secure {
                        None => self.deliver(chunk.keep(bytes)),
                        Some(secure) => self.decrypt(secure, &chunk[..bytes]),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry();
                    return Progress::Blocked;
                }
                Err(error) => self.end(CloseReason::Reset(error)),
            }
        }
        // Stopped before `WouldBlock`: what is left is remembered until reading resumes.
        Progress::More
    }

    /// Reads on until nothing is left, at most for `limit` while bytes keep coming, then
    /// closes. A pause holds for as long as it lasts.
    ///
    /// Over TCP the peer's kernel may hold back the end of what was written until what came
    /// before it is acknowledged (RFC 1122, 4.2.3.4), and an acknowledgement may be delayed. So
    /// it is given now, and nothing is left only after [`DRY_AFTER`] without a byte.
    pub(in crate::transport) fn drain(self: &Rc<Self>, limit: Duration) {
        let until = self.network().reactor().now() + limit;
        self.times.set().drain_until = Some(until);
        if let Some(token) = self.token.get() {
            self.network().reactor().look_again(token);
        }
    }

    fn end_drain(self: &Rc<Self>) {
        if self.times.end_drain() {
            self.close(CloseReason::Local);
        }
    }

    /// A drained connection has nothing to read at the moment. The idle limit's timer is free
    /// for this: whoever drains does not wait for it any more.
    fn dry(self: &Rc<Self>) {
        let Some(until) = self.times.drain_until() else {
            return;
        };
        let wait = DRY_AFTER.min(until.since(self.network().reactor().now()));
        let held_back = self.peer.endpoint().is_ip()
            && self
                .network()
                .net()
                .set(self.socket, SocketOption::AcknowledgeNow)
                .is_ok();
        if !held_back || wait.is_zero() {
            return self.end_drain();
        }
        let timer = self.call_later(wait, Stream::end_drain);
        self.times.set().idle = Some(timer);
    }

    fn end_overdue_drain(self: &Rc<Self>) {
        let now = self.network().reactor().now();
        if self.times.drain_until().is_some_and(|until| now >= until) {
            self.end_drain();
        }
    }

    pub(super) fn deliver(self: &Rc<Self>, bytes: Bytes) {
        if !matches!(self.phase.get(), Phase::Open | Phase::Finishing) {
            return;
        }
        if self.is_unread.take() && tls::looks_like_client_hello(&bytes) {
            return self.close(CloseReason::Handshake(tls::speaks_tls_to_plain()));
        }
        self.times.received();
        self.with_protocol(|protocol, connection| protocol.received(connection, bytes));
    }

    /// The peer's end of stream, which is not enough under TLS.
    fn cut_or_ended(self: &Rc<Self>) {
        match &self.secure {
            Some(secure) if self.phase.get() == Phase::Open => self.cut(secure),
            _ => self.ended(),
        }
    }

    /// The peer's stream is whole.
    pub(super) fn ended(self: &Rc<Self>) {
        self.input.set(Input::Ended);
        self.times.stop_idle();
        self.interest(Handle::remove_reader);
        match self.phase.get() {
            Phase::Open => self.with_protocol(|protocol, connection| protocol.eof(connection)),
            Phase::Lingering => self.end_as_decided(),
            Phase::Finishing | Phase::Closing | Phase::Lost => {}
        }
    }

    pub(in crate::transport) fn pause(&self) {
        if self.phase.get() == Phase::Open && self.input.get() == Input::On {
            self.input.set(Input::Paused);
            self.times.stop_idle();
            self.interest(Handle::remove_reader);
        }
    }

    pub(in crate::transport) fn resume(self: &Rc<Self>) {
        if self.phase.get() == Phase::Open && self.input.get() == Input::Paused {
            self.input.set(Input::On);
            self.interest(Handle::add_reader);
            let limit = self.times.of_set(|times| times.idle_timeout);
            if limit.is_some() {
                self.set_idle_timeout(limit);
            }
        }
    }

    pub(in crate::transport) fn is_paused(&self) -> bool {
        self.input.get() == Input::Paused
    }

    /// An error or a hang-up while nothing is read: a reset ends the connection, an end of
    /// stream waits until it is read.
    pub(super) fn hangup(&self) -> Progress {
        if let Err(error) = self.network().net().take_error(self.socket) {
            self.end(CloseReason::Reset(error));
        }
        Progress::Blocked
    }
}

/// What one connection may read in one turn, so that one fast sender does not keep a thousand
/// slow ones waiting (F-071). What is more comes in the next turn.
const READ_BYTES_PER_TURN: usize = CHUNK_BYTES;

/// A drained connection is empty after so long without a byte: more than a round trip.
const DRY_AFTER: Duration = Duration::from_millis(50);

/// Less than this is not worth a read in this turn.
const READ_BYTES_MIN: usize = 16 * 1024;
