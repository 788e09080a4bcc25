//! The `transport` room; see docs/ARCHITECTURE.md.
