//! Datagrams to batches: what sources share that read UDP or Unix datagrams. Not a component.
//!
//! Datagrams are small and come from many: those of one sender that come one after another
//! within a turn become one batch, copied side by side with a newline between, so that they
//! leave again as one piece. A batch ends with the turn, with another sender, or at
//! [`BATCH_BYTES`].

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::deferred::Failure;
use crate::event::{Batch, Event, Origin, Span};
use crate::pipeline::intake::Intake;
use crate::protocol::{End, Framer, Frames, Framing, Mark, framer};
use crate::transport::{CloseReason, Datagram, DatagramSocket, Datagrams, Peer};

use super::framed::{InputShared, mark_of};
use super::reading::Reading;

/// A batch of datagrams is handed over at this size, in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// Senders whose name is kept ready; more, and the table begins anew.
const SENDERS_MAX: usize = 1024;

/// What one datagram socket feeds.
pub struct DatagramInput {
    shared: Rc<InputShared>,
    framer: Box<dyn Framer>,
    frames: Frames,
    intake: Intake,
    senders: HashMap<Peer, Sender>,
    sender: Option<Peer>,
    bytes: Vec<u8>,
    events: Vec<Event>,
    marks: Vec<(usize, &'static str, &'static str)>,
    is_wired: bool,
}

/// Who sends.
struct Sender {
    origin: Arc<Origin>,
    reading: Option<Box<dyn Reading>>,
}

impl DatagramInput {
    /// An input for a socket of `shared`'s source. With `auto` or `datagram` a datagram is one
    /// event; any other framing is applied within each datagram.
    pub fn new(shared: &Rc<InputShared>) -> Box<Self> {
        let framing = of_datagrams(shared.framing());
        Box::new(DatagramInput {
            framer: framer(framing, shared.max_bytes()),
            frames: Frames::new(),
            intake: shared.outlet().intake(),
            shared: Rc::clone(shared),
            senders: HashMap::new(),
            sender: None,
            bytes: Vec::new(),
            events: Vec::new(),
            marks: Vec::new(),
            is_wired: false,
        })
    }

    /// Adds the frames of one datagram to the batch under way.
    fn add(&mut self, datagram: Bytes, was_cut: bool) {
        let mut frames = std::mem::take(&mut self.frames);
        self.framer.push(datagram, &mut frames);
        self.framer.finish(End::Clean, &mut frames);
        self.shared.count(&frames);
        for (index, run) in frames.runs.iter().enumerate() {
            for (place, span) in run.spans.iter().enumerate() {
                let marked = |mark: &&(usize, usize, Mark)| (mark.0, mark.1) == (index, place);
                let mark = frames.marks.iter().find(marked).map(|mark| mark.2);
                self.add_event(span.of(&run.bytes), mark, was_cut);
            }
        }
        if frames.error.is_some() {
            // What cannot be framed is lost with this datagram only: the next one starts anew.
            self.framer = framer(of_datagrams(self.shared.framing()), self.shared.max_bytes());
        }
        frames.clear();
        self.frames = frames;
    }

    fn add_event(&mut self, frame: &[u8], mark: Option<Mark>, was_cut: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.events
            .push(Event::Raw(Span::new(start, self.bytes.len())));
        self.bytes.push(b'\n');
        let (name, reason) = match mark {
            Some(mark) => mark_of(mark),
            None if was_cut => mark_of(Mark::Truncated),
            None => return,
        };
        self.marks.push((self.events.len() - 1, name, reason));
    }

    fn hand_over(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        if self.events.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let events = std::mem::take(&mut self.events);
        let received = self.shared.wall();
        let sender = self.sender(sender);
        let mut batch = Batch::new(Arc::clone(&sender.origin), received, bytes);
        batch.events = events.into();
        if let Some(reading) = &mut sender.reading {
            reading.read(&mut batch);
        }
        for (event, name, reason) in self.marks.drain(..) {
            batch.events[event].mark(&batch.bytes, name, reason);
        }
        self.shared.deliver(&self.intake, batch);
    }

    fn sender(&mut self, peer: Peer) -> &mut Sender {
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&peer) {
            self.senders.clear();
        }
        let shared = &self.shared;
        self.senders.entry(peer).or_insert_with_key(|peer| {
            let origin = shared.origin(&peer.to_string());
            Sender {
                reading: shared.reading(&origin),
                origin,
            }
        })
    }
}

impl Datagrams for DatagramInput {
    fn received(&mut self, socket: &DatagramSocket, datagram: Datagram) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_wired, true) {
            let resumed = socket.clone();
            self.intake.on_resume(move || resumed.resume());
        }
        if self.sender.as_ref() != Some(&datagram.from) || self.bytes.len() >= BATCH_BYTES {
            self.hand_over();
            self.sender = Some(datagram.from);
        }
        self.add(datagram.bytes, datagram.truncated);
        Ok(())
    }

    fn turn_ends(&mut self, socket: &DatagramSocket) {
        self.hand_over();
        self.shared.may_have_lost();
        if self.intake.is_blocked() {
            socket.pause();
        }
    }

    fn closed(mut self: Box<Self>, _: &CloseReason) {
        self.hand_over();
    }
}

fn of_datagrams(framing: Framing) -> Framing {
    match framing {
        Framing::Auto => Framing::Datagram,
        other => other,
    }
}
