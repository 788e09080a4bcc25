//! Peers that misbehave: endless lines, odd bytes, more connections than descriptors.
//!
//! The others must go on, and memory must stay where it was.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    Collector, Daemon, check_memory, crowd, few_descriptors, line, peak, relay, relay_before,
};
use crate::process::{count, last_of_each};

#[test]
fn f_072_an_endless_line_is_cut_and_memory_stays() {
    const FLOOD_BYTES: usize = 1 << 30;
    let collector = Collector::start();
    let daemon = Daemon::start(&relay("tcp://127.0.0.1:0", &collector, ""));
    let before = peak(&daemon);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..FLOOD_BYTES / block.len() {
        sender.write_all(&block).unwrap();
    }
    sender.write_all(b"\nand on it goes\n").unwrap();
    let mut reader = collector.accept();
    let first = line(&mut reader);
    assert_eq!(first.len(), 64 << 10, "max_message of it");
    assert_eq!(line(&mut reader), b"and on it goes");
    check_memory(&daemon, before);
    drop((sender, reader));
    daemon.stop();
}

#[test]
fn f_074_ten_million_empty_lines_are_counted_and_are_no_events() {
    const LINES: usize = 10_000_000;
    let collector = Collector::start();
    let daemon = Daemon::start(&relay("tcp://127.0.0.1:0", &collector, ""));
    let before = peak(&daemon);
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    for half in [b"\n", b"\r\n" as &[u8]] {
        let block = half.repeat(LINES / 100);
        for _ in 0..50 {
            sender.write_all(&block).unwrap();
        }
    }
    sender.write_all(b"the only one\n").unwrap();
    let mut reader = collector.accept();
    assert_eq!(line(&mut reader), b"the only one");
    check_memory(&daemon, before);
    drop((sender, reader));
    let ended = daemon.stop();
    let counts = last_of_each(&ended.log, "source_counts", "source");
    assert_eq!(count(counts[0], "empty_frames"), LINES as u64);
    let counts = last_of_each(&ended.log, "sink_counts", "sink");
    assert_eq!(count(counts[0], "delivered"), 1);
}

#[test]
fn f_073_bytes_come_out_as_they_went_in() {
    let collector = Collector::start();
    let daemon = Daemon::start(&relay("tcp://127.0.0.1:0", &collector, ""));
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.set_nodelay(true).unwrap();
    let lines: [&[u8]; 6] = [
        b"a\0b\0",
        b"\xff\xfe\xc0\x80 no utf-8",
        b"\xef\xbb\xbfbom",
        "cut: \u{1f600}".as_bytes(),
        b"cr\rinside",
        b"\x1b[2J\x07",
    ];
    for line in lines {
        for byte in line.iter().chain(b"\n") {
            sender.write_all(&[*byte]).unwrap();
        }
    }
    let mut reader = collector.accept();
    for expected in lines {
        assert_eq!(line(&mut reader), expected);
    }
    drop((sender, reader));
    daemon.stop();
}

#[test]
fn f_068_out_of_descriptors_the_others_go_on() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "");
    let daemon = Daemon::launch(&config, few_descriptors);
    let (address, mut first, mut reader) = relay_before(&daemon, &collector);
    let crowd = crowd(address);
    first.write_all(b"meanwhile\n").unwrap();
    assert_eq!(line(&mut reader), b"meanwhile");
    drop(crowd);
    let start = std::time::Instant::now();
    loop {
        // A connection that comes while there is still no descriptor is turned away.
        let mut late = TcpStream::connect(address).unwrap();
        late.write_all(b"after\n").unwrap();
        reader
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut text = Vec::new();
        let read = std::io::BufRead::read_until(&mut reader, b'\n', &mut text);
        if read.is_ok_and(|count| count > 0) {
            assert_eq!(text, b"after\n");
            break;
        }
        assert!(start.elapsed() < crate::process::PATIENCE);
    }
    drop((first, reader));
    daemon.stop();
}

#[test]
fn f_078_a_full_unix_queue_blocks_its_sender_for_a_while() {
    let collector = Collector::start();
    let daemon = Daemon::start(&relay("unixgram://{folder}/in.sock", &collector, ""));
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(daemon.folder().join("in.sock")).unwrap();
    daemon.signal(Signal::SIGSTOP);
    sender.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sender.send(format!("datagram {sent}").as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "nothing holds the sender up");
    }
    daemon.signal(Signal::SIGCONT);
    sender.set_nonblocking(false).unwrap();
    sender.send(b"the last").unwrap();
    let mut reader = collector.accept();
    for number in 0..sent {
        assert_eq!(line(&mut reader), format!("datagram {number}").as_bytes());
    }
    assert_eq!(line(&mut reader), b"the last");
    drop(reader);
    daemon.stop();
}
