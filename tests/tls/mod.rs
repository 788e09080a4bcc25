//! TLS by the real daemon: against sessions of the tests' own, against files that are wrong,
//! and against the programs that it has to get on with.
//!
//! Certificates are made for each test and live in a folder of their own.

mod certificates;
mod checking;
mod counting;
mod dialling;
mod hostile;
mod peers;
mod programs;
mod relaying;
mod reload;
mod replay;
mod syslog;
