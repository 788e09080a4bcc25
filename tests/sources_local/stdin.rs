//! The source `stdin`: pipes, sockets and files, their end, and who waits.
//!
//! The daemon is a filter by default: it ends when its input does, by itself and with nothing
//! lost.

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use super::{TO_FILE, check_numbers, lines, lines_when, to_json_file};
use crate::process::{Daemon, Ended, check_ledgers};

const SOURCE: &str = "[source.in]\ntype = \"stdin\"\n";

fn launch(config: &str, input: Stdio) -> Daemon {
    Daemon::launch(config, |command| {
        command.stdin(input);
    })
}

fn piped(config: &str) -> (Daemon, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (launch(config, reader.into()), writer)
}

/// The daemon ends by itself, and well.
fn ends(daemon: Daemon) -> Ended {
    let ended = daemon.wait();
    assert_eq!(ended.code(), 0);
    check_ledgers(&ended.log);
    let stopping = ended.log.iter().find(|it| it["event"] == "stopping");
    let stopping = stopping.expect("it says that it stops");
    assert_eq!(stopping["reason"], "standard input has ended");
    ended
}

#[test]
fn a_pipe_is_read_to_its_end_and_the_daemon_ends_with_it() {
    let (daemon, mut writer) = piped(&format!("{SOURCE}{}", to_json_file()));
    writer.write_all(b"first\nsec").unwrap();
    lines_when(&daemon, "first line", |lines| lines.len() == 1);
    writer.write_all(b"ond\n\nlast without an end").unwrap();
    drop(writer);
    let ended = ends(daemon);
    let lines = lines(&ended.folder.path().join("out.log"));
    let messages: Vec<_> = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .collect();
    let texts: Vec<_> = messages.iter().map(|event| &event["message"]).collect();
    assert_eq!(texts, ["first", "second", "last without an end"]);
    assert!(messages.iter().all(|event| event["source"] == "in"));
    assert!(messages[2].get("incomplete").is_none(), "{}", messages[2]);
    assert_eq!(ended.source("in", "empty_frames"), 1);
}

#[test]
fn everything_of_a_file_a_pipe_and_a_socket_arrives_in_order() {
    const LINES: usize = 200_000;
    let text: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    std::fs::write(&path, &text).unwrap();
    let config = format!("{SOURCE}{TO_FILE}");
    for poller in ["epoll", "poll", "select"] {
        let own = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n";
        let config = format!("{own}poller = \"{poller}\"\n{config}");
        let check = |daemon: Daemon| {
            let ended = ends(daemon);
            check_numbers(&lines(&ended.folder.path().join("out.log")), LINES);
        };
        check(launch(&config, File::open(&path).unwrap().into()));
        let (daemon, mut writer) = piped(&config);
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        check(daemon);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = launch(&config, OwnedFd::from(theirs).into());
        (&ours).write_all(text.as_bytes()).unwrap();
        drop(ours);
        check(daemon);
    }
}

#[test]
fn an_input_that_is_empty_or_dev_null_ends_at_once() {
    let config = format!("{SOURCE}{TO_FILE}");
    let ended = ends(launch(&config, Stdio::null()));
    assert_eq!(ended.source("in", "events"), 0);
    let (daemon, writer) = piped(&config);
    drop(writer);
    assert_eq!(ends(daemon).source("in", "events"), 0);
}

#[test]
fn with_keep_the_daemon_goes_on_without_its_input() {
    let (daemon, mut writer) = piped(&format!("{SOURCE}at_end = \"keep\"\n{TO_FILE}"));
    writer.write_all(b"one\n").unwrap();
    drop(writer);
    daemon.wait_for("input_ended");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!daemon.has_ended());
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "delivered")), (0, 1));
}

#[test]
fn the_end_waits_until_everything_is_delivered_and_the_writer_waits_with_it() {
    // Nobody listens there: the sink has to hold what it gets, and has little room.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!(
        "{SOURCE}\n[pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\n\
         type = \"socket\"\naddress = \"tcp://{address}\"\nencode = \"raw\"\n\
         buffer.memory = \"64KiB\"\nretry.max_delay = \"200ms\"\n"
    );
    const LINES: usize = 1_000_000;
    let (daemon, mut writer) = piped(&config);
    let writing = std::thread::spawn(move || {
        let text: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
        writer.write_all(text.as_bytes()).unwrap();
    });
    daemon.wait_for("started");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!writing.is_finished(), "6.9 MB found room in 64 KiB");
    assert!(!daemon.has_ended());
    let listener = TcpListener::bind(address).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        text
    });
    writing.join().unwrap();
    ends(daemon);
    let text = reading.join().unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    check_numbers(&lines, LINES);
}

#[test]
fn a_stop_takes_what_has_arrived_and_marks_what_has_no_end() {
    let (daemon, mut writer) = piped(&format!("{SOURCE}{}", to_json_file()));
    daemon.wait_for("started");
    writer.write_all(b"whole\nhal").unwrap();
    lines_when(&daemon, "whole line", |lines| lines.len() == 1);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    let lines = lines(&ended.folder.path().join("out.log"));
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("\"incomplete\""), "{}", lines[1]);
}
