//! The `sources` room; see docs/ARCHITECTURE.md.
