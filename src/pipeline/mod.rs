//! The `pipeline` room; see docs/ARCHITECTURE.md.
