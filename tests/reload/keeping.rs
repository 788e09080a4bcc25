//! What a reload leaves alone: connections, counts, what steps remember, sockets.
//!
//! Connections are compared as `ss` shows them; events say which form they went through.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;

use super::{
    Collector, Load, check_once, free_port, free_udp_port, named, relay, reload_to, status, tally,
    until,
};
use crate::process::{Daemon, Systemd};

/// The established connections of a port, as `ss` shows them.
fn connections(of: SocketAddr) -> Vec<String> {
    let filter = format!("sport = :{}", of.port());
    let output = Command::new("ss").args(["-Htn", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let peer = |line: &str| {
        line.split_whitespace()
            .skip(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut peers: Vec<String> = text.lines().map(peer).collect();
    peers.sort();
    peers
}

#[test]
fn f_024_a_config_that_says_the_same_changes_nothing() {
    let (collector, listen) = (Collector::start(), free_port());
    let config = relay(listen, collector.address, "");
    let daemon = Daemon::start(&config);
    let mut sender = TcpStream::connect(listen).unwrap();
    sender.write_all(b"n 0\n").unwrap();
    collector.wait_for(1);
    let before = connections(listen);
    // Other words for the same.
    let text = reload_to(
        &daemon,
        &format!("# a comment\n{config}framing = \"lines\"\n"),
    );
    assert_eq!(text, "kept 3, changed: none, added: none, removed: none\n");
    daemon.signal(Signal::SIGHUP);
    until("the second reload", || {
        daemon.records("reloaded").len() == 2
    });
    assert_eq!((connections(listen), before.len()), (before, 1));
    sender.write_all(b"n 1\n").unwrap();
    check_once(&collector.wait_for(2), 2);
    assert_eq!(
        collector
            .connections
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    let report = status(&daemon);
    assert_eq!(named(&report["sinks"], "out")["ledger"]["delivered"], 2);
    assert_eq!(named(&report["sources"], "in")["received_events"], 2);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn f_028_only_a_step_changed_and_each_event_goes_through_one_form() {
    let (collector, listen) = (Collector::start(), free_port());
    let form = |form: u64| {
        let steps = format!("{{ vrl = '.message = \"form{form} \" + string!(.message)' }}");
        relay(listen, collector.address, &steps).replace(
            "encode = \"raw\"",
            "encode = { template = \"{{ .message }}\" }",
        )
    };
    let daemon = Daemon::start(&form(0));
    let load = Load::tcp(listen);
    let before = connections(listen);
    for round in 1..=20 {
        let text = reload_to(&daemon, &form(round));
        assert!(
            text.starts_with("kept 2, changed: pipeline.main (steps)"),
            "{text}"
        );
        let sent = load.sent();
        until("more is sent", || load.sent() > sent + 20);
    }
    assert_eq!(connections(listen), before, "the connection was touched");
    let sent = load.stop();
    let lines = collector.wait_for(sent as usize);
    check_once(&lines, sent);
    let form = |line: &String| line[4..].split(' ').next().unwrap().parse::<u64>().unwrap();
    let forms: Vec<u64> = lines.iter().map(form).collect();
    assert!(forms.is_sorted(), "an event went through a former form");
    assert_eq!((forms.first(), forms.last()), (Some(&0), Some(&20)));
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn what_a_step_remembers_stays_when_others_change() {
    let (collector, listen) = (Collector::start(), free_port());
    let dedupe = "{ dedupe = { fields = [\"message\"], window = \"10m\" } }";
    let daemon = Daemon::start(&relay(listen, collector.address, dedupe));
    let mut sender = TcpStream::connect(listen).unwrap();
    sender.write_all(b"n 0\nn 0\n").unwrap();
    collector.wait_for(1);
    let steps = format!("{{ drop_if = '.message == \"no\"' }}, {dedupe}");
    let text = reload_to(&daemon, &relay(listen, collector.address, &steps));
    assert!(text.contains("changed: pipeline.main (steps)"), "{text}");
    sender.write_all(b"n 0\nno\nn 1\n").unwrap();
    check_once(&collector.wait_for(2), 2);
    let ended = daemon.stop();
    // The books of the pipeline went on, too.
    assert_eq!(ended.pipeline("main", "received"), 5);
}

/// Two sources that each listen by TCP and UDP, and say which of them they are.
fn pair(first: [SocketAddr; 2], second: [SocketAddr; 2], to: SocketAddr) -> String {
    let source = |name: &str, [tcp, udp]: [SocketAddr; 2]| {
        format!(
            "[source.{name}]\ntype = \"socket\"\nlisten = [\"tcp://{tcp}\", \"udp://{udp}\"]\n\
             [pipeline.{name}_p]\nfrom = [\"{name}\"]\nto = [\"out\"]\n"
        )
    };
    let (first, second) = (source("a", first), source("b", second));
    format!(
        "{first}{second}[sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\n\
         encode = {{ template = \"{{{{ %source }}}} {{{{ .message }}}}\" }}\n"
    )
}

#[test]
fn f_034_two_sources_exchange_their_ports() {
    let collector = Collector::start();
    let ports = [0; 2].map(|_| [free_port(), free_udp_port()]);
    let form = |swapped: bool| match swapped {
        false => pair(ports[0], ports[1], collector.address),
        true => pair(ports[1], ports[0], collector.address),
    };
    let daemon = Daemon::start(&form(false));
    let loads = [
        Load::connects(ports[0][0]),
        Load::connects(ports[1][0]),
        Load::udp(ports[0][1]),
        Load::udp(ports[1][1]),
    ];
    for round in 1..=10 {
        let text = reload_to(&daemon, &form(round % 2 == 1));
        let changed = "kept 3, changed: source.a (listen), source.b (listen)";
        assert!(text.starts_with(changed), "{text}");
        let sent = loads[0].sent();
        until("more is sent", || loads[0].sent() > sent + 50);
    }
    let sent: Vec<u64> = loads.into_iter().map(Load::stop).collect();
    let lines = collector.wait_for(sent.iter().sum::<u64>() as usize);
    // Each number came once from each load.
    let tally = tally(&lines);
    for (number, times) in &tally {
        let expected = sent.iter().filter(|sent| **sent > *number).count() as u64;
        assert_eq!(*times, expected, "{number} of {sent:?}");
    }
    assert_eq!(tally.values().sum::<u64>(), sent.iter().sum::<u64>());
    // After the last exchange, who speaks to a port speaks to its owner.
    let mut after = TcpStream::connect(ports[0][0]).unwrap();
    after.write_all(b"after 1\n").unwrap();
    until("the line", || {
        collector.lines().contains(&"a after 1".to_owned())
    });
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_source_of_another_type_keeps_the_port() {
    let (collector, listen) = (Collector::start(), free_port());
    let socket = relay(listen, collector.address, "");
    let http = socket.replacen("\"socket\"", "\"http\"", 1);
    let daemon = Daemon::start(&socket);
    let mut old = TcpStream::connect(listen).unwrap();
    old.write_all(b"n 0\n").unwrap();
    collector.wait_for(1);
    old.write_all(b"n 1\n").unwrap();
    let text = reload_to(&daemon, &http);
    assert!(
        text.starts_with("kept 2, changed: source.in (type)"),
        "{text}"
    );
    // What had arrived on the old one's connections is delivered.
    collector.wait_for(2);
    let mut client = TcpStream::connect(listen).unwrap();
    let post = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nn 2";
    client.write_all(post.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    check_once(&collector.wait_for(3), 3);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_unix_path_survives_its_owner() {
    let collector = Collector::start();
    let config = |idle: &str| {
        let config = relay("127.0.0.1:0".parse().unwrap(), collector.address, "");
        let path = "unix://{folder}/in.sock";
        config.replace(
            "tcp://127.0.0.1:0\"]",
            &format!("{path}\"]\nidle_timeout = \"{idle}\""),
        )
    };
    let daemon = Daemon::start(&config("1h"));
    for (number, idle) in ["2h", "3h"].into_iter().enumerate() {
        let text = reload_to(&daemon, &config(idle));
        assert!(text.contains("source.in (idle_timeout)"), "{text}");
        let path = daemon.path("in.sock");
        let mut sender = std::os::unix::net::UnixStream::connect(path).unwrap();
        sender
            .write_all(format!("n {number}\n").as_bytes())
            .unwrap();
        collector.wait_for(number + 1);
    }
    let path = daemon.path("in.sock");
    let ended = daemon.stop();
    assert!(!path.exists(), "the path is still there");
    assert_eq!(ended.code(), 0);
}

#[test]
fn systemd_hears_of_a_reload_its_time_and_its_end() {
    let (systemd, collector, listen) = (Systemd::new(), Collector::start(), free_port());
    let config = relay(listen, collector.address, "");
    let daemon = Daemon::launch(&config, |command| systemd.watch(command));
    systemd.hear_ready();
    let hear = || {
        let heard = std::iter::repeat_with(|| systemd.hear());
        let mut told = heard.filter(|it| !it.contains("WATCHDOG=1"));
        told.next().unwrap()
    };
    for (config, status) in [
        (config.clone(), "STATUS=running: 1 sources"),
        ("nonsense".to_owned(), "the last reload failed"),
    ] {
        daemon.write_config(&config);
        daemon.signal(Signal::SIGHUP);
        let reloading = hear();
        let is_whole = reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC=");
        assert!(is_whole, "{reloading}");
        let ready = hear();
        assert!(
            ready.starts_with("READY=1") && ready.contains(status),
            "{ready}"
        );
    }
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn options_of_the_daemon_change_at_once_or_are_said_to_need_a_restart() {
    let (collector, listen) = (Collector::start(), free_port());
    let config = |options: &str| {
        let own = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n";
        format!("{own}{options}\n{}", relay(listen, collector.address, ""))
    };
    let daemon = Daemon::start(&config("log.level = \"info\""));
    let more =
        "log.level = \"debug\"\nstop_timeout = \"5s\"\nmemory = \"64MiB\"\npoller = \"poll\"";
    let text = reload_to(&daemon, &config(more));
    let expected = "kept 3, changed: daemon (memory, stop_timeout, log.level), added: none, \
                    removed: none; with a restart only: daemon.poller\n";
    assert_eq!(text, expected);
    let mut sender = TcpStream::connect(listen).unwrap();
    sender.write_all(b"n 0\n").unwrap();
    daemon.wait_for("connection_opened");
    assert_eq!(status(&daemon)["daemon"]["memory"]["limit_bytes"], 64 << 20);
    let ended = daemon.stop();
    let stopping = ended.log.iter().find(|it| it["event"] == "stopping");
    assert_eq!(stopping.unwrap()["limit_ms"], 5_000);
}
