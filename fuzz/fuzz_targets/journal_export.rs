//! Coverage-guided fuzzing of the journal's export format.
//!
//! One execution is one call of the entry function that the seeded mutator of the test suite
//! calls too; it panics where something does not hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marline_fuzz::fuzz_entries;

fuzz_target!(|data: &[u8]| fuzz_entries::journal_export(data));
