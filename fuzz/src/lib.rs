//! What the targets share with the test suite: what must hold for any input.
//!
//! The entry functions, the slow twins and the harness are those of `tests/protocol`, included
//! by path, so a crash that is found here is a test there by adding its input to the corpus.

#[path = "../../tests/protocol/fuzz_entries.rs"]
pub mod fuzz_entries;
#[path = "../../tests/protocol/harness.rs"]
pub mod harness;
#[path = "../../tests/protocol/reference.rs"]
pub mod reference;
