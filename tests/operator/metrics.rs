//! The metrics listener: what it answers, and a real Prometheus that asks it.
//!
//! Numbers are waited for: the page is as true as the instant that it was made in.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Daemon, PATIENCE};
use crate::skips::skip;

const CONFIG: &str = "[daemon]\nstate_dir = \"state\"\nmetrics = \"tcp://127.0.0.1:0\"\n\
    [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n\
    [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\", \"away\"]\n\
    steps = [{ drop_if = '.message == \"no\"' }]\n\
    [sink.out]\ntype = \"discard\"\n\
    [sink.away]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:1\"\n";

/// Where the metrics are.
fn metrics_address(daemon: &Daemon) -> SocketAddr {
    let opened = daemon.wait_for("metrics_opened");
    opened["address"].as_str().unwrap().parse().unwrap()
}

/// The code and the body of the answer to a GET.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// The samples of a page by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Sends three lines, one of which is dropped, and waits until both sinks have the others.
fn send_three(daemon: &Daemon) {
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(b"yes\nno\nyes\n").unwrap();
}

fn samples_when(address: SocketAddr, name: &str, value: f64) -> BTreeMap<String, f64> {
    let start = Instant::now();
    loop {
        let found = samples(&get(address, "/metrics").1);
        if found.get(name) == Some(&value) {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "never {name} {value}: {found:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_page_has_the_ledgers_the_backlogs_and_what_is_wrong() {
    let daemon = Daemon::start(CONFIG);
    let address = metrics_address(&daemon);
    send_three(&daemon);
    let found = samples_when(
        address,
        "marline_sink_delivered_events_total{sink=\"out\"}",
        2.0,
    );
    let check = |name: &str, value: f64| assert_eq!(found.get(name), Some(&value), "{name}");
    check("marline_source_received_events_total{source=\"in\"}", 3.0);
    check("marline_source_accepted_total{source=\"in\"}", 1.0);
    check(
        "marline_pipeline_filtered_events_total{pipeline=\"main\",step=\"main.1:drop_if\"}",
        1.0,
    );
    check("marline_sink_delivered_events_total{sink=\"out\"}", 2.0);
    check("marline_sink_up{sink=\"out\"}", 1.0);
    check(
        "marline_sink_buffer_capacity_bytes{sink=\"away\"}",
        67_108_864.0,
    );
    samples_when(address, "marline_sink_up{sink=\"away\"}", 0.0);
    let held = |name: &str| found[&format!("marline_sink_{name}_events{{sink=\"away\"}}")];
    assert_eq!(held("buffered") + held("in_flight"), 2.0);
    drop(daemon);
}

#[test]
fn health_and_readiness_are_answered_and_nothing_else() {
    let daemon = Daemon::start(CONFIG);
    let address = metrics_address(&daemon);
    assert_eq!(get(address, "/health"), (200, "alive\n".to_owned()));
    assert_eq!(get(address, "/ready"), (200, "ready\n".to_owned()));
    let (code, text) = get(address, "/status");
    assert_eq!(code, 404);
    assert!(text.contains("GET  /metrics"), "{text}");
    assert_eq!(
        get(address, "/reload").0,
        404,
        "nothing is changed from here"
    );
    // The sink that is away holds the stop up: meanwhile it is alive and not ready.
    send_three(&daemon);
    samples_when(
        address,
        "marline_sink_accepted_events_total{sink=\"away\"}",
        2.0,
    );
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for("stopping");
    assert_eq!(get(address, "/ready"), (503, "stopping\n".to_owned()));
    assert_eq!(get(address, "/health").0, 200);
}

/// A peer cannot make the page longer: only the names of the configuration are in it.
#[test]
fn no_label_is_a_peers() {
    let daemon = Daemon::start(CONFIG);
    let address = metrics_address(&daemon);
    let names = |page: &BTreeMap<String, f64>| page.keys().cloned().collect::<Vec<_>>();
    send_three(&daemon);
    let accepted = "marline_source_accepted_total{source=\"in\"}";
    let before = samples_when(address, accepted, 1.0);
    for index in 0..50 {
        let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
        writeln!(sender, "<{index}>evil{index}: {{\"label\":\"{index}\"}}").unwrap();
    }
    let after = samples_when(address, accepted, 51.0);
    assert_eq!(names(&before), names(&after));
}

/// A Prometheus that asks a daemon every 200 ms, ended with this.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(daemon: &Daemon, target: SocketAddr) -> Prometheus {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let config = daemon.path("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
             scrape_configs:\n- job_name: marline\n  static_configs:\n\
             \x20 - targets: ['{target}']\n"
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                daemon.path("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, address }
    }

    /// The value of a query, once there is one that `wanted` accepts.
    fn value(&self, query: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let start = Instant::now();
        loop {
            let path = format!("/api/v1/query?query={encoded}");
            let answer = TcpStream::connect(self.address)
                .is_ok()
                .then(|| get(self.address, &path).1);
            let answer: Option<Value> = answer.and_then(|it| serde_json::from_str(&it).ok());
            let found = answer.as_ref().and_then(|it| {
                let value = &it["data"]["result"][0]["value"][1];
                value.as_str()?.parse().ok()
            });
            match found {
                Some(value) if wanted(value) => return value,
                _ => {}
            }
            assert!(start.elapsed() < PATIENCE, "{query}: {answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_it_and_its_checker_finds_nothing() {
    let is_there = |program: &str| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    };
    if !is_there("prometheus") || !is_there("promtool") {
        let name = "a_real_prometheus_scrapes_it_and_its_checker_finds_nothing";
        return skip(name, "there is no prometheus on this machine");
    }
    let daemon = Daemon::start(CONFIG);
    let address = metrics_address(&daemon);
    let mut checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let page = get(address, "/metrics").1;
    let mut input = checker.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let found = checker.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success() && text.is_empty(), "{text}\n{page}");
    let prometheus = Prometheus::start(&daemon, address);
    assert_eq!(prometheus.value("up{job=\"marline\"}", |up| up == 1.0), 1.0);
    send_three(&daemon);
    let delivered = "marline_sink_delivered_events_total{sink=\"out\"}";
    prometheus.value(delivered, |events| events == 2.0);
    prometheus.value("marline_sink_up{sink=\"away\"}", |up| up == 0.0);
    prometheus.value("sum(marline_pipeline_received_events_total)", |it| {
        it == 3.0
    });
}
