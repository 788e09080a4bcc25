//! The `config` room; see docs/ARCHITECTURE.md.
