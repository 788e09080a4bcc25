//! The end of the daemon at bad moments.
//!
//! During its start, while nothing drains, and with datagrams still in the kernel.

use std::io::{ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Collector, Daemon, line, relay};

#[test]
fn f_016_a_stop_while_all_is_full_ends_at_the_deadline() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "stop_timeout = \"1s\"");
    let daemon = Daemon::start(&config);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    let unread = collector.accept();
    fill(&mut sender);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.status.code(), Some(1), "something was cut off");
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_eq!(ended.log.last().unwrap()["event"], "stopped");
    crate::process::check_ledgers(&ended.log);
    drop(unread);
}

/// Writes until nothing more is taken for a while.
fn fill(sender: &mut TcpStream) {
    sender.set_nonblocking(true).unwrap();
    let lines = b"a line that nobody will ever read\n".repeat(2000);
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        match sender.write(&lines) {
            Ok(_) => last = Instant::now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn f_018_a_stop_during_the_start_is_quick() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "");
    for millis in [0, 1, 2, 4, 8, 16, 32] {
        let daemon = Daemon::launch(&config, |_| {});
        sleep(Duration::from_millis(millis));
        daemon.signal(Signal::SIGTERM);
        let ended = daemon.wait();
        assert!(
            ended.took < Duration::from_secs(5),
            "{millis} ms: {:?}",
            ended.took
        );
        // Before its handlers are there, the signal itself ends the process.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&ended.status);
        let is_good = ended.status.code() == Some(0) || by_signal == Some(15);
        assert!(is_good, "{millis} ms: {:?}\n{:?}", ended.status, ended.log);
    }
}

#[test]
fn f_023_datagrams_in_the_kernel_are_taken_before_the_end() {
    const COUNT: usize = 200;
    let collector = Collector::start();
    let daemon = Daemon::start(&relay("udp://127.0.0.1:0", &collector, ""));
    let address = daemon.address("source.in", "udp");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.signal(Signal::SIGSTOP);
    for number in 0..COUNT {
        sender
            .send_to(format!("datagram {number}").as_bytes(), address)
            .unwrap();
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    let mut reader = collector.accept();
    for number in 0..COUNT {
        assert_eq!(line(&mut reader), format!("datagram {number}").as_bytes());
    }
    drop(reader);
    assert_eq!(daemon.wait().status.code(), Some(0));
}
