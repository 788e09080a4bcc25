//! `socket`: lines or other frames from whoever connects or sends datagrams.
//!
//! One source serves every transport. An event is what a frame holds, and nothing looks into it;
//! all that has to do with sockets is in `listening.rs`.

use crate::pipeline::component::Source;
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::pipeline::tls::LISTENING_TLS;

use super::listening::{FRAMING, LISTEN, Listening, RECEIVE_BUFFER};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "socket",
    summary: "frames over TCP, TLS, UDP and Unix sockets, from whoever sends them",
    options: &[LISTEN, FRAMING, shared_options::MAX_MESSAGE, RECEIVE_BUFFER],
    shared: &[shared_options::ACCEPTING, LISTENING_TLS],
    example: "[source.lines]\ntype   = \"socket\"\nlisten = [\"tcp://127.0.0.1:5514\"]\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Listening::of(options)?.source(None))
}
