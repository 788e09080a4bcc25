//! What a reactor of the daemon is made of, and what a daemon on it lives on.
//!
//! The same for the first one and for the workers, but for what systemd handed over, which the
//! first one has. What all of them share is [`Common`].

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::buffer::storage::Storage;
use crate::buffer::storage_sys::SystemStorage;
use crate::config::Config;
use crate::pipeline::component::Resources;
use crate::pipeline::host::Host;
use crate::pipeline::memory::Memory;
use crate::pipeline::options::Value;
use crate::reactor::{Handle, Options, PanicPolicy, PollerKind, Reactor, Seams};
use crate::sources::file::Checkpoints;
use crate::telemetry::tap::Tap;
use crate::transport::{FdStore, Inherited, Meter, Network, NetworkOptions, Siblings, SysNet};

use super::assembly::World;
use super::buffers::Buffers;
use super::paths::Paths;
use super::workers::Crew;
use super::{FINISH_MAX, Refusal};

/// What all reactors of the daemon share. None of it is changed on the way of an event but the
/// count of the memory in use.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) paths: Paths,
    pub(super) tap: Arc<Tap>,
    pub(super) memory: Memory,
    /// What the siblings share.
    pub(super) places: Arc<crate::transport::siblings::Shared>,
    /// What components of this run alone may ask for, on each reactor.
    pub(super) lend: Option<Lend>,
}

/// Lends something to the components of one reactor.
pub(super) type Lend = Arc<dyn Fn(&mut Resources) + Send + Sync>;

/// How many reactors the configuration asks for.
pub(super) fn reactors_of(config: &Config) -> usize {
    match config.daemon.value("workers") {
        Some(Value::Count(count)) => usize::try_from(*count).unwrap_or(1),
        Some(_) => available_parallelism().map_or(1, usize::from),
        None => 1,
    }
}

/// A reactor as the configuration wants it.
pub(super) fn reactor(config: &Config) -> Result<Reactor, Refusal> {
    let options = &config.daemon;
    let kind = match options.word("poller") {
        "poll" => PollerKind::Poll,
        "select" => PollerKind::Select,
        _ => PollerKind::Epoll,
    };
    let panic = match options.word("panic") {
        "exit" => PanicPolicy::Exit,
        _ => PanicPolicy::Continue,
    };
    let seams = Seams::system(kind);
    let seams = seams.map_err(|error| Refusal::System("cannot make a poller", error))?;
    let options = Options {
        panic,
        drain_timeout: options.duration("stop_timeout"),
        finish_timeout: FINISH_MAX,
        ..Options::default()
    };
    Reactor::new(seams, options).map_err(Refusal::Reactor)
}

/// What the daemon lives on.
pub(super) fn world(handle: &Handle, crew: Rc<Crew>, common: &Common) -> Result<World, Refusal> {
    let paths = &common.paths;
    let mut resources = resources(handle, &crew, common)?;
    let storage = Arc::clone(resources.get::<Arc<dyn Storage>>());
    resources.lend(Checkpoints::new(
        handle,
        Arc::clone(&storage),
        &paths.state_dir,
    ));
    Ok(World {
        memory: common.memory.clone(),
        scheduler: Rc::new(handle.clone()),
        buffers: Buffers::new(handle, storage, &paths.state_dir).at(crew.seat()),
        resources: RefCell::new(resources),
        crew,
    })
}

/// What components may ask for.
fn resources(handle: &Handle, crew: &Crew, common: &Common) -> Result<Resources, Refusal> {
    let seat = crew.seat();
    let siblings = Siblings {
        index: seat.index,
        count: seat.count,
        shared: Arc::clone(&common.places),
    };
    let net = SysNet::new();
    let net = net.map_err(|error| Refusal::System("cannot reserve a descriptor", error))?;
    let options = NetworkOptions {
        meter: Some(Arc::new(MemoryMeter(common.memory.clone()))),
        seed: seed(handle),
        siblings: (!seat.is_alone()).then_some(siblings),
        ..inherited(seat.index)
    };
    let mut resources = Resources::default();
    resources.lend(Network::new(handle, Rc::new(net), options));
    resources.lend(handle.clone());
    resources.lend::<Arc<dyn Storage>>(Arc::new(SystemStorage));
    resources.lend(Host::new(&common.paths.state_dir));
    resources.lend(Arc::clone(&common.tap));
    common.lend.iter().for_each(|lend| lend(&mut resources));
    Ok(resources)
}

/// What systemd handed over, which the first reactor has.
fn inherited(index: usize) -> NetworkOptions {
    if index > 0 {
        return NetworkOptions::default();
    }
    NetworkOptions {
        inherited: Inherited::from_environment(),
        store: FdStore::from_environment(),
        ..NetworkOptions::default()
    }
}

/// Different for every start, so that a fleet's back-offs are not in step and what is named
/// after it has a name of its own. std's hash keys are the system's random numbers, and do not
/// wait for it to have enough of them (F-136).
fn seed(handle: &Handle) -> u64 {
    RandomState::new().hash_one((handle.wall().as_micros(), std::process::id()))
}

/// Received bytes count towards `daemon.memory`.
struct MemoryMeter(Memory);

impl Meter for MemoryMeter {
    fn grow(&self, bytes: usize) {
        self.0.add(bytes);
    }

    fn shrink(&self, bytes: usize) {
        self.0.sub(bytes);
    }
}
