//! Ending one stream: finish, close, linger, abort, and the loss that follows, once.
//!
//! Whatever ends a connection first decides its reason, except that a later reset or time
//! limit replaces a close that was still going on: then not everything has arrived.

use std::rc::Rc;

use super::times::TimeLimits;
use super::{Input, Output, Phase, Stream};
use crate::deferred::Failure;
use crate::reactor::Handle;
use crate::time::Duration;
use crate::transport::connection::CloseReason;

impl Stream {
    pub(in crate::transport) fn is_open(&self) -> bool {
        matches!(self.phase.get(), Phase::Open | Phase::Finishing)
            && self.output.get() == Output::Open
    }

    pub(in crate::transport) fn is_lost(&self) -> bool {
        self.phase.get() == Phase::Lost
    }

    pub(in crate::transport) fn hold(&self) {
        self.holds.set(self.holds.get() + 1);
    }

    pub(in crate::transport) fn release(self: &Rc<Self>) {
        self.holds.set(self.holds.get() - 1);
        if self.holds.get() == 0 && self.phase.get() == Phase::Finishing {
            self.finish_if_flushed();
        }
    }

    pub(in crate::transport) fn finish(self: &Rc<Self>) {
        if self.phase.get() == Phase::Open {
            self.phase.set(Phase::Finishing);
            self.finish_if_flushed();
        }
    }

    fn finish_if_flushed(self: &Rc<Self>) {
        if self.holds.get() == 0 && self.queued_bytes() == 0 {
            self.close(CloseReason::Eof);
        }
    }

    pub(in crate::transport) fn shutdown_write(self: &Rc<Self>) {
        if self.is_open() {
            self.output.set(Output::ShutWanted);
            self.schedule_flush();
        }
    }

    pub(in crate::transport) fn close(self: &Rc<Self>, reason: CloseReason) {
        if !matches!(self.phase.get(), Phase::Open | Phase::Finishing) {
            return;
        }
        self.phase.set(Phase::Closing);
        self.settle_reason(reason);
        self.times.stop();
        if self.input.get() == Input::Paused {
            // What still comes is discarded: a peer that waits for us to read may be what
            // keeps it from reading.
            self.input.set(Input::On);
            self.interest(Handle::add_reader);
        }
        if self.output.get() == Output::Open {
            self.output.set(Output::ShutWanted);
        }
        self.start_close_timer();
        self.schedule_flush();
    }

    pub(super) fn start_close_timer(self: &Rc<Self>) {
        let limit = self.options().close_timeout;
        let timer = |times: &mut TimeLimits| Some(times.closing.as_ref()?.reset(limit));
        if self.times.of_set(timer) == Some(true) {
            return;
        }
        let timer = self.call_later(limit, |stream| stream.end(CloseReason::TimedOut("close")));
        self.times.set().closing = Some(timer);
    }

    /// Everything is written and the end of stream is sent.
    pub(super) fn linger(self: &Rc<Self>) {
        self.phase.set(Phase::Lingering);
        self.look_at_lingering(LINGER_FIRST);
    }

    fn look_at_lingering(self: &Rc<Self>, next: Duration) {
        let waits = self.peer.endpoint().is_ip()
            && self.input.get() != Input::Ended
            && next <= self.options().close_timeout
            // The end of stream itself counts as one byte.
            && self.network().net().outq(self.socket).is_ok_and(|unacked| unacked > 1);
        if !waits {
            return self.end_as_decided();
        }
        let timer = self.call_later(next, move |stream| stream.look_at_lingering(next * 2));
        self.times.set().closing = Some(timer);
    }

    pub(super) fn end_as_decided(&self) {
        if self.phase.get() == Phase::Lost {
            return;
        }
        let reason = self.reason.take();
        self.end(reason.map_or(CloseReason::Local, |reason| *reason));
    }

    /// The first reason counts.
    pub(super) fn settle_reason(&self, reason: CloseReason) {
        let settled = self.reason.take();
        let settled = settled.unwrap_or_else(|| Box::new(reason));
        self.reason.set(Some(settled));
    }

    /// Over, for `reason`. The rest happens in `lost`, later in the turn.
    pub(in crate::transport) fn end(&self, reason: CloseReason) {
        if self.phase.replace(Phase::Lost) == Phase::Lost {
            return;
        }
        self.decide(reason);
        if let Some(token) = self.token.get() {
            let lost = Failure::msg("the connection ended");
            self.network().reactor().lose(token, lost);
        }
    }

    /// A peer that does not fit, or breaks the session, is told so, and may reset a connection on
    /// which it has no more to say: why it was closed remains.
    fn decide(&self, reason: CloseReason) {
        let decided = self.reason.take();
        let is_settled = match decided.as_deref() {
            Some(CloseReason::Handshake(_)) => true,
            Some(CloseReason::Reset(_)) => matches!(reason, CloseReason::Reset(_)),
            _ => false,
        };
        let decided = decided.filter(|_| is_settled);
        let decided = decided.unwrap_or_else(|| Box::new(reason));
        self.reason.set(Some(decided));
    }

    /// Told once by the reactor; a loss that did not begin here is its shutdown.
    pub(super) fn lost(self: &Rc<Self>) {
        let by_reactor = self.phase.replace(Phase::Lost) != Phase::Lost;
        let decided = self.reason.take().filter(|_| !by_reactor);
        let reason = decided.map_or(CloseReason::Aborted, |reason| *reason);
        self.token.set(None);
        self.times.clear();
        // A Unix peer that is gone has thrown away what it had not read; a TCP peer's kernel has
        // acknowledged no more than before.
        if self.peer.endpoint().is_ip() || !matches!(reason, CloseReason::Reset(_)) {
            self.snapshot_acked();
        }
        self.drop_queued();
        let net = self.network().net();
        match reason {
            CloseReason::Aborted | CloseReason::TimedOut("close" | "answer") => {
                net.abort(self.socket);
            }
            _ => net.close(self.socket),
        }
        let permit = self.permit.take();
        if let (Some(permit), CloseReason::Handshake(error)) = (&permit, &reason) {
            permit.count_failed_handshake(error.fault());
        }
        drop(permit);
        let protocol = self.protocol.take();
        if let Some(told) = self.secure.as_ref().and_then(|it| it.take_dialler()) {
            // There was no connection, and the protocol of one that is dialled hears nothing.
            drop(protocol);
            return told(Err(&reason));
        }
        if let Some(protocol) = protocol {
            protocol.closed(&reason);
        }
    }
}

/// The first wait for a lingering connection; each further one is twice as long.
const LINGER_FIRST: Duration = Duration::from_millis(5);
