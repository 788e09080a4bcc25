//! What an operator sees of the real daemon: the admin socket, `marline status`, what the start
//! says, what is lost and told.
//!
//! Every daemon has a folder of its own, with its admin socket in it; commands are run there.

mod admin;
mod losses;
mod metrics;
mod status;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Daemon, PATIENCE};

/// The harness's own place of the socket, by its `state_dir`.
const SOCKET: &str = "state/admin.sock";

/// Runs `marline` in `folder`: standard output, standard error, exit code.
pub fn marline(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_marline"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}

/// The report of `marline status --json`, with `more` arguments.
pub fn status(daemon: &Daemon, more: &[&str]) -> Value {
    let arguments = [&["status", "--json", "--config", "marline.toml"], more].concat();
    let (out, err, code) = marline(daemon.folder(), &arguments);
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    serde_json::from_str(&out).unwrap()
}

/// Asks for the status until `wanted` accepts it.
pub fn status_when(daemon: &Daemon, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let report = status(daemon, &[]);
        if wanted(&report) {
            return report;
        }
        assert!(start.elapsed() < PATIENCE, "never {what}: {report:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The component of that name.
pub fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut entries = list.as_array().unwrap().iter();
    entries.find(|one| one["name"] == name).unwrap()
}

/// A connection to the admin socket.
fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request` and reads until the daemon closes; what it answers, maybe nothing. A daemon
/// that has had enough need not read all of it.
fn exchange(path: &Path, request: &[u8]) -> String {
    let mut stream = dial(path);
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status code of an answer; 0 where there is none.
fn code(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or(0)
}
