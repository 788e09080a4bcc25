//! Writing one stream: the queue, the flush of the turn, water marks, what has arrived.
//!
//! Writes are queued and leave together at the end of the turn, or when the socket has room
//! again. Write interest exists exactly while the kernel is full and the queue is not empty.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use bytes::Bytes;

use super::{Flush, Input, Output, Phase, Stream};
use crate::reactor::{Handle, Progress};
use crate::transport::connection::{CloseReason, WriteError};
use crate::transport::net::{PeerState, SocketOption};
use crate::transport::outbox::{Mark, Outbox};

/// How far one go at the queue came.
enum Flushed {
    Empty,
    Blocked,
    More,
    Broken(io::Error),
}

impl Stream {
    pub(in crate::transport) fn write(
        self: &Rc<Self>,
        parts: impl Iterator<Item = Bytes> + Clone,
    ) -> Result<Mark, WriteError> {
        if !self.is_open() {
            return Err(WriteError::Closed);
        }
        let queued_bytes = self.queued_bytes();
        let bytes = parts.clone().map(|part| part.len()).sum::<usize>();
        let bytes_max = self.options().write_bytes_max;
        if queued_bytes.saturating_add(bytes) > bytes_max {
            return Err(WriteError::OverLimit {
                queued_bytes,
                bytes_max,
            });
        }
        parts.for_each(|part| self.outbox.borrow_mut().push(part));
        if queued_bytes + bytes > self.options().write_high_bytes {
            self.full.set(true);
        }
        self.schedule_flush();
        Ok(self.outbox.borrow().end())
    }

    /// Puts a flush on the turn's list, unless one is there or the kernel is full.
    pub(super) fn schedule_flush(self: &Rc<Self>) {
        if self.flush.get() == Flush::Idle {
            self.flush.set(Flush::Scheduled);
            let stream = Rc::clone(self);
            self.network()
                .reactor()
                .call_soon(move |_| stream.run_flush());
        }
    }

    /// The scheduled flush: writes, then tells the protocol, being a notification itself.
    fn run_flush(self: &Rc<Self>) {
        if self.flush.get() == Flush::Scheduled {
            self.flush.set(Flush::Idle);
            self.go_on();
            self.tell_drained();
        }
    }

    pub(in crate::transport) fn flush(self: &Rc<Self>) {
        if self.flush.get() == Flush::Scheduled {
            self.go_on();
            // The notification on the list comes too late for the flush, and tells.
            if self.flush.get() == Flush::Idle {
                self.flush.set(Flush::Scheduled);
            }
        }
    }

    /// Writes what it can and takes the next step of whatever waits for the queue.
    pub(super) fn go_on(self: &Rc<Self>) -> Progress {
        if self.phase.get() == Phase::Lost {
            return Progress::More;
        }
        let before = self.sent_bytes();
        let flushed = self.write_queue();
        if self.sent_bytes() > before && self.phase.get() == Phase::Closing {
            self.start_close_timer();
        }
        match flushed {
            Flushed::Empty => {
                if self.flush.replace(Flush::Idle) == Flush::Blocked {
                    self.interest(Handle::remove_writer);
                }
                self.queue_is_empty();
                Progress::More
            }
            Flushed::Blocked => {
                if self.flush.replace(Flush::Blocked) != Flush::Blocked {
                    debug_assert!(self.queued_bytes() > 0, "write interest needs something");
                    self.interest(Handle::add_writer);
                }
                Progress::Blocked
            }
            Flushed::More => {
                if self.flush.get() == Flush::Idle {
                    self.schedule_flush();
                }
                Progress::More
            }
            Flushed::Broken(error) => {
                self.broken(error);
                Progress::More
            }
        }
    }

    fn write_queue(&self) -> Flushed {
        let mut left = WRITE_BYTES_PER_TURN;
        let Some(secure) = &self.secure else {
            return self.write_out(&self.outbox, &mut left);
        };
        loop {
            let close = self.output.get() == Output::ShutWanted;
            if !secure.seal(&self.outbox, close) {
                return match secure.is_exhausted() {
                    true => Flushed::Broken(io::Error::other(EXHAUSTED)),
                    false => Flushed::Empty,
                };
            }
            if secure.is_crowded() {
                self.snapshot_acked();
            }
            match self.write_out(&secure.wire, &mut left) {
                Flushed::Empty => {}
                other => return other,
            }
        }
    }

    fn write_out(&self, outbox: &RefCell<Outbox>, left: &mut usize) -> Flushed {
        let net = self.network().net();
        while !outbox.borrow().is_empty() {
            if *left == 0 {
                return Flushed::More;
            }
            let write = |slices: &[io::IoSlice<'_>]| net.writev(self.socket, slices);
            let written = outbox.borrow().with_slices(write);
            match written {
                Ok(bytes) => {
                    *left = left.saturating_sub(bytes);
                    outbox.borrow_mut().advance(bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) => return Flushed::Broken(error),
            }
        }
        Flushed::Empty
    }

    fn queue_is_empty(self: &Rc<Self>) {
        if self.output.get() == Output::ShutWanted {
            self.output.set(Output::Shut);
            if let Err(error) = self.network().net().shutdown_write(self.socket) {
                return self.broken(error);
            }
            self.has_sent_end.set(true);
        }
        match self.phase.get() {
            Phase::Closing => self.linger(),
            Phase::Finishing if self.holds.get() == 0 => self.close(CloseReason::Eof),
            _ => {}
        }
    }

    /// Writing failed. What the peer had sent before is still delivered, then it ends.
    fn broken(self: &Rc<Self>, error: io::Error) {
        let deliverable = self.phase.get() == Phase::Open && self.input.get() == Input::On;
        if !deliverable {
            return self.end(CloseReason::Reset(error));
        }
        self.output.set(Output::Shut);
        if self.flush.replace(Flush::Idle) == Flush::Blocked {
            self.interest(Handle::remove_writer);
        }
        self.snapshot_acked();
        self.drop_queued();
        self.settle_reason(CloseReason::Reset(error));
        self.read_rest_soon();
    }

    /// Reads to the end of a connection that can no longer be written to.
    fn read_rest_soon(self: &Rc<Self>) {
        let stream = Rc::clone(self);
        self.network()
            .reactor()
            .call_soon(move |_| match stream.readable() {
                Progress::More if stream.input.get() == Input::On => stream.read_rest_soon(),
                Progress::More if stream.input.get() == Input::Paused => {}
                _ => stream.end_as_decided(),
            });
    }

    pub(super) fn tell_drained(self: &Rc<Self>) {
        if self.full.get() && self.queued_bytes() <= self.options().write_low_bytes {
            self.full.set(false);
            if matches!(self.phase.get(), Phase::Open | Phase::Finishing) {
                self.with_protocol(|protocol, connection| protocol.drained(connection));
            }
        }
    }

    pub(in crate::transport) fn queued_bytes(&self) -> usize {
        let sealed = self.secure.as_ref().map_or(0, |it| it.queued_bytes());
        self.outbox.borrow().queued_bytes() + sealed
    }

    pub(super) fn drop_queued(&self) {
        self.outbox.borrow_mut().clear();
        if let Some(secure) = &self.secure {
            secure.wire.borrow_mut().clear();
        }
    }

    /// Bytes that our kernel has taken, as they are on their way.
    fn sent_bytes(&self) -> u64 {
        let outbox = self.secure.as_ref().map_or(&self.outbox, |it| &it.wire);
        outbox.borrow().written().0
    }

    pub(in crate::transport) fn is_full(&self) -> bool {
        self.full.get()
    }

    pub(in crate::transport) fn written(&self) -> Mark {
        match &self.secure {
            None => self.outbox.borrow().written(),
            Some(secure) => secure.written(),
        }
    }

    pub(in crate::transport) fn acked(&self) -> Mark {
        if self.phase.get() != Phase::Lost {
            self.snapshot_acked();
        }
        Mark(self.acked.get())
    }

    pub(super) fn snapshot_acked(&self) {
        let written = self.written().0;
        if self.acked.get() == written {
            return;
        }
        let is_ip = self.peer.endpoint().is_ip();
        // The end of stream counts as a byte until it is acknowledged, and is behind all others.
        let end = u64::from(is_ip && self.has_sent_end.get());
        let unacked = self.network().net().outq(self.socket);
        let unacked = unacked.map(|unacked| (unacked as u64).saturating_sub(end));
        let now = match (unacked, &self.secure) {
            (Ok(unacked), Some(secure)) => secure.arrived(unacked),
            (Ok(unacked), None) if is_ip => written.saturating_sub(unacked),
            (Ok(0), None) if self.has_read_all() => written,
            _ => 0,
        };
        self.acked.set(self.acked.get().max(now));
    }

    /// Whether the peer at the other end of a Unix socket, where nothing is on its way any more,
    /// has read it all: its kernel also throws away what was not read when it closes, and has
    /// marked our end with an error before.
    fn has_read_all(&self) -> bool {
        match self.network().net().take_error(self.socket) {
            Ok(()) => true,
            Err(error) => {
                self.end(CloseReason::Reset(error));
                false
            }
        }
    }

    /// What is known of the peer; nothing of one that is not on TCP, or gone.
    pub(in crate::transport) fn peer_state(&self) -> Option<PeerState> {
        let is_there = self.phase.get() != Phase::Lost && self.peer.endpoint().is_ip();
        let state = is_there.then(|| self.network().net().peer_state(self.socket));
        state?.ok()
    }

    pub(in crate::transport) fn set_patient(&self, patient: bool) {
        let limit = self.options().user_timeout.filter(|_| !patient);
        // A socket that is gone needs no limit.
        let _ = (self.network().net()).set(self.socket, SocketOption::UserTimeout(limit));
    }
}

/// Why a connection ends whose TLS 1.2 session has sealed all that it may.
const EXHAUSTED: &str = "the TLS session has sent as many records as its key may seal";

/// What one connection may write in one turn.
const WRITE_BYTES_PER_TURN: usize = 1024 * 1024;
