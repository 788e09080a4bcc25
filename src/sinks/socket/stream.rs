//! The stream half of the `socket` sink: one connection, parts in order, settled by marks.
//!
//! Parts that are written wait in `sent` with the mark at which each ends. The peer's kernel is
//! asked how far it has come after every write, and while something is unacknowledged after 1,
//! 2, 4 … 100 ms; when nothing is, there is no timer. When the connection is lost, what was
//! acknowledged is settled frame by frame, and the rest goes to the head of the line.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{Deferred, Failure};
use crate::pipeline::encode::Output;
use crate::pipeline::part::Part;
use crate::pipeline::port::Inlet;
use crate::reactor::{Handle, TimerGuard};
use crate::sinks::outage::Outage;
use crate::telemetry::events::{ConnectFailed, Connected, ConnectionClosed};
use crate::time::Duration;
use crate::transport::{
    Client, ClientOptions, CloseReason, Connection, Dialler, Mark, Network, Protocol,
};

use super::How;

/// First and longest pause between two looks at what is acknowledged.
const ACK_LOOK_MIN: Duration = Duration::from_millis(1);
const ACK_LOOK_MAX: Duration = Duration::from_millis(100);

/// Sends an inlet's parts over a connection that is kept up.
pub(super) struct Sender {
    line: Rc<Line>,
    client: Client,
}

impl Sender {
    /// Begins to connect and to send.
    pub(super) fn start(
        network: &Network,
        options: ClientOptions,
        how: How,
        inlet: Inlet,
    ) -> Sender {
        let address = options
            .addresses
            .iter()
            .map(|a| a.to_string())
            .collect::<Vec<_>>();
        let line = Rc::new_cyclic(|this| Line {
            this: this.clone(),
            component: format!("sink.{}", inlet.name()),
            address: address.join(", "),
            reactor: network.reactor().clone(),
            inlet,
            how,
            output: RefCell::new(Output::new()),
            connection: RefCell::default(),
            written_to: Cell::new(Mark(0)),
            acked_to: Cell::new(Mark(0)),
            sent: RefCell::default(),
            outage: Outage::default(),
            again: RefCell::default(),
            look: RefCell::default(),
            look_delay: Cell::new(ACK_LOOK_MIN),
        });
        let weak = Rc::downgrade(&line);
        line.inlet.on_ready(move || {
            if let Some(line) = weak.upgrade() {
                line.pump();
            }
        });
        let client = network.client(options, Rc::new(Dial(Rc::clone(&line))));
        client.start();
        Sender { line, client }
    }

    /// Connections that stand: one, or none.
    pub(super) fn connections(&self) -> u64 {
        u64::from(self.line.connection.borrow().is_some())
    }

    /// Closes the connection; what is not settled by now goes back to the port.
    pub(super) fn stop(self) -> Deferred<()> {
        let Sender { line, client } = self;
        client.stop().add_both(move |_| {
            line.give_back();
            // Whoever drops the client drops its promise to say when it has stopped.
            drop(client);
        })
    }
}

/// What the sender, its connections and its timer share.
struct Line {
    this: Weak<Line>,
    component: String,
    address: String,
    reactor: Handle,
    inlet: Inlet,
    how: How,
    output: RefCell<Output>,
    connection: RefCell<Option<Connection>>,
    /// Where the connection's output ends, queued bytes included.
    written_to: Cell<Mark>,
    /// How far the peer's kernel had come at the last look.
    acked_to: Cell<Mark>,
    /// Written, not acknowledged: in order, each with where it begins and ends.
    sent: RefCell<VecDeque<Sent>>,
    /// To be sent before anything new: left over from a lost connection.
    again: RefCell<VecDeque<Part>>,
    look: RefCell<Option<TimerGuard>>,
    look_delay: Cell<Duration>,
    outage: Outage,
}

struct Sent {
    part: Part,
    begin: Mark,
    end: Mark,
}

impl Line {
    /// Writes parts until the connection is full or nothing is left.
    fn pump(&self) {
        let Some(connection) = self.connection.borrow().clone() else {
            return;
        };
        let mut wrote = false;
        while !connection.is_full() && connection.is_open() {
            let Some(part) = self.next() else { break };
            self.write(&connection, part);
            wrote = true;
        }
        if wrote {
            connection.flush();
        }
        self.settle();
    }

    fn next(&self) -> Option<Part> {
        let again = self.again.borrow_mut().pop_front();
        again.or_else(|| self.inlet.next())
    }

    fn write(&self, connection: &Connection, part: Part) {
        let begin = self.written_to.get();
        let pieces = self.encode(&part);
        match connection.write_vectored(pieces) {
            Ok(end) => {
                self.written_to.set(end);
                self.sent.borrow_mut().push_back(Sent { part, begin, end });
            }
            Err(_) => self.again.borrow_mut().push_front(part),
        }
    }

    fn encode(&self, part: &Part) -> Vec<Bytes> {
        let mut output = self.output.borrow_mut();
        self.how
            .encoder
            .encode(part.batch(), part.events(), self.how.frame, &mut output);
        output.take()
    }

    /// Settles what the peer's kernel has, and looks again later if that is not all.
    fn settle(&self) {
        let acked = self.connection.borrow().as_ref().map(Connection::acked);
        // A planted bug, for the simulator to find: what our kernel has taken has not arrived.
        #[cfg(sim_bug = "early_delivered")]
        let acked = acked.max(self.connection.borrow().as_ref().map(Connection::written));
        let Some(acked) = acked else { return };
        // A peer that takes bytes is looked at soon again, even while it has no whole part.
        let progress = self.acked_to.replace(acked) < acked;
        while let Some(sent) = self.pop_acked(acked) {
            sent.part.delivered();
        }
        if self.sent.borrow().is_empty() {
            self.look.borrow_mut().take();
            return;
        }
        if progress {
            self.look_delay.set(ACK_LOOK_MIN);
        }
        if progress || self.look.borrow().is_none() {
            self.look_later();
        }
    }

    fn pop_acked(&self, acked: Mark) -> Option<Sent> {
        let mut sent = self.sent.borrow_mut();
        sent.pop_front_if(|first| first.end <= acked)
    }

    fn look_later(&self) {
        let delay = self.look_delay.get();
        self.look_delay.set((delay * 2).min(ACK_LOOK_MAX));
        let weak = self.this.clone();
        let timer = self.reactor.call_later(delay, move |_| {
            if let Some(line) = weak.upgrade() {
                line.look.borrow_mut().take();
                line.pump();
            }
        });
        *self.look.borrow_mut() = Some(timer.guard());
    }

    /// The connection is gone: what is known to have arrived is settled, the rest is sent again.
    fn lost(&self) {
        let connection = self.connection.borrow_mut().take();
        self.look.borrow_mut().take();
        self.look_delay.set(ACK_LOOK_MIN);
        let Some(connection) = connection else { return };
        let acked = connection.acked();
        while let Some(sent) = self.pop_acked(acked) {
            sent.part.delivered();
        }
        let rest: Vec<Sent> = self.sent.borrow_mut().drain(..).collect();
        for mut sent in rest.into_iter().rev() {
            self.count_arrived(&mut sent, acked);
            self.again.borrow_mut().push_front(sent.part);
        }
    }

    /// Encodes the part that the acknowledged bytes end in once more, event by event, to see
    /// how many whole frames of it have arrived: those are not sent again.
    fn count_arrived(&self, sent: &mut Sent, acked: Mark) {
        let mut arrived_bytes = acked.0.saturating_sub(sent.begin.0);
        let mut output = self.output.borrow_mut();
        let mut whole = 0;
        for event in sent.part.events() {
            let one = std::iter::once(event);
            self.how
                .encoder
                .encode(sent.part.batch(), one, self.how.frame, &mut output);
            let bytes: u64 = output.take().iter().map(|piece| piece.len() as u64).sum();
            if bytes > arrived_bytes {
                break;
            }
            arrived_bytes -= bytes;
            whole += 1;
        }
        sent.part.deliver_some(whole);
    }

    fn give_back(&self) {
        let sent: Vec<Sent> = self.sent.borrow_mut().drain(..).collect();
        let again: Vec<Part> = self.again.borrow_mut().drain(..).collect();
        let sent = sent.into_iter().map(|sent| sent.part);
        self.inlet.give_back(sent.chain(again));
    }
}

/// Makes a protocol for each attempt.
struct Dial(Rc<Line>);

impl Dialler for Dial {
    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(Wire(Rc::clone(&self.0)))
    }

    fn failed(&self, failure: &Failure, retry_in: Option<Duration>) {
        let line = &self.0;
        let why = failure.to_string();
        line.inlet.set_trouble(Some(&why));
        if let Some(delay) = retry_in {
            line.inlet.tries_again_in(delay);
        }
        let record = ConnectFailed {
            component: &line.component,
            address: &line.address,
            error: failure,
            retry_in: retry_in.unwrap_or_default(),
            is_news: line.outage.failed(&why),
        };
        record.log();
    }
}

/// One connection to the collector.
struct Wire(Rc<Line>);

impl Protocol for Wire {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        let line = &self.0;
        line.inlet.set_trouble(None);
        Connected {
            component: &line.component,
            address: connection.peer(),
            failures: line.outage.over(),
        }
        .log();
        *line.connection.borrow_mut() = Some(connection.clone());
        line.written_to.set(Mark(0));
        line.acked_to.set(Mark(0));
        line.pump();
        Ok(())
    }

    /// A collector has nothing to say; whatever it says is not kept.
    fn received(&mut self, _: &Connection, _: Bytes) -> Result<(), Failure> {
        Ok(())
    }

    fn drained(&mut self, _: &Connection) -> Result<(), Failure> {
        self.0.pump();
        Ok(())
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        // Nothing new is written to a collector that has ended its stream; what the kernel has
        // taken already may still arrive.
        connection.close();
        Ok(())
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        let line = &self.0;
        let is_fault = !matches!(reason, CloseReason::Local);
        let record = ConnectionClosed {
            component: &line.component,
            peer: &line.address,
            reason,
            is_fault,
        };
        record.log();
        line.lost();
    }
}
