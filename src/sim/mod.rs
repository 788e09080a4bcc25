//! The `sim` room; see docs/ARCHITECTURE.md.
