//! What one reactor's generator and sinks have counted, and the way to the generator.
//!
//! Each reactor has one, as a resource that components ask for. Nothing in it is shared: the
//! counts of all reactors are asked for by the crew's orders, as plain data.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::pipeline::component::Resources;
use crate::service::assembly::Daemon;
use crate::service::surroundings::Lend;
use crate::time::Instant;

use super::corpus::Corpus;
use super::generator::Generator;
use super::histogram::Histogram;

/// The counts of one reactor.
pub struct Probe {
    pub corpus: Arc<Corpus>,
    /// Lines that the generator has sent, by the corpus.
    pub sent: Cell<u64>,
    /// Frames that were delivered and have come as far as they must.
    pub settled: Cell<u64>,
    /// Frames of deliveries that failed: a sink gave some of them up.
    pub lost: Cell<u64>,
    /// From handing over to settled, while the generator keeps to a rate.
    pub latency: RefCell<Histogram>,
    /// What this reactor's sinks wrote of events, in bytes.
    pub encoded_bytes: Cell<u64>,
    pub generator: RefCell<Weak<Generator>>,
}

/// The counts at an instant of their reactor's clock.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    pub sent: u64,
    pub settled: u64,
    pub lost: u64,
    pub encoded_bytes: u64,
}

impl Probe {
    /// Lends a probe to each reactor, with the same lines.
    pub fn lend(corpus: &Arc<Corpus>) -> Lend {
        let corpus = Arc::clone(corpus);
        Arc::new(move |resources: &mut Resources| {
            resources.lend(Rc::new(Probe {
                corpus: Arc::clone(&corpus),
                sent: Cell::new(0),
                settled: Cell::new(0),
                lost: Cell::new(0),
                latency: RefCell::default(),
                encoded_bytes: Cell::new(0),
                generator: RefCell::default(),
            }));
        })
    }

    /// The one of the reactor that `daemon` is on.
    pub fn of(daemon: &Daemon) -> Rc<Probe> {
        let resources = daemon.world.resources.borrow();
        Rc::clone(resources.get::<Rc<Probe>>())
    }

    /// The counts so far.
    pub fn sample(&self, at: Instant) -> Sample {
        Sample {
            at,
            sent: self.sent.get(),
            settled: self.settled.get(),
            lost: self.lost.get(),
            encoded_bytes: self.encoded_bytes.get(),
        }
    }

    /// What there is so far of how long deliveries took; it begins anew.
    pub fn take_latency(&self) -> Histogram {
        self.latency.take()
    }
}
