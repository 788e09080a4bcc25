//! `http_poll` against servers that are scripts on threads: what it asks for and when, and what
//! becomes of the answers, the hostile ones included.
//!
//! A script gets the number of the request and its head, and says what goes over the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::posting::gz;
use super::world::{Sink, World};

/// What a script does with a request.
struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
    Reset,
    /// Holds the connection open, silent, for as long as the client does (or 20 s).
    Hang,
}

fn ok(headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    Reply {
        bytes: [head.as_bytes(), body].concat(),
        then: Then::Keep,
    }
}

fn raw(text: &str, then: Then) -> Reply {
    Reply {
        bytes: text.as_bytes().to_vec(),
        then,
    }
}

/// A server, and what it was asked.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<(Instant, String)>>,
    connections: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

type Script = dyn Fn(usize, &str) -> Reply + Send + Sync;

impl Server {
    /// `script` gets the number of the request, and its head.
    fn new(script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (log, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                log.connections.fetch_add(1, Ordering::SeqCst);
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*script));
            }
        });
        Server { address, seen }
    }

    fn requests(&self) -> Vec<String> {
        let requests = self.seen.requests.lock().unwrap();
        requests.iter().map(|(_, head)| head.clone()).collect()
    }

    fn times(&self) -> Vec<Instant> {
        let requests = self.seen.requests.lock().unwrap();
        requests.iter().map(|(at, _)| *at).collect()
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, seen: &Seen, script: &Script) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    loop {
        let Some(head) = head(&mut stream) else {
            return;
        };
        let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_running.fetch_max(running, Ordering::SeqCst);
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push((Instant::now(), head.clone()));
            requests.len() - 1
        };
        let reply = script(number, &head);
        seen.running.fetch_sub(1, Ordering::SeqCst);
        // The client may have hung up in the middle of a hostile answer.
        let written = stream.write_all(&reply.bytes);
        match reply.then {
            Then::Keep if written.is_ok() => {}
            Then::Keep | Then::Close => return,
            Then::Hang => {
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            Then::Reset => {
                std::thread::sleep(Duration::from_millis(20));
                let socket = socket2::SockRef::from(&stream);
                return socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap().to_lowercase())
}

fn world(server: &Server, path: &str, options: &str) -> World {
    let address = server.address;
    let options = format!("urls = [\"http://{address}{path}\"]\n{options}");
    World::new("http_poll", &options)
}

/// Takes turns until the server was asked `count` times, and a little longer.
fn until_asked(world: &mut World, server: &Server, count: usize) {
    world.until("the requests", |_| server.requests().len() >= count);
    world.run_for(Duration::from_millis(30));
}

#[test]
fn documents_are_fetched_again_and_again_on_one_connection() {
    let server = Server::new(|n, _| ok("", format!("document {n}\n")));
    let mut world = world(&server, "/a?token=x", "every = \"50ms\"");
    world.until("three", |world| world.events().len() >= 3);
    world.source().stop();
    let events = world.events();
    assert_eq!(
        events[..3],
        ["document 0\n", "document 1\n", "document 2\n"]
    );
    assert_eq!(server.connections(), 1);
    let peer = world.sink.peers.borrow()[0].clone();
    assert_eq!(peer, format!("http://{}/a", server.address));
    let first = &server.requests()[0];
    assert!(first.starts_with("get /a?token=x http/1.1\r\n"), "{first}");
    assert!(first.contains(&format!("\r\nhost: {}\r\n", server.address)));
    assert!(first.contains("\r\naccept-encoding: gzip\r\n"), "{first}");
    assert!(!first.contains("if-none-match"));
    let asked = server.requests().len();
    world.run_for(Duration::from_millis(150));
    assert_eq!(server.requests().len(), asked, "it was stopped");
    world.settled();
}

#[test]
fn an_unchanged_document_makes_no_event() {
    let server = Server::new(|n, head| match n {
        0 | 3 => ok(
            &format!("ETag: \"v{n}\"\r\nLast-Modified: yesterday\r\n"),
            format!("{n}"),
        ),
        _ if head.contains("\r\nif-none-match: \"v") => raw(
            "HTTP/1.1 304 Not Modified\r\nETag: \"v0\"\r\n\r\n",
            Then::Keep,
        ),
        _ => ok("", "asked without a condition"),
    });
    let mut world = world(&server, "/", "every = \"30ms\"");
    until_asked(&mut world, &server, 6);
    assert_eq!(world.events(), ["0", "3"]);
    let requests = server.requests();
    assert!(requests[1].contains("\r\nif-none-match: \"v0\"\r\n"));
    assert!(requests[1].contains("\r\nif-modified-since: yesterday\r\n"));
    assert!(requests[4].contains("\r\nif-none-match: \"v3\"\r\n"));
    assert_eq!(server.connections(), 1);
    world.settled();
}

#[test]
fn a_document_that_was_not_delivered_is_asked_for_without_condition() {
    let server = Server::new(|n, _| ok(&format!("ETag: \"v{n}\"\r\n"), format!("{n}")));
    let mut world = world(&server, "/", "every = \"30ms\"");
    world.sink.mode.set(Sink::Drop);
    until_asked(&mut world, &server, 2);
    world.sink.mode.set(Sink::Deliver);
    let before = server.requests().len();
    until_asked(&mut world, &server, before + 2);
    let requests = server.requests();
    assert!(
        requests[..before]
            .iter()
            .all(|head| !head.contains("if-none-match"))
    );
    assert!(requests[before + 1].contains("if-none-match"));
}

#[test]
fn rounds_of_one_url_do_not_overlap() {
    // Neither while the request is under way, nor while its document is being delivered.
    let server = Server::new(|n, _| {
        std::thread::sleep(Duration::from_millis(200));
        ok("", format!("{n}"))
    });
    let mut world = world(&server, "/", "every = \"20ms\"");
    world.until("two", |world| world.events().len() >= 2);
    assert_eq!(server.seen.most_running.load(Ordering::SeqCst), 1);
    world.sink.mode.set(Sink::Hold);
    world.until("the held one", |world| !world.sink.held.borrow().is_empty());
    let asked = server.requests().len();
    world.run_for(Duration::from_millis(300));
    assert_eq!(server.requests().len(), asked);
    world.sink.mode.set(Sink::Deliver);
    world.sink.release();
    until_asked(&mut world, &server, asked + 1);
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept() {
    let server = Server::new(|n, _| match n {
        0 => raw(
            "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            Then::Keep,
        ),
        _ => ok("", "back"),
    });
    let mut world = world(&server, "/", "every = \"30ms\"");
    world.until("the document", |world| !world.events().is_empty());
    let times = server.times();
    let pause = times[1] - times[0];
    assert!(pause >= Duration::from_millis(990), "{pause:?}");
}

#[test]
fn arrays_are_split_into_events() {
    let server = Server::new(|n, _| match n {
        0 => ok("", r#"{"data":{"items":[{"a":1}, "two",3]},"more":[]}"#),
        1 => ok("", r#"{"data":{"items":[{"a":1}"#),
        2 => ok("", r#"{"data":{"items":{}}}"#),
        3 => ok("", r#"{"data":{"items":[]}}"#),
        _ => ok(
            "Content-Encoding: gzip\r\n",
            gz(br#"{"data":{"items":[4]}}"#),
        ),
    });
    let mut world = world(&server, "/", "every = \"30ms\"\nsplit = \".data.items\"");
    world.until("the last", |world| world.events().len() >= 4);
    assert_eq!(world.events()[..4], ["{\"a\":1}", "\"two\"", "3", "4"]);
    world.settled();
}

#[test]
fn credentials_and_headers_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "open sesame").unwrap();
    let secret = format!("{{ file = {path:?} }}");
    let check = |auth: &str, expected: &str| {
        let server = Server::new(|_, head| ok("", head));
        let options = format!(
            "every = \"1s\"\nheaders = {{ \"X-Team\" = \"night\" }}\nauth = {}",
            auth.replace("SECRET", &secret)
        );
        let mut world = world(&server, "/", &options);
        world.until("the request", |world| !world.events().is_empty());
        let head = world.events()[0].clone();
        assert!(head.contains(&expected.to_lowercase()), "{head}");
        assert!(head.contains("\r\nx-team: night\r\n"), "{head}");
    };
    check(
        "{ basic = { user = \"ali\", password = SECRET } }",
        "\r\nauthorization: Basic YWxpOm9wZW4gc2VzYW1l\r\n",
    );
    check(
        "{ bearer = SECRET }",
        "\r\nauthorization: Bearer open sesame\r\n",
    );
}

#[test]
fn redirects_are_followed_on_the_same_server_only() {
    let other = Server::new(|_, _| ok("", "must not be asked"));
    let elsewhere = other.address;
    let server = Server::new(move |_, head| {
        let to = |location: &str| {
            let fields = format!("Location: {location}\r\nContent-Length: 0\r\n\r\n");
            raw(&format!("HTTP/1.1 302 Found\r\n{fields}"), Then::Keep)
        };
        match head.split(' ').nth(1).unwrap() {
            "/start" => to("hop?x"),
            "/hop?x" => to("/end"),
            "/end" => ok("", "arrived"),
            "/away" => to(&format!("http://{elsewhere}/")),
            "/file" => to("file:///etc/passwd"),
            _ => to("/loop"),
        }
    });
    let mut one = world(&server, "/start", "every = \"10s\"");
    one.until("the document", |world| !world.events().is_empty());
    assert_eq!(one.events(), ["arrived"]);
    assert_eq!((server.requests().len(), server.connections()), (3, 1));
    drop(one);
    for path in ["/loop", "/away", "/file"] {
        let before = server.requests().len();
        let mut world = world(&server, path, "every = \"4s\"");
        let asked = if path == "/loop" { 6 } else { 1 };
        until_asked(&mut world, &server, before + asked);
        assert_eq!(server.requests().len(), before + asked, "{path}");
        assert_eq!(world.events(), [""; 0], "{path}");
    }
    assert_eq!(other.connections(), 0);
}

/// Answers that are no document: cut off, broken, endless, too large, or something else.
fn hostile() -> Vec<Reply> {
    vec![
        raw("", Then::Close),
        raw("", Then::Hang),
        raw("", Then::Reset),
        raw("garbage\r\n\r\n", Then::Close),
        raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all",
            Then::Close,
        ),
        raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all",
            Then::Reset,
        ),
        raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all",
            Then::Hang,
        ),
        raw("HTTP/1.1 200 OK\r\n\r\nuntil the reset", Then::Reset),
        raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Then::Close,
        ),
        raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Then::Reset,
        ),
        raw("HTTP/1.1 304 Not Modified\r\n\r\n", Then::Close),
        raw(
            "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
            Then::Keep,
        ),
        raw("HTTP/1.1 204 No Content\r\n\r\nbut a body", Then::Close),
        raw(
            &"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000),
            Then::Close,
        ),
        raw(
            &format!("HTTP/1.1 200 {}", "x".repeat(1 << 20)),
            Then::Close,
        ),
        raw(
            &format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(100_000)),
            Then::Close,
        ),
        ok("", vec![b'x'; 70_000]),
        ok("Content-Encoding: gzip\r\n", gz(&vec![0; 70_000])),
        ok("Content-Encoding: gzip\r\n", &gz(b"cut off")[..20]),
        ok("Content-Encoding: br\r\n", "what is this"),
    ]
}

#[test]
fn f_116_hostile_answers_make_no_events() {
    let hostile = hostile();
    let count = hostile.len();
    let replies = Mutex::new(hostile.into_iter());
    let server = Server::new(move |_, _| {
        let next = replies.lock().unwrap().next();
        next.unwrap_or_else(|| ok("", "good"))
    });
    let options = "every = \"20ms\"\ntimeout = \"400ms\"\nmax_body = \"64KiB\"";
    let mut world = world(&server, "/", options);
    world.until("the good one", |world| !world.events().is_empty());
    assert_eq!(world.events()[0], "good");
    // Each was seen once; what came on a connection used again may have been asked for twice.
    let asked = server.requests().len();
    assert!(asked > count, "{asked}");
    world.settled();
}

#[test]
fn a_connection_closed_while_idle_costs_nothing() {
    let server = Server::new(|n, _| Reply {
        then: Then::Close,
        ..ok("", format!("{n}"))
    });
    let mut world = world(&server, "/", "every = \"30ms\"");
    world.until("three", |world| world.events().len() >= 3);
    assert_eq!(world.events()[..3], ["0", "1", "2"]);
    assert!(server.connections() >= 3);
}

#[test]
fn many_urls_are_fetched_each_at_its_time() {
    let server = Server::new(|_, head| ok("", head.split(' ').nth(1).unwrap()));
    let url = |n: usize| format!("\"http://{}/{n}\"", server.address);
    let urls: Vec<_> = (0..40).map(url).collect();
    let options = format!("urls = [{}]\nevery = \"1s\"", urls.join(","));
    let mut world = World::new("http_poll", &options);
    world.until("all", |world| world.events().len() >= 40);
    let mut events = world.events();
    events.truncate(40);
    events.sort();
    events.dedup();
    assert!(events.len() >= 38, "{events:?}");
    let times = server.times();
    let spread = times[39] - times[0];
    assert!(spread > Duration::from_millis(500), "{spread:?}");
}

#[test]
fn f_118_requests_of_one_source_have_a_cap() {
    let server = Server::new(|_, _| {
        std::thread::sleep(Duration::from_millis(150));
        ok("", "x")
    });
    let url = |n: usize| format!("\"http://{}/{n}\"", server.address);
    let urls: Vec<_> = (0..150).map(url).collect();
    let options = format!("urls = [{}]\nevery = \"100ms\"", urls.join(","));
    let mut world = World::new("http_poll", &options);
    world.until("all", |world| world.events().len() >= 150);
    let most = server.seen.most_running.load(Ordering::SeqCst);
    assert!((2..=64).contains(&most), "{most}");
    let mut peers = world.sink.peers.borrow().clone();
    peers.sort();
    peers.dedup();
    assert!(peers.len() > 100, "every URL has its turn: {}", peers.len());
}

#[test]
fn f_119_what_the_server_thinks_of_time_skips_nothing() {
    let server = Server::new(|n, _| {
        let date = [
            "Mon, 01 Jan 1990 00:00:00 GMT",
            "Mon, 01 Jan 2091 00:00:00 GMT",
        ][n % 2];
        let fields = format!("Date: {date}\r\nLast-Modified: {date}\r\nETag: \"{n}\"\r\n");
        ok(&fields, format!("{n}"))
    });
    let mut world = world(&server, "/", "every = \"30ms\"");
    world.until("four", |world| world.events().len() >= 4);
    assert_eq!(world.events()[..4], ["0", "1", "2", "3"]);
}

#[test]
fn mistakes_are_found_before_the_start() {
    use marline::pipeline::descriptor::Build;
    use marline::pipeline::options::Options;
    let found = marline::sources::ALL.iter().find(|d| d.name == "http_poll");
    let descriptor = found.unwrap();
    let check = |text: &str, part: &str| {
        let Build::Source(build) = descriptor.build else {
            unreachable!()
        };
        let built = Options::for_test(descriptor, text)
            .and_then(|options| build(&options).map_err(|mistake| mistake.to_string()));
        let error = built.err().unwrap_or_default();
        assert!(error.contains(part), "{text}: {error:?}");
        assert!(!error.contains("S3CR3T") || text.contains("urls = [\"http://u"));
    };
    check("every = \"1s\"", "urls");
    check("urls = []\nevery = \"1s\"", "empty");
    check("urls = [\"http://x/\"]", "every");
    check(
        "urls = [\"ftp://x/\"]\nevery = \"1s\"",
        "not an http:// or https:// URL",
    );
    check("urls = [\"ftp://x/\"]\nevery = \"1s\"", "not an http");
    check("urls = [\"http://u:p@x/\"]\nevery = \"1s\"", "credentials");
    let rest = "urls = [\"http://x/\"]\nevery = \"1s\"\n";
    check(&format!("{rest}split = \"items\""), "begins with a dot");
    check(&format!("{rest}split = \".a..b\""), "key is missing");
    check(
        &format!("{rest}headers = {{ \"a b\" = \"c\" }}"),
        "header field",
    );
    check(
        &format!("{rest}headers = {{ a = \"b\\nc\" }}"),
        "header field",
    );
    check(
        &format!("{rest}headers = {{ Range = \"x\" }}"),
        "set by the daemon",
    );
}
