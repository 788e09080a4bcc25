//! A collector that dies over unread bytes, with a disk buffer behind it.
//!
//! What its kernel had acknowledged counts as delivered no sooner than nobody may have to send it
//! again: the cursor trails by what is kept for that.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Daemon, config, end, http, last_life, post_all, sink, until, until_delivered};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;

/// Lines that the collector reads before it stands still.
const READ: u64 = 700;
const REQUESTS: usize = 12;

/// A collector that stands still over unread bytes, and a daemon with more for it.
fn standing() -> (Daemon, Collector, Client, String) {
    let collector = Collector::new();
    collector.stand_after(READ);
    collector.listen();
    let config = config(&collector);
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    post_all(&mut client, address, REQUESTS);
    until("it stands still", || collector.count() == READ);
    // Until its kernel has taken what it can, and the cursor had its second to follow.
    let (mut last, mut same) = (0, 0);
    until("its kernel is full", || {
        std::thread::sleep(Duration::from_millis(100));
        let seen = sink(&daemon)["ledger"]["in_flight"].as_u64().unwrap();
        same = if seen == last { same + 1 } else { 0 };
        last = seen;
        same > 15
    });
    (daemon, collector, client, config)
}

#[test]
fn a_reset_over_unread_bytes_loses_nothing_that_a_disk_buffer_has_let_go() {
    let (daemon, collector, client, _) = standing();
    collector.die();
    until_delivered(&collector, &client);
    let (ended, verdict) = end(daemon, collector, &client);
    let replayed = ended.sink("out", "replayed");
    println!(
        "{replayed} events were sent again, {} came twice",
        verdict.doubled
    );
    assert!(replayed > 0, "nothing was unread");
}

#[test]
fn killed_together_with_its_collector_the_daemon_has_all_that_was_unread() {
    let (daemon, collector, client, config) = standing();
    daemon.signal(Signal::SIGKILL);
    collector.die();
    let ended = daemon.wait();
    let read = collector.count();
    let verdict = last_life(ended.folder, &config, collector, &client);
    println!("{read} were read before, {} came twice", verdict.doubled);
    assert!(read < verdict.acked, "everything had been read");
}
