//! The `deferred` room through its public face: a file per group of rules.

mod firing;
mod support;
