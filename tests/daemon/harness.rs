//! Starts the binary and reads its log.
//!
//! A [`Daemon`] that goes out of scope is killed; one that is [`Daemon::stop`]ped answers with
//! its exit code and its [`Books`], which must balance: that is asserted for every test here.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

/// A running daemon.
pub struct Daemon {
    child: Child,
    records: Receiver<Value>,
    seen: Vec<Value>,
    _folder: tempfile::TempDir,
}

/// What the daemon said of itself at its end.
pub struct Books {
    pub pipelines: BTreeMap<String, Value>,
    pub sinks: BTreeMap<String, Value>,
    pub sources: BTreeMap<String, Value>,
}

/// A port that was free a moment ago, on an address of this test process alone.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A port that was free a moment ago for datagrams.
pub fn free_udp_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Daemon {
    /// Starts the daemon with this configuration and waits until it runs. `{dir}` in the
    /// configuration is a folder of the test's own.
    pub fn start(config: &str) -> Daemon {
        let mut daemon = Daemon::spawn(config, &[]);
        daemon.wait_for("started");
        daemon
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn(config: &str, env: &[(&str, &str)]) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let text = config.replace("{dir}", folder.path().to_str().unwrap());
        let file = folder.path().join("marline.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
        command.args(["run", "--config"]).arg(&file);
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC");
        command.envs(env.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, records) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line);
                let _ = sender.send(record.unwrap_or(Value::String(line)));
            }
        });
        Daemon {
            child,
            records,
            seen: Vec::new(),
            _folder: folder,
        }
    }

    /// The folder that `{dir}` stood for.
    pub fn folder(&self) -> &Path {
        self._folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first record with this `event` that was not waited for yet.
    pub fn wait_for(&mut self, event: &str) -> Value {
        self.wait_until(event, |record| record["event"] == event)
    }

    /// The first record that `wanted` holds for and that was not waited for yet.
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.records.recv_timeout(left) {
                Ok(record) => {
                    self.seen.push(record.clone());
                    if wanted(&record) {
                        return record;
                    }
                }
                Err(_) => panic!("no {what} in the log:\n{}", self.log()),
            }
        }
    }

    /// Everything that was logged so far.
    pub fn log(&mut self) -> String {
        self.seen.extend(self.records.try_iter());
        self.seen
            .iter()
            .map(|record| format!("{record}\n"))
            .collect()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, the exit code, and the books, which balance.
    pub fn stop(mut self) -> (i32, Books) {
        self.signal("TERM");
        let code = self.exit_code();
        (code, self.books())
    }

    /// Waits for the end.
    pub fn exit_code(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(90);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the daemon did not end:\n{}", self.log());
    }

    /// The last counts in the log. Asserts that both ledgers balance and nothing was unresolved.
    pub fn books(&mut self) -> Books {
        // The reader's thread sends the rest when the pipe has closed.
        while let Ok(record) = self.records.recv_timeout(Duration::from_secs(5)) {
            self.seen.push(record);
        }
        let of = |event: &str, name: &str| -> BTreeMap<String, Value> {
            let found = self.seen.iter().filter(|record| record["event"] == event);
            found
                .map(|r| (r[name].as_str().unwrap().to_owned(), r.clone()))
                .collect()
        };
        let books = Books {
            pipelines: of("pipeline_counts", "pipeline"),
            sinks: of("sink_counts", "sink"),
            sources: of("source_counts", "source"),
        };
        books.assert_balance();
        let log: String = self
            .seen
            .iter()
            .map(|record| format!("{record}\n"))
            .collect();
        assert!(
            !log.contains("unresolved"),
            "an event was left unresolved:\n{log}"
        );
        assert!(!log.contains("panicked"), "something panicked:\n{log}");
        books
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Books {
    fn assert_balance(&self) {
        for (name, books) in &self.pipelines {
            let n = |field: &str| number(books, field);
            assert_eq!(
                n("received") + n("produced"),
                n("passed") + n("filtered") + n("dropped") + n("dead_lettered") + n("in_flight"),
                "the ledger of pipeline.{name} does not balance: {books}"
            );
        }
        for (name, books) in &self.sinks {
            let n = |field: &str| number(books, field);
            assert_eq!(
                n("accepted") + n("recovered"),
                n("delivered") + n("dropped") + n("dead_lettered") + n("buffered") + n("in_flight"),
                "the ledger of sink.{name} does not balance: {books}"
            );
        }
    }

    pub fn pipeline(&self, name: &str, field: &str) -> u64 {
        number(&self.pipelines[name], field)
    }

    pub fn sink(&self, name: &str, field: &str) -> u64 {
        number(&self.sinks[name], field)
    }

    pub fn source(&self, name: &str, field: &str) -> u64 {
        number(&self.sources[name], field)
    }
}

fn number(record: &Value, field: &str) -> u64 {
    record[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {record}"))
}

/// A collector: takes connections and keeps everything they send.
pub struct Collector {
    pub address: SocketAddr,
    lines: Receiver<Vec<u8>>,
}

impl Collector {
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                        if sender.send(line).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Collector { address, lines }
    }

    /// The next `count` lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(String::from_utf8_lossy(&line).into_owned()),
                Err(_) => panic!("{} of {count} lines came: {lines:?}", lines.len()),
            }
        }
        lines
    }

    /// What has come by now and was not taken yet.
    pub fn rest(&self) -> Vec<String> {
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
        self.lines.try_iter().map(text).collect()
    }
}

/// Sends bytes over TCP and closes in order: returns when the peer has closed, too.
pub fn send(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}
