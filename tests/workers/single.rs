//! One reactor is what it was: nothing of several is there. Several are as many as were asked for.
//!
//! Sockets and threads are counted in `/proc`.

use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

use super::{Collector, pipeline, send_over, socket_sink, source, stop_well, table, threads};
use crate::process::Daemon;

/// Whether another socket may join in at the port, as SO_REUSEPORT lets it.
pub fn can_be_joined(at: std::net::SocketAddr) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    // Bound at most, never listening: nobody's connection goes there.
    socket.bind(&at.into()).is_ok()
}

/// Sockets that listen at the port, by proc_net_tcp.
pub fn listening(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_it = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = format!(":{port:04X}");
        fields.get(1).is_some_and(|it| it.ends_with(&port)) && fields[3] == "0A"
    };
    table.lines().filter(is_it).count()
}

#[test]
fn one_worker_has_one_thread_and_one_socket_that_nobody_may_join() {
    for workers in ["", "workers = 1"] {
        let collector = Collector::start();
        let rest = source("tcp://127.0.0.1:0")
            + &pipeline("p", "in", "", "out")
            + &socket_sink("out", collector.address);
        let config = table(1, "").replace("workers = 1", workers) + &rest;
        let daemon = Daemon::start(&config);
        let at = daemon.tcp_address("source.in");
        assert_eq!(listening(at.port()), 1);
        assert!(!can_be_joined(at));
        assert!(TcpListener::bind(at).is_err());
        let names = threads(&daemon);
        assert!(
            !names.iter().any(|it| it.starts_with("worker-")),
            "{names:?}"
        );
        send_over(at, 4, 20);
        stop_well(daemon);
        assert_eq!(collector.wait_for(80).len(), 80);
    }
}

#[test]
fn each_worker_is_a_thread_with_a_socket_of_its_own() {
    for (word, count) in [("2", 2), ("3", 3), ("4", 4), ("\"auto\"", cores())] {
        let collector = Collector::start();
        let rest = source("tcp://127.0.0.1:0")
            + &pipeline("p", "in", "", "out")
            + &socket_sink("out", collector.address);
        let config = table(1, "").replace("workers = 1", &format!("workers = {word}")) + &rest;
        let daemon = Daemon::start(&config);
        let at = daemon.tcp_address("source.in");
        assert_eq!(listening(at.port()), count, "workers = {word}");
        let names = threads(&daemon);
        let workers = names.iter().filter(|it| it.starts_with("worker-"));
        // The first reactor has the main thread.
        assert_eq!(workers.count(), count - 1, "{names:?}");
        send_over(at, 4, 20);
        stop_well(daemon);
        assert_eq!(collector.wait_for(80).len(), 80);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
