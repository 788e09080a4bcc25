//! An in-memory socket pair: the smallest thing that a simulated poller can watch.
//!
//! Like a pair of stream sockets: bytes in order, a limited buffer each way, `WouldBlock`, an end
//! of file after the last byte, `BrokenPipe` to who writes to nobody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::poller::SimIo;
use crate::reactor::Pollable;

/// Bytes that one direction holds.
const CAPACITY: usize = 256 * 1024;

/// One end; dropping it closes it.
pub struct SimStream {
    io: SimIo,
    id: u64,
    peer_id: u64,
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    is_shut: bool,
    reader_gone: bool,
}

/// Two ends, connected to each other.
pub fn pipe(io: &SimIo) -> (SimStream, SimStream) {
    let (first, second) = (io.open(), io.open());
    let (there, back) = (Rc::default(), Rc::default());
    let end = |id, peer_id, incoming: &Rc<_>, outgoing: &Rc<_>| SimStream {
        io: io.clone(),
        id,
        peer_id,
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
    };
    io.set_writable(first);
    io.set_writable(second);
    (
        end(first, second, &back, &there),
        end(second, first, &there, &back),
    )
}

impl SimStream {
    /// What the reactor watches.
    pub fn pollable(&self) -> Pollable {
        Pollable::Sim(self.id)
    }

    /// Takes bytes; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when there are none yet.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.incoming.borrow_mut();
        if pipe.bytes.is_empty() {
            let end = pipe.is_shut;
            return end.then_some(0).ok_or(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(pipe.bytes.len());
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..count)) {
            *to = from;
        }
        self.io.set_writable(self.peer_id);
        Ok(count)
    }

    /// Gives as many bytes as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` without room, `BrokenPipe` when nobody will read.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.outgoing.borrow_mut();
        if pipe.reader_gone || pipe.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(CAPACITY - pipe.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..count]);
        self.io.set_readable(self.peer_id);
        Ok(count)
    }

    /// Writes no more; the peer reads the end after what is on its way.
    pub fn shutdown_write(&self) {
        self.outgoing.borrow_mut().is_shut = true;
        self.io.set_readable(self.peer_id);
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.outgoing.borrow_mut().is_shut = true;
        self.incoming.borrow_mut().reader_gone = true;
        self.io.set_hangup(self.peer_id);
        self.io.close(self.id);
    }
}
