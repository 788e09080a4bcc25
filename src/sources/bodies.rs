//! The memory that the bodies of one source may take, as requests or as answers.
//!
//! Not a component: for sources that speak HTTP.

use std::rc::Rc;
use std::sync::Arc;

use crate::http::{BodyLimits, Budget, Room};
use crate::pipeline::intake::Outlet;
use crate::pipeline::memory::Memory;
use crate::time::Duration;
use crate::transport::Meter;

/// The budget of a source's bodies; they count in the daemon's memory from their first byte,
/// and wait for it for `patience` at most.
pub fn budget(outlet: &Outlet, limits: &BodyLimits, patience: Duration) -> Rc<Budget> {
    let bytes_max = BODIES_BYTES_MAX.max(2 * limits.bytes_max);
    let room = BodyRoom(outlet.memory().clone());
    Budget::within(bytes_max, Arc::new(room), patience)
}

/// Bytes that bodies under way may hold together; at least two of the largest fit.
const BODIES_BYTES_MAX: usize = 64 << 20;

struct BodyRoom(Memory);

impl Meter for BodyRoom {
    fn grow(&self, bytes: usize) {
        self.0.add(bytes);
    }

    fn shrink(&self, bytes: usize) {
        self.0.sub(bytes);
    }
}

impl Room for BodyRoom {
    fn is_full(&self) -> bool {
        self.0.is_full()
    }
}
