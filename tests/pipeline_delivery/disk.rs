//! A disk queue whose jobs end in whatever order the test likes.
//!
//! A job runs when it is told, and what it did is heard of when that is told, which need not be
//! in the same order: that is how storage threads are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use marline::buffer::disk::{self, Durability, Settings};
use marline::buffer::disk_queue::{DiskQueue, Done, Making, Submit};
use marline::buffer::memory::MemoryQueue;
use marline::buffer::storage::{Directory, Storage};
use marline::deferred::Deferred;
use marline::pipeline::graph::{Pipeline, Route};
use marline::pipeline::intake::{Engine, Intake};
use marline::pipeline::letter::Vias;
use marline::pipeline::memory::Memory;
use marline::pipeline::part::{Delivered, Stage};
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::sim::{Random, SimStorage};
use marline::time::{Scheduler, WallTime};

use super::world::{Later, batch, watch};

type Job = Box<dyn FnOnce() -> Done + Send>;
type Then = Box<dyn FnOnce(Option<Done>)>;

pub(super) struct DiskWorld {
    pub(super) later: Rc<Later>,
    pub(super) storage: SimStorage,
    jobs: Rc<RefCell<VecDeque<(&'static str, Job, Then)>>>,
    pub(super) port: Rc<Port>,
    /// In memory, for the dead letters.
    pub(super) letters: Rc<Port>,
    engine: Rc<Engine>,
    pipeline: Rc<Pipeline>,
    memory: Memory,
    submit: Submit,
    settings: Settings,
}

/// A job that has run, and of which nobody has heard.
pub(super) struct Ran(Done, Then);

impl DiskWorld {
    pub(super) fn new(when_full: WhenFull) -> DiskWorld {
        DiskWorld::with(when_full, Durability::Commit)
    }

    pub(super) fn with(when_full: WhenFull, durability: Durability) -> DiskWorld {
        let storage = SimStorage::new(Random::new(1));
        let later = Rc::new(Later::default());
        let scheduler = Rc::clone(&later) as Rc<dyn Scheduler>;
        let jobs: Rc<RefCell<VecDeque<(&'static str, Job, Then)>>> = Rc::default();
        let queued = Rc::clone(&jobs);
        let submit: Submit =
            Rc::new(move |label, job, then| queued.borrow_mut().push_back((label, job, then)));
        let memory = Memory::new(64 << 20);
        let settings = Settings::new(8 << 20, durability, [7; 16]);
        let opened = disk::open(folder(&storage), settings, WallTime::default()).unwrap();
        let queue = DiskQueue::new(making(
            opened, settings, when_full, &memory, &later, &submit,
        ));
        let port = Port::new("out", when_full, Box::new(queue), Rc::clone(&scheduler));
        let route = Route {
            port: Rc::clone(&port),
            condition: None,
            required: true,
        };
        let letters = Box::new(MemoryQueue::new(1 << 20));
        let letters = Port::new("letters", WhenFull::Block, letters, Rc::clone(&scheduler));
        let errors_to = Some(Rc::clone(&letters));
        let pipeline = Pipeline::new("main", Vec::new(), vec![route], errors_to);
        let ports = vec![Rc::clone(&port), Rc::clone(&letters)];
        let engine = Engine::new(memory.clone(), scheduler, ports);
        DiskWorld {
            later,
            storage,
            jobs,
            port,
            letters,
            engine,
            pipeline,
            memory,
            submit,
            settings,
        }
    }

    /// The buffer as the next start finds it.
    pub(super) fn reopened(&self) -> disk::Opened {
        disk::open(folder(&self.storage), self.settings, WallTime::default()).unwrap()
    }

    /// A disk queue over the same folder, which nobody has by now.
    pub(super) fn another(&self) -> Box<DiskQueue> {
        let (when_full, opened) = (self.port.when_full(), self.reopened());
        Box::new(DiskQueue::new(making(
            opened,
            self.settings,
            when_full,
            &self.memory,
            &self.later,
            &self.submit,
        )))
    }

    pub(super) fn intake(&self, stage: Stage) -> Intake {
        let outlet = self
            .engine
            .outlet("in", stage, vec![Rc::clone(&self.pipeline)]);
        outlet.intake()
    }

    /// A source whose events go to the disk and, by another route, to the sink for the letters.
    pub(super) fn intake_to_both(&self, stage: Stage) -> Intake {
        let route = |port: &Rc<Port>| Route {
            port: Rc::clone(port),
            condition: None,
            required: true,
        };
        let routes = vec![route(&self.port), route(&self.letters)];
        let both = Pipeline::new("both", Vec::new(), routes, None);
        self.engine.outlet("both", stage, vec![both]).intake()
    }

    /// The oldest job of that label is lost with what it has of the log, as by a panic.
    pub(super) fn lose(&self, label: &str) {
        let mut jobs = self.jobs.borrow_mut();
        let at = jobs.iter().position(|job| job.0 == label).unwrap();
        let (_, job, then) = jobs.remove(at).unwrap();
        drop(jobs);
        drop(job);
        then(None);
        self.later.run();
    }

    /// Sends until something is to be evicted.
    pub(super) fn send_until_eviction(&self, intake: &Intake) {
        for _ in 0..60 {
            drop(self.send(intake).add_both(|_| ()));
            self.later.run();
            self.settle();
            if self.has_job("disk buffer eviction") {
                return;
            }
        }
        panic!("it is never full");
    }

    /// Runs the oldest job of that label.
    pub(super) fn run(&self, label: &str) -> Option<Ran> {
        let mut jobs = self.jobs.borrow_mut();
        let at = jobs.iter().position(|job| job.0 == label)?;
        let (_, job, then) = jobs.remove(at)?;
        drop(jobs);
        Some(Ran(job(), then))
    }

    pub(super) fn hear(&self, ran: Ran) {
        ran.1(Some(ran.0));
        self.later.run();
    }

    /// Whether a job of that label waits for its thread.
    pub(super) fn has_job(&self, label: &str) -> bool {
        self.jobs.borrow().iter().any(|job| job.0 == label)
    }

    /// Runs and hears of everything but eviction, until nothing is left.
    pub(super) fn settle(&self) {
        self.settle_but("disk buffer eviction");
    }

    pub(super) fn settle_but(&self, left: &str) {
        for _ in 0..10_000 {
            let labels: Vec<_> = self.jobs.borrow().iter().map(|job| job.0).collect();
            let Some(label) = labels.into_iter().find(|label| *label != left) else {
                return;
            };
            let ran = self.run(label).unwrap();
            self.hear(ran);
        }
        panic!("the jobs never run dry");
    }

    pub(super) fn balanced(&self) {
        let books = self.port.ledger();
        assert!(books.balances(), "{books:?}");
    }

    /// A quarter of a megabyte in 256 events.
    pub(super) fn send(&self, intake: &Intake) -> Deferred<Delivered> {
        intake.deliver(batch(256, 1024))
    }
}

fn making(
    opened: disk::Opened,
    settings: Settings,
    when_full: WhenFull,
    memory: &Memory,
    later: &Rc<Later>,
    submit: &Submit,
) -> Making {
    Making {
        name: "out".into(),
        opened,
        settings,
        // Nothing but one part at a time is ready: the rest is read.
        memory_bytes: 1 << 20,
        when_full,
        memory: memory.clone(),
        vias: Vias::default(),
        scheduler: Rc::clone(later) as Rc<dyn Scheduler>,
        submit: Rc::clone(submit),
    }
}

/// Where the buffer is.
pub(super) fn folder(storage: &SimStorage) -> Arc<dyn Directory> {
    storage.root(Path::new("/state"), Some(0o700)).unwrap()
}

/// The reader passes over what an eviction has given up already, before the eviction is heard
/// of: every event is booked once, and the cursor has no hole.
#[test]
fn f_057_an_eviction_that_races_with_a_read_books_every_event_once() {
    let world = DiskWorld::new(WhenFull::DropOldest);
    let intake = world.intake(Stage::Received);
    for _ in 0..60 {
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        world.settle_but("disk buffer eviction");
        if world
            .jobs
            .borrow()
            .iter()
            .any(|job| job.0.ends_with("eviction"))
        {
            break;
        }
    }
    world.balanced();
    // The sink takes what is ready, which makes the queue read on.
    let inlet = world.port.inlet();
    while world
        .jobs
        .borrow()
        .iter()
        .all(|job| job.0 != "disk buffer read")
    {
        inlet.next().expect("there is something ready").delivered();
        world.later.run();
    }
    let evicted = world.run("disk buffer eviction").expect("it is full");
    let read = world.run("disk buffer read").unwrap();
    world.hear(read);
    world.balanced();
    world.hear(evicted);
    world.balanced();
    // Everything else is delivered in the end, and nothing is left behind.
    for _ in 0..10_000 {
        world.settle();
        while let Some(ran) = world.run("disk buffer eviction") {
            world.hear(ran);
        }
        match inlet.next() {
            Some(part) => part.delivered(),
            None if world.port.ledger().is_settled() => break,
            None => world.later.fire_timers(),
        }
        world.later.run();
    }
    let books = world.port.ledger();
    world.balanced();
    assert!(books.is_settled(), "{books:?}");
    assert!(books.dropped.total() >= 256, "nothing was evicted");
    // The cursor passes all of it.
    world.later.fire_timers();
    world.settle();
    assert!(world.port.queue().is_empty(), "the cursor has a hole");
}

/// A commit that is under way when the queue is closed: whoever waits for more than durability
/// is told, and the events are there at the next start.
#[test]
fn a_queue_that_closes_in_the_middle_of_a_commit_leaves_nobody_waiting() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    let state = watch(world.send(&intake));
    world.later.run();
    let commit = world.run("disk buffer commit").expect("it is written");
    let closed = world.port.close();
    let again = world.port.close();
    let ends = [closed, again].map(|closed| {
        let seen = Rc::new(RefCell::new(false));
        let slot = Rc::clone(&seen);
        drop(closed.add_both(move |_| *slot.borrow_mut() = true));
        seen
    });
    world.hear(commit);
    assert!(
        ends.iter().all(|end| !*end.borrow()),
        "it is not closed yet"
    );
    world.settle();
    assert!(ends.iter().all(|end| *end.borrow()));
    assert_eq!(state.get(), 2, "the sender still waits");
    assert_eq!(world.port.ledger().buffered.get(), 256);
    world.balanced();
}
