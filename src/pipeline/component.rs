//! What a component is to the rest: the traits [`Source`] and [`Sink`], and [`Resources`].
//!
//! A component is built from its options when the configuration is read (pure: nothing is
//! bound, dialled or created), started once the reactor exists, and stopped once. Steps are in
//! [`super::step`]; they have no start and no stop.
//!
//! Invariant: a component reaches the rest of the daemon only through its [`Outlet`] or
//! [`Inlet`] and through the resources; components never hold each other.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use crate::deferred::{Deferred, Failure};

use super::facts::Facts;
use super::intake::Outlet;
use super::port::Inlet;

/// Where events come from.
pub trait Source {
    /// Binds, dials or arms whatever the source needs. An error stops the start of the daemon
    /// and says what, where, why and what to do. The answer names what the source listens to
    /// or fetches, one line each, for the start's own lines.
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure>;

    /// Whether the daemon has one of it, however many reactors it has: what polls, follows or
    /// reads something. What listens is with every reactor, and they share the connections.
    fn is_single(&self) -> bool {
        true
    }

    /// Takes no more input. Fires when nothing more will be delivered by this source; what it
    /// delivered before may still be on its way.
    fn stop(&mut self) -> Deferred<()>;

    /// Writes into the log what the source counts beside the events in the ledgers.
    fn log_counts(&self) {}

    /// What the source knows of itself beside the ledgers, for `marline status`.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// The peers of its open connections, as addresses; at most `most` of them.
    fn peers(&self, _most: usize) -> Vec<String> {
        Vec::new()
    }

    /// The drain is over (or cut off): close what is still open, answered or not.
    fn close(&mut self) {}
}

/// Where events go.
pub trait Sink {
    /// Arms the sink. It takes parts from `inlet` whenever it can use more, and settles each.
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure>;

    /// Whether the daemon has one of it, however many reactors it has: what writes to something
    /// that only one may write to. Each reactor has its own of the others. A sink with a disk
    /// buffer is single whatever this says.
    fn is_single(&self) -> bool {
        false
    }

    /// The daemon is stopping: what comes now is the last, and what a sink gathers to send it
    /// together goes at once.
    fn drain(&mut self) {}

    /// The inlet has run dry and stays so: flush, close, and fire.
    fn stop(&mut self) -> Deferred<()>;

    /// SIGUSR1 and SIGHUP: files that were moved away are opened anew.
    fn reopen(&mut self) {}

    /// What the sink knows of itself beside its ledger, for `marline status`.
    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// What the daemon lends to components at their start, by type: the reactor's handle, the
/// network, the storage. The pipeline itself knows none of these types.
#[derive(Default)]
pub struct Resources(HashMap<TypeId, Box<dyn Any>>);

impl Resources {
    /// Lends `resource` to every component that asks for its type.
    pub fn lend<T: Any>(&mut self, resource: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(resource));
    }

    /// The resource of that type.
    ///
    /// # Panics
    /// When the daemon was put together without it, which is a bug that every start shows.
    pub fn get<T: Any>(&self) -> &T {
        self.0
            .get(&TypeId::of::<T>())
            .and_then(|any| any.downcast_ref())
            .expect("the service lends every resource before it starts a component")
    }
}
