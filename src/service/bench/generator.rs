//! The source of a measurement: prepared lines, handed over as a connection hands over what it
//! has read. No user can name it.
//!
//! Each reactor has one. It copies the stream into a chunk of the reactor's pool, which stands for
//! the kernel's copy, and gives the chunk to the framer and the reader that the source in the
//! configuration would have: a chunk a turn, as one busy connection, until its window is full.
//! For the latency it hands over whole lines at a rate instead, once a millisecond.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::deferred::{Deferred, Failure};
use crate::event::Batch;
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::options::{Mistake, Options};
use crate::protocol::Framing;
use crate::reactor::{Handle, TimerGuard};
use crate::sources::framed::{FramedInput, InputShared};
use crate::sources::reading::Reads;
use crate::sources::syslog;
use crate::time::{Duration, Instant};
use crate::transport::{CHUNK_BYTES, Network};

use super::probe::Probe;

/// Between two looks at how many lines are due, where a rate is kept to.
const TICK: Duration = Duration::from_millis(1);
/// Who the lines seem to come from (RFC 3849).
const PEER: &str = "[2001:db8::1]:5514";
/// The longest frame where the source in the configuration has no such limit, in bytes.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// In place of a source whose frames nobody reads.
pub const FRAMES: Descriptor = descriptor(build_frames);
/// In place of one that reads syslog.
pub const SYSLOG: Descriptor = descriptor(build_syslog);

const fn descriptor(build: fn(&Options) -> Result<Box<dyn Source>, Mistake>) -> Descriptor {
    Descriptor {
        name: "bench",
        summary: "prepared lines, as fast as they are taken",
        options: &[],
        shared: &[],
        example: "",
        build: Build::Source(build),
    }
}

fn build_frames(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Box::new(Bench::new(options, None)))
}

fn build_syslog(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Box::new(Bench::new(options, Some(syslog::reads(options)))))
}

struct Bench {
    framing: Framing,
    max_message: usize,
    /// Until the start.
    reads: Option<Box<dyn Reads>>,
    generator: Option<Rc<Generator>>,
}

impl Bench {
    /// By the options of the source that it stands for.
    fn new(options: &Options, reads: Option<Box<dyn Reads>>) -> Bench {
        let has = |name: &str| options.declares(name);
        // The lines are lines, whatever else the source would understand.
        let framing = match has("framing").then(|| options.word("framing")) {
            Some("auto") => Framing::Auto,
            _ => Framing::Lines,
        };
        let max_message = has("max_message").then(|| options.size("max_message") as usize);
        Bench {
            framing,
            max_message: max_message.unwrap_or(FRAME_BYTES_MAX),
            reads,
            generator: None,
        }
    }
}

impl Source for Bench {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let reads = self.reads.take();
        let shared = InputShared::new(outlet, self.framing, self.max_message, reads);
        let input = shared.input(PEER);
        let generator = Rc::new(Generator {
            network: resources.get::<Network>().clone(),
            reactor: resources.get::<Handle>().clone(),
            probe: Rc::clone(resources.get::<Rc<Probe>>()),
            input: RefCell::new(Some(input)),
            at: Cell::new(0),
            pace: Cell::new(Pace::Full),
            is_queued: Cell::new(false),
            timer: RefCell::default(),
        });
        *generator.probe.generator.borrow_mut() = Rc::downgrade(&generator);
        let weak = Rc::downgrade(&generator);
        let resume = move || {
            if let Some(generator) = weak.upgrade() {
                generator.go_on();
            }
        };
        let input = generator.input.borrow();
        input
            .iter()
            .for_each(|input| input.on_resume(resume.clone()));
        drop(input);
        let first = Rc::clone(&generator);
        generator.reactor.call_when_running(move |_| first.go_on());
        self.generator = Some(generator);
        Ok(Vec::new())
    }

    fn is_single(&self) -> bool {
        false
    }

    fn stop(&mut self) -> Deferred<()> {
        if let Some(generator) = self.generator.take() {
            generator.rest();
        }
        Deferred::ready(())
    }
}

/// How fast lines are handed over.
#[derive(Clone, Copy)]
enum Pace {
    /// As fast as the window lets them through.
    Full,
    /// So many a second since then, of which so many were sent.
    Rate {
        per_second: f64,
        since: Instant,
        sent: u64,
    },
    /// Not at all.
    Rest,
}

/// What sends the lines.
pub struct Generator {
    network: Network,
    reactor: Handle,
    probe: Rc<Probe>,
    /// Out of its cell while it delivers: a step or a sink may make anything happen.
    input: RefCell<Option<FramedInput>>,
    /// The place in the corpus.
    at: Cell<usize>,
    pace: Cell<Pace>,
    is_queued: Cell<bool>,
    timer: RefCell<Option<TimerGuard>>,
}

impl Generator {
    /// From now on so many lines a second, whole ones.
    pub fn keep_to(self: &Rc<Self>, per_second: f64) {
        self.rest();
        self.pace.set(Pace::Rate {
            per_second,
            since: self.reactor.fresh(),
            sent: 0,
        });
        self.go_on();
    }

    /// No more lines; the one that was begun is ended.
    pub fn rest(&self) {
        self.pace.set(Pace::Rest);
        self.timer.take();
        let rest = self.probe.corpus.rest_of_line(self.at.get());
        if rest > 0 {
            self.send(rest);
        }
    }

    fn go_on(self: &Rc<Self>) {
        match self.pace.get() {
            Pace::Full if !self.is_queued.replace(true) => {
                let generator = Rc::clone(self);
                // In the next turn, like what is on the ready list.
                self.reactor.call_soon(move |_| generator.serve());
            }
            Pace::Rate { .. } => {
                let generator = Rc::downgrade(self);
                let timer = self.reactor.call_later(TICK, move |_| {
                    if let Some(generator) = generator.upgrade() {
                        generator.tick();
                    }
                });
                *self.timer.borrow_mut() = Some(timer.guard());
            }
            Pace::Full | Pace::Rest => {}
        }
    }

    /// One chunk, as a connection reads in one turn.
    fn serve(self: &Rc<Self>) {
        self.is_queued.set(false);
        if matches!(self.pace.get(), Pace::Full) {
            self.send(CHUNK_BYTES);
            self.go_on_unless_blocked();
        }
    }

    /// The lines that are due by now.
    fn tick(self: &Rc<Self>) {
        let Pace::Rate {
            per_second,
            since,
            sent,
        } = self.pace.get()
        else {
            return;
        };
        let due = (self.reactor.fresh().since(since).as_secs_f64() * per_second) as u64;
        let corpus = &self.probe.corpus;
        let before = self.probe.sent.get();
        let bytes = corpus.bytes_of_lines(self.at.get(), due.saturating_sub(sent), CHUNK_BYTES);
        if bytes > 0 {
            self.send(bytes);
        }
        self.pace.set(Pace::Rate {
            per_second,
            since,
            sent: sent + self.probe.sent.get() - before,
        });
        self.go_on_unless_blocked();
    }

    fn go_on_unless_blocked(self: &Rc<Self>) {
        let input = self.input.borrow();
        let is_blocked = input.as_ref().is_none_or(FramedInput::is_blocked);
        drop(input);
        if !is_blocked {
            self.go_on();
        }
    }

    /// The next `bytes` of the stream go through the framer, and what it finds is delivered.
    fn send(&self, bytes: usize) {
        let mut chunk = self.network.chunks().lend();
        let (end, lines) = self.probe.corpus.fill(self.at.get(), &mut chunk[..bytes]);
        self.at.set(end);
        self.probe.sent.set(self.probe.sent.get() + lines);
        let is_timed = matches!(self.pace.get(), Pace::Rate { .. });
        let handed = is_timed.then(|| self.reactor.fresh());
        let Some(mut input) = self.input.take() else {
            return; // a step has panicked below
        };
        let pushed = input.push_to(chunk.keep(bytes), &mut |shared, intake, batch| {
            self.deliver(shared, intake, batch, handed);
        });
        // Lines that were prepared break no framing.
        debug_assert!(pushed.is_ok());
        *self.input.borrow_mut() = Some(input);
    }

    fn deliver(
        &self,
        shared: &Rc<InputShared>,
        intake: &Intake,
        batch: Batch,
        handed: Option<Instant>,
    ) {
        let lines = batch.events.len() as u64;
        let (probe, reactor) = (Rc::clone(&self.probe), self.reactor.clone());
        shared.deliver_then(intake, batch, move |result| {
            if result.is_err() {
                return probe.lost.set(probe.lost.get() + lines);
            }
            probe.settled.set(probe.settled.get() + lines);
            if let Some(handed) = handed {
                let took = reactor.fresh().since(handed).as_nanos() as u64;
                probe.latency.borrow_mut().add(took, lines);
            }
        });
    }
}
