//! The programs of others: openssl, curl, Python's server, rsyslog by both of its drivers.
//!
//! A program that is not there is a skip that says so.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::certificates::Keys;
use crate::daemon::peers::{self, free_port};
use crate::process::{Daemon, PATIENCE};
use crate::skips::skip;

/// A program that is killed when the test is done with it, and its standard output by lines.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Program { child, lines }
    }

    /// The next line with `part` in it.
    fn line(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(_) => panic!("no {part} came"),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the program is there; else the test `name` is skipped.
pub fn is_there(program: &str, name: &str) -> bool {
    let there = Command::new("sh")
        .args([
            "-c",
            &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}"),
        ])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success();
    if !there {
        skip(name, &format!("{program} is not installed"));
    }
    there
}

/// Waits until somebody listens there.
pub fn wait_for_listener(at: SocketAddr) {
    let start = Instant::now();
    while std::net::TcpStream::connect(at).is_err() {
        assert!(start.elapsed() < PATIENCE, "nobody listens on {at}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A source of `kind` on `scheme`, with a sink that writes raw lines to `collector`.
fn source(
    keys: &Keys,
    kind: &str,
    scheme: &str,
    more: &str,
    collector: &peers::Collector,
) -> Daemon {
    Daemon::start(&format!(
        "[source.in]\ntype = \"{kind}\"\nlisten = [\"{scheme}://127.0.0.1:0\"]\n{}\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
        keys.option("server", more),
        collector.address
    ))
}

/// A plain source with a sink that `lines` describe.
fn sink(lines: &str) -> Daemon {
    Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\n{lines}\n"
    ))
}

#[test]
fn openssl_s_client_to_a_source() {
    if !is_there("openssl", "openssl_s_client_to_a_source") {
        return;
    }
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = source(&keys, "socket", "tls", "", &collector);
    let to = daemon.address("source.in", "tls").to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let ca = keys.path("ca.pem");
        let mut child = Command::new("timeout")
            .args(["20", "openssl", "s_client", "-verify_return_error"])
            .args(["-connect", &to, "-CAfile", &ca, version])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(format!("hello by {version}\n").as_bytes())
            .unwrap();
        assert_eq!(collector.lines(1), [format!("hello by {version}")]);
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{version}");
    }
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_sink_to_openssl_s_server() {
    if !is_there("openssl", "a_sink_to_openssl_s_server") {
        return;
    }
    let keys = Keys::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let at = free_port();
        let server = Program::start(
            Command::new("openssl")
                .args(["s_server", "-accept", &at.to_string(), "-quiet", version])
                .args([
                    "-cert",
                    &keys.path("server.pem"),
                    "-key",
                    &keys.path("server.key"),
                ])
                .args(["-Verify", "1", "-verify_return_error"])
                .args(["-CAfile", &keys.path("ca.pem")]),
        );
        let own = keys.option("client", &format!(", ca = \"{}\"", keys.path("ca.pem")));
        let daemon = sink(&format!(
            "type = \"socket\"\naddress = \"tls://{at}\"\nencode = \"raw\"\n\
             retry.max_delay = \"1s\"\n{own}"
        ));
        peers::send(daemon.tcp_address("source.in"), b"hello to openssl\n");
        assert_eq!(server.line("hello"), "hello to openssl", "{version}");
        assert_eq!(daemon.stop().code(), 0);
    }
}

#[test]
fn curl_to_an_http_source_with_a_client_certificate() {
    if !is_there("curl", "curl_to_an_http_source_with_a_client_certificate") {
        return;
    }
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let ca = keys.path("ca.pem");
    let more = format!(", client_ca = \"{ca}\"");
    let daemon = source(&keys, "http", "https", &more, &collector);
    let url = format!("https://{}/", daemon.address("source.in", "https"));
    let post = |identity: &[&str], body: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--http1.1", "--cacert", &ca])
            .args(["--write-out", "%{http_code}", "--data-binary", body])
            .args(identity)
            .arg(&url)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (certificate, key) = (keys.path("client.pem"), keys.path("client.key"));
    assert_eq!(
        post(&["--cert", &certificate, "--key", &key], "one\ntwo\n"),
        "200"
    );
    assert_eq!(collector.lines(2), ["one", "two"]);
    assert_eq!(post(&[], "nothing\n"), "000", "no certificate, no answer");
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.pipeline("main", "received")), (0, 2));
}

/// An HTTPS server that prints what is posted to it and answers each GET with a document.
const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b'{"from":"https"}')
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(body.decode().strip(), flush=True)
        self.answer(b"")
    def log_message(self, *ignored):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"#;

fn https_server(keys: &Keys) -> (Program, String) {
    let server = Program::start(
        Command::new("python3")
            .args(["-c", SERVER])
            .args([keys.path("server.pem"), keys.path("server.key")]),
    );
    let line = server.line("port");
    (server, line.replace("port ", ""))
}

#[test]
fn an_http_sink_to_pythons_server() {
    if !is_there("python3", "an_http_sink_to_pythons_server") {
        return;
    }
    let keys = Keys::new();
    let (server, port) = https_server(&keys);
    let daemon = sink(&format!(
        "type = \"http\"\nurl = \"https://localhost:{port}/in\"\nencode = \"raw\"\n\
         batch.age = \"100ms\"\ntls.ca = \"{}\"",
        keys.path("ca.pem")
    ));
    peers::send(daemon.tcp_address("source.in"), b"posted by TLS\n");
    assert_eq!(server.line("posted"), "posted by TLS");
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 1));
}

#[test]
fn a_poller_of_pythons_server() {
    if !is_there("python3", "a_poller_of_pythons_server") {
        return;
    }
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let (_server, port) = https_server(&keys);
    let daemon = Daemon::start(&format!(
        "[source.in]\ntype = \"http_poll\"\nevery = \"200ms\"\n\
         url = \"https://localhost:{port}/status\"\ntls.ca = \"{}\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
        keys.path("ca.pem"),
        collector.address
    ));
    assert_eq!(collector.lines(3), [r#"{"from":"https"}"#; 3]);
    assert_eq!(daemon.stop().code(), 0);
}

/// rsyslog's two ways of TLS: GnuTLS and OpenSSL.
pub const DRIVERS: &[&str] = &["gtls", "ossl"];

/// Runs rsyslogd with `config` in a folder of its own; `None` where it or the driver is missing.
pub fn rsyslogd(driver: &str, config: &str, name: &str) -> Option<(Program, tempfile::TempDir)> {
    if !is_there("rsyslogd", name) {
        return None;
    }
    let library = format!("lmnsd_{driver}.so");
    let find = format!("find /usr/lib /lib -name {library} | grep -q .");
    let is_found = Command::new("sh").args(["-c", &find]).status().unwrap();
    if !is_found.success() {
        skip(name, &format!("rsyslog has no driver {driver}"));
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rsyslog.conf");
    std::fs::write(&path, config).unwrap();
    let daemon = Program::start(
        Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-iNONE", "-f"])
            .arg(path)
            .current_dir(folder.path()),
    );
    Some((daemon, folder))
}

#[test]
fn rsyslog_to_a_source() {
    let keys = Keys::new();
    for driver in DRIVERS {
        let collector = peers::Collector::start();
        let daemon = source(&keys, "socket", "tls", "", &collector);
        let to = daemon.address("source.in", "tls");
        let input = free_port();
        let config = format!(
            "global(DefaultNetstreamDriverCAFile=\"{ca}\" workDirectory=\"/tmp\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{in_port}\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\"\n\
             StreamDriver=\"{driver}\" StreamDriverMode=\"1\"\n\
             StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"localhost\")\n",
            ca = keys.path("ca.pem"),
            in_port = input.port(),
            port = to.port()
        );
        let Some((_rsyslog, _folder)) = rsyslogd(driver, &config, "rsyslog_to_a_source") else {
            return;
        };
        wait_for_listener(input);
        let line = format!("<34>Oct 11 22:14:15 host app: hello by {driver}\n");
        let mut stream = std::net::TcpStream::connect(input).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let lines = collector.lines(1);
        assert!(
            lines[0].ends_with(&format!("hello by {driver}")),
            "{lines:?}"
        );
        assert_eq!(daemon.stop().code(), 0);
    }
}

#[test]
fn a_sink_to_rsyslog() {
    let keys = Keys::new();
    for driver in DRIVERS {
        let at = free_port();
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("out.log");
        let config = format!(
            "global(DefaultNetstreamDriverCAFile=\"{ca}\"\n\
             DefaultNetstreamDriverCertFile=\"{certificate}\"\n\
             DefaultNetstreamDriverKeyFile=\"{key}\" workDirectory=\"/tmp\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"{driver}\" StreamDriver.Mode=\"1\"\n\
             StreamDriver.AuthMode=\"x509/name\" PermittedPeer=[\"client.example\"])\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omfile\" file=\"{file}\")\n",
            ca = keys.path("ca.pem"),
            certificate = keys.path("server.pem"),
            key = keys.path("server.key"),
            port = at.port(),
            file = file.display()
        );
        let Some((_rsyslog, _folder)) = rsyslogd(driver, &config, "a_sink_to_rsyslog") else {
            return;
        };
        wait_for_listener(at);
        let own = keys.option("client", &format!(", ca = \"{}\"", keys.path("ca.pem")));
        let daemon = sink(&format!(
            "type = \"socket\"\naddress = \"tls://localhost:{}\"\nencode = \"raw\"\n{own}",
            at.port()
        ));
        let line = format!("<34>Oct 11 22:14:15 host app: hello by {driver}\n");
        peers::send(daemon.tcp_address("source.in"), line.as_bytes());
        let start = Instant::now();
        let wanted = format!("hello by {driver}");
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&wanted)) {
            assert!(
                start.elapsed() < PATIENCE,
                "rsyslog has written nothing of it"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(daemon.stop().code(), 0);
    }
}
