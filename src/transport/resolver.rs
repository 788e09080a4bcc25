//! Names to addresses, on the worker threads that serve nothing else (`Pool::Dns`).
//!
//! The reactor never waits for a name, and a stuck disk job does not keep names from being
//! resolved. IP addresses need no look-up. Names are asked for again at every dial, so a
//! changed address is found; when the answer fails, the last good one is used and said so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::net::Lookup;
use crate::deferred::{Deferred, Failure};
use crate::reactor::{Handle, Pool};

/// Looks names up.
#[derive(Clone)]
pub struct Resolver {
    reactor: Handle,
    lookup: Arc<dyn Lookup>,
    /// The last good answer for each name, at most [`NAMES_MAX`] of them.
    last_good: Rc<RefCell<HashMap<String, Vec<IpAddr>>>>,
}

impl Resolver {
    pub(super) fn new(reactor: Handle, lookup: Arc<dyn Lookup>) -> Self {
        Resolver {
            reactor,
            lookup,
            last_good: Rc::default(),
        }
    }

    /// The addresses of `host`, best first, at least one. An IP address is ready at once. There
    /// is no time limit here: dials have theirs.
    pub fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Deferred::ready(vec![address]);
        }
        let lookup = Arc::clone(&self.lookup);
        let name = host.to_string();
        let label = "resolve a host name";
        let found = self.reactor.defer_to_thread(Pool::Dns, label, move || {
            lookup.lookup(&name).map_err(|error| {
                Failure::new(error).context(format!("cannot resolve host `{name}`"))
            })
        });
        let (last_good, name) = (Rc::clone(&self.last_good), host.to_string());
        found.add_both(move |found| match found {
            Ok(addresses) => {
                remember(&mut last_good.borrow_mut(), name, &addresses);
                Ok(addresses)
            }
            Err(failure) => {
                let known = last_good.borrow().get(&name).cloned();
                let addresses = known.ok_or_else(|| failure.clone())?;
                tracing::warn!(event = "resolver_stale", host = name, error = %failure,
                    "cannot resolve the name now; using its last known addresses");
                Ok(addresses)
            }
        })
    }
}

fn remember(names: &mut HashMap<String, Vec<IpAddr>>, name: String, addresses: &[IpAddr]) {
    if names.len() >= NAMES_MAX && !names.contains_key(&name) {
        // Any one will do: names come from the configuration, so this is not met in practice.
        if let Some(other) = names.keys().next().cloned() {
            names.remove(&other);
        }
    }
    names.insert(name, addresses.to_vec());
}

const NAMES_MAX: usize = 1024;
