//! What a step is to the rest: the trait [`Step`].
//!
//! A step changes a batch in place. It has no start and no stop, does no IO and keeps no
//! reference to what it has seen.

/// What may happen to events on their way.
pub trait Step {}
