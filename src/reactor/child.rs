//! Child processes: started by a job, their end seen through a pidfd that the reactor watches.
//!
//! No SIGCHLD, and no thread that waits: a pidfd becomes readable when its process has ended. A
//! child is the leader of a process group of its own, and signals go to all of the group. It is
//! reaped last: until then its number, and its group's, is nobody else's. A [`Child`] that is
//! dropped has its group killed, and is reaped whenever it has ended. Nothing of ours is open
//! in a child but the three standard streams: every descriptor here is closed on exec.
//!
//! What is not possible without unsafe code is to have a child killed with us (PR_SET_PDEATHSIG
//! would have to be set between fork and exec). Who outlives a daemon that was killed learns of
//! it by SIGPIPE, when it writes.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::handle::Handle;
use super::poller::Pollable;
use super::source::{Handler, Progress};
use super::worker::Pool;
use crate::deferred::{Deferred, Failure, Promise};

/// A program and what it is started with.
#[derive(Clone)]
pub struct CommandLine {
    /// The program: a path, or a name that is looked for in the child's PATH.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All of its environment. Values may be secrets.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs; here, without one.
    pub directory: Option<PathBuf>,
    /// Its standard error is a pipe to us, too; else it goes to /dev/null.
    pub reads_stderr: bool,
}

/// A child that runs, and the ends of its pipes.
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// What it writes to standard output.
    pub stdout: OwnedFd,
    /// What it writes to standard error, where that was wanted.
    pub stderr: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Somebody else has reaped it.
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "exit status {status}"),
            Ending::Killed(signal) => write!(f, "killed by signal {signal}"),
            Ending::Unknown => f.write_str("it is gone"),
        }
    }
}

/// What the members of a group can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Die,
}

impl Handle {
    /// Starts a process in a group of its own, its standard input empty.
    #[track_caller]
    pub fn spawn_child(&self, line: CommandLine) -> Deferred<Spawned> {
        let job = move || started(&line).map_err(Failure::new);
        let reactor = self.clone();
        let job = self.defer_to_thread(Pool::General, "start of a command", job);
        job.add_callback(move |started| reactor.watch_child(started).map_err(Failure::new))
    }

    fn watch_child(&self, started: Started) -> io::Result<Spawned> {
        let Started {
            process,
            pidfd,
            stdout,
            stderr,
        } = started;
        let state = Rc::new(State {
            pid: process.id(),
            process: RefCell::new(Some(process)),
            pidfd: Rc::new(pidfd),
            ending: Cell::new(None),
            told: RefCell::default(),
            is_abandoned: Cell::new(false),
        });
        // From here on dropping it kills and reaps.
        let child = Child(Rc::clone(&state));
        let source = Pollable::Fd(Rc::clone(&state.pidfd));
        let token = self.register(source, Box::new(Exit(state)))?;
        self.add_reader(token);
        Ok(Spawned {
            child,
            stdout,
            stderr,
        })
    }
}

/// What a job has started. Where nobody wants it any more it is killed.
struct Started {
    process: Process,
    pidfd: OwnedFd,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

fn started(line: &CommandLine) -> io::Result<Started> {
    let mut command = Command::new(&line.program);
    command
        .args(&line.arguments)
        .env_clear()
        .envs(line.environment.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(match line.reads_stderr {
            true => Stdio::piped(),
            false => Stdio::null(),
        });
    line.directory.iter().for_each(|directory| {
        command.current_dir(directory);
    });
    let process = Process {
        child: command.spawn()?,
        is_reaped: false,
    };
    let open = |pid| pidfd_open(pid, PidfdFlags::empty());
    let (mut process, pidfd) = process.watched_by(open)?;
    let stdout = process.child.stdout.take().map(OwnedFd::from);
    let stderr = process.child.stderr.take().map(OwnedFd::from);
    Ok(Started {
        stdout: stdout.ok_or(io::ErrorKind::BrokenPipe)?,
        stderr,
        pidfd,
        process,
    })
}

/// A process that is not reaped yet, unless it says so.
struct Process {
    child: std::process::Child,
    is_reaped: bool,
}

impl Process {
    fn id(&self) -> u32 {
        self.child.id()
    }

    /// With what its end is seen by. Where there is no such thing (a kernel before 5.3, a sandbox
    /// that does not know the call) it is ended at once: nobody would see it, and reap it. Waits
    /// for that, which is why a job does it.
    fn watched_by(
        mut self,
        open: impl FnOnce(Pid) -> rustix::io::Result<OwnedFd>,
    ) -> io::Result<(Process, OwnedFd)> {
        match open(Pid::from_child(&self.child)) {
            Ok(pidfd) => Ok((self, pidfd)),
            Err(error) => {
                self.tell(Signal::KILL);
                self.is_reaped = self.child.wait().is_ok();
                Err(error.into())
            }
        }
    }

    fn tell(&self, signal: Signal) {
        // Not reaped, so the group is there: its leader is in it, though it may have ended.
        // What is refused (a program that has changed its user) shows when its time is up.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.tell(Signal::KILL);
        // A process that has been killed and does not end is one of the kernel's problems; it
        // is reaped with us.
        let _ = self.child.try_wait();
    }
}

struct State {
    pid: u32,
    /// Gone once it is reaped.
    process: RefCell<Option<Process>>,
    pidfd: Rc<OwnedFd>,
    ending: Cell<Option<Ending>>,
    told: RefCell<Option<Promise<Ending>>>,
    /// Nobody wants to know how it ends.
    is_abandoned: Cell<bool>,
}

impl State {
    /// How it ended, if it has; it is not reaped by this.
    fn look(&self) -> Option<Ending> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Ending::Exited(status),
                (None, Some(signal)) => Ending::Killed(signal),
                (None, None) => Ending::Unknown,
            }),
            Err(_) => Some(Ending::Unknown),
        }
    }

    fn tell(&self, signal: Signal) {
        if let Some(process) = &*self.process.borrow() {
            process.tell(signal);
        }
    }

    /// Kills what is left of the group, and reaps.
    fn reap(&self) {
        drop(self.process.take());
    }
}

/// A process and its group; dropping it ends them.
pub struct Child(Rc<State>);

impl Child {
    /// The number of the process and of its group.
    pub fn id(&self) -> u32 {
        self.0.pid
    }

    /// Fires when the process itself has ended; others of its group may still run. For one
    /// caller.
    pub fn ended(&self) -> Deferred<Ending> {
        if let Some(ending) = self.0.ending.get() {
            return Deferred::ready(ending);
        }
        let (promise, deferred) = Deferred::new();
        *self.0.told.borrow_mut() = Some(promise);
        deferred.named("the end of a command")
    }

    /// Signals all of the group.
    pub fn tell(&self, what: Tell) {
        self.0.tell(match what {
            Tell::Stop => Signal::TERM,
            Tell::Die => Signal::KILL,
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        match self.0.ending.get() {
            Some(_) => self.0.reap(),
            // Reaped by whoever sees its end.
            None => self.0.tell(Signal::KILL),
        }
    }
}

/// Waits for the end of a child.
struct Exit(Rc<State>);

impl Handler for Exit {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        let Some(ending) = self.0.look() else {
            return Progress::Blocked;
        };
        self.0.ending.set(Some(ending));
        // A pidfd stays readable: there is nothing more to wait for.
        Progress::Dead(Failure::msg("the process has ended"))
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {
        let state = self.0;
        let ending = state.ending.get();
        if ending.is_none() || state.is_abandoned.get() {
            // The reactor ends, or nobody is left who would do it.
            state.ending.set(Some(Ending::Unknown));
            state.reap();
        }
        let told = state.told.take();
        if let Some(told) = told {
            told.callback(ending.unwrap_or(Ending::Unknown));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reactor::{Options, PollerKind, Reactor, Seams};
    use crate::time::Duration;

    /// Whether there is a process of that number, ended or not.
    fn is_there(pid: u32) -> bool {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    fn shell(script: &str) -> CommandLine {
        CommandLine {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            directory: None,
            reads_stderr: false,
        }
    }

    fn turn_until<T: 'static>(reactor: &mut Reactor, deferred: Deferred<T>) -> Result<T, Failure> {
        let result = Rc::new(RefCell::new(None));
        let got = Rc::clone(&result);
        drop(deferred.add_both(move |it| *got.borrow_mut() = Some(it)));
        turn_while(reactor, || result.borrow().is_none());
        result.take().unwrap()
    }

    fn turn_while(reactor: &mut Reactor, going: impl Fn() -> bool) {
        for _ in 0..1000 {
            if !going() {
                return;
            }
            reactor.turn(Some(Duration::from_millis(20))).unwrap();
        }
        panic!("it never came");
    }

    fn reactor(kind: PollerKind) -> Reactor {
        Reactor::new(Seams::system(kind).unwrap(), Options::default()).unwrap()
    }

    #[test]
    fn a_child_is_seen_to_end_and_reaped_with_its_group() {
        for kind in [PollerKind::Epoll, PollerKind::Poll, PollerKind::Select] {
            let mut reactor = reactor(kind);
            let line = shell("sleep 1000 >/dev/null & exit 7");
            let spawned = reactor.handle().spawn_child(line);
            let spawned = turn_until(&mut reactor, spawned).unwrap();
            let pid = spawned.child.id();
            let ended = spawned.child.ended();
            assert_eq!(turn_until(&mut reactor, ended).unwrap(), Ending::Exited(7));
            assert!(is_there(pid), "reaped before its group is gone");
            drop(spawned);
            assert!(!is_there(pid), "a zombie is left");
            assert_eq!(reactor.handle().stats().sources, 0);
        }
    }

    #[test]
    fn a_dropped_child_is_killed_and_reaped_when_it_has_ended() {
        let mut reactor = reactor(PollerKind::Epoll);
        let spawned = reactor
            .handle()
            .spawn_child(shell("trap '' TERM; sleep 1000"));
        let spawned = turn_until(&mut reactor, spawned).unwrap();
        let pid = spawned.child.id();
        spawned.child.tell(Tell::Stop);
        drop(spawned);
        turn_while(&mut reactor, || is_there(pid));
        assert_eq!(reactor.handle().stats().sources, 0);
    }

    #[test]
    fn what_cannot_be_watched_leaves_no_zombie() {
        let child = Command::new("/bin/sh")
            .args(["-c", "sleep 1000"])
            .process_group(0)
            .spawn()
            .unwrap();
        let process = Process {
            child,
            is_reaped: false,
        };
        let pid = process.id();
        let unknown = |_| Err(rustix::io::Errno::NOSYS);
        assert!(process.watched_by(unknown).is_err());
        assert!(!is_there(pid), "a zombie is left");
    }

    #[test]
    fn what_cannot_be_started_fails() {
        let mut reactor = reactor(PollerKind::Epoll);
        let line = CommandLine {
            program: "/nowhere/at/all".into(),
            ..shell("")
        };
        let failed = reactor.handle().spawn_child(line);
        let failure = turn_until(&mut reactor, failed).err().unwrap();
        assert!(failure.is::<io::Error>(), "{failure}");
    }
}
