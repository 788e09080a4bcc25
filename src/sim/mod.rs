//! The simulated world: the five seams without the system, for tests from a seed.
//!
//! Ordinary library code that the daemon never reaches. Time moves only when the poller waits, so
//! a test of hours takes microseconds and every run of a seed is the same run.

mod clock;
mod pipe;
mod poller;

pub use clock::{Livelock, VirtualClock};
pub use pipe::{SimStream, pipe};
pub use poller::{SimIo, SimPoller};
