//! The `buffer` room; see docs/ARCHITECTURE.md.
