//! Who the daemon speaks with: free ports, a collector behind it, a sender before it.
//!
//! The collector reads on threads of its own, so that nothing waits for the test to look.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::process::PATIENCE;

/// A port that was free a moment ago, on an address of this test process alone.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A port that was free a moment ago for datagrams.
pub fn free_udp_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A collector: takes connections and keeps everything they send.
pub struct Collector {
    pub address: SocketAddr,
    lines: Receiver<Vec<u8>>,
}

impl Collector {
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                        if sender.send(line).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Collector { address, lines }
    }

    /// The next `count` lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(String::from_utf8_lossy(&line).into_owned()),
                Err(_) => panic!("{} of {count} lines came: {lines:?}", lines.len()),
            }
        }
        lines
    }

    /// What has come by now and was not taken yet.
    pub fn rest(&self) -> Vec<String> {
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
        self.lines.try_iter().map(text).collect()
    }
}

/// Sends bytes over TCP and closes in order: returns when the peer has closed, too.
pub fn send(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}
