//! The `deferred` room; see docs/ARCHITECTURE.md.
