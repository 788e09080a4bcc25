//! `discard`: takes everything and keeps nothing but the count, for tests and measurements.
//!
//! What it takes counts as delivered, so it also is where one sends what nobody wants.

use crate::deferred::{Deferred, Failure};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::port::Inlet;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "discard",
    summary: "counts events and throws them away",
    options: &[],
    shared: &[],
    example: "[sink.nowhere]\ntype = \"discard\"\n",
    build: Build::Sink(build),
};

fn build(_: &Options) -> Result<Box<dyn Sink>, Mistake> {
    Ok(Box::new(Discard))
}

struct Discard;

impl Sink for Discard {
    fn start(&mut self, inlet: Inlet, _: &Resources) -> Result<Vec<String>, Failure> {
        let taken = inlet.clone();
        inlet.on_ready(move || {
            while let Some(part) = taken.next() {
                part.delivered();
            }
        });
        Ok(vec!["throwing everything away".to_owned()])
    }

    fn stop(&mut self) -> Deferred<()> {
        Deferred::ready(())
    }
}
