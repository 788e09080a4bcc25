//! Commands that run beside the daemon and whose output a source reads. Not a component.
//!
//! A [`Runner`] starts its command again and again: with a back-off when it has ended, or at
//! every tick of a period, where a tick that finds a run going on is left out and counted. What
//! it prints is read through pipes like any connection: while the sinks are full it is not, and
//! the command waits in its writes.
//!
//! A run is over when the process has ended and its pipes are at their end. Who outlives it in
//! its process group is told to stop, as is all of the group at a stop: SIGTERM, after
//! `kill_after` SIGKILL; what then still holds a pipe (it has left the group) is not waited for.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Permit, Promise};
use crate::pipeline::facts::Facts;
use crate::protocol::{End, Framer, Frames, Framing, framer};
use crate::reactor::{Child, CommandLine, Ending, Handle, Spawned, Tell, TimerGuard};
use crate::telemetry::events::{
    CommandCounts, CommandEnded, CommandFailed, CommandRecovered, CommandSaid, CommandSkipped,
    CommandStarted, InputFailed,
};
use crate::time::{Duration, Instant};
use crate::transport::{Backoff, BackoffOptions, CloseReason, Connection, Network, Protocol};

/// What is run, and how.
pub struct Plan {
    /// The source's name, without `source.`.
    pub source: String,
    /// The command; each run may have more arguments.
    pub line: CommandLine,
    /// From one start to the next; without it the command runs always.
    pub every: Option<Duration>,
    /// How long a group may take to end after SIGTERM.
    pub kill_after: Duration,
}

/// Who reads what a command prints.
pub trait Reader {
    /// Arguments of the run that begins now, behind those of the plan.
    fn arguments(&self) -> Vec<OsString> {
        Vec::new()
    }

    /// Reads standard output of one run.
    fn stdout(&self) -> Box<dyn Protocol>;

    /// Reads standard error of one run; `None` has it logged.
    fn stderr(&self) -> Option<Box<dyn Protocol>> {
        None
    }
}

/// What a runner counts.
#[derive(Debug, Default)]
struct Counts {
    runs: Cell<u64>,
    failures: Cell<u64>,
    skipped: Cell<u64>,
    stderr_lines: Cell<u64>,
}

/// Runs a command.
pub struct Runner {
    plan: Plan,
    component: String,
    program: String,
    network: Network,
    reader: Box<dyn Reader>,
    state: RefCell<State>,
    /// The next start.
    timer: RefCell<Option<TimerGuard>>,
    backoff: RefCell<Backoff>,
    failing: RefCell<Option<Failing>>,
    counts: Rc<Counts>,
    over: RefCell<Option<Promise<()>>>,
    is_stopping: Cell<bool>,
    /// Held from the first start to the end of the last run.
    turn: RefCell<Option<Permit>>,
}

enum State {
    Idle,
    Starting,
    Running(Rc<Run>),
}

/// A failure that goes on.
struct Failing {
    why: String,
    runs: u64,
}

impl Runner {
    /// A runner of `plan` that has not begun.
    pub fn new(plan: Plan, network: &Network, reader: Box<dyn Reader>) -> Rc<Runner> {
        let seed = network.next_seed();
        Rc::new(Runner {
            component: format!("source.{}", plan.source),
            program: plan.line.program.to_string_lossy().into_owned(),
            plan,
            network: network.clone(),
            reader,
            state: RefCell::new(State::Idle),
            timer: RefCell::default(),
            backoff: RefCell::new(Backoff::new(BackoffOptions::default(), seed)),
            failing: RefCell::default(),
            counts: Rc::default(),
            over: RefCell::default(),
            is_stopping: Cell::new(false),
            turn: RefCell::default(),
        })
    }

    /// Starts the first run when it has its turn: two commands of one source, before and after
    /// a reload, never run at the same time.
    pub fn begin_at(self: &Rc<Self>, turn: Deferred<Permit>) {
        let weak = Rc::downgrade(self);
        let begun = turn.add_callback(move |turn| {
            let runner = weak.upgrade();
            if let Some(runner) = runner.filter(|runner| !runner.is_stopping.get()) {
                *runner.turn.borrow_mut() = Some(turn);
                runner.begin();
            }
        });
        drop(begun);
    }

    /// Starts the first run, unless it was stopped before.
    pub fn begin(self: &Rc<Self>) {
        if !self.is_stopping.get() {
            self.tick();
        }
    }

    /// No more runs, and the one that goes on is ended. Fires when all that it has printed was
    /// read.
    pub fn stop(&self) -> Deferred<()> {
        self.is_stopping.set(true);
        drop(self.timer.take());
        let running = match &*self.state.borrow() {
            State::Idle => {
                drop(self.turn.take());
                return Deferred::ready(());
            }
            State::Starting => None,
            State::Running(run) => Some(Rc::clone(run)),
        };
        let (promise, deferred) = Deferred::new();
        *self.over.borrow_mut() = Some(promise);
        running.iter().for_each(Run::end);
        deferred
    }

    /// Reads no more.
    pub fn close(&self) {
        let running = match &*self.state.borrow() {
            State::Running(run) => run.pipes.borrow().clone(),
            _ => Vec::new(),
        };
        running.iter().for_each(Connection::abort);
    }

    /// Adds what it counts.
    pub fn add_to(&self, facts: &mut Facts) {
        let counts = &self.counts;
        facts.counts.extend([
            ("runs", counts.runs.get()),
            ("failed_runs", counts.failures.get()),
            ("skipped_runs", counts.skipped.get()),
            ("stderr_lines", counts.stderr_lines.get()),
        ]);
    }

    /// Writes the counts so far into the log.
    pub fn log_counts(&self) {
        let counts = &self.counts;
        let record = CommandCounts {
            source: &self.plan.source,
            runs: counts.runs.get(),
            failures: counts.failures.get(),
            skipped: counts.skipped.get(),
            stderr_lines: counts.stderr_lines.get(),
        };
        record.log();
    }

    fn reactor(&self) -> &Handle {
        self.network.reactor()
    }

    fn tick_after(self: &Rc<Self>, delay: Duration) {
        let weak = Rc::downgrade(self);
        let timer = self.reactor().call_later(delay, move |_| {
            weak.upgrade().iter().for_each(Runner::tick);
        });
        *self.timer.borrow_mut() = Some(timer.guard());
    }

    fn tick(self: &Rc<Self>) {
        if let Some(every) = self.plan.every {
            self.tick_after(every);
        }
        if !matches!(*self.state.borrow(), State::Idle) {
            add(&self.counts.skipped);
            let (component, skipped) = (&self.component, self.counts.skipped.get());
            return CommandSkipped { component, skipped }.log();
        }
        *self.state.borrow_mut() = State::Starting;
        let mut line = self.plan.line.clone();
        line.arguments.extend(self.reader.arguments());
        let this = Rc::clone(self);
        let spawned = self.reactor().spawn_child(line);
        drop(spawned.add_both(move |result| this.spawned(result)));
    }

    fn spawned(self: &Rc<Self>, result: Result<Spawned, Failure>) {
        let begun = result.and_then(|spawned| {
            add(&self.counts.runs);
            Run::begin(self, spawned)
        });
        match begun {
            Ok(run) => {
                *self.state.borrow_mut() = State::Running(Rc::clone(&run));
                if self.is_stopping.get() {
                    run.end();
                }
            }
            Err(failure) => {
                *self.state.borrow_mut() = State::Idle;
                add(&self.counts.failures);
                self.fails(format!("it cannot be started: {failure}"));
                self.go_on();
            }
        }
    }

    /// A run is over, as `ending` says, after so long.
    fn run_over(self: &Rc<Self>, ending: Ending, took: Duration) {
        *self.state.borrow_mut() = State::Idle;
        if self.is_stopping.get() {
            return self.go_on();
        }
        let is_well = ending == Ending::Exited(0);
        if !is_well {
            add(&self.counts.failures);
        }
        if self.plan.every.is_some() && is_well {
            self.works();
        } else {
            if took >= STABLE_AFTER {
                self.backoff.borrow_mut().reset();
                drop(self.failing.take());
            }
            let again = match self.plan.every {
                None => "; it is started again",
                Some(_) => "",
            };
            self.fails(format!("{ending}{again}"));
        }
        self.go_on();
    }

    /// Nothing runs: what comes next.
    fn go_on(self: &Rc<Self>) {
        if self.is_stopping.get() {
            drop(self.turn.take());
            let promise = self.over.take();
            promise.map(|promise| promise.callback(()));
        } else if self.plan.every.is_none() {
            let delay = self.backoff.borrow_mut().delay();
            self.tick_after(delay);
        }
    }

    fn works(&self) {
        if let Some(Failing { runs, .. }) = self.failing.take() {
            let record = CommandRecovered {
                component: &self.component,
                program: &self.program,
                failures: runs,
            };
            record.log();
        }
    }

    fn fails(&self, why: String) {
        let mut failing = self.failing.borrow_mut();
        let runs = failing.as_ref().map_or(0, |failing| failing.runs) + 1;
        if failing.as_ref().is_none_or(|failing| failing.why != why) {
            let record = CommandFailed {
                component: &self.component,
                program: &self.program,
                why: &why,
                failures: runs,
            };
            record.log();
        }
        *failing = Some(Failing { why, runs });
    }
}

/// One run of the command.
struct Run {
    runner: Weak<Runner>,
    component: String,
    began: Instant,
    /// Gone when the run is over.
    child: RefCell<Option<Child>>,
    ending: Cell<Option<Ending>>,
    pipes: RefCell<Vec<Connection>>,
    open_pipes: Cell<usize>,
    /// Its group was told to stop.
    is_told: Cell<bool>,
    limit: RefCell<Option<TimerGuard>>,
}

impl Run {
    fn begin(runner: &Rc<Runner>, spawned: Spawned) -> Result<Rc<Run>, Failure> {
        let ended = spawned.child.ended();
        let pid = spawned.child.id();
        let run = Rc::new(Run {
            runner: Rc::downgrade(runner),
            component: runner.component.clone(),
            began: runner.reactor().now(),
            child: RefCell::new(Some(spawned.child)),
            ending: Cell::new(None),
            pipes: RefCell::default(),
            open_pipes: Cell::new(0),
            is_told: Cell::new(false),
            limit: RefCell::default(),
        });
        run.read(runner, spawned.stdout, runner.reader.stdout())?;
        if let Some(stderr) = spawned.stderr {
            let logged = || Complaints::new(runner) as Box<dyn Protocol>;
            let reader = runner.reader.stderr().unwrap_or_else(logged);
            run.read(runner, stderr, reader)?;
        }
        let (component, program) = (&runner.component, &runner.program);
        CommandStarted {
            component,
            program,
            pid,
        }
        .log();
        let weak = Rc::downgrade(&run);
        let seen = ended.add_both(move |ending| {
            if let Some(run) = weak.upgrade() {
                run.has_ended(ending.unwrap_or(Ending::Unknown));
            }
        });
        drop(seen);
        Ok(run)
    }

    fn read(
        self: &Rc<Self>,
        runner: &Runner,
        pipe: std::os::fd::OwnedFd,
        reader: Box<dyn Protocol>,
    ) -> Result<(), Failure> {
        let run = Rc::downgrade(self);
        let protocol = Box::new(Pipe { reader, run });
        let connection = runner.network.adopt_stream(pipe, protocol);
        self.open_pipes.set(self.open_pipes.get() + 1);
        let connection = connection.map_err(Failure::new)?;
        self.pipes.borrow_mut().push(connection);
        Ok(())
    }

    /// The process itself has ended. What it leaves behind in its group would keep the pipes.
    fn has_ended(self: &Rc<Self>, ending: Ending) {
        self.ending.set(Some(ending));
        if self.open_pipes.get() > 0 {
            self.end();
        }
        self.check_over();
    }

    fn pipe_closed(self: &Rc<Self>) {
        self.open_pipes.set(self.open_pipes.get() - 1);
        self.check_over();
    }

    fn check_over(self: &Rc<Self>) {
        let (Some(ending), 0) = (self.ending.get(), self.open_pipes.get()) else {
            return;
        };
        let Some(child) = self.child.take() else {
            return;
        };
        let component = &self.component;
        let (pid, ending_shown) = (child.id(), &ending);
        CommandEnded {
            component,
            pid,
            ending: ending_shown,
        }
        .log();
        // What is left of the group is killed, and the process is reaped.
        drop(child);
        drop(self.limit.take());
        if let Some(runner) = self.runner.upgrade() {
            let took = runner.reactor().now().since(self.began);
            runner.run_over(ending, took);
        }
    }

    /// The group is told to stop, and killed if it does not.
    fn end(self: &Rc<Self>) {
        if self.is_told.replace(true) {
            return;
        }
        self.tell(Tell::Stop);
        if let Some(runner) = self.runner.upgrade() {
            self.after(runner.plan.kill_after, Run::kill);
        }
    }

    fn kill(self: &Rc<Self>) {
        self.tell(Tell::Die);
        self.after(LET_GO_AFTER, Run::let_go);
    }

    /// Everything that was in the group is dead. What the pipes hold is read, at most until
    /// their sinks take no more for now.
    fn let_go(self: &Rc<Self>) {
        let pipes = self.pipes.borrow().clone();
        let going = pipes.iter().filter(|pipe| !pipe.is_paused());
        going.for_each(|pipe| pipe.drain(DRAIN_LIMIT));
        self.after(LET_GO_AFTER, Run::let_go);
    }

    fn tell(&self, what: Tell) {
        self.child
            .borrow()
            .iter()
            .for_each(|child| child.tell(what));
    }

    fn after(self: &Rc<Self>, delay: Duration, call: fn(&Rc<Run>)) {
        let Some(runner) = self.runner.upgrade() else {
            return;
        };
        let weak = Rc::downgrade(self);
        let timer = runner.reactor().call_later(delay, move |_| {
            weak.upgrade().iter().for_each(call);
        });
        *self.limit.borrow_mut() = Some(timer.guard());
    }
}

/// One of the pipes of a run: its reader, and the run that it belongs to.
struct Pipe {
    reader: Box<dyn Protocol>,
    run: Weak<Run>,
}

impl Protocol for Pipe {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.reader.connected(connection)
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.reader.received(connection, bytes)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.reader.eof(connection)
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        let Pipe { reader, run } = *self;
        reader.closed(reason);
        let Some(run) = run.upgrade() else { return };
        if let CloseReason::Handler(failure) = reason {
            let (component, error) = (&run.component, failure);
            InputFailed { component, error }.log();
            run.end();
        }
        run.pipe_closed();
    }
}

/// Logs what a command writes to standard error.
struct Complaints {
    component: String,
    counts: Rc<Counts>,
    framer: Box<dyn Framer>,
    frames: Frames,
}

impl Complaints {
    fn new(runner: &Runner) -> Box<Self> {
        Box::new(Complaints {
            component: runner.component.clone(),
            counts: Rc::clone(&runner.counts),
            framer: framer(Framing::Lines, COMPLAINT_BYTES_MAX),
            frames: Frames::new(),
        })
    }

    fn log(&mut self) {
        let component = &self.component;
        for run in &self.frames.runs {
            for span in &run.spans {
                add(&self.counts.stderr_lines);
                let line = String::from_utf8_lossy(span.of(&run.bytes));
                CommandSaid {
                    component,
                    line: &line,
                }
                .log();
            }
        }
        self.frames.clear();
    }
}

impl Protocol for Complaints {
    fn received(&mut self, _connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.framer.push(bytes, &mut self.frames);
        self.log();
        Ok(())
    }

    fn closed(mut self: Box<Self>, _reason: &CloseReason) {
        self.framer.finish(End::Clean, &mut self.frames);
        self.log();
    }
}

/// The environment of a command: what programs cannot do without, and `more`. Nothing else of
/// the daemon's own gets there, least of all its secrets and its service manager's sockets.
pub fn environment(
    of_daemon: impl Fn(&str) -> Option<OsString>,
    more: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let is_given = |name: &str| more.iter().any(|(given, _)| given == OsStr::new(name));
    let kept = PASSED_ON.iter().filter(|name| !is_given(name));
    let kept = kept.filter_map(|name| {
        let default = (*name == "PATH").then(|| PATH.into());
        Some((OsString::from(name), of_daemon(name).or(default)?))
    });
    kept.chain(more.iter().cloned()).collect()
}

/// What commands get of the daemon's own environment.
pub const PASSED_ON: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR",
];

/// Where programs are, where nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that has run for so long was well: it is started again after the first pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// After a group was killed its pipes end at once, but for who has left the group.
const LET_GO_AFTER: Duration = Duration::from_secs(1);

/// How long a pipe is read that somebody still writes to.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// The longest line of standard error that is logged.
const COMPLAINT_BYTES_MAX: usize = 1024;

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_little_of_the_daemons_environment() {
        let of_daemon = |name: &str| match name {
            "HOME" => Some("/root".into()),
            "TZ" => Some("UTC".into()),
            "TOKEN" => Some("secret".into()),
            _ => None,
        };
        let more = [("TZ".into(), "CET".into())];
        let environment = environment(of_daemon, &more);
        let expected = [("PATH", PATH), ("HOME", "/root"), ("TZ", "CET")];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(environment, expected);
    }
}
