//! The sockets of one host (or process) of the simulated network, which may end with it.
//!
//! Who takes a [`SimNet`] of its own by [`SimNet::host`] can be made to end at any moment: its
//! sockets close as the kernel of a killed process closes them, or vanish with their machine.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::SimNet;
use crate::transport::{Net, SocketId};

/// Who has made sockets.
#[derive(Default)]
pub(super) struct Host {
    /// All that it ever made; ids are never given twice.
    sockets: RefCell<Vec<SocketId>>,
    has_ended: Cell<bool>,
}

impl SimNet {
    /// The same network for another host, with no sockets yet.
    pub fn host(&self) -> SimNet {
        SimNet(Rc::clone(&self.0), Rc::default())
    }

    /// The host's process is killed: its connections end in order, what was written arrives.
    pub fn kill_host(&self) {
        self.end(Net::close);
    }

    /// The host loses its power: what it has sent and has not arrived never does, and its peers
    /// find their connections reset.
    pub fn crash_host(&self) {
        self.end(Net::abort);
    }

    fn end(&self, end: impl Fn(&SimNet, SocketId)) {
        self.1.has_ended.set(true);
        let sockets = self.1.sockets.take();
        sockets.into_iter().for_each(|socket| end(self, socket));
    }

    /// Notes a new socket of this host.
    pub(super) fn own(&self, socket: SocketId) -> SocketId {
        self.1.sockets.borrow_mut().push(socket);
        socket
    }

    /// A host that has ended makes no sockets.
    pub(super) fn check_host(&self) -> io::Result<()> {
        match self.1.has_ended.get() {
            true => Err(ErrorKind::NetworkDown.into()),
            false => Ok(()),
        }
    }
}
