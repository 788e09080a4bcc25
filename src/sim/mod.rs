//! The simulated world: the five seams without the system, for tests from a seed.
//!
//! Ordinary library code that the daemon never reaches. Time moves only when the poller waits, so
//! a test of hours takes milliseconds and every run of a seed is the same run. In reading order:
//! the clock and the poller, which lets planned things happen while it waits; [`Random`] and
//! [`Faults`], where chance comes from; [`SimNet`],
//! [`SimWorker`] and [`SimStorage`].

mod agenda;
mod clock;
mod faults;
mod net;
mod pipe;
mod poller;
mod random;
mod storage;
mod worker;

pub use clock::{Livelock, VirtualClock};
pub use faults::{Fault, FaultCounts, FaultPlan, Faults};
pub use net::{SimLookup, SimNet};
pub use pipe::{SimStream, pipe};
pub use poller::{SimIo, SimPoller};
pub use random::Random;
pub use storage::{Death, DeathPoint, Flipped, Moment, SimStorage, StorageCall};
pub use worker::SimWorker;
