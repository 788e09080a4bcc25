//! All integration tests in one binary: a module per file, in alphabetical order.
//!
//! A test named `c_053_…` shows line 53 of docs/CONFORMANCE.md, one named `f_044_…` line 44 of
//! docs/FAULTS.md.
#![allow(clippy::unwrap_used)]
mod buffer_cli;
mod config_cli;
mod config_golden;
mod crashes;
mod daemon;
mod deaths;
mod deferred;
mod disk_faults;
mod disk_log;
mod event_batch;
mod event_codec;
mod event_json;
mod event_random;
mod event_syslog;
mod event_vrl;
mod faults;
mod file_source;
mod http;
mod http_sink;
mod listing;
mod operator;
mod pipeline_delivery;
mod process;
mod protocol;
mod reactor_life;
mod reactor_periodic;
mod reactor_sources;
mod reactor_support;
mod reactor_threads;
mod reactor_timers;
mod reload;
mod sim;
mod sink_file;
mod skips;
mod sources_local;
mod steps_config;
mod steps_events;
mod steps_memory;
mod syslog;
mod systemd_units;
mod telemetry_process;
mod tls;
mod transport;
