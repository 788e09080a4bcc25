//! One session without IO: ciphertext in and plaintext out, plaintext in and ciphertext out.
//!
//! What was decrypted before something went wrong is given out first; then the failure, again
//! and again. Plaintext is sealed into records of [`RECORD_BYTES`], each with its positions in
//! [`Marks`]. Nothing is sealed before the handshake is complete, and nothing behind the
//! close_notify.
//!
//! Bounded: the session keeps one incomplete record, or 64 KiB of a handshake; what was decrypted
//! is taken out at once, and what was sealed is in the outbox that the caller bounds.

use std::io::{ErrorKind, Read as _, Write as _};

use bytes::Bytes;
use rustls::{Connection, Error};

use super::explain::{self, HandshakeError, Opening};
use super::marks::Marks;
use crate::transport::outbox::Outbox;

/// A session at one end of a connection.
pub struct Layer {
    session: Connection,
    opening: Opening,
    /// What broke the session.
    failure: Option<Error>,
    /// The handshake is complete, and was said to be.
    is_secured: bool,
    /// Our close_notify is on its way.
    has_closed: bool,
    /// The key has sealed all that it may.
    is_exhausted: bool,
    marks: Marks,
}

/// What there is to do after some ciphertext was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Get more ciphertext.
    Receive,
    /// Call again: there is more in what was given, or about it.
    Again,
    /// The handshake is complete. Call again.
    Secured,
    /// The peer has said close_notify: its stream is whole.
    Ended,
}

impl Layer {
    /// A session that has not begun.
    pub fn new(session: impl Into<Connection>) -> Layer {
        let session = session.into();
        Layer {
            opening: Opening::new(matches!(session, Connection::Server(_))),
            session,
            failure: None,
            is_secured: false,
            has_closed: false,
            is_exhausted: false,
            marks: Marks::default(),
        }
    }

    /// Whether the handshake is complete.
    pub fn is_secured(&self) -> bool {
        self.is_secured
    }

    /// Whether the peer has sent a byte.
    pub fn has_begun(&self) -> bool {
        self.opening.has_begun()
    }

    /// Takes ciphertext off the front of `wire` and puts plaintext at the front of `into`, which
    /// must not be empty; says how much, and what is next.
    ///
    /// # Errors
    /// The session is broken; an alert for the peer waits to be written.
    pub fn read(
        &mut self,
        wire: &mut &[u8],
        into: &mut [u8],
    ) -> Result<(usize, Next), HandshakeError> {
        let mut filled = 0;
        loop {
            // Before anything of the stream, or that is wrong in it, which may have come with the
            // end of the handshake.
            if !self.is_secured && !self.session.is_handshaking() {
                self.is_secured = true;
                return Ok((filled, Next::Secured));
            }
            match self.session.reader().read(&mut into[filled..]) {
                Ok(0) if filled < into.len() => return Ok((filled, Next::Ended)),
                // What follows may be the end, which has no bytes of its own.
                Ok(bytes @ 1..) => {
                    filled += bytes;
                    continue;
                }
                Ok(_) => {}
                Err(error) => debug_assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if filled == into.len() {
                return Ok((filled, Next::Again));
            }
            if let Some(error) = &self.failure {
                return match filled {
                    0 => Err(explain::session(error, &self.opening, self.is_secured)),
                    _ => Ok((filled, Next::Again)),
                };
            }
            if wire.is_empty() {
                return Ok((filled, Next::Receive));
            }
            self.take(wire);
        }
    }

    /// One go at the ciphertext. Where it stands still without an error the session is broken.
    fn take(&mut self, wire: &mut &[u8]) {
        let before = *wire;
        let taken = match self.session.read_tls(wire) {
            Ok(taken) => {
                self.opening.saw(&before[..taken]);
                taken
            }
            Err(error) => {
                self.failure = Some(Error::General(error.to_string()));
                return;
            }
        };
        match self.session.process_new_packets() {
            Ok(state) => {
                let stands_still = taken == 0 && state.plaintext_bytes_to_read() == 0;
                if stands_still && !state.peer_has_closed() {
                    self.failure = Some(Error::General("no room for a record".into()));
                }
            }
            Err(error) => self.failure = Some(error),
        }
    }

    /// Whether there is something to seal or to send that is not the caller's: a handshake, an
    /// alert, a new key.
    pub fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Moves what is to be sent to `wire`, until that has [`SEALED_BYTES`]; with `close` our
    /// close_notify follows the last of `plain`.
    ///
    /// A key seals so many records and no more (RFC 8446 section 5.5). TLS 1.3 takes a new one
    /// then; what TLS 1.2 has no key for stays in `plain`, see [`Layer::is_exhausted`].
    pub fn seal(&mut self, plain: &mut Outbox, wire: &mut Outbox, close: bool) {
        let room = SEALED_BYTES.saturating_sub(wire.queued_bytes());
        let base = wire.end().0;
        let mut sealed = Vec::new();
        self.send(&mut sealed);
        let may_seal = self.is_secured && !self.has_closed;
        while may_seal && !self.is_exhausted && sealed.len() < room && !plain.is_empty() {
            if sealed.capacity() == sealed.len() {
                sealed.reserve(plain.queued_bytes().min(room) + RECORD_OVERHEAD_BYTES);
            }
            let writer =
                |slices: &[std::io::IoSlice<'_>]| self.session.writer().write_vectored(slices);
            // It takes what was given, for its own queue is empty; a broken one takes nothing.
            let Ok(taken @ 1..) = plain.with_front(RECORD_BYTES, writer) else {
                break;
            };
            let before = sealed.len();
            self.send(&mut sealed);
            // The library throws away what it must not seal, and says close_notify in its place:
            // the peer would take what is cut for whole.
            if sealed.get(before) != Some(&APPLICATION_DATA) {
                sealed.truncate(before);
                self.is_exhausted = true;
                break;
            }
            plain.advance(taken);
            let end = base + sealed.len() as u64;
            self.marks.push(end, plain.written().0);
        }
        if close && plain.is_empty() && !self.has_closed {
            self.has_closed = true;
            if self.failure.is_none() {
                self.session.send_close_notify();
            }
            self.send(&mut sealed);
        }
        wire.push(Bytes::from(sealed));
    }

    fn send(&mut self, sealed: &mut Vec<u8>) {
        while self.session.wants_write() {
            // A vector takes everything.
            if !matches!(self.session.write_tls(sealed), Ok(1..)) {
                return;
            }
        }
    }

    /// Whether nothing can be sealed any more: the connection has to be made anew.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Plaintext that is whole in so much ciphertext.
    pub fn plain_at(&self, wire: u64) -> u64 {
        self.marks.plain_at(wire)
    }

    /// Plaintext that is whole in so much ciphertext, which has arrived.
    pub fn arrived(&mut self, wire: u64) -> u64 {
        self.marks.reach(wire)
    }

    /// Whether so many records wait to be known as arrived that somebody should ask.
    pub fn is_crowded(&self) -> bool {
        self.marks.is_crowded()
    }

    /// Why there is no handshake after all the time there was for it.
    pub fn overdue(&self) -> HandshakeError {
        explain::overdue(&self.opening)
    }

    /// Why there is no handshake although the peer has ended its stream.
    pub fn broken_off(&self) -> HandshakeError {
        explain::broken_off(&self.opening)
    }
}

/// The type of records with plaintext of ours in them (RFC 5246 section 6.2.1); under TLS 1.3 of
/// all that are encrypted (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;

/// Plaintext in one record, at most (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// What a record has beside its plaintext, at most, for one in so many bytes.
const RECORD_OVERHEAD_BYTES: usize = 4 << 10;

/// Ciphertext that waits for the socket: enough for one write, no more, so that what is queued
/// stays in the form in which it was given.
const SEALED_BYTES: usize = 256 << 10;
