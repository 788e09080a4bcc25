//! The stream half of the `socket` sink: one connection, parts in order, settled by marks.
//!
//! Parts that are written wait in `sent` with the mark at which each ends. The peer's kernel is
//! asked how far it has come after every write, and while something is unacknowledged after 1,
//! 2, 4 … 100 ms; when nothing is, there is no timer. What was acknowledged is delivered, and
//! kept for a while (`replay`). When the connection is lost, what is kept is sent again unless
//! the peer had ended its stream, which it does when it has read everything; and what was not
//! acknowledged is sent again in any case, from the first frame that had not arrived whole.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Promise};
use crate::event::{Batch, Event};
use crate::pipeline::encode::Output;
use crate::pipeline::part::Part;
use crate::pipeline::port::Inlet;
use crate::reactor::{Handle, TimerGuard};
use crate::sinks::outage::Outage;
use crate::telemetry::events::{ConnectFailed, Connected, ConnectionClosed, ReplayShort, Replayed};
use crate::time::Duration;
use crate::transport::{
    Client, ClientOptions, CloseReason, Connection, Dialler, Mark, Network, Protocol,
};

use super::How;
use super::replay::{Item, Load, Tail};

/// First and longest pause between two looks at what is acknowledged.
const ACK_LOOK_MIN: Duration = Duration::from_millis(1);
const ACK_LOOK_MAX: Duration = Duration::from_millis(100);

/// A peer that takes nothing is waited for while it answers the kernel's probes. They are up to
/// 120 s apart (TCP_RTO_MAX).
const ANSWER_MAX: Duration = Duration::from_secs(150);

/// A collector that has ended its stream has so long to take what was written before.
const LAST_BYTES_MAX: Duration = Duration::from_secs(10);

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
            tail: Tail::new(how.replay, inlet.keep_bytes_max()),
            inlet,
            how,
            output: RefCell::new(Output::new()),
            connection: RefCell::default(),
            written_to: Cell::new(Mark(0)),
            acked_to: Cell::new(Mark(0)),
            sent: RefCell::default(),
            again: RefCell::default(),
            repeated: Cell::new(0),
            has_ended: Cell::new(false),
            is_patient: Cell::new(false),
            on_replayed: RefCell::default(),
            outage: Outage::default(),
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

    /// Closes the connection; what is not settled by now goes back to the port. What is settled
    /// and was being sent again goes out first: nobody else knows of it. That is bounded by the
    /// limit of the daemon's stop.
    pub(super) fn stop(self) -> Deferred<()> {
        let Sender { line, client } = self;
        let (promise, replayed) = Deferred::new();
        *line.on_replayed.borrow_mut() = Some(promise);
        line.tell_replayed();
        replayed
            .add_both(move |_| {
                let stopped = client.stop();
                // Whoever drops the client drops its promise to say when it has stopped.
                stopped.add_both(move |_| drop(client))
            })
            .add_both(move |_| line.give_back())
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
    /// Acknowledged, and perhaps not read.
    tail: Tail,
    /// To be sent before anything new: left over from a lost connection.
    again: RefCell<VecDeque<Item>>,
    /// Events sent again that had been acknowledged, until they are logged.
    repeated: Cell<u64>,
    /// The peer has ended its stream: what it acknowledged it has read.
    has_ended: Cell<bool>,
    /// The peer takes nothing, and the kernel is told to bear with it.
    is_patient: Cell<bool>,
    /// Whoever stops this waits until nothing that is settled is on its way again.
    on_replayed: RefCell<Option<Promise<()>>>,
    look: RefCell<Option<TimerGuard>>,
    look_delay: Cell<Duration>,
    outage: Outage,
}

struct Sent {
    item: Item,
    /// What was written of it.
    pieces: Vec<Bytes>,
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
        while !self.has_ended.get() && !connection.is_full() && connection.is_open() {
            let Some(item) = self.next() else { break };
            self.write(&connection, item);
            wrote = true;
        }
        if wrote {
            connection.flush();
        }
        self.settle();
    }

    fn next(&self) -> Option<Item> {
        let item = self.again.borrow_mut().pop_front();
        item.or_else(|| self.inlet.next().map(Item::new))
    }

    fn write(&self, connection: &Connection, mut item: Item) {
        let begin = self.written_to.get();
        let pieces = self.encode(&item);
        match connection.write_vectored(pieces.clone()) {
            Ok(end) => {
                self.written_to.set(end);
                self.count_repeated(std::mem::take(&mut item.repeated));
                self.sent.borrow_mut().push_back(Sent {
                    item,
                    pieces,
                    begin,
                    end,
                });
            }
            Err(_) => self.again.borrow_mut().push_front(item),
        }
    }

    /// What is sent again comes first on a connection, in one run, which is told as one.
    fn count_repeated(&self, events: u64) {
        self.inlet.ledger().replayed.add(events);
        self.repeated.set(self.repeated.get() + events);
        let next = self.again.borrow().front().map(|item| item.repeated);
        let is_more_to_come = next.is_some_and(|events| events > 0);
        if self.repeated.get() > 0 && !is_more_to_come {
            let record = Replayed {
                component: &self.component,
                events: self.repeated.take(),
            };
            record.log();
        }
    }

    fn encode(&self, item: &Item) -> Vec<Bytes> {
        let mut output = self.output.borrow_mut();
        let How { encoder, frame, .. } = &self.how;
        match &item.load {
            Load::First(part) => encoder.encode_part(part, *frame, &mut output),
            Load::Again(frames) => return frames.pieces(),
        }
        output.take()
    }

    /// Settles what the peer's kernel has, and looks again later if that is not all.
    fn settle(&self) {
        let Some(connection) = self.connection.borrow().clone() else {
            return;
        };
        let acked = connection.acked();
        // A planted bug, for the simulator to find: what our kernel has taken has not arrived.
        #[cfg(sim_bug = "early_delivered")]
        let acked = acked.max(connection.written());
        // A peer that takes bytes is looked at soon again, even while it has no whole part.
        let progress = self.acked_to.replace(acked) < acked;
        if self.tail.wants_window(acked.0)
            && let Some(state) = connection.peer_state()
        {
            self.tail.saw_window(state.window_bytes);
        }
        self.settle_acked(acked);
        self.tell_replayed();
        self.watch_patience(&connection, progress);
        if self.sent.borrow().is_empty() {
            self.look.borrow_mut().take();
            if self.has_ended.get() {
                connection.close();
            }
            return;
        }
        if progress {
            self.look_delay.set(ACK_LOOK_MIN);
        }
        if progress || self.look.borrow().is_none() {
            self.look_later();
        }
    }

    fn settle_acked(&self, acked: Mark) {
        while let Some(sent) = self.pop_acked(acked) {
            match sent.item.load {
                Load::First(part) if self.tail.is_needed() => {
                    let place = part.delivered_keeping().into_place();
                    self.tail.keep(place, sent.pieces);
                }
                Load::First(part) => part.delivered(),
                Load::Again(frames) if self.tail.is_needed() => self.tail.keep_again(frames),
                Load::Again(_) => {}
            }
        }
        if let Some(short) = self.tail.trim() {
            let record = ReplayShort {
                component: &self.component,
                kept_bytes: short.kept_bytes,
                window_bytes: short.window_bytes,
            };
            record.log();
        }
    }

    fn pop_acked(&self, acked: Mark) -> Option<Sent> {
        let mut sent = self.sent.borrow_mut();
        sent.pop_front_if(|first| first.end <= acked)
    }

    /// A peer that has no room is waited for without a limit while it answers; the kernel's own
    /// limit (TCP_USER_TIMEOUT) does not tell it from one that is gone.
    fn watch_patience(&self, connection: &Connection, progress: bool) {
        let is_still = !progress && self.look_delay.get() == ACK_LOOK_MAX;
        if !self.is_patient.get() && !is_still {
            return;
        }
        let Some(state) = connection.peer_state() else {
            return;
        };
        let has_no_room = state.window_bytes == Some(0);
        if self.is_patient.replace(has_no_room) != has_no_room {
            connection.set_patient(has_no_room);
        }
        if has_no_room && state.silent_for > ANSWER_MAX {
            connection.give_up_on_peer();
        }
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

    /// The connection is gone: what is known to have arrived is settled, the rest is sent
    /// again, and before it what arrived and may have been lost there.
    fn lost(&self, replays: bool) {
        let connection = self.connection.borrow_mut().take();
        self.look.borrow_mut().take();
        self.look_delay.set(ACK_LOOK_MIN);
        let Some(connection) = connection else { return };
        let acked = connection.acked();
        self.settle_acked(acked);
        let mut items = self.tail.take();
        if !replays || !self.tail.is_needed() {
            items.clear();
        }
        let rest: Vec<Sent> = self.sent.borrow_mut().drain(..).collect();
        for Sent {
            mut item, begin, ..
        } in rest
        {
            let arrived = self.count_arrived(&item, acked.0.saturating_sub(begin.0));
            item.came(arrived, replays && self.tail.is_needed());
            items.push(item);
        }
        let mut again = self.again.borrow_mut();
        items
            .into_iter()
            .rev()
            .for_each(|item| again.push_front(item));
    }

    /// How many whole frames the first `bytes` of an item are. It is encoded once more, event
    /// by event, to see; one item of a lost connection at most is acknowledged in part.
    fn count_arrived(&self, item: &Item, bytes: u64) -> u64 {
        match &item.load {
            _ if bytes == 0 => 0,
            Load::First(part) => self.count_whole(part.batch(), part.events(), bytes),
            // All of them come again, whatever has arrived.
            Load::Again(_) => 0,
        }
    }

    fn count_whole<'a>(
        &self,
        batch: &Batch,
        events: impl Iterator<Item = &'a Event>,
        mut bytes: u64,
    ) -> u64 {
        let mut output = self.output.borrow_mut();
        let mut whole = 0;
        for event in events {
            let one = std::iter::once(event);
            let How { encoder, frame, .. } = &self.how;
            encoder.encode(batch, one, *frame, &mut output);
            let length: u64 = output.take().iter().map(|piece| piece.len() as u64).sum();
            if length > bytes {
                break;
            }
            bytes -= length;
            whole += 1;
        }
        whole
    }

    /// Tells whoever waits to stop that nothing settled is on its way again. Where something
    /// else is, too, the stop is late already and does not wait.
    fn tell_replayed(&self) {
        let is_again = |item: &Item| matches!(item.load, Load::Again(_));
        let waits = {
            let (sent, again) = (self.sent.borrow(), self.again.borrow());
            let mut items = sent.iter().map(|sent| &sent.item).chain(&*again).peekable();
            items.peek().is_some() && items.all(is_again)
        };
        if !waits && let Some(promise) = self.on_replayed.take() {
            promise.callback(());
        }
    }

    fn give_back(&self) {
        drop(self.tail.take());
        let sent: Vec<Sent> = self.sent.borrow_mut().drain(..).collect();
        let again: Vec<Item> = self.again.borrow_mut().drain(..).collect();
        let items = sent.into_iter().map(|sent| sent.item).chain(again);
        let unsettled: Vec<Part> = items.filter_map(Item::unsettled).collect();
        self.inlet.give_back(unsettled.into_iter());
    }
}

impl Item {
    fn new(part: Part) -> Item {
        Item {
            load: Load::First(part),
            repeated: 0,
        }
    }

    fn unsettled(self) -> Option<Part> {
        match self.load {
            Load::First(part) => Some(part),
            Load::Again(_) => None,
        }
    }

    /// Its first `events` had arrived when its connection was lost: they are sent again, or not.
    fn came(&mut self, events: u64, replays: bool) {
        match &mut self.load {
            Load::First(part) if !replays => part.deliver_some(events),
            Load::First(_) => self.repeated = events,
            Load::Again(frames) => self.repeated = frames.len() as u64,
        }
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
        line.has_ended.set(false);
        line.is_patient.set(false);
        line.tail.begin(connection.peer().endpoint().is_ip());
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
        if !connection.is_open() {
            // The stream of a connection that was reset ends, too.
            connection.close();
            return Ok(());
        }
        // Nothing new is written to a collector that has ended its stream; what was written may
        // still arrive, and is not sent twice if it does.
        self.0.has_ended.set(true);
        connection.set_deadline(Some(LAST_BYTES_MAX));
        self.0.settle();
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
        line.lost(!line.has_ended.get() && is_cut(reason));
    }
}

/// Whether a connection ended without the end of the peer's stream.
fn is_cut(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::Eof | CloseReason::Local => false,
        // How a reset shows where the end of the stream had come before (Linux: tcp_reset).
        CloseReason::Reset(error) => error.kind() != ErrorKind::BrokenPipe,
        CloseReason::TimedOut(_)
        | CloseReason::Aborted
        | CloseReason::Handler(_)
        | CloseReason::Handshake(_) => true,
    }
}
