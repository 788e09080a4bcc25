//! The sink of a measurement: encodes as the sink in the configuration would, and throws it away.
//! No user can name it.
//!
//! What was encoded is taken out as slices, like by every sink that writes, so that the buffers
//! come from the allocator and go back to it as they do there.

use std::cell::RefCell;
use std::rc::Rc;

use crate::deferred::{Deferred, Failure};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::encode::{Encoder, Frame, Output};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::part::Part;
use crate::pipeline::port::Inlet;

use super::probe::Probe;

/// In place of any sink.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "bench",
    summary: "encodes events and throws them away",
    options: &[],
    shared: &[],
    example: "",
    build: Build::Sink(build),
};

fn build(options: &Options) -> Result<Box<dyn Sink>, Mistake> {
    let has = |name: &str| options.declares(name);
    let encoder = has("encode").then(|| Encoder::of(options)).transpose()?;
    let framing = has("framing").then(|| options.word("framing"));
    Ok(Box::new(Bench {
        encoder,
        frame: Frame::of(framing.unwrap_or_default()),
        inlet: None,
    }))
}

struct Bench {
    /// None where the sink only counts.
    encoder: Option<Encoder>,
    frame: Frame,
    inlet: Option<Inlet>,
}

impl Sink for Bench {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let (encoder, frame) = (self.encoder.clone(), self.frame);
        let output = RefCell::new(Output::new());
        let probe = Rc::clone(resources.get::<Rc<Probe>>());
        let taken = inlet.clone();
        let encode = move |part: &Part| {
            let Some(encoder) = &encoder else { return };
            let mut output = output.borrow_mut();
            encoder.encode_part(part, frame, &mut output);
            let bytes: usize = output.take().iter().map(|slice| slice.len()).sum();
            let before = probe.encoded_bytes.get();
            probe.encoded_bytes.set(before + bytes as u64);
        };
        inlet.on_ready(move || {
            while let Some(part) = taken.next() {
                encode(&part);
                part.delivered();
            }
        });
        self.inlet = Some(inlet);
        Ok(Vec::new())
    }

    fn stop(&mut self) -> Deferred<()> {
        // The call holds the inlet that holds the call.
        if let Some(inlet) = self.inlet.take() {
            inlet.on_ready(|| {});
        }
        Deferred::ready(())
    }
}
