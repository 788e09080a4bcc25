//! `stdout`: lines on standard output.
//!
//! Written by jobs like a file. A reader that stands still holds the events up, and through
//! them the sources, but neither the reactor nor a thread: what has no room is tried again
//! later. Lines are whole: a piece of a line is always followed by the rest of it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::storage::{File, Storage};
use crate::deferred::{Deferred, Failure, Promise};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::encode::{ENCODE, Encoder, Frame, Output};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::part::Part;
use crate::pipeline::port::Inlet;
use crate::reactor::{Handle, Pool, TimerGuard};
use crate::sinks::backlog::{Backlog, Pauses, Share, Trouble, Write, Written};
use crate::sinks::lines::Lines;
use crate::time::{Duration, Instant};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "stdout",
    summary: "lines on standard output",
    options: &[
        ENCODE,
        Opt::new(
            "framing",
            "how events are told apart: \"lines\" ends each with a newline",
            Kind::Word(&["lines"]),
        )
        .default("\"lines\""),
    ],
    shared: &[],
    example: "[sink.screen]\ntype   = \"stdout\"\nencode = \"logfmt\"\n",
    build: Build::Sink(build),
};

/// Between two attempts while nobody reads.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(500),
};

fn build(options: &Options) -> Result<Box<dyn Sink>, Mistake> {
    let encoder = Encoder::of(options)?;
    Ok(Box::new(Stdout {
        encoder,
        lane: None,
    }))
}

struct Stdout {
    encoder: Encoder,
    lane: Option<Rc<Lane>>,
}

impl Sink for Stdout {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let lane = Rc::new(Lane {
            handle: resources.get::<Handle>().clone(),
            file: resources.get::<Arc<dyn Storage>>().standard_output(),
            name: "-".into(),
            encoder: self.encoder.clone(),
            output: RefCell::new(Output::new()),
            backlog: RefCell::new(Backlog::new(PAUSES)),
            is_writing: Cell::new(false),
            in_trouble: Cell::new(false),
            timer: RefCell::new(None),
            stopped: Cell::new(None),
            inlet,
        });
        let weak = Rc::downgrade(&lane);
        lane.inlet.on_ready(move || {
            if let Some(lane) = weak.upgrade() {
                lane.advance();
            }
        });
        self.lane = Some(lane);
        Ok(vec!["writing to standard output".to_owned()])
    }

    fn is_single(&self) -> bool {
        true
    }

    fn stop(&mut self) -> Deferred<()> {
        let Some(lane) = &self.lane else {
            return Deferred::ready(());
        };
        let (promise, deferred) = Deferred::new();
        lane.stopped.set(Some(promise));
        lane.advance();
        deferred
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.timer.take();
            let left = lane.backlog.borrow_mut().take_back();
            lane.inlet.give_back(left.into_iter());
        }
    }
}

/// The sink between start and stop: at most one job at a time.
struct Lane {
    handle: Handle,
    inlet: Inlet,
    file: Arc<dyn File>,
    name: Arc<str>,
    encoder: Encoder,
    output: RefCell<Output>,
    backlog: RefCell<Backlog>,
    is_writing: Cell<bool>,
    in_trouble: Cell<bool>,
    timer: RefCell<Option<TimerGuard>>,
    stopped: Cell<Option<Promise<()>>>,
}

impl Lane {
    fn advance(self: &Rc<Self>) {
        while self.backlog.borrow().has_room() {
            let Some(part) = self.inlet.next() else { break };
            let share = self.encode(&part);
            let finished = self.backlog.borrow_mut().push(part, vec![share]);
            settle(finished);
        }
        if self.is_writing.get() {
            return;
        }
        let writes = self
            .backlog
            .borrow_mut()
            .take_writes(Some(self.handle.now()));
        match writes.into_iter().next() {
            Some(write) => self.submit(write),
            None => self.wait(),
        }
    }

    fn encode(&self, part: &Part) -> Share {
        let mut output = self.output.borrow_mut();
        self.encoder.encode_part(part, Frame::Lines, &mut output);
        Share {
            name: Arc::clone(&self.name),
            slices: output.take(),
            events: part.len(),
        }
    }

    fn submit(self: &Rc<Self>, write: Write) {
        self.is_writing.set(true);
        self.timer.take();
        let file = Arc::clone(&self.file);
        // Not on a disk thread: a terminal can be stopped so that even a ready one blocks.
        let run = move || Ok(write_all(&*file, write));
        let ended = self
            .handle
            .defer_to_thread(Pool::General, "standard output", run);
        let lane = Rc::clone(self);
        drop(ended.add_both(move |written| {
            lane.is_writing.set(false);
            lane.job_ended(written);
            lane.advance();
            Ok(())
        }));
    }

    fn job_ended(&self, written: Result<Written, Failure>) {
        let now = self.handle.now();
        let trouble = match written {
            Ok(written) => {
                let finished = self.backlog.borrow_mut().settle(&written, now);
                let trouble = written.error.map(|trouble| text(&trouble));
                self.tell(trouble);
                return settle(finished);
            }
            Err(failure) => failure.text(),
        };
        self.backlog.borrow_mut().forget_jobs(now);
        self.tell(Some(trouble));
    }

    /// One record when writing stops and one when it goes on.
    fn tell(&self, trouble: Option<String>) {
        self.inlet.set_trouble(trouble.as_deref());
        if self.in_trouble.replace(trouble.is_some()) == trouble.is_some() {
            return;
        }
        let component = format!("sink.{}", self.inlet.name());
        match trouble {
            Some(text) => tracing::debug!(component, event = "sink_trouble", "{text}"),
            None => tracing::debug!(component, event = "sink_recovered", "writing again"),
        }
    }

    /// Nothing can be written now: comes back after the pause, or ends.
    fn wait(self: &Rc<Self>) {
        let due = self.backlog.borrow().next_due();
        match due {
            Some(due) => self.arm(due),
            None => {
                if let Some(promise) = self.stopped.take() {
                    promise.callback(());
                }
            }
        }
    }

    fn arm(self: &Rc<Self>, due: Instant) {
        if self.in_trouble.get() {
            self.inlet.tries_again_in(due.since(self.handle.now()));
        }
        let weak = Rc::downgrade(self);
        let timer = self.handle.call_at(due, move |_| {
            if let Some(lane) = weak.upgrade() {
                lane.advance();
            }
        });
        self.timer.replace(Some(timer.guard()));
    }
}

/// Settles parts, with no borrow held.
fn settle(parts: impl IntoIterator<Item = Part>) {
    parts.into_iter().for_each(Part::delivered);
}

fn text(trouble: &Trouble) -> String {
    let (Trouble::Root(error) | Trouble::Opening(error) | Trouble::Writing(error)) = trouble;
    match error.kind() {
        io::ErrorKind::WouldBlock => "nobody reads standard output".to_owned(),
        _ => format!("cannot write to standard output: {error}"),
    }
}

/// The job: writes until all is written or there is no room.
fn write_all(file: &dyn File, write: Write) -> Written {
    let mut lines = Lines::new(&write.slices);
    let mut error = None;
    while !lines.is_done() && error.is_none() {
        match file.append(&lines.next(usize::MAX)) {
            Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
            Ok(taken) => lines.advance(taken),
            Err(failed) => error = Some(failed),
        }
    }
    Written {
        name: write.name,
        bytes: lines.position(),
        error: error.map(Trouble::Writing),
        torn: None,
        rotated: false,
        rotation_error: None,
    }
}
