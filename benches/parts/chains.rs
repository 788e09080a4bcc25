//! Chains of ten links on a Deferred: made and fired, and fired alone.
//!
//! Each link adds to the value that it gets; the last one is an `add_both`, as in the daemon.
//! Firing includes the drop of the chain.

use std::hint::black_box;

use marline::deferred::{Deferred, Promise};

use super::measure::{Part, Table};

/// Links of a chain.
const LINKS: usize = 10;

/// Nanoseconds that the firing of a chain may take; Twisted's takes 7 000.
const FIRE_NS: u32 = 600;

/// A chain whose last link sees the result.
fn chain() -> Promise<u64> {
    let (promise, mut deferred) = Deferred::<u64>::new();
    for _ in 1..LINKS {
        deferred = deferred.add_callback(|value| Ok(value + 1));
    }
    deferred.add_both(|result| {
        black_box(result.is_ok());
    });
    promise
}

/// Both parts.
pub fn measure(table: &Table) {
    let part = |name| Part {
        name,
        unit: "chain",
        units: 1,
        bytes: 0,
        budget_ns: Some(FIRE_NS),
    };
    table.measure(
        &part("deferred 10 links, make, fire"),
        || (),
        |()| chain().callback(1),
    );
    table.measure(&part("deferred 10 links, fire"), chain, |promise| {
        promise.callback(1)
    });
}
