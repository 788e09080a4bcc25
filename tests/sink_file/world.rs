//! One sink behind a real reactor, a real pipeline and real threads, in a directory of its own.
//!
//! After every turn the sink's ledger must balance and nothing may have been left unresolved.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use marline::buffer::memory::MemoryQueue;
use marline::buffer::storage::Storage;
use marline::deferred::Failure;
use marline::event::{Batch, Event, Field, Fields, Key, Origin, Slot, Span};
use marline::pipeline::component::{Resources, Sink};
use marline::pipeline::descriptor::Build;
use marline::pipeline::graph::{Pipeline, Route};
use marline::pipeline::intake::{Engine, Intake};
use marline::pipeline::memory::Memory;
use marline::pipeline::options::Options as SinkOptions;
use marline::pipeline::part::Stage;
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::reactor::{Handle, Options, PollerKind, Reactor, Seams};
use marline::sinks;
use marline::telemetry::capture::Capture;
use marline::time::{Scheduler, WallTime};

use super::gate::Gate;

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub guard: tempfile::TempDir,
    pub gate: Gate,
    pub handle: Handle,
    pub sink: Box<dyn Sink>,
    pub port: Rc<Port>,
    pub intake: Intake,
    /// A `discard` sink with a pipeline of its own.
    pub beside: Rc<Port>,
    beside_intake: Intake,
    pub capture: Capture,
    /// Batches handed over and not acknowledged.
    pub open: Rc<Cell<usize>>,
    pub failed: Rc<Cell<usize>>,
    reactor: Reactor,
}

impl World {
    /// A file sink in a directory `root`; `%` in `text` stands for the directory around it.
    pub fn file(text: &str) -> World {
        World::new("file", text).unwrap()
    }

    pub fn new(kind: &str, text: &str) -> Result<World, Failure> {
        let guard = tempfile::tempdir().unwrap();
        World::within(guard, kind, text)
    }

    /// The same in a directory that holds something already.
    pub fn within(guard: tempfile::TempDir, kind: &str, text: &str) -> Result<World, Failure> {
        let capture = Capture::start();
        let text = text.replace('@', guard.path().to_str().unwrap());
        let mut sink = build(kind, &text);
        let seams = Seams::system(PollerKind::Epoll).unwrap();
        let reactor = Reactor::new(seams, Options::default()).unwrap();
        let handle = reactor.handle();
        let scheduler: Rc<dyn Scheduler> = Rc::new(handle.clone());
        let (port, pipeline) = lane("out", &scheduler);
        let (beside, beside_pipeline) = lane("beside", &scheduler);
        let ports = vec![Rc::clone(&port), Rc::clone(&beside)];
        let engine = Engine::new(Memory::new(256 << 20), scheduler, ports);
        let intake = engine
            .outlet("in", Stage::Delivered, vec![pipeline])
            .intake();
        let outlet = engine.outlet("in2", Stage::Delivered, vec![beside_pipeline]);
        let gate = Gate::default();
        let mut resources = Resources::default();
        resources.lend(handle.clone());
        resources.lend::<Arc<dyn Storage>>(Arc::new(gate.clone()));
        sink.start(port.inlet(), &resources)?;
        build("discard", "").start(beside.inlet(), &resources)?;
        Ok(World {
            guard,
            gate,
            handle,
            sink,
            port,
            intake,
            beside,
            beside_intake: outlet.intake(),
            capture,
            open: Rc::default(),
            failed: Rc::default(),
            reactor,
        })
    }

    /// Hands over one batch of events, each with the text and the value of its field `x`.
    pub fn send(&self, events: &[(&str, &[u8])]) {
        let (open, failed) = (Rc::clone(&self.open), Rc::clone(&self.failed));
        open.set(open.get() + 1);
        let delivery = self.intake.deliver(batch(events));
        drop(delivery.add_both(move |result| {
            open.set(open.get() - 1);
            failed.set(failed.get() + usize::from(result.is_err()));
        }));
    }

    /// Hands over one batch of plain lines.
    pub fn send_lines(&self, lines: &[&str]) {
        let events: Vec<_> = lines.iter().map(|line| (*line, &b""[..])).collect();
        self.send(&events);
    }

    /// Hands over one batch of plain lines to the other sink.
    pub fn send_beside(&self, lines: &[&str]) {
        let events: Vec<_> = lines.iter().map(|line| (*line, &b""[..])).collect();
        drop(self.beside_intake.deliver(batch(&events)));
    }

    /// Lets the reactor run until it is so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let start = self.handle.fresh();
        while !is_so(self) {
            let waited = self.handle.fresh().since(start);
            assert!(waited < PATIENCE, "not after {waited:?}: {what}");
            self.reactor.turn(Some(Duration::from_millis(10))).unwrap();
            self.balanced();
        }
    }

    /// Lets the reactor run until everything handed over is settled.
    pub fn settle(&mut self) {
        self.until("everything is settled", |world| {
            world.open.get() == 0 && world.port.ledger().is_settled()
        });
    }

    /// Lets the reactor run for so long.
    pub fn run_for(&mut self, span: Duration) {
        let start = self.handle.fresh();
        while self.handle.fresh().since(start) < span {
            self.reactor.turn(Some(Duration::from_millis(5))).unwrap();
        }
        self.balanced();
    }

    /// Stops the sink and waits for it.
    pub fn stop(&mut self) {
        let stopped = Rc::new(Cell::new(false));
        let seen = Rc::clone(&stopped);
        drop(self.sink.stop().add_both(move |result| {
            seen.set(result.is_ok());
        }));
        self.until("the sink has stopped", |_| stopped.get());
    }

    fn balanced(&self) {
        let ledger = self.port.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!(ledger.dropped.snapshot().get("unresolved"), None);
    }

    pub fn delivered(&self) -> u64 {
        self.port.ledger().delivered.get()
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.port
            .ledger()
            .dropped
            .snapshot()
            .get(reason)
            .copied()
            .unwrap_or(0)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.guard.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| format!("{error}"))
    }

    /// The names in a directory.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(directory)).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    /// How many records of that event were logged so far.
    pub fn logged(&self, event: &str) -> usize {
        let records = self.capture.records();
        records
            .iter()
            .filter(|record| record.event == event)
            .count()
    }
}

/// A sink's port and a pipeline that feeds it alone.
fn lane(name: &str, scheduler: &Rc<dyn Scheduler>) -> (Rc<Port>, Rc<Pipeline>) {
    let queue = Box::new(MemoryQueue::new(64 << 20));
    let port = Port::new(name, WhenFull::Block, queue, Rc::clone(scheduler));
    let route = Route {
        port: Rc::clone(&port),
        condition: None,
        required: true,
    };
    (port, Pipeline::new(name, Vec::new(), vec![route], None))
}

fn build(kind: &str, text: &str) -> Box<dyn Sink> {
    let found = sinks::ALL.iter().find(|sink| sink.name == kind);
    let descriptor = found.unwrap();
    let options = SinkOptions::for_test(descriptor, text).unwrap_or_else(|e| panic!("{e}"));
    match descriptor.build {
        Build::Sink(build) => build(&options).unwrap_or_else(|mistake| panic!("{mistake}")),
        _ => panic!("{kind} is no sink"),
    }
}

fn batch(events: &[(&str, &[u8])]) -> Batch {
    let mut bytes = Vec::new();
    let mut list = Vec::new();
    for (text, value) in events {
        let start = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        let raw = Span::new(start, bytes.len());
        bytes.push(b'\n');
        let slot = Slot::Text(Span::new(bytes.len(), bytes.len() + value.len()));
        bytes.extend_from_slice(value);
        let fields = vec![Field {
            key: Key::named("x"),
            slot,
        }];
        list.push(Event::fielded(Fields {
            raw,
            list: fields,
            parsed: true,
        }));
    }
    let origin = Origin {
        source: "in".into(),
        peer: "".into(),
    };
    let mut batch = Batch::new(Arc::new(origin), WallTime::default(), Bytes::from(bytes));
    batch.events = list.into();
    batch
}
