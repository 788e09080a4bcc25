//! The virtual clock: time that moves when somebody moves it.
//!
//! The simulated poller moves it by what it would have slept. [`VirtualClock::drive`] takes turns
//! of a reactor until a span has passed, deadline by deadline, so a timer sees the very time it
//! was set for. Wall time begins at 2026-01-01T00:00:00Z and moves along.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::reactor::{Reactor, ReactorError, Status};
use crate::time::{Clock, Instant, WallTime};

/// 2026-01-01T00:00:00Z in microseconds since the epoch.
const WALL_START: i64 = 1_767_225_600_000_000;
/// So many turns without time moving are a livelock.
const TURNS_AT_ONE_INSTANT_MAX: u32 = 100_000;

/// A clock for tests; clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<Instant>>);

/// Time cannot go on: something asks to be run again and again at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Livelock {
    /// The instant.
    pub at: Instant,
    /// How many turns were taken there.
    pub turns: u32,
}

impl fmt::Display for Livelock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.since(Instant::ZERO);
        let turns = self.turns;
        write!(
            f,
            "livelock: {turns} turns at {at:?} and there is still something to do"
        )
    }
}

impl std::error::Error for Livelock {}

impl VirtualClock {
    /// A clock at [`Instant::ZERO`].
    pub fn new() -> Self {
        VirtualClock::default()
    }

    /// Moves the clock without running anything: what a callback that blocks does.
    pub fn move_by(&self, span: Duration) {
        self.0.set(self.0.get() + span);
    }

    /// Takes turns until `span` has passed and nothing is left to do at the last instant, or the
    /// reactor has ended.
    ///
    /// # Errors
    /// A [`Livelock`].
    ///
    /// # Panics
    /// When a turn fails, which a simulated poller never does.
    pub fn drive(&self, reactor: &mut Reactor, span: Duration) -> Result<Status, Livelock> {
        let until = self.now() + span;
        let mut turns = 0;
        loop {
            let before = self.now();
            let dispatches = reactor.handle().stats().dispatches;
            let status = match reactor.turn(Some(until.since(before))) {
                Ok(Status::Going) => Status::Going,
                Ok(ended) => return Ok(ended),
                Err(ReactorError::Ended) => return Ok(reactor.status()),
                Err(error) => panic!("a simulated turn failed: {error}"),
            };
            turns = if self.now() > before { 0 } else { turns + 1 };
            let handle = reactor.handle();
            let idle = handle.stats().dispatches == dispatches
                && handle.next_wait() != Some(Duration::ZERO);
            if self.now() >= until && idle {
                return Ok(status);
            }
            if turns > TURNS_AT_ONE_INSTANT_MAX {
                let at = self.now();
                return Err(Livelock { at, turns });
            }
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        self.0.get()
    }

    fn wall(&self) -> WallTime {
        let micros = self.0.get().as_nanos() / 1000;
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        WallTime::from_micros(WALL_START.saturating_add(micros))
    }
}
