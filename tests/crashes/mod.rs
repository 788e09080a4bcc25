//! The real binary is killed, and the machine's power fails: what was acknowledged is there.
//!
//! Every run has two lives on one folder. In the first, requests with numbered events are posted
//! to an `http` source whose sink has a disk buffer; its collector is away at first and comes
//! back half way, so that segments are made, filled, read and deleted. The daemon is killed at
//! some point of that. In the second life it starts again, delivers, and stops. Then the judge
//! counts: nothing acknowledged is missing, nothing is there that was not sent, nothing is
//! changed, and what came twice is within what a crash may repeat.
#![allow(clippy::print_stdout)] // the tables are what one looks at

pub mod collector;
pub mod judge;
mod kills;
pub mod load;
pub mod power;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Daemon, PATIENCE};

use collector::Collector;
use judge::{Verdict, judge};
use load::Client;

/// Requests before the collector is there, and all.
const REQUESTS_BEFORE: usize = 9;
const REQUESTS: usize = 12;
/// Steps in which all of it is delivered.
const DELIVERIES: usize = 8;

/// What happened in a run.
struct Run {
    verdict: Verdict,
    /// Whether the first life ended before it was told to stop.
    was_killed: bool,
}

/// How far the first life has come, for who ends it.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicUsize>);

impl Progress {
    fn reach(&self, step: usize) {
        self.0.fetch_max(step, Ordering::Relaxed);
    }

    /// Waits for a random request to be answered, or for a random part of all to be delivered,
    /// and a random moment more.
    fn random_moment(&self, random: &mut u64) {
        let mut draw = |below: u64| {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*random >> 33) % below
        };
        let requests = draw((REQUESTS + DELIVERIES + 1) as u64) as usize;
        let start = Instant::now();
        while self.0.load(Ordering::Relaxed) < requests && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_micros(draw(40_000)));
    }
}

/// The configuration: `{folder}` is the daemon's, `state_dir` may be elsewhere.
fn config(state_dir: &str, collector: u16) -> String {
    format!(
        "[daemon]\nstate_dir = \"{state_dir}\"\nlog.format = \"json\"\nadmin = \"off\"\n\
         [source.in]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:{collector}\"\n\
         encode = \"raw\"\nretry.max_delay = \"1s\"\nbuffer.disk = \"8MiB\"\n"
    )
}

/// Two lives; the first one under `adjust`, with `in_between` after its end.
fn run(
    folder: TempDir,
    state_dir: &str,
    adjust: impl FnOnce(&mut Command),
    trouble: impl FnOnce(&Daemon, &Progress) + Send,
    in_between: impl FnOnce(&Path),
) -> Run {
    let collector = Collector::new();
    let config = config(state_dir, collector.port());
    let first = Daemon::launch_in(folder, &config, adjust);
    let mut client = Client::new();
    let was_killed = first_life(&first, &collector, &mut client, trouble);
    let ended = if was_killed {
        first.wait()
    } else {
        first.signal(Signal::SIGTERM);
        first.wait()
    };
    let was_killed = was_killed || ended.status.code() != Some(0);
    in_between(ended.folder.path());
    collector.listen();
    let second = Daemon::launch_in(ended.folder, &config, |_| {});
    second.wait_for("started");
    let start = Instant::now();
    while !collector.has_all(&client.acked) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = second.stop();
    assert_eq!(ended.code(), 0, "the second life ends well");
    let received = collector.end();
    let verdict = judge(&client, &received).unwrap_or_else(|why| {
        let log: Vec<String> = ended
            .log
            .iter()
            .map(|record| format!("  {record}\n"))
            .collect();
        panic!("{why}\nthe second life's log:\n{}", log.concat())
    });
    Run {
        verdict,
        was_killed,
    }
}

/// Posts until all is sent or the daemon is gone; answers whether it is gone.
fn first_life(
    daemon: &Daemon,
    collector: &Collector,
    client: &mut Client,
    trouble: impl FnOnce(&Daemon, &Progress) + Send,
) -> bool {
    let Some(address) = daemon.try_http_address() else {
        return true;
    };
    std::thread::scope(|scope| {
        let progress = Progress::default();
        let seen = progress.clone();
        scope.spawn(move || trouble(daemon, &seen));
        for request in 0..REQUESTS {
            if request == REQUESTS_BEFORE {
                collector.listen();
            }
            if client.post(address).is_err() {
                progress.reach(usize::MAX);
                return true;
            }
            progress.reach(request + 1);
        }
        // The buffer is drained, its segments deleted, its cursor written.
        let start = Instant::now();
        while !collector.has_all(&client.acked) {
            let delivered = collector.count() * DELIVERIES as u64 / client.issued.max(1);
            progress.reach(REQUESTS + delivered as usize);
            if start.elapsed() > PATIENCE || daemon.has_ended() {
                progress.reach(usize::MAX);
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        progress.reach(usize::MAX);
        false
    })
}
