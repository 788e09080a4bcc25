//! A transport connection as hyper reads and writes it.
//!
//! The connection's protocol ([`Plug`]) and hyper's end ([`Io`]) share a [`Wire`]. What arrives
//! waits in a queue; at [`QUEUE_BYTES_MAX`] the connection is paused until hyper has taken it,
//! so a body that nobody reads stays in the peer. Writes go to the connection's own queue,
//! and wait while that is above its high mark. A flush has nothing to do: what is queued leaves
//! at the end of the turn.
//!
//! The peer's end of stream is an end of reading only; who drives hyper decides when the
//! connection is closed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::deferred::Failure;
use crate::transport::{CloseReason, Connection, Protocol};

/// What both ends know of the connection.
#[derive(Default)]
pub(super) struct Wire {
    connection: RefCell<Option<Connection>>,
    incoming: RefCell<VecDeque<Bytes>>,
    queued_bytes: Cell<usize>,
    received_bytes: Cell<u64>,
    end: RefCell<Option<End>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    driver: RefCell<Option<Waker>>,
}

/// How far the connection is over.
enum End {
    /// The peer's stream has ended; we may still write.
    Eof,
    /// The connection is gone, and why.
    Lost(String),
}

impl Wire {
    /// The connection, once there is one.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.connection.borrow().clone()
    }

    /// Bytes received since the start.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes.get()
    }

    /// Whether the connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        matches!(&*self.end.borrow(), Some(End::Lost(_)))
    }

    /// Whom to wake when something happens that hyper does not wait for.
    pub(super) fn set_driver(&self, waker: &Waker) {
        keep(&self.driver, waker);
    }

    /// Has the driver look again.
    pub(super) fn wake_driver(&self) {
        wake(&self.driver);
    }

    /// hyper's end.
    pub(super) fn io(self: &Rc<Self>) -> Io {
        Io(Rc::clone(self))
    }

    /// Notes the connection; for the protocol around a [`Plug`].
    pub(super) fn attach(&self, connection: &Connection) {
        *self.connection.borrow_mut() = Some(connection.clone());
    }

    fn push(&self, connection: &Connection, bytes: Bytes) {
        let queued = self.queued_bytes.get() + bytes.len();
        self.queued_bytes.set(queued);
        let received = self.received_bytes.get() + bytes.len() as u64;
        self.received_bytes.set(received);
        self.incoming.borrow_mut().push_back(bytes);
        if queued >= QUEUE_BYTES_MAX {
            connection.pause();
        }
        wake(&self.reader);
    }

    fn over(&self, end: End) {
        *self.end.borrow_mut() = Some(end);
        wake(&self.reader);
        wake(&self.writer);
        wake(&self.driver);
    }

    /// Moves what fits into `buffer`; says whether there was anything.
    fn take(&self, mut buffer: ReadBufCursor<'_>) -> bool {
        let mut taken = 0;
        let mut incoming = self.incoming.borrow_mut();
        while let Some(front) = incoming.front_mut().filter(|_| buffer.remaining() > 0) {
            let bytes = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..bytes]);
            front.advance(bytes);
            taken += bytes;
            if front.is_empty() {
                incoming.pop_front();
            }
        }
        drop(incoming);
        self.queued_bytes.set(self.queued_bytes.get() - taken);
        if self.queued_bytes.get() == 0 {
            self.connection
                .borrow()
                .as_ref()
                .inspect(|connection| connection.resume());
        }
        taken > 0
    }
}

fn keep(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut place = place.borrow_mut();
    match &mut *place {
        Some(known) => known.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    let waker = place.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The connection's protocol.
pub(super) struct Plug(pub(super) Rc<Wire>);

impl Protocol for Plug {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.0.attach(connection);
        Ok(())
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.0.push(connection, bytes);
        Ok(())
    }

    fn drained(&mut self, _: &Connection) -> Result<(), Failure> {
        wake(&self.0.writer);
        Ok(())
    }

    fn eof(&mut self, _: &Connection) -> Result<(), Failure> {
        self.0.over(End::Eof);
        Ok(())
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        self.0.over(End::Lost(reason.to_string()));
        drop(self.0.connection.borrow_mut().take());
    }
}

/// hyper's end of a connection.
pub(super) struct Io(Rc<Wire>);

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.take(buffer) {
            return Poll::Ready(Ok(()));
        }
        match &*self.0.end.borrow() {
            // Nothing was put in: that is how the end of the stream is told.
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::Lost(why)) => Poll::Ready(Err(lost(why))),
            None => {
                keep(&self.0.reader, context.waker());
                Poll::Pending
            }
        }
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(End::Lost(why)) = &*self.0.end.borrow() {
            return Poll::Ready(Err(lost(why)));
        }
        let connection = self.0.connection();
        let Some(connection) = connection else {
            return Poll::Ready(Err(lost("there is no connection")));
        };
        if connection.is_full() {
            keep(&self.0.writer, context.waker());
            return Poll::Pending;
        }
        let part = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        match connection.write(Bytes::copy_from_slice(part)) {
            Ok(_) => Poll::Ready(Ok(part.len())),
            Err(error) => Poll::Ready(Err(lost(&error.to_string()))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of stream goes out when the driver closes the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn lost(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why.to_owned())
}

/// Bytes that wait for hyper before the connection is paused. One read of the transport may
/// bring more: the queue is at most this and one chunk.
const QUEUE_BYTES_MAX: usize = 64 << 10;

/// Bytes copied into the connection's queue at once.
const WRITE_BYTES_MAX: usize = 256 << 10;
