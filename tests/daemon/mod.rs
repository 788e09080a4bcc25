//! The real binary with real clients.
//!
//! Each test starts it from a file, speaks to it over sockets, stops it by a signal, and holds
//! it to both ledgers at the end.

mod fetching;
pub mod peers;
mod relaying;
mod starting;
mod stopping;
