//! `http`: events by POST, a line each, gathered by size and age.
//!
//! One request is under way at a time, so events arrive in order. They are delivered when the
//! server has answered the whole request with 2xx; what any other answer means is the table in
//! `verdict`. A request that is made again has the same body and the same `Idempotency-Key`: a
//! server that has taken it although its answer was lost can tell (F-102).
//!
//! A request that is refused for what is in it is cut in halves until only the events remain
//! that the server does not take; these go to the dead letters (F-059). One that is too large
//! is cut in halves, too, and those after it are made smaller.

mod hold;
mod poster;
mod pulse;
mod sender;
mod verdict;

use std::rc::Rc;

use crate::deferred::{Deferred, Failure};
use crate::http::{BodyLimits, ClientOptions, Headers, Url};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::encode::{ENCODE, Encoder};
use crate::pipeline::facts::Facts;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::port::Inlet;
use crate::pipeline::shared_options;
use crate::pipeline::tls::{self, DIALLING_TLS};
use crate::time::Duration;
use crate::transport::{BackoffOptions, Network};

use sender::Running;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "http",
    summary: "lines or NDJSON by POST, acknowledged by the server's 2xx",
    options: &[
        Opt::new(
            "url",
            "where to post to: an http:// or https:// URL",
            Kind::Text(Some(check_url)),
        )
        .required(),
        Opt::new(
            "batch.bytes",
            "largest body of a request, in bytes before compression; a single event that is \
             longer goes alone",
            Kind::Size {
                min: 1 << 10,
                max: 256 << 20,
                words: &[],
            },
        )
        .default("\"1MiB\""),
        Opt::new(
            "batch.age",
            "a request is made when there is enough for `batch.bytes`, or for half of the \
             buffer or of a connection's window, or when its first event has waited so long",
            Kind::DURATION,
        )
        .default("\"1s\""),
        ENCODE,
        Opt::new(
            "compress",
            "coding of the body: \"gzip\" or \"off\"",
            Kind::Word(&["off", "gzip"]),
        )
        .default("\"off\""),
        Opt::new(
            "timeout",
            "limit of one request, from making a connection to the last byte of the answer; \
             then it is made again",
            Kind::DURATION,
        )
        .default("\"30s\""),
    ],
    shared: &[
        shared_options::ASKING,
        shared_options::DIALLING,
        DIALLING_TLS,
    ],
    example: "[sink.lake]\ntype = \"http\"\nurl  = \"http://lake.example.net:8080/events\"\n",
    build: Build::Sink(build),
};

fn check_url(text: &str) -> Result<(), Mistake> {
    parse_url(text).map(|_| ())
}

fn parse_url(text: &str) -> Result<Url, Mistake> {
    Url::parse(text).map_err(|error| {
        let length = text.len().saturating_sub(error.offset);
        Mistake::new(error.message)
            .at(error.offset, length)
            .help(error.help)
    })
}

fn build(options: &Options) -> Result<Box<dyn Sink>, Mistake> {
    let timeout = options.duration("timeout");
    let encoder = Encoder::of(options)?;
    let url = parse_url(options.text("url")).map_err(|mistake| mistake.of("url"))?;
    let tls = tls::dialling(options, [&url.address()], true)?;
    let plan = Plan {
        url,
        headers: headers(options, &encoder)?,
        client: ClientOptions {
            timeout,
            connect_timeout: options.duration("connect_timeout").min(timeout),
            body: BodyLimits {
                bytes_max: ANSWER_BYTES_MAX,
                window: timeout,
                window_bytes_min: 0,
            },
            tls,
            ..ClientOptions::default()
        },
        encoder,
        body_bytes_max: options.size("batch.bytes") as usize,
        age: options.duration("batch.age"),
        is_gzip: options.word("compress") == "gzip",
        backoff: BackoffOptions {
            max: options.duration("retry.max_delay"),
            ..BackoffOptions::default()
        },
        give_up: options.maybe_duration("retry.give_up"),
    };
    Ok(Box::new(HttpSink {
        plan: Rc::new(plan),
        running: None,
    }))
}

/// The header fields of every request.
fn headers(options: &Options, encoder: &Encoder) -> Result<Headers, Mistake> {
    let mut headers = Headers::default();
    let content = match encoder {
        Encoder::Json => "application/x-ndjson",
        Encoder::Raw => "application/octet-stream",
        Encoder::Logfmt | Encoder::Syslog(_) | Encoder::Template(_) => "text/plain; charset=utf-8",
    };
    headers.set("content-type", content.as_bytes());
    shared_options::header_fields(options, |name, value| headers.set(name, value))?;
    Ok(headers)
}

/// What the options say.
struct Plan {
    url: Url,
    headers: Headers,
    client: ClientOptions,
    encoder: Encoder,
    body_bytes_max: usize,
    age: Duration,
    is_gzip: bool,
    backoff: BackoffOptions,
    give_up: Option<Duration>,
}

struct HttpSink {
    plan: Rc<Plan>,
    running: Option<Running>,
}

impl Sink for HttpSink {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        self.running = Some(Running::start(network, Rc::clone(&self.plan), inlet));
        Ok(vec![format!("posting to {}", self.plan.url)])
    }

    fn drain(&mut self) {
        if let Some(running) = &self.running {
            running.drain();
        }
    }

    fn facts(&self) -> Facts {
        let running = self.running.as_ref();
        Facts {
            places: vec![self.plan.url.to_string()],
            connections: running.map(Running::connections),
            certificates: running.map(Running::certificates).unwrap_or_default(),
            counts: running.map(Running::counts).unwrap_or_default(),
            ..Facts::default()
        }
    }

    /// A request under way is given up: whatever it has come to, nobody was told.
    fn stop(&mut self) -> Deferred<()> {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        Deferred::ready(())
    }
}

/// The largest body of an answer; of a larger one nobody knows whether it is whole.
const ANSWER_BYTES_MAX: usize = 1 << 20;
