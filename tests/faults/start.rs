//! Starts under bad stars.
//!
//! A config that is no file, a port in use, no standard descriptors, no service manager, more
//! components than anybody has.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Collector, Daemon, line, relay, relay_before};
use crate::process::{PATIENCE, Systemd};

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
fn f_132_a_manager_that_reads_nothing_holds_nobody_up() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "");
    let systemd = Systemd::new();
    systemd.fill();
    let daemon = Daemon::launch(&config, |command| systemd.watch(command));
    let (_, mut sender, mut reader) = relay_before(&daemon, &collector);
    // For several periods of the watchdog.
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        sender.write_all(b"goes on\n").unwrap();
        assert_eq!(line(&mut reader), b"goes on");
    }
    // When it reads again it hears what it must not miss.
    while !systemd.hear().starts_with("READY=1") {}
    drop((sender, reader));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    while !systemd.hear().starts_with("STOPPING=1") {}
    assert_eq!(daemon.wait().status.code(), Some(0));
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

/// A config of sources, each a name and the rest of its table.
fn sources(list: &[(&str, &str)]) -> String {
    let mut config = String::from("[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n");
    for (name, rest) in list {
        config += &format!("[source.{name}]\n{rest}\n");
    }
    let names: Vec<&str> = list.iter().map(|(name, _)| *name).collect();
    let from = names.join("\", \"");
    let to = "to = [\"d\"]\n[sink.d]\ntype = \"discard\"\n";
    config + &format!("[pipeline.p]\nfrom = [\"{from}\"]\n{to}")
}

const GENERATE: &str = "type = \"generate\"\nrate = \"1/h\"";

/// The components that have started, in order.
fn started(log: &[serde_json::Value]) -> Vec<&str> {
    let mut names: Vec<&str> = log
        .iter()
        .filter(|record| record["event"] == "component_started")
        .filter_map(|record| record["component"].as_str())
        .collect();
    names.dedup();
    names
}

#[test]
fn c_404_sinks_start_first_and_sources_in_the_order_of_the_config() {
    let daemon = Daemon::start(&sources(
        &["one", "two", "three"].map(|name| (name, GENERATE)),
    ));
    let ended = daemon.stop();
    let names = started(&ended.log);
    let sources: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| name.starts_with("source."))
        .collect();
    assert_eq!(sources, ["source.one", "source.two", "source.three"]);
    let sink = names.iter().position(|name| *name == "sink.d");
    assert!(sink.is_none_or(|at| at == 0), "{names:?}");
}

#[test]
fn c_406_a_part_that_cannot_start_ends_those_before_it_and_starts_none_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = format!(
        "type = \"socket\"\nlisten = [\"tcp://{}\"]",
        taken.local_addr().unwrap()
    );
    // A listener that was stopped takes its path with it (C-421).
    let before = "type = \"socket\"\nlisten = [\"unix://{folder}/before.sock\"]";
    let behind = "type = \"socket\"\nlisten = [\"unix://{folder}/nowhere/behind.sock\"]";
    let config = sources(&[("before", before), ("taken", &in_use), ("behind", behind)]);
    let ended = Daemon::launch(&config, |_| {}).wait();
    assert_eq!(ended.status.code(), Some(75));
    let failed = ended
        .log
        .iter()
        .filter(|record| record["event"] == "start_failed");
    let failed: Vec<_> = failed
        .map(|record| record["component"].as_str().unwrap())
        .collect();
    assert_eq!(
        failed,
        ["source.taken"],
        "the one behind would have failed, too"
    );
    assert!(!ended.folder.path().join("before.sock").exists());
}

#[test]
fn c_409_two_parts_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("twice.toml");
    let twice = sources(&[("one", GENERATE), ("one", GENERATE)]);
    std::fs::write(&config, twice).unwrap();
    let (code, text, _) = run(&config);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("one"), "{text}");
}
