//! What holds events and bytes between admission and their destination.
//!
//! [`memory`] and [`disk_queue`] are the queues in front of a sink, [`disk`] is the log behind the
//! latter.
//! [`storage`] is the seam to the file system and [`watcher`] the part of it that tells of
//! changes; [`storage_sys`] and [`watcher_sys`] are the real ones behind them.

pub mod disk;
pub mod disk_queue;
pub mod memory;
pub mod storage;
pub mod storage_sys;
pub mod watcher;
pub mod watcher_sys;
