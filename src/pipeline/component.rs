//! What a component is to the rest: the traits [`Source`] and [`Sink`].
//!
//! A component is built from its options when the configuration is read (pure: nothing is
//! bound, dialled or created), started once the reactor exists, and stopped once.

/// Where events come from.
pub trait Source {}

/// Where events go.
pub trait Sink {}
