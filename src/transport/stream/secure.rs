//! The TLS layer of one stream: the handshake, and bytes on their way through it.
//!
//! The protocol is told nothing before the handshake is complete; one that was dialled is never
//! told of a connection that came to nothing, whoever dialled is. An alert that explains a
//! failure to the peer is still sent. Closing sends close_notify behind what is queued; an end
//! of stream without the peer's close_notify is a cut, like a reset.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::{Phase, Stream};
use crate::time::Duration;
use crate::transport::connection::{CloseReason, Connection};
use crate::transport::outbox::{Mark, Outbox};
use crate::transport::tls::{HandshakeError, Layer, Next};

/// Whoever dialled, and hears what came of it: the connection, or why there is none.
pub type OnSecured = Box<dyn FnOnce(Result<Connection, &CloseReason>)>;

/// TLS on one connection.
pub struct Secure {
    layer: RefCell<Layer>,
    /// What is sealed and not yet written.
    pub(super) wire: RefCell<Outbox>,
    dialler: Cell<Option<OnSecured>>,
    /// Of the handshake, where nobody else keeps it.
    timeout: Option<Duration>,
}

impl Secure {
    /// The end that was dialled, with a limit for the handshake.
    pub fn accepted(layer: Layer, timeout: Duration) -> Box<Secure> {
        Secure::new(layer, None, Some(timeout))
    }

    /// The end that has dialled. Whoever did keeps the limit.
    pub fn dialled(layer: Layer, dialler: OnSecured) -> Box<Secure> {
        Secure::new(layer, Some(dialler), None)
    }

    fn new(layer: Layer, dialler: Option<OnSecured>, timeout: Option<Duration>) -> Box<Secure> {
        Box::new(Secure {
            layer: RefCell::new(layer),
            wire: RefCell::default(),
            dialler: Cell::new(dialler),
            timeout,
        })
    }

    /// Seals what there is room for; says whether anything waits to be written.
    pub(super) fn seal(&self, plain: &RefCell<Outbox>, close: bool) -> bool {
        let mut wire = self.wire.borrow_mut();
        let mut layer = self.layer.borrow_mut();
        layer.seal(&mut plain.borrow_mut(), &mut wire, close);
        !wire.is_empty()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.wire.borrow().queued_bytes()
    }

    /// Plaintext that our kernel has taken whole.
    pub(super) fn written(&self) -> Mark {
        let written = self.wire.borrow().written().0;
        Mark(self.layer.borrow().plain_at(written))
    }

    /// Plaintext that has arrived whole, where so many bytes on the wire have not.
    pub(super) fn arrived(&self, unacked: u64) -> u64 {
        let written = self.wire.borrow().written().0;
        let arrived = written.saturating_sub(unacked);
        self.layer.borrow_mut().arrived(arrived)
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.layer.borrow().is_crowded()
    }

    pub(super) fn take_dialler(&self) -> Option<OnSecured> {
        self.dialler.take()
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.layer.borrow().is_exhausted()
    }

    fn is_secured(&self) -> bool {
        self.layer.borrow().is_secured()
    }
}

impl Stream {
    pub(super) fn begin_handshake(self: &Rc<Self>) {
        let Some(secure) = &self.secure else { return };
        if let Some(limit) = secure.timeout {
            let timer = self.call_later(limit, |stream| stream.handshake_is_overdue());
            self.times.set().deadline = Some(timer);
        }
        if secure.layer.borrow().wants_write() {
            self.schedule_flush();
        }
    }

    fn handshake_is_overdue(self: &Rc<Self>) {
        let overdue = self.secure.as_ref().map(|it| it.layer.borrow().overdue());
        if let Some(error) = overdue {
            self.close(CloseReason::Handshake(error));
        }
    }

    /// Everything that `wire` completes is delivered, whatever the protocol does meanwhile, as
    /// long as it does not close.
    pub(super) fn decrypt(self: &Rc<Self>, secure: &Secure, mut wire: &[u8]) {
        loop {
            if !matches!(self.phase.get(), Phase::Open | Phase::Finishing) {
                return;
            }
            let mut chunk = self.network().chunks().lend();
            let read = secure.layer.borrow_mut().read(&mut wire, &mut chunk);
            let next = match read {
                Ok((0, next)) => next,
                Ok((bytes, next)) => {
                    self.deliver(chunk.keep(bytes));
                    next
                }
                Err(error) => return self.broken_session(secure, error),
            };
            match next {
                Next::Again => {}
                Next::Secured => self.secured(secure),
                Next::Receive => break,
                Next::Ended if secure.is_secured() => {
                    self.ended();
                    break;
                }
                // A close_notify in the middle of the handshake.
                Next::Ended => {
                    let error = secure.layer.borrow().broken_off();
                    return self.end(CloseReason::Handshake(error));
                }
            }
        }
        if secure.layer.borrow().wants_write() {
            self.schedule_flush();
        }
    }

    /// The handshake is complete: now there is a connection.
    fn secured(self: &Rc<Self>, secure: &Secure) {
        drop(self.times.of_set(|times| times.deadline.take()));
        self.begin();
        if let Some(told) = secure.take_dialler() {
            let stream = Rc::clone(self);
            told(Ok(Connection { stream }));
        }
    }

    /// The session has failed. The alert that says so goes out, and nothing else.
    fn broken_session(self: &Rc<Self>, secure: &Secure, error: HandshakeError) {
        let reason = match secure.is_secured() {
            false => CloseReason::Handshake(error),
            true => {
                let text = format!("the TLS session broke: {error}");
                CloseReason::Reset(io::Error::new(ErrorKind::InvalidData, text))
            }
        };
        if secure.is_secured() {
            self.snapshot_acked();
        }
        self.outbox.borrow_mut().clear();
        self.close(reason);
    }

    /// The peer's end of stream without its close_notify: what it meant to send may be cut.
    pub(super) fn cut(self: &Rc<Self>, secure: &Secure) {
        let reason = match (secure.is_secured(), secure.layer.borrow().has_begun()) {
            (true, _) => {
                let text = "the peer ended the connection without close_notify";
                CloseReason::Reset(io::Error::new(ErrorKind::UnexpectedEof, text))
            }
            // A probe of a load balancer: it wanted to know that the port is open.
            (false, false) if secure.timeout.is_some() => CloseReason::Eof,
            (false, _) => CloseReason::Handshake(secure.layer.borrow().broken_off()),
        };
        self.end(reason);
    }
}
