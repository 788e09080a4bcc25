//! HTTP on real sockets: the server and its limits, the `http` source, the client, `http_poll`.

mod posting;
mod refusals;
mod world;
