//! Files that are there, come, grow, and cannot be read for a while.
//!
//! What a pattern matches and is no file is refused; what comes later is found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::logger::{Logger, line};
use super::{Place, WATCHES, append};

#[test]
fn what_is_there_and_what_comes_is_read() {
    for watch in WATCHES {
        let place = Place::new(watch);
        let mut logger = Logger::new(&place.log("a.log"));
        logger.write(1000);
        let running = place.start();
        running.wait_for_lines(1000);
        for _ in 0..50 {
            logger.write(20);
            std::thread::sleep(Duration::from_millis(2));
        }
        logger.write_in_parts(Duration::from_millis(150));
        running.wait_for_lines(2001);
        let (place, _) = running.stop();
        place.check_exact(logger.count());
    }
}

#[test]
fn one_line_at_a_time_arrives_at_once() {
    let running = Place::new("inotify").start();
    let mut logger = Logger::new(&running.log("a.log"));
    for count in 1..=20 {
        logger.write(1);
        running.wait_for_lines(count);
    }
    running.stop().0.check_exact(20);
}

#[test]
fn folders_and_files_that_come_later_are_found() {
    for watch in WATCHES {
        let place = Place::new(watch).with("paths = [\"{folder}/log/**/app-?/*.log\"]");
        let running = place.start();
        for app in ["app-1", "x/y/app-2", "app-33"] {
            let folder = running.log(app);
            fs::create_dir_all(&folder).unwrap();
            append(&folder.join("a.log"), &format!("{app}\n"));
        }
        running.wait_for_lines(2);
        append(&running.log("app-1/b.log"), "b\n");
        running.wait_for_lines(3);
        let (place, _) = running.stop();
        let mut lines = place.lines();
        lines.sort();
        assert_eq!(lines, ["app-1", "b", "x/y/app-2"]);
    }
}

#[test]
fn a_link_on_the_way_that_leads_elsewhere_is_followed_there() {
    for watch in WATCHES {
        let place = Place::new(watch).with("paths = [\"{folder}/log/current/*.log\"]");
        for version in ["v1", "v2"] {
            fs::create_dir(place.log(version)).unwrap();
        }
        append(&place.log("v1/a.log"), &line(0));
        std::os::unix::fs::symlink("v1", place.log("current")).unwrap();
        let running = place.start();
        running.wait_for_lines(1);
        append(&running.log("v2/a.log"), &line(1));
        std::os::unix::fs::symlink("v2", running.log("next")).unwrap();
        fs::rename(running.log("next"), running.log("current")).unwrap();
        running.wait_for_lines(2);
        append(&running.log("v2/a.log"), &line(2));
        running.wait_for_lines(3);
        running.stop().0.check_exact(3);
    }
}

#[test]
fn a_thousand_files_are_followed() {
    for watch in WATCHES {
        let place = Place::new(watch).with("max_open_files = 100");
        for n in 0..1000 {
            append(&place.log(&format!("{n}.log")), &line(n));
        }
        let running = place.start();
        running.wait_for_lines(1000);
        for n in 0..1000 {
            append(&running.log(&format!("{n}.log")), &line(1000 + n));
        }
        running.wait_for_lines(2000);
        let (place, ended) = running.stop();
        let mut numbers = place.numbers();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..2000), "{watch}");
        let counts = ended.log.iter().find(|it| it["event"] == "file_counts");
        assert_eq!(counts.unwrap()["files"], 1000);
    }
}

#[test]
fn what_is_no_file_is_refused_with_a_word() {
    let place = Place::new("inotify");
    nix::unistd::mkfifo(&place.log("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(place.log("folder.log")).unwrap();
    append(&place.log("a.log"), &line(0));
    std::os::unix::fs::symlink("a.log", place.log("link.log")).unwrap();
    let running = place.start();
    let refused = running.daemon.wait_for("file_refused");
    assert!(refused["path"].as_str().unwrap().ends_with("fifo.log"));
    running.wait_for_lines(1);
    // The link leads to what is read already.
    append(&running.log("a.log"), &line(1));
    running.wait_for_lines(2);
    let (place, ended) = running.stop();
    place.check_exact(2);
    let refused = ended.log.iter().filter(|it| it["event"] == "file_refused");
    assert_eq!(refused.count(), 1);
}

#[test]
fn a_link_that_others_planted_is_not_followed() {
    const NAME: &str = "a_link_that_others_planted_is_not_followed";
    if !nix::unistd::geteuid().is_root() {
        return crate::skips::skip(NAME, "only root can give files to others");
    }
    let place = Place::new("inotify");
    let secret = place.folder.path().join("secret");
    append(&secret, "secret\n");
    std::os::unix::fs::symlink(&secret, place.log("a.log")).unwrap();
    std::os::unix::fs::lchown(place.log("a.log"), Some(65534), Some(65534)).unwrap();
    append(&place.log("b.log"), &line(0));
    let running = place.start();
    running.wait_for_lines(1);
    let unreadable = running.daemon.wait_for("file_unreadable");
    assert!(
        unreadable["why"]
            .as_str()
            .unwrap()
            .contains("symbolic link")
    );
    running.stop().0.check_exact(1);
}

#[test]
fn long_lines_are_cut_and_the_rest_is_left_out() {
    for watch in WATCHES {
        let place = Place::new(watch).with("max_message = \"1KiB\"");
        let long = "x".repeat(700_000);
        append(&place.log("a.log"), &format!("a\n{long}\nb\n\n\nc\n"));
        let running = place.start();
        running.wait_for_lines(4);
        append(&running.log("a.log"), &long);
        running.wait_for_lines(5);
        append(&running.log("a.log"), &format!("{long}\nd\n"));
        running.wait_for_lines(6);
        let (place, ended) = running.stop();
        let cut = &long[..1024];
        assert_eq!(place.lines(), ["a", cut, "b", "c", cut, "d"]);
        assert_eq!(ended.source("in", "truncated"), 2);
        let skipped = 3 * long.len() as u64 - 2 * 1024;
        assert_eq!(ended.source("in", "skipped_bytes"), skipped);
        assert_eq!(ended.source("in", "empty_frames"), 2);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_said_once_and_read_when_it_can() {
    const NAME: &str = "a_file_that_cannot_be_read_is_said_once_and_read_when_it_can";
    if nix::unistd::geteuid().is_root() {
        return crate::skips::skip(NAME, "root reads every file");
    }
    let place = Place::new("inotify");
    let path = place.log("a.log");
    append(&path, &line(0));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let running = place.start();
    running.daemon.wait_for("file_unreadable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    running.wait_for_lines(1);
    let (place, ended) = running.stop();
    place.check_exact(1);
    let said = ended
        .log
        .iter()
        .filter(|it| it["event"] == "file_unreadable");
    assert_eq!(said.count(), 1);
}

#[test]
fn hidden_and_excluded_files_are_left_out() {
    let place = Place::new("inotify").with("exclude = [\"*.gz\", \"{folder}/log/b.*\"]");
    for name in ["a.log", "b.log", ".c.log", "d.log.gz"] {
        append(&place.log(name), &format!("{name}\n"));
    }
    let running = place.start();
    running.wait_for_lines(1);
    let (place, _) = running.stop();
    assert_eq!(place.lines(), ["a.log"]);
}

#[test]
fn where_nobody_tells_it_is_said_once() {
    let running = Place::new("poll").start();
    append(&running.log("a.log"), &line(0));
    running.wait_for_lines(1);
    let (place, ended) = running.stop();
    place.check_exact(1);
    let said = ended.log.iter().filter(|it| it["event"] == "files_polled");
    assert_eq!(said.count(), 0, "it was asked for");
}

#[test]
fn an_idle_source_makes_no_system_call() {
    let running = Place::new("inotify").start();
    append(&running.log("a.log"), &line(0));
    running.wait_for_lines(1);
    // The checkpoint is synced a second later, and then there is nothing more to do.
    std::thread::sleep(Duration::from_secs(3));
    let pid = running.daemon.id();
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let count = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(count).sum::<u64>()
    };
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(), before);
    append(&running.log("a.log"), &line(1));
    running.wait_for_lines(2);
    running.stop().0.check_exact(2);
}
