//! What the log does when the device fails, and the order of its calls, which is a promise.
//!
//! The device is the simulated one behind a script, which fails the calls it is told to and
//! writes down all that change something.

use rustix::io::Errno;

use super::script::Script;
use super::*;
use crate::sim::{Fault, FaultPlan};

fn scripted(disk: &SimStorage) -> (Script, Opened) {
    let script = Script::default();
    let folder = script.folder(folder(disk));
    let opened = open(folder, tiny(Durability::Commit), NOW).unwrap();
    script.take();
    (script, opened)
}

/// Every call that changes something, by the name the script has for it.
const CALLS: [&str; 8] = [
    "create",
    "allocate",
    "write",
    "sync",
    "rename",
    "sync folder",
    "truncate",
    "unlink",
];

#[test]
fn f_042_one_failure_anywhere_costs_nothing() {
    for call in CALLS {
        for errno in [Errno::IO, Errno::NOSPC] {
            for well in 0..12 {
                let disk = disk();
                let (script, mut opened) = scripted(&disk);
                script.fail(call, well, 1, errno);
                let place = format!("{call} {well} {errno}");
                let mut failed = 0;
                while opened.writer.next_seq() < 150 {
                    let next_seq = opened.writer.next_seq();
                    if let Err(error) = opened.writer.commit(&group(next_seq, 2), NOW) {
                        failed += 1;
                        assert!(!matches!(error, CommitError::Refused { .. }), "{error}");
                        assert_eq!(opened.writer.next_seq(), next_seq, "{place}");
                    }
                    let _ = opened.keeper.keep(next_seq / 2 / 3 * 3, next_seq);
                }
                assert!(failed <= 1, "{place}: {failed} failures of one");
                disk.crash();
                let mut opened = open_it(&disk);
                let recovered = &opened.recovered;
                assert_eq!(recovered.next_seq, 150, "{place}");
                assert!(recovered.first_seq <= 75, "{place}");
                let first_seq = recovered.first_seq;
                let (seqs, gaps) = drain(&mut opened, first_seq);
                assert_all(&seqs, first_seq..150);
                assert_eq!(gaps, [], "{place}");
            }
        }
    }
}

#[test]
fn f_043_while_every_sync_fails_nothing_is_acknowledged_and_nothing_grows() {
    let disk = disk();
    let (script, mut opened) = scripted(&disk);
    fill(&mut opened, 60);
    script.fail("sync", 0, usize::MAX, Errno::IO);
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let failed = opened.writer.commit(&group(60, 3), NOW).err().unwrap();
        assert!(matches!(failed, CommitError::Failed { .. }), "{failed}");
        assert!(opened.keeper.keep(30, 60).is_err());
        sizes.push(used(&disk));
    }
    assert!(sizes[1..].iter().all(|size| *size == sizes[1]), "{sizes:?}");
    assert_all(&drain(&mut opened, 0).0, 0..60);
    script.heal();
    let committed = opened.writer.commit(&group(60, 3), NOW).unwrap();
    assert!(committed.epoch > opened.recovered.epoch);
    assert_eq!(committed.begun.map(|begun| begun.base_seq), Some(60));
    assert_all(&drain(&mut opened, 0).0, 0..69);
    opened.keeper.keep(30, 69).unwrap();
    disk.crash();
    assert_eq!(open_it(&disk).recovered.first_seq, 30);
}

#[test]
fn f_044_a_sync_that_failed_is_never_asked_again() {
    for is_killed in [false, true] {
        let disk = disk();
        let (script, mut opened) = scripted(&disk);
        fill(&mut opened, 12);
        script.take();
        disk.plan_faults(FaultPlan::quiet().with(Fault::SyncFailed, 1000));
        assert!(opened.writer.commit(&group(12, 2), NOW).is_err());
        disk.plan_faults(FaultPlan::quiet());
        script.take();
        let mut end = 12;
        if !is_killed {
            fill(&mut opened, 30);
            let name = "00000000000000000000.seg";
            let calls = script.take();
            let touched = calls
                .iter()
                .any(|(call, file)| file == name && *call != "read");
            assert!(!touched, "{calls:?}");
            end = 30;
        }
        disk.kill();
        let mut opened = open_it(&disk);
        // What was not acknowledged may be there or not, but not half.
        let next_seq = opened.recovered.next_seq;
        assert!(next_seq >= end, "{next_seq}");
        disk.drop_cache();
        let (seqs, gaps) = drain(&mut opened, 0);
        assert_all(&seqs, 0..next_seq);
        assert_eq!(gaps, []);
    }
}

#[test]
fn without_room_the_same_place_is_tried_again() {
    let disk = disk();
    let script = Script::default();
    let folder = script.folder(folder(&disk));
    let mut opened = open(folder, tiny(Durability::Commit), NOW).unwrap();
    fill(&mut opened, 12);
    let epoch = opened.writer.commit(&group(12, 1), NOW).unwrap().epoch;
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        script.fail("write", 0, 1, errno);
        let next_seq = opened.writer.next_seq();
        let full = opened
            .writer
            .commit(&group(next_seq, 1), NOW)
            .err()
            .unwrap();
        assert!(matches!(full, CommitError::Full { .. }), "{full}");
        let committed = opened.writer.commit(&group(next_seq, 1), NOW).unwrap();
        assert_eq!((committed.epoch, committed.begun), (epoch, None));
        assert_eq!(committed.used_bytes, used(&disk));
        script.heal();
    }
    let end = opened.writer.next_seq();
    assert_all(&drain(&mut opened, 0).0, 0..end);
}

/// The part of `calls` from the last one that is `call` on.
fn names(calls: &[script::Call]) -> Vec<&str> {
    calls.iter().map(|(call, _)| *call).collect()
}

#[test]
fn the_order_of_calls_is_that_of_the_promise() {
    let disk = disk();
    let (script, mut opened) = scripted(&disk);
    fill(&mut opened, 6);
    let first = [
        "create",
        "allocate",
        "write",
        "sync",
        "rename",
        "sync folder",
    ];
    assert_eq!(names(&script.take()), first);
    fill(&mut opened, 12);
    assert_eq!(names(&script.take()), ["write", "sync"]);
    let mut rotated = 0;
    while rotated < 3 {
        let next_seq = opened.writer.next_seq();
        let committed = opened.writer.commit(&group(next_seq, 2), NOW).unwrap();
        let calls = script.take();
        if committed.begun.is_some() {
            rotated += 1;
            let expected = [&first[..], &["truncate"]].concat();
            assert_eq!(names(&calls), expected, "{calls:?}");
        }
    }
    let end = opened.writer.next_seq();
    opened.keeper.keep(end, end).unwrap();
    let calls = script.take();
    let cursor = ["create", "write", "sync", "rename", "sync folder"];
    let expected = [&cursor[..], &["unlink"; 3], &["sync folder"]].concat();
    assert_eq!(names(&calls), expected, "{calls:?}");
    fill(&mut opened, end + 6);
    script.take();
    opened.keeper.keep(end + 6, end + 6).unwrap();
    assert_eq!(names(&script.take()), ["write", "sync"]);
    opened.keeper.keep(end + 6, end + 6).unwrap();
    assert_eq!(script.take(), [], "nothing is new");
}

#[test]
fn a_read_that_fails_is_tried_again_and_a_dead_device_loses_nothing() {
    let disk = disk();
    let (script, mut opened) = scripted(&disk);
    fill(&mut opened, 60);
    script.fail("read", 0, 60, Errno::IO);
    let mut failed = 0;
    while opened.reader.read(0, 60, usize::MAX).is_err() {
        failed += 1;
        assert!(failed < 100);
    }
    assert!(failed > 7, "{failed}");
    let (seqs, gaps) = drain(&mut opened, 0);
    assert_all(&seqs, 0..60);
    assert_eq!(gaps, []);
}

#[test]
fn with_an_interval_only_what_is_told_to_is_synced() {
    let disk = disk();
    let script = Script::default();
    let settings = tiny(Durability::Interval(Duration::from_secs(1)));
    let mut opened = open(script.folder(folder(&disk)), settings, NOW).unwrap();
    fill(&mut opened, 30);
    let calls = script.take();
    assert!(
        !names(&calls).iter().any(|call| call.starts_with("sync")),
        "{calls:?}"
    );
    opened.writer.sync(NOW).unwrap();
    assert_eq!(names(&script.take()), ["sync", "sync folder"]);
    opened.writer.sync(NOW).unwrap();
    assert_eq!(script.take(), []);
    fill(&mut opened, 60);
    disk.kill();
    assert_eq!(
        open(folder(&disk), settings, NOW)
            .unwrap()
            .recovered
            .next_seq,
        60
    );
}

#[test]
fn with_os_nothing_is_synced_but_at_a_clean_end() {
    let disk = disk();
    let script = Script::default();
    let settings = tiny(Durability::Os);
    let mut opened = open(script.folder(folder(&disk)), settings, NOW).unwrap();
    fill(&mut opened, 300);
    opened.keeper.keep(150, 300).unwrap();
    let calls = script.take();
    assert!(
        !names(&calls).iter().any(|call| call.starts_with("sync")),
        "{calls:?}"
    );
    disk.kill();
    let mut opened = open(script.folder(folder(&disk)), settings, NOW).unwrap();
    assert_eq!(opened.recovered.next_seq, 300);
    assert_eq!(opened.recovered.first_seq, 150);
    assert_all(&drain(&mut opened, 150).0, 150..300);
}
