//! Bytes to batches: what every source that reads frames shares. Not a component.
//!
//! One [`FramedInput`] per connection holds its framer, its window and where its events come
//! from; the lists a push fills are one per source, because only one push runs at a time. The
//! bytes of a batch are the chunk that was read; a raw event costs its two offsets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Promise};
use crate::event::{Batch, Event, Events, Origin, Span};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::part::Delivered;
use crate::protocol::{End, FrameError, Framer, Frames, Framing, Mark, Run, Uncut, framer};
use crate::telemetry::events::SourceCounts;
use crate::time::WallTime;
use crate::transport::{CloseReason, Connection};

use super::losses::{Losses, Lost};
use super::reading::{Reading, Reads};

/// What a source counts beside the events in its pipelines' ledgers.
#[derive(Debug, Default)]
pub struct InputCounts {
    /// Frames that became events.
    pub events: Cell<u64>,
    /// Bytes received.
    pub bytes: Cell<u64>,
    /// Frames without a byte, which make no event.
    pub empty_frames: Cell<u64>,
    /// Events cut at `max_message`.
    pub truncated: Cell<u64>,
    /// Bytes cut off them.
    pub skipped_bytes: Cell<u64>,
    /// Events whose end never came.
    pub incomplete: Cell<u64>,
    /// Connections closed because the peer broke the framing.
    pub framing_errors: Cell<u64>,
    /// Batches a sink gave up on.
    pub failed_batches: Cell<u64>,
}

/// What all connections of a source share.
pub struct InputShared {
    outlet: Outlet,
    name: Arc<str>,
    framing: Framing,
    max_bytes: usize,
    frames: RefCell<Frames>,
    reads: Option<Box<dyn Reads>>,
    counts: InputCounts,
    losses: Losses,
    /// Batches whose delivery is not over.
    open_batches: Cell<u64>,
    settled: RefCell<Option<Promise<()>>>,
}

impl InputShared {
    /// For `outlet`'s source, which has the frames read by `reads`, if by anybody; frames are of
    /// at most `max_bytes`.
    pub fn new(
        outlet: Outlet,
        framing: Framing,
        max_bytes: usize,
        reads: Option<Box<dyn Reads>>,
    ) -> Rc<Self> {
        Rc::new(InputShared {
            name: outlet.name().as_ref().into(),
            outlet,
            framing,
            max_bytes,
            frames: RefCell::new(Frames::new()),
            reads,
            counts: InputCounts::default(),
            losses: Losses::default(),
            open_batches: Cell::new(0),
            settled: RefCell::default(),
        })
    }

    /// Writes the counts so far into the log.
    pub fn log_counts(&self) {
        let counts = &self.counts;
        let record = SourceCounts {
            source: &self.name,
            events: counts.events.get(),
            bytes: counts.bytes.get(),
            empty_frames: counts.empty_frames.get(),
            truncated: counts.truncated.get(),
            skipped_bytes: counts.skipped_bytes.get(),
            incomplete: counts.incomplete.get(),
            framing_errors: counts.framing_errors.get(),
            failed_batches: counts.failed_batches.get(),
            kernel_drops: self.losses.kernel_drops(),
            refused: self.losses.refused(),
        };
        record.log();
        self.reads
            .iter()
            .for_each(|reads| reads.log_counts(&self.name));
    }

    /// The counts so far, for `marline status`.
    pub fn facts(&self) -> Facts {
        let counts = &self.counts;
        let named = [
            ("bytes", &counts.bytes),
            ("empty_frames", &counts.empty_frames),
            ("truncated", &counts.truncated),
            ("skipped_bytes", &counts.skipped_bytes),
            ("incomplete", &counts.incomplete),
            ("framing_errors", &counts.framing_errors),
            ("failed_batches", &counts.failed_batches),
        ];
        let mut facts = Facts {
            counts: named.map(|(name, count)| (name, count.get())).to_vec(),
            ..Facts::default()
        };
        self.losses.add_to(&mut facts);
        self.reads.iter().for_each(|reads| reads.add_to(&mut facts));
        facts
    }

    /// What is lost beside the frames.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Something may have been lost: a line says how much, when one is due.
    pub fn may_have_lost(self: &Rc<Self>) {
        let shared = Rc::clone(self);
        let scheduler = self.outlet.scheduler();
        self.losses.sign(&**scheduler, move || {
            let counts = &shared.counts;
            let lost = Lost {
                kernel_drops: shared.losses.kernel_drops(),
                truncated: counts.truncated.get(),
                framing_errors: counts.framing_errors.get(),
                refused: shared.losses.refused(),
            };
            let component = format!("source.{}", shared.name);
            shared.losses.tell(&component, lost);
        });
    }

    /// The source's way into its pipelines.
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// How streams are cut.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The longest frame, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The wall clock, for the received time of a batch.
    pub fn wall(&self) -> WallTime {
        self.outlet.scheduler().wall()
    }

    /// Counts what a push gave, its frames apart.
    pub fn count(self: &Rc<Self>, frames: &Frames) {
        let counts = &self.counts;
        let incomplete = |mark: &&(usize, usize, Mark)| matches!(mark.2, Mark::Incomplete(_));
        add(&counts.empty_frames, frames.empty);
        add(&counts.truncated, frames.truncated);
        add(&counts.skipped_bytes, frames.skipped_bytes);
        add(
            &counts.incomplete,
            frames.marks.iter().filter(incomplete).count() as u64,
        );
        add(&counts.framing_errors, u64::from(frames.error.is_some()));
        if frames.truncated > 0 || frames.error.is_some() {
            self.may_have_lost();
        }
    }

    /// Delivers a batch through `intake`. Nobody waits for the answer: a failed delivery is
    /// counted here and is in the books of the sink that gave up.
    pub fn deliver(self: &Rc<Self>, intake: &Intake, batch: Batch) {
        self.deliver_then(intake, batch, |_| {});
    }

    /// As [`InputShared::deliver`], for who wants to know how it ended.
    pub fn deliver_then(
        self: &Rc<Self>,
        intake: &Intake,
        batch: Batch,
        then: impl FnOnce(Result<Delivered, Failure>) + 'static,
    ) {
        add(&self.counts.events, batch.events.len() as u64);
        add(&self.open_batches, 1);
        let shared = Rc::clone(self);
        let count_failure = move |result: Result<Delivered, Failure>| {
            add(&shared.counts.failed_batches, u64::from(result.is_err()));
            then(result);
            shared.open_batches.set(shared.open_batches.get() - 1);
            shared.check_settled();
        };
        drop(intake.deliver(batch).add_both(count_failure));
    }

    /// Fires when every batch that was delivered has come to the source's stage, or was given
    /// up. For one caller at a time.
    pub fn settled(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        *self.settled.borrow_mut() = Some(promise);
        self.check_settled();
        deferred.named("what a source delivered")
    }

    fn check_settled(&self) {
        if self.open_batches.get() == 0 {
            let promise = self.settled.borrow_mut().take();
            promise.map(|promise| promise.callback(()));
        }
    }

    /// Counts bytes that were read.
    pub fn count_bytes(&self, bytes: usize) {
        add(&self.counts.bytes, bytes as u64);
    }

    /// The input of one connection, file or datagram socket.
    pub fn input(self: &Rc<Self>, peer: &str) -> FramedInput {
        let origin = self.origin(peer);
        FramedInput {
            framer: framer(self.framing, self.max_bytes),
            reading: self.reading(&origin),
            origin,
            intake: self.outlet.intake(),
            shared: Rc::clone(self),
            has_ended: false,
        }
    }

    /// The reader for one sender, where the source has its frames read.
    pub fn reading(&self, origin: &Origin) -> Option<Box<dyn Reading>> {
        self.reads.as_ref().map(|reads| reads.sender(origin))
    }

    /// Where the events of `peer` come from.
    pub fn origin(&self, peer: &str) -> Arc<Origin> {
        Arc::new(Origin {
            source: Arc::clone(&self.name),
            peer: peer.into(),
        })
    }
}

/// What brings a batch on its way.
pub type Deliver<'a> = &'a mut dyn FnMut(&Rc<InputShared>, &Intake, Batch);

/// One stream of bytes on its way to become events.
pub struct FramedInput {
    shared: Rc<InputShared>,
    framer: Box<dyn Framer>,
    origin: Arc<Origin>,
    reading: Option<Box<dyn Reading>>,
    intake: Intake,
    /// The peer's end of stream has been seen.
    has_ended: bool,
}

/// What every protocol that reads frames does at each of its calls.
impl FramedInput {
    /// Delivers the events that the next bytes complete, and stops reading where there is no
    /// room for more, until there is; what goes on then is made here, so that a connection which
    /// never has to wait does not hold it. The answer joins nothing: a failed delivery is
    /// counted, and the books have it.
    ///
    /// # Errors
    /// The peer broke the framing: nothing after this is parsed; the connection is closed.
    pub fn receive(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.push(bytes)?;
        if self.intake.is_blocked() {
            let resumed = connection.clone();
            self.intake.on_resume(move || resumed.resume());
            connection.pause();
        }
        Ok(())
    }

    /// The peer has ended its stream in order: what it left behind is an event.
    pub fn end(&mut self, connection: &Connection) {
        self.has_ended = true;
        self.finish(End::Clean);
        connection.finish();
    }

    /// The connection is gone: what it left behind is an `incomplete` event, unless it ended
    /// in order. Says whether it did.
    pub fn close(&mut self, reason: &CloseReason) -> bool {
        if !self.has_ended {
            self.finish(End::Cut(cut_by(reason)));
        }
        self.has_ended
    }

    /// The same input, read by `reading`.
    pub fn read_by(mut self, reading: Box<dyn Reading>) -> FramedInput {
        self.reading = Some(reading);
        self
    }

    /// Whether to read no more for now; [`FramedInput::on_resume`] says when to go on.
    pub fn is_blocked(&self) -> bool {
        self.intake.is_blocked()
    }

    /// Sets the call that says that there is room again.
    pub fn on_resume(&self, resume: impl FnMut() + 'static) {
        self.intake.on_resume(resume);
    }

    /// Delivers the events that the next bytes complete, wherever these were read.
    ///
    /// # Errors
    /// The framing is broken: nothing after this is parsed.
    pub fn push(&mut self, bytes: Bytes) -> Result<(), FrameError> {
        self.push_to(bytes, &mut InputShared::deliver)
    }

    /// As [`FramedInput::push`], with `deliver` in place of [`InputShared::deliver`].
    ///
    /// # Errors
    /// As [`FramedInput::push`].
    pub fn push_to(&mut self, bytes: Bytes, deliver: Deliver<'_>) -> Result<(), FrameError> {
        self.shared.count_bytes(bytes.len());
        let mut frames = self.shared.frames.take();
        let is_looked_at = self.reading.is_some() || self.shared.outlet.is_looked_at();
        frames.leave_uncut(!is_looked_at);
        self.framer.push(bytes, &mut frames);
        self.hand_over(&mut frames, deliver);
        let error = frames.error.take();
        frames.clear();
        self.shared.frames.replace(frames);
        error.map_or(Ok(()), Err)
    }

    /// The stream has ended: what it left behind is an event.
    pub fn finish(&mut self, end: End) {
        let mut frames = self.shared.frames.take();
        self.framer.finish(end, &mut frames);
        self.hand_over(&mut frames, &mut InputShared::deliver);
        frames.clear();
        self.shared.frames.replace(frames);
    }

    /// Who sends.
    pub fn peer(&self) -> &str {
        &self.origin.peer
    }

    fn hand_over(&mut self, frames: &mut Frames, deliver: Deliver<'_>) {
        self.shared.count(frames);
        let received = self.shared.wall();
        let marks = std::mem::take(&mut frames.marks);
        let runs: Vec<Run> = frames.take_runs().collect();
        for (index, run) in runs.into_iter().enumerate() {
            let mut batch = self.batch(&run, received);
            frames.recycle(run.spans);
            if let Some(reading) = &mut self.reading {
                reading.read(&mut batch);
            }
            for (_, event, mark) in marks.iter().filter(|mark| mark.0 == index) {
                let (name, reason) = mark_of(*mark);
                batch.events[*event].mark(&batch.bytes, name, reason);
            }
            #[cfg(sim_bug = "lost_at_pause")]
            self.lose_one_at_a_pause(&mut batch, received);
            deliver(&self.shared, &self.intake, batch);
        }
    }

    /// A planted bug, for the simulator to find: one event in 10 000 is lost at a pause.
    #[cfg(sim_bug = "lost_at_pause")]
    fn lose_one_at_a_pause(&self, batch: &mut Batch, received: WallTime) {
        let draw = received.as_micros().rem_euclid(10_000) as usize;
        if self.intake.is_blocked() && draw < batch.events.len() {
            batch.events.pop();
        }
    }

    fn batch(&self, run: &Run, received: WallTime) -> Batch {
        let mut batch = Batch::new(Arc::clone(&self.origin), received, run.bytes.clone());
        batch.events = match run.uncut {
            Some(Uncut { span, count }) => {
                Events::uncut(run.bytes.clone(), event_span(span), count)
            }
            None => {
                let spans = run.spans.iter().copied();
                spans.map(|span| Event::Raw(event_span(span))).collect()
            }
        };
        batch.lines = run.lines;
        batch
    }
}

/// A framer's range as an event has it.
pub fn event_span(span: crate::protocol::Span) -> Span {
    Span {
        start: span.start,
        end: span.end,
    }
}

/// The field that says what is wrong with a frame, and its reason.
pub fn mark_of(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Truncated => ("truncated", "longer than max_message"),
        Mark::Incomplete(reason) => ("incomplete", reason),
    }
}

/// What the mark `incomplete` of a frame says that was under way.
fn cut_by(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Eof => "the stream ended",
        CloseReason::Local => "the daemon stopped",
        CloseReason::Reset(_) => "the connection was reset",
        CloseReason::TimedOut(_) => "the time limit passed",
        CloseReason::Aborted => "the connection was aborted",
        CloseReason::Handler(_) => "the framing was broken",
        CloseReason::Handshake(_) => "TLS was broken",
    }
}

fn add(count: &Cell<u64>, amount: u64) {
    count.set(count.get() + amount);
}
