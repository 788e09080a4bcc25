//! What holds events and bytes between admission and their destination.
//!
//! [`memory`] and [`disk_queue`] are the queues in front of a sink, [`disk`] is the log behind the
//! latter.
//! [`storage`] is the seam to the file system, [`storage_sys`] the real one behind it.

pub mod disk;
pub mod disk_queue;
pub mod memory;
pub mod storage;
pub mod storage_sys;
