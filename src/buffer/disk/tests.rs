//! The disk log over the simulated disk, and what its tests do alike.
//!
//! Segments are tiny here, so that a few hundred events rotate, delete and recover. What a
//! record holds follows from its first number, so that whatever is read can be checked.
#![allow(clippy::unwrap_used)]

mod damage;
mod faults;
mod model;
mod script;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::buffer::storage::Directory;
use crate::sim::{Random, SimStorage};
use crate::time::WallTime;

/// Where the buffer is.
const FOLDER: &str = "/state/sink";

fn tiny(durability: Durability) -> Settings {
    Settings {
        size_bytes: 512 << 10,
        segment_bytes: 8 << 10,
        ..Settings::new(SIZE_BYTES_MIN, durability, [7; 16])
    }
}

fn folder(disk: &SimStorage) -> Arc<dyn Directory> {
    let storage = disk.of_this_life();
    storage.root(Path::new(FOLDER), Some(0o700)).unwrap()
}

fn disk() -> SimStorage {
    SimStorage::new(Random::new(1))
}

fn open_it(disk: &SimStorage) -> Opened {
    open(folder(disk), tiny(Durability::Commit), NOW).unwrap()
}

/// What the record that begins with event `seq` holds.
fn payload(seq: u64) -> Bytes {
    let length = (seq % 7) as usize * 40 + 10;
    let text = format!("event {seq} ");
    text.bytes()
        .cycle()
        .take(length)
        .collect::<Vec<u8>>()
        .into()
}

/// A group of so many records, of three events each.
fn group(first_seq: u64, records: u64) -> Vec<Record> {
    let seqs = (0..records).map(|index| first_seq + index * 3);
    let record = |first_seq| Record {
        first_seq,
        count: 3,
        payload: payload(first_seq),
    };
    seqs.map(record).collect()
}

/// Commits groups of two records up to event `end`.
fn fill(opened: &mut Opened, end: u64) {
    while opened.writer.next_seq() < end {
        let records = group(opened.writer.next_seq(), 2);
        opened.writer.commit(&records, NOW).unwrap();
    }
}

/// Reads all there is; every record must be what was written.
fn drain(opened: &mut Opened, from_seq: u64) -> (Vec<u64>, Vec<Gap>) {
    let until_seq = opened.writer.next_seq();
    let (mut seqs, mut gaps, mut at) = (Vec::new(), Vec::new(), from_seq);
    while at < until_seq {
        let outcome = opened.reader.read(at, until_seq, 500).unwrap();
        assert!(outcome.next_seq > at, "reading stands still at {at}");
        for record in outcome.records {
            assert_eq!(record.payload, payload(record.first_seq));
            assert_eq!(record.count, 3);
            seqs.push(record.first_seq);
        }
        gaps.extend(outcome.gaps);
        at = outcome.next_seq;
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
    (seqs, gaps)
}

fn files(disk: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    let mut files = disk.files(FOLDER);
    files.remove("LOCK");
    files
}

fn used(disk: &SimStorage) -> u64 {
    files(disk).values().map(|bytes| bytes.len() as u64).sum()
}

/// Whether all records of `0..end` are in `seqs`, once each.
fn assert_all(seqs: &[u64], range: std::ops::Range<u64>) {
    let expected: Vec<u64> = range.step_by(3).collect();
    assert_eq!(seqs, expected);
}

const NOW: WallTime = WallTime::from_micros(1_000);

#[test]
fn nothing_is_made_before_the_first_event() {
    let disk = disk();
    let mut opened = open_it(&disk);
    let recovered = &opened.recovered;
    assert_eq!((recovered.first_seq, recovered.next_seq), (0, 0));
    assert_eq!((recovered.used_bytes, recovered.may_repeat), (0, 0));
    assert_eq!(recovered.segments_opened, 0);
    assert_eq!(opened.reader.read(0, 0, 100).unwrap().next_seq, 0);
    opened.keeper.keep(0, 0).unwrap();
    opened.writer.close().unwrap();
    opened.keeper.close(0, 0).unwrap();
    assert!(files(&disk).is_empty());
}

#[test]
fn what_is_committed_is_read_kept_and_deleted() {
    let disk = disk();
    let mut opened = open_it(&disk);
    let committed = opened.writer.commit(&group(0, 2), NOW).unwrap();
    assert_eq!(committed.durable_seq, 6);
    let begun = committed.begun.unwrap();
    assert_eq!((begun.base_seq, begun.bytes), (0, 8192));
    assert_eq!(committed.used_bytes, used(&disk));
    fill(&mut opened, 300);
    let (seqs, gaps) = drain(&mut opened, 0);
    assert_all(&seqs, 0..300);
    assert_eq!(gaps, []);
    let before = files(&disk).len();
    assert!(before > 4, "{before} files");
    let kept = opened.keeper.keep(300, 300).unwrap();
    assert!(kept.freed_bytes > 0);
    assert_eq!(files(&disk).len(), 2, "the segment in use and the cursor");
    assert_eq!(kept.used_bytes, used(&disk));
    assert_eq!(opened.reader.read(300, 300, 9).unwrap().records.len(), 0);
}

#[test]
fn after_a_clean_end_nothing_is_copied_and_nothing_repeated() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 300);
    opened.keeper.keep(90, 300).unwrap();
    opened.writer.close().unwrap();
    opened.keeper.close(93, 300).unwrap();
    drop(opened.reader);
    let before = files(&disk);
    let mut opened = open_it(&disk);
    let recovered = &opened.recovered;
    assert_eq!((recovered.first_seq, recovered.next_seq), (93, 300));
    assert_eq!((recovered.events, recovered.may_repeat), (207, 0));
    assert_eq!(recovered.segments_opened, 1);
    assert_eq!(recovered.findings, []);
    let segments = |files: &BTreeMap<String, Vec<u8>>| {
        let mut files = files.clone();
        files.remove("cursor");
        files
    };
    assert_eq!(segments(&files(&disk)), segments(&before));
    assert_all(&drain(&mut opened, 93).0, 93..300);
    // Without a clean end the next start cannot know what was delivered meanwhile.
    drop(opened);
    assert_eq!(open_it(&disk).recovered.may_repeat, 207);
}

#[test]
fn f_003_a_recovery_that_is_cut_off_again_and_again_comes_to_the_same() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 60);
    let first_epoch = opened.recovered.epoch;
    disk.kill();
    let mut sizes = Vec::new();
    let mut epoch = first_epoch;
    for _ in 0..5 {
        let mut opened = open_it(&disk);
        assert!(opened.recovered.epoch > epoch, "each opening is an epoch");
        epoch = opened.recovered.epoch;
        let records = opened.reader.read(0, 60, usize::MAX).unwrap().records;
        assert_eq!(records.len(), 20);
        assert!(records.iter().all(|record| record.epoch == first_epoch));
        sizes.push(used(&disk));
        disk.kill();
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

#[test]
fn a_second_process_is_told_who_has_the_buffer() {
    let disk = disk();
    let opened = open_it(&disk);
    let settings = tiny(Durability::Commit);
    let second = open(folder(&disk), settings, NOW).err().unwrap();
    let text = second.to_string();
    assert!(matches!(second, OpenError::InUse { .. }), "{text}");
    let own = format!("process {}", std::process::id());
    assert!(text.contains(&own) && text.contains("stop it"), "{text}");
    let Opened {
        writer,
        reader,
        keeper,
        ..
    } = opened;
    drop((writer, keeper));
    let second = open(folder(&disk), settings, NOW);
    assert!(second.is_err(), "the reader still holds it");
    drop(reader);
    open_it(&disk);
}

#[test]
fn the_oldest_segments_are_given_up_and_that_is_no_gap() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 300);
    let evicted = opened.keeper.evict(15_000, 300).unwrap();
    assert!(evicted.freed_bytes >= 15_000 && evicted.freed_bytes < 24_000);
    assert!(evicted.upto_seq > 0 && evicted.upto_seq < 200);
    assert_eq!(evicted.used_bytes, used(&disk));
    let outcome = opened.reader.read(0, 300, 1).unwrap();
    assert_eq!(outcome.records[0].first_seq, evicted.upto_seq);
    assert_eq!(outcome.gaps, []);
    let all = opened.keeper.evict(u64::MAX, 300).unwrap();
    assert!(all.upto_seq < 300, "the segment in use stays");
    drop(opened);
    let recovered = open_it(&disk).recovered;
    assert_eq!(recovered.first_seq, all.upto_seq);
}

#[test]
fn reading_goes_back_and_begins_in_the_middle_of_a_record() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 300);
    drain(&mut opened, 0);
    for seq in [0, 1, 100, 299, 150, 151, 3] {
        let outcome = opened.reader.read(seq, 300, 1).unwrap();
        let first = &outcome.records[0];
        assert_eq!(first.first_seq, seq / 3 * 3, "from {seq}");
        assert_eq!(outcome.next_seq, first.first_seq + 3);
        assert_eq!((outcome.records.len(), outcome.gaps.len()), (1, 0));
    }
    let outcome = opened.reader.read(0, 6, usize::MAX).unwrap();
    assert_eq!(outcome.records.len(), 2, "nothing above the mark");
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_size() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 6);
    let record = |first_seq, bytes| Record {
        first_seq,
        count: 1,
        payload: vec![b'x'; bytes].into(),
    };
    let committed = opened.writer.commit(&[record(6, 60_000)], NOW).unwrap();
    assert!(committed.begun.is_some_and(|begun| begun.bytes > 60_000));
    opened.writer.commit(&group(7, 1), NOW).unwrap();
    let outcome = opened.reader.read(6, 10, usize::MAX).unwrap();
    assert_eq!(outcome.records[0].payload.len(), 60_000);
    assert_eq!(outcome.records[1].payload, payload(7));
    assert_eq!(outcome.gaps, []);
}

#[test]
fn a_record_that_no_place_is_large_enough_for_is_refused() {
    let disk = disk();
    let mut opened = open_it(&disk);
    let bytes_max = tiny(Durability::Commit).payload_bytes_max();
    assert_eq!(bytes_max, 128 << 10, "a quarter of the buffer");
    let large = Record {
        first_seq: 0,
        count: 1,
        payload: vec![0; bytes_max + 1].into(),
    };
    let refused = opened.writer.commit(&[large], NOW);
    assert!(matches!(refused, Err(CommitError::Refused { seq: 0, .. })));
    for wrong in [group(3, 1), Vec::new()] {
        let refused = opened.writer.commit(&wrong, NOW);
        assert!(matches!(refused, Err(CommitError::Refused { .. })));
    }
    assert!(files(&disk).is_empty());
    fill(&mut opened, 6);
    assert_all(&drain(&mut opened, 0).0, 0..6);
}

#[test]
fn a_buffer_of_its_size_is_full_until_something_is_delivered() {
    let disk = disk();
    let mut opened = open_it(&disk);
    let full = loop {
        let records = group(opened.writer.next_seq(), 2);
        if let Err(error) = opened.writer.commit(&records, NOW) {
            break error;
        }
    };
    assert!(matches!(full, CommitError::Full { .. }), "{full}");
    assert!(used(&disk) <= tiny(Durability::Commit).size_bytes);
    let durable_seq = opened.writer.next_seq();
    assert!(durable_seq > 3_000);
    opened.keeper.keep(600, durable_seq).unwrap();
    fill(&mut opened, durable_seq + 30);
    assert_all(&drain(&mut opened, 600).0, 600..durable_seq + 30);
}

#[test]
fn a_segment_made_ahead_of_need_is_taken_and_leaves_nothing_behind() {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, 6);
    assert!(!opened.writer.prepare().unwrap(), "there is no need yet");
    while !opened.writer.prepare().unwrap() {
        let end = opened.writer.next_seq() + 6;
        fill(&mut opened, end);
    }
    assert!(!opened.writer.prepare().unwrap(), "there is one");
    assert!(files(&disk).contains_key("next.new"));
    assert_eq!(opened.keeper.keep(0, 0).unwrap().used_bytes, used(&disk));
    fill(&mut opened, 300);
    assert!(!files(&disk).contains_key("next.new"));
    while !opened.writer.prepare().unwrap() {
        let end = opened.writer.next_seq() + 6;
        fill(&mut opened, end);
    }
    let end = opened.writer.next_seq();
    assert_all(&drain(&mut opened, 0).0, 0..end);
    let Opened { writer, keeper, .. } = opened;
    writer.close().unwrap();
    drop(keeper);
    assert!(!files(&disk).contains_key("next.new"));
}

#[test]
fn settings_follow_the_size() {
    let segment = |size: u64| Settings::new(size, Durability::Os, [0; 16]).segment_bytes;
    assert_eq!(segment(8 << 20), 1 << 20);
    assert_eq!(segment(64 << 20), 4 << 20);
    assert_eq!(segment(1 << 30), 64 << 20);
    assert_eq!(segment(1 << 40), 64 << 20);
}
