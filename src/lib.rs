//! marline: many sockets watched at once, fetched, transformed, forwarded, acknowledged.
//!
//! The crate in reading order. Each room may import only the rooms that `tests/tidy.rs`
//! lists for it; `docs/ARCHITECTURE.md` says what each one is for.
//!
//! 1. [`time`] – instants, durations, the clock and timer seams
//! 2. [`deferred`] – results that are not there yet, and chains on them
//! 3. [`reactor`] – the turn: readiness, timers, notifications, threads, futures
//! 4. [`transport`] – byte streams and datagrams with flow control
//! 5. [`http`] – hyper on our transports
//! 6. [`protocol`] – framers and message parsers, without IO
//! 7. [`event`] – what flows: batches of events
//! 8. [`pipeline`] – sources, steps and sinks, delivery and its ledgers
//! 9. [`steps`], [`sources`], [`sinks`] – the components, one file each
//! 10. [`buffer`] – storage and queues in front of sinks
//! 11. [`config`] – one TOML file, with errors that point
//! 12. [`service`] – the daemon: start, stop, signals, systemd
//! 13. [`telemetry`] – log records and counters
//! 14. [`sim`] – the simulated world for tests: clock, net, disk, jobs, from a seed

pub mod buffer;
pub mod config;
pub mod deferred;
pub mod event;
pub mod http;
pub mod pipeline;
pub mod protocol;
pub mod reactor;
pub mod service;
pub mod sim;
pub mod sinks;
pub mod sources;
pub mod steps;
pub mod telemetry;
pub mod time;
pub mod transport;
