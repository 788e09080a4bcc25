//! The disk log from one life of its process to the next, and as one looks at it in between.
//!
//! What its own tests do with random lives, this does with those that chance hardly finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use marline::buffer::disk::inspect::{self, Seen};
use marline::buffer::disk::{self, Durability, Opened, Record, SIZE_BYTES_MIN, Settings, What};
use marline::buffer::storage::{Directory, Open, Storage};
use marline::sim::{Death, DeathPoint, Moment, Random, SimStorage, StorageCall};
use marline::time::WallTime;

const FOLDER: &str = "/state/sink";
const NOW: WallTime = WallTime::from_micros(1_000);

fn folder(disk: &SimStorage) -> Arc<dyn Directory> {
    disk.root(Path::new(FOLDER), Some(0o700)).unwrap()
}

/// Segments are tiny here.
fn settings() -> Settings {
    let mut settings = Settings::new(SIZE_BYTES_MIN, Durability::Commit, [7; 16]);
    settings.segment_bytes = 8 << 10;
    settings
}

fn open(disk: &SimStorage) -> Opened {
    disk::open(folder(disk), settings(), NOW).unwrap()
}

/// One event of 200 bytes.
fn record(first_seq: u64) -> Record {
    Record {
        first_seq,
        count: 1,
        payload: Bytes::from(vec![b'x'; 200]),
    }
}

fn fill(opened: &mut Opened, end_seq: u64) {
    while opened.writer.next_seq() < end_seq {
        let record = record(opened.writer.next_seq());
        opened.writer.commit(&[record], NOW).unwrap();
    }
}

/// The segments by their first events, and their bytes.
fn segments(disk: &SimStorage) -> BTreeMap<u64, Vec<u8>> {
    let files = disk.files(FOLDER).into_iter();
    let numbered = files.filter_map(|(name, bytes)| {
        let digits = name.strip_suffix(".seg")?;
        Some((digits.parse().unwrap(), bytes))
    });
    numbered.collect()
}

fn name(base_seq: u64) -> String {
    format!("{base_seq:020}.seg")
}

/// The process is killed by the call of that kind which is so many from now.
fn die_before(disk: &SimStorage, call: StorageCall, distance: u64) {
    disk.die_at(Some(DeathPoint {
        call,
        number: disk.calls_of(call) + distance,
        moment: Moment::Before,
        death: Death::Killed,
    }));
}

/// A segment that was delivered has come back, so the recovery writes the cursor before it copies
/// the tail; then it is killed. The cursor must not say that the tail is durable: the start
/// after that would take it from the page cache.
#[test]
fn a_recovery_that_is_killed_has_proven_nothing() {
    for seed in 0..30 {
        let disk = SimStorage::new(Random::new(seed));
        let mut opened = open(&disk);
        fill(&mut opened, 40);
        let whole = segments(&disk);
        let mut bases = whole.keys().copied();
        let (delivered, first_seq) = (bases.next().unwrap(), bases.next().unwrap());
        opened.keeper.keep(first_seq, 40).unwrap();
        // The last event is written, and not synced.
        die_before(&disk, StorageCall::Sync, 1);
        assert!(opened.writer.commit(&[record(40)], NOW).is_err());
        drop(opened);
        let back = folder(&disk).open(&name(delivered), Open::Create(0o600));
        back.unwrap().write_at(&whole[&delivered], 0).unwrap();
        // The cursor gets its name; the copy does not.
        die_before(&disk, StorageCall::Rename, 2);
        let killed = disk::open(folder(&disk), settings(), NOW);
        assert!(killed.is_err(), "seed {seed}");
        let found = open(&disk).recovered;
        assert_eq!(found.next_seq, 41, "seed {seed}");
        // What that start has said to be there survives whatever comes.
        disk.crash();
        let mut opened = open(&disk);
        let (mut at, mut gaps) = (first_seq, Vec::new());
        while at < 41 {
            let read = opened.reader.read(at, 41, 1 << 20).unwrap();
            gaps.extend(read.gaps);
            at = read.next_seq;
        }
        assert!(gaps.is_empty(), "seed {seed}: {gaps:?}");
    }
}

/// The oldest segments of a buffer that nobody owns are missing, or all of them: what they had
/// is lost, and said to be.
#[test]
fn f_053_segments_that_are_missing_at_the_beginning_are_a_gap() {
    let disk = SimStorage::new(Random::new(1));
    let mut opened = open(&disk);
    fill(&mut opened, 60);
    opened.writer.close().unwrap();
    opened.keeper.close(10, 60).unwrap();
    let bases: Vec<u64> = segments(&disk).into_keys().collect();
    assert!(bases.len() > 2, "{bases:?}");
    for (index, base) in bases.iter().enumerate() {
        folder(&disk).unlink(&name(*base)).unwrap();
        let next = bases.get(index + 1).copied().unwrap_or(60);
        for from_seq in [0, 10] {
            let inspection = inspect::look(folder(&disk), false).unwrap();
            let (mut lost, mut seen) = (Vec::new(), Vec::new());
            for one in inspection.walk(from_seq) {
                match one {
                    Seen::Record(record) => seen.push(record.first_seq),
                    Seen::Finding(finding) => match finding.what {
                        What::Gap { from_seq, to_seq } => lost.extend(from_seq..to_seq),
                        what => panic!("{what}"),
                    },
                }
            }
            assert_eq!(lost, (10..next.max(10)).collect::<Vec<_>>());
            assert_eq!(seen, (next..60).collect::<Vec<_>>());
        }
    }
}
