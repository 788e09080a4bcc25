//! Numbers from a seed: the only source of chance in a simulated world.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): the same numbers for the same seed on every machine,
//! and streams that are forked off it are independent. Nothing here is fit for secrets.

use crate::time::Duration;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Another stream, so that who draws more from one does not change the other.
    pub fn fork(&mut self) -> Random {
        Random(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of `0..end`; 0 where that is empty.
    pub fn below(&mut self, end: usize) -> usize {
        // Uneven by less than 2^-32 for every size that is used here.
        (self.number() % end.max(1) as u64) as usize
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A span of `low..=high`, in whole microseconds.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = self.between(low.as_micros() as usize, high.as_micros() as usize);
        Duration::from_micros(micros as u64)
    }

    /// True in so many cases of a thousand.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.below(1000) < usize::from(per_mille)
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// Without choices.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.number()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn numbers_stay_in_their_ranges_and_reach_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<usize> = (0..1000).map(|_| random.between(3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
        assert_eq!((random.below(0), random.chance(0)), (0, false));
        assert!(random.chance(1000));
    }
}
