//! What the reactor watches of itself: counts, loop lag, callbacks that take too long.
//!
//! Lag is the time from one wait to the next: for so long nobody else was served. A callback
//! over the limit is named with the place where it was handed to the reactor; at most one such
//! warning is written a second, and it says how many were left out.

use std::cell::Cell;
use std::time::Duration;

use super::core::{Options, Place};
use crate::telemetry::events::SlowCallback;
use crate::time::Instant;

/// The least time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What a reactor has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Waits, and what followed each.
    pub turns: u64,
    /// Foreign calls: handlers, timers, notifications, calls of other threads.
    pub dispatches: u64,
    /// The most foreign calls that were on the stack at once so far: 1, or there is a bug.
    pub dispatch_depth_peak: u32,
    /// Timers among the dispatches.
    pub timers_fired: u64,
    /// Foreign calls that panicked.
    pub panics: u64,
    /// Foreign calls that took longer than [`Options::slow_callback`].
    pub slow_callbacks: u64,
    /// How long the last complete turn kept everybody waiting.
    pub lag: Duration,
    /// The greatest lag so far.
    pub lag_peak: Duration,
    /// By how much the latest timer was late, at most, so far.
    pub timer_late_peak: Duration,
    /// Registered sources, the reactor's own included.
    pub sources: usize,
    /// Sources on the ready list.
    pub ready: usize,
    /// Pending timers.
    pub timers: usize,
    /// Unfinished futures.
    pub tasks: usize,
    /// Unfinished jobs on other threads.
    pub jobs: usize,
}

pub(super) struct Watch {
    stats: Cell<Stats>,
    /// When the last wait ended.
    awake_since: Cell<Instant>,
    next_warning: Cell<Instant>,
    warnings_left_out: Cell<u64>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Watch {
        Watch {
            stats: Cell::default(),
            awake_since: Cell::new(now),
            next_warning: Cell::new(now),
            warnings_left_out: Cell::new(0),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats.get()
    }

    fn update(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    pub(super) fn turn_begins(&self, now: Instant) {
        self.awake_since.set(now);
    }

    pub(super) fn turn_ends(&self, now: Instant) {
        let lag = now.since(self.awake_since.get());
        self.update(|stats| {
            stats.turns += 1;
            stats.lag = lag;
            stats.lag_peak = stats.lag_peak.max(lag);
        });
    }

    pub(super) fn timer_fired(&self, late: Duration) {
        self.update(|stats| {
            stats.timers_fired += 1;
            stats.timer_late_peak = stats.timer_late_peak.max(late);
        });
    }

    pub(super) fn panicked(&self) {
        self.update(|stats| stats.panics += 1);
    }

    pub(super) fn dispatched(&self, place: Place, took: Duration, now: Instant, limits: &Options) {
        let slow = took > limits.slow_callback;
        self.update(|stats| {
            stats.dispatches += 1;
            stats.slow_callbacks += u64::from(slow);
        });
        if slow {
            self.warn(place, took, now);
        }
    }

    fn warn(&self, place: Place, took: Duration, now: Instant) {
        if now < self.next_warning.get() {
            self.warnings_left_out.set(self.warnings_left_out.get() + 1);
            return;
        }
        self.next_warning.set(now + WARNING_INTERVAL);
        SlowCallback {
            kind: place.kind,
            at: &place.at,
            took,
            left_out: self.warnings_left_out.replace(0),
        }
        .log();
    }
}
