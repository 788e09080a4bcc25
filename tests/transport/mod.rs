//! Transports on real sockets of 127.0.0.0/8, ::1 and the file system, over a real reactor.
//!
//! What happens to a connection is written down by a `Tape`, and a `World` drives the reactor
//! turn by turn with a limit on every wait; peers are plain sockets of the standard library.

mod accepting;
mod client;
mod datagrams;
mod dialling;
mod ending;
mod failing;
mod flow;
mod handover;
mod inherited;
mod reading;
mod unix;
mod world;
