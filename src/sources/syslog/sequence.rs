//! Numbers that senders give their messages, and what is missing between them.
//!
//! `meta sequenceId` of RFC 5424 (7.3.1) counts an originator's messages from 1, to 2147483647 and
//! then from 1 again; Cisco devices number theirs in front of the time. Messages of several
//! originators may come through one relay, so each host that is named counts by itself.

use std::collections::HashMap;

use crate::protocol::syslog::HOST_BYTES_MAX;

/// Hosts whose numbers are remembered for one sender; more, and all begin anew.
const HOSTS_MAX: usize = 64;

/// The last number before it begins again (RFC 5424, 7.3.1).
const NUMBER_MAX: u64 = 2_147_483_647;

/// A number that is behind by no more was overtaken on its way; by more, and the sender has begun
/// anew.
const LATE_MAX: u64 = 32;

/// Messages that may be missing between two numbers; a greater leap is another count. Nobody has
/// lost so many at once, and what a peer writes must not run a count over.
const NUMBER_LEAP_MAX: u64 = 1_000_000;

/// What a number says about those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It follows, or is the first.
    Next,
    /// So many messages before it have not come.
    Missing(u64),
    /// It had been taken for missing, or has come before.
    Late,
    /// The sender has begun to count anew.
    Restart,
}

/// The last number of each host of one sender.
#[derive(Debug, Default)]
pub struct Sequences(HashMap<Box<[u8]>, u64>);

impl Sequences {
    /// Takes note of `number`, of a message that names `host`. A name that is longer than names may
    /// be is remembered by its first part: a message may be all name.
    pub fn step(&mut self, host: &[u8], number: u64) -> Step {
        let host = &host[..host.len().min(HOST_BYTES_MAX)];
        let Some(last) = self.0.get_mut(host) else {
            if self.0.len() >= HOSTS_MAX {
                self.0.clear();
            }
            self.0.insert(host.into(), number);
            return Step::Next;
        };
        let step = compare(*last, number);
        if step != Step::Late {
            *last = number;
        }
        step
    }
}

fn compare(last: u64, number: u64) -> Step {
    match number.checked_sub(last) {
        Some(1) => Step::Next,
        Some(ahead @ 2..) if ahead - 1 <= NUMBER_LEAP_MAX => Step::Missing(ahead - 1),
        Some(2..) => Step::Restart,
        _ => {
            // Behind: over the end of the numbers, out of order, or from the beginning.
            let over = NUMBER_MAX.saturating_sub(last).saturating_add(number);
            match over {
                1 if last <= NUMBER_MAX => Step::Next,
                2..=NUMBER_LEAP_MAX if last <= NUMBER_MAX => Step::Missing(over - 1),
                _ if number > 1 && last - number <= LATE_MAX => Step::Late,
                _ => Step::Restart,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5424_7_3_1_numbers_follow_each_other_per_host() {
        let mut sequences = Sequences::default();
        let mut check = |host: &str, number, expected| {
            let step = sequences.step(host.as_bytes(), number);
            assert_eq!(step, expected, "{host} {number}");
        };
        check("a", 7, Step::Next);
        check("b", 1, Step::Next);
        check("a", 8, Step::Next);
        check("a", 12, Step::Missing(3));
        check("a", 10, Step::Late);
        check("a", 13, Step::Next);
        check("b", 2, Step::Next);
        check("a", 1, Step::Restart);
        check("a", 2, Step::Next);
        check("a", 900, Step::Missing(897));
        check("a", 100, Step::Restart);
        check("c", NUMBER_MAX - 1, Step::Next);
        check("c", NUMBER_MAX, Step::Next);
        check("c", 1, Step::Next);
        check("d", NUMBER_MAX - 1, Step::Next);
        check("d", 2, Step::Missing(2));
        check("d", 2, Step::Late);
    }

    #[test]
    fn numbers_that_leap_to_and_fro_are_restarts_and_no_loss() {
        let mut sequences = Sequences::default();
        let mut missing = 0_u64;
        for round in 0..40 {
            for number in [1, 999_999_999_999_999_999] {
                if let Step::Missing(messages) = sequences.step(b"a", number) {
                    missing = missing.checked_add(messages).expect("it counts that far");
                }
            }
            assert_eq!(missing, 0, "in round {round}");
        }
        sequences.step(b"b", 1);
        let ahead = 2 + NUMBER_LEAP_MAX;
        assert_eq!(sequences.step(b"b", ahead), Step::Missing(NUMBER_LEAP_MAX));
        assert_eq!(sequences.step(b"b", 2 * ahead), Step::Restart);
    }

    #[test]
    fn a_relay_of_many_hosts_takes_bounded_memory() {
        let mut sequences = Sequences::default();
        for host in 0..1000_u32 {
            sequences.step(&host.to_le_bytes(), 1);
            assert!(sequences.0.len() <= HOSTS_MAX);
        }
        let long = vec![b'h'; 64 << 10];
        assert_eq!(sequences.step(&long, 1), Step::Next);
        assert_eq!(sequences.step(&long, 3), Step::Missing(1));
        let held = sequences.0.keys().map(|host| host.len());
        assert_eq!(held.max(), Some(HOST_BYTES_MAX));
    }
}
