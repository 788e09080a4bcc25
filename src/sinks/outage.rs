//! Whether a failed attempt is news: an outage is told when it begins, when its reason changes
//! and when it ends, however long it lasts (F-099).
//!
//! Not a component: for sinks that dial. Attempts in between are for debugging only.

use std::cell::{Cell, RefCell};

/// The attempts in a row that have failed.
#[derive(Debug, Default)]
pub struct Outage {
    why: RefCell<String>,
    failures: Cell<u64>,
}

impl Outage {
    /// Another attempt failed; true when it is the first, or the first for this reason.
    pub fn failed(&self, why: &str) -> bool {
        let is_first = self.failures.replace(self.failures.get() + 1) == 0;
        let before = self.why.replace(why.to_owned());
        is_first || before != why
    }

    /// It works again: how many attempts have failed before.
    pub fn over(&self) -> u64 {
        self.failures.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_099_an_outage_is_news_once_per_reason() {
        let outage = Outage::default();
        let news =
            ["refused", "refused", "no route", "no route", "refused"].map(|why| outage.failed(why));
        assert_eq!(news, [true, false, true, false, true]);
        assert_eq!(outage.over(), 5);
        assert!(outage.failed("refused"), "a new one");
        assert_eq!((outage.over(), outage.over()), (1, 0));
    }
}
