//! The `event` room; see docs/ARCHITECTURE.md.
