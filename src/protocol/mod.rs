//! The `protocol` room; see docs/ARCHITECTURE.md.
