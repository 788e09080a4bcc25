//! The `steps` room; see docs/ARCHITECTURE.md.
