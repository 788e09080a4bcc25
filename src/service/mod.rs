//! The `service` room; see docs/ARCHITECTURE.md.
