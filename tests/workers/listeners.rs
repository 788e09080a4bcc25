//! Listening in one place from several reactors: ports, paths, sockets of systemd, limits.
//!
//! To a sender it looks as if there were one; `/proc/net/tcp` knows how many there are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::single::listening;
use super::{
    Collector, check_order, free_port, pipeline, send_over, socket_sink, source, stop_well, table,
    text_of, until,
};
use crate::process::{Daemon, PATIENCE};

const WORKERS: usize = 3;

fn relay(source: &str, to: &Collector) -> String {
    table(WORKERS, "") + source + &pipeline("p", "in", "", "out") + &socket_sink("out", to.address)
}

/// A port of somebody else's is refused, also one that its owner would share.
#[test]
fn a_port_in_use_is_refused_at_once() {
    for is_shared in [false, true] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(is_shared).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(1).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let config = relay(&source(&format!("tcp://{at}")), &Collector::start());
        let ended = Daemon::launch(&config, |_| {}).wait();
        assert_eq!(ended.code(), 75, "{:?}", ended.log.last());
        assert_eq!(listening(at.port()), 1);
        let text = ended.log.last().unwrap().to_string();
        assert!(text.contains("start_failed"), "{text}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let config = relay(&source(&format!("udp://{at}")), &Collector::start());
    assert_eq!(Daemon::launch(&config, |_| {}).wait().code(), 75);
}

/// Each place that the system chooses a port for has a port of its own, the same for all.
#[test]
fn several_places_whose_port_the_system_chooses_are_told_apart() {
    let collector = Collector::start();
    let listen = "tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0";
    let daemon = Daemon::start(&relay(&source(listen), &collector));
    daemon.wait_for("started");
    let of_source = |record: &serde_json::Value| record["component"] == "source.in";
    let mut places: Vec<String> = daemon
        .records("component_started")
        .iter()
        .filter(|record| of_source(record))
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .filter(|message| message.starts_with("listening on "))
        .collect();
    places.sort();
    assert_eq!(places.len(), 3, "{places:?}");
    let mut sent = 0;
    for place in places {
        let at = place.rsplit('/').next().unwrap();
        let at: SocketAddr = at.parse().unwrap();
        if place.contains("udp://") {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .send_to(format!("c {sent} n 0").as_bytes(), at)
                .unwrap();
            sent += 1;
            continue;
        }
        assert_eq!(listening(at.port()), WORKERS, "{place}");
        for _ in 0..12 {
            let mut stream = TcpStream::connect(at).unwrap();
            stream
                .write_all(format!("c {sent} n 0\n").as_bytes())
                .unwrap();
            super::close(stream);
            sent += 1;
        }
    }
    check_order(&collector.wait_for(sent), sent, 1);
    stop_well(daemon);
}

/// A datagram socket for each reactor; those of one sender stay in order.
#[test]
fn datagrams_of_one_sender_stay_in_order() {
    const SENDERS: usize = 12;
    const EACH: u64 = 50;
    let collector = Collector::start();
    let daemon = Daemon::start(&relay(&source("udp://127.0.0.1:0"), &collector));
    let to = daemon.address("source.in", "udp");
    let sockets: Vec<_> = (0..SENDERS)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for number in 0..EACH {
        for (sender, socket) in sockets.iter().enumerate() {
            socket
                .send_to(format!("c {sender} n {number}").as_bytes(), to)
                .unwrap();
        }
        if number % 10 == 9 {
            collector.wait_for(SENDERS * (number as usize + 1));
        }
    }
    check_order(&collector.wait_for(SENDERS * EACH as usize), SENDERS, EACH);
    stop_well(daemon);
}

/// A path is bound once; all reactors accept from it, and it is gone at the end.
#[test]
fn a_path_is_accepted_from_by_all() {
    const CONNECTIONS: usize = 60;
    let collector = Collector::start();
    let daemon = Daemon::start(&relay(&source("unix://{folder}/in.sock"), &collector));
    let path = daemon.path("in.sock");
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for (connection, stream) in streams.iter_mut().enumerate() {
        stream
            .write_all(text_of(connection, 0..20).as_bytes())
            .unwrap();
    }
    check_order(&collector.wait_for(CONNECTIONS * 20), CONNECTIONS, 20);
    let ended = stop_well(daemon);
    assert!(!ended.folder.path().join("in.sock").exists());
    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

/// A socket that systemd has made is accepted from by all.
#[test]
fn a_socket_of_systemd_is_accepted_from_by_all() {
    let collector = Collector::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let daemon = Daemon::launch(&relay(&source("systemd:lines"), &collector), |command| {
        let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=lines \
                      exec \"$0\" \"$@\"";
        let mut shell = std::process::Command::new("sh");
        shell
            .arg("-c")
            .arg(script)
            .arg(command.get_program())
            .args(command.get_args());
        shell.current_dir(command.get_current_dir().unwrap());
        shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
        shell.stdout(Stdio::null()).stderr(Stdio::piped());
        *command = shell;
    });
    daemon.wait_for("started");
    send_over(at, 30, 40);
    check_order(&collector.wait_for(30 * 40), 30, 40);
    stop_well(daemon);
}

/// How many of these the daemon keeps open.
fn open(streams: &mut [TcpStream]) -> usize {
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let answer = stream.read(&mut [0]);
        answer.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    streams
        .iter_mut()
        .filter_map(|stream| is_open(stream).then_some(()))
        .count()
}

/// Limits of connections count what all reactors have.
#[test]
fn limits_of_connections_are_for_all_together() {
    for limit in ["max_connections = 8", "max_connections_per_peer = 8"] {
        let collector = Collector::start();
        let source = source("tcp://127.0.0.1:0") + limit + "\n";
        let daemon = Daemon::start(&relay(&source, &collector));
        let to = daemon.tcp_address("source.in");
        let mut streams: Vec<_> = (0..30).map(|_| TcpStream::connect(to).unwrap()).collect();
        until("the others are turned away", || open(&mut streams) == 8);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(open(&mut streams), 8, "{limit}");
        drop(streams);
        // Room again, for as many, on whichever reactors they come to.
        until("there is room", || {
            let mut streams: Vec<_> = (0..8).map(|_| TcpStream::connect(to).unwrap()).collect();
            std::thread::sleep(Duration::from_millis(20));
            open(&mut streams) == 8
        });
        stop_well(daemon);
    }
}

/// The same place may be given up and taken again, by a path and by a port.
#[test]
fn places_are_given_up_and_taken_again() {
    let collector = Collector::start();
    let port = free_port();
    let forms = [
        source("unix://{folder}/in.sock"),
        source(&format!("tcp://{port}")),
        source(&format!("tcp://{port}\", \"unix://{{folder}}/in.sock")),
    ];
    let daemon = Daemon::start(&relay(&forms[2], &collector));
    let path = daemon.path("in.sock");
    let mut sent = 0;
    for round in 0..12 {
        let form = round % 3;
        super::reload_to(&daemon, &relay(&forms[form], &collector));
        for _ in 0..9 {
            if form != 0 {
                let mut stream = TcpStream::connect(port).unwrap();
                stream
                    .write_all(format!("c {sent} n 0\n").as_bytes())
                    .unwrap();
                super::close(stream);
                sent += 1;
            }
            if form != 1 {
                let mut stream = UnixStream::connect(&path).unwrap();
                stream
                    .write_all(format!("c {sent} n 0\n").as_bytes())
                    .unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                sent += 1;
            }
        }
        assert_eq!(listening(port.port()), if form == 0 { 0 } else { WORKERS });
    }
    check_order(&collector.wait_for(sent), sent, 1);
    stop_well(daemon);
}
