//! The simulated disk answers as the real one does, and its faults are what they say.
//!
//! One script of calls runs on both disks and writes down every answer, errors with their
//! numbers; the faults are made certain, one at a time.
#![allow(clippy::unwrap_used)]

use std::io::{self, IoSlice};
use std::path::Path;

use rustix::io::Errno;

use super::disk::FULL_ATTEMPTS_MAX;
use super::*;
use crate::buffer::storage::{Directory, File, Open, Refusal};
use crate::buffer::storage_sys::SystemStorage;
use crate::sim::faults::Fault;

const APPEND: Open = Open::Append(0o640);

/// What came of a call, without what differs between machines.
fn shown<T>(result: io::Result<T>, show: impl Fn(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(error) => match (Refusal::of(&error), error.raw_os_error()) {
            (Some(refusal), _) => format!("{refusal:?}"),
            (None, code) => format!("{code:?}"),
        },
    }
}

fn text_of(file: &dyn File) -> String {
    let mut buffer = [0; 100];
    let bytes = file.read_at(&mut buffer, 0).unwrap();
    String::from_utf8_lossy(&buffer[..bytes]).into_owned()
}

/// The same calls on any storage, and what they gave.
fn script(storage: &dyn Storage, root: &Path) -> Vec<String> {
    let mut seen = vec![shown(storage.root(&root.join("none"), None), |_| {
        "root".into()
    })];
    let root = storage.root(&root.join("a/b"), Some(0o750)).unwrap();
    seen.extend(opening(&*root));
    seen.extend(writing(&*root));
    seen.extend(naming(&*root));
    seen
}

fn done(result: io::Result<()>) -> String {
    shown(result, |()| "done".into())
}

fn count(result: io::Result<usize>) -> String {
    shown(result, |count| count.to_string())
}

fn opened(root: &dyn Directory, name: &str, how: Open) -> String {
    shown(root.open(name, how), |_| "open".into())
}

fn known(file: &dyn File) -> String {
    shown(file.metadata(), |it| {
        format!("{} bytes, {} names", it.bytes, it.links)
    })
}

fn opening(root: &dyn Directory) -> Vec<String> {
    let names = ["x", "../x", "/x", "none/x", ""];
    let mut seen: Vec<String> = names
        .map(|name| opened(root, name, Open::Read))
        .into_iter()
        .collect();
    seen.push(opened(root, "none/x", APPEND));
    seen.push(opened(root, "x", Open::Create(0o640)));
    seen.push(opened(root, "x", Open::Create(0o640)));
    seen
}

fn writing(root: &dyn Directory) -> Vec<String> {
    let file = root.open("x", APPEND).unwrap();
    let writer = root.open("x", Open::Write).unwrap();
    let slices = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    vec![
        count(file.append(&slices)),
        text_of(&*writer),
        count(writer.write_at(b"TWO!", 3)),
        done(writer.truncate(5)),
        text_of(&*writer),
        count(writer.read_at(&mut [0; 4], 9)),
        known(&*file),
        done(file.sync()),
    ]
}

fn naming(root: &dyn Directory) -> Vec<String> {
    let file = root.open("x", APPEND).unwrap();
    vec![
        done(root.rename("x", "y")),
        done(root.rename("x", "y")),
        shown(root.directory("p/q", Some(0o750)), |_| "made".into()),
        opened(root, "p/q/z", APPEND),
        opened(root, "p", APPEND),
        shown(root.directory("y", None), |_| "opened".into()),
        done(root.rename("y", "p/q/z")),
        known(&*file),
        shown(root.stat("p"), |it| format!("{:?}", it.kind)),
        done(root.unlink("p/q/z")),
        done(root.unlink("p/q/z")),
        known(&*file),
        count(file.append(&[IoSlice::new(b"unseen")])),
        shown(root.list(), |names| names.join(" ")),
        done(root.sync()),
    ]
}

#[test]
fn it_answers_as_the_real_file_system_does() {
    let guard = tempfile::tempdir().unwrap();
    let simulated = SimStorage::new(Random::new(1));
    simulated.lock().names.make_directories("/root").unwrap();
    let real = script(&SystemStorage, guard.path());
    assert_eq!(script(&simulated, Path::new("/root")), real);
}

fn append(plan: FaultPlan) -> (SimStorage, Arc<dyn File>) {
    let storage = SimStorage::new(Random::new(7));
    let root = storage.root(Path::new("/r"), Some(0o750)).unwrap();
    let file = root.open("x", APPEND).unwrap();
    storage.plan_faults(plan);
    (storage, file)
}

#[test]
fn a_full_disk_stays_full_for_some_attempts() {
    let (storage, file) = append(FaultPlan::quiet().with(Fault::DiskFull, 1000));
    let error = file.append(&[IoSlice::new(b"x")]).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
    storage.lock().plan = FaultPlan::quiet();
    let attempts = (0..FULL_ATTEMPTS_MAX).position(|_| file.append(&[IoSlice::new(b"y")]).is_ok());
    assert!(attempts.is_some(), "full for ever");
    assert_eq!(storage.files("/r")["x"], b"y");
    assert_eq!(storage.fault_counts().of(Fault::DiskFull), 1);
}

#[test]
fn a_part_is_taken_of_what_is_appended_and_it_is_there() {
    let (storage, file) = append(FaultPlan::quiet().with(Fault::PartialAppend, 1000));
    let taken = file.append(&[IoSlice::new(b"abc"), IoSlice::new(b"def")]);
    let taken = taken.unwrap();
    assert!((1..6).contains(&taken), "{taken}");
    assert_eq!(storage.files("/r")["x"], b"abcdef"[..taken]);
}

#[test]
fn an_error_of_the_device_changes_nothing() {
    let plan = FaultPlan::quiet().with(Fault::DiskFailed, 1000);
    let (storage, file) = append(plan.with(Fault::SyncFailed, 1000));
    let failed = [file.append(&[IoSlice::new(b"x")]).map(drop), file.sync()];
    for result in failed {
        assert_eq!(Errno::from_io_error(&result.unwrap_err()), Some(Errno::IO));
    }
    assert_eq!(storage.files("/r")["x"], b"");
    assert_eq!(storage.fault_counts().of(Fault::SyncFailed), 1);
}
