//! Appending, rotation and exactness of one sink's files, on real directories.
//!
//! [`Faulty`] stands between the sink and the real file system and makes chosen calls fail or
//! take only part of the bytes; everything else is real.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{IoSlice, Read};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use rustix::io::Errno;

use super::*;
use crate::buffer::storage::{Lock, Metadata};
use crate::buffer::storage_sys::SystemStorage;
use crate::buffer::watcher::Watcher;
use crate::sinks::file::rotate::Compression;

/// What an append does instead of appending everything.
#[derive(Clone, Copy)]
enum Fault {
    /// Takes so many bytes.
    Take(usize),
    /// Takes nothing and fails.
    Fail(Errno),
}

#[derive(Default)]
struct Plan {
    appends: VecDeque<Fault>,
    syncs: VecDeque<Errno>,
}

#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<Plan>>);

impl Faulty {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap()
    }
}

impl Storage for Faulty {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let inner = SystemStorage.root(path, make)?;
        Ok(Arc::new(FaultyDirectory(inner, self.clone())))
    }
    fn standard_output(&self) -> Arc<dyn File> {
        SystemStorage.standard_output()
    }
    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        SystemStorage.reader(path)
    }
    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        SystemStorage.watcher()
    }
}

struct FaultyDirectory(Arc<dyn Directory>, Faulty);

impl Directory for FaultyDirectory {
    fn open(&self, name: &str, open: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile(
            self.0.open(name, open)?,
            self.1.clone(),
        )))
    }
    fn directory(&self, name: &str, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        let inner = self.0.directory(name, make)?;
        Ok(Arc::new(FaultyDirectory(inner, self.1.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.unlink(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn stat(&self, name: &str) -> io::Result<Metadata> {
        self.0.stat(name)
    }
    fn target(&self, name: &str) -> io::Result<Metadata> {
        self.0.target(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn lock(&self, name: &str, note: &[u8]) -> io::Result<Box<dyn Lock>> {
        self.0.lock(name, note)
    }
}

struct FaultyFile(Arc<dyn File>, Faulty);

impl File for FaultyFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let fault = self.1.plan().appends.pop_front();
        match fault {
            None => self.0.append(slices),
            Some(Fault::Fail(errno)) => Err(errno.into()),
            Some(Fault::Take(bytes)) => {
                let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                self.0.append(&[IoSlice::new(&all[..all.len().min(bytes)])])
            }
        }
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn sync(&self) -> io::Result<()> {
        let fault = self.1.plan().syncs.pop_front();
        fault.map_or_else(|| self.0.sync(), |errno| Err(errno.into()))
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }
}

/// A sink's files in a directory of their own, and what is still to be written to one of them.
struct World {
    guard: tempfile::TempDir,
    faulty: Faulty,
    files: Files,
    now: WallTime,
    pending: Vec<u8>,
    torn: Option<Torn>,
}

const DAY: i64 = 86_400_000_000;

impl World {
    fn new(change: impl FnOnce(&mut Settings)) -> World {
        let guard = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            root: guard.path().join("root"),
            mode: 0o640,
            max_open: 4,
            rotation: Rotation {
                keep: 3,
                ..Rotation::default()
            },
            syncs: false,
        };
        change(&mut settings);
        let faulty = Faulty::default();
        let files = Files::new(Arc::new(faulty.clone()), Arc::new(settings)).unwrap();
        // Real files are dated by the machine, so the day must be a real one.
        let made = files.root.open("probe", Open::Append(0o600)).unwrap();
        let now = WallTime::from_micros(made.metadata().unwrap().modified_micros);
        files.root.unlink("probe").unwrap();
        World {
            guard,
            faulty,
            files,
            now,
            pending: Vec::new(),
            torn: None,
        }
    }

    /// Writes `text`, cut into slices of three bytes, behind what is pending of `x.log`.
    fn write(&mut self, text: &str) -> Written {
        self.pending.extend_from_slice(text.as_bytes());
        let chunks = self.pending.chunks(3).map(Bytes::copy_from_slice);
        let write = Write {
            name: "x.log".into(),
            slices: chunks.collect(),
            torn: self.torn,
        };
        let written = self.files.write(&write, self.now);
        self.pending.drain(..written.bytes);
        self.torn = written.torn;
        written
    }

    fn write_to(&mut self, name: &str, text: &str) -> Written {
        let slices = vec![Bytes::copy_from_slice(text.as_bytes())];
        let write = Write {
            name: name.into(),
            slices,
            torn: None,
        };
        self.files.write(&write, self.now)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guard.path().join("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| format!("{error}"))
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.files.root.list().unwrap();
        names.sort();
        names
    }
}

#[test]
fn lines_are_appended_in_directories_made_for_them() {
    let mut world = World::new(|_| ());
    assert!(world.write_to("a/b/x.log", "one\n").error.is_none());
    assert!(world.write_to("a/b/x.log", "two\n").error.is_none());
    assert_eq!(world.read("a/b/x.log"), "one\ntwo\n");
}

/// A write is cut at every byte and fails there, once and twice: nothing is lost or doubled.
#[test]
fn f_039_a_full_disk_at_every_byte_loses_and_doubles_nothing() {
    let (first, second) = ("first\nsecond line\nthird\n", "fourth\n");
    let all = first.len();
    for cut in 1..all - 1 {
        for again in 1..(all - cut).min(8) {
            let mut world = World::new(|_| ());
            world.write("before\n");
            world.faulty.plan().appends.extend([
                Fault::Take(cut),
                Fault::Fail(Errno::NOSPC),
                Fault::Take(again),
                Fault::Fail(Errno::NOSPC),
            ]);
            let failed = world.write(first);
            assert!(matches!(failed.error, Some(Trouble::Writing(_))));
            let whole = first[..cut].rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(failed.bytes, whole, "whole lines only, cut at {cut}");
            world.write("");
            let last = world.write(second);
            assert!(last.error.is_none() && world.pending.is_empty());
            let expected = format!("before\n{first}{second}");
            assert_eq!(world.read("x.log"), expected, "cut at {cut}, then {again}");
        }
    }
}

/// The file is moved away while a line is half written: the new file has the line whole.
#[test]
fn a_line_torn_by_an_error_is_whole_in_the_file_that_comes_next() {
    let mut world = World::new(|_| ());
    let faults = [Fault::Take(6), Fault::Fail(Errno::NOSPC)];
    world.faulty.plan().appends.extend(faults);
    world.write("one\ntwo\n");
    std::fs::rename(world.path("x.log"), world.path("moved")).unwrap();
    world.files.reopen().unwrap();
    assert!(world.write("three\n").error.is_none());
    assert_eq!(world.read("moved"), "one\ntw");
    assert_eq!(world.read("x.log"), "two\nthree\n");
}

/// Like that, but the same file was truncated: its piece is gone with the rest.
#[test]
fn a_line_torn_by_an_error_is_whole_after_a_truncation() {
    let mut world = World::new(|_| ());
    let faults = [Fault::Take(6), Fault::Fail(Errno::IO)];
    world.faulty.plan().appends.extend(faults);
    world.write("one\ntwo\n");
    std::fs::write(world.path("x.log"), "").unwrap();
    world.write("");
    assert_eq!(world.read("x.log"), "two\n");
}

/// A run that was killed in the middle of a line: the next run does not add to that line.
#[test]
fn a_line_torn_by_a_kill_is_ended_first() {
    let mut world = World::new(|_| ());
    std::fs::write(world.path("x.log"), "one\ntw").unwrap();
    world.write("three\n");
    world.write("four\n");
    assert_eq!(world.read("x.log"), "one\ntw\nthree\nfour\n");
}

#[test]
fn f_111_a_truncated_file_has_no_hole() {
    let mut world = World::new(|_| ());
    world.write("before\n");
    std::fs::write(world.path("x.log"), "").unwrap();
    world.write("after\n");
    assert_eq!(world.read("x.log"), "after\n");
}

#[test]
fn a_file_that_was_deleted_is_made_anew() {
    let mut world = World::new(|_| ());
    world.write("lost with the file\n");
    std::fs::remove_file(world.path("x.log")).unwrap();
    world.write("kept\n");
    assert_eq!(world.read("x.log"), "kept\n");
}

#[test]
fn a_moved_file_is_written_to_until_it_is_reopened() {
    let mut world = World::new(|_| ());
    world.write("one\n");
    std::fs::rename(world.path("x.log"), world.path("x.old")).unwrap();
    world.write("two\n");
    world.files.reopen().unwrap();
    world.write("three\n");
    assert_eq!(world.read("x.old"), "one\ntwo\n");
    assert_eq!(world.read("x.log"), "three\n");
}

#[test]
fn files_are_rotated_by_size_between_lines() {
    let mut world = World::new(|settings| settings.rotation.bytes = Some(10));
    let written = world.write("aaaa\nbbbb\ncccc\n0123456789abc\ndd\nee\nff\n");
    assert!(written.rotated && written.error.is_none());
    assert_eq!(world.read("x.log"), "dd\nee\nff\n");
    assert_eq!(world.read("x.log.1"), "0123456789abc\n");
    assert_eq!(world.read("x.log.2"), "cccc\n");
    assert_eq!(world.read("x.log.3"), "aaaa\nbbbb\n");
    world.write("gggg\n");
    assert_eq!(world.names(), ["x.log", "x.log.1", "x.log.2", "x.log.3"]);
    assert_eq!(world.read("x.log.1"), "dd\nee\nff\n");
}

#[test]
fn no_line_is_lost_over_many_rotations_and_faults() {
    let mut world = World::new(|settings| {
        settings.rotation.bytes = Some(40);
        settings.rotation.keep = 1000;
    });
    let mut expected = String::new();
    for number in 0..300 {
        let line = format!("line {number} {}\n", "x".repeat(number % 23));
        if number % 7 == 0 {
            let faults = [Fault::Take(1 + number % 11), Fault::Fail(Errno::NOSPC)];
            world.faulty.plan().appends.extend(faults);
        }
        world.write(&line);
        expected.push_str(&line);
    }
    world.faulty.plan().appends.clear();
    world.write("");
    assert!(world.pending.is_empty());
    let count = world.names().len();
    assert!(count > 100, "{count} files");
    let old = (1..count)
        .rev()
        .map(|number| world.read(&format!("x.log.{number}")));
    let all: String = old.chain([world.read("x.log")]).collect();
    assert_eq!(all, expected);
}

#[test]
fn files_are_rotated_with_the_first_line_of_a_day() {
    let mut world = World::new(|settings| settings.rotation.period_micros = Some(DAY));
    world.write("today\n");
    world.write("today too\n");
    assert_eq!(world.names(), ["x.log"]);
    world.now = WallTime::from_micros(world.now.as_micros() + DAY);
    world.write("tomorrow\n");
    world.write("tomorrow too\n");
    assert_eq!(world.read("x.log.1"), "today\ntoday too\n");
    assert_eq!(world.read("x.log"), "tomorrow\ntomorrow too\n");
    // The clock was set back: nothing is rotated for that.
    world.now = WallTime::from_micros(world.now.as_micros() - 2 * DAY);
    world.write("yesterday\n");
    assert_eq!(world.names(), ["x.log", "x.log.1"]);
}

/// After a restart the day of a file is that of its last change.
#[test]
fn a_file_of_an_earlier_day_is_rotated_after_a_restart() {
    let mut world = World::new(|settings| settings.rotation.period_micros = Some(DAY));
    world.write("today\n");
    world.files.reopen().unwrap();
    world.now = WallTime::from_micros(world.now.as_micros() + DAY);
    world.write("tomorrow\n");
    assert_eq!(
        (world.read("x.log.1"), world.read("x.log")),
        ("today\n".into(), "tomorrow\n".into())
    );
}

#[test]
fn a_rotation_that_fails_does_not_stop_the_writing() {
    let mut world = World::new(|settings| settings.rotation.bytes = Some(10));
    std::fs::create_dir(world.path("x.log.1")).unwrap();
    std::fs::create_dir(world.path("x.log.2")).unwrap();
    std::fs::create_dir(world.path("x.log.3")).unwrap();
    world.write("aaaa\n");
    let written = world.write("bbbbbbbb\ncccc\n");
    assert!(written.error.is_none() && written.rotation_error.is_some());
    assert_eq!(world.read("x.log"), "aaaa\nbbbbbbbb\ncccc\n");
}

#[test]
fn no_more_files_are_open_than_allowed() {
    let mut world = World::new(|settings| settings.max_open = 4);
    for round in 0..3 {
        for number in 0..50 {
            world.write_to(&format!("{number}.log"), &format!("round {round}\n"));
            assert!(world.files.open.len() <= 4);
        }
    }
    for number in 0..50 {
        assert_eq!(
            world.read(&format!("{number}.log")),
            "round 0\nround 1\nround 2\n"
        );
    }
    // Those used last are open.
    let mut open: Vec<_> = world.files.open.keys().map(|name| &**name).collect();
    open.sort();
    assert_eq!(open, ["46.log", "47.log", "48.log", "49.log"]);
}

#[test]
fn a_failed_sync_takes_the_bytes_back_and_they_are_written_anew() {
    let mut world = World::new(|settings| settings.syncs = true);
    world.write("one\n");
    world.faulty.plan().syncs.push_back(Errno::IO);
    let written = world.write("two\nthree\n");
    assert_eq!(written.bytes, 0);
    assert!(matches!(written.error, Some(Trouble::Writing(_))));
    assert_eq!(world.read("x.log"), "one\n");
    assert!(world.write("").error.is_none());
    assert_eq!(world.read("x.log"), "one\ntwo\nthree\n");
}

/// The same with a piece of a line before it, at every byte.
#[test]
fn a_failed_sync_after_a_torn_line_is_exact_too() {
    for cut in 1..10 {
        let mut world = World::new(|settings| settings.syncs = true);
        let faults = [Fault::Take(cut), Fault::Fail(Errno::NOSPC)];
        world.faulty.plan().appends.extend(faults);
        world.write("one\ntwo\nthree\n");
        world.faulty.plan().syncs.extend([Errno::IO, Errno::IO]);
        assert!(world.write("").error.is_some());
        assert!(world.write("four\n").error.is_some());
        assert!(world.write("").error.is_none());
        assert_eq!(
            world.read("x.log"),
            "one\ntwo\nthree\nfour\n",
            "cut at {cut}"
        );
    }
}

/// Compresses everything that waits for it, as the lane does.
fn compress_all(world: &World) -> usize {
    let mut count = 0;
    while let Some(compressing) = world.files.begin_compression(&"x.log".into()).unwrap() {
        let result = compressing.run(&AtomicBool::new(false));
        world
            .files
            .finish_compression(&compressing, result.is_ok())
            .unwrap();
        count += 1;
    }
    count
}

fn gunzip(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn old_files_are_compressed_and_move_up_as_such() {
    let mut world = World::new(|settings| {
        settings.rotation.bytes = Some(4);
        settings.rotation.compression = Some(Compression::Gzip);
    });
    world.write("aaa\nbbb\nccc\n");
    assert_eq!(compress_all(&world), 2);
    assert_eq!(world.names(), ["x.log", "x.log.1.gz", "x.log.2.gz"]);
    world.write("ddd\n");
    assert_eq!(compress_all(&world), 1);
    assert_eq!(
        world.names(),
        ["x.log", "x.log.1.gz", "x.log.2.gz", "x.log.3.gz"]
    );
    assert_eq!(gunzip(&world.path("x.log.1.gz")), "ccc\n");
    assert_eq!(gunzip(&world.path("x.log.3.gz")), "aaa\n");
}

#[test]
fn zstd_files_hold_what_was_written() {
    let mut world = World::new(|settings| {
        settings.rotation.bytes = Some(200_000);
        settings.rotation.compression = Some(Compression::Zstd);
    });
    let text: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    world.write(&text);
    assert_eq!(compress_all(&world), 0, "one file of less than the size");
    world.write(&text);
    assert_eq!(compress_all(&world), 1);
    let file = std::fs::File::open(world.path("x.log.1.zst")).unwrap();
    let old = zstd::stream::decode_all(file).unwrap();
    let all = [old, std::fs::read(world.path("x.log")).unwrap()].concat();
    assert_eq!(all, [text.as_bytes(), text.as_bytes()].concat());
}

/// The old file moves to another number, or is removed, while it is being compressed.
#[test]
fn a_file_that_moves_on_while_it_is_compressed_is_found_again() {
    let mut world = World::new(|settings| {
        settings.rotation.bytes = Some(4);
        settings.rotation.compression = Some(Compression::Gzip);
    });
    world.write("aaa\nbbb\n");
    let compressing = world
        .files
        .begin_compression(&"x.log".into())
        .unwrap()
        .unwrap();
    world.write("ccc\n");
    compressing.run(&AtomicBool::new(false)).unwrap();
    world.files.finish_compression(&compressing, true).unwrap();
    assert_eq!(world.names(), ["x.log", "x.log.1", "x.log.2.gz"]);
    assert_eq!(gunzip(&world.path("x.log.2.gz")), "aaa\n");

    let compressing = world
        .files
        .begin_compression(&"x.log".into())
        .unwrap()
        .unwrap();
    world.write("ddd\neee\nfff\nggg\n");
    compressing.run(&AtomicBool::new(false)).unwrap();
    world.files.finish_compression(&compressing, true).unwrap();
    assert_eq!(world.names(), ["x.log", "x.log.1", "x.log.2", "x.log.3"]);
}

#[test]
fn a_compression_that_was_cut_off_leaves_the_plain_file() {
    let mut world = World::new(|settings| {
        settings.rotation.bytes = Some(4);
        settings.rotation.compression = Some(Compression::Gzip);
    });
    world.write("aaa\nbbb\n");
    let compressing = world
        .files
        .begin_compression(&"x.log".into())
        .unwrap()
        .unwrap();
    let result = compressing.run(&AtomicBool::new(true));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Interrupted);
    world.files.finish_compression(&compressing, false).unwrap();
    assert_eq!(world.names(), ["x.log", "x.log.1"]);
    // A kill leaves the unfinished file, too: it does not stand in the way.
    std::fs::write(world.path("x.log.tmp"), "half").unwrap();
    assert_eq!(compress_all(&world), 1);
    assert_eq!(world.names(), ["x.log", "x.log.1.gz"]);
}
