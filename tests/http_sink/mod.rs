//! The `http` sink of a real daemon against servers that are scripts on threads.
//!
//! Events come in through the `http` source, so that each test also sees when they were
//! acknowledged; [`double`] is the server. What a server accepted is what it answered 2xx.

mod answers;
mod batches;
mod breaks;
mod double;
mod peers;
mod stopping;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use crate::process::{Daemon, PATIENCE};
use double::Double;

/// From an `http` source to an `http` sink at `double`, with more options of the sink.
fn config(double: &Double, options: &str) -> String {
    let age = if options.contains("batch.age") {
        ""
    } else {
        "batch.age = \"10ms\"\n"
    };
    format!(
        "[source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"http\"\nurl = \"http://{}/in\"\nencode = \"raw\"\n\
         {age}{options}\n",
        double.address
    )
}

/// Retries that do not keep a test waiting.
const QUICK: &str = "retry.max_delay = \"20ms\"";

/// The daemon between a poster and a double.
struct Relay {
    daemon: Daemon,
    source: SocketAddr,
}

impl Relay {
    fn start(double: &Double, options: &str) -> Relay {
        Relay::on(&config(double, options))
    }

    fn on(config: &str) -> Relay {
        let daemon = Daemon::start(config);
        let source = daemon.address("source.in", "http");
        Relay { daemon, source }
    }

    /// Posts and waits for the status.
    fn post(&self, body: &str) -> u16 {
        post(self.source, body)
    }

    /// Posts; the status is for whoever joins.
    fn begin(&self, body: &str) -> JoinHandle<u16> {
        let (source, body) = (self.source, body.to_owned());
        std::thread::spawn(move || post(source, &body))
    }
}

fn post(source: SocketAddr, body: &str) -> u16 {
    let mut stream = TcpStream::connect(source).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    std::str::from_utf8(&line[9..]).unwrap().parse().unwrap()
}

/// `count` numbered lines.
fn lines(count: usize) -> String {
    (0..count).map(|n| format!("line {n}\n")).collect()
}
