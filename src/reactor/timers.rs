//! The timer queue: deadlines in order, first in first out among equals.
//!
//! A binary heap of small entries over a slab of timers. An entry is never looked for in the
//! heap; it is found out to be worthless when it comes to the top:
//! - *cancel* empties the slab slot (dropping what it held at once) and leaves the entry;
//! - *moving later* writes the new deadline into the slot; the entry is pushed again when its
//!   old time comes. So an idle limit that every read moves costs two stores, not a heap walk;
//! - *moving earlier* pushes a second entry and makes the first one worthless.
//!
//! When more than half of the entries (and at least [`STALE_MIN`]) are worthless, the heap is
//! rebuilt without them, so memory is bounded by twice the live timers. Order among equal
//! deadlines is the order in which the deadlines were set.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::token::{Slab, Token};
use crate::time::Instant;

/// Below this number of worthless entries a rebuild is not worth its work.
const STALE_MIN: usize = 64;

/// Timers carrying a `T` each.
pub(crate) struct TimerQueue<T> {
    heap: BinaryHeap<Entry>,
    slots: Slab<Slot<T>>,
    /// The order number of the next deadline that is set.
    next_order: u64,
}

struct Slot<T> {
    deadline: Instant,
    /// When this deadline was set, among all settings of deadlines.
    order: u64,
    /// The order number of this timer's one valid heap entry.
    queued: u64,
    queued_deadline: Instant,
    /// The order number at which the timer was made.
    created: u64,
    value: T,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    deadline: Instant,
    order: u64,
    token: Token,
}

impl Ord for Entry {
    /// Reversed: the heap's greatest is the earliest deadline, then the lowest order.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.deadline, other.order).cmp(&(self.deadline, self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A point in the history of the queue; timers made after it can be told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl<T> TimerQueue<T> {
    pub(crate) const fn new() -> Self {
        TimerQueue {
            heap: BinaryHeap::new(),
            slots: Slab::new(),
            next_order: 0,
        }
    }

    /// The number of pending timers.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> Token {
        let order = self.take_order();
        let token = self.slots.insert(Slot {
            deadline,
            order,
            queued: order,
            queued_deadline: deadline,
            created: order,
            value,
        });
        self.heap.push(Entry {
            deadline,
            order,
            token,
        });
        token
    }

    /// Takes a pending timer out; the caller drops what it held.
    pub(crate) fn cancel(&mut self, token: Token) -> Option<T> {
        let slot = self.slots.remove(token)?;
        self.compact();
        Some(slot.value)
    }

    /// Gives a pending timer another deadline, behind all that have the same one already.
    /// False when the timer is not pending.
    pub(crate) fn reset(&mut self, token: Token, deadline: Instant) -> bool {
        let order = self.next_order;
        let Some(slot) = self.slots.get_mut(token) else {
            return false;
        };
        self.next_order += 1;
        slot.deadline = deadline;
        slot.order = order;
        if deadline < slot.queued_deadline {
            slot.queued = order;
            slot.queued_deadline = deadline;
            self.heap.push(Entry {
                deadline,
                order,
                token,
            });
            self.compact();
        }
        true
    }

    pub(crate) fn deadline(&self, token: Token) -> Option<Instant> {
        self.slots.get(token).map(|slot| slot.deadline)
    }

    /// The earliest deadline of a pending timer.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        self.settle_top().map(|entry| entry.deadline)
    }

    /// Now, in the history of the queue.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.next_order)
    }

    /// Takes out the first timer that is due at `now` and was made before `mark`. Due ones made
    /// since are put into `newer`, for [`put_back`](Self::put_back).
    pub(crate) fn pop_due(
        &mut self,
        now: Instant,
        mark: Mark,
        newer: &mut Vec<Postponed>,
    ) -> Option<(Instant, T)> {
        while let Some(entry) = self.settle_top() {
            if entry.deadline > now {
                return None;
            }
            self.heap.pop();
            if self.slots.get(entry.token)?.created >= mark.0 {
                newer.push(Postponed(entry));
                continue;
            }
            let slot = self.slots.remove(entry.token)?;
            return Some((slot.deadline, slot.value));
        }
        None
    }

    /// Gives back the entries that [`pop_due`](Self::pop_due) set aside.
    pub(crate) fn put_back(&mut self, newer: &mut Vec<Postponed>) {
        self.heap
            .extend(newer.drain(..).map(|postponed| postponed.0));
    }

    /// Tokens, deadlines and values of all pending timers, unordered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Instant, &T)> {
        self.slots
            .iter()
            .map(|(_, slot)| (slot.deadline, &slot.value))
    }

    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.heap.clear();
        let slots = self.slots.drain();
        slots.into_iter().map(|slot| slot.value).collect()
    }

    fn take_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order - 1
    }

    /// Throws away worthless entries and re-queues moved timers until the top is true.
    fn settle_top(&mut self) -> Option<Entry> {
        loop {
            let top = *self.heap.peek()?;
            let Some(slot) = self.slots.get_mut(top.token) else {
                self.heap.pop();
                continue;
            };
            if slot.queued != top.order {
                self.heap.pop();
            } else if slot.order != top.order {
                let (deadline, order) = (slot.deadline, slot.order);
                slot.queued = order;
                slot.queued_deadline = deadline;
                let mut first = self.heap.peek_mut()?;
                first.deadline = deadline;
                first.order = order;
            } else {
                return Some(top);
            }
        }
    }

    fn compact(&mut self) {
        let stale = self.heap.len().saturating_sub(self.slots.len());
        if stale >= STALE_MIN && stale > self.slots.len() {
            let slots = &self.slots;
            self.heap.retain(|entry| {
                slots
                    .get(entry.token)
                    .is_some_and(|slot| slot.queued == entry.order)
            });
        }
    }
}

/// An entry that was due but too new for the pass that met it.
pub(crate) struct Postponed(Entry);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// All timers due at `now`, in the order in which one pass would run them.
    fn due<T>(queue: &mut TimerQueue<T>, now: u64) -> Vec<T> {
        let (mark, mut newer, mut out) = (queue.mark(), Vec::new(), Vec::new());
        while let Some((_, value)) = queue.pop_due(at(now), mark, &mut newer) {
            out.push(value);
        }
        queue.put_back(&mut newer);
        out
    }

    #[test]
    fn equal_deadlines_are_first_in_first_out() {
        let mut queue = TimerQueue::new();
        for n in 0..100 {
            queue.insert(at(5), n);
        }
        assert!(due(&mut queue, 4).is_empty());
        assert_eq!(due(&mut queue, 5), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_timer_moved_later_waits_and_one_moved_earlier_does_not() {
        let mut queue = TimerQueue::new();
        let later = queue.insert(at(10), "later");
        let earlier = queue.insert(at(20), "earlier");
        assert!(queue.reset(later, at(30)));
        assert!(queue.reset(earlier, at(5)));
        assert_eq!(queue.next_deadline(), Some(at(5)));
        assert_eq!(due(&mut queue, 10), ["earlier"]);
        assert_eq!(queue.next_deadline(), Some(at(30)));
        assert_eq!(due(&mut queue, 30), ["later"]);
        assert!(!queue.reset(later, at(40)));
        assert_eq!(queue.next_deadline(), None);
    }

    #[test]
    fn a_timer_made_during_a_pass_waits_for_the_next() {
        let mut queue = TimerQueue::new();
        queue.insert(at(1), "old");
        let (mark, mut newer) = (queue.mark(), Vec::new());
        queue.insert(at(0), "new");
        let first = queue.pop_due(at(1), mark, &mut newer);
        assert_eq!(first.map(|(_, value)| value), Some("old"));
        assert!(queue.pop_due(at(1), mark, &mut newer).is_none());
        queue.put_back(&mut newer);
        assert_eq!(due(&mut queue, 1), ["new"]);
    }

    #[test]
    fn c_177_memory_of_cancelled_timers_is_bounded() {
        let mut queue = TimerQueue::new();
        for n in 0..100_000_u64 {
            let token = queue.insert(at(n), n);
            assert_eq!(queue.cancel(token), Some(n));
        }
        assert!(queue.heap.len() <= STALE_MIN && queue.slots.len() == 0);
        let token = queue.insert(at(u64::MAX), 0);
        for n in (0..100_000_u64).rev() {
            assert!(queue.reset(token, at(n)));
        }
        assert!(queue.heap.len() <= STALE_MIN + 1);
    }

    /// The specification: a list searched from one end.
    #[derive(Default)]
    struct Model {
        pending: Vec<(u64, u64, u32)>, // deadline, order, name
        order: u64,
    }

    impl Model {
        fn set(&mut self, deadline: u64, name: u32) {
            self.pending.retain(|timer| timer.2 != name);
            self.pending.push((deadline, self.order, name));
            self.order += 1;
        }

        fn due(&mut self, now: u64) -> Vec<u32> {
            self.pending.sort_unstable();
            let count = self.pending.iter().filter(|t| t.0 <= now).count();
            self.pending.drain(..count).map(|t| t.2).collect()
        }
    }

    #[test]
    fn the_queue_agrees_with_a_sorted_list() {
        for seed in 1..=200_u64 {
            agree(seed);
        }
    }

    fn agree(seed: u64) {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut queue, mut model, mut now) = (TimerQueue::new(), Model::default(), 0);
        let mut tokens: Vec<(Token, u32)> = Vec::new();
        for name in 0..600 {
            match next(10) {
                0..=3 => {
                    let deadline = now + next(40);
                    tokens.push((queue.insert(at(deadline), name), name));
                    model.set(deadline, name);
                }
                4..=6 if !tokens.is_empty() => {
                    let (token, old) = tokens[next(tokens.len() as u64) as usize];
                    let deadline = now + next(60);
                    let known = model.pending.iter().any(|t| t.2 == old);
                    assert_eq!(queue.reset(token, at(deadline)), known, "seed {seed}");
                    if known {
                        model.set(deadline, old);
                    }
                }
                7 if !tokens.is_empty() => {
                    let (token, old) = tokens.swap_remove(next(tokens.len() as u64) as usize);
                    let known = model.pending.iter().any(|t| t.2 == old);
                    assert_eq!(queue.cancel(token).is_some(), known, "seed {seed}");
                    model.pending.retain(|t| t.2 != old);
                }
                _ => {
                    now += next(10);
                    assert_eq!(due(&mut queue, now), model.due(now), "seed {seed}");
                }
            }
            let first = model.pending.iter().map(|t| t.0).min();
            assert_eq!(queue.next_deadline(), first.map(at), "seed {seed}");
            assert_eq!(queue.len(), model.pending.len(), "seed {seed}");
        }
    }
}
