//! Killed: with a buffer in memory, fifty times in a row, and by the kernel for its memory.
//!
//! How quick a start is, is told by how many segments it opens, not by the clock: the clock of a
//! busy machine says little.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Daemon, PATIENCE, config, end, http, last_life, post_all, until, with_daemon};
use crate::crashes::collector::Collector;
use crate::crashes::load::Client;
use crate::process::count;
use crate::skips::skip;

#[test]
fn f_006_killed_with_a_memory_buffer_only_what_was_not_acknowledged_is_lost() {
    let collector = Collector::new();
    let config = config(&collector).replace("buffer.disk = \"8MiB\"\n", "");
    // It reads slowly, so that there is something under way whenever the kill comes.
    collector.pause_after_each_line(Duration::from_micros(20));
    collector.listen();
    let mut folder = tempfile::tempdir().unwrap();
    let mut client = Client::new();
    for life in 0..10 {
        // What an earlier life sent is read before what this one sends.
        until("all was read", || collector.is_idle());
        let daemon = Daemon::launch_in(folder, &config, |_| {});
        let address = http(&daemon);
        client.connection = None;
        post_all(&mut client, address, life % 4);
        std::thread::scope(|scope| {
            let posting = scope.spawn(|| while client.post(address).is_ok() {});
            std::thread::sleep(Duration::from_millis(7 * life as u64));
            daemon.signal(Signal::SIGKILL);
            posting.join().unwrap();
        });
        folder = daemon.wait().folder;
    }
    until("all was read", || collector.is_idle());
    let verdict = last_life(folder, &config, collector, &client);
    let lost = client.issued - verdict.acked;
    println!("acknowledged {}, of {} sent", verdict.acked, client.issued);
    assert!(verdict.acked > 0 && lost > 0, "no kill was in the midst");
}

#[test]
fn f_007_killed_fifty_times_in_a_row_every_start_does_little_and_none_fails() {
    const KILLS: usize = 50;
    let collector = Collector::new();
    let config = config(&collector).replace("8MiB", "64MiB");
    let mut folder = tempfile::tempdir().unwrap();
    let mut client = Client::new();
    let mut slowest = Duration::ZERO;
    for life in 0..KILLS {
        let start = std::time::Instant::now();
        let daemon = Daemon::launch_in(folder, &config, |_| {});
        let address = http(&daemon);
        slowest = slowest.max(start.elapsed());
        let opened = daemon.wait_for("buffer_opened");
        assert!(count(&opened, "segments_opened") <= 2, "{opened}");
        client.connection = None;
        // One of three does nothing but start, one is killed at once after its last answer.
        post_all(&mut client, address, life % 3);
        if life % 3 == 2 {
            std::thread::sleep(Duration::from_millis(life as u64 % 7));
        }
        daemon.signal(Signal::SIGKILL);
        folder = daemon.wait().folder;
    }
    println!("{KILLS} kills: the slowest start took {slowest:?}");
    last_life(folder, &config, collector, &client);
}

#[test]
fn f_007_a_large_backlog_does_not_hold_up_the_start() {
    const BYTES: u64 = 256 << 20;
    let collector = Collector::new();
    let more = "buffer.durability = \"os\"\n";
    let config = config(&collector).replace("8MiB", "512MiB") + more;
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    let mut client = Client::new();
    let requests = BYTES / (crate::crashes::load::EVENTS * 1000) + 1;
    post_all(&mut client, address, requests as usize);
    daemon.signal(Signal::SIGKILL);
    let folder = daemon.wait().folder;
    let start = std::time::Instant::now();
    let daemon = Daemon::launch_in(folder, &config, |_| {});
    http(&daemon);
    let took = start.elapsed();
    let opened = daemon.wait_for("buffer_opened");
    assert!(count(&opened, "used_bytes") >= BYTES, "{opened}");
    assert_eq!(count(&opened, "recovered"), client.issued);
    assert!(count(&opened, "segments_opened") <= 2, "{opened}");
    println!("{BYTES} bytes of backlog: up after {took:?}");
    assert_eq!(daemon.stop().code(), 0);
}

/// A control group for memory, which goes when it is dropped: version 2 where that has memory
/// to control, else version 1.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Group, String> {
        let name = format!("marline-test-{}", std::process::id());
        let controls = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        let is_second = controls.is_ok_and(|list| list.split_whitespace().any(|c| c == "memory"));
        let (root, file) = if is_second {
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let group = Group(PathBuf::from(root).join(name));
        let made = std::fs::create_dir(&group.0);
        made.map_err(|error| format!("{}: {error}", group.0.display()))?;
        let limit = std::fs::write(group.0.join(file), LIMIT_BYTES.to_string());
        limit.map_err(|error| format!("{file}: {error}"))?;
        Ok(group)
    }

    fn take(&self, daemon: &Daemon) -> Result<(), String> {
        let file = self.0.join("cgroup.procs");
        std::fs::write(file, daemon.id().to_string()).map_err(|error| error.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What the group may have, in bytes.
const LIMIT_BYTES: u64 = 64 << 20;

#[test]
fn f_008_killed_for_its_memory_nothing_acknowledged_is_lost() {
    const NAME: &str = "f_008_killed_for_its_memory_nothing_acknowledged_is_lost";
    let collector = Collector::new();
    let config = with_daemon(&config(&collector), "memory = \"4GiB\"");
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => return skip(NAME, &why),
    };
    let daemon = Daemon::launch(&config, |_| {});
    let address = http(&daemon);
    if let Err(why) = group.take(&daemon) {
        return skip(NAME, &why);
    }
    let mut client = Client::new();
    post_all(&mut client, address, 5);
    // Bodies that never end are held in memory, which the configuration allows.
    let mut bodies = Vec::new();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let part = vec![b'x'; 15 << 20];
            while !daemon.has_ended() && bodies.len() < 64 {
                let Ok(mut body) = TcpStream::connect(address) else {
                    break;
                };
                body.set_write_timeout(Some(PATIENCE)).unwrap();
                let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 16000000\r\n\r\n";
                let _ = body.write_all(head.as_bytes());
                let _ = body.write_all(&part);
                bodies.push(body);
            }
        });
        while !daemon.has_ended() && client.post(address).is_ok() {}
        flood.join().unwrap();
    });
    let ended = daemon.wait();
    assert_eq!(ended.status.signal(), Some(Signal::SIGKILL as i32));
    let verdict = last_life(ended.folder, &config, collector, &client);
    println!("killed by the kernel: {verdict:?}");
}

#[test]
fn f_006_the_books_of_a_life_that_is_not_killed_are_even() {
    // What the kills are compared with: nothing lost, nothing twice.
    let collector = Collector::new();
    let config = config(&collector).replace("buffer.disk = \"8MiB\"\n", "");
    collector.listen();
    let daemon = Daemon::launch(&config, |_| {});
    let mut client = Client::new();
    post_all(&mut client, http(&daemon), 10);
    let (_, verdict) = end(daemon, collector, &client);
    assert_eq!((verdict.acked, verdict.doubled), (client.issued, 0));
}
