//! Transports on real sockets of 127.0.0.0/8, ::1 and the file system, over a real reactor.

mod ending;
mod flow;
mod reading;
mod world;
