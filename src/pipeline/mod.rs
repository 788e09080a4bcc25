//! The `pipeline` room; see docs/ARCHITECTURE.md.

pub mod component;
pub mod condition;
pub mod descriptor;
pub mod encode;
pub mod ledger;
pub mod memory;
pub mod options;
pub mod shared_options;
pub mod step;
pub mod template;
