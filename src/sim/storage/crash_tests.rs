//! What a loss of power, a kill and a failed sync leave on the simulated disk.
//!
//! The rows are what a real ext4 was seen to do; each has to be among what the seeds make of the
//! same calls, and what was promised must be in all of it. `Seen` counts how often each came.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::content::SECTOR_BYTES;
use super::*;
use crate::buffer::storage::{Directory, File, Open};
use crate::sim::faults::Fault;

const CREATE: Open = Open::Create(0o600);

/// Enough for what has a chance of one in a hundred.
const SEEDS: u64 = 1000;

type Files = BTreeMap<String, Vec<u8>>;
/// The outcomes, and how often each came.
type Seen = BTreeMap<Files, u32>;

fn world(seed: u64) -> (SimStorage, Arc<dyn Directory>) {
    let storage = SimStorage::new(Random::new(seed));
    let root = storage.root(Path::new("/r"), Some(0o700)).unwrap();
    (storage, root)
}

/// What crashes leave of `script`.
fn crashes(script: impl Fn(&dyn Directory)) -> Seen {
    let mut seen = Seen::new();
    for seed in 0..SEEDS {
        let (storage, root) = world(seed);
        script(&*root);
        storage.crash();
        *seen.entry(storage.files("/r")).or_default() += 1;
    }
    seen
}

fn write(file: &dyn File, bytes: &[u8], offset: u64) {
    assert_eq!(file.write_at(bytes, offset).unwrap(), bytes.len());
}

fn make(root: &dyn Directory, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = root.open(name, CREATE).unwrap();
    write(&*file, bytes, 0);
    file
}

/// A file that is there for good.
fn settled(root: &dyn Directory, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = make(root, name, bytes);
    file.sync().unwrap();
    root.sync().unwrap();
    file
}

fn files<const N: usize>(all: [(&str, &[u8]); N]) -> Files {
    let all = all.into_iter();
    all.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect()
}

/// Each of `wanted` was seen, and often enough that it is no accident.
fn each<const N: usize>(seen: &Seen, wanted: [Files; N]) {
    for files in wanted {
        let times = seen.get(&files).copied().unwrap_or(0);
        assert!(times > 5, "{times} times: {files:?}");
    }
}

/// Nothing but `wanted` was seen, each of it.
fn exactly<const N: usize>(seen: &Seen, wanted: [Files; N]) {
    assert_eq!(seen.len(), wanted.len(), "{seen:?}");
    each(seen, wanted);
}

#[test]
fn row_1_a_synced_file_without_its_directory_is_there_or_not() {
    let seen = crashes(|root| make(root, "x", b"new").sync().unwrap());
    exactly(&seen, [files([]), files([("x", b"new")])]);
}

#[test]
fn row_2_a_file_whose_directory_alone_was_synced_may_be_empty_but_is_there() {
    let seen = crashes(|root| {
        make(root, "x", b"new");
        root.sync().unwrap();
    });
    let wanted: [&[u8]; 4] = [b"", b"new", b"\0\0\0", b"ne"];
    each(&seen, wanted.map(|bytes| files([("x", bytes)])));
    assert!(seen.keys().all(|files| files.contains_key("x")));
}

#[test]
fn row_3_a_rename_without_its_directory_is_undone_or_not() {
    let seen = crashes(|root| {
        settled(root, "x", b"it");
        root.rename("x", "y").unwrap();
    });
    exactly(&seen, [files([("x", b"it")]), files([("y", b"it")])]);
}

#[test]
fn row_4_a_file_that_was_unlinked_comes_back_or_not() {
    let seen = crashes(|root| {
        settled(root, "x", b"it");
        root.unlink("x").unwrap();
    });
    exactly(&seen, [files([]), files([("x", b"it")])]);
    let seen = crashes(|root| {
        settled(root, "x", b"it");
        root.unlink("x").unwrap();
        root.sync().unwrap();
    });
    exactly(&seen, [files([])]);
}

#[test]
fn row_5_a_tail_that_was_cut_off_comes_back_or_not() {
    let long = [b'a'; 1300];
    let cut = |root: &dyn Directory| {
        let file = settled(root, "x", &long);
        file.truncate(700).unwrap();
        file
    };
    let seen = crashes(|root| drop(cut(root)));
    let lengths = [&long[..], &long[..700]];
    each(&seen, lengths.map(|bytes| files([("x", bytes)])));
    assert!(seen.keys().all(|it| it["x"][..700] == long[..700]));
    let seen = crashes(|root| cut(root).sync().unwrap());
    exactly(&seen, [files([("x", &long[..700])])]);
}

#[test]
fn a_tail_that_was_cut_off_and_overwritten_may_come_back_in_between() {
    let seen = crashes(|root| {
        let file = settled(root, "x", &[b'a'; 1024]);
        file.truncate(0).unwrap();
        write(&*file, &[b'b'; 512], 0);
        write(&*file, &[b'b'; 512], 512);
    });
    let mixed = [[b'b'; 512], [b'a'; 512]].concat();
    each(&seen, [files([("x", &mixed)])]);
}

#[test]
fn row_6_a_file_that_was_renamed_unsynced_over_another_leaves_the_old_or_any_of_the_new() {
    let seen = crashes(|root| {
        settled(root, "x", b"old");
        make(root, "tmp", b"new");
        root.rename("tmp", "x").unwrap();
    });
    let wanted = [
        files([("x", b"old")]),
        files([("x", b"new")]),
        files([("x", b"")]),
        files([("x", b"old"), ("tmp", b"")]),
    ];
    each(&seen, wanted);
}

#[test]
fn row_7_a_synced_file_that_was_renamed_over_another_may_lie_there_unrenamed() {
    let replace = |root: &dyn Directory| {
        settled(root, "x", b"old");
        make(root, "tmp", b"new").sync().unwrap();
        root.rename("tmp", "x").unwrap();
    };
    let wanted = || {
        [
            files([("x", b"old"), ("tmp", b"new")]),
            files([("x", b"old")]),
            files([("x", b"new")]),
        ]
    };
    exactly(&crashes(replace), wanted());
    let seen = crashes(|root| {
        replace(root);
        root.sync().unwrap();
    });
    exactly(&seen, [files([("x", b"new")])]);
}

#[test]
fn row_8_what_was_written_over_unsynced_is_old_new_or_damaged_sector_by_sector() {
    let seen = crashes(|root| {
        let file = settled(root, "x", &[b'a'; 2 * SECTOR_BYTES]);
        write(&*file, &[b'b'; 2 * SECTOR_BYTES], 0);
    });
    let mut kinds = BTreeMap::<_, u32>::new();
    for (files, times) in &seen {
        let kind = |sector: &[u8]| match sector[0] {
            byte if sector.iter().any(|other| *other != byte) => "garbage",
            b'a' => "old",
            b'b' => "new",
            0 => "zero",
            _ => "odd",
        };
        let (first, second) = files["x"].split_at(SECTOR_BYTES);
        *kinds.entry((kind(first), kind(second))).or_default() += times;
    }
    assert_eq!(kinds.len(), 16, "{kinds:?}");
}

#[test]
fn row_9_an_append_that_was_read_may_be_gone_and_what_was_before_never_is() {
    let seen = crashes(|root| {
        let file = settled(root, "x", &[b'a'; 100]);
        file.append(&[IoSlice::new(&[b'b'; 100])]).unwrap();
        let mut buffer = [0; 300];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 200);
    });
    let whole = [[b'a'; 100], [b'b'; 100]].concat();
    let lengths = [&whole[..100], &whole[..]];
    each(&seen, lengths.map(|bytes| files([("x", bytes)])));
    assert!(seen.keys().all(|it| it["x"][..100] == [b'a'; 100]));
    let lengths: Vec<usize> = seen.keys().map(|files| files["x"].len()).collect();
    assert!(lengths.iter().any(|it| (101..200).contains(it)));
}

#[test]
fn row_10_what_was_reserved_and_synced_keeps_its_size_and_may_lose_its_data() {
    let seen = crashes(|root| {
        let file = root.open("x", CREATE).unwrap();
        file.allocate(600).unwrap();
        file.sync().unwrap();
        root.sync().unwrap();
        write(&*file, &[b'a'; 600], 0);
    });
    each(&seen, [[0; 600], [b'a'; 600]].map(|it| files([("x", &it)])));
    assert!(seen.keys().all(|files| files["x"].len() == 600));
}

#[test]
fn row_11_what_was_synced_is_kept_whatever_is_written_behind_it() {
    let seen = crashes(|root| {
        let file = settled(root, "x", &[0; 512]);
        write(&*file, b"QQQQ", 0);
        file.sync().unwrap();
        write(&*file, b"RRRR", 4);
    });
    let start = |files: &Files| files["x"][..8].to_vec();
    assert!(seen.keys().all(|files| start(files)[..4] == *b"QQQQ"));
    assert!(seen.keys().any(|files| start(files) == *b"QQQQ\0\0\0\0"));
    assert!(seen.keys().any(|files| start(files) == *b"QQQQRRRR"));
}

#[test]
fn rows_12_and_13_a_full_disk_syncs_what_it_has_and_takes_what_was_reserved() {
    let (storage, root) = world(1);
    let file = settled(&*root, "x", b"it");
    file.allocate(100).unwrap();
    storage.plan_faults(FaultPlan::quiet().with(Fault::DiskFull, 1000));
    let full = file.write_at(&[1; 99], 2).unwrap_err();
    assert_eq!(Errno::from_io_error(&full), Some(Errno::NOSPC));
    assert_eq!(root.free_bytes().unwrap(), 0);
    write(&*file, &[1; 98], 2);
    file.sync().unwrap();
    storage.crash();
    assert_eq!(storage.files("/r")["x"][2..], [1; 98]);
}

#[test]
fn a_directory_that_was_not_synced_into_its_parent_may_be_gone_with_all_in_it() {
    let fill = |root: &dyn Directory| {
        let inner = root.directory("d", Some(0o700)).unwrap();
        settled(&*inner, "x", b"it");
    };
    exactly(&crashes(fill), [files([]), files([("d/x", b"it")])]);
    let seen = crashes(|root| {
        fill(root);
        root.sync().unwrap();
    });
    exactly(&seen, [files([("d/x", b"it")])]);
}

#[test]
fn a_rename_to_another_directory_is_never_seen_half() {
    let seen = crashes(|root| {
        let inner = root.directory("d", Some(0o700)).unwrap();
        settled(root, "x", b"it");
        root.rename("x", "d/y").unwrap();
        root.unlink("d/y").unwrap();
        drop(inner);
    });
    let wanted = [files([("x", b"it")]), files([("d/y", b"it")]), files([])];
    exactly(&seen, wanted);
}

#[test]
fn a_name_is_not_taken_before_it_was_left() {
    let seen = crashes(|root| {
        settled(root, "x", b"one");
        settled(root, "x.1", b"two");
        root.rename("x.1", "x.2").unwrap();
        root.rename("x", "x.1").unwrap();
    });
    let wanted = [
        files([("x", b"one"), ("x.1", b"two")]),
        files([("x", b"one"), ("x.2", b"two")]),
        files([("x.1", b"one"), ("x.2", b"two")]),
    ];
    exactly(&seen, wanted);
}

#[test]
fn after_a_crash_nothing_is_pending_and_what_there_is_stays() {
    for seed in 0..100 {
        let (storage, root) = world(seed);
        settled(&*root, "x", &[b'a'; 3000]);
        write(&*root.open("x", Open::Write).unwrap(), &[b'b'; 3000], 100);
        make(&*root, "y", b"y");
        storage.crash();
        let left = storage.files("/r");
        storage.crash();
        assert_eq!(storage.files("/r"), left, "seed {seed}");
    }
}

#[test]
fn a_kill_loses_nothing_and_leaves_what_was_not_synced_to_the_next_crash() {
    let (storage, root) = world(3);
    make(&*root, "x", b"it");
    storage.kill();
    assert_eq!(storage.files("/r"), files([("x", b"it")]));
    let mut seen = Seen::new();
    for seed in 0..100 {
        let (storage, root) = world(seed);
        make(&*root, "x", b"it");
        storage.kill();
        storage.crash();
        *seen.entry(storage.files("/r")).or_default() += 1;
    }
    each(&seen, [files([])]);
}

#[test]
fn handles_and_locks_end_with_the_life() {
    for end in [SimStorage::kill, SimStorage::crash] {
        let (storage, root) = world(4);
        let process = storage.of_this_life();
        let lock = root.lock("LOCK", b"1").unwrap();
        assert!(root.lock("LOCK", b"2").is_err());
        let file = settled(&*root, "x", b"it");
        end(&storage);
        let gone = [
            file.sync(),
            root.sync(),
            process.root(Path::new("/r"), None).map(drop),
            root.open("x", Open::Read).map(drop),
        ];
        for result in gone {
            let error = result.unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::STALE));
        }
        let root = storage.root(Path::new("/r"), None).unwrap();
        let held = root.lock("LOCK", b"3").unwrap();
        drop(lock);
        assert!(root.lock("LOCK", b"4").is_err(), "a dead lock opened ours");
        drop(held);
        assert_eq!(storage.life(), 1);
    }
}

#[test]
fn after_a_failed_sync_the_next_one_lies_in_this_life_and_the_next() {
    let failing = FaultPlan::quiet().with(Fault::SyncFailed, 1000);
    for seed in 0..20 {
        let (storage, root) = world(seed);
        let file = settled(&*root, "x", &[b'a'; 9000]);
        write(&*file, &[b'b'; 9000], 0);
        storage.plan_faults(failing.clone());
        assert!(file.sync().is_err());
        storage.plan_faults(FaultPlan::quiet());
        file.sync().unwrap();
        storage.kill();
        let root = storage.root(Path::new("/r"), None).unwrap();
        let file = root.open("x", Open::Write).unwrap();
        file.sync().unwrap();
        assert_eq!(
            storage.files("/r")["x"],
            [b'b'; 9000],
            "before the cache goes"
        );
        storage.drop_cache();
        let left = storage.files("/r").remove("x").unwrap();
        assert_eq!(left.len(), 9000);
        assert!(left.contains(&b'a'), "seed {seed}: nothing is lost");
        assert_eq!(storage.fault_counts().of(Fault::CacheDropped), 1);
        write(&*file, &[b'c'; 9000], 0);
        file.sync().unwrap();
        storage.crash();
        assert_eq!(storage.files("/r")["x"], [b'c'; 9000], "written anew");
    }
}

#[test]
fn the_cache_of_a_failed_sync_goes_by_itself() {
    let (storage, root) = world(5);
    let file = settled(&*root, "x", b"a");
    write(&*file, b"b", 0);
    storage.plan_faults(FaultPlan::quiet().with(Fault::SyncFailed, 1000));
    assert!(file.sync().is_err());
    let read = || {
        let mut byte = [0];
        file.read_at(&mut byte, 0).map(|_| byte[0]).unwrap()
    };
    let reads: Vec<u8> = (0..300).map(|_| read()).collect();
    let until = reads.iter().position(|byte| *byte == b'a').unwrap();
    assert!(until > 0, "at once");
    assert!(reads[until..].iter().all(|byte| *byte == b'a'));
}

#[test]
fn a_broken_disk_syncs_nothing_until_it_is_whole_again() {
    let (storage, root) = world(6);
    let file = settled(&*root, "x", b"it");
    storage.plan_faults(FaultPlan::quiet().with(Fault::SyncBroken, 1000));
    assert!((0..50).all(|_| file.sync().is_err() && file.read_at(&mut [0], 0).is_ok()));
    assert!(root.sync().is_err());
    assert_eq!(storage.fault_counts().of(Fault::SyncBroken), 1);
    storage.plan_faults(FaultPlan::quiet());
    file.sync().unwrap();
}

#[test]
fn a_life_ends_before_or_after_the_call_that_was_asked_for() {
    for (moment, left) in [(Moment::Before, "ab"), (Moment::After, "abc")] {
        let (storage, root) = world(7);
        let file = root.open("x", Open::Append(0o600)).unwrap();
        storage.die_at(Some(DeathPoint {
            call: StorageCall::Write,
            number: 3,
            moment,
            death: Death::Killed,
        }));
        let append = |byte: &[u8]| file.append(&[IoSlice::new(byte)]);
        assert!(append(b"a").is_ok() && append(b"b").is_ok());
        let errors = [append(b"c").unwrap_err(), append(b"d").unwrap_err()];
        for error in errors {
            assert_eq!(Errno::from_io_error(&error), Some(Errno::STALE));
        }
        assert_eq!(storage.files("/r")["x"], left.as_bytes());
        assert_eq!(storage.fault_counts().of(Fault::ProcessKilled), 1);
    }
}

#[test]
fn a_bit_turns_on_the_disk_and_in_what_is_read() {
    let (storage, root) = world(8);
    settled(&*root, "x", b"\0\0");
    assert!(storage.flip("/r/x", 9));
    assert!(!storage.flip("/r/x", 16) && !storage.flip("/r/y", 0));
    assert_eq!(storage.files("/r")["x"], b"\0\x02");
    storage.plan_faults(FaultPlan::quiet().with(Fault::BitFlipped, 1000));
    storage.crash();
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    assert_ne!(ones(&storage.files("/r")["x"]), 1);
    assert_eq!(storage.fault_counts().of(Fault::BitFlipped), 2);
}

#[test]
fn what_nobody_can_reach_takes_no_memory() {
    let (storage, root) = world(9);
    let file = settled(&*root, "x", b"it");
    root.unlink("x").unwrap();
    assert!(storage.lock().bytes_of(1).is_some(), "it could come back");
    root.sync().unwrap();
    assert!(storage.lock().bytes_of(1).is_some(), "it is open");
    drop(file);
    root.sync().unwrap();
    assert!(storage.lock().bytes_of(1).is_none());
}

#[test]
fn the_same_seed_leaves_the_same() {
    let run = |seed| {
        let (storage, root) = world(seed);
        make(&*root, "x", &[b'a'; 5000]);
        make(&*root, "y", b"y");
        root.rename("x", "z").unwrap();
        storage.crash();
        (storage.files("/r"), storage.fault_counts())
    };
    assert!((0..50).all(|seed| run(seed) == run(seed)));
    assert!((0..50).any(|seed| run(seed) != run(seed + 1)));
}
