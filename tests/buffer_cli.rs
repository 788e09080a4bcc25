//! `marline buffer`: the real binary on folders that the disk log has filled.
//!
//! The buffers hold batches of the event codec, as a sink's buffer does; their owner, where one
//! is wanted, is this process. What only reads must leave the folder as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use marline::buffer::disk::{self, Durability, OpenError, Opened, Record, Settings};
use marline::buffer::storage::Storage;
use marline::buffer::storage_sys::SystemStorage;
use marline::event::codec::{self, NameCache};
use marline::event::{Batch, Event, Key, Origin, Slot, Span, into_fields};
use marline::time::WallTime;
use tempfile::TempDir;

use super::skips::skip;

const NOW: WallTime = WallTime::from_micros(1_795_459_319_123_456);

/// A state folder, with a configuration that has the sinks `out` and `other`.
struct World(TempDir);

struct Answer {
    out: String,
    err: String,
    code: Option<i32>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir_all(state.join("buffer")).unwrap();
        let config = format!(
            "[daemon]\nstate_dir = {state:?}\n\
             [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
             [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\", \"other\"]\n\
             [sink.out]\ntype = \"discard\"\n[sink.other]\ntype = \"discard\"\n"
        );
        fs::write(folder.path().join("marline.toml"), config).unwrap();
        World(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn buffer(&self, sink: &str) -> PathBuf {
        self.path("state/buffer").join(sink)
    }

    fn open(&self, sink: &str) -> Opened {
        let path = self.buffer(sink);
        let open = || {
            let directory = SystemStorage.root(&path, Some(0o700)).unwrap();
            let settings = Settings::new(1 << 30, Durability::Commit, *b"some sixteen byt");
            disk::open(directory, settings, NOW)
        };
        // A process that another test is starting at the moment holds our lock until its exec.
        for _ in 0..500 {
            match open() {
                Err(OpenError::InUse { .. }) => sleep(Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("{} stays in use", path.display());
    }

    /// Fills the buffer of `sink` with batches of `sizes` events, of which `acked` are delivered.
    fn fill(&self, sink: &str, sizes: &[u32], acked: u64) {
        let mut opened = self.open(sink);
        let mut first_seq = opened.writer.next_seq();
        for &count in sizes {
            let payload = payload(first_seq, count);
            let record = Record {
                first_seq,
                count,
                payload,
            };
            opened.writer.commit(&[record], NOW).unwrap();
            first_seq += u64::from(count);
        }
        opened.writer.close().unwrap();
        opened.keeper.close(acked, first_seq).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
        command
            .arg("buffer")
            .args(arguments)
            .current_dir(self.0.path());
        command.arg("--config").arg(self.path("marline.toml"));
        command
    }

    fn marline(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    /// The lines that `cat` prints of a buffer.
    fn lines(&self, sink: &str) -> Vec<String> {
        let answer = self.marline(&["cat", sink, "--encode", "raw"]);
        assert_eq!((answer.err.as_str(), answer.code), ("", Some(0)), "{sink}");
        answer.out.lines().map(str::to_owned).collect()
    }

    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("state")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
                }
            }
        }
        files
    }
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

fn line(seq: u64) -> String {
    format!("line {seq}")
}

/// A batch of lines, the event of number 3 not UTF-8 and that of number 4 with a field set.
fn payload(first_seq: u64, count: u32) -> Bytes {
    let origin = Origin {
        source: "in".into(),
        peer: "[::1]:514".into(),
    };
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for seq in first_seq..first_seq + u64::from(count) {
        let start = bytes.len();
        match seq {
            3 => bytes.extend_from_slice(b"line \xff"),
            seq => bytes.extend_from_slice(line(seq).as_bytes()),
        }
        events.push(Event::Raw(Span::new(start, bytes.len())));
        bytes.push(b'\n');
    }
    let mut batch = Batch::new(Arc::new(origin), NOW, Bytes::from(bytes));
    batch.events = events.into();
    if let Some(four) = 4u64
        .checked_sub(first_seq)
        .filter(|index| *index < count.into())
    {
        let fields = into_fields(&mut batch.events[four as usize]);
        fields.set(&batch.bytes, Key::named("n"), Slot::Integer(4));
        fields.parsed = true;
    }
    let mut payload = Vec::new();
    codec::encode(&batch, None, "main", &mut payload);
    Bytes::from(payload)
}

#[test]
fn list_shows_every_buffer_and_whose_sink_is_gone() {
    let world = World::new();
    let none = world.marline(&["list"]);
    assert_eq!((none.code, none.err.as_str()), (Some(0), ""));
    assert!(
        none.out.starts_with("no disk buffer is in "),
        "{}",
        none.out
    );
    world.fill("out", &[5, 5], 3);
    world.fill("gone", &[1], 0);
    let owner = world.open("gone");
    let listed = world.marline(&["list"]);
    drop(owner);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = listed
        .out
        .lines()
        .map(|row| {
            row.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let me = format!(
        "in use by process {}; its sink is not in the configuration",
        std::process::id()
    );
    assert_eq!(rows[1][..2], ["gone", "1"]);
    assert_eq!(rows[1].last(), Some(&&*me));
    assert_eq!(rows[2][..2], ["out", "7"]);
    assert_eq!(rows[2][3..], [&NOW.to_string(), "1", "0B", "-"]);
    let folder = world.path("state");
    let without = answer(
        Command::new(env!("CARGO_BIN_EXE_marline"))
            .args(["buffer", "list", "--state-dir"])
            .arg(folder),
    );
    assert!(!without.out.contains("configuration"), "{}", without.out);
}

#[test]
fn cat_prints_what_is_not_delivered_and_changes_nothing() {
    let world = World::new();
    world.fill("out", &[5, 5], 2);
    let before = world.snapshot();
    let json = world.marline(&["cat", "out"]);
    assert_eq!((json.err.as_str(), json.code), ("", Some(0)));
    let lines: Vec<&str> = json.out.lines().collect();
    assert_eq!(lines.len(), 8, "{}", json.out);
    assert!(
        lines[0].starts_with(r#"{"message":"line 2","timestamp":"#),
        "{}",
        lines[0]
    );
    assert_eq!(lines[2], r#"{"n":4}"#);
    let raw = world.marline(&["cat", "out", "--encode", "raw", "--limit", "6"]);
    assert_eq!(
        raw.out,
        "line 2\nline \u{FFFD}\nline 4\nline 5\nline 6\nline 7\n"
    );
    let nothing = world.marline(&["cat", "out", "--limit", "0"]);
    assert_eq!((nothing.out.as_str(), nothing.code), ("", Some(0)));
    let unknown = world.marline(&["cat", "ou"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.ends_with("  = help: there is out\n"),
        "{}",
        unknown.err
    );
    assert!(world.snapshot() == before, "reading has changed something");
}

#[test]
fn cat_ends_quietly_when_its_reader_goes() {
    let world = World::new();
    world.fill("out", &[50_000, 50_000, 50_000], 0);
    let mut command = world.command(&["cat", "out"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn beside_its_owner_a_buffer_is_read_as_far_as_it_is_durable() {
    let world = World::new();
    let mut opened = world.open("out");
    for first_seq in [0, 10] {
        let record = Record {
            first_seq,
            count: 10,
            payload: payload(first_seq, 10),
        };
        opened.writer.commit(&[record], NOW).unwrap();
    }
    let proven = world.lines("out");
    assert_eq!(proven.len(), 10, "the last group has no proof yet");
    opened.keeper.keep(1, 20).unwrap();
    assert_eq!(world.lines("out").len(), 19);
    assert_eq!(world.marline(&["check", "out"]).code, Some(0));
    let moved = world.marline(&["requeue", "out", "--to", "other"]);
    assert_eq!(moved.code, Some(75));
    assert!(moved.err.contains("stop marline first"), "{}", moved.err);
    opened.writer.close().unwrap();
}

#[test]
fn check_says_where_the_damage_is_and_what_it_costs() {
    let world = World::new();
    world.fill("out", &[5, 7, 5], 3);
    let clean = world.marline(&["check", "out"]);
    assert_eq!((clean.err.as_str(), clean.code), ("", Some(0)));
    assert_eq!(clean.out, "out: 14 events, nothing is wrong\n");
    let path = world.buffer("out").join("00000000000000000000.seg");
    let whole = fs::read(&path).unwrap();
    let find = |text: &str| memchr::memmem::find(&whole, text.as_bytes()).unwrap();
    let damage = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        world.marline(&["check", "out"])
    };
    let second = damage(find("line 7"));
    assert_eq!(second.code, Some(1));
    let place = format!("{}:", path.display());
    assert!(
        second.out.lines().next().unwrap().starts_with(&place),
        "{}",
        second.out
    );
    assert!(
        second
            .out
            .contains("events 5 to 12 are missing, 7 in all: lost\n"),
        "{}",
        second.out
    );
    assert!(
        second
            .out
            .ends_with("14 events, of which 7 are lost; 2 findings\n"),
        "{}",
        second.out
    );
    let first = damage(find("line 1"));
    assert!(first.out.contains("of which 2 are lost"), "{}", first.out);
    assert_eq!(world.marline(&["cat", "out"]).code, Some(1));
}

#[test]
fn export_keeps_everything_an_event_has() {
    let world = World::new();
    world.fill("out", &[5, 5], 2);
    let file = world.path("events.ndjson");
    let arguments = ["export", "out", "--to", file.to_str().unwrap()];
    let done = world.marline(&arguments);
    assert_eq!((done.err.as_str(), done.code), ("", Some(0)));
    assert_eq!(
        done.out,
        format!("exported 8 events to {}\n", file.display())
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 8);
    for (line, seq) in lines.iter().zip(2..) {
        assert_eq!(line["seq"], seq);
        assert_eq!(
            (&line["%source"], &line["pipeline"]),
            (&"in".into(), &"main".into())
        );
        assert_eq!(line["%peer"], "[::1]:514");
        assert_eq!(line["%received"], NOW.to_string());
    }
    assert_eq!(lines[0]["event"]["message"], "line 2");
    assert_eq!(lines[0].get("raw"), None);
    assert_eq!(lines[1]["raw_base64"], "bGluZSD/");
    assert_eq!(
        (&lines[2]["event"]["n"], &lines[2]["raw"]),
        (&4.into(), &"line 4".into())
    );
    let again = world.marline(&arguments);
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("it exists already"), "{}", again.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn requeue_moves_a_backlog_to_the_end_of_another() {
    let world = World::new();
    world.fill("gone", &[5, 5, 1], 7);
    world.fill("out", &[2], 0);
    let check = |arguments: &[&str], code: i32, text: &str| {
        let done = world.marline(arguments);
        assert_eq!(done.code, Some(code), "{}{}", done.out, done.err);
        assert!(
            done.err.contains(text) || done.out.contains(text),
            "{}{}",
            done.out,
            done.err
        );
    };
    check(&["requeue", "gone", "--to", "uot"], 2, "has no sink `uot`");
    check(
        &["requeue", "gone", "--to", "gone"],
        2,
        "cannot be moved to itself",
    );
    check(&["requeue", "gnoe", "--to", "out"], 2, "there is gone, out");
    check(
        &["requeue", "gone", "--to", "out"],
        0,
        "moved 4 events from `gone` to `out`",
    );
    let expected = [0, 1, 7, 8, 9, 10].map(line);
    assert_eq!(world.lines("out"), expected);
    assert!(world.lines("gone").is_empty());
    check(&["requeue", "gone", "--to", "out"], 0, "moved 0 events");
    assert_eq!(world.lines("out"), expected);
    // A sink that has no buffer yet gets one; without a configuration a name may be a mistake.
    let folder = world.path("state");
    let blind = |to: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
        command.args(["buffer", "requeue", "out", "--to", to, "--state-dir"]);
        answer(command.arg(&folder))
    };
    assert_eq!(blind("other").code, Some(2));
    assert_eq!(blind("gone").code, Some(0));
    check(&["requeue", "gone", "--to", "other"], 0, "moved 6 events");
    assert_eq!(world.lines("other"), expected);
    check(&["check", "other"], 0, "nothing is wrong");
    check(&["check", "gone"], 0, "0 events, nothing is wrong");
}

/// A buffer whose owner was killed, of which a part finds room in the other: the rest may have
/// been delivered as before, and the next start must not say that nothing comes twice.
#[test]
fn requeue_that_ends_midway_leaves_known_what_may_come_twice() {
    let world = World::new();
    let path = world.path("marline.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{config}buffer.disk = \"8MiB\"\n")).unwrap();
    let mut opened = world.open("gone");
    for index in 0..40 {
        let first_seq = u64::from(index * EVENTS);
        let record = Record {
            first_seq,
            count: EVENTS,
            payload: payload(first_seq, EVENTS),
        };
        opened.writer.commit(&[record], NOW).unwrap();
    }
    drop(opened);
    let moved = world.marline(&["requeue", "gone", "--to", "other"]);
    assert!(moved.err.contains("no more room"), "{}", moved.err);
    let left = world.open("gone").recovered;
    assert!(left.first_seq > 0 && left.events > 0, "{left:?}");
    assert_eq!(left.may_repeat, left.events);
}

/// The calls by which anything changes, as strace knows them. It counts each by itself.
const CALLS: &[&str] = &[
    "pwrite64",
    "fdatasync",
    "fsync",
    "renameat",
    "unlinkat",
    "fallocate",
    "ftruncate",
];

/// The most calls of a kind that the move below may take; it is three groups.
const CALLS_MAX: u32 = 50;

/// Events of a record there, a quarter of a MiB; four records are a group.
const EVENTS: u32 = 20_000;
const RECORDS: u32 = 10;

fn tracer(inject: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=desc,file", "-e", inject]);
    command
}

#[test]
fn requeue_that_is_killed_at_any_call_loses_nothing_and_doubles_at_most_a_group() {
    const NAME: &str =
        "requeue_that_is_killed_at_any_call_loses_nothing_and_doubles_at_most_a_group";
    let probe = tracer("inject=fsync:delay_enter=1").arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip(NAME, "strace cannot trace here");
    }
    let mut doubles = Vec::new();
    for call in CALLS {
        let mut number = 1;
        while let Some(doubled) = moved_in_spite_of(call, number) {
            doubles.push(doubled);
            number += 1;
            assert!(number <= CALLS_MAX, "still killed at {call} {number}");
        }
    }
    let most = doubles.iter().max();
    assert!(doubles.len() >= 20, "only {} kills", doubles.len());
    assert_eq!(
        most,
        Some(&(4 * u64::from(EVENTS))),
        "no kill was between the two buffers"
    );
}

/// Kills a move at the `number`-th `call` and does it again; how many events are doubled. `None`
/// where it was not killed, having no such call.
fn moved_in_spite_of(call: &str, number: u32) -> Option<u64> {
    let world = World::new();
    world.fill("gone", &[EVENTS; RECORDS as usize], 0);
    let traced = world.command(&["requeue", "gone", "--to", "out"]);
    let mut command = tracer(&format!("inject={call}:signal=KILL:when={number}"));
    command.arg(traced.get_program()).args(traced.get_args());
    let is_done = command
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .status
        .success();
    if !is_done {
        let rest = world.marline(&["requeue", "gone", "--to", "out"]);
        assert_eq!(rest.code, Some(0), "{call} {number}: {}", rest.err);
    }
    assert!(world.lines("gone").is_empty(), "{call} {number}");
    let doubled = doubled(&world.lines("out"), u64::from(EVENTS * RECORDS));
    assert!(
        doubled <= 4 * u64::from(EVENTS),
        "{call} {number}: {doubled} doubled"
    );
    (!is_done).then_some(doubled)
}

/// How many of these lines came twice; panics where one of `total` did not come in its turn.
fn doubled(lines: &[String], total: u64) -> u64 {
    let (mut next, mut doubled) = (0, 0);
    for found in lines {
        let seq = match found.strip_prefix("line ").unwrap() {
            "\u{FFFD}" => 3,
            number => number.parse::<u64>().unwrap(),
        };
        assert!(seq <= next, "{next} is lost, {seq} came instead");
        doubled += next - seq;
        next = seq + 1;
    }
    assert_eq!(next, total);
    doubled
}

/// The batch of a part of a record is a batch of its own, with all that belongs to it.
#[test]
fn the_rest_of_a_batch_keeps_where_it_came_from() {
    let world = World::new();
    world.fill("gone", &[10], 4);
    let done = world.marline(&["requeue", "gone", "--to", "out"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let mut opened = world.open("out");
    let read = opened.reader.read(0, 6, 1 << 20).unwrap();
    let [record] = &read.records[..] else {
        panic!("{} records", read.records.len());
    };
    assert_eq!((record.first_seq, record.count), (0, 6));
    let decoded = codec::decode(record.payload.clone(), &mut NameCache::new()).unwrap();
    assert_eq!(&*decoded.pipeline, "main");
    assert_eq!(&*decoded.batch.origin.peer, "[::1]:514");
    assert_eq!(decoded.batch.received, NOW);
    assert!(Path::new(&world.buffer("out")).join("LOCK").exists());
}
