//! Names of the simulated world: a table, and now and then no answer.
//!
//! Asked from jobs, which are `Send` as those of real threads are, so what it holds is behind
//! locks; nobody ever waits for one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sim::random::Random;
use crate::transport::Lookup;

/// Looks up what was written into it.
pub struct SimLookup {
    state: Mutex<State>,
    failed: AtomicU64,
}

struct State {
    names: BTreeMap<String, Vec<IpAddr>>,
    random: Random,
    fails_per_mille: u16,
}

impl SimLookup {
    pub(super) fn new(random: Random, fails_per_mille: u16) -> Self {
        SimLookup {
            state: Mutex::new(State {
                names: BTreeMap::new(),
                random,
                fails_per_mille,
            }),
            failed: AtomicU64::new(0),
        }
    }

    /// From now on `name` has these addresses.
    pub fn insert(&self, name: &str, addresses: Vec<IpAddr>) {
        self.lock().names.insert(name.to_owned(), addresses);
    }

    pub(super) fn set_fails_per_mille(&self, per_mille: u16) {
        self.lock().fails_per_mille = per_mille;
    }

    /// How many answers were kept back.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing foreign runs under the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup for SimLookup {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut state = self.lock();
        let per_mille = state.fails_per_mille;
        if state.random.chance(per_mille) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "the name server is silent",
            ));
        }
        let known = state.names.get(host).cloned();
        known.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address"))
    }
}
