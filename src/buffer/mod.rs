//! What holds events and bytes between admission and their destination.
//!
//! [`memory`] is the queue in front of a sink, [`disk`] the log behind a disk buffer.
//! [`storage`] is the seam to the file system, [`storage_sys`] the real one behind it.

pub mod disk;
pub mod memory;
pub mod storage;
pub mod storage_sys;
