//! Whether the destination takes what it is sent, and since when not.
//!
//! One request is under way at a time, so that while it fails there is one attempt at a time,
//! each at its back-off. A failure is news when it is the first, or the first for its reason
//! (F-099); a success is news after failures.

use crate::time::{Duration, Instant};

/// What is known of the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Circuit {
    /// It took what it was sent last, or nothing was sent yet.
    #[default]
    Up,
    /// It did not.
    Failing(Failing),
}

/// An outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    /// When the first attempt failed.
    pub(super) since: Instant,
    /// Attempts that have failed since then.
    pub(super) attempts: u64,
    /// When the next one is made.
    pub(super) next_try: Instant,
    /// Why the last one failed.
    pub(super) why: String,
}

impl Circuit {
    /// An attempt failed for `why`, the next is `pause` from `now`. Says whether that is news.
    pub(super) fn failed(&mut self, now: Instant, pause: Duration, why: &str) -> bool {
        let (since, attempts, is_news) = match self {
            Circuit::Up => (now, 0, true),
            Circuit::Failing(failing) => (failing.since, failing.attempts, failing.why != why),
        };
        *self = Circuit::Failing(Failing {
            since,
            attempts: attempts + 1,
            next_try: now + pause,
            why: why.to_owned(),
        });
        is_news
    }

    /// It answered. Gives the outage that is over, if there was one.
    pub(super) fn works(&mut self) -> Option<Failing> {
        match std::mem::take(self) {
            Circuit::Up => None,
            Circuit::Failing(failing) => Some(failing),
        }
    }

    /// What an operator should know, if anything.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let Circuit::Failing(failing) = self else {
            return None;
        };
        let Failing {
            since,
            attempts,
            next_try,
            why,
        } = failing;
        let (past, next) = (now.since(*since).as_secs(), next_try.since(now).as_secs());
        Some(format!(
            "{why} ({attempts} attempts in {past} s, the next in {next} s)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_099_an_outage_is_news_once_per_reason_and_when_it_ends() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let pause = Duration::from_secs(2);
        let mut circuit = Circuit::default();
        assert_eq!(circuit.trouble(at(0)), None);
        let attempts = ["a", "a", "b", "b", "a"].into_iter().zip(5..);
        let news: Vec<bool> = attempts
            .map(|(why, second)| circuit.failed(at(second), pause, why))
            .collect();
        assert_eq!(news, [true, false, true, false, true]);
        let trouble = circuit.trouble(at(10));
        let expected = "a (5 attempts in 5 s, the next in 1 s)";
        assert_eq!(trouble.as_deref(), Some(expected));
        let over = circuit.works().unwrap();
        assert_eq!((over.since, over.attempts), (at(5), 5));
        assert_eq!((circuit.works(), circuit), (None, Circuit::Up));
    }
}
