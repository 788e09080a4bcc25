//! Every kind of damage to a buffer's folder, one at a time, everywhere it can be.
//!
//! Whatever is damaged, a start succeeds, reading ends, and what is read and what is reported
//! lost are together all there was, each number once. How much may be lost is what each test
//! is about.

use std::collections::BTreeMap;
use std::ops::Range;

use super::*;
use crate::buffer::disk::format::{Promise, RECORD_MAGIC, RecordHeader, RecordType, Slot};
use crate::buffer::disk::writer::write_all;
use crate::buffer::storage::Open as OpenAs;

type Files = BTreeMap<String, Vec<u8>>;

/// The events of the buffer that is damaged: four segments, a cursor at 0.
const END: u64 = 210;

/// A buffer that was closed, as files.
fn image() -> Files {
    let disk = disk();
    let mut opened = open_it(&disk);
    fill(&mut opened, END);
    let Opened { writer, keeper, .. } = opened;
    writer.close().unwrap();
    keeper.close(0, END).unwrap();
    let files = files(&disk);
    assert_eq!(files.len(), 5, "four segments and a cursor");
    files
}

fn restore(files: &Files) -> SimStorage {
    let disk = disk();
    let folder = folder(&disk);
    for (name, bytes) in files {
        if let Some((parent, _)) = name.rsplit_once('/') {
            folder.directory(parent, Some(0o700)).unwrap();
        }
        let file = folder.open(name, OpenAs::Create(0o600)).unwrap();
        write_all(&*file, bytes, 0).unwrap();
        file.sync().unwrap();
    }
    folder.sync().unwrap();
    disk
}

/// What a start on these files and reading all of them comes to.
struct Outcome {
    recovered: Recovered,
    seqs: Vec<u64>,
    gaps: Vec<Gap>,
    /// Events in gaps.
    lost: u64,
    disk: SimStorage,
}

impl Outcome {
    fn has(&self, what: impl Fn(&What) -> bool) -> bool {
        self.recovered
            .findings
            .iter()
            .any(|finding| what(&finding.what))
    }
}

/// Starts on the files, reads everything, and asserts what always holds.
fn outcome(files: &Files) -> Outcome {
    let disk = restore(files);
    let mut opened = open_it(&disk);
    let (first_seq, next_seq) = (opened.recovered.first_seq, opened.recovered.next_seq);
    let (seqs, gaps) = drain(&mut opened, first_seq);
    let mut spans: Vec<Range<u64>> = seqs.iter().map(|seq| *seq..seq + 3).collect();
    spans.extend(gaps.iter().map(|gap| gap.from_seq..gap.to_seq));
    spans.sort_by_key(|span| span.start);
    let mut at = first_seq;
    for span in spans {
        assert_eq!(span.start, at, "{seqs:?} {gaps:?}");
        at = span.end;
    }
    assert_eq!(at, next_seq, "{seqs:?} {gaps:?}");
    // It can be written on, and what is written then is there.
    fill(&mut opened, next_seq + 6);
    assert_all(&drain(&mut opened, next_seq).0, next_seq..next_seq + 6);
    let lost = gaps.iter().map(|gap| gap.to_seq - gap.from_seq).sum();
    Outcome {
        recovered: opened.recovered,
        seqs,
        gaps,
        lost,
        disk,
    }
}

fn segment_names(files: &Files) -> Vec<String> {
    let names = files.keys().filter(|name| name.ends_with(".seg"));
    names.cloned().collect()
}

/// Where the records of a segment are, with their headers' places first.
fn headers(bytes: &[u8]) -> Vec<usize> {
    let found = memchr::memmem::find_iter(bytes, &RECORD_MAGIC);
    found.filter(|at| at % 8 == 0).collect()
}

#[test]
fn an_undamaged_image_is_whole() {
    let outcome = outcome(&image());
    assert_all(&outcome.seqs, 0..END);
    assert_eq!((outcome.lost, outcome.recovered.next_seq), (0, END));
    assert_eq!(outcome.recovered.findings, []);
    assert_eq!(outcome.recovered.segments_opened, 1);
}

#[test]
fn f_052_no_bit_of_a_header_costs_more_than_its_record() {
    let files = image();
    let mut lossless = 0;
    for name in segment_names(&files) {
        let places = headers(&files[&name]);
        let bits = places
            .iter()
            .flat_map(|at| (*at..at + 32).map(|byte| (byte, byte % 8)));
        let heads = (0..64).chain(4096..4160);
        let heads = heads.flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
        for (byte, bit) in bits.chain(heads) {
            let mut files = files.clone();
            files.get_mut(&name).unwrap()[byte] ^= 1 << bit;
            let outcome = outcome(&files);
            let place = format!("{name} byte {byte} bit {bit}");
            assert!(outcome.lost <= 3, "{place}: {:?}", outcome.gaps);
            assert_eq!(outcome.recovered.next_seq, END, "{place}");
            if byte < 4160 {
                assert_eq!(outcome.lost, 0, "{place}: a header stands twice");
            }
            lossless += usize::from(outcome.lost == 0);
            for gap in &outcome.gaps {
                assert!(gap.quarantined.is_some(), "{place}: {gap:?}");
                assert!(gap.acked_data_damaged, "{place}: {gap:?} was proven");
            }
        }
    }
    assert!(lossless > 4 * 1024, "commit records and heads cost nothing");
}

#[test]
fn f_052_a_bit_of_a_length_costs_its_record_alone() {
    // All bits of all lengths: what a checksum that leaves the length out would not survive.
    let files = image();
    let name = &segment_names(&files)[1];
    for at in headers(&files[name]) {
        for bit in 0..32 {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[at + 4 + bit / 8] ^= 1 << (bit % 8);
            let outcome = outcome(&files);
            assert!(outcome.lost <= 3, "byte {at} bit {bit}: {:?}", outcome.gaps);
        }
    }
}

#[test]
fn f_052_a_sector_costs_the_records_in_it() {
    let files = image();
    for name in segment_names(&files) {
        let bytes = &files[&name];
        let places = headers(bytes);
        for start in (0..bytes.len()).step_by(512) {
            let range = start..(start + 512).min(bytes.len());
            let touched = places
                .windows(2)
                .filter(|pair| pair[0] < range.end && pair[1] > start);
            let records = touched.count() as u64 + 1;
            for fill in [0, 0x5A, RECORD_MAGIC[0]] {
                let mut files = files.clone();
                files.get_mut(&name).unwrap()[range.clone()].fill(fill);
                let outcome = outcome(&files);
                let lost = outcome.lost;
                assert!(
                    lost <= records * 3,
                    "{name} {start}: {lost} of {records} records"
                );
            }
            let other = (start + 1024) % (bytes.len() / 512 * 512).max(512);
            let mut files = files.clone();
            let swapped = files.get_mut(&name).unwrap();
            for byte in 0..512.min(bytes.len() - start).min(bytes.len() - other) {
                swapped.swap(start + byte, other + byte);
            }
            outcome(&files);
        }
    }
}

#[test]
fn f_051_the_last_segment_cut_anywhere_keeps_all_complete_records() {
    let files = image();
    let name = segment_names(&files).pop().unwrap();
    let whole = files[&name].clone();
    let base_seq: u64 = name[..20].parse().unwrap();
    let records: Vec<(usize, usize)> = headers(&whole)
        .into_iter()
        .filter_map(|at| Some((at, RecordHeader::decode(&whole[at..], seed_of(&whole))?)))
        .filter(|(_, header)| header.kind == RecordType::Data)
        .map(|(at, header)| (at, at + 32 + header.payload_bytes))
        .collect();
    for has_cursor in [true, false] {
        for length in 0..whole.len() {
            let mut files = files.clone();
            files.get_mut(&name).unwrap().truncate(length);
            if !has_cursor {
                files.remove("cursor");
            }
            let outcome = outcome(&files);
            let complete = records.iter().filter(|(_, end)| *end <= length).count() as u64;
            let expected = match length {
                0..64 => base_seq,
                _ => base_seq + complete * 3,
            };
            let last = outcome.seqs.iter().rfind(|seq| **seq < END);
            assert_eq!(last.map(|seq| seq + 3), Some(expected), "cut at {length}");
            // The cursor had seen more durable: that is a loss of what was promised.
            let is_loss = has_cursor && expected < END;
            assert_eq!(outcome.lost > 0, is_loss, "cut at {length}");
            assert!(outcome.gaps.iter().all(|gap| gap.acked_data_damaged));
        }
    }
}

fn seed_of(segment: &[u8]) -> u32 {
    let (header, _) = crate::buffer::disk::format::SegmentHeader::find(segment).unwrap();
    header.seed()
}

#[test]
fn f_053_a_segment_that_is_missing_is_a_gap() {
    let files = image();
    let names = segment_names(&files);
    let bases: Vec<u64> = names
        .iter()
        .map(|name| name[..20].parse().unwrap())
        .collect();
    for missing in 0..names.len() {
        let mut files = files.clone();
        files.remove(&names[missing]);
        let outcome = outcome(&files);
        let to_seq = bases.get(missing + 1).copied().unwrap_or(END);
        let expected = Gap {
            from_seq: bases[missing],
            to_seq,
            quarantined: None,
            acked_data_damaged: true,
        };
        assert_eq!(outcome.gaps, [expected], "{}", names[missing]);
    }
}

#[test]
fn f_053_a_segment_of_elsewhere_is_set_aside_and_read_by_nobody() {
    let files = image();
    let names = segment_names(&files);
    let foreign = {
        let disk = disk();
        let mut settings = tiny(Durability::Commit);
        settings.new_uuid = [8; 16];
        let mut opened = open(folder(&disk), settings, NOW).unwrap();
        fill(&mut opened, 60);
        files_of(&disk)
    };
    let (_, foreign) = foreign
        .into_iter()
        .find(|(name, _)| name.ends_with(".seg"))
        .unwrap();
    for (place, bytes) in [
        ("00000000000000000300.seg", files[&names[1]].clone()),
        ("00000000000000000300.seg", foreign.clone()),
        ("00000000000000000301.seg", vec![0x5A; 3000]),
        ("00000000000000000301.seg", Vec::new()),
    ] {
        let mut files = files.clone();
        files.insert(place.to_owned(), bytes.clone());
        let outcome = outcome(&files);
        assert_all(&outcome.seqs, 0..END);
        assert_eq!(outcome.lost, 0);
        let kept = files_of(&outcome.disk);
        let kept = kept.iter().filter(|(name, _)| name.ends_with(".bad"));
        let kept: Vec<&Vec<u8>> = kept.map(|(_, bytes)| bytes).collect();
        let expected = if bytes.is_empty() {
            vec![]
        } else {
            vec![&bytes]
        };
        assert_eq!(kept, expected, "{place}");
        assert_eq!(outcome.recovered.findings.len(), 1);
    }
    for (index, bytes) in [(1, foreign), (2, files[&names[1]].clone())] {
        let mut files = files.clone();
        files.insert(names[index].clone(), bytes);
        let outcome = outcome(&files);
        assert_eq!(outcome.gaps.len(), 1, "{:?}", outcome.gaps);
        assert!(outcome.gaps[0].quarantined.is_some());
        assert!(outcome.lost < END / 2);
    }
}

fn files_of(disk: &SimStorage) -> Files {
    super::files(disk)
}

#[test]
fn f_053_a_segment_of_an_earlier_time_is_told_by_its_epoch() {
    let old = image();
    let names = segment_names(&old);
    // A later life of the same buffer, whose second segment begins at the same number.
    let disk = disk();
    open_it(&disk);
    let mut settings = tiny(Durability::Commit);
    settings.new_uuid = [7; 16];
    let later = WallTime::from_micros(9_000);
    let mut opened = open(folder(&disk), settings, later).unwrap();
    fill(&mut opened, END);
    disk.kill();
    let mut new = files_of(&disk);
    assert!(new.contains_key(&names[1]), "both are cut alike");
    new.insert(names[1].clone(), old[&names[1]].clone());
    let disk = restore(&new);
    let mut opened = open_it(&disk);
    let outcome = opened.reader.read(0, END, usize::MAX).unwrap();
    assert!(matches!(
        outcome.findings[0].what,
        What::Stale { epoch: 1_000 }
    ));
    assert_eq!(outcome.gaps.len(), 1);
}

#[test]
fn f_054_without_a_cursor_everything_is_delivered_again_and_nothing_lost() {
    let mut files = image();
    let good = files.remove("cursor").unwrap();
    let missing = outcome(&files);
    assert!(missing.has(|what| *what == What::CursorMissing));
    let mut wrecks = vec![Vec::new(), vec![0; 8192], vec![0x5A; 8192], vec![1; 5]];
    // One bit of the only slot that was ever written.
    wrecks.extend((0..512).map(|bit| {
        let mut wreck = good.clone();
        let at = wreck.iter().position(|byte| *byte != 0).unwrap();
        wreck[at + bit / 8] ^= 1 << (bit % 8);
        wreck
    }));
    for wreck in wrecks {
        let mut files = files.clone();
        files.insert("cursor".to_owned(), wreck);
        let outcome = outcome(&files);
        assert!(outcome.has(|what| *what == What::CursorDamaged));
        assert_all(&outcome.seqs, 0..END);
        assert_eq!(outcome.recovered.may_repeat, END);
    }
}

fn slot(seq: u64, uuid: [u8; 16]) -> Vec<u8> {
    let slot = Slot {
        generation: 9,
        uuid,
        epoch: 77,
        acked_seq: seq,
        durable_seq: seq,
        promise: Promise::Commit,
        is_closed: false,
    };
    let mut bytes = slot.encode().to_vec();
    bytes.resize(8192, 0);
    bytes
}

#[test]
fn f_054_a_cursor_beyond_the_log_is_where_it_goes_on() {
    let mut files = image();
    files.insert("cursor".to_owned(), slot(1000, [7; 16]));
    let outcome = outcome(&files);
    assert_eq!(
        (outcome.recovered.first_seq, outcome.recovered.next_seq),
        (1000, 1000)
    );
    assert!(outcome.recovered.epoch > 77);
    assert!(outcome.has(|what| matches!(
        what,
        What::CursorBeyondLog {
            cursor_seq: 1000,
            end_seq: END
        }
    )));
}

#[test]
fn f_054_a_cursor_of_another_buffer_moves_nothing() {
    let mut files = image();
    files.insert("cursor".to_owned(), slot(90, [9; 16]));
    let outcome = outcome(&files);
    assert!(outcome.has(|what| *what == What::CursorForeign));
    assert_all(&outcome.seqs, 0..END);
    assert_eq!(outcome.recovered.uuid, [7; 16]);
}

#[test]
fn f_062_numbers_near_their_end_work_and_then_are_refused() {
    let mut files = Files::new();
    files.insert("cursor".to_owned(), slot(u64::MAX - 60, [7; 16]));
    let disk = restore(&files);
    let mut opened = open_it(&disk);
    fill(&mut opened, u64::MAX - 6);
    let next_seq = opened.writer.next_seq();
    let refused = opened.writer.commit(&group(next_seq, 3), NOW);
    assert!(matches!(refused, Err(CommitError::Refused { .. })));
    let (seqs, gaps) = drain(&mut opened, u64::MAX - 60);
    assert_eq!((seqs.len(), gaps.len()), (18, 0));
    opened.keeper.keep(next_seq, next_seq).unwrap();
    disk.kill();
    assert_eq!(open_it(&disk).recovered.first_seq, next_seq);
    for (seq, what) in [(u64::MAX, "sequence"), (5, "epoch")] {
        let mut bytes = slot(seq, [7; 16]);
        if what == "epoch" {
            bytes[32..40].fill(0xFF);
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        }
        files.insert("cursor".to_owned(), bytes);
        let refused = open(folder(&restore(&files)), tiny(Durability::Commit), NOW);
        let refused = refused.err().map(|error| error.to_string()).unwrap();
        assert!(
            refused.contains(what) && refused.contains("last number"),
            "{refused}"
        );
    }
}

#[test]
fn f_133_a_copy_of_the_folder_gives_no_number_twice() {
    let files = image();
    let mut ids = Vec::new();
    for micros in [2_000, 3_000, 1_500] {
        let disk = restore(&files);
        let now = WallTime::from_micros(micros);
        let mut opened = open(folder(&disk), tiny(Durability::Commit), now).unwrap();
        fill(&mut opened, END + 6);
        let outcome = opened.reader.read(0, END + 6, usize::MAX).unwrap();
        let new = outcome
            .records
            .iter()
            .filter(|record| record.first_seq >= END);
        ids.extend(new.map(|record| (record.epoch, record.first_seq)));
        assert!(outcome.records[0].epoch < 1_500, "the old ones keep theirs");
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), count), (6, 6));
}

#[test]
fn a_later_format_is_refused_and_left_alone() {
    let mut files = image();
    let name = segment_names(&files).pop().unwrap();
    let bytes = files.get_mut(&name).unwrap();
    for at in [0, 4096] {
        bytes[at + 8] = 2;
        let crc = crc32c::crc32c(&bytes[at..at + 60]);
        bytes[at + 60..at + 64].copy_from_slice(&crc.to_le_bytes());
    }
    let disk = restore(&files);
    let refused = open(folder(&disk), tiny(Durability::Commit), NOW)
        .err()
        .unwrap();
    assert!(
        matches!(refused, OpenError::Version { version: 2, .. }),
        "{refused}"
    );
    assert_eq!(files_of(&disk), files);
}

/// One folder with anything in it: nothing panics, everything ends, and doing it again is the same.
fn arbitrary(files: &Files) {
    let disk = restore(files);
    let settings = tiny(Durability::Commit);
    let first = open(folder(&disk), settings, NOW);
    let marks = |opened: &Opened| (opened.recovered.first_seq, opened.recovered.next_seq);
    let first = first
        .map(|opened| marks(&opened))
        .map_err(|error| error.to_string());
    let size = used(&disk);
    let second = open(folder(&disk), settings, NOW);
    if let (Ok(first), Ok(second)) = (&first, &second) {
        assert_eq!(*first, marks(second), "a second start is the same");
        assert!(used(&disk) <= size + 8192, "and grows nothing");
    }
    if let Ok(mut opened) = second {
        let (mut at, until_seq) = marks(&opened);
        let mut steps = 0;
        while at < until_seq {
            let outcome = opened.reader.read(at, until_seq, 1000).unwrap();
            assert!(outcome.next_seq > at);
            at = outcome.next_seq;
            steps += 1;
            assert!(steps < 10_000, "reading does not end");
        }
        let _ = opened.keeper.keep(at, until_seq);
    }
    let looked = inspect::look(folder(&disk), false).unwrap();
    assert!(looked.walk(0).count() < 100_000, "looking does not end");
}

#[test]
fn whatever_is_in_the_folder_a_start_ends_and_a_second_one_is_the_same() {
    let image = image();
    let names: Vec<String> = image.keys().cloned().collect();
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let mut files = image.clone();
        for _ in 0..random.between(1, 6) {
            let name = names[random.below(names.len())].clone();
            let other = names[random.below(names.len())].clone();
            match random.below(7) {
                0 => drop(files.remove(&name)),
                1 => drop(files.insert(other, image[&name].clone())),
                2 => {
                    let length = random.below(5000);
                    let garbage = (0..length).map(|_| random.number() as u8).collect();
                    files.insert(name, garbage);
                }
                3 => {
                    let place = format!("{:020}.seg", random.number() >> random.below(64));
                    files.insert(place, image[&name].clone());
                }
                4 => {
                    let bytes = files.entry(name).or_default();
                    let length = random.below(bytes.len() + 1);
                    bytes.truncate(length);
                }
                5 => drop(files.insert("next.new".to_owned(), image[&name].clone())),
                _ => {
                    let bytes = files.entry(name).or_default();
                    let start = random.below(bytes.len());
                    let end = (start + random.below(700)).min(bytes.len());
                    let byte = random.pick(&[0, 0xFF, 0xA7]);
                    bytes[start..end].fill(byte);
                }
            }
        }
        let run = std::panic::catch_unwind(|| arbitrary(&files));
        assert!(run.is_ok(), "seed {seed}");
    }
}
