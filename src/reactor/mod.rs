//! The `reactor` room; see docs/ARCHITECTURE.md.
