//! The pipeline: how events get from sources through steps to sinks, and who has which.
//!
//! - [`component`]: what a source and a sink are; [`step`]: what a step is
//! - [`descriptor`], [`options`], [`shared_options`], [`addresses`], [`tls`]: what a component says
//!   about itself
//! - [`graph`]: which pipelines a source feeds, and what comes out of them
//! - [`intake`]: the source's side of delivery and its windows; `admission`: into the buffers
//! - [`port`]: the sink's side; [`queue`]: what its buffer is; [`part`]: a sink's share of a
//!   batch, `picked`: which of its events; [`letter`]: what no sink takes
//! - [`condition`], [`template`], [`encode`]: VRL, texts with fields, events as bytes
//! - [`ledger`]: the two books; [`memory`]: the budget
//! - [`facts`], [`health`]: what components tell whoever asks how they are; [`host`]: what they
//!   ask of the daemon
//!
//! The pipeline does no IO and knows no reactor. Components call it; it answers with Deferreds
//! and with calls queued for the turn.

pub mod addresses;
mod admission;
pub mod blocked;
pub mod component;
pub mod condition;
pub mod descriptor;
pub mod encode;
pub mod facts;
pub mod graph;
pub mod guard;
pub mod health;
pub mod host;
pub mod intake;
pub mod ledger;
pub mod letter;
pub mod memory;
pub mod options;
pub mod part;
mod picked;
pub mod port;
pub mod queue;
pub mod shared_options;
pub mod step;
pub mod template;
pub mod tls;
