//! Hostile HTTP against the real daemon: bodies and heads without end, bombs, answers without
//! end to its own questions.
//!
//! Each is refused with a reason, memory stays, and another source of the same daemon goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Collector, Daemon, check_memory, line, peak, relay};
use crate::process::PATIENCE;

/// Sends `head`, then `more` again and again until it is answered or closed; the answer.
fn flood(to: SocketAddr, head: &[u8], more: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let more = more.to_vec();
    let writing = thread::spawn(move || {
        // At most 2 GiB: what is never refused fails the test by its answer.
        let rounds = (2 << 30) / more.len().max(1);
        (0..rounds)
            .take_while(|_| writer.write_all(&more).is_ok())
            .count()
    });
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap_or(0);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let rounds = writing.join().unwrap();
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    format!("{text}\n({rounds} rounds)")
}

/// A hundred MiB of zeros, packed.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..100 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn requests_without_end_and_bombs_are_refused_and_the_rest_goes_on() {
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "")
        .replace("[\"in\"]", "[\"in\", \"web\"]")
        + "[source.web]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n";
    let daemon = Daemon::start(&config);
    let (web, before) = (daemon.address("source.web", "http"), peak(&daemon));
    let mut other = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    let mut reader = collector.accept();
    let post = "POST / HTTP/1.1\r\nHost: x\r\n";
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65_536], b"\r\n"].concat();
    let bomb = bomb();
    let packed = format!(
        "{post}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let cases: [(&str, Vec<u8>, Vec<u8>, &str); 4] = [
        (
            "a body without end",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n").into(),
            chunk,
            "413",
        ),
        (
            "a bomb",
            [packed.as_bytes(), &bomb].concat(),
            Vec::new(),
            "413",
        ),
        (
            "a head without end",
            post.into(),
            b"a: b\r\n".repeat(1000),
            "431",
        ),
        (
            "a field without end",
            format!("{post}a: ").into(),
            vec![b'b'; 65_536],
            "431",
        ),
    ];
    for (number, (what, head, more, status)) in cases.into_iter().enumerate() {
        let answer = flood(web, &head, &more);
        let is_refused = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(is_refused, "{what}: {answer}");
        if status == "413" {
            assert!(answer.contains("max_body"), "{what}: {answer}");
        }
        let text = format!("line {number}");
        other.write_all(format!("{text}\n").as_bytes()).unwrap();
        assert_eq!(line(&mut reader), text.as_bytes(), "{what}");
    }
    check_memory(&daemon, before);
    drop((other, reader));
    daemon.stop();
}

#[test]
fn f_116_an_answer_without_end_is_given_up_and_the_rest_goes_on() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = server.local_addr().unwrap();
    thread::spawn(move || {
        for stream in server.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let block = vec![b'x'; 1 << 20];
                while stream.write_all(&block).is_ok() {}
            });
        }
    });
    let collector = Collector::start();
    let config = relay("tcp://127.0.0.1:0", &collector, "")
        .replace("[\"in\"]", "[\"in\", \"ask\"]")
        + &format!("[source.ask]\ntype = \"http_poll\"\nevery = \"1s\"\nurl = \"http://{url}/\"\n");
    let daemon = Daemon::start(&config);
    let before = peak(&daemon);
    let told = daemon.wait_for("poll_failed").to_string();
    for part in [url.to_string().as_str(), "larger than", "max_body"] {
        assert!(told.contains(part), "{told}");
    }
    let mut other = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    other.write_all(b"goes on\n").unwrap();
    let mut reader = collector.accept();
    assert_eq!(line(&mut reader), b"goes on");
    check_memory(&daemon, before);
    drop((other, reader));
    daemon.stop();
}
