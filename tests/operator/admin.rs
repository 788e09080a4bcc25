//! The admin socket: whose it is, where it is, and what hostile clients get of it.
//!
//! After each attack the daemon answers `marline status`, and stops in order.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::{SOCKET, code, dial, exchange, marline, named, status};
use crate::process::{Daemon, PATIENCE};

/// A daemon that does next to nothing, with these lines in `[daemon]`.
fn config(daemon: &str) -> String {
    format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n{daemon}\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n"
    )
}

#[test]
fn it_is_for_the_daemons_user_alone_and_goes_with_the_daemon() {
    let daemon = Daemon::start(&config(""));
    let path = daemon.path(SOCKET);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&daemon.path("state")), 0o700);
    let answer = exchange(&path, b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(code(&answer), 200, "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert!(!ended.folder.path().join(SOCKET).exists());
}

#[test]
fn anything_else_is_refused_with_what_there_is() {
    let daemon = Daemon::start(&config(""));
    let check = |line: &str, expected: u16, part: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = exchange(&daemon.path(SOCKET), request.as_bytes());
        assert_eq!(code(&answer), expected, "{line}: {answer}");
        assert!(answer.contains(part), "{line}: {answer}");
    };
    check("GET /", 404, "GET  /status/debug");
    check("GET /status?debug", 404, "GET  /status ");
    check("GET /status/", 404, "there is no such thing");
    check("GET /../etc/passwd", 404, "there is no such thing");
    check("GET /%73tatus", 404, "there is no such thing");
    check("DELETE /status", 405, "allow: GET");
    check("POST /status/debug", 405, "ask for this by GET");
    check("GET http://example.net/status", 400, "another host");
    daemon.stop();
}

/// Fluent Bit's CVE-2024-4323 was an array of what was no text, posted to a debugging endpoint.
#[test]
fn cve_2024_4323_no_content_of_any_type_is_taken_and_the_daemon_goes_on() {
    let daemon = Daemon::start(&config(""));
    let bodies = [
        r#"{"inputs":[0,-1,null,{},[],1e308,"\u0000"]}"#,
        r#"{"inputs":-1}"#,
        r#"{"inputs":null}"#,
        r#"{"inputs":{"a":[[[[[[]]]]]]}}"#,
        r#"{"inputs":true}"#,
        r#"[0,-1,null]"#,
        "\"\\ud800\"",
        "\0\0\0\0",
        "{",
    ];
    for target in ["/status", "/status/debug", "/api/v1/traces", "/reload"] {
        for method in ["GET", "POST", "PUT"] {
            for body in bodies {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                     application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let answer = exchange(&daemon.path(SOCKET), request.as_bytes());
                let code = code(&answer);
                assert!(
                    (400..500).contains(&code),
                    "{method} {target} {body}: {answer}"
                );
            }
        }
    }
    assert_eq!(status(&daemon, &[])["daemon"]["state"], "running");
    daemon.stop();
}

#[test]
fn what_is_too_large_or_broken_is_refused_and_costs_nobody_else_anything() {
    let daemon = Daemon::start(&config(""));
    let path = daemon.path(SOCKET);
    let head = "GET /status HTTP/1.1\r\nHost: localhost\r\n";
    let refused = |what: &str, request: Vec<u8>| {
        let answer = exchange(&path, &request);
        let code = code(&answer);
        assert!(code == 0 || (400..500).contains(&code), "{what}: {answer}");
    };
    let body = vec![b'x'; 1 << 20];
    let declared = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    refused("a declared megabyte", [declared.as_bytes(), &body].concat());
    let chunk = [b"8000\r\n".as_slice(), &vec![b'x'; 0x8000], b"\r\n"].concat();
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    refused(
        "chunks without end",
        [chunked.as_bytes(), &chunk.repeat(100)].concat(),
    );
    let field = format!("X-A: {}\r\n", "a".repeat(1 << 20));
    refused("a field of a megabyte", format!("{head}{field}\r\n").into());
    let fields = "X-A: a\r\n".repeat(10_000);
    refused("ten thousand fields", format!("{head}{fields}\r\n").into());
    refused(
        "a packed body",
        format!("{head}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx").into(),
    );
    refused(
        "no HTTP",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
    );
    refused("nothing", Vec::new());
    assert_eq!(status(&daemon, &[])["daemon"]["state"], "running");
    daemon.stop();
}

#[test]
fn slow_clients_are_closed_and_no_more_of_them_are_let_in_than_there_are_places() {
    let daemon = Daemon::start(&config(""));
    let path = daemon.path(SOCKET);
    let start = Instant::now();
    let mut slow: Vec<_> = (0..30).map(|_| dial(&path)).collect();
    for stream in &mut slow {
        // Those beyond the limit may be closed already.
        let _ = stream.write_all(b"GET /status HTTP/1.1\r\nHos");
    }
    for stream in &mut slow {
        let mut answer = Vec::new();
        // Closed, in order or by a reset, within the time that a head may take.
        let _ = stream.read_to_end(&mut answer);
    }
    drop(slow);
    // Their places are free once the daemon has seen that they are gone.
    let arguments = ["status", "--socket", SOCKET];
    while marline(daemon.folder(), &arguments).2 != 0 {
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }
    daemon.stop();
}

#[test]
fn f_077_a_dead_daemons_socket_is_taken_over_and_a_living_ones_is_not() {
    let daemon = Daemon::start(&config(""));
    daemon.signal(Signal::SIGKILL);
    let ended = daemon.wait();
    let left = ended.folder.path().join(SOCKET);
    assert!(left.exists(), "killed, it could not remove it");
    let state = left.parent().unwrap().to_str().unwrap();
    let same = config("").replace("\"state\"", &format!("{state:?}"));
    let second = Daemon::start(&same);
    assert_eq!(second.records("admin_unavailable").len(), 0);
    assert_eq!(status(&second, &[])["daemon"]["pid"], second.id());
    // A third one, beside it: it runs, and says what it does without.
    let third = Daemon::start(&same);
    let said = third.wait_for("admin_unavailable");
    assert_eq!(said["level"], "warn");
    let message = said["message"].as_str().unwrap();
    assert!(
        message.contains("another process listens there"),
        "{message}"
    );
    third.stop();
    assert_eq!(status(&second, &[])["daemon"]["pid"], second.id());
    second.stop();
    assert!(!left.exists());
}

#[test]
fn a_place_that_the_config_names_must_be_had() {
    let start = |place: &str| {
        let daemon = Daemon::launch(&config(&format!("admin = \"unix://{place}\"")), |_| {});
        let ended = daemon.wait();
        let said = ended
            .log
            .iter()
            .find(|record| record["event"] == "start_failed");
        let message = said.unwrap()["message"].as_str().unwrap().to_owned();
        (ended.code(), message)
    };
    let (code, message) = start("{folder}/missing/admin.sock");
    assert_eq!(code, 1, "{message}");
    assert!(
        message.contains("cannot open the admin socket (daemon.admin)"),
        "{message}"
    );
    assert!(message.contains("make the directory first"), "{message}");
    let taken = tempfile::tempdir().unwrap();
    let path = taken.path().join("a.sock");
    let _owner = UnixListener::bind(&path).unwrap();
    let (code, message) = start(path.to_str().unwrap());
    assert_eq!(code, 75, "{message}");
    assert!(
        message.contains("another process listens there"),
        "{message}"
    );
}

#[test]
fn a_place_of_ones_own_and_none_at_all() {
    let daemon = Daemon::start(&config("admin = \"unix://{folder}/own.sock\""));
    assert!(daemon.path("own.sock").exists() && !daemon.path("state").exists());
    assert_eq!(status(&daemon, &[])["daemon"]["pid"], daemon.id());
    daemon.stop();
    let daemon = Daemon::start(&config("admin = \"off\""));
    assert!(!daemon.path("state").exists());
    let (_, err, code) = marline(daemon.folder(), &["status", "--config", "marline.toml"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("no admin socket"), "{err}");
    daemon.stop();
}

#[test]
fn a_default_place_that_cannot_be_had_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let state = format!("{:?}", file.join("state").to_str().unwrap());
    let daemon = Daemon::start(&config("").replace("\"state\"", &state));
    let said = daemon.wait_for("admin_unavailable");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("cannot make the folder"), "{message}");
    assert!(message.contains("daemon.state_dir"), "{message}");
    daemon.stop();
}

#[test]
fn check_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("marline.toml"), config("")).unwrap();
    let (_, err, code) = marline(folder.path(), &["check", "--config", "marline.toml"]);
    assert_eq!(code, 0, "{err}");
    let there: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(there.len(), 1, "{there:?}");
}

#[test]
fn the_command_finds_the_daemon_though_its_config_has_mistakes_by_now() {
    let daemon = Daemon::start(&config(""));
    let broken = config("") + "[sink.other]\ntype = \"no such thing\"\n";
    fs::write(daemon.path("marline.toml"), broken).unwrap();
    let report = status(&daemon, &[]);
    assert_eq!(report["daemon"]["pid"], daemon.id());
    assert_eq!(named(&report["sinks"], "out")["type"], "discard");
    let wrong = config("no_such_option = 1");
    fs::write(daemon.path("marline.toml"), wrong).unwrap();
    let arguments = ["status", "--config", "marline.toml"];
    let (_, err, code) = marline(daemon.folder(), &arguments);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("no_such_option"), "{err}");
    let (out, _, code) = marline(daemon.folder(), &["status", "--socket", SOCKET]);
    assert_eq!(code, 0, "{out}");
    daemon.stop();
}

#[test]
fn without_a_daemon_the_command_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("marline.toml"), config("")).unwrap();
    let (out, err, code) = marline(folder.path(), &["status", "--config", "marline.toml"]);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(
        err.contains("no daemon answers at state/admin.sock"),
        "{err}"
    );
    assert!(err.contains("is the daemon running"), "{err}");
}
