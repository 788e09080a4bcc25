//! Compressed old files, and copies: what is in them is read once.
//!
//! Also where they were compressed or copied while the daemon was away.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::logger::{Logger, line};
use super::{Place, WATCHES, append};

fn gzip(from: &Path, to: &Path) {
    let file = File::create(to).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    encoder.write_all(&fs::read(from).unwrap()).unwrap();
    encoder.finish().unwrap();
}

fn zstd(text: &str, to: &Path) {
    fs::write(to, zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
}

#[test]
fn compressed_files_are_read_once_and_the_oldest_first() {
    for watch in WATCHES {
        let place = Place::new(watch);
        let text: String = (0..6000).map(line).collect();
        zstd(&text, &place.log("a.log.3.zst"));
        let text: String = (6000..9000).map(line).collect();
        fs::write(place.log("a.log.2"), text).unwrap();
        gzip(&place.log("a.log.2"), &place.log("a.log.2.gz"));
        fs::remove_file(place.log("a.log.2")).unwrap();
        append(&place.log("empty.log.gz"), "");
        let text: String = (9000..9100).map(line).collect();
        let running = place.start();
        running.wait_for_lines(9000);
        append(&running.log("a.log"), &text);
        running.wait_for_lines(9100);
        let (place, _) = running.stop();
        place.check_exact(9100);
        let running = place.start();
        append(&running.log("a.log"), &line(9100));
        running.wait_for_lines(9101);
        let (place, _) = running.stop();
        place.check_exact(9101);
    }
}

#[test]
fn a_compressed_file_is_gone_on_with_after_a_stop() {
    let mut place = Place::new("inotify");
    let text: String = (0..60_000).map(line).collect();
    zstd(&text, &place.log("a.log.1.zst"));
    for _ in 0..4 {
        let running = place.start();
        std::thread::sleep(std::time::Duration::from_millis(420));
        place = running.stop().0;
    }
    let running = place.start();
    running.wait_for_lines(60_000);
    running.stop().0.check_exact(60_000);
}

#[test]
fn what_was_read_is_not_read_again_when_it_has_been_compressed() {
    for watch in WATCHES {
        let running = Place::new(watch).start();
        let mut logger = Logger::new(&running.log("a.log"));
        for round in 0..4 {
            logger.write(3000);
            running.wait_for_lines(logger.count() as usize);
            logger.rotate(9);
            logger.reopen();
            let (plain, packed) = (running.log("a.log.1"), format!("a.log.old{round}.gz"));
            gzip(&plain, &running.log(&packed));
            fs::remove_file(&plain).unwrap();
        }
        logger.write(100);
        running.wait_for_lines(logger.count() as usize);
        // The compressed ones have been looked at by then.
        std::thread::sleep(std::time::Duration::from_secs(2));
        let (place, _) = running.stop();
        place.check_exact(logger.count());
        // Compressed while the daemon was away, and not read to its end before.
        logger.write(500);
        gzip(&place.log("a.log"), &place.log("a.log.9.gz"));
        fs::remove_file(place.log("a.log")).unwrap();
        let running = place.start();
        running.wait_for_lines(logger.count() as usize);
        let (place, _) = running.stop();
        place.check_exact(logger.count());
    }
}

#[test]
fn a_copy_made_before_the_file_is_cut_gives_what_was_not_read_of_it() {
    for watch in WATCHES {
        let running = Place::new(watch).start();
        let mut logger = Logger::new(&running.log("a.log"));
        for round in 0..5 {
            logger.write(3000);
            running.wait_for_lines(logger.count() as usize - 1500);
            logger.copy_and_truncate(&running.log(&format!("a.log.{round}")));
        }
        logger.write(100);
        running.wait_for_lines(logger.count() as usize);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let (place, _) = running.stop();
        let mut numbers = place.numbers();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..logger.count()), "{watch}");
    }
}

#[test]
fn a_bomb_is_read_a_chunk_at_a_time() {
    let place = Place::new("inotify").with("max_message = \"1KiB\"");
    let mut encoder = zstd::Encoder::new(File::create(place.log("a.zst")).unwrap(), 1).unwrap();
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..1000 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.write_all(b"\nend\n").unwrap();
    encoder.finish().unwrap();
    let place = place.with("paths = [\"{folder}/log/*\"]");
    let running = place.start();
    running.wait_for_lines(2);
    let status = fs::read_to_string(format!("/proc/{}/status", running.daemon.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    let peak = peak.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    assert!(peak.unwrap() < 200_000, "{peak:?} KiB");
    let (place, _) = running.stop();
    assert_eq!(place.lines()[1], "end");
}

#[test]
fn a_damaged_compressed_file_is_said_and_holds_nothing_up() {
    let place = Place::new("inotify");
    let text: String = (0..1000).map(line).collect();
    zstd(&text, &place.log("a.log.1.zst"));
    let path = place.log("a.log.1.zst");
    let packed = fs::read(&path).unwrap();
    fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    fs::write(place.log("b.log.gz"), "this is no gzip").unwrap();
    append(&place.log("a.log"), &line(7));
    let running = place.start();
    running.daemon.wait_for("file_unreadable");
    running.wait_for_lines(1);
    let (_, ended) = running.stop();
    let said = ended
        .log
        .iter()
        .filter(|it| it["event"] == "file_unreadable");
    assert!((1..=2).contains(&said.count()));
}

#[test]
fn a_file_in_the_place_of_a_compressed_one_is_read() {
    for watch in WATCHES {
        let place = Place::new(watch);
        append(&place.log("plain"), &(0..10).map(line).collect::<String>());
        gzip(&place.log("plain"), &place.log("a.log.1.gz"));
        let running = place.start();
        running.wait_for_lines(10);
        // File systems give the inode of what was removed to what comes next; this one has it
        // for certain.
        let packed = running.log("a.log.1.gz");
        fs::write(&packed, (10..30).map(line).collect::<String>()).unwrap();
        fs::rename(&packed, running.log("b.log")).unwrap();
        running.wait_for_lines(30);
        append(&running.log("b.log"), &line(30));
        running.wait_for_lines(31);
        running.stop().0.check_exact(31);
    }
}
