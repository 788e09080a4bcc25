//! The `sinks` room; see docs/ARCHITECTURE.md.
