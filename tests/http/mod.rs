//! HTTP on real sockets: the server and its limits, the `http` source, the client, `http_poll`.
//!
//! A module per side; `world` is what they share.

mod limits;
mod memory;
mod panicking;
mod polling;
mod posting;
mod refusals;
mod world;
