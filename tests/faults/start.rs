//! Starts under bad stars: a config that is no file, a port in use, no standard descriptors, no
//! service manager, more components than anybody has.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Collector, Daemon, line, relay};
use crate::telemetry_process::process::PATIENCE;

/// Runs marline on `config`; answers exit code, output, and how long it took.
fn run(config: &Path) -> (Option<i32>, String, Duration) {
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
    let output = command
        .args(["run", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text, start.elapsed())
}

#[test]
fn f_037_a_config_that_is_no_file_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let huge = folder.path().join("huge");
    File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    for path in [folder.path(), &fifo, &huge] {
        let (code, text, took) = run(path);
        assert_eq!(code, Some(78), "{}: {text}", path.display());
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(
            took < Duration::from_secs(5),
            "{}: {took:?}",
            path.display()
        );
    }
}

#[test]
fn c_413_a_port_in_use_fails_the_start_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let collector = Collector::start();
    let config = relay(&format!("tcp://{address}"), &collector, "");
    let ended = Daemon::launch(&config, |_| {}).wait();
    assert_eq!(ended.status.code(), Some(75));
    let failed = ended
        .log
        .iter()
        .find(|record| record["event"] == "start_failed")
        .unwrap();
    assert_eq!(failed["component"], "source.in");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(&address.to_string()), "{message}");
}

#[test]
fn f_129_without_standard_descriptors_no_socket_takes_their_place() {
    let collector = Collector::start();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = relay(&format!("tcp://127.0.0.1:{port}"), &collector, "");
    let daemon = Daemon::launch(&config, |command| {
        let path = command.get_args().last().unwrap().to_owned();
        let folder = command.get_current_dir().unwrap().to_owned();
        *command = Command::new("sh");
        command.args(["-c", "exec \"$0\" run --config \"$1\" <&- >&- 2>&-"]);
        command
            .arg(env!("CARGO_BIN_EXE_marline"))
            .arg(path)
            .current_dir(folder);
    });
    let start = Instant::now();
    let mut sender = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    sender.write_all(b"hello\n").unwrap();
    let mut reader = collector.accept();
    assert_eq!(line(&mut reader), b"hello");
    for number in 0..3 {
        let path = format!("/proc/{}/fd/{number}", daemon.id());
        let target = std::fs::read_link(path).unwrap();
        assert_eq!(target, Path::new("/dev/null"), "descriptor {number}");
    }
}

#[test]
fn f_132_a_notify_socket_that_is_not_there_is_no_obstacle() {
    for path in [
        "@marline-test-nobody",
        "/nonexistent/notify",
        "no-path-at-all",
    ] {
        let collector = Collector::start();
        let config = relay("tcp://127.0.0.1:0", &collector, "");
        let daemon = Daemon::launch(&config, |command| {
            command.env("NOTIFY_SOCKET", path);
        });
        daemon.wait_for("started");
        assert_eq!(daemon.stop().status.code(), Some(0), "{path}");
    }
}

#[test]
fn f_134_ten_thousand_components_start() {
    const THIRD: usize = 3334;
    let mut config = String::from("[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n");
    for number in 0..THIRD {
        config += &format!(
            "[source.s{number}]\ntype = \"generate\"\nrate = \"1/h\"\ncount = 1\n\
             [pipeline.p{number}]\nfrom = [\"s{number}\"]\nto = [\"d{number}\"]\n\
             [sink.d{number}]\ntype = \"discard\"\n"
        );
    }
    let daemon = Daemon::start(&config);
    let started = daemon.wait_for("started");
    assert_eq!(started["sources"], THIRD as u64);
    // Two seconds is for an optimised build on a machine that has nothing else to do.
    assert!(started["took_ms"].as_u64().unwrap() < 20_000, "{started}");
}
