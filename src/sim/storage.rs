//! The disk of the simulated world: [`Storage`] in memory, with faults and crashes.
//!
//! Files live by inode and directories by name, so what is open outlives its name, as on a real
//! file system. A disk that has become full stays full for a number of attempts; other errors
//! strike once, unless they say otherwise.
//!
//! A life of the process that uses the disk ends by [`SimStorage::kill`], where everything that
//! was written stays, or by [`SimStorage::crash`], the machine's loss of power, where what was not
//! synced is kept, lost or damaged by the draw ([`content`], [`names`]). Handles and locks of a
//! former life are worth nothing. Either end can be put at a certain call of a run.
//!
//! Called by jobs, which are `Send`, so everything is behind one lock that nobody ever waits for.

mod content;
mod disk;
mod handles;
mod names;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::Disk;
use self::handles::Process;
use super::faults::{FaultCounts, FaultPlan};
use super::random::Random;
use crate::buffer::storage::Storage;
use crate::time::WallTime;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimStorage(Arc<Mutex<Disk>>);

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is gone; the system, and with it everything that was written, is not.
    Killed,
    /// The machine is gone, and with it what was not synced.
    PowerCut,
}

/// Calls that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageCall {
    /// A file, a directory or a lock, found or made.
    Open,
    /// Both ways of writing.
    Write,
    /// The content of a file made durable.
    Sync,
    /// The names of a directory made durable.
    DirectorySync,
    /// A rename.
    Rename,
    /// An unlink.
    Unlink,
    /// A cut or an extension.
    Truncate,
    /// A reservation.
    Allocate,
    /// A read.
    Read,
    /// Whatever else changes nothing.
    Look,
}

impl StorageCall {
    /// All of them, in the order of their discriminants.
    pub const ALL: [StorageCall; 10] = [
        StorageCall::Open,
        StorageCall::Write,
        StorageCall::Sync,
        StorageCall::DirectorySync,
        StorageCall::Rename,
        StorageCall::Unlink,
        StorageCall::Truncate,
        StorageCall::Allocate,
        StorageCall::Read,
        StorageCall::Look,
    ];
}

/// Whether a call on which a life ends had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It had none.
    Before,
    /// It had, and did not answer.
    After,
}

/// The call on which a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeathPoint {
    /// Which calls are counted.
    pub call: StorageCall,
    /// Which one it is of all that the disk has ever seen of them, from 1.
    pub number: u64,
    /// Before or after its effect.
    pub moment: Moment,
    /// What happens then.
    pub death: Death,
}

/// A bit that has turned.
#[derive(Clone, Debug)]
pub struct Flipped {
    /// The file.
    pub path: String,
    /// Which of its bits, counted from the first byte's lowest.
    pub bit: usize,
    /// What the file held before.
    pub before: Vec<u8>,
}

impl SimStorage {
    /// An empty disk on which nothing goes wrong yet.
    pub fn new(random: Random) -> Self {
        SimStorage(Arc::new(Mutex::new(Disk::new(random))))
    }

    /// From now on things go wrong by `plan`; a disk that is full or broken is whole again.
    pub fn plan_faults(&self, plan: FaultPlan) {
        self.lock().plan_faults(plan);
    }

    /// How often each fault has happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.lock().counts
    }

    /// The bits that have turned, in that order.
    pub fn flipped(&self) -> Vec<Flipped> {
        self.lock().flipped.clone()
    }

    /// The time that changed files get from now on.
    pub fn set_wall(&self, wall: WallTime) {
        self.lock().wall = wall;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        let disk = self.lock();
        let each = StorageCall::ALL.into_iter();
        each.map(|call| disk.calls_of(call)).sum()
    }

    /// Calls of one kind so far.
    pub fn calls_of(&self, call: StorageCall) -> u64 {
        self.lock().calls_of(call)
    }

    /// The names beneath the directory `path`, with what the files hold for who reads them.
    pub fn files(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let disk = self.lock();
        let beneath = disk.names.files().iter().filter_map(|(name, inode)| {
            let rest = name.strip_prefix(path)?.strip_prefix('/')?;
            Some((rest.to_owned(), disk.bytes_of(*inode)?.to_vec()))
        });
        beneath.collect()
    }

    /// The machine loses its power: what was not synced is kept, lost or damaged.
    pub fn crash(&self) {
        self.lock().die(Death::PowerCut);
    }

    /// The process is killed: what was written stays.
    pub fn kill(&self) {
        self.lock().die(Death::Killed);
    }

    /// The life ends on that call, in place of a point that was set before.
    pub fn die_at(&self, point: Option<DeathPoint>) {
        self.lock().death_point = point;
    }

    /// How many lives have ended.
    pub fn life(&self) -> u64 {
        self.lock().life()
    }

    /// The disk for a process of this life: worth nothing once the life is over, whereas this
    /// itself is always of the life that is.
    pub fn of_this_life(&self) -> Arc<dyn Storage> {
        Arc::new(self.this_life())
    }

    /// Turns bit `bit` of the file at `path`, counted from the first byte's lowest. Says whether
    /// there is such a bit.
    pub fn flip(&self, path: &str, bit: usize) -> bool {
        self.lock().flip(path, bit).is_some()
    }

    /// What the system believes to be on the disk since a sync has failed is read anew.
    pub fn drop_cache(&self) {
        self.lock().drop_cache();
    }

    fn this_life(&self) -> Process {
        Process {
            life: self.life(),
            storage: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // Nothing foreign runs under the lock, so a poisoned disk is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
