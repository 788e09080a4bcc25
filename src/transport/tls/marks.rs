//! Positions of plaintext by positions of the ciphertext it became.
//!
//! Each record ends at one position of either: a plaintext position has been reached when the
//! ciphertext has come to the end of the record that it ends. A record that has come in part
//! counts for nothing, because nobody can read it.
//!
//! Bounded: at [`RECORDS_MAX`] the last two records are one from then on, which only makes the
//! answer come later.

use std::collections::VecDeque;

/// The records that are not known to have arrived.
#[derive(Debug, Default)]
pub struct Marks {
    /// In order: where each record ends.
    records: VecDeque<End>,
    /// Where the last record ended that was taken out.
    reached: u64,
}

#[derive(Clone, Copy, Debug)]
struct End {
    wire: u64,
    plain: u64,
}

impl Marks {
    /// A record was made: ciphertext up to `wire` is plaintext up to `plain`.
    pub fn push(&mut self, wire: u64, plain: u64) {
        debug_assert!(self.records.back().is_none_or(|last| last.wire <= wire));
        let end = End { wire, plain };
        if self.is_full_of(RECORDS_MAX) {
            self.records.pop_back();
        }
        self.records.push_back(end);
    }

    /// Plaintext that is whole in ciphertext up to `wire`.
    pub fn plain_at(&self, wire: u64) -> u64 {
        let whole = self.records.partition_point(|end| end.wire <= wire);
        match whole.checked_sub(1) {
            Some(last) => self.records[last].plain,
            None => self.reached,
        }
    }

    /// As [`Marks::plain_at`], and forgets the records up to there: none is asked for again.
    pub fn reach(&mut self, wire: u64) -> u64 {
        while let Some(end) = self.records.pop_front_if(|end| end.wire <= wire) {
            self.reached = end.plain;
        }
        if self.records.is_empty() && self.records.capacity() > IDLE_RECORDS {
            self.records = VecDeque::new();
        }
        self.reached
    }

    /// Whether it is time to ask what has arrived.
    pub fn is_crowded(&self) -> bool {
        self.is_full_of(RECORDS_MAX / 2) && self.records.len().is_multiple_of(64)
    }

    fn is_full_of(&self, records: usize) -> bool {
        self.records.len() >= records
    }
}

/// Records remembered: of full ones, as many as some kernels hold.
const RECORDS_MAX: usize = 1024;

/// Room that is kept where none is remembered.
const IDLE_RECORDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_record_counts_for_nothing() {
        let mut marks = Marks::default();
        marks.push(100, 70);
        marks.push(230, 180);
        let check = |marks: &mut Marks, wire, plain| {
            assert_eq!(marks.plain_at(wire), plain, "looked at {wire}");
            assert_eq!(marks.reach(wire), plain, "reached {wire}");
        };
        check(&mut marks, 0, 0);
        check(&mut marks, 99, 0);
        assert_eq!(marks.plain_at(1000), 180, "a look forgets nothing");
        check(&mut marks, 100, 70);
        check(&mut marks, 229, 70);
        check(&mut marks, 230, 180);
        check(&mut marks, 1000, 180);
        marks.push(1100, 200);
        check(&mut marks, 1099, 180);
    }

    #[test]
    fn what_nobody_asks_for_is_bounded_and_never_told_too_early() {
        let mut marks = Marks::default();
        let last = RECORDS_MAX as u64 * 3;
        (1..=last).for_each(|record| marks.push(record * 10, record));
        assert_eq!(marks.records.len(), RECORDS_MAX);
        for wire in (0..=last * 10).step_by(7) {
            assert!(marks.plain_at(wire) <= wire / 10, "{wire}");
        }
        assert_eq!(marks.reach(last * 10), last);
        assert!(marks.records.capacity() <= IDLE_RECORDS);
    }
}
