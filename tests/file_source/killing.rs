//! `kill -9` at random moments: nothing is lost, and what comes twice is within its bound.
//!
//! A logger goes on and rotates all the while; the daemon is started again each time.
#![allow(clippy::print_stdout)] // the numbers are what one looks at

use std::time::Duration;

use super::Place;
use super::logger::Logger;

/// Kills in a row.
const KILLS: u64 = 25;

#[test]
fn f_117_killed_at_random_moments_nothing_is_lost() {
    for watch in super::WATCHES {
        let mut place = Place::new(watch);
        let mut logger = Logger::new(&place.log("a.log"));
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..KILLS {
            let running = place.start();
            for _ in 0..draw(30) {
                logger.write(draw(600));
                std::thread::sleep(Duration::from_micros(draw(3000)));
                if draw(10) == 0 {
                    logger.rotate(9);
                    logger.write(draw(100));
                    logger.reopen();
                }
            }
            std::thread::sleep(Duration::from_micros(draw(20_000)));
            place = running.kill();
        }
        let running = place.start();
        super::wait_until("all lines", || {
            let numbers: std::collections::HashSet<u64> =
                super::lines(&running.daemon.path("out.txt"))
                    .iter()
                    .filter_map(|line| super::logger::number(line))
                    .collect();
            let missing = logger.count() - numbers.len() as u64;
            (missing == 0)
                .then_some(())
                .ok_or(format!("{missing} missing"))
        });
        let (place, _) = running.stop();
        let lines = place.lines();
        let doubled = lines.len() as u64 - logger.count();
        println!(
            "{watch}: {KILLS} kills, {} lines, 0 lost, {doubled} doubled",
            logger.count()
        );
        // Half a window for each: what is on its way, and was acknowledged in the last 20 ms.
        assert!(doubled < KILLS * 5_000, "{doubled} lines came twice");
    }
}
