//! Buffers on a real file system, looked at whole, damaged, and beside their owner.
//!
//! After every look the folder is as it was, byte for byte.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::buffer::disk::{Durability, Opened, Record, Settings, open};
use crate::buffer::storage::Storage;
use crate::buffer::storage_sys::SystemStorage;
use crate::time::WallTime;

const NOW: WallTime = WallTime::from_micros(1_700_000_000_000_000);

fn directory(folder: &Path) -> Arc<dyn Directory> {
    SystemStorage.root(folder, None).unwrap()
}

fn owner(folder: &Path) -> Opened {
    let mut settings = Settings::new(8 << 20, Durability::Commit, [7; 16]);
    settings.segment_bytes = 8192;
    open(directory(folder), settings, NOW).unwrap()
}

fn payload(seq: u64) -> Bytes {
    Bytes::from(format!("payload of event {seq} {}", "x".repeat(200)))
}

/// Writes the events from `from` to `to`, two a group.
fn write(opened: &mut Opened, from: u64, to: u64) {
    for first_seq in (from..to).step_by(2) {
        let group = [first_seq, first_seq + 1].map(|first_seq| Record {
            first_seq,
            count: 1,
            payload: payload(first_seq),
        });
        opened.writer.commit(&group, NOW).unwrap();
    }
}

fn end(opened: Opened, acked_seq: u64) {
    let next_seq = opened.writer.next_seq();
    opened.writer.close().unwrap();
    opened.keeper.close(acked_seq, next_seq).unwrap();
}

fn snapshot(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    files.map(read).collect()
}

/// What a walk sees: the numbers of whole events, and the findings.
struct Look {
    seqs: Vec<u64>,
    findings: Vec<Finding>,
    inspection: Inspection,
}

impl Look {
    /// Events that the gaps name.
    fn lost(&self) -> Vec<u64> {
        let gaps = self
            .findings
            .iter()
            .filter_map(|finding| match finding.what {
                What::Gap { from_seq, to_seq } => Some(from_seq..to_seq),
                _ => None,
            });
        gaps.flatten().collect()
    }
}

fn look_from(folder: &Path, is_in_use: bool, from_seq: u64) -> Look {
    let before = snapshot(folder);
    let inspection = look(directory(folder), is_in_use).unwrap();
    let (mut seqs, mut findings) = (Vec::new(), inspection.findings.clone());
    for seen in inspection.walk(from_seq) {
        match seen {
            Seen::Record(record) => {
                assert_eq!(record.payload, payload(record.first_seq));
                seqs.push(record.first_seq);
            }
            Seen::Finding(finding) => findings.push(finding),
        }
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert!(snapshot(folder) == before, "looking has changed something");
    Look {
        seqs,
        findings,
        inspection,
    }
}

/// A buffer of 60 events in several segments, of which 10 are delivered.
fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = owner(folder.path());
    write(&mut opened, 0, 60);
    end(opened, 10);
    folder
}

#[test]
fn a_whole_buffer_is_seen_as_it_was_written() {
    let folder = filled();
    let seen = look_from(folder.path(), false, 10);
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    assert_eq!(seen.seqs, (10..60).collect::<Vec<_>>());
    let inspection = &seen.inspection;
    assert_eq!((inspection.first_seq, inspection.end_seq), (10, 60));
    assert_eq!(inspection.events(), 50);
    assert!(inspection.segments() > 2);
    let lengths = snapshot(folder.path());
    let lengths = lengths.iter().filter(|(name, _)| *name != "LOCK");
    let total: usize = lengths.map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(inspection.used_bytes, total as u64);
    let empty = tempfile::tempdir().unwrap();
    let seen = look_from(empty.path(), false, 0);
    assert_eq!((seen.inspection.events(), seen.seqs.len()), (0, 0));
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
}

#[test]
fn beside_the_owner_only_what_is_proven_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = owner(folder.path());
    assert!(look_from(folder.path(), true, 0).seqs.is_empty());
    write(&mut opened, 0, 20);
    let seen = look_from(folder.path(), true, 0);
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    assert_eq!(
        seen.seqs,
        (0..18).collect::<Vec<_>>(),
        "the last group has no proof yet"
    );
    opened.keeper.keep(18, 20).unwrap();
    let seen = look_from(folder.path(), true, 18);
    assert_eq!(seen.seqs, [18, 19], "the cursor is proof");
    // A segment that is deleted between the listing and the opening was delivered.
    let inspection = look(directory(folder.path()), true).unwrap();
    let mut walk = inspection.walk(0);
    write(&mut opened, 20, 60);
    opened.keeper.keep(60, 60).unwrap();
    assert!(walk.all(|seen| matches!(seen, Seen::Record(_))));
}

#[test]
fn damage_costs_what_the_gaps_say_and_is_found_where_it_is() {
    let folder = filled();
    let whole = snapshot(folder.path());
    let (name, bytes) = whole
        .iter()
        .find(|(name, _)| name.ends_with(".seg"))
        .unwrap();
    let path = folder.path().join(name);
    let oldest: u64 = name.strip_suffix(".seg").unwrap().parse().unwrap();
    let is_head = |at: usize| at < 64 || (4096..4160).contains(&at);
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let seen = look_from(folder.path(), false, 0);
        let mut all = [&seen.seqs[..], &seen.lost()].concat();
        all.sort_unstable();
        assert_eq!(all, (oldest..60).collect::<Vec<_>>(), "byte {at}");
        assert!(seen.lost().len() <= 1, "byte {at} cost {:?}", seen.lost());
        let is_near = |finding: &Finding| {
            let is_there = (finding.offset..finding.offset + 4096).contains(&(at as u64));
            finding.file == *name && (is_there || finding.what == What::HeaderCopyDamaged)
        };
        let found = &seen.findings;
        assert!(
            found.iter().all(is_near) || seen.lost().len() == 1,
            "{at}: {found:?}"
        );
        assert!(
            !is_head(at) || !found.is_empty(),
            "byte {at}: nothing was found"
        );
    }
}

fn zero(path: &Path, at: usize, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + len].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn segments_and_cursors_that_are_not_right_are_told_and_left_there() {
    let check = |change: &dyn Fn(&Path, &[String]), expected: What, lost: usize| {
        let folder = filled();
        let names = snapshot(folder.path()).into_keys();
        let segments: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
        change(folder.path(), &segments);
        let seen = look_from(folder.path(), false, 10);
        let kinds: Vec<_> = seen.findings.iter().map(|finding| &finding.what).collect();
        let same =
            |what: &&What| std::mem::discriminant(*what) == std::mem::discriminant(&expected);
        assert!(kinds.iter().any(same), "{expected:?}: {kinds:?}");
        assert_eq!(seen.lost().is_empty(), lost == 0, "{expected:?}: {kinds:?}");
        assert_eq!(seen.seqs.len() + seen.lost().len(), 50, "{expected:?}");
    };
    check(
        &|f, _| fs::remove_file(f.join("cursor")).unwrap(),
        What::CursorMissing,
        0,
    );
    check(
        &|f, _| zero(&f.join("cursor"), 0, 8192),
        What::CursorDamaged,
        0,
    );
    check(
        &|f, s| zero(&f.join(&s[1]), 0, 64),
        What::HeaderCopyDamaged,
        0,
    );
    check(&|f, s| zero(&f.join(&s[1]), 0, 4160), What::NoHeader, 1);
    let gap = What::Gap {
        from_seq: 0,
        to_seq: 0,
    };
    check(&|f, s| fs::remove_file(f.join(&s[1])).unwrap(), gap, 1);
    let misnamed = What::Misnamed { base_seq: 0 };
    check(
        &|f, s| assert!(fs::copy(f.join(&s[2]), f.join(&s[1])).is_ok()),
        misnamed,
        1,
    );
    let unreadable = What::Unreadable {
        error: String::new(),
    };
    check(
        &|f, s| {
            fs::remove_file(f.join(&s[1])).unwrap();
            fs::create_dir(f.join(&s[1])).unwrap();
        },
        unreadable,
        1,
    );
}
