//! In on every transport, out to a collector.
//!
//! What comes out is compared with what went in, line by line, and the books with both.

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::peers::{Collector, free_port, free_udp_port, send};
use crate::process::Daemon;

fn relay(listen: &str, extra: &str, collector: &Collector, encode: &str) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [{listen}]\n{extra}\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"{encode}\"\n",
        collector.address
    )
}

#[test]
fn lines_over_tcp_come_out_as_they_went_in() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&relay(&format!("\"tcp://{port}\""), "", &collector, "raw"));
    let text: String = (0..10_000)
        .map(|n| format!("line {n} of the test\n"))
        .collect();
    send(port, text.as_bytes());
    assert_eq!(collector.lines(10_000), text.lines().collect::<Vec<_>>());
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.pipeline("main", "received"), 10_000);
    assert_eq!(ended.sink("out", "delivered"), 10_000);
    assert!(collector.rest().is_empty(), "nothing comes twice");
}

#[test]
fn json_of_a_line_says_who_sent_it_and_from_where() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&relay(&format!("\"tcp://{port}\""), "", &collector, "json"));
    send(port, b"hel\"lo\n");
    let line: serde_json::Value = serde_json::from_str(&collector.lines(1)[0]).unwrap();
    assert_eq!(line["message"], "hel\"lo");
    assert_eq!(line["host"], "127.0.0.1");
    assert_eq!(line["source"], "in");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn datagrams_and_unix_sockets_too() {
    let (collector, udp) = (Collector::start(), free_udp_port());
    let listen = format!("\"udp://{udp}\", \"unix://{{folder}}/s\", \"unixgram://{{folder}}/d\"");
    let daemon = Daemon::start(&relay(&listen, "", &collector, "raw"));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"by udp\n", udp).unwrap();
    assert_eq!(collector.lines(1), ["by udp"]);
    let mut stream = UnixStream::connect(daemon.path("s")).unwrap();
    stream.write_all(b"by unix stream\n").unwrap();
    assert_eq!(collector.lines(1), ["by unix stream"]);
    let datagram = UnixDatagram::unbound().unwrap();
    datagram
        .send_to(b"by unix datagram", daemon.path("d"))
        .unwrap();
    assert_eq!(collector.lines(1), ["by unix datagram"]);
    let socket_path = daemon.path("s");
    assert_eq!(daemon.stop().code(), 0);
    assert!(!socket_path.exists(), "the path goes with the daemon");
}

#[test]
fn octet_counted_and_lines_are_told_apart() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&relay(&format!("\"tcp://{port}\""), "", &collector, "raw"));
    send(port, b"10 <34>1 abcdplain line\n9 <34>1 xyz");
    assert_eq!(
        collector.lines(3),
        ["<34>1 abcd", "plain line", "<34>1 xyz"]
    );
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_cut_connection_leaves_an_incomplete_event_and_an_ended_one_a_whole() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&relay(&format!("\"tcp://{port}\""), "", &collector, "json"));
    send(port, b"no newline at the end");
    let whole: serde_json::Value = serde_json::from_str(&collector.lines(1)[0]).unwrap();
    assert_eq!(whole["message"], "no newline at the end");
    assert!(whole.get("incomplete").is_none());
    let stream = std::net::TcpStream::connect(port).unwrap();
    let socket = socket2::SockRef::from(&stream);
    (&stream).write_all(b"cut of").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    let cut: serde_json::Value = serde_json::from_str(&collector.lines(1)[0]).unwrap();
    assert_eq!(cut["message"], "cut of");
    assert_eq!(cut["incomplete"], "the connection was reset");
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.source("in", "incomplete")), (0, 1));
}

#[test]
fn an_overlong_line_is_cut_and_marked_and_the_next_one_is_whole() {
    let (collector, port) = (Collector::start(), free_port());
    let extra = "max_message = \"1KiB\"";
    let daemon = Daemon::start(&relay(
        &format!("\"tcp://{port}\""),
        extra,
        &collector,
        "json",
    ));
    let mut text = vec![b'x'; 5000];
    text.extend_from_slice(b"\nnext\n");
    send(port, &text);
    let lines = collector.lines(2);
    let long: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(long["message"].as_str().unwrap().len(), 1024);
    assert_eq!(long["truncated"], "longer than max_message");
    assert!(lines[1].contains("\"next\""));
    let ended = daemon.stop();
    assert_eq!(ended.source("in", "skipped_bytes"), 5000 - 1024);
}

#[test]
fn what_a_lost_collector_had_not_acknowledged_comes_again() {
    let (collector, port) = (Collector::start(), free_port());
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = relay(&format!("\"tcp://{port}\""), "", &collector, "raw");
    let addresses = format!(
        "addresses = [\"tcp://{}\", \"tcp://{}\"]",
        first.local_addr().unwrap(),
        collector.address
    );
    let config = config.replace(
        &format!("address = \"tcp://{}\"", collector.address),
        &addresses,
    );
    let daemon = Daemon::start(&config);
    let (stream, _) = first.accept().unwrap();
    // The first collector goes away with a reset, before anything was sent to it.
    socket2::SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(first);
    drop(stream);
    send(port, b"one\ntwo\n");
    assert_eq!(collector.lines(2), ["one", "two"]);
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 2));
}

#[test]
fn a_newline_inside_a_message_never_makes_two_lines() {
    let (collector, port) = (Collector::start(), free_port());
    let daemon = Daemon::start(&relay(&format!("\"tcp://{port}\""), "", &collector, "raw"));
    send(port, b"a\n9 <1>b\nc de\nf\n");
    assert_eq!(collector.lines(3), ["a", "<1>b c de", "f"]);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn what_a_step_has_made_of_lines_is_looked_at_again() {
    let (collector, port) = (Collector::start(), free_port());
    let config = relay(&format!("\"tcp://{port}\""), "", &collector, "raw");
    let split = "[pipeline.main]\nsteps = [{ split = \".\" }]\n";
    let daemon = Daemon::start(&config.replace("[pipeline.main]\n", split));
    send(port, b"[1,2,3]\n[4,5]\n");
    assert_eq!(collector.lines(5), ["1", "2", "3", "4", "5"]);
    assert_eq!(daemon.stop().code(), 0);
}
