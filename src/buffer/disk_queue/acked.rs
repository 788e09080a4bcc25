//! Which numbers are done with, when they become so in any order.
//!
//! The cursor of a disk buffer is one number, below which everything may go. So ranges that are
//! done with ahead of others wait here until the hole before them is closed. There are never
//! more of them than parts that the sink has at a time.

use std::collections::BTreeMap;

/// A mark, and ranges beyond it.
#[derive(Debug, Default)]
pub(super) struct Acked {
    through: u64,
    /// First to end, none touching another.
    beyond: BTreeMap<u64, u64>,
}

impl Acked {
    /// Everything below `through` is done with.
    pub(super) fn new(through: u64) -> Acked {
        Acked {
            through,
            beyond: BTreeMap::new(),
        }
    }

    /// Everything below is done with.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    /// The numbers from `first` to before `end` are done with. Some of them may be already.
    pub(super) fn add(&mut self, first: u64, end: u64) {
        if first > self.through {
            let known = self.beyond.entry(first).or_insert(end);
            *known = (*known).max(end);
        } else {
            self.through = self.through.max(end);
        }
        while let Some(entry) = self.beyond.first_entry() {
            if *entry.key() > self.through {
                break;
            }
            self.through = self.through.max(entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_passes_a_range_when_there_is_no_hole_before_it() {
        let mut acked = Acked::new(10);
        let check = |acked: &mut Acked, first, end, through| {
            acked.add(first, end);
            assert_eq!(acked.through(), through, "after {first}..{end}");
        };
        check(&mut acked, 20, 25, 10);
        check(&mut acked, 15, 20, 10);
        check(&mut acked, 40, 41, 10);
        check(&mut acked, 10, 15, 25);
        check(&mut acked, 5, 12, 25);
        // A range that was given up by its number while it was on its way comes twice.
        check(&mut acked, 25, 50, 50);
        check(&mut acked, 40, 41, 50);
        assert!(acked.beyond.is_empty());
    }
}
