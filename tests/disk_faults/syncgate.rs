//! A sync that fails for real: the kernel drops what it could not write, forgets the error, and
//! shows what it does not have until its cache is dropped.
//!
//! The device of an ext4 without a journal ends all at once where it has the inodes and hardly
//! any data: what is written behind fails at the sync. Then it is whole again, and the next sync
//! of the same file would say that all is well, which it is not. (A backing file without room
//! would not do: the loop device takes a write that it could do half for a whole one.)

use nix::sys::signal::Signal;

use super::places::Place;
use super::{
    Daemon, config, end, http, last_life, post_until, until, until_delivered, with_daemon,
    with_state,
};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;
use crate::skips::skip;

/// Where the device ends when it is broken: behind the inodes.
const LIMIT_BYTES: u64 = 8 << 20;

struct Broken {
    place: Place,
    collector: Collector,
    config: String,
    daemon: Daemon,
    client: Client,
}

/// A daemon whose last sync has failed.
fn broken() -> Result<Broken, String> {
    let place = Place::ext4(&["-O", "^has_journal"], "errors=continue")?;
    if !std::path::Path::new(CACHES).exists() {
        return Err(format!("no {CACHES}"));
    }
    let collector = Collector::new();
    let config = config(&collector).replace("8MiB", "64MiB");
    let config = with_state(&config, &place.path().join("state"));
    let limited = with_daemon(&config, "stop_timeout = \"1s\"");
    let daemon = Daemon::launch(&limited, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    super::post_all(&mut client, address, 20);
    place.limit(LIMIT_BYTES)?;
    while daemon.records("buffer_failed").is_empty() {
        client.post(address).map_err(|error| error.to_string())?;
        assert!(client.issued < 100_000, "no sync ever failed");
    }
    Ok(Broken {
        place,
        collector,
        config,
        daemon,
        client,
    })
}

const CACHES: &str = "/proc/sys/vm/drop_caches";

/// What is not on the device is nowhere.
fn drop_caches() {
    std::fs::write(CACHES, "3").unwrap();
}

#[test]
fn f_044_killed_after_a_sync_that_failed_nothing_is_taken_from_the_cache_for_good() {
    const NAME: &str = "f_044_killed_after_a_sync_that_failed";
    let broken = match broken() {
        Ok(broken) => broken,
        Err(why) => return skip(NAME, &why),
    };
    let Broken {
        place,
        collector,
        config,
        daemon,
        client,
    } = broken;
    daemon.signal(Signal::SIGKILL);
    let ended = daemon.wait();
    place.limit(0).unwrap();
    // A second daemon opens what the kernel shows it; then the kernel shows what there is.
    let daemon = Daemon::launch_in(ended.folder, &config, |_| {});
    daemon.wait_for("started");
    drop_caches();
    collector.listen();
    until_delivered(&collector, &client);
    let (ended, verdict) = end(daemon, collector, &client);
    // Nor of what nobody was promised: what recovery took for there is there.
    assert_eq!(ended.sink("out", "dropped"), 0);
    println!("acknowledged before the sync failed: {}", verdict.acked);
    assert!(verdict.acked > 0);
}

#[test]
fn f_044_after_a_sync_that_failed_all_is_written_anew_and_the_old_file_is_not_believed() {
    const NAME: &str = "f_044_after_a_sync_that_failed_all_is_written_anew";
    let broken = match broken() {
        Ok(broken) => broken,
        Err(why) => return skip(NAME, &why),
    };
    let Broken {
        place,
        collector,
        config,
        daemon,
        mut client,
    } = broken;
    let address = http(&daemon);
    post_until(&mut client, address, 503, 40);
    place.limit(0).unwrap();
    until("it is well again", || client.post(address).unwrap() == 200);
    daemon.wait_for("buffer_recovered");
    daemon.signal(Signal::SIGKILL);
    let ended = daemon.wait();
    drop_caches();
    last_life(ended.folder, &config, collector, &client);
}
