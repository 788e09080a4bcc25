//! The real logrotate, with the ways in which it is mostly told to rotate.
//!
//! Run by force, round after round, while a logger goes on.

use std::fs;
use std::process::Command;

use super::logger::Logger;
use super::{Place, Running, WATCHES};
use crate::skips::skip;

/// Rotates by force.
fn logrotate(running: &Running, how: &str) {
    let log = running.log("a.log");
    let log = log.display();
    let config = running.daemon.path("rotate.conf");
    fs::write(
        &config,
        format!("su root root\n{log} {{\nrotate 20\n{how}\n}}\n"),
    )
    .unwrap();
    let state = running.daemon.path("rotate.state");
    let mut command = Command::new("logrotate");
    let ended = command.arg("-f").arg("-s").arg(state).arg(config).status();
    assert!(ended.unwrap().success());
}

#[test]
fn logrotate_loses_and_doubles_nothing() {
    const NAME: &str = "logrotate_loses_and_doubles_nothing";
    let is_there = Command::new("logrotate").arg("--version").output().is_ok();
    if !is_there || !nix::unistd::geteuid().is_root() {
        return skip(NAME, "there is no logrotate, or it is not run by root");
    }
    for watch in WATCHES {
        for how in [
            "create",
            "create\ncompress",
            "copytruncate",
            "copytruncate\ncompress",
        ] {
            let running = Place::new(watch).start();
            let mut logger = Logger::new(&running.log("a.log"));
            for _ in 0..6 {
                logger.write(2000);
                let copies = how.starts_with("copy");
                if copies {
                    running.wait_for_lines(logger.count() as usize);
                }
                logrotate(&running, how);
                if !copies {
                    // Who logs has been told before its old file is compressed.
                    logger.write(if how.contains("compress") { 0 } else { 200 });
                    logger.reopen();
                }
            }
            logger.write(100);
            running.wait_for_lines(logger.count() as usize);
            std::thread::sleep(std::time::Duration::from_secs(1));
            let (place, _) = running.stop();
            let mut numbers = place.numbers();
            numbers.sort_unstable();
            assert!(
                numbers.iter().copied().eq(0..logger.count()),
                "{watch}: {how}"
            );
        }
    }
}
