//! The lane that keeps the cursor: it writes down what is delivered, and deletes.
//!
//! Not after every event: a second after the first that the cursor could pass, or when enough
//! are. A buffer that drops what is oldest deletes segments here, whoever has not had them.

use super::Inner;
use super::lanes::{Done, KEEP_PAUSE};
use crate::buffer::disk::{Evicted, KeepError, Kept};

impl Inner {
    pub(super) fn keep(&self) {
        let (mut keeper, acked, durable) = {
            let lanes = &mut *self.lanes.borrow_mut();
            let state = self.state.borrow();
            let acked = state.acked.through();
            if acked <= lanes.kept_seq && !lanes.is_cursor_due {
                return;
            }
            if !lanes.is_keep_due && !lanes.is_cursor_due {
                let is_armed = std::mem::replace(&mut lanes.is_keep_armed, true);
                return if !is_armed {
                    self.arm_keep()
                };
            }
            let Some(keeper) = lanes.keeper.take() else {
                return;
            };
            lanes.is_cursor_due = false;
            (lanes.is_keep_due, lanes.acked_bytes) = (false, 0);
            (keeper, acked, state.durable_seq)
        };
        self.submit(
            "disk buffer cursor",
            Box::new(move || {
                let result = keeper.keep(acked, durable);
                Done::Kept(keeper, result)
            }),
        );
    }

    pub(super) fn arm_keep(&self) {
        self.after(KEEP_PAUSE, |inner| {
            let mut lanes = inner.lanes.borrow_mut();
            (lanes.is_keep_armed, lanes.is_keep_due) = (false, true);
        });
    }

    pub(super) fn was_kept(&self, result: Result<Kept, KeepError>) {
        match result {
            Ok(kept) => {
                self.lanes.borrow_mut().kept_seq = kept.acked_seq;
                self.used_bytes.set(kept.used_bytes);
                if kept.freed_bytes > 0 {
                    self.has_room();
                }
            }
            Err(error) => self.log_failure(&error.to_string()),
        }
    }

    /// Deletes the oldest segment, whoever has not had it.
    pub(super) fn evict(&self) {
        let Some(mut keeper) = self.lanes.borrow_mut().keeper.take() else {
            return;
        };
        let durable = self.state.borrow().durable_seq;
        self.submit(
            "disk buffer eviction",
            Box::new(move || {
                let result = keeper.evict(1, durable);
                Done::Evicted(keeper, result)
            }),
        );
    }

    pub(super) fn made_room(&self, result: Result<Evicted, KeepError>) {
        match result {
            Ok(made) => {
                self.used_bytes.set(made.used_bytes);
                let mut lanes = self.lanes.borrow_mut();
                lanes.kept_seq = lanes.kept_seq.max(made.upto_seq);
                drop(lanes);
                self.evicted(made.upto_seq);
                if made.freed_bytes > 0 {
                    self.has_room();
                }
            }
            Err(error) => self.log_failure(&error.to_string()),
        }
    }
}
