//! `socket`: lines or other frames from whoever connects or sends datagrams.
//!
//! One source serves every transport. An event is what a frame holds, and nothing looks into it;
//! all that has to do with sockets is in `listening.rs`.

use crate::deferred::{Deferred, Failure};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::pipeline::tls::LISTENING_TLS;
use crate::transport::Network;

use super::framed::InputShared;
use super::listening::{FRAMING, LISTEN, Listening, RECEIVE_BUFFER, Receiver};

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
    Ok(Box::new(SocketSource {
        listening: Listening::of(options)?,
        receiver: None,
    }))
}

struct SocketSource {
    listening: Listening,
    receiver: Option<Receiver>,
}

impl Source for SocketSource {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let Listening {
            framing,
            max_message,
            ..
        } = self.listening;
        let input = InputShared::new(outlet, framing, max_message, None);
        let network = resources.get::<Network>();
        let (receiver, about) = self.listening.start(input, network)?;
        self.receiver = Some(receiver);
        Ok(about)
    }

    fn stop(&mut self) -> Deferred<()> {
        let stopped = self.receiver.as_ref().map(Receiver::stop);
        stopped.unwrap_or_else(|| Deferred::ready(()))
    }

    fn log_counts(&self) {
        self.receiver.iter().for_each(Receiver::log_counts);
    }

    fn facts(&self) -> Facts {
        let facts = self.receiver.as_ref().map(Receiver::facts);
        facts.unwrap_or_default()
    }

    fn peers(&self, most: usize) -> Vec<String> {
        let peers = self.receiver.as_ref().map(|it| it.peers(most));
        peers.unwrap_or_default()
    }

    fn close(&mut self) {
        self.receiver.iter().for_each(Receiver::close);
    }
}
