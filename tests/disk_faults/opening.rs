//! Opening what is there: what another daemon has in use, and what other versions wrote.
//!
//! `format_1` is a buffer as version 1 leaves it, with the events that are in it beside it; it is
//! never made anew for a version that could not read it. How it was made is at the end.

use std::path::Path;

use super::{Daemon, config, end, http, post_all, until, until_delivered};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;
use crate::process::PATIENCE;

#[test]
fn f_049_a_second_daemon_with_the_same_state_says_so_and_ends() {
    let collector = Collector::new();
    let config = config(&collector);
    let first = Daemon::launch(&config, |_| {});
    let address = http(&first);
    let mut client = Client::new();
    post_all(&mut client, address, 3);
    let state = first.path("state");
    let elsewhere = super::with_state(&config, &state);
    let second = Daemon::launch(&elsewhere, |_| {}).wait();
    assert_eq!(second.code(), 75, "{:#?}", second.log);
    let failed = second.log.iter().find(|it| it["event"] == "start_failed");
    let text = failed.unwrap().to_string();
    let by = format!("in use by process {}", first.id());
    for part in [by.as_str(), "sink.out", "stop it first"] {
        assert!(text.contains(part), "{text}");
    }
    post_all(&mut client, address, 3);
    crate::operator::status(&first, &[]);
    collector.listen();
    until_delivered(&collector, &client);
    let (_, verdict) = end(first, collector, &client);
    assert_eq!(verdict.doubled, 0);
}

/// The fixture's folder.
fn fixture() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/disk_faults/format_1"
    ))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A daemon that writes what is in the buffer `state/buffer/out` to `out.log`.
const READER: &str = "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\n\
     [source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
     [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
     [sink.out]\ntype = \"file\"\npath = \"{folder}/out.log\"\nencode = \"json\"\n\
     buffer.disk = \"8MiB\"\n";

#[test]
fn f_137_a_buffer_of_format_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    copy(
        &fixture().join("out"),
        &folder.path().join("state/buffer/out"),
    );
    let daemon = Daemon::launch_in(folder, READER, |_| {});
    daemon.wait_for("started");
    let expected = std::fs::read_to_string(fixture().join("expected.ndjson")).unwrap();
    let path = daemon.path("out.log");
    let written = || std::fs::read_to_string(&path).unwrap_or_default();
    until("all of it is written", || written().len() >= expected.len());
    assert_eq!(written(), expected);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    let events = expected.lines().count() as u64;
    assert_eq!(ended.sink("out", "recovered"), events);
    assert_eq!(ended.sink("out", "delivered"), events);
}

#[test]
fn f_137_a_buffer_of_a_later_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state/buffer/out");
    copy(&fixture().join("out"), &place);
    let segments = std::fs::read_dir(&place).unwrap();
    let paths = segments.map(|file| file.unwrap().path());
    let mut segments = paths.filter(|path| path.extension().is_some_and(|it| it == "seg"));
    let segment = segments.next().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    for at in [0, 4096] {
        let header = &mut bytes[at..at + 64];
        header[8..10].copy_from_slice(&2_u16.to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&segment, &bytes).unwrap();
    let ended = Daemon::launch_in(folder, READER, |_| {}).wait();
    assert_eq!(ended.code(), 1, "waiting does not help");
    let failed = ended.log.iter().find(|it| it["event"] == "start_failed");
    let text = failed.unwrap().to_string();
    for part in [
        "format version 2",
        "version 1",
        "move the buffer's folder away",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        std::fs::read(&segment).unwrap(),
        bytes,
        "it was not touched"
    );
}

/// Makes `format_1`; to be run by hand, before the format changes, and never after.
#[test]
#[ignore = "writes into the sources"]
fn make_the_fixture_of_format_1() {
    let steps = "steps = [{ parse = \"json\" }]\n";
    let config = READER
        .replace("[sink.out]", &format!("{steps}[sink.out]"))
        .replace(
            "type = \"file\"\npath = \"{folder}/out.log\"\nencode = \"json\"",
            AWAY,
        );
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    for body in [
        "{\"n\": 1, \"text\": \"one\", \"list\": [1, 2.5, null, true, {\"deep\": \"yes\"}]}\n",
        "not json\n{\"text\": \"\\u00e9\\n\", \"n\": -7}\n{\"n\": 9007199254740993}\n",
        "{\"n\": 1, \"text\": \"one\"}\n\u{feff}odd bytes\r\n{\"empty\": \"\"}\n",
    ] {
        assert_eq!(client.exchange(address, body).unwrap(), 200);
    }
    let ended = daemon.stop();
    let made = ended.folder.path().join("state/buffer/out");
    copy(&made, &fixture().join("out"));
    std::fs::remove_file(fixture().join("out/LOCK")).unwrap();
    let daemon = Daemon::launch_in(ended.folder, READER, |_| {});
    let path = daemon.path("out.log");
    let start = std::time::Instant::now();
    while std::fs::read_to_string(&path)
        .unwrap_or_default()
        .lines()
        .count()
        < 7
    {
        assert!(start.elapsed() < PATIENCE);
    }
    std::fs::copy(path, fixture().join("expected.ndjson")).unwrap();
    daemon.stop();
}

/// A sink that never gets anything away.
const AWAY: &str = "type = \"socket\"\naddress = \"tcp://127.0.0.1:1\"\nencode = \"json\"";
