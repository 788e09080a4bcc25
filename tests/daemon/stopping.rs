//! Stopping: under load, with a dead sink, hurried, and what systemd is told.
//!
//! No test here depends on how fast the machine is; limits are far above what is needed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::peers::{Collector, free_port, send};
use crate::process::{Daemon, PATIENCE, Systemd, check_ledgers};

fn config(port: std::net::SocketAddr, sink: &str, daemon: &str) -> String {
    format!(
        "[daemon]\n{daemon}\n[source.in]\ntype = \"socket\"\nlisten = [\"tcp://{port}\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{sink}\"\nencode = \"raw\"\n"
    )
}

/// F-013: everything that a sender has handed over by the time of the stop is delivered.
#[test]
fn f_013_a_stop_under_load_loses_nothing_and_is_quick() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&config(port, &collector.address.to_string(), ""));
    let mut streams: Vec<_> = (0..8).map(|_| TcpStream::connect(port).unwrap()).collect();
    let mut sent = Vec::new();
    for round in 0..200 {
        for (index, stream) in streams.iter_mut().enumerate() {
            let line = format!("connection {index} round {round} {}\n", "x".repeat(400));
            stream.write_all(line.as_bytes()).unwrap();
            sent.push(line.trim_end().to_owned());
        }
    }
    let began = Instant::now();
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "took {:?}",
        began.elapsed()
    );
    let mut came = collector.lines(sent.len());
    came.sort();
    sent.sort();
    assert_eq!(came, sent);
    assert_eq!(ended.sink("out", "delivered"), 1600);
}

/// F-014: with its sink down and its events in memory the daemon waits for `stop_timeout`, then
/// says what it lost.
#[test]
fn f_014_a_stop_with_a_dead_sink_ends_at_the_limit_and_says_what_was_lost() {
    let (port, nobody) = (free_port(), free_port());
    let limit = "stop_timeout = \"1s\"";
    let daemon = Daemon::start(&config(port, &nobody.to_string(), limit));
    send(port, b"one\ntwo\nthree\n");
    let ended = daemon.stop();
    assert_eq!(ended.code(), 1);
    assert_eq!(ended.sink("out", "dropped"), 3);
    assert_eq!(ended.sink("out", "delivered"), 0);
}

/// F-017: the second signal cuts the waiting short.
#[test]
fn f_017_a_second_signal_hurries() {
    let (port, nobody) = (free_port(), free_port());
    let daemon = Daemon::start(&config(port, &nobody.to_string(), ""));
    send(port, b"one\n");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("stopping");
    daemon.signal(Signal::SIGINT);
    let ended = daemon.wait();
    check_ledgers(&ended.log);
    assert_eq!((ended.code(), ended.sink("out", "dropped")), (1, 1));
}

#[test]
fn usr2_writes_the_counts() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&config(port, &collector.address.to_string(), ""));
    send(port, b"one\ntwo\n");
    collector.lines(2);
    daemon.signal(Signal::SIGUSR2);
    let counts = daemon.wait_for("pipeline_counts");
    assert_eq!(counts["received"], 2);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn usr2_writes_the_counts_of_requests_and_a_step_fails_in_its_pipeline() {
    let daemon = Daemon::start(
        "[source.web]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"web\"]\nsteps = [{ parse = \"json\" }]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"discard\"\n",
    );
    let address = daemon.address("source.web", "http");
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\n";
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(format!("{head}[1]").as_bytes()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let failed = daemon.wait_for("step_failed");
    assert_eq!(failed["component"], "pipeline.main");
    assert_eq!(
        failed["message"],
        "main.1:parse failed: not a JSON object at byte 0; the event goes on marked, further \
         ones are only counted"
    );
    daemon.signal(Signal::SIGUSR2);
    assert_eq!(daemon.wait_for("http_counts")["accepted"], 1);
    assert_eq!(daemon.stop().code(), 0);
}

/// What cannot be had now says so, with an exit code of its own.
#[test]
fn c_294_a_port_in_use_is_named_and_is_no_reason_to_give_up() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let daemon = Daemon::launch(&config(port, "127.0.0.1:9", ""), |_| {});
    let record = daemon.wait_for("start_failed");
    let message = record["message"].as_str().unwrap();
    assert!(
        message.contains(&port.to_string()) && message.contains("ss -lnp"),
        "{message}"
    );
    assert_eq!(message.matches("in use").count(), 1, "{message}");
    assert_eq!(record["component"], "source.in");
    assert_eq!(daemon.wait().code(), 75);
}

/// What systemd hears, in order.
#[test]
fn systemd_is_told_of_start_life_and_stop() {
    let systemd = Systemd::new();
    let (collector, port) = (Collector::start(), free_port());
    let config = config(port, &collector.address.to_string(), "");
    let daemon = Daemon::launch(&config, |command| systemd.watch(command));
    let ready = systemd.hear_ready();
    assert!(ready.contains("STATUS=running: 1 sources"), "{ready}");
    TcpStream::connect(port).expect("READY means bound");
    // An idle daemon feeds the watchdog.
    systemd.hear_watchdog(3);
    assert_eq!(daemon.stop().code(), 0);
    let stopping = std::iter::repeat_with(|| systemd.hear())
        .find(|text| text.contains("STOPPING=1"))
        .unwrap();
    assert!(
        stopping.contains("EXTEND_TIMEOUT_USEC=5000000"),
        "{stopping}"
    );
}
