//! The real binary with real clients: started from a file, spoken to over sockets, stopped by
//! signals, and held to both ledgers at the end of every test.

mod fetching;
mod harness;
mod relaying;
mod stopping;
