//! What holds events and bytes between admission and their destination.
//!
//! [`memory`] is the queue in front of a sink; a disk queue comes to stand beside it.
//! [`storage`] is the seam to the file system, [`storage_sys`] the real one behind it.

pub mod memory;
pub mod storage;
pub mod storage_sys;
