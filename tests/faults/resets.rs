//! Peers that reset the connection at every byte of a short stream, for each framing.
//!
//! What was whole comes whole, what was cut is marked, nothing is invented, and the next
//! connection is served.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::{Collector, Daemon};
use crate::process::{PATIENCE, count, last_of_each};

/// Each framing, and a stream of two frames.
struct Case {
    framing: &'static str,
    stream: &'static [u8],
    frames: [&'static str; 2],
}

const fn case(framing: &'static str, stream: &'static [u8]) -> Case {
    Case {
        framing,
        stream,
        frames: ["first", "second"],
    }
}

const CASES: [Case; 6] = [
    Case {
        frames: ["<1>first", "<2>second"],
        ..case("auto", b"8 <1>first<2>second\n")
    },
    case("lines", b"first\nsecond\n"),
    case("nul", b"first\0second\0"),
    case("octet_counted", b"5 first6 second"),
    case("length_u32", b"\0\0\0\x05first\0\0\0\x06second"),
    case("netstring", b"5:first,6:second,"),
];

fn config(collector: &Collector) -> String {
    let mut config = String::new();
    for Case { framing, .. } in CASES {
        config += &format!(
            "[source.{framing}]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
             framing = \"{framing}\"\n"
        );
    }
    let from = CASES.map(|case| format!("\"{}\"", case.framing)).join(", ");
    let to = collector.address();
    config
        + &format!(
            "[pipeline.main]\nfrom = [{from}]\nto = [\"out\"]\n\
             [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"json\"\n"
        )
}

/// Sends the bytes and resets, at once or when the daemon has read them.
fn send_and_reset(to: SocketAddr, bytes: &[u8], pause: Duration) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    sleep(pause);
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn send_and_close(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it closes, too");
}

#[test]
fn f_064_a_reset_at_every_byte_of_every_framing() {
    let collector = Collector::start();
    let daemon = Daemon::start(&config(&collector));
    let mut reader = collector.accept();
    for Case {
        framing, stream, ..
    } in CASES
    {
        let to = daemon.tcp_address(&format!("source.{framing}"));
        for end in 0..=stream.len() {
            for pause in [0, 2] {
                send_and_reset(to, &stream[..end], Duration::from_millis(pause));
            }
        }
        send_and_close(to, stream);
    }
    let ended = daemon.stop();
    assert_eq!(ended.status.code(), Some(0));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    for case in &CASES {
        check(case, &events);
    }
    let books = last_of_each(&ended.log, "sink_counts", "sink");
    assert_eq!(count(books[0], "delivered"), events.len() as u64);
    let errors: Vec<_> = ended
        .log
        .iter()
        .filter(|it| it["level"] == "error")
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// The events of one source: whole ones are one of the two frames, others are marked and cut
/// from the stream.
fn check(case: &Case, events: &[Value]) {
    let framing = case.framing;
    let ours = || events.iter().filter(|event| event["source"] == framing);
    let mut whole = [0; 2];
    for event in ours() {
        let message = event["message"].as_str().unwrap();
        if event.get("incomplete").is_none() {
            let frame = case.frames.iter().position(|it| *it == message);
            whole[frame.unwrap_or_else(|| panic!("{framing}: {event}"))] += 1;
        } else {
            let mut parts = case.stream.windows(message.len());
            assert!(!message.is_empty(), "{framing}: {event}");
            let is_part = parts.any(|it| it == message.as_bytes());
            assert!(is_part, "{framing}: {event}");
        }
    }
    // What was whole had been read before the reset in half of the cases at least.
    let behind_first = case.stream.len() / 2;
    assert!(whole[0] >= behind_first, "{framing}: {whole:?}");
    assert!(whole[1] >= 1, "{framing}: {whole:?}");
    let cut = ours().count() - whole[0] - whole[1];
    assert!(cut > 0, "{framing}: nothing was cut");
}
