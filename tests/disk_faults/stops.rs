//! Told to stop while the sink is down, and while a sync hangs.
//!
//! What is on disk holds no stop up, and what cannot be brought there is not acknowledged.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    Daemon, NO_STRACE, can_trace, config, http, last_life, post_all, under_strace, with_daemon,
};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;
use crate::faults::watchdog::Tracer;
use crate::skips::skip;

#[test]
fn f_014_a_stop_while_the_sink_is_down_leaves_all_on_the_disk_and_takes_no_time() {
    let collector = Collector::new();
    let config = config(&collector);
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, 12);
    let start = Instant::now();
    let ended = daemon.stop();
    let took = start.elapsed();
    assert_eq!(ended.code(), 0, "{:#?}", ended.log.last());
    // A sixth of the limit (`stop_timeout`, a minute), for the slowest of machines.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(ended.sink("out", "dropped"), 0);
    assert_eq!(ended.sink("out", "buffered"), client.issued);
    println!(
        "the stop took {took:?} with {} events on disk",
        client.issued
    );
    let verdict = last_life(ended.folder, &config, collector, &client);
    assert_eq!(verdict.doubled, 0, "nothing had been delivered");
}

#[test]
fn f_021_a_stop_while_a_sync_hangs_ends_at_the_deadline_and_says_so() {
    const NAME: &str = "f_021_a_stop_while_a_sync_hangs_ends_at_the_deadline_and_says_so";
    if !can_trace() {
        return skip(NAME, NO_STRACE);
    }
    let collector = Collector::new();
    let config = config(&collector);
    let limited = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&limited, |command| {
        // Ten minutes, in microseconds: for ever.
        under_strace(command, "fdatasync", "delay_enter=600000000:when=4+");
    });
    let address = http(&daemon);
    let mut client = Client::new();
    let (client, ended) = std::thread::scope(|scope| {
        let (told, hears) = std::sync::mpsc::channel();
        let posting = scope.spawn(move || {
            while client.post(address).is_ok_and(|status| status == 200) {
                told.send(()).unwrap();
            }
            client
        });
        // The answers come to an end: what is posted then hangs in a sync.
        let mut answers = 0;
        while hears.recv_timeout(Duration::from_secs(3)).is_ok() {
            answers += 1;
        }
        assert!(answers > 0, "nothing was ever acknowledged");
        let tracer = Tracer::of(&daemon);
        daemon.signal(Signal::SIGTERM);
        // The tracer does not let go of what it holds up, not even when it is dead.
        daemon.wait_for("stopped");
        drop(tracer);
        let ended = daemon.wait();
        (posting.join().unwrap(), ended)
    });
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    let stopped = ended
        .log
        .iter()
        .find(|it| it["event"] == "stopped")
        .unwrap();
    assert!(
        crate::process::count(stopped, "took_ms") < 5_000,
        "{stopped}"
    );
    assert!(
        stopped["cut"].as_str().unwrap().contains("350 events"),
        "{stopped}"
    );
    println!("it ended so: {stopped}");
    last_life(ended.folder, &config, collector, &client);
}
