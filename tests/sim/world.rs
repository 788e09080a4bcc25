//! One run of one seed: a daemon, its peers, and checks after every turn.
//!
//! The daemon is made from its TOML by the service's own assembly; only the seams differ. The
//! run ends when the reactor has, or fails when it does not within its bounds.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::config::files::File;
use marline::config::{self, Config, Parts, Purpose};
use marline::deferred::Deferred;
use marline::pipeline::component::Resources;
use marline::pipeline::memory::Memory;
use marline::reactor::{Exit, Handle, Options, Phase, Reactor, Seams, Status};
use marline::service::assembly::Daemon;
use marline::service::cli;
use marline::sim::{
    FaultCounts, FaultPlan, Random, SimIo, SimNet, SimPoller, SimWorker, VirtualClock,
};
use marline::time::{Clock, Instant, Scheduler};
use marline::transport::{CHUNK_BYTES, Meter, Network, NetworkOptions};

use super::collector::Collector;
use super::judge;
use super::plan::{HOST, Plan};
use super::sender::{Fate, Sender};

/// No run takes more turns, or more virtual time after the last sender.
const TURNS_MAX: u64 = 500_000;
const DRAIN_MAX: Duration = Duration::from_secs(1800);
/// So long into the drain nothing goes wrong any more, so that it can end.
const FAULTS_LAST: Duration = Duration::from_secs(120);
/// No sender sends for longer; what it has not sent then is not sent.
const SENDING_MAX: Duration = Duration::from_secs(600);
/// Between two turns that nothing asks for.
const LOOK: Duration = Duration::from_millis(100);

/// What a good run came to.
pub struct Report {
    pub virtual_time: Duration,
    pub turns: u64,
    pub happened: u64,
    pub sent: u64,
    pub delivered: u64,
    /// Checks that found the memory full.
    pub pauses: u64,
    pub faults: FaultCounts,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} of virtual time, {} turns, {} events of the world, {} lines sent, {} \
             delivered, memory full {} times\nfaults: {}",
            self.virtual_time,
            self.turns,
            self.happened,
            self.sent,
            self.delivered,
            self.pauses,
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
    pub net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    handle: Handle,
    memory: Memory,
    /// The deepest nesting of dispatches that any read or write has seen.
    depth: Rc<Cell<u32>>,
    turns: u64,
    pauses: u64,
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
    pub io: SimIo,
    pub clock: VirtualClock,
}

fn make(plan: &mut Plan) -> (Reactor, Outside) {
    make_with(plan.faults.clone(), &mut plan.random)
}

/// A reactor in a world with these faults.
pub fn make_with(faults: FaultPlan, random: &mut Random) -> (Reactor, Outside) {
    let (clock, io) = (VirtualClock::new(), SimIo::new());
    let net = SimNet::new(clock.clone(), io.clone(), faults, random.fork());
    net.names().insert(HOST, vec![IpAddr::from([127, 0, 0, 1])]);
    let poller = SimPoller::new(clock.clone(), io.clone());
    let random = random.fork();
    let worker = SimWorker::new(clock.clone(), io.clone(), &poller, net.faults(), random);
    let seams = Seams {
        clock: Rc::new(clock.clone()),
        poller: Box::new(poller),
        worker: Rc::new(worker),
    };
    let options = Options {
        drain_timeout: DRAIN_MAX * 2,
        ..Options::default()
    };
    let reactor = Reactor::new(seams, options).unwrap();
    (reactor, Outside { net, io, clock })
}

pub fn load(text: &str) -> Result<(Config, Parts), String> {
    let file = File::new(Path::new("sim.toml"), text.as_bytes().to_vec());
    let loaded = config::load_file(file, &cli::registry(), &|_| None, Purpose::Run);
    loaded.config.ok_or(loaded.report)
}

impl World {
    fn start(mut plan: Plan, reactor: &Reactor, outside: Outside) -> Result<World, String> {
        let Outside { net, io, clock } = outside;
        let handle = reactor.handle();
        let (config, parts) = load(&plan.config())?;
        let memory = Memory::new(plan.memory_bytes);
        let options = NetworkOptions {
            meter: Some(Arc::new(Metered(memory.clone()))),
            seed: plan.seed,
            ..NetworkOptions::default()
        };
        let mut resources = Resources::default();
        resources.lend(Network::new(&handle, Rc::new(net.clone()), options));
        resources.lend(handle.clone());
        let scheduler: Rc<dyn Scheduler> = Rc::new(handle.clone());
        let daemon = Rc::new(Daemon::new(&config, parts, memory.clone(), &scheduler));
        let started = daemon.start(&config, &resources);
        started.map_err(|error| format!("{}: {}", error.component, error.failure))?;
        plan_stop(&handle, &daemon);
        let depth = Rc::new(Cell::new(0));
        let (deepest, watched) = (Rc::clone(&depth), handle.clone());
        net.observe(move || deepest.set(deepest.get().max(watched.dispatch_depth())));
        let sinks = plan.sinks.clone().into_iter();
        let collectors = sinks.map(|sink| {
            let random = plan.random.fork();
            Collector::start(sink, plan.resets, &net, &io, &clock, random)
        });
        let collectors = collectors.collect();
        let sendings = plan.senders.clone().into_iter();
        let senders =
            sendings.map(|sending| Sender::start(sending, &net, &io, &clock, plan.random.fork()));
        let senders = senders.collect();
        Ok(World {
            plan,
            daemon,
            senders,
            collectors,
            fates: Vec::new(),
            net,
            io,
            clock,
            handle,
            memory,
            depth,
            turns: 0,
            pauses: 0,
        })
    }

    /// From the first turn to the last.
    fn live(&mut self, reactor: &mut Reactor) -> Result<(), String> {
        let stop_at = self.plan.stop_after.map(|after| Instant::ZERO + after);
        let give_up_at = Instant::ZERO + SENDING_MAX;
        while !self.is_sent() && stop_at.is_none_or(|at| self.clock.now() < at) {
            if self.clock.now() >= give_up_at {
                self.senders.iter().for_each(|sender| sender.give_up());
            }
            self.turn(reactor)?;
        }
        if !self.is_sent() {
            // What has arrived by now is promised, so nothing may destroy it from now on.
            self.net.plan_faults(FaultPlan::quiet());
        }
        self.fates = self.senders.iter().map(|sender| sender.fate()).collect();
        self.handle.stop(Exit::Stopped);
        let began = self.clock.now();
        while self.turn(reactor)? == Status::Going {
            let took = self.clock.now().since(began);
            if took > FAULTS_LAST {
                self.net.plan_faults(FaultPlan::quiet());
                self.collectors.iter().for_each(|it| it.behave());
            }
            if took > DRAIN_MAX {
                let open = self.daemon.open_events();
                return Err(format!("the drain does not end; {open} events are open"));
            }
        }
        Ok(())
    }

    fn is_sent(&self) -> bool {
        self.senders.iter().all(|sender| sender.is_over())
    }

    fn turn(&mut self, reactor: &mut Reactor) -> Result<Status, String> {
        let status = reactor
            .turn(Some(LOOK))
            .map_err(|error| error.to_string())?;
        self.turns += 1;
        let when = self.clock.now().since(Instant::ZERO);
        let check = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(format!("after {when:?}: {what}")),
        };
        check(self.turns < TURNS_MAX, "the run does not end")?;
        check(self.daemon.balances(), "a ledger does not balance")?;
        check(self.depth.get() <= 1, "a dispatch ran inside a dispatch")?;
        check(self.handle.stats().panics == 0, "a handler panicked")?;
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
        READ_BYTES_MAX * streams + chunk
    }

    /// The end of everything: nothing may be left behind.
    fn close(self) -> Result<Report, String> {
        if self.depth.get() != 1 {
            return Err("no read or write was ever seen in a dispatch".into());
        }
        let delivered = self.daemon.ports().iter();
        let delivered = delivered.map(|port| port.ledger().delivered.get()).sum();
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
            pauses: self.pauses,
            faults: self.net.fault_counts(),
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
