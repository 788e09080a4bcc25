//! What a source loses, told once an interval: datagrams that the kernel had no room for, events
//! cut, frames broken, connections turned away. Not a component.
//!
//! Each is counted where it happens; here only the difference since the last line is looked at,
//! [`INTERVAL`] after the first sign that there may be one. Any datagram is such a sign, because
//! the kernel tells of its drops only when it is asked. While nothing comes there is no timer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::pipeline::facts::{Facts, SocketFacts};
use crate::telemetry::events::SourceLosses;
use crate::time::{Cancel, Duration, Scheduler};
use crate::transport::{DatagramSocket, Limits};

/// Between two lines of one source, and from the first sign to the first line.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Datagrams.
    pub kernel_drops: u64,
    /// Events.
    pub truncated: u64,
    /// Connections, or datagrams.
    pub framing_errors: u64,
    /// Connections.
    pub refused: u64,
}

impl Lost {
    fn since(self, before: Lost) -> Lost {
        Lost {
            kernel_drops: self.kernel_drops.saturating_sub(before.kernel_drops),
            truncated: self.truncated.saturating_sub(before.truncated),
            framing_errors: self.framing_errors.saturating_sub(before.framing_errors),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

/// Who is asked, and when the next line is due.
#[derive(Default)]
pub struct Losses {
    sockets: RefCell<Vec<DatagramSocket>>,
    limits: RefCell<Option<Rc<Limits>>>,
    told: Cell<Lost>,
    timer: RefCell<Option<Box<dyn Cancel>>>,
    is_over: Cell<bool>,
}

impl Losses {
    /// The kernel's drops at `socket` are the source's.
    pub fn watch(&self, socket: &DatagramSocket) {
        self.sockets.borrow_mut().push(socket.clone());
    }

    /// Connections that `limits` turn away are the source's.
    pub fn limited_by(&self, limits: &Rc<Limits>) {
        *self.limits.borrow_mut() = Some(Rc::clone(limits));
    }

    /// Datagrams that the kernel has dropped at all sockets, as far as it tells.
    pub fn kernel_drops(&self) -> u64 {
        let sockets = self.sockets.borrow();
        let drops = sockets.iter().filter_map(DatagramSocket::kernel_drops);
        drops.sum()
    }

    /// Connections turned away.
    pub fn refused(&self) -> u64 {
        let limits = self.limits.borrow();
        let refused = limits.as_ref().map(|limits| limits.counts().refused());
        refused.into_iter().flatten().map(|(_, count)| count).sum()
    }

    /// Adds what is known of sockets and connections to what the source says of itself.
    pub fn add_to(&self, facts: &mut Facts) {
        let sockets = self.sockets.borrow();
        facts.sockets = sockets.iter().map(facts_of).collect();
        if let Some(limits) = &*self.limits.borrow() {
            let counts = limits.counts();
            facts.connections = Some(limits.open_count() as u64);
            facts.counts.push(("accepted", counts.admitted));
            facts.refused = counts.refused().to_vec();
            facts.failed_handshakes = counts.failed_handshakes();
        }
    }

    /// There may be something to tell: `look` is called when it is due. `look` tells by
    /// [`Losses::tell`].
    pub fn sign(&self, scheduler: &dyn Scheduler, look: impl FnOnce() + 'static) {
        if self.is_over.get() || self.timer.borrow().is_some() {
            return;
        }
        let timer = scheduler.call_after(INTERVAL, Box::new(look));
        *self.timer.borrow_mut() = Some(timer);
    }

    /// Logs what has been lost since the last line, if anything.
    pub fn tell(&self, component: &str, lost: Lost) {
        drop(self.timer.take());
        let Lost {
            kernel_drops,
            truncated,
            framing_errors,
            refused,
        } = lost.since(self.told.replace(lost));
        let record = SourceLosses {
            component,
            kernel_drops,
            truncated,
            framing_errors,
            refused,
        };
        if kernel_drops + truncated + framing_errors + refused > 0 {
            record.log();
        }
    }

    /// The source has stopped: no line is due any more.
    pub fn stop(&self) {
        self.is_over.set(true);
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

fn facts_of(socket: &DatagramSocket) -> SocketFacts {
    let address = socket.local_address();
    let scheme = if address.is_ip() { "udp" } else { "unixgram" };
    SocketFacts {
        address: format!("{scheme}://{address}"),
        receive_buffer_bytes: socket.receive_buffer_bytes().map(|bytes| bytes as u64),
        kernel_drops: socket.kernel_drops(),
    }
}
