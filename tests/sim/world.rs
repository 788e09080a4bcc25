//! One run of one seed: a daemon, its peers, and checks after every turn.
//!
//! The daemon is made from its TOML by the service's own assembly; only the seams differ. The
//! run ends when the reactor has, or fails when it does not within its bounds.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::buffer::storage::Storage;
use marline::config::files::File;
use marline::config::{self, Config, Parts, Purpose};
use marline::deferred::Deferred;
use marline::pipeline::component::Resources;
use marline::pipeline::memory::Memory;
use marline::reactor::{Exit, Handle, Options, Phase, Reactor, Seams, Status};
use marline::service::assembly::{self, Daemon, StartError};
use marline::service::buffers::{self, Buffers};
use marline::service::change::OpenedBuffers;
use marline::service::cli;
use marline::service::workers::{Crew, Seat};
use marline::sim::{
    FaultCounts, FaultPlan, Random, SimIo, SimNet, SimPoller, SimStorage, SimWorker, VirtualClock,
};
use marline::time::{Clock, Instant};
use marline::transport::tls::Materials;
use marline::transport::{CHUNK_BYTES, Meter, Network, NetworkOptions};

use super::collector::Collector;
use super::judge;
use super::plan::{HOST, Plan, Sinking};
use super::sender::{Fate, Sender};
use super::server::{Server, VisitCounts};

/// No run takes more turns, or more virtual time after the last sender.
const TURNS_MAX: u64 = 500_000;
const DRAIN_MAX: Duration = Duration::from_secs(1800);
/// So long into the drain nothing goes wrong any more, so that it can end.
const FAULTS_LAST: Duration = Duration::from_secs(120);
/// No sender sends for longer; what it has not sent then is not sent.
const SENDING_MAX: Duration = Duration::from_secs(600);
/// Nobody waits longer for servers to be visited.
const VISITS_MAX: Duration = Duration::from_secs(60);
/// Between two turns that nothing asks for.
const LOOK: Duration = Duration::from_millis(100);

/// What a good run came to.
pub struct Report {
    pub virtual_time: Duration,
    pub turns: u64,
    pub happened: u64,
    pub sent: u64,
    pub delivered: u64,
    pub reloads: u64,
    /// Checks that found the memory full.
    pub pauses: u64,
    pub faults: FaultCounts,
    pub visits: VisitCounts,
    /// Bytes that were acknowledged to the daemon and that no collector has read.
    pub unread_bytes: u64,
    /// Events sent again that had been acknowledged.
    pub replayed: u64,
    /// Stands for all that happened, in its order.
    pub trace: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} of virtual time, {} turns, {} events of the world, {} lines sent, {} \
             delivered, memory full {} times, {}, {} bytes died unread, {} events sent again, \
             trace {:016x}\nfaults: {}",
            self.virtual_time,
            self.turns,
            self.happened,
            self.sent,
            self.delivered,
            self.pauses,
            self.visits,
            self.unread_bytes,
            self.replayed,
            self.trace,
            self.faults
        )
    }
}

pub struct World {
    pub plan: Plan,
    pub daemon: Rc<Daemon>,
    pub senders: Vec<Rc<Sender>>,
    pub collectors: Vec<Rc<Collector>>,
    /// The fate of each sender that the judge goes by.
    pub fates: Vec<Fate>,
    pub servers: Vec<Rc<Server>>,
    pub net: SimNet,
    pub storage: SimStorage,
    io: SimIo,
    clock: VirtualClock,
    handle: Handle,
    memory: Memory,
    turns: u64,
    pauses: u64,
    reloads: usize,
}

/// Runs a seed.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut plan = Plan::new(seed);
    let (mut reactor, seams) = make(&mut plan);
    let io = seams.io.clone();
    let result = World::start(plan, &reactor, seams).and_then(|mut world| {
        world.live(&mut reactor)?;
        judge::judge(&world)?;
        Ok(world)
    });
    let result = result.and_then(|world| {
        drop(reactor);
        world.close()
    });
    // What is planned holds the world, and the world holds what plans.
    io.end();
    result
}

pub struct Outside {
    pub net: SimNet,
    pub storage: SimStorage,
    pub io: SimIo,
    pub clock: VirtualClock,
}

fn make(plan: &mut Plan) -> (Reactor, Outside) {
    make_with(plan.faults.clone(), &mut plan.random)
}

/// A reactor in a world with these faults.
pub fn make_with(faults: FaultPlan, random: &mut Random) -> (Reactor, Outside) {
    let outside = Outside::new(faults, random);
    let (reactor, _) = outside.reactor(random);
    (reactor, outside)
}

impl Outside {
    /// A world in which these faults happen on the network; none on the disk, so far.
    pub fn new(faults: FaultPlan, random: &mut Random) -> Outside {
        let (clock, io) = (VirtualClock::new(), SimIo::new());
        let net = SimNet::new(clock.clone(), io.clone(), faults, random.fork());
        net.names().insert(HOST, vec![IpAddr::from([127, 0, 0, 1])]);
        let storage = SimStorage::new(random.fork());
        Outside {
            net,
            storage,
            io,
            clock,
        }
    }

    /// A reactor in it, one at a time.
    pub fn reactor(&self, random: &mut Random) -> (Reactor, Rc<SimWorker>) {
        let (clock, io) = (self.clock.clone(), self.io.clone());
        let poller = SimPoller::new(clock.clone(), io.clone());
        let faults = self.net.faults();
        let worker = SimWorker::new(clock.clone(), io, &poller, faults, random.fork());
        let worker = Rc::new(worker);
        let seams = Seams {
            clock: Rc::new(clock),
            poller: Box::new(poller),
            worker: Rc::clone(&worker) as Rc<dyn marline::reactor::Worker>,
        };
        let options = Options {
            drain_timeout: DRAIN_MAX * 2,
            ..Options::default()
        };
        (Reactor::new(seams, options).unwrap(), worker)
    }
}

/// A daemon made by the service's own assembly, started.
pub fn start_daemon(
    config: &str,
    handle: &Handle,
    net: SimNet,
    storage: Arc<dyn Storage>,
    memory: &Memory,
    seed: u64,
) -> Result<Rc<Daemon>, String> {
    let (config, parts) = load(config)?;
    let options = NetworkOptions {
        meter: Some(Arc::new(Metered(memory.clone()))),
        seed,
        ..NetworkOptions::default()
    };
    let mut resources = Resources::default();
    resources.lend(Network::new(handle, Rc::new(net), options));
    resources.lend(handle.clone());
    resources.lend::<Arc<dyn Storage>>(Arc::clone(&storage));
    let world = assembly::World {
        memory: memory.clone(),
        scheduler: Rc::new(handle.clone()),
        buffers: buffers_on(handle, storage, seed),
        resources: RefCell::new(resources),
        crew: Crew::alone(),
    };
    let daemon = Daemon::new(config, parts, world);
    let daemon = daemon.map_err(|error| format!("{}: {}", error.component, error.failure))?;
    let started = daemon.start();
    started.map_err(|error| format!("{}: {}", error.component, error.failure))?;
    plan_stop(handle, &daemon);
    Ok(daemon)
}

pub fn load(text: &str) -> Result<(Config, Parts), String> {
    let file = File::new(Path::new("sim.toml"), text.as_bytes().to_vec());
    let loaded = config::load_file(file, &cli::registry(), &|_| None, Purpose::Run);
    loaded.config.ok_or(loaded.report)
}

impl World {
    fn start(plan: Plan, reactor: &Reactor, outside: Outside) -> Result<World, String> {
        let Outside {
            net,
            storage,
            io,
            clock,
        } = outside;
        let handle = reactor.handle();
        let memory = Memory::new(plan.memory_bytes);
        let (config, disk) = (plan.config(), Arc::new(storage.clone()));
        let daemon = start_daemon(&config, &handle, net.clone(), disk, &memory, plan.seed)?;
        // A disk that fails at once keeps the daemon from starting, as it should.
        storage.plan_faults(plan.faults.clone());
        let mut world = World {
            plan,
            daemon,
            senders: Vec::new(),
            collectors: Vec::new(),
            servers: Vec::new(),
            fates: Vec::new(),
            net,
            storage,
            io,
            clock,
            handle,
            memory,
            turns: 0,
            pauses: 0,
            reloads: 0,
        };
        world.start_peers();
        Ok(world)
    }

    /// Everybody outside begins.
    fn start_peers(&mut self) {
        let World { plan, net, io, .. } = self;
        let clock = &self.clock;
        for sink in &plan.sinks {
            if let Sinking::Socket(sink) = sink {
                let (sink, random) = (sink.clone(), plan.random.fork());
                let ends = [plan.resets, plan.dies_unread];
                let collector = Collector::start(sink, ends, net, io, clock, random);
                self.collectors.push(collector);
            }
        }
        for sending in plan.senders.clone() {
            let sender = Sender::start(sending, net, io, clock, plan.random.fork());
            self.senders.push(sender);
        }
        for (id, serving) in plan.servers.clone().into_iter().enumerate() {
            let server = Server::start(id, serving, net, io, clock, plan.random.fork());
            self.servers.push(server);
        }
    }

    /// From now on nothing goes wrong by itself.
    fn calm(&self) {
        self.net.plan_faults(FaultPlan::quiet());
        self.storage.plan_faults(FaultPlan::quiet());
    }

    /// From the first turn to the last.
    fn live(&mut self, reactor: &mut Reactor) -> Result<(), String> {
        let stop_at = self.plan.stop_after.map(|after| Instant::ZERO + after);
        let give_up_at = Instant::ZERO + SENDING_MAX;
        while !self.is_over() && stop_at.is_none_or(|at| self.clock.now() < at) {
            if self.clock.now() >= give_up_at {
                self.senders.iter().for_each(|sender| sender.give_up());
            }
            self.turn(reactor)?;
            self.reload_if_due()?;
        }
        if !self.is_sent() {
            // What has arrived by now is promised, so nothing may destroy it from now on.
            self.net.plan_faults(FaultPlan::quiet());
            self.senders.iter().for_each(|sender| sender.behave());
        }
        self.fates = self.senders.iter().map(|sender| sender.fate()).collect();
        self.collectors.iter().for_each(|it| it.read_all());
        self.handle.stop(Exit::Stopped);
        let began = self.clock.now();
        while self.turn(reactor)? == Status::Going {
            let took = self.clock.now().since(began);
            if took > FAULTS_LAST {
                self.calm();
                self.collectors.iter().for_each(|it| it.behave());
            }
            if took > DRAIN_MAX {
                return Err(format!("the drain does not end; {}", self.left()));
            }
        }
        Ok(())
    }

    /// Goes over to the next configuration, as the service does it.
    fn reload_if_due(&mut self) -> Result<(), String> {
        let now = self.clock.now().since(Instant::ZERO);
        if self
            .plan
            .reloads
            .get(self.reloads)
            .is_none_or(|at| *at > now)
        {
            return Ok(());
        }
        self.reloads += 1;
        let (config, _) = load(&self.plan.config_after(self.reloads))?;
        let text = |error: StartError| format!("reload: {}: {}", error.component, error.failure);
        let openings = self.daemon.openings(&config).map_err(text)?;
        if !openings.is_empty() {
            return Err("a reload opens a buffer that was open".into());
        }
        let changed = self
            .daemon
            .change(config, OpenedBuffers::new(), Materials::default());
        changed.map(drop).map_err(text)
    }

    /// Whether nothing more is to be seen.
    fn is_over(&self) -> bool {
        let visited = || self.servers.iter().all(|server| server.is_over());
        self.is_sent() && (visited() || self.clock.now() > Instant::ZERO + VISITS_MAX)
    }

    fn is_sent(&self) -> bool {
        self.senders.iter().all(|sender| sender.is_over())
    }

    fn turn(&mut self, reactor: &mut Reactor) -> Result<Status, String> {
        self.storage.set_wall(self.clock.wall());
        let status = reactor
            .turn(Some(LOOK))
            .map_err(|error| error.to_string())?;
        self.turns += 1;
        let when = self.clock.now().since(Instant::ZERO);
        let check = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(format!("after {when:?}: {what}")),
        };
        if self.turns >= TURNS_MAX {
            return Err(format!("the run does not end: {}", self.left()));
        }
        check(self.daemon.balances(), "a ledger does not balance")?;
        let stats = self.handle.stats();
        let depth = stats.dispatch_depth_peak;
        check(depth <= 1, "a dispatch ran inside a dispatch")?;
        check(stats.panics == 0, "a handler panicked")?;
        let used = self.memory.used_bytes();
        let text = format!("{used} bytes of memory are in use");
        check(used <= self.memory.limit_bytes() + self.slack(), &text)?;
        self.pauses += u64::from(self.memory.is_full());
        Ok(status)
    }

    /// What may be in use beyond the limit: a read for each connection that was being served
    /// when the limit was reached, and a chunk full of datagrams.
    fn slack(&self) -> usize {
        let sendings = || self.plan.senders.iter();
        let streams = sendings().filter(|it| !it.is_datagram).count();
        let chunk = if streams < sendings().count() {
            CHUNK_BYTES
        } else {
            0
        };
        READ_BYTES_MAX * (streams + self.servers.len()) + chunk
    }

    /// What is still there, for whoever wonders what a run waits for.
    fn left(&self) -> String {
        let stats = self.handle.stats();
        format!(
            "{} events are open, {} bytes of memory in use, {} sockets, {} readers, {} timers, {} \
             jobs are left",
            self.daemon.open_events(),
            self.memory.used_bytes(),
            self.net.open_sockets(),
            self.handle.readers().len(),
            stats.timers,
            stats.jobs
        )
    }

    /// The end of everything: nothing may be left behind.
    fn close(self) -> Result<Report, String> {
        if self.handle.stats().dispatch_depth_peak != 1 {
            return Err("nothing was ever dispatched".into());
        }
        let ports = self.daemon.ports();
        let books = || ports.iter().map(|port| port.ledger());
        let delivered = books().map(|it| it.delivered.get()).sum();
        let replayed = books().map(|it| it.replayed.get()).sum();
        let unread = self.collectors.iter().map(|it| it.unread_bytes.get());
        let mut faults = self.net.fault_counts();
        faults.add(&self.storage.fault_counts());
        let fetched = self.plan.fetched.text(&self.storage)?;
        let report = Report {
            virtual_time: self.clock.now().since(Instant::ZERO),
            turns: self.turns,
            happened: self.io.happened(),
            sent: self
                .plan
                .senders
                .iter()
                .map(|it| it.lines.len() as u64)
                .sum(),
            delivered,
            reloads: self.reloads as u64,
            pauses: self.pauses,
            faults,
            visits: VisitCounts::of(&self.servers, &fetched),
            unread_bytes: unread.sum(),
            replayed,
            trace: self.io.trace() ^ self.storage.calls().rotate_left(32),
        };
        drop(self.daemon);
        self.senders.iter().for_each(|sender| sender.give_up());
        let left = self.net.open_sockets();
        match (left, self.memory.used_bytes()) {
            (0, 0) => Ok(report),
            (sockets, bytes) => Err(format!("{sockets} sockets and {bytes} bytes are left")),
        }
    }
}

/// What one connection can have waiting: a receiver's buffer, read at once.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Disk buffers on the simulated disk; a new one is named by the seed.
pub fn buffers_on(handle: &Handle, storage: Arc<dyn Storage>, seed: u64) -> Buffers {
    Buffers {
        storage,
        state_dir: "/state".into(),
        submit: buffers::submit(handle),
        new_uuid: Box::new(move || u128::from(seed).to_le_bytes()),
        seat: Seat::ALONE,
    }
}

/// As the service does it.
fn plan_stop(handle: &Handle, daemon: &Rc<Daemon>) {
    let is_drained = Rc::new(Cell::new(false));
    let (drained, stopped) = (Rc::clone(&is_drained), Rc::clone(daemon));
    handle.on_shutdown(Phase::Before, "drain", move |_| {
        stopped.drain().add_both(move |_| {
            drained.set(true);
            stopped.finish()
        })
    });
    let daemon = Rc::clone(daemon);
    handle.on_shutdown(Phase::During, "abandon", move |_| {
        if is_drained.get() {
            return Deferred::ready(());
        }
        daemon.abandon("shutdown");
        daemon.finish()
    });
}

/// Received bytes count towards the memory.
struct Metered(Memory);

impl Meter for Metered {
    fn grow(&self, bytes: usize) {
        self.0.add(bytes);
    }

    fn shrink(&self, bytes: usize) {
        self.0.sub(bytes);
    }
}
