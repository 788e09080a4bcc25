//! The `buffer` room: what holds events and bytes between admission and their destination.
//!
//! [`storage`] is the seam to the file system, [`storage_sys`] the real one behind it.
pub mod storage;
pub mod storage_sys;
