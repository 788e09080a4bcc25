//! Files that are renamed, made anew, copied, cut and removed while they are read.
//!
//! Every line arrives once, and where nothing forbids it in its order.

use std::fs;
use std::time::Duration;

use super::logger::{Logger, line};
use super::{Place, Running, WATCHES, append};

/// Moments that a logger goes on writing to the file that was renamed.
const DELAYS: [u64; 3] = [0, 5, 40];

/// Writes `rounds` times `lines`, rotating after each; only after the file has been found where
/// it `waits`.
fn rotate(running: &Running, waits: bool, rounds: u64, lines: u64) -> u64 {
    let keep = 100;
    let mut logger = Logger::new(&running.log("a.log"));
    for round in 0..rounds {
        logger.write(lines);
        if waits {
            running.wait_for_lines((logger.count() - lines + 1) as usize);
        }
        logger.rotate(keep);
        // Whoever logs is told a moment later that its file was renamed.
        let delay = DELAYS[round as usize % DELAYS.len()];
        logger.write(lines / 10);
        std::thread::sleep(Duration::from_millis(delay));
        logger.write(lines / 10);
        logger.reopen();
    }
    logger.write(lines);
    logger.count()
}

#[test]
fn renamed_files_that_are_followed_are_not_read_again() {
    for watch in WATCHES {
        let running = Place::new(watch).start();
        let count = rotate(&running, false, 12, 2000);
        running.wait_for_lines(count as usize);
        let (place, ended) = running.stop();
        place.check_exact(count);
        let counts = ended.log.iter().find(|it| it["event"] == "file_counts");
        // Of those that follow each other too fast some are seen as one.
        let rotations = counts.unwrap()["rotations"].as_u64().unwrap();
        assert!((1..=12).contains(&rotations), "{watch}: {rotations}");
    }
}

#[test]
fn renamed_files_that_are_followed_no_more_are_read_to_their_ends() {
    for watch in WATCHES {
        let place = Place::new(watch).with("paths = [\"{folder}/log/*.log\"]");
        let running = place.start();
        let count = rotate(&running, true, 12, 2000);
        running.wait_for_lines(count as usize);
        let (place, _) = running.stop();
        place.check_exact(count);
    }
}

#[test]
fn files_removed_by_rotation_are_read_to_their_ends() {
    for watch in WATCHES {
        let running = Place::new(watch).start();
        let mut logger = Logger::new(&running.log("a.log"));
        logger.write(100);
        running.wait_for_lines(100);
        for _ in 0..5 {
            // Whether it was opened before it is gone is what counts.
            logger.write(100);
            running.wait_for_lines(logger.count() as usize);
            fs::remove_file(running.log("a.log")).unwrap();
            logger.write(200);
            std::thread::sleep(Duration::from_millis(100));
            logger.write(10);
            running.wait_for_lines(logger.count() as usize);
            logger.reopen();
        }
        let (place, _) = running.stop();
        place.check_exact(logger.count());
    }
}

#[test]
fn the_last_line_of_a_file_that_is_gone_needs_no_newline() {
    for watch in WATCHES {
        let running = Place::new(watch).start();
        append(&running.log("a.log"), "one\ntwo");
        running.wait_for_lines(1);
        std::thread::sleep(Duration::from_millis(100));
        fs::remove_file(running.log("a.log")).unwrap();
        running.wait_for_lines(2);
        let (place, _) = running.stop();
        assert_eq!(place.lines(), ["one", "two"]);
    }
}

#[test]
fn a_file_that_is_cut_is_read_from_its_beginning() {
    for watch in WATCHES {
        let place = Place::new(watch).with("paths = [\"{folder}/log/*.log\"]");
        let running = place.start();
        let mut logger = Logger::new(&running.log("a.log"));
        for round in 0..8 {
            // Longer and shorter than before.
            logger.write(if round % 2 == 0 { 500 } else { 3000 });
            running.wait_for_lines(logger.count() as usize);
            logger.copy_and_truncate(&running.log("a.log.1"));
        }
        logger.write(10);
        running.wait_for_lines(logger.count() as usize);
        let (place, ended) = running.stop();
        place.check_exact(logger.count());
        let counts = ended.log.iter().find(|it| it["event"] == "file_counts");
        assert_eq!(counts.unwrap()["truncations"], 8, "{watch}");
        assert_eq!(counts.unwrap()["lost_bytes"], 0, "{watch}");
    }
}

#[test]
fn an_inode_that_another_file_gets_is_a_new_file() {
    for watch in WATCHES {
        let place = Place::new(watch);
        let mut logger = Logger::new(&place.log("a.log"));
        logger.write(300);
        let running = place.start();
        running.wait_for_lines(300);
        let (place, _) = running.stop();
        // Written over in place: the same inode, longer than before.
        let text: String = (300..900).map(line).collect();
        fs::write(place.log("a.log"), text).unwrap();
        let running = place.start();
        running.wait_for_lines(900);
        let (place, _) = running.stop();
        place.check_exact(900);
    }
}

#[test]
fn a_file_written_anew_with_the_same_beginning_is_read_from_its_beginning() {
    let banner = format!("# {}\n", "this is what every file begins with; ".repeat(60));
    let text = |numbers: std::ops::Range<u64>| -> String {
        banner.clone() + &numbers.map(line).collect::<String>()
    };
    let running = Place::new("poll").start();
    append(&running.log("a.log"), &text(0..100));
    running.wait_for_lines(101);
    // Longer than before when it is looked at for the next time.
    fs::write(running.log("a.log"), text(100..300)).unwrap();
    running.wait_for_lines(302);
    let (place, _) = running.stop();
    let numbers = place.lines();
    let numbers = numbers.iter().filter(|line| !line.starts_with('#'));
    let numbers: Vec<u64> = numbers.filter_map(|it| super::logger::number(it)).collect();
    assert!(
        numbers.iter().copied().eq(0..300),
        "{} lines",
        numbers.len()
    );
}
