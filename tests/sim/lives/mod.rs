//! Several lives of one daemon: each but the last is killed, or loses its power with the machine.
//!
//! The disk, the network and the peers go on; each life is a new reactor and a new daemon of the
//! same configuration. A life ends at some moment, or on a certain call of the disk. The last one
//! lasts until everything is acknowledged, stops in order, and is judged ([`judge`]).

#[cfg(test)]
mod every_call;
mod flips;
pub mod form;
pub mod judge;
pub mod plan;
pub mod poster;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use marline::deferred;
use marline::pipeline::memory::Memory;
use marline::reactor::{Exit, Handle, Reactor, Status, Worker};
use marline::service::assembly::Daemon;
use marline::sim::{
    Death, DeathPoint, Fault, FaultCounts, FaultPlan, SimNet, SimWorker, StorageCall,
};
use marline::time::{Clock, Instant};
use marline::transport::Endpoint;

use super::collector::Collector;
use super::http::{Receiver, ReplyCounts};
use super::plan::Sinking;
use super::world::{self, Outside};
use form::{Form, FormCounts, HTTP_IN, HTTP_IN_TOO};
use plan::{Dying, Plan, When};
use poster::Poster;

/// A life that was to end on a call which does not come ends then all the same.
const LIFE_MAX: Duration = Duration::from_secs(3);
/// So long into the last life nothing goes wrong any more, so that it can end.
const FAULTS_LAST: Duration = Duration::from_secs(60);
/// The last life takes no longer.
const LAST_LIFE_MAX: Duration = Duration::from_secs(1800);
/// How often, per mille, the disk may fail while a daemon starts.
const STARTS_FAULTY: u16 = 200;
/// No run takes more turns.
const TURNS_MAX: u64 = 500_000;
/// So long nothing is lost any more before the last life stops.
const SETTLED: Duration = Duration::from_secs(10);
/// Between two turns that nothing asks for.
const LOOK: Duration = Duration::from_millis(100);

/// What good lives came to.
pub struct Report {
    pub virtual_time: Duration,
    pub turns: u64,
    pub happened: u64,
    pub ended: Vec<Ended>,
    pub acked: u64,
    pub attempts: u64,
    pub doubled: u64,
    pub pieces: u64,
    pub starts_failed: u64,
    pub faults: FaultCounts,
    pub forms: FormCounts,
    pub replies: ReplyCounts,
    /// Bytes that a collector's kernel had acknowledged and it never read.
    pub unread_bytes: u64,
    /// Acknowledged lines of which nobody could know that such bytes were theirs.
    pub unknowable: u64,
    /// Acknowledged lines that were lost with a bit that turned.
    pub flipped: u64,
    /// Calls of each kind that the disk has seen.
    pub calls: Vec<(StorageCall, u64)>,
    /// Stands for all that happened, in its order.
    pub trace: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} of virtual time, {} turns, {} events of the world, {} lives, {} lines \
             acknowledged after {} requests, {} came again, {} pieces, {} starts failed, \
             {} bytes died unread, trace {:016x}\n{}\nrequests: {:?}\nfaults: {}\n\
             calls of the disk: {:?}",
            self.virtual_time,
            self.turns,
            self.happened,
            self.ended.len() + 1,
            self.acked,
            self.attempts,
            self.doubled,
            self.pieces,
            self.starts_failed,
            self.unread_bytes,
            self.trace,
            self.forms,
            self.replies,
            self.faults,
            self.calls
        )
    }
}

/// How a life has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub death: Death,
    /// On which call, where it was on one.
    pub on: Option<StorageCall>,
    /// Before the daemon had started.
    pub in_start: bool,
}

pub struct Lives {
    pub plan: Plan,
    pub outside: Outside,
    pub posters: Vec<Rc<Poster>>,
    pub collectors: Vec<Rc<Collector>>,
    pub receivers: Vec<Rc<Receiver>>,
    pub ended: Vec<Ended>,
    /// What the configuration says.
    form: Form,
    /// Of the plan's reloads, how many have been tried.
    reloads: usize,
    pub forms: FormCounts,
    /// Events that the books of all lives have as damaged, by sink.
    pub damaged: BTreeMap<String, u64>,
    /// The sinks that a reload has replaced.
    pub replaced: BTreeSet<&'static str>,
    /// Since when there is a sink beside the others, and until when there was, by turns.
    pub beside: Vec<(Instant, Option<Instant>)>,
    /// Starts that a disk which failed has kept from succeeding.
    starts_failed: u64,
    turns: u64,
}

/// One of them.
struct Life {
    reactor: Reactor,
    worker: Rc<SimWorker>,
    handle: Handle,
    daemon: Rc<Daemon>,
    net: SimNet,
    memory: Memory,
    began_at: Instant,
}

/// Events that are somewhere on their way, those on disk among them.
fn held_events(daemon: &Daemon) -> u64 {
    let ports = daemon.ports();
    let books = ports.iter().map(|port| port.ledger());
    let in_sinks = books.map(|books| books.buffered.get() + books.in_flight.get());
    in_sinks.sum::<u64>() + daemon.open_events()
}

/// Lets go of the coroutines of a process that is gone: here they belong to the thread.
fn end_coroutines() {
    deferred::drop_coroutines();
    deferred::run_woken();
}

/// Runs a seed.
pub fn run(seed: u64) -> Result<Report, String> {
    run_plan(Plan::new(seed))
}

/// Runs a plan, whatever its seed says.
pub fn run_plan(mut plan: Plan) -> Result<Report, String> {
    let outside = Outside::new(plan.faults.clone(), &mut plan.random);
    let io = outside.io.clone();
    let mut lives = Lives {
        plan,
        outside,
        posters: Vec::new(),
        collectors: Vec::new(),
        receivers: Vec::new(),
        ended: Vec::new(),
        form: Form::default(),
        reloads: 0,
        forms: FormCounts::default(),
        damaged: BTreeMap::new(),
        replaced: BTreeSet::new(),
        beside: Vec::new(),
        starts_failed: 0,
        turns: 0,
    };
    lives.start_peers();
    let result = lives.live().and_then(|()| lives.report());
    // What is planned holds the world, and the world holds what plans.
    io.end();
    end_coroutines();
    result
}

impl Lives {
    /// Everybody outside begins.
    fn start_peers(&mut self) {
        let Outside {
            net,
            storage,
            io,
            clock,
        } = &self.outside;
        for sink in self.plan.all_sinks() {
            let random = self.plan.random.fork();
            match sink {
                Sinking::File(_) => {}
                Sinking::Http(sink) => {
                    let receiver = Receiver::start(sink, net, io, clock, random);
                    self.receivers.push(receiver);
                }
                Sinking::Socket(sink) => {
                    let ends = [self.plan.dies_unread && sink.name != "beside"; 2];
                    let collector = Collector::start(sink, ends, net, io, clock, random);
                    self.collectors.push(collector);
                }
            }
        }
        for posting in self.plan.posters.clone() {
            let outside = poster::Outside {
                to: [HTTP_IN, HTTP_IN_TOO].map(|it| Endpoint::Ip(it.parse().unwrap())),
                net,
                io,
                clock,
                storage,
            };
            let poster = Poster::start(posting, outside, self.plan.random.fork());
            self.posters.push(poster);
        }
    }

    fn live(&mut self) -> Result<(), String> {
        for dying in self.plan.deaths.clone() {
            self.set_death(dying);
            let mut life = self.begin_life()?;
            if let Some(life) = &mut life {
                self.live_until(life, dying)?;
            }
            self.end_process(life, dying);
            let until = self.outside.clock.now() + dying.pause;
            self.outside.io.pass(&self.outside.clock, until);
        }
        let before = judge::good_lines(self)?;
        let life = self.begin_life()?;
        let life = life.ok_or("the last life ended in its start")?;
        self.live_to_the_end(life, before)
    }

    /// The next life ends on that call, if on a call.
    fn set_death(&self, dying: Dying) {
        let storage = &self.outside.storage;
        let point = match dying.when {
            When::After(_) => None,
            When::Call(call, count, moment) => Some(DeathPoint {
                call,
                number: storage.calls_of(call) + count,
                moment,
                death: dying.death,
            }),
        };
        storage.die_at(point);
    }

    /// A life, unless it ends before it has begun. Now and then the disk fails at the start: a
    /// daemon that then does not start is started again.
    fn begin_life(&mut self) -> Result<Option<Life>, String> {
        let is_over = |lives: &Lives| lives.outside.storage.life() > lives.number();
        if self.plan.random.chance(STARTS_FAULTY) {
            let faults = self.plan.faults.clone();
            match self.start(faults) {
                Ok(life) => return Ok(Some(life)),
                Err(_) if is_over(self) => return Ok(None),
                Err(_) => {
                    // Its process is gone, which is a life by itself.
                    self.outside.storage.kill();
                    self.ended.push(Ended {
                        death: Death::Killed,
                        on: None,
                        in_start: true,
                    });
                    self.starts_failed += 1;
                }
            }
        }
        match self.start(FaultPlan::quiet()) {
            Ok(life) => Ok(Some(life)),
            Err(_) if is_over(self) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The number of this life, from 0.
    fn number(&self) -> u64 {
        self.ended.len() as u64
    }

    fn start(&mut self, faults: FaultPlan) -> Result<Life, String> {
        let (storage, clock) = (&self.outside.storage, &self.outside.clock);
        let (reactor, worker) = self.outside.reactor(&mut self.plan.random);
        let handle = reactor.handle();
        let memory = Memory::new(self.plan.memory_bytes);
        let net = self.outside.net.host();
        storage.plan_faults(faults);
        let config = self.plan.config(&self.form);
        let disk = storage.of_this_life();
        // Each process draws other names for what it makes.
        let seed = self.plan.seed ^ (self.number() << 32);
        let daemon = world::start_daemon(&config, &handle, net.clone(), disk, &memory, seed);
        storage.plan_faults(self.plan.faults.clone());
        let daemon = match daemon {
            Ok(daemon) => daemon,
            Err(why) => {
                net.kill_host();
                worker.shutdown();
                drop(reactor);
                end_coroutines();
                return Err(why);
            }
        };
        Ok(Life {
            reactor,
            worker,
            handle,
            daemon,
            net,
            memory,
            began_at: clock.now(),
        })
    }

    fn live_until(&mut self, life: &mut Life, dying: Dying) -> Result<(), String> {
        let after = match dying.when {
            When::After(span) => span,
            When::Call(..) => LIFE_MAX,
        };
        let until = life.began_at + after;
        let number = self.number();
        while self.outside.storage.life() == number && self.outside.clock.now() < until {
            self.turn(life)?;
            self.reload_if_due(life)?;
        }
        Ok(())
    }

    /// The process is gone, in whatever state it is.
    fn end_process(&mut self, life: Option<Life>, dying: Dying) {
        let storage = &self.outside.storage;
        storage.die_at(None);
        let was_struck = storage.life() > self.number();
        match dying.death {
            _ if was_struck => {}
            Death::Killed => storage.kill(),
            Death::PowerCut => storage.crash(),
        }
        let on = match dying.when {
            When::Call(call, ..) if was_struck => Some(call),
            _ => None,
        };
        self.ended.push(Ended {
            death: dying.death,
            on,
            in_start: life.is_none(),
        });
        self.collectors.iter().for_each(|it| it.end_owner());
        let Some(life) = life else { return };
        self.note_damaged(&life);
        match dying.death {
            Death::Killed => life.net.kill_host(),
            Death::PowerCut => life.net.crash_host(),
        }
        // Its jobs are gone with it.
        life.worker.shutdown();
        drop(life.reactor);
        // So are its coroutines; what is left of one would wake the reactor of the next life.
        drop(life.daemon);
        end_coroutines();
    }

    fn live_to_the_end(
        &mut self,
        mut life: Life,
        before: BTreeMap<&'static str, u64>,
    ) -> Result<(), String> {
        // At least one turn: who has not run cannot be stopped.
        self.turn(&mut life)?;
        self.settle(&mut life)?;
        // A stop forgets what has arrived, so by then everybody has to have read it.
        self.collectors.iter().for_each(|it| it.read_all());
        let until = self.outside.clock.now() + SETTLED;
        while self.outside.clock.now() < until {
            self.turn(&mut life)?;
        }
        self.settle(&mut life)?;
        life.handle.stop(Exit::Stopped);
        while self.turn(&mut life)? == Status::Going {
            self.calm_in_time(&life)?;
        }
        let open = life.daemon.open_events();
        if open > 0 {
            return Err(format!("{open} events are not settled"));
        }
        self.note_damaged(&life);
        self.check_books(&life, before)?;
        drop(life.reactor);
        drop(life.daemon);
        self.collectors.iter().for_each(|it| it.finish());
        self.receivers.iter().for_each(|it| it.finish());
        match (self.outside.net.open_sockets(), life.memory.used_bytes()) {
            (0, 0) => Ok(()),
            (sockets, bytes) => Err(format!("{sockets} sockets and {bytes} bytes are left")),
        }
    }

    fn note_damaged(&mut self, life: &Life) {
        for port in life.daemon.ports().iter() {
            let dropped = port.ledger().dropped.snapshot();
            let events = dropped.get("damaged").copied().unwrap_or(0);
            *self.damaged.entry(port.name().to_owned()).or_default() += events;
        }
    }

    fn settle(&mut self, life: &mut Life) -> Result<(), String> {
        while !self.is_settled(life) {
            self.turn(life)?;
            self.reload_if_due(life)?;
            self.calm_in_time(life)?;
        }
        Ok(())
    }

    /// Whether everything is acknowledged, and has gone where it was to go.
    fn is_settled(&self, life: &Life) -> bool {
        let is_acknowledged = self.posters.iter().all(|poster| poster.is_over());
        is_acknowledged && held_events(&life.daemon) == 0
    }

    /// The books of the last life say what it has added to each file.
    fn check_books(&self, life: &Life, before: BTreeMap<&'static str, u64>) -> Result<(), String> {
        let now = judge::good_lines(self)?;
        for port in life.daemon.ports().iter() {
            let books = port.ledger();
            let dropped = books.dropped.total();
            let (delivered, name) = (books.delivered.get(), port.name());
            // What was torn before it was promised is counted as damaged when it is read.
            let tears = self.ended.iter().any(|it| it.death == Death::PowerCut)
                || self.may_lose_by_sync(port.name());
            let damaged = books
                .dropped
                .snapshot()
                .get("damaged")
                .copied()
                .unwrap_or(0);
            let is_required = self.plan.is_required(port.name());
            if dropped > u64::from(tears) * damaged && is_required {
                let dropped = books.dropped.snapshot();
                return Err(format!(
                    "sink {name} has dropped {dropped:?} in the last life"
                ));
            }
            let Some((name, now)) = now.get_key_value(name) else {
                continue;
            };
            // What a failed sync has lost of the life before goes when the cache does.
            let went = self.faults().of(Fault::CacheDropped) > 0;
            let came = now.saturating_sub(before[name]);
            // A sink that is replaced while writing fails gives back the part that it was at,
            // of which some lines may stand there.
            let again = self.replaced.contains(name) && came > delivered && self.fails_to_write();
            if came != delivered && !went && !again {
                return Err(format!(
                    "sink {name}: {delivered} lines are booked as delivered in the last life, \
                     {came} came"
                ));
            }
        }
        Ok(())
    }

    /// Whether writing may have failed half way.
    fn fails_to_write(&self) -> bool {
        let faults = self.faults();
        faults.of(Fault::DiskFailed) + faults.of(Fault::DiskFull) + faults.of(Fault::SyncFailed) > 0
            || faults.of(Fault::SyncBroken) > 0
    }

    /// Whether a sync that failed may have cost what this sink's buffer had written since the one
    /// before: it may wherever not every commit is synced (docs/BUFFER_FORMAT.md).
    pub fn may_lose_by_sync(&self, sink: &str) -> bool {
        let (durability, faults) = (self.plan.disks.get(sink), self.faults());
        let has_failed = faults.of(Fault::SyncFailed) + faults.of(Fault::SyncBroken) > 0;
        has_failed && durability.is_some_and(|durability| *durability != "commit")
    }

    fn calm_in_time(&self, life: &Life) -> Result<(), String> {
        let took = self.outside.clock.now().since(life.began_at);
        if took > FAULTS_LAST {
            self.outside.net.plan_faults(FaultPlan::quiet());
            self.outside.storage.plan_faults(FaultPlan::quiet());
            self.collectors.iter().for_each(|it| it.behave());
            self.receivers.iter().for_each(|it| it.behave());
        }
        if took > LAST_LIFE_MAX {
            return Err(format!("the last life does not end: {}", self.left(life)));
        }
        Ok(())
    }

    /// What is still there, for whoever wonders what a run waits for.
    fn left(&self, life: &Life) -> String {
        let stats = life.handle.stats();
        let posters = self.posters.iter().map(|poster| poster.shown());
        format!(
            "posters {:?}; {} events are open, {} sockets, {} readers, {} timers, {} jobs are left",
            posters.collect::<Vec<_>>(),
            held_events(&life.daemon),
            self.outside.net.open_sockets(),
            life.handle.readers().len(),
            stats.timers,
            stats.jobs
        )
    }

    fn turn(&mut self, life: &mut Life) -> Result<Status, String> {
        self.outside.storage.set_wall(self.outside.clock.wall());
        let status = life.reactor.turn(Some(LOOK));
        let status = status.map_err(|error| error.to_string())?;
        self.turns += 1;
        let when = self.outside.clock.now().since(Instant::ZERO);
        let stats = life.handle.stats();
        let checks = [
            (self.turns < TURNS_MAX, "the run does not end"),
            (life.daemon.balances(), "a ledger does not balance"),
            (stats.panics == 0, "a handler panicked"),
            (
                stats.dispatch_depth_peak <= 1,
                "a dispatch ran inside a dispatch",
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(format!("after {when:?}: {what}")),
            None => Ok(status),
        }
    }

    /// How often a connection may have been reset, but by the end of a life.
    pub fn resets(&self) -> u64 {
        let faults = self.outside.net.fault_counts();
        let by_peers = self.collectors.iter().map(|it| it.reset_count.get());
        by_peers.sum::<u64>() + faults.of(Fault::Reset) + faults.of(Fault::AcceptAborted)
    }

    /// All faults so far.
    pub fn faults(&self) -> FaultCounts {
        let mut faults = self.outside.net.fault_counts();
        faults.add(&self.outside.storage.fault_counts());
        faults
    }

    fn report(&self) -> Result<Report, String> {
        let verdict = judge::judge(self)?;
        let mut replies = ReplyCounts::new();
        for receiver in &self.receivers {
            for (reply, count) in receiver.counts.borrow().iter() {
                *replies.entry(*reply).or_default() += count;
            }
        }
        let unread = self.collectors.iter().map(|it| it.unread_bytes.get());
        let fates: Vec<_> = self.posters.iter().flat_map(|it| it.fates()).collect();
        let lines = self.posters.iter().flat_map(|it| &it.plan.requests);
        let Outside {
            storage, io, clock, ..
        } = &self.outside;
        Ok(Report {
            virtual_time: clock.now().since(Instant::ZERO),
            turns: self.turns,
            happened: io.happened(),
            ended: self.ended.clone(),
            acked: lines.map(|it| it.len() as u64).sum(),
            attempts: fates.iter().map(|fate| fate.attempts).sum(),
            doubled: verdict.doubled,
            pieces: verdict.pieces,
            starts_failed: self.starts_failed,
            forms: self.forms.clone(),
            replies,
            unread_bytes: unread.sum(),
            unknowable: verdict.unknowable,
            flipped: verdict.flipped,
            calls: StorageCall::ALL
                .map(|call| (call, storage.calls_of(call)))
                .into(),
            faults: self.faults(),
            trace: io.trace() ^ storage.calls().rotate_left(32),
        })
    }
}
