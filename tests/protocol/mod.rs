//! The protocol room through its public interface: framers and message parsers.
//!
//! `harness` feeds framers, `reference` holds slow and obvious twins of them, `fuzz_entries`
//! says what must hold for any input; `fuzz/` includes these three by path.

mod clf;
mod encode;
mod framers;
mod fuzz_entries;
mod fuzz_seeded;
mod harness;
mod invariance;
mod json;
mod logfmt;
mod reference;
mod syslog;
