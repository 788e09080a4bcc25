//! A restart without a gap: sockets wait in systemd's store while the daemon is down.
//!
//! systemd is a double that keeps what it is given and hands it to the next process, as PID 1
//! does. That datagrams wait and connects succeed is the kernel's work: it is the real one.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Collector, check_once, free_port, free_udp_port, reload, reload_to};
use super::{relay, until};
use crate::process::{Daemon, PATIENCE, Systemd};

/// A relay to `to` that listens at these addresses.
fn listening(at: &[String], to: SocketAddr) -> String {
    let quoted: Vec<String> = at.iter().map(|at| format!("\"{at}\"")).collect();
    let listen = format!(
        "listen = [{}]\nreceive_buffer = \"8MiB\"",
        quoted.join(", ")
    );
    let one = "listen = [\"tcp://127.0.0.1:0\"]";
    let config = relay("127.0.0.1:0".parse().unwrap(), to, "");
    assert!(config.contains(one));
    config.replace(one, &listen)
}

fn start(systemd: &Systemd, config: &str) -> Daemon {
    let daemon = Daemon::launch(config, |command| systemd.manage(command));
    systemd.hear_ready();
    daemon
}

/// Stops it and starts it again, with another configuration perhaps.
fn restart(systemd: &Systemd, daemon: Daemon, config: &str) -> Daemon {
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    start_again(systemd, ended.folder, config)
}

fn start_again(systemd: &Systemd, folder: tempfile::TempDir, config: &str) -> Daemon {
    systemd.hear_of("STOPPING=1");
    let daemon = Daemon::launch_in(folder, config, |command| systemd.start_again(command));
    systemd.hear_of("READY=1");
    daemon
}

/// Waits for so many records, and that there is not one more.
fn wait_for_records(daemon: &Daemon, event: &str, count: usize) {
    until(event, || daemon.records(event).len() >= count);
    assert_eq!(daemon.records(event).len(), count);
}

/// Numbered datagrams, 5 000 a second, of which only so many may be sent.
struct Datagrams {
    sent: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Datagrams {
    const PER_SECOND: u64 = 5_000;

    fn start(to: SocketAddr) -> Datagrams {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Not connected: a refusal would be the daemon's answer to the next one.
        let (sent, limit) = (
            Arc::<AtomicU64>::default(),
            Arc::new(AtomicU64::new(u64::MAX)),
        );
        let is_over = Arc::<AtomicBool>::default();
        let (count, at_most, ends) = (Arc::clone(&sent), Arc::clone(&limit), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                for _ in 0..Self::PER_SECOND / 500 {
                    let number = count.load(Ordering::SeqCst);
                    if number < at_most.load(Ordering::SeqCst) {
                        let line = format!("n {number}");
                        socket.send_to(line.as_bytes(), to).unwrap();
                        count.store(number + 1, Ordering::SeqCst);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Datagrams {
            sent,
            limit,
            is_over,
            thread,
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    fn send(&self, more: u64) {
        let goal = self.sent() + more;
        until("more is sent", || self.sent() >= goal);
    }

    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

/// Connects every few milliseconds; every one has to succeed.
fn connecting(to: SocketAddr) -> impl FnOnce() -> u64 {
    let is_over = Arc::<AtomicBool>::default();
    let ends = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || {
        let mut count = 0;
        while !ends.load(Ordering::SeqCst) {
            TcpStream::connect_timeout(&to, PATIENCE).expect("nobody is turned away");
            count += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        count
    });
    move || {
        is_over.store(true, Ordering::SeqCst);
        thread.join().unwrap()
    }
}

#[test]
fn a_restart_loses_no_datagram_and_refuses_no_connection() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let (tcp, udp) = (free_port(), free_udp_port());
    let at = [format!("tcp://{tcp}"), format!("udp://{udp}")];
    let config = listening(&at, collector.address);
    let mut daemon = start(&systemd, &config);
    let names = systemd.stored();
    assert!(names[0].starts_with("marline.tcp.") && names[1].starts_with("marline.udp."));
    let room = rustix::net::sockopt::socket_recv_buffer_size(systemd.stored_socket("marline.udp"));
    // What a small datagram occupies in the kernel is below 1 280 bytes.
    let room = room.unwrap() as u64 / 1_280 / 2;
    let (datagrams, connects) = (Datagrams::start(udp), connecting(tcp));
    for _ in 0..3 {
        datagrams.send(Datagrams::PER_SECOND / 2);
        let before = datagrams.sent();
        datagrams.limit.store(before + room, Ordering::SeqCst);
        let ended = daemon.stop();
        assert_eq!(ended.code(), 0);
        // Now nobody is there but the kernel.
        datagrams.send(room.min(50));
        TcpStream::connect(tcp).expect("the connection waits");
        daemon = start_again(&systemd, ended.folder, &config);
        datagrams.limit.store(u64::MAX, Ordering::SeqCst);
        wait_for_records(&daemon, "socket_taken_back", 2);
        assert_eq!(systemd.stored(), names, "each is stored once");
    }
    datagrams.send(Datagrams::PER_SECOND / 2);
    let sent = datagrams.stop();
    assert!(connects() > 100);
    check_once(&collector.wait_for(sent as usize), sent);
    assert_eq!(daemon.stop().code(), 0);
    assert!(systemd.removed().is_empty(), "{:?}", systemd.removed());
}

#[test]
fn what_waits_at_a_daemon_that_was_killed_is_served_by_the_next() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let (tcp, udp) = (free_port(), free_udp_port());
    let at = [format!("tcp://{tcp}"), format!("udp://{udp}")];
    let config = listening(&at, collector.address);
    let daemon = start(&systemd, &config);
    daemon.signal(Signal::SIGKILL);
    let folder = daemon.wait().folder;
    let mut sender = TcpStream::connect(tcp).expect("the connection waits");
    sender.write_all(b"n 0\n").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"n 1", udp).unwrap();
    let daemon = Daemon::launch_in(folder, &config, |command| systemd.start_again(command));
    systemd.hear_ready();
    check_once(&collector.wait_for(2), 2);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn what_the_new_config_has_no_use_for_is_closed_and_removed() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let (tcp, udp) = (free_port(), free_udp_port());
    let at = [format!("tcp://{tcp}"), format!("udp://{udp}")];
    let daemon = start(&systemd, &listening(&at, collector.address));
    let before = systemd.stored();
    // The one is in the way of what is wanted now, the other is simply not wanted.
    let port = tcp.port();
    let config = listening(&[format!("tcp://0.0.0.0:{port}")], collector.address);
    let ended = daemon.stop();
    systemd.hear_of("STOPPING=1");
    let daemon = Daemon::launch_in(ended.folder, &config, |it| systemd.start_again(it));
    systemd.hear_of("READY=1");
    assert_eq!(systemd.removed(), before);
    assert_eq!(systemd.stored().len(), 1);
    wait_for_records(&daemon, "stored_socket_closed", 2);
    UdpSocket::bind(udp).expect("nobody holds the port");
    let mut sender = TcpStream::connect(tcp).unwrap();
    sender.write_all(b"n 0\n").unwrap();
    check_once(&collector.wait_for(1), 1);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_reload_stores_what_is_new_and_removes_what_goes() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let ports = [0; 3].map(|_| free_port());
    let config = |ports: &[SocketAddr]| {
        let at: Vec<String> = ports.iter().map(|port| format!("tcp://{port}")).collect();
        listening(&at, collector.address)
    };
    let daemon = start(&systemd, &config(&ports[..2]));
    let before = systemd.stored();
    reload_to(&daemon, &config(&ports[1..]));
    systemd.hear_of("READY=1");
    // A listener closes in a turn of its own.
    let start = Instant::now();
    while systemd.removed().is_empty() {
        assert!(start.elapsed() < PATIENCE, "nothing is removed");
        assert_eq!(systemd.hear_within(Duration::from_millis(5)), None);
    }
    assert_eq!(systemd.removed(), before[..1]);
    let after = systemd.stored();
    assert!(after.len() == 2 && after[0] == before[1], "{after:?}");
    let taken = TcpListener::bind(ports[0]).expect("nobody holds the port");

    // One that fails stores nothing, though it had opened something.
    let other = free_port();
    daemon.write_config(&config(&[ports[1], ports[2], other, ports[0]]));
    assert_eq!(reload(&daemon).code, 75);
    systemd.hear_of("READY=1");
    assert_eq!((systemd.stored(), systemd.removed().len()), (after, 1));
    drop(taken);
    assert_eq!(daemon.stop().code(), 0);
    // The stop removes nothing.
    systemd.hear_of("STOPPING=1");
    while systemd.hear_within(Duration::from_millis(50)).is_some() {}
    assert_eq!((systemd.stored().len(), systemd.removed().len()), (2, 1));
}

#[test]
fn paths_stay_with_their_sockets() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let both = ["unix://{folder}/in.sock", "unixgram://{folder}/in.gram"].map(str::to_owned);
    let config = listening(&both, collector.address);
    let daemon = start(&systemd, &config);
    let names = systemd.stored();
    assert!(names[0].starts_with("marline.unix."), "{names:?}");
    assert!(names[1].starts_with("marline.unixgram."), "{names:?}");
    let (stream, gram) = (daemon.path("in.sock"), daemon.path("in.gram"));
    let ended = daemon.stop();
    let mut sender = UnixStream::connect(&stream).expect("the connection waits");
    sender.write_all(b"n 0\n").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"n 1", &gram).expect("the datagram waits");
    let daemon = start_again(&systemd, ended.folder, &config);
    check_once(&collector.wait_for(2), 2);
    assert_eq!(systemd.stored(), names);

    // A path that went away leads nowhere: its socket is made anew, the other one is kept.
    let ended = daemon.stop();
    std::fs::remove_file(&stream).unwrap();
    let daemon = start_again(&systemd, ended.folder, &config);
    assert_eq!(systemd.removed(), names[..1]);
    daemon.wait_for("started");
    wait_for_records(&daemon, "socket_taken_back", 1);
    let mut sender = UnixStream::connect(&stream).unwrap();
    sender.write_all(b"n 2\n").unwrap();
    check_once(&collector.wait_for(3), 3);

    // A path that was taken back goes with its socket.
    let config = listening(&both[..1], collector.address);
    reload_to(&daemon, &config);
    until("the path is gone", || !gram.exists());
    assert!(stream.exists());

    // A stop that no start follows: the path is left, and the next start takes it over.
    let ended = daemon.stop();
    systemd.empty_store();
    let refused = UnixStream::connect(&stream).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let daemon = Daemon::launch_in(ended.folder, &config, |_| {});
    daemon.wait_for("started");
    UnixStream::connect(&stream).unwrap();
    let ended = daemon.stop();
    assert_eq!((ended.code(), stream.exists()), (0, false));
    assert!(ended.folder.path().exists());
}

#[test]
fn nothing_is_stored_where_the_unit_has_no_room() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let at = [
        "unix://{folder}/in.sock".to_owned(),
        format!("tcp://{}", free_port()),
    ];
    let config = listening(&at, collector.address);
    for (room, stored) in [("0", 0), ("1", 1)] {
        let daemon = Daemon::launch(&config, |command| {
            systemd.manage(command);
            command.env("FDSTORE", room);
        });
        systemd.hear_ready();
        assert_eq!(systemd.stored().len(), stored);
        daemon.wait_for("started");
        wait_for_records(&daemon, "socket_not_stored", stored);
        let path = daemon.path("in.sock");
        let ended = daemon.stop();
        assert_eq!((ended.code(), path.exists()), (0, stored == 1));
        systemd.hear_of("STOPPING=1");
        while systemd.hear_within(Duration::from_millis(50)).is_some() {}
    }
}

#[test]
fn what_the_system_chose_or_others_hold_is_not_stored() {
    let (systemd, collector) = (Systemd::new(), Collector::start());
    let at = ["tcp://127.0.0.1:0".to_owned()];
    let daemon = start(&systemd, &listening(&at, collector.address));
    assert!(systemd.stored().is_empty(), "{:?}", systemd.stored());
    assert!(daemon.path("state/admin.sock").exists());
    let daemon = restart(&systemd, daemon, &listening(&at, collector.address));
    assert!(systemd.stored().is_empty());
    let admin = daemon.path("state/admin.sock");
    let ended = daemon.stop();
    assert_eq!((ended.code(), admin.exists()), (0, false));
    assert!(ended.folder.path().exists());
}
