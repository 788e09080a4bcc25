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

#[test]
fn f_117_what_was_not_acknowledged_is_read_again_after_a_kill() {
    use std::io::{BufRead, BufReader};
    // Bound, so that the port is its own, and not listening yet: whoever dials is refused.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let place = Place::new("inotify");
    let mut logger = Logger::new(&place.log("a.log"));
    logger.write(20_000);
    let config = place.config();
    let sink =
        format!("[sink.out]\ntype = \"socket\"\naddress = \"tcp://{address}\"\nencode = \"raw\"\n");
    let config = format!("{}{sink}", &config[..config.find("[sink.out]").unwrap()]);
    let first = crate::process::Daemon::launch_in(place.folder, &config, |_| {});
    first.wait_for("file_followed");
    // A window full of lines is on its way, and would be written as acknowledged by then.
    std::thread::sleep(Duration::from_millis(500));
    first.signal(nix::sys::signal::Signal::SIGKILL);
    let folder = first.wait().folder;
    socket.listen(1).unwrap();
    let second = crate::process::Daemon::launch_in(folder, &config, |_| {});
    let (stream, _) = std::net::TcpListener::from(socket).accept().unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let numbers = lines.map(|line| super::logger::number(&line));
    let wrong = (0..logger.count())
        .zip(numbers)
        .find(|(wanted, got)| Some(*wanted) != *got);
    assert_eq!(wrong, None);
    assert_eq!(second.stop().code(), 0);
}
