//! The real binary in a folder of its own, with its log read as it comes.
//!
//! [`Daemon::start`] waits until everything listens; [`Daemon::stop`] sends SIGTERM, waits for
//! the end, and checks what holds after every test: both ledgers balance, nothing is in flight,
//! nothing was dropped unresolved, nothing panicked. A daemon that is not stopped is killed.
//! Every wait is bounded and says what it waited for. [`Systemd`] is a double of systemd.
#![allow(dead_code)] // not every test needs every tool

mod systemd;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use systemd::Systemd;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running marline.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    folder: TempDir,
}

/// The records so far, and whether there will be more.
#[derive(Default)]
struct Log {
    state: Mutex<(Vec<Value>, bool)>,
    grown: Condvar,
}

/// How a daemon ended.
pub struct Ended {
    pub status: ExitStatus,
    pub log: Vec<Value>,
    pub took: Duration,
    /// The folder it ran in, kept until the test is done with it.
    pub folder: TempDir,
}

impl Daemon {
    /// Starts marline on `config`, in which `{folder}` is a fresh folder, and waits until it is
    /// up. The `[daemon]` table is the harness's own.
    pub fn start(config: &str) -> Daemon {
        let daemon = Daemon::launch(config, |_| {});
        daemon.wait_for("started");
        daemon
    }

    /// Like [`Daemon::start`], with a look at the command first and without the wait.
    pub fn launch(config: &str, adjust: impl FnOnce(&mut Command)) -> Daemon {
        Daemon::launch_in(tempfile::tempdir().unwrap(), config, adjust)
    }

    /// Like [`Daemon::launch`], in a folder where another one may have lived before.
    pub fn launch_in(folder: TempDir, config: &str, adjust: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = command(folder.path(), config);
        command.stderr(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.read(stderr));
        }
        Daemon { child, log, folder }
    }

    /// The folder that `{folder}` stands for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of that folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Puts another configuration in the place of the one that it was started with, in one go.
    pub fn write_config(&self, config: &str) {
        let text = config_text(self.folder(), config);
        let aside = self.path("marline.toml.new");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.path("marline.toml")).unwrap();
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first record of `event`, waited for.
    pub fn wait_for(&self, event: &str) -> Value {
        self.wait_until(event, |record| record["event"] == event)
    }

    /// The first record that `wanted` accepts, waited for.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut state = self.log.lock();
        loop {
            if let Some(record) = state.0.iter().find(|record| wanted(record)) {
                return record.clone();
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(
                !state.1 && !left.is_zero(),
                "no {what} in the log:\n{}",
                show(&state.0)
            );
            state = self.log.grown.wait_timeout(state, left).unwrap().0;
        }
    }

    /// The records of `event` so far.
    pub fn records(&self, event: &str) -> Vec<Value> {
        let mut records = self.log.records();
        records.retain(|record| record["event"] == event);
        records
    }

    /// The address that `component` listens on by TCP, its port filled in.
    pub fn tcp_address(&self, component: &str) -> SocketAddr {
        self.address(component, "tcp")
    }

    /// The first address that anything listens on, once it is up; `None` when the process ends
    /// before.
    pub fn try_http_address(&self) -> Option<SocketAddr> {
        let prefix = "listening on http://";
        let start = Instant::now();
        let mut state = self.log.lock();
        loop {
            let of = |record: &Value| {
                record["message"]
                    .as_str()?
                    .strip_prefix(prefix)?
                    .parse()
                    .ok()
            };
            let is_up = state.0.iter().any(|record| record["event"] == "started");
            if let (true, Some(address)) = (is_up, state.0.iter().find_map(of)) {
                return Some(address);
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "neither up nor ended:\n{}", show(&state.0));
            if state.1 {
                return None;
            }
            state = self.log.grown.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Whether the process has closed its log, which is at its end.
    pub fn has_ended(&self) -> bool {
        self.log.lock().1
    }

    /// The first address of `component` with this scheme.
    pub fn address(&self, component: &str, scheme: &str) -> SocketAddr {
        let prefix = format!("listening on {scheme}://");
        let of = |record: &Value| {
            let message = record["message"].as_str()?.strip_prefix(&prefix)?;
            (record["component"] == component).then(|| message.parse().unwrap())
        };
        let record = self.wait_until(&prefix, |record| of(record).is_some());
        of(&record).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends a signal to a process that may have ended by itself.
    pub fn try_signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal);
    }

    /// SIGTERM; waits for the end and checks the ledgers.
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        let ended = self.wait();
        check_ledgers(&ended.log);
        let log = show(&ended.log);
        assert!(!log.contains("panicked"), "something panicked:\n{log}");
        ended
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no end:\n{}",
                show(&self.log.records())
            );
            thread::sleep(Duration::from_millis(2));
        };
        let took = start.elapsed();
        self.log.wait_for_end(start);
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Ended {
            status,
            log: self.log.records(),
            took,
            folder,
        }
    }
}

impl Ended {
    /// The exit code; -1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// A count of a pipeline, from its last line.
    pub fn pipeline(&self, name: &str, field: &str) -> u64 {
        self.count("pipeline", name, field)
    }

    /// A count of a sink, from its last line.
    pub fn sink(&self, name: &str, field: &str) -> u64 {
        self.count("sink", name, field)
    }

    /// A count of a source, from its last line.
    pub fn source(&self, name: &str, field: &str) -> u64 {
        self.count("source", name, field)
    }

    fn count(&self, kind: &str, name: &str, field: &str) -> u64 {
        let last = last_of_each(&self.log, &format!("{kind}_counts"), kind);
        let of_it = last.into_iter().find(|record| record[kind] == name);
        let Some(record) = of_it else {
            panic!("no counts of {kind}.{name}:\n{}", show(&self.log));
        };
        count(record, field)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log so far:\n{}", show(&self.log.records()));
        }
        // Both fail where the process has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// A test that has failed while it waited for a record still shows them all.
    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let record = serde_json::from_str(&line).unwrap_or(Value::String(line));
            self.lock().0.push(record);
            self.grown.notify_all();
        }
        self.lock().1 = true;
        self.grown.notify_all();
    }

    fn records(&self) -> Vec<Value> {
        self.lock().0.clone()
    }

    fn wait_for_end(&self, start: Instant) {
        let left = PATIENCE.saturating_sub(start.elapsed());
        let open = |state: &mut (Vec<Value>, bool)| !state.1;
        drop(
            self.grown
                .wait_timeout_while(self.lock(), left, open)
                .unwrap(),
        );
    }
}

/// What the file says for `config`.
fn config_text(folder: &Path, config: &str) -> String {
    let text = config.replace("{folder}", folder.to_str().unwrap());
    let own = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nlog.level = \"debug\"\n";
    let own = if text.contains("[daemon]") { "" } else { own };
    format!("{own}\n{text}")
}

/// The command that runs marline on `config` in `folder`.
fn command(folder: &Path, config: &str) -> Command {
    let path = folder.join("marline.toml");
    fs::write(&path, config_text(folder, config)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
    command
        .arg("run")
        .arg("--config")
        .arg(path)
        .current_dir(folder);
    command
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("LISTEN_FDS")
        .env_remove("FDSTORE")
        .env_remove("JOURNAL_STREAM");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Both ledgers balance in their last lines, and nothing is left.
pub fn check_ledgers(log: &[Value]) {
    for (event, name, given, taken) in [
        (
            "pipeline_counts",
            "pipeline",
            &["received", "produced"] as &[&str],
            &[
                "passed",
                "filtered",
                "dropped",
                "dead_lettered",
                "in_flight",
            ] as &[&str],
        ),
        (
            "sink_counts",
            "sink",
            &["accepted", "recovered"],
            &[
                "delivered",
                "dropped",
                "dead_lettered",
                "buffered",
                "in_flight",
            ],
        ),
    ] {
        let last = last_of_each(log, event, name);
        assert!(!last.is_empty(), "no {event} in the log:\n{}", show(log));
        for record in last {
            let sum = |names: &[&str]| names.iter().map(|name| count(record, name)).sum::<u64>();
            assert_eq!(sum(given), sum(taken), "{record}");
            assert_eq!(count(record, "in_flight"), 0, "{record}");
            let dropped = record["dropped_by"].as_str().unwrap();
            assert!(!dropped.contains("unresolved"), "{record}");
        }
    }
}

/// The last record of `event` for each `name`.
pub fn last_of_each<'a>(log: &'a [Value], event: &str, name: &str) -> Vec<&'a Value> {
    let mut last: Vec<&Value> = Vec::new();
    for record in log.iter().filter(|record| record["event"] == event) {
        last.retain(|other| other[name] != record[name]);
        last.push(record);
    }
    last
}

/// A count of a record.
pub fn count(record: &Value, name: &str) -> u64 {
    let count = record[name].as_u64();
    count.unwrap_or_else(|| panic!("no number {name} in {record}"))
}

fn show(log: &[Value]) -> String {
    log.iter().map(|record| format!("  {record}\n")).collect()
}
