//! How often something took how long, in bounded memory.
//!
//! Spans below 32 ns have a bucket each; above that every power of two has 32, so that what is
//! read out is at most a thirty-second too long. What is above the last bucket does not exist:
//! the buckets cover all of 64 bits.

/// Buckets for each power of two.
const SUB_BUCKETS: u64 = 32;
/// The power of two that `SUB_BUCKETS` is.
const SUB_BITS: u32 = 5;
/// All of them.
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) * SUB_BUCKETS as usize;

/// Counts of spans of time, in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
            longest: 0,
        }
    }
}

impl Histogram {
    /// `times` of them took so long.
    pub fn add(&mut self, nanos: u64, times: u64) {
        self.counts[bucket(nanos)] += times;
        self.total += times;
        self.longest = self.longest.max(nanos);
    }

    /// Those that another one has counted come on top.
    pub fn merge(&mut self, other: &Histogram) {
        let pairs = self.counts.iter_mut().zip(&other.counts);
        pairs.for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// So many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// As long as this, or shorter, took the part `share` (0 to 1) of them.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.longest);
            }
        }
        self.longest
    }
}

/// Where a span is counted.
fn bucket(nanos: u64) -> usize {
    if nanos < SUB_BUCKETS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - SUB_BITS;
    let sub = (nanos >> shift) - SUB_BUCKETS;
    ((u64::from(shift) + 1) * SUB_BUCKETS + sub) as usize
}

/// The longest span that is counted there.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let first = (SUB_BUCKETS + bucket % SUB_BUCKETS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_is_in_a_bucket_that_is_hardly_longer() {
        let powers = (0..64).map(|power| 1u64 << power);
        let near = powers.flat_map(|it| [it - 1, it, it + it / 3]);
        for nanos in near.chain([u64::MAX]) {
            let longest = upper(bucket(nanos));
            assert!(longest >= nanos, "{nanos}");
            assert!(longest - nanos <= nanos / SUB_BUCKETS, "{nanos}: {longest}");
        }
        let last = upper(BUCKETS - 1);
        assert_eq!((bucket(u64::MAX), last), (BUCKETS - 1, u64::MAX));
    }

    #[test]
    fn quantiles_are_of_all_that_were_counted_anywhere() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        assert_eq!((one.quantile(0.5), one.longest()), (0, 0));
        (1..=20).for_each(|nanos| one.add(nanos, 1));
        other.add(21, 79);
        other.add(1_000_000, 1);
        one.merge(&other);
        assert_eq!(one.total(), 100);
        let check = |share, expected| assert_eq!(one.quantile(share), expected, "{share}");
        check(0.01, 1);
        check(0.2, 20);
        check(0.21, 21);
        check(0.99, 21);
        check(1.0, 1_000_000);
    }
}
