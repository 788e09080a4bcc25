//! The `telemetry` room; see docs/ARCHITECTURE.md.
