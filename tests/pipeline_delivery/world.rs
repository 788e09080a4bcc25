//! One pipeline on a scheduler that only queues: calls and timers run when the test says so.
//!
//! Every interleaving of sources and sinks is a sequence of method calls then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use marline::buffer::memory::MemoryQueue;
use marline::deferred::Deferred;
use marline::event::{Batch, Event, Origin, Span};
use marline::pipeline::condition::Condition;
use marline::pipeline::graph::{LabelledStep, Pipeline, Route};
use marline::pipeline::intake::{Engine, Intake};
use marline::pipeline::memory::Memory;
use marline::pipeline::part::{Delivered, Part, Stage};
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::time::{Cancel, Duration, Instant, Scheduler, Timers, WallTime};

/// Queues calls; runs them when asked.
#[derive(Default)]
pub struct Later {
    calls: RefCell<VecDeque<Box<dyn FnOnce()>>>,
    timers: RefCell<Vec<Box<dyn FnOnce()>>>,
    pub now: Cell<Instant>,
}

pub struct Never;
impl Cancel for Never {
    fn cancel(self: Box<Self>) {}
}

impl Timers for Later {
    fn call_after(&self, _: Duration, call: Box<dyn FnOnce()>) -> Box<dyn Cancel> {
        self.timers.borrow_mut().push(call);
        Box::new(Never)
    }
}

impl Scheduler for Later {
    fn now(&self) -> Instant {
        self.now.get()
    }
    fn wall(&self) -> WallTime {
        WallTime::default()
    }
    fn call_soon(&self, call: Box<dyn FnOnce()>) {
        self.calls.borrow_mut().push_back(call);
    }
}

impl Later {
    pub fn run(&self) {
        for _ in 0..10_000 {
            let next = self.calls.borrow_mut().pop_front();
            let Some(call) = next else { return };
            call();
        }
        panic!("the queue of calls never ran dry");
    }

    pub fn fire_timers(&self) {
        let due = std::mem::take(&mut *self.timers.borrow_mut());
        due.into_iter().for_each(|call| call());
        self.run();
    }
}

pub struct World {
    pub later: Rc<Later>,
    pub engine: Rc<Engine>,
    pub pipeline: Rc<Pipeline>,
    pub ports: Vec<Rc<Port>>,
    pub memory: Memory,
}

/// One pipeline into sinks given as (capacity, required, condition).
pub fn world(sinks: &[(usize, bool, Option<&str>)]) -> World {
    world_with(sinks, Vec::new())
}

pub fn world_with(sinks: &[(usize, bool, Option<&str>)], steps: Vec<LabelledStep>) -> World {
    world_of(sinks, steps, WhenFull::Block)
}

/// A last sink, which no route names, is for the dead letters where there are no steps.
pub fn world_of(
    sinks: &[(usize, bool, Option<&str>)],
    steps: Vec<LabelledStep>,
    when_full: WhenFull,
) -> World {
    let later = Rc::new(Later::default());
    let port = |index: usize, capacity: usize| {
        let scheduler = Rc::clone(&later) as Rc<dyn Scheduler>;
        let queue = Box::new(MemoryQueue::new(capacity));
        Port::new(&format!("sink{index}"), when_full, queue, scheduler)
    };
    let takes_letters = steps.is_empty();
    let mut ports: Vec<_> = sinks
        .iter()
        .enumerate()
        .map(|(i, sink)| port(i, sink.0))
        .collect();
    let letters = port(sinks.len(), 1 << 20);
    let route = |(port, sink): (&Rc<Port>, &(usize, bool, Option<&str>))| Route {
        port: Rc::clone(port),
        condition: sink.2.map(|text| Condition::compile(text).unwrap()),
        required: sink.1,
    };
    let routes = ports.iter().zip(sinks).map(route).collect();
    let pipeline = Pipeline::new(
        "main",
        steps,
        routes,
        takes_letters.then(|| Rc::clone(&letters)),
    );
    ports.push(letters);
    let memory = Memory::new(64 << 20);
    let scheduler = Rc::clone(&later) as Rc<dyn Scheduler>;
    let engine = Engine::new(memory.clone(), scheduler, ports.clone());
    World {
        later,
        engine,
        pipeline,
        ports,
        memory,
    }
}

impl World {
    pub fn intake(&self, stage: Stage) -> Intake {
        self.engine
            .outlet("in", stage, vec![Rc::clone(&self.pipeline)])
            .intake()
    }

    pub fn balanced(&self) {
        assert!(
            self.pipeline.ledger().balances(),
            "{:?}",
            self.pipeline.ledger()
        );
        for port in &self.ports {
            assert!(
                port.ledger().balances(),
                "{}: {:?}",
                port.name(),
                port.ledger()
            );
        }
    }

    pub fn take(&self, sink: usize) -> Option<Part> {
        self.ports[sink].inlet().next()
    }
}

/// A batch of `events` lines of `length` bytes.
pub fn batch(events: usize, length: usize) -> Batch {
    let origin = Arc::new(Origin {
        source: "in".into(),
        peer: "".into(),
    });
    let line = |index: usize| Event::Raw(Span::new(index * length, (index + 1) * length));
    let bytes = Bytes::from(vec![b'x'; events * length]);
    let mut batch = Batch::new(origin, WallTime::default(), bytes);
    batch.events = (0..events).map(line).collect();
    batch
}

/// Watches a delivery: 0 open, 1 delivered, 2 failed.
pub fn watch(delivery: Deferred<Delivered>) -> Rc<Cell<u8>> {
    let state = Rc::new(Cell::new(0));
    let seen = Rc::clone(&state);
    drop(delivery.add_both(move |result| seen.set(if result.is_ok() { 1 } else { 2 })));
    state
}
