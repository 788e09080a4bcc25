//! Which dialects of syslog each sender speaks: a table for the operator.
//!
//! A sender is an address without its port, or the path of a socket. The table has a bounded
//! number of rows; who comes after them shares the last one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::pipeline::facts::DialectFacts;
use crate::protocol::syslog::Format;

/// Senders that have a row of their own.
const ROWS_MAX: usize = 1000;

/// The name of the row of all others.
const OTHERS: &str = "(others)";

/// The name of the column of what is no syslog.
const UNPARSED: &str = "unparsed";

/// The table.
#[derive(Default)]
pub struct Dialects(RefCell<BTreeMap<Box<str>, Rc<Row>>>);

/// One sender's messages by format.
#[derive(Debug, Default)]
pub struct Row {
    /// In the order of [`Format::ALL`], which is that of the codes.
    formats: [Cell<u64>; Format::ALL.len()],
    unparsed: Cell<u64>,
}

impl Dialects {
    /// The row of a sender.
    pub fn row(&self, sender: &str) -> Rc<Row> {
        let mut rows = self.0.borrow_mut();
        let has_room = rows.len() < ROWS_MAX;
        let name = match rows.contains_key(sender) || has_room {
            true => sender,
            false => OTHERS,
        };
        Rc::clone(rows.entry(name.into()).or_default())
    }

    /// The table, senders without a message left out.
    pub fn facts(&self) -> Vec<DialectFacts> {
        let rows = self.0.borrow();
        let rows = rows.iter().map(|(sender, row)| DialectFacts {
            sender: sender.to_string(),
            messages: row.counts(),
        });
        rows.filter(|facts| !facts.messages.is_empty()).collect()
    }

    /// The sums over all senders, of formats that there were.
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let mut totals = BTreeMap::new();
        for row in self.0.borrow().values() {
            for (format, messages) in row.counts() {
                *totals.entry(format).or_insert(0) += messages;
            }
        }
        totals.into_iter().collect()
    }
}

impl Row {
    /// A message of that format.
    pub fn count(&self, format: Format) {
        let count = &self.formats[format as usize];
        count.set(count.get() + 1);
    }

    /// A message that is no syslog.
    pub fn count_unparsed(&self) {
        self.unparsed.set(self.unparsed.get() + 1);
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let formats = Format::ALL.iter().zip(&self.formats);
        let formats = formats.map(|(format, count)| (format.as_str(), count.get()));
        let all = formats.chain([(UNPARSED, self.unparsed.get())]);
        all.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_beyond_the_last_row_share_it() {
        let dialects = Dialects::default();
        for index in 0..ROWS_MAX + 50 {
            dialects
                .row(&format!("10.0.0.{index}"))
                .count(Format::Rfc5424);
        }
        dialects.row("10.0.0.7").count_unparsed();
        let facts = dialects.facts();
        assert_eq!(facts.len(), ROWS_MAX + 1);
        assert_eq!(facts[0].sender, OTHERS);
        assert_eq!(facts[0].messages, [("rfc5424", 50)]);
        let seven = facts.iter().find(|facts| facts.sender == "10.0.0.7");
        let seven = seven.map(|facts| facts.messages.clone());
        assert_eq!(seven, Some(vec![("rfc5424", 1), ("unparsed", 1)]));
        assert_eq!(dialects.totals(), [("rfc5424", 1050), ("unparsed", 1)]);
    }
}
