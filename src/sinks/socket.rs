//! `socket`: frames to a collector over TCP, a Unix socket, or as datagrams.
//!
//! A stream is one connection, made again with back-off whenever it is lost, and in order. A
//! part is settled when the peer's kernel has acknowledged all of it; what was not acknowledged
//! when a connection was lost is sent again on the next one, from the first frame that is not
//! known to have arrived. What the peer's kernel has acknowledged its process may not have read:
//! the end of that is kept and, after a reset or a time-out, sent again (`replay`). Datagrams
//! are settled when the kernel has taken them.

mod datagrams;
mod replay;
mod stream;

use std::rc::Rc;

use self::replay::Replay;
use crate::deferred::{Deferred, Failure};
use crate::pipeline::addresses;
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::encode::{ENCODE, Encoder, FRAMES, Frame};
use crate::pipeline::facts::Facts;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::port::Inlet;
use crate::pipeline::shared_options;
use crate::pipeline::tls::{self, DIALLING_TLS};
use crate::time::Duration;
use crate::transport::tls::{ClientSpec, ClientTls};
use crate::transport::{Address, BackoffOptions, ClientOptions, ConnectOptions, Network};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "socket",
    summary: "frames to a collector over TCP, TLS, UDP or a Unix socket",
    options: &[
        Opt::new(
            "address",
            "whom to send to: tcp://, tls://, udp://, unix:// or unixgram://",
            addresses::DIAL,
        ),
        Opt::new(
            "addresses",
            "several collectors in place of `address`: the first that can be reached is used",
            addresses::DIAL_LIST,
        ),
        ENCODE,
        Opt::new(
            "framing",
            "how events are told apart in a stream; each datagram is one event",
            Kind::Word(FRAMES),
        )
        .default("\"lines\""),
        Opt::new(
            "replay",
            "how much of a TCP stream is sent again after a reset or a time-out although the \
             collector's kernel had acknowledged it: \"auto\" is what that kernel may hold \
             unread, by the windows it has advertised; never more than half of the buffer",
            Kind::Size {
                min: 1,
                max: 1 << 40,
                words: &["auto", "off"],
            },
        )
        .default("\"auto\""),
    ],
    shared: &[shared_options::DIALLING, DIALLING_TLS],
    example: "[sink.collector]\ntype    = \"socket\"\n\
              address = \"tcp://collector.example.net:6514\"\n",
    build: Build::Sink(build),
};

fn build(options: &Options) -> Result<Box<dyn Sink>, Mistake> {
    let texts = options.one_or_many("address", "addresses")?;
    let addresses = texts
        .iter()
        .map(|text| addresses::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let tls_spec = tls::dialling(options, &addresses, false)?;
    let how = How {
        encoder: Encoder::of(options)?,
        frame: Frame::of(options.word("framing")),
        replay: Replay::of(options),
    };
    let are_datagrams = addresses
        .iter()
        .filter(|a| a.is_datagram() == Some(true))
        .count();
    if are_datagrams == 0 {
        let running = None;
        return Ok(Box::new(StreamSink {
            client: client_options(options, addresses),
            how,
            tls_spec,
            tls: None,
            running,
        }));
    }
    if options.is_set("replay") {
        let message = "a datagram counts as delivered when it is sent, and is never sent again";
        return Err(options.mistake("replay", message).help("leave it out"));
    }
    match <[Address; 1]>::try_from(addresses) {
        Ok([address]) => Ok(Box::new(DatagramSink {
            address,
            how,
            running: None,
        })),
        Err(_) => Err(options
            .mistake(
                "addresses",
                "datagrams go to one address: nobody says whether it is there",
            )
            .help("use one `address`, or streams")),
    }
}

fn client_options(options: &Options, addresses: Vec<Address>) -> ClientOptions {
    ClientOptions {
        addresses,
        connect: ConnectOptions {
            timeout: options.duration("connect_timeout"),
            ..ConnectOptions::default()
        },
        prepare_timeout: Duration::from_secs(10),
        backoff: BackoffOptions {
            max: options.duration("retry.max_delay"),
            ..BackoffOptions::default()
        },
        stable_after: Duration::from_secs(30),
    }
}

/// How events become bytes.
#[derive(Clone)]
struct How {
    encoder: Encoder,
    frame: Frame,
    replay: Replay,
}

struct StreamSink {
    client: ClientOptions,
    how: How,
    tls_spec: Option<ClientSpec>,
    tls: Option<Rc<ClientTls>>,
    running: Option<stream::Sender>,
}

impl Sink for StreamSink {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        let names: Vec<_> = self
            .client
            .addresses
            .iter()
            .map(Address::to_string)
            .collect();
        let spec = self.tls_spec.clone();
        self.tls = spec.map(|spec| ClientTls::new(network.tls(), spec));
        let mut client = self.client.clone();
        client.connect.tls = self.tls.clone();
        let sender = stream::Sender::start(network, client, self.how.clone(), inlet);
        self.running = Some(sender);
        Ok(vec![format!("sending to {}", names.join(", "))])
    }

    fn stop(&mut self) -> Deferred<()> {
        self.running
            .take()
            .map_or_else(|| Deferred::ready(()), stream::Sender::stop)
    }

    fn facts(&self) -> Facts {
        let running = self.running.as_ref();
        Facts {
            places: self
                .client
                .addresses
                .iter()
                .map(Address::to_string)
                .collect(),
            connections: running.map(stream::Sender::connections),
            certificates: self
                .tls
                .as_ref()
                .map_or_else(Vec::new, |tls| tls.certificates()),
            ..Facts::default()
        }
    }
}

struct DatagramSink {
    address: Address,
    how: How,
    running: Option<datagrams::Sender>,
}

impl Sink for DatagramSink {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        let encoder = self.how.encoder.clone();
        let sender = datagrams::Sender::start(network, self.address.clone(), encoder, inlet);
        self.running = Some(sender);
        Ok(vec![format!("sending to {}", self.address)])
    }

    fn stop(&mut self) -> Deferred<()> {
        if let Some(sender) = self.running.take() {
            sender.stop();
        }
        Deferred::ready(())
    }

    fn facts(&self) -> Facts {
        Facts {
            places: vec![self.address.to_string()],
            ..Facts::default()
        }
    }
}
