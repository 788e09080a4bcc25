//! The `deferred` room through its public face: a file per group of rules, and random chains
//! beside a model. Time is turned by hand and the log is read from a subscriber of the test's
//! own thread, so nothing here waits.

mod cancelling;
mod chaining;
mod combining;
mod coroutines;
mod diagnostics;
mod failures;
mod firing;
mod locks;
mod model;
mod support;
mod timeouts;
