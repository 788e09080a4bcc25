//! The daemon is stopped and started, and reloaded, while files grow and are rotated.
//!
//! Nothing is lost or doubled by that, and what is damaged of its memory is said.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::logger::{Logger, line};
use super::{Place, WATCHES, append};

#[test]
fn a_restart_loses_and_doubles_nothing() {
    for watch in WATCHES {
        let mut place = Place::new(watch);
        let mut logger = Logger::new(&place.log("a.log"));
        for round in 0..6 {
            logger.write(3000);
            let running = place.start();
            logger.write(3000);
            if round % 2 == 0 {
                running.wait_for_lines(logger.count() as usize);
            }
            logger.write(500);
            place = running.stop().0;
            logger.write(500);
            if round % 3 == 2 {
                logger.rotate(9);
                logger.write(200);
                logger.reopen();
            }
        }
        let running = place.start();
        running.wait_for_lines(logger.count() as usize);
        running.stop().0.check_exact(logger.count());
    }
}

#[test]
fn a_line_that_is_not_whole_at_the_stop_is_read_whole_afterwards() {
    let place = Place::new("inotify");
    append(&place.log("a.log"), "one\ntw");
    let running = place.start();
    running.wait_for_lines(1);
    std::thread::sleep(Duration::from_millis(50));
    let (place, _) = running.stop();
    append(&place.log("a.log"), "o\n");
    let running = place.start();
    running.wait_for_lines(2);
    let (place, _) = running.stop();
    assert_eq!(place.lines(), ["one", "two"]);
}

#[test]
fn the_rest_of_a_long_line_is_left_out_after_a_restart_too() {
    let place = Place::new("inotify").with("max_message = \"1KiB\"");
    let long = "y".repeat(5000);
    append(&place.log("a.log"), &long);
    let running = place.start();
    running.wait_for_lines(1);
    std::thread::sleep(Duration::from_millis(50));
    let (place, _) = running.stop();
    append(&place.log("a.log"), &format!("{long}\nnext\n"));
    let running = place.start();
    running.wait_for_lines(2);
    let (place, _) = running.stop();
    assert_eq!(place.lines(), [&long[..1024], "next"]);
}

#[test]
fn start_says_where_a_file_is_begun() {
    let check = |start: &str, expected: &[&[&str]]| {
        let mut place = Place::new("inotify").with(&format!("start = \"{start}\""));
        append(&place.log("a.log"), "old\nha");
        for (round, expected) in expected.iter().enumerate() {
            let running = place.start();
            std::thread::sleep(Duration::from_millis(300));
            append(&running.log("a.log"), &format!("lf\nnew {round}\n"));
            append(
                &running.log(&format!("b{round}.log")),
                &format!("b{round}\n"),
            );
            running.wait_for_lines(expected.len());
            std::thread::sleep(Duration::from_millis(50));
            place = running.stop().0;
            let mut lines = place.lines();
            lines.sort();
            assert_eq!(lines, *expected, "{start} {round}");
            fs::remove_file(place.folder.path().join("out.txt")).unwrap();
            append(&place.log("a.log"), "between\n");
        }
    };
    check(
        "checkpoint",
        &[
            &["b0", "half", "new 0", "old"],
            &["b1", "between", "lf", "new 1"],
        ],
    );
    check(
        "end",
        &[&["b0", "new 0"], &["b1", "between", "lf", "new 1"]],
    );
    check(
        "beginning",
        &[
            &["b0", "half", "new 0", "old"],
            &["b0", "b1", "between", "half", "lf", "new 0", "new 1", "old"],
        ],
    );
}

#[test]
fn damaged_checkpoints_are_said_and_what_is_not_known_is_read_again() {
    let place = Place::new("inotify");
    append(&place.log("a.log"), &line(0));
    append(&place.log("b.log"), &line(1));
    let running = place.start();
    running.wait_for_lines(2);
    let (place, _) = running.stop();
    let path = place.folder.path().join("state/sources/in/checkpoints");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all.len() % 64, 0);
    // Both copies of the first slot.
    for at in [64 + 30, 128 + 30] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[all[at as usize] ^ 0x10]).unwrap();
    }
    let running = place.start();
    let damaged = running.daemon.wait_for("checkpoints_damaged");
    assert_eq!(
        (&damaged["lost"], &damaged["foreign"]),
        (&1.into(), &false.into())
    );
    running.wait_for_lines(3);
    append(&running.log("b.log"), &line(2));
    running.wait_for_lines(4);
    let (place, _) = running.stop();
    assert!(
        place
            .folder
            .path()
            .join("state/sources/in/checkpoints.damaged")
            .exists()
    );
    fs::write(&path, "what is this?").unwrap();
    let running = place.start();
    let damaged = running.daemon.wait_for("checkpoints_damaged");
    assert_eq!(damaged["foreign"], true);
    running.wait_for_lines(7);
    running.stop();
}

#[test]
fn a_reload_hands_over_in_memory() {
    let place = Place::new("inotify");
    let mut logger = Logger::new(&place.log("a.log"));
    logger.write(5000);
    let config = place.config();
    let running = place.start();
    for round in 0..10 {
        logger.write(2000);
        let changed = format!("close_after = \"{}ms\"", 1000 + round);
        let config = config.replace("close_after = \"1s\"", &changed);
        running.daemon.write_config(&config);
        running.daemon.signal(Signal::SIGHUP);
        logger.write(2000);
        let what = format!("{} reloads", round + 1);
        super::wait_until(&what, || {
            let done = running.daemon.records("reloaded").len();
            (done > round).then_some(()).ok_or(format!("{done}"))
        });
    }
    logger.write(100);
    running.wait_for_lines(logger.count() as usize);
    running.stop().0.check_exact(logger.count());
}

#[test]
fn a_sink_that_stands_still_stops_the_reading_and_nothing_is_lost() {
    use std::io::{BufRead, BufReader};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place::new("inotify");
    let mut logger = Logger::new(&place.log("a.log"));
    logger.write(100_000);
    let sink = format!(
        "[sink.out]\ntype = \"socket\"\naddress = \"tcp://{address}\"\nencode = \"raw\"\n\
         buffer.memory = \"1MiB\"\n"
    );
    let config = place.config();
    let config = format!("{}{sink}", &config[..config.find("[sink.out]").unwrap()]);
    let daemon = crate::process::Daemon::launch_in(place.folder, &config, |_| {});
    daemon.wait_for("started");
    let (stream, _) = listener.accept().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // The file grows and is rotated while nobody takes anything.
    logger.write(1000);
    logger.rotate(9);
    logger.write(1000);
    logger.reopen();
    logger.write(1000);
    let lines = BufReader::new(stream).lines();
    let mut next = 0;
    for line in lines.map(Result::unwrap).take(logger.count() as usize) {
        assert_eq!(super::logger::number(&line), Some(next));
        next += 1;
    }
    assert_eq!(next, logger.count());
    assert_eq!(daemon.stop().code(), 0);
}
