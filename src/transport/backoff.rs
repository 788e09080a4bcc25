//! Delays between attempts: doubling, capped, jittered, reproducible from a seed.
//!
//! Without jitter the delays are d = 1, 2, 4, 8, 16, 30, 30 … s; each is drawn uniformly from
//! [d/2, d], so that a fleet whose server restarts does not come back in step, and none is
//! ever above the cap. When to start over is the caller's business: see `client`.

use crate::time::Duration;

/// The numbers of a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first delay, before jitter.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        BackoffOptions {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
        }
    }
}

/// The state of one back-off.
#[derive(Clone, Debug)]
pub struct Backoff {
    options: BackoffOptions,
    /// The next delay before jitter.
    next: Duration,
    random: u64,
}

impl Backoff {
    /// A back-off at its start; the same seed gives the same delays.
    pub fn new(options: BackoffOptions, seed: u64) -> Self {
        Backoff {
            next: options.initial.min(options.max),
            options,
            random: seed,
        }
    }

    /// The delay before the next attempt: uniform in [d/2, d].
    pub fn delay(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.options.max);
        let half = full / 2;
        let span = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(scale(self.random(), span))
    }

    /// The next delay is the first one again.
    pub fn reset(&mut self) {
        self.next = self.options.initial.min(self.options.max);
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): all that a jitter needs.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// `random` of 2^64 scaled to 0..=`span`.
fn scale(random: u64, span: u64) -> u64 {
    ((u128::from(random) * (u128::from(span) + 1)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: [u64; 8] = [1, 2, 4, 8, 16, 30, 30, 30];

    #[test]
    fn c_392_no_delay_is_above_the_cap() {
        let options = BackoffOptions {
            max: Duration::from_secs(60),
            ..BackoffOptions::default()
        };
        for seed in 0..200 {
            let mut backoff = Backoff::new(options, seed);
            assert!(
                (0..100).all(|_| backoff.delay() <= options.max),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn c_393_each_delay_is_within_half_and_full_and_replays_from_its_seed() {
        for seed in 0..125 {
            let mut one = Backoff::new(BackoffOptions::default(), seed);
            let mut two = one.clone();
            for full in FULL.map(Duration::from_secs) {
                let delay = one.delay();
                assert!(
                    delay >= full / 2 && delay <= full,
                    "seed {seed}: {delay:?} of {full:?}"
                );
                assert_eq!(delay, two.delay());
            }
        }
    }

    #[test]
    fn jitter_fills_the_whole_range() {
        let options = BackoffOptions {
            initial: Duration::from_secs(8),
            max: Duration::from_secs(8),
        };
        let mut backoff = Backoff::new(options, 7);
        let delays: Vec<u128> = (0..1000).map(|_| backoff.delay().as_millis()).collect();
        assert!(delays.iter().min() < Some(&4050) && delays.iter().max() > Some(&7950));
        let mean = delays.iter().sum::<u128>() / 1000;
        assert!((5900..6100).contains(&mean), "mean {mean}");
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::new(BackoffOptions::default(), 1);
        assert!((0..6).map(|_| backoff.delay()).max() > Some(Duration::from_secs(8)));
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_secs(1));
    }
}
