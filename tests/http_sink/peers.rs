//! Real peers: `curl` in front, Python's `http.server` behind, and a second marline.
//!
//! What the double of the other tests takes for HTTP is our own idea of it; these have theirs.
//! Without `curl` or `python3` the test that needs them is skipped, and says so.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::Relay;
use crate::process::Daemon;
use crate::skips::skip;

/// Python's server, which prints its port and then the body of every POST.
const SERVER: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
        sys.stdout.write(body.decode())
        sys.stdout.flush()
    def log_message(self, *about):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
";

/// A process that is killed when the test is done with it.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail where the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relay_to(url: &str) -> String {
    format!(
        "[source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"http\"\nurl = \"{url}\"\nencode = \"raw\"\nbatch.age = \"10ms\"\n"
    )
}

/// The status that curl got for a POST of `body`; `None` without curl.
fn curl(to: SocketAddr, body: &str) -> Option<String> {
    let mut curl = Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "30",
        ])
        .args(["--data-binary", "@-", &format!("http://{to}/")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = curl.stdin.take().unwrap();
    input.write_all(body.as_bytes()).unwrap();
    drop(input);
    let output = curl.wait_with_output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn from_curl_to_a_server_in_python() {
    const NAME: &str = "from_curl_to_a_server_in_python";
    const LINES: usize = 100_000;
    let python = Command::new("python3")
        .args(["-c", SERVER])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(python) = python else {
        return skip(NAME, "there is no python3");
    };
    let mut python = Peer(python);
    let mut said = BufReader::new(python.0.stdout.take().unwrap()).lines();
    let port = said.next().unwrap().unwrap();
    let got = std::thread::spawn(move || {
        let lines = said.take(LINES).map(Result::unwrap);
        lines.collect::<Vec<String>>()
    });
    let relay = Relay::on(&relay_to(&format!("http://127.0.0.1:{port}/")));
    // Long enough for curl to send `Expect: 100-continue` first.
    let lines: Vec<String> = (0..LINES).map(|n| format!("line {n}")).collect();
    let Some(status) = curl(relay.source, &lines.join("\n")) else {
        return skip(NAME, "there is no curl");
    };
    assert_eq!(status, "200");
    let got = got.join().unwrap();
    assert!(got == lines, "the same lines in the same order");
    let ended = relay.daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 100_000));
}

#[test]
fn from_one_marline_to_another() {
    let archive = "[source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
                   [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
                   [sink.out]\ntype = \"file\"\npath = \"{folder}/out\"\nencode = \"raw\"\n";
    let behind = Daemon::start(archive);
    let address = behind.address("source.in", "http");
    let relay = Relay::on(&relay_to(&format!("http://{address}/")));
    let text = super::lines(50_000);
    assert_eq!(relay.post(&text), 200);
    // Acknowledged by the first, so it is where the second brings it.
    let arrived = std::fs::read_to_string(behind.path("out")).unwrap();
    assert!(arrived == text, "{} of {} bytes", arrived.len(), text.len());
    assert_eq!(relay.daemon.stop().code(), 0);
    assert_eq!(behind.stop().sink("out", "delivered"), 50_000);
}
