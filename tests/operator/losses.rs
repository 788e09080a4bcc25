//! What is lost before it is an event: datagrams that the kernel has no room for, connections
//! turned away, events cut. Counted exactly, told once an interval.
//!
//! Over the loopback a datagram is queued or dropped before its send returns: what is sent to a
//! daemon that stands still is one or the other, whatever the machine does.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{named, status, status_when};
use crate::process::{Daemon, count};
use crate::skips::skip;

fn receiver(options: &str) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"udp://127.0.0.1:0\"]\n{options}\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n"
    )
}

/// Sends `datagrams` of `bytes` to a daemon that does not run meanwhile.
fn burst(daemon: &Daemon, to: SocketAddr, datagrams: usize, bytes: usize) {
    daemon.signal(Signal::SIGSTOP);
    wait_until_stopped(daemon);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let payload = vec![b'x'; bytes];
    for _ in 0..datagrams {
        sender.send_to(&payload, to).unwrap();
    }
    daemon.signal(Signal::SIGCONT);
}

fn wait_until_stopped(daemon: &Daemon) {
    let path = format!("/proc/{}/stat", daemon.id());
    for _ in 0..10_000 {
        let stat = std::fs::read_to_string(&path).unwrap();
        let state = stat.rsplit(") ").next().unwrap();
        if state.starts_with('T') {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the daemon does not stop");
}

fn received(report: &Value) -> u64 {
    count(named(&report["sources"], "in"), "received_events")
}

fn dropped(report: &Value) -> u64 {
    count(
        &named(&report["sources"], "in")["sockets"][0],
        "kernel_drops",
    )
}

/// Everything that was sent is an event or is counted as dropped; what was dropped.
fn all_are_accounted_for(daemon: &Daemon, sent: u64) -> u64 {
    let report = status_when(daemon, "all accounted for", |report| {
        received(report) + dropped(report) >= sent
    });
    assert_eq!(received(&report) + dropped(&report), sent, "{report:#}");
    dropped(&report)
}

#[test]
fn ud_1_a_burst_at_the_default_buffer_loses_exactly_what_is_counted() {
    let daemon = Daemon::start(&receiver(""));
    let to = daemon.address("source.in", "udp");
    // 20 MB: more than the kernel holds, overhead included, whatever it grants of 8 MiB.
    burst(&daemon, to, 500, 40_000);
    let lost = all_are_accounted_for(&daemon, 500);
    assert!(lost > 0, "the burst was to be too much");
    burst(&daemon, to, 500, 40_000);
    let more = all_are_accounted_for(&daemon, 1000);
    assert!(more > lost);
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "kernel_drops"), more);
    assert_eq!(ended.source("in", "events") + more, 1000);
}

#[test]
fn ud_1_a_small_buffer_loses_more_and_a_quiet_one_nothing() {
    let daemon = Daemon::start(&receiver("receive_buffer = \"16KiB\""));
    let to = daemon.address("source.in", "udp");
    burst(&daemon, to, 500, 1000);
    let lost = all_are_accounted_for(&daemon, 500);
    assert!(lost > 400, "{lost}");
    // One line in ten seconds, with what is new since the one before.
    let said = daemon.wait_for("losses");
    assert_eq!(count(&said, "kernel_drops"), lost);
    assert_eq!(said["level"], "warn");
    assert_eq!(daemon.records("losses").len(), 1);
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "kernel_drops"), lost);
    let daemon = Daemon::start(&receiver(""));
    let to = daemon.address("source.in", "udp");
    burst(&daemon, to, 500, 100);
    assert_eq!(
        all_are_accounted_for(&daemon, 500),
        0,
        "8 MiB hold 500 small ones"
    );
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "kernel_drops"), 0);
}

/// Without the right to go past the limit of the system.
#[test]
fn what_the_kernel_grants_less_is_said_with_what_to_do() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max");
    let Some(limit) = limit.ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
        let why = "this machine does not say what net.core.rmem_max is";
        return skip("what_the_kernel_grants_less_is_said_with_what_to_do", why);
    };
    let config = receiver("receive_buffer = \"1GiB\"");
    let is_root = nix::unistd::geteuid().is_root();
    let daemon = Daemon::launch(&config, |command| {
        if is_root {
            let marline = std::mem::replace(command, Command::new("setpriv"));
            command.args(["--bounding-set", "-net_admin"]);
            command.arg(marline.get_program()).args(marline.get_args());
            command.current_dir(marline.get_current_dir().unwrap());
            command.stderr(Stdio::piped()).stdout(Stdio::null());
        }
    });
    let said = daemon.wait_for("receive_buffer");
    let asked = 1 << 30;
    assert_eq!(count(&said, "asked_bytes"), asked);
    assert_eq!(count(&said, "granted_bytes"), limit.min(asked));
    if limit < asked {
        assert_eq!(said["level"], "warn");
        let message = said["message"].as_str().unwrap();
        let advice = format!("sysctl -w net.core.rmem_max={asked}");
        assert!(message.contains(&advice), "{message}");
    }
    daemon.wait_for("started");
    daemon.stop();
}

#[test]
fn connections_turned_away_and_events_cut_are_counted_and_told_once() {
    let daemon = Daemon::start(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         max_connections_per_peer = 1\nmax_message = \"16B\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n",
    );
    let to = daemon.tcp_address("source.in");
    let mut first = TcpStream::connect(to).unwrap();
    status_when(&daemon, "open", |report| {
        named(&report["sources"], "in")["connections"]["open"] == 1
    });
    let others: Vec<_> = (0..40).map(|_| TcpStream::connect(to).unwrap()).collect();
    std::io::Write::write_all(&mut first, b"longer than sixteen bytes\nshort\n").unwrap();
    let report = status_when(&daemon, "refused", |report| {
        let source = named(&report["sources"], "in");
        let refused = &source["connections"]["refused"]["max_connections_per_peer"];
        refused == 40 && source["received_events"] == 2
    });
    let source = named(&report["sources"], "in");
    assert_eq!(source["counts"]["truncated"], 1);
    assert_eq!(source["connections"]["accepted"], 1);
    let said = daemon.wait_for("losses");
    assert_eq!(
        (count(&said, "refused"), count(&said, "truncated")),
        (40, 1)
    );
    assert_eq!(daemon.records("losses").len(), 1);
    drop((first, others));
    assert_eq!(status(&daemon, &[])["schema"], 1);
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "refused"), 40);
}
