//! The protocol room through its public interface: framers and message parsers.
//!
//! `harness` feeds framers, `reference` holds slow and obvious twins of them, `fuzz_entries`
//! says what must hold for any input; `fuzz/` includes these three by path.

mod fuzz_entries;
mod harness;
mod invariance;
mod json;
mod reference;
