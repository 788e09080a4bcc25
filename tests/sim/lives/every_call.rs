//! A life ends at every call of the disk of one recorded run, once before and once after it.
//!
//! The run is small: one sender, one sink with a disk buffer, nothing else goes wrong. It is run
//! once as it is, which counts the calls of each kind; then as often as there were calls, and is
//! judged each time as every other. The table says how far each kind was taken.

use std::sync::Mutex;
use std::time::Duration;

use marline::sim::{Death, Moment, StorageCall};

use super::super::suite::for_all_seeds;
use super::plan::{Dying, Plan, When};
use super::{Report, run_plan};

/// Calls that change something, or make it durable.
const CALLS: [StorageCall; 8] = [
    StorageCall::Open,
    StorageCall::Write,
    StorageCall::Sync,
    StorageCall::DirectorySync,
    StorageCall::Rename,
    StorageCall::Unlink,
    StorageCall::Truncate,
    StorageCall::Allocate,
];

/// What came of all the ends on one kind of call.
#[derive(Default)]
struct Came {
    /// The last call on which a life ended.
    last: u64,
    /// Runs in which one did.
    runs: u64,
    /// Of these, how many ended before the daemon had started.
    in_start: u64,
    doubled: u64,
    failures: Vec<String>,
}

impl Came {
    fn add(&mut self, number: u64, report: &Report) {
        let end = report.ended.last().unwrap();
        if end.on.is_some() {
            self.last = self.last.max(number);
            self.runs += 1;
            self.in_start += u64::from(end.in_start);
            self.doubled += report.doubled;
        }
    }

    fn tell(&self, call: StorageCall) {
        println!(
            "sim: {call:?}: a life ended on each up to the {}th, {} runs, {} of them in the start; \
             0 lines lost, {} came again",
            self.last, self.runs, self.in_start, self.doubled
        );
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }
}

/// After `before`, ends a life on each of `calls` calls, before and after its effect, by a kill
/// and by a power cut. Some of the last may never come: those of a stop, which is not reached.
fn sweep(before: &[Dying], call: StorageCall, calls: u64) -> Came {
    let came = Mutex::new(Came::default());
    for_all_seeds(1, calls, |number| {
        for moment in [Moment::Before, Moment::After] {
            for death in [Death::Killed, Death::PowerCut] {
                let dying = Dying {
                    death,
                    when: When::Call(call, number, moment),
                    pause: Duration::from_millis(100),
                };
                let deaths = before.iter().copied().chain([dying]);
                let outcome = run_plan(Plan::small(deaths.collect()));
                let mut came = came.lock().unwrap();
                match outcome {
                    Err(why) => came.failures.push(format!("{dying:?}: {why}")),
                    Ok(report) => came.add(number, &report),
                }
            }
        }
        true
    });
    came.into_inner().unwrap()
}

#[test]
fn f_002_a_life_may_end_on_any_call_of_the_disk() {
    let recorded = run_plan(Plan::small(Vec::new())).unwrap();
    for call in CALLS {
        let came = sweep(&[], call, recorded.calls[call as usize].1);
        came.tell(call);
        let is_vital = matches!(call, StorageCall::Write | StorageCall::Sync);
        assert!(came.runs >= 12 || !is_vital, "hardly any {call:?}");
    }
}

#[test]
fn f_003_a_recovery_may_end_on_any_call_of_the_disk_and_is_repeated() {
    let mut in_start = 0;
    for death in [Death::Killed, Death::PowerCut] {
        let before = Dying {
            death,
            when: When::Call(StorageCall::Sync, 4, Moment::Before),
            pause: Duration::from_millis(100),
        };
        for call in CALLS {
            let came = sweep(&[before], call, RECOVERY_CALLS);
            came.tell(call);
            in_start += came.in_start;
        }
    }
    assert!(in_start > 20, "only {in_start} ended in a recovery");
}

/// Of each kind a recovery makes fewer.
const RECOVERY_CALLS: u64 = 12;
