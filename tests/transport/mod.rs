//! Transports on real sockets of 127.0.0.0/8, ::1 and the file system, over a real reactor.

mod accepting;
mod client;
mod datagrams;
mod dialling;
mod ending;
mod flow;
mod inherited;
mod reading;
mod unix;
mod world;
