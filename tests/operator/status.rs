//! `marline status`: idle, failing, blocked, recovered; its form, and what must not be in it.
//!
//! Its form is what docs/STATUS.md says: the table there is read, and compared with a report.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{SOCKET, marline, named, status, status_when};
use crate::process::Daemon;

/// An address that nobody listens at: it was free a moment ago.
fn deserted() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A relay from TCP to `to` that holds little.
fn relay(to: SocketAddr) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n\
         max_connections_per_peer = 1\n\
         [pipeline.main]\nfrom = [\"in\"]\nsteps = [{{ drop_if = '.message == \"no\"' }}]\n\
         to = [\"out\", {{ sink = \"spare\", required = false }}]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{to}\"\nencode = \"raw\"\n\
         buffer.memory = \"64KiB\"\n[sink.spare]\ntype = \"discard\"\n"
    )
}

/// Sends lines until nothing more is taken.
fn fill(to: SocketAddr) -> TcpStream {
    let mut sender = TcpStream::connect(to).unwrap();
    sender.set_nonblocking(true).unwrap();
    let line = [vec![b'x'; 999], b"\n".to_vec()].concat().repeat(64);
    let quiet = std::time::Duration::from_millis(300);
    let mut refused = 0;
    while refused < 3 {
        match sender.write(&line) {
            Ok(taken) if taken > 0 => refused = 0,
            _ => {
                refused += 1;
                std::thread::sleep(quiet);
            }
        }
    }
    sender
}

#[test]
fn an_idle_daemon_says_what_it_has_and_that_nothing_is_wrong() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::start(&relay(collector.local_addr().unwrap()));
    let report = status(&daemon, &[]);
    assert_eq!(report["daemon"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["daemon"]["pid"], daemon.id());
    let source = named(&report["sources"], "in");
    let tcp = format!("tcp://{}", daemon.tcp_address("source.in"));
    assert_eq!(
        (&source["type"], &source["places"][0]),
        (&"socket".into(), &tcp.into())
    );
    assert!(
        source["blocked"].is_null() && source["last_error"].is_null(),
        "{source}"
    );
    assert_eq!(source["connections"]["open"], 0);
    let sink = named(&report["sinks"], "out");
    assert_eq!(
        (&sink["state"], &sink["buffer"]["kind"]),
        (&"up".into(), &"memory".into())
    );
    assert!(
        sink["trouble"].is_null() && sink["last_error"].is_null(),
        "{sink}"
    );
    daemon.stop();
}

/// The source waits for `out`, and for nothing else.
fn check_blocked(report: &Value) {
    let source = named(&report["sources"], "in");
    let blocked = &source["blocked"];
    assert_eq!(
        blocked["sink"], "out",
        "not the spare one, which nobody waits for"
    );
    assert!(
        blocked["why"].as_str().unwrap().contains("refused"),
        "{blocked}"
    );
    assert!(
        blocked["held_bytes"].as_u64().unwrap() > 32 << 10,
        "{blocked}"
    );
    let pipeline = named(&report["pipelines"], "main");
    let (received, out) = (
        &source["received_events"],
        &named(&report["sinks"], "out")["buffer"],
    );
    assert_eq!(received, &pipeline["received"], "one instant, one number");
    assert_eq!(out["bytes"], blocked["held_bytes"], "of the same instant");
}

#[test]
fn a_sink_that_fails_a_source_that_it_blocks_and_both_again_when_it_is_back() {
    let address = deserted();
    let daemon = Daemon::start(&relay(address));
    let report = status_when(&daemon, "failing", |report| {
        named(&report["sinks"], "out")["state"] == "failing"
    });
    let trouble = &named(&report["sinks"], "out")["trouble"];
    assert!(
        trouble["why"].as_str().unwrap().contains("refused"),
        "{trouble}"
    );
    assert!(trouble["failures"].as_u64().unwrap() >= 1, "{trouble}");
    assert!(named(&report["sources"], "in")["blocked"].is_null());
    let sender = fill(daemon.tcp_address("source.in"));
    let report = status_when(&daemon, "blocked", |report| {
        named(&report["sources"], "in")["blocked"].is_object()
    });
    check_blocked(&report);
    let said = daemon.wait_for("source_blocked");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("by sink.out, which holds"), "{message}");
    let (table, _, code) = marline(daemon.folder(), &["status", "--socket", SOCKET]);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("by sink.out, which holds"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    let collector = TcpListener::bind(address).unwrap();
    let reading = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let report = status_when(&daemon, "up", |report| {
        let is_up = named(&report["sinks"], "out")["state"] == "up";
        is_up && named(&report["sources"], "in")["blocked"].is_null()
    });
    let sink = named(&report["sinks"], "out");
    assert!(sink["trouble"].is_null(), "{sink}");
    let last = sink["last_error"]["text"].as_str().unwrap();
    assert!(last.contains("refused"), "it is remembered: {last}");
    drop(sender);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert!(reading.join().unwrap() > 64 << 10);
}

#[test]
fn a_daemon_that_is_being_stopped_still_answers_and_says_so() {
    let daemon = Daemon::start(&relay(deserted()));
    let mut sender = TcpStream::connect(daemon.tcp_address("source.in")).unwrap();
    sender.write_all(b"undeliverable\n").unwrap();
    status_when(&daemon, "one event in the buffer", |report| {
        named(&report["sinks"], "out")["buffer"]["events"] == 1
    });
    daemon.signal(Signal::SIGTERM);
    let report = status_when(&daemon, "stopping", |report| {
        report["daemon"]["state"] == "stopping"
    });
    assert_eq!(named(&report["sinks"], "out")["buffer"]["events"], 1);
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.code(), 1, "the second signal cuts it short");
    assert!(!ended.folder.path().join(SOCKET).exists());
}

/// The documented fields with their types, and the fields of a report.
struct Form {
    documented: BTreeMap<String, Vec<String>>,
    found: BTreeSet<String>,
}

impl Form {
    fn read() -> Form {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/STATUS.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let field = cells.next()?.trim().trim_end_matches('`').to_owned();
            let types = cells.next()?.trim().split(" or ").map(str::to_owned);
            // The metrics stand in a table of their own.
            let is_of_report = !field.starts_with("marline_");
            is_of_report.then(|| (field, types.collect()))
        });
        Form {
            documented: rows.collect(),
            found: BTreeSet::new(),
        }
    }

    /// Whether an object has names of the daemon's, not of the report's.
    fn is_open(&self, path: &str) -> bool {
        self.documented.contains_key(&format!("{path}.*"))
    }

    fn take(&mut self, path: &str, value: &Value) {
        let kind = match value {
            Value::Null => "null",
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "flag",
            Value::Object(fields) => {
                for (name, field) in fields {
                    let path = match (path, self.is_open(path)) {
                        ("", _) => name.clone(),
                        (_, true) => format!("{path}.*"),
                        (_, false) => format!("{path}.{name}"),
                    };
                    self.take(&path, field);
                }
                "object"
            }
            Value::Array(list) => {
                let path = format!("{path}[]");
                return list.iter().for_each(|entry| self.take(&path, entry));
            }
        };
        let documented = self.documented.get(path);
        if let Some(types) = documented {
            assert!(
                types.iter().any(|one| one == kind),
                "{path}: a {kind}, not {types:?}"
            );
            self.found.insert(path.to_owned());
        } else {
            // An object whose fields are documented needs no line of its own.
            let prefixes = [format!("{path}."), format!("{path}.*")];
            let has_fields = |field: &String| prefixes.iter().any(|one| field.starts_with(one));
            let is_container =
                kind == "object" && (path.is_empty() || self.documented.keys().any(has_fields));
            assert!(is_container, "{path} is not in docs/STATUS.md");
        }
    }
}

#[test]
fn the_documented_fields_are_those_of_the_report() {
    let address = deserted();
    let daemon = Daemon::start(&relay(address));
    let to = daemon.tcp_address("source.in");
    let _sender = fill(to);
    let _refused = TcpStream::connect(to).unwrap();
    let _datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.wait_for("source_blocked");
    let mut form = Form::read();
    form.take("", &status(&daemon, &["--debug"]));
    // What this daemon has nothing of at this instant.
    let absent = |field: &String| {
        ["debug.pending", "debug.jobs"]
            .iter()
            .any(|one| field.starts_with(one))
            || field.contains(".dropped.*")
            || field.contains(".dialects[]")
            || field.contains("pipelines[].errors.*")
            || field.contains("filtered.*")
            || field.contains(".certificates[].")
            || field.contains(".failed_handshakes.*")
            || field == "sinks[].counts.*"
    };
    let missing: Vec<_> = form
        .documented
        .keys()
        .filter(|field| !form.found.contains(*field) && !absent(field))
        .collect();
    assert!(
        missing.is_empty(),
        "documented, and not in the report: {missing:?}"
    );
    let collector = TcpListener::bind(address).unwrap();
    let reading = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    drop(_sender);
    daemon.stop();
    reading.join().unwrap();
}

#[test]
fn the_start_says_which_sinks_can_stop_which_source() {
    let daemon = Daemon::start(
        "[source.a]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [source.b]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.first]\nfrom = [\"a\"]\nerrors_to = \"letters\"\n\
         to = [\"near\", { sink = \"spare\", required = false }]\n\
         [pipeline.second]\nfrom = [\"first\"]\nto = [\"far\"]\n\
         [pipeline.third]\nfrom = [\"b\"]\nto = [{ sink = \"spare\", required = false }]\n\
         [sink.near]\ntype = \"discard\"\n[sink.far]\ntype = \"discard\"\n\
         [sink.letters]\ntype = \"discard\"\n[sink.spare]\ntype = \"discard\"\n\
         [pipeline.fourth]\nfrom = [\"a\"]\nto = [\"lossy\"]\n\
         [sink.lossy]\ntype = \"discard\"\nbuffer.when_full = \"drop_newest\"\n",
    );
    let said = |component: &str| {
        let record = daemon.wait_until("stopped_by", |record| {
            record["event"] == "stopped_by" && record["component"] == component
        });
        record["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        said("source.a"),
        "source a stops when one of these is full: near, far (required), letters (errors_to)"
    );
    assert_eq!(said("source.b"), "source b is stopped by no sink");
    let report = status(&daemon, &[]);
    let stoppers = named(&report["sources"], "a")["stopped_by"]
        .as_array()
        .unwrap();
    assert_eq!(stoppers.len(), 3, "{stoppers:?}");
    daemon.stop();
}

#[test]
fn li_1_a_name_that_moves_the_cursor_is_shown_escaped() {
    let daemon = Daemon::start(
        "[source.in]\ntype = \"socket\"\nlisten = [\"unix://{folder}/a\\u001b[2J\\u202eb\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n",
    );
    for more in [&["--json"] as &[&str], &[], &["--debug"]] {
        let arguments = [&["status", "--socket", SOCKET], more].concat();
        let (out, err, code) = marline(daemon.folder(), &arguments);
        assert_eq!((err.as_str(), code), ("", 0));
        assert!(
            !out.contains('\u{1b}') && !out.contains('\u{202e}'),
            "{out:?}"
        );
        assert!(out.contains("[2J"), "it is there all the same: {out:?}");
    }
    daemon.stop();
}

#[test]
fn se_1_no_secret_is_in_the_status_or_in_the_log() {
    const MARKER: &str = "S3CR3T-4711";
    let server = deserted();
    let config = format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nlog.level = \"trace\"\n\
         [source.poll]\ntype = \"http_poll\"\nevery = \"100ms\"\n\
         url = \"http://{server}/x?token={MARKER}\"\n\
         auth = {{ basic = {{ user = \"ada\", password = {{ env = \"PASSWORD\" }} }} }}\n\
         [pipeline.main]\nfrom = [\"poll\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n"
    );
    let daemon = Daemon::launch(&config, |command| {
        command.env("PASSWORD", MARKER);
    });
    daemon.wait_for("poll_failed");
    let mut shown = String::new();
    for more in [&["--json", "--debug"] as &[&str], &["--debug"]] {
        let arguments = [&["status", "--socket", SOCKET], more].concat();
        let (out, err, code) = marline(daemon.folder(), &arguments);
        assert_eq!(code, 0, "{err}");
        shown += &out;
    }
    assert!(
        shown.contains("/x"),
        "the URL is in it, without its query: {shown}"
    );
    let ended = daemon.stop();
    shown += &ended.log.iter().map(Value::to_string).collect::<String>();
    let found = shown.find(MARKER);
    let around = found.map(|at| &shown[at.saturating_sub(200)..at + 20]);
    assert_eq!(around, None);
    assert!(!shown.contains("YWRhOlMzQ1IzVC00NzEx"), "nor as it is sent");
}
