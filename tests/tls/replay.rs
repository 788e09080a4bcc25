//! A collector behind TLS that dies: what its kernel had acknowledged and its process not read
//! comes again, by marks that were translated; with an end in order nothing does.
//!
//! Frames are numbered, so that a missing one and one out of order are seen.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Keys;
use super::peers::server_config;
use crate::process::{Daemon, PATIENCE};

/// Bytes of a frame with its newline.
const FRAME: usize = 100;
/// Frames in all: more than all buffers on the way hold.
const FRAMES: usize = 400_000;
/// Frames that the first process reads.
const FIRST: usize = 100_000;

type Session = StreamOwned<ServerConnection, TcpStream>;

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Session {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = ServerConnection::new(Arc::clone(config)).unwrap();
    StreamOwned::new(session, stream)
}

/// The numbers of `count` frames.
fn read(session: &mut Session, count: usize) -> Vec<usize> {
    let mut frame = [0; FRAME];
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        session.read_exact(&mut frame).unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        numbers.push(text[..10].parse().unwrap());
    }
    numbers
}

/// A relay to `listener` by a sink with `more` options, with all frames on their way to it.
fn relay(keys: &Keys, listener: &TcpListener, more: &str) -> (Daemon, std::thread::JoinHandle<()>) {
    let daemon = Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\nframing = \"lines\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tls://{}\"\nencode = \"raw\"\n\
         retry.max_delay = \"1s\"\ntls.ca = \"{}\"\n{more}",
        listener.local_addr().unwrap(),
        keys.path("ca.pem")
    ));
    let to = daemon.tcp_address("source.in");
    let sending = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        let filler = "x".repeat(FRAME - 11);
        let mut text = String::new();
        for number in 0..FRAMES {
            text.push_str(&format!("{number:010}{filler}\n"));
            if text.len() > 1 << 20 {
                stream.write_all(text.as_bytes()).unwrap();
                text.clear();
            }
        }
        stream.write_all(text.as_bytes()).unwrap();
    });
    (daemon, sending)
}

/// Nothing is lost: the second connection begins at the frame behind the last one read, or
/// before it, and all that follow are in order.
#[test]
fn a_collector_that_is_killed_gets_again_what_it_had_not_read() {
    let keys = Keys::new();
    let config = server_config(&keys.server, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (daemon, sending) = relay(&keys, &listener, "");
    let mut first = accept(&listener, &config);
    let seen = read(&mut first, FIRST);
    assert!(seen.iter().copied().eq(0..FIRST));
    // Its kernel goes on acknowledging what its process never reads.
    std::thread::sleep(Duration::from_millis(500));
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(&first.sock)
        .set_linger(linger)
        .unwrap();
    drop(first);
    let mut second = accept(&listener, &config);
    let begin = read(&mut second, 1)[0];
    assert!(begin <= FIRST, "frames {FIRST} to {begin} are lost");
    let rest = read(&mut second, FRAMES - begin - 1);
    assert!(rest.into_iter().eq(begin + 1..FRAMES));
    sending.join().unwrap();
    let ended = daemon.stop();
    assert_eq!(
        (ended.code(), ended.sink("out", "delivered")),
        (0, FRAMES as u64)
    );
    assert!(
        ended.sink("out", "replayed") > 0,
        "the kernel held something"
    );
}

/// The end of the stream with close_notify says that all was read.
#[test]
fn a_collector_that_ends_its_session_in_order_gets_nothing_again() {
    let keys = Keys::new();
    let config = server_config(&keys.server, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (daemon, sending) = relay(&keys, &listener, "");
    let mut first = accept(&listener, &config);
    let mut seen = read(&mut first, FIRST);
    first.conn.send_close_notify();
    first.flush().unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    let frames = rest.chunks_exact(FRAME);
    assert!(frames.remainder().is_empty(), "the last frame is whole");
    seen.extend(frames.map(|frame| {
        let text = std::str::from_utf8(&frame[..10]).unwrap();
        text.parse::<usize>().unwrap()
    }));
    let mut second = accept(&listener, &config);
    seen.extend(read(&mut second, FRAMES - seen.len()));
    assert!(seen.into_iter().eq(0..FRAMES));
    sending.join().unwrap();
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "replayed")), (0, 0));
}

/// F-089: what waits is bounded on both sides of the layer, and the sender waits.
#[test]
fn f_089_a_collector_that_stops_reading_stops_the_senders() {
    let keys = Keys::new();
    let config = server_config(&keys.server, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (daemon, sending) = relay(&keys, &listener, "buffer.memory = \"8MiB\"\n");
    let mut collector = accept(&listener, &config);
    let mut seen = read(&mut collector, 10);
    std::thread::sleep(Duration::from_secs(2));
    let report = crate::operator::status(&daemon, &[]);
    let memory = &report["daemon"]["memory"];
    let (used, limit) = (&memory["used_bytes"], &memory["limit_bytes"]);
    assert!(
        used.as_u64().unwrap() <= limit.as_u64().unwrap(),
        "{memory}"
    );
    assert!(!sending.is_finished(), "all of it was taken in");
    seen.extend(read(&mut collector, FRAMES - 10));
    assert!(seen.into_iter().eq(0..FRAMES));
    sending.join().unwrap();
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "replayed")), (0, 0));
}
