//! `http`: lines or NDJSON that are posted, acknowledged when they have arrived.
//!
//! POST and PUT on any path; every line of the body that is not empty is an event. The answer
//! is 200, without content, once the source's `ack` stage is reached, and only then. A request
//! is taken whole or not at all; what is not taken is answered with
//! - 400: the body ended early, breaks its framing, or is damaged gzip
//! - 405: another method; 415: another coding than gzip
//! - 408: the body came slower than 1 KiB/s over 30 s
//! - 413: more than `max_body` (on the wire, or decoded), or more than a million lines
//! - 422: a destination will never take some of the events, and the pipeline has no dead
//!   letters; only here others of the request may have arrived
//! - 429: no room for `busy_timeout`, in the pipeline or in memory, in the buffer of a sink that
//!   drops, or too many bodies at once; try again after 1 to 30 s, longer the longer it is so
//! - 503: a disk buffer has failed, a sink gave the events up, or the daemon is stopping; try
//!   again later
//!
//! An answer may wait for as long as the sinks do: a client that gives up before, and sends
//! again, may make duplicates. An idle connection is closed after `idle_timeout`, at the latest
//! after 75 s. At a stop, requests in progress are answered before their connections close.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, join_all};
use crate::event::{Batch, Event, Origin, Span};
use crate::http::server::unavailable;
use crate::http::{
    BodyError, BodyLimits, Budget, Request, Response, Server, ServerOptions, Service, ServiceFuture,
};
use crate::pipeline::addresses;
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Claims, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::part::{Lost, Refused};
use crate::pipeline::shared_options;
use crate::pipeline::tls::{self, LISTENING_TLS};
use crate::telemetry::events::HttpCounts;
use crate::time::{Duration, Instant};
use crate::transport::tls::{ServerSpec, ServerTls};
use crate::transport::{
    Address, BindOptions, ConnectionOptions, Limits, ListenOptions, Listener, Network,
};

use super::bodies;
use super::losses::Losses;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "http",
    summary: "lines or NDJSON by POST and PUT, answered when they have arrived",
    options: &[
        Opt::new(
            "listen",
            "where to listen: http://, https://, unix:// or systemd:NAME (tcp:// is http://, \
             tls:// is https://)",
            addresses::LISTEN_HTTP,
        )
        .required()
        .claims(Claims::Listener),
        Opt::new(
            "max_body",
            "largest body, in bytes, on the wire and decoded; a larger one is refused with 413",
            Kind::Size {
                min: 1 << 10,
                max: 1 << 30,
                words: &[],
            },
        )
        .default("\"16MiB\""),
        Opt::new(
            "busy_timeout",
            "how long a request waits for room before it is refused with 429",
            Kind::DURATION,
        )
        .default("\"5s\""),
    ],
    shared: &[shared_options::ACCEPTING, LISTENING_TLS],
    example: "[source.web]\ntype   = \"http\"\nlisten = [\"tcp://127.0.0.1:8686\"]\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let addresses = options.texts("listen");
    let addresses = addresses.into_iter().map(addresses::parse_http);
    let addresses: Vec<Address> = addresses
        .collect::<Result<_, _>>()
        .map_err(|e| e.of("listen"))?;
    let per_peer = options.maybe_count("max_connections_per_peer");
    let idle_timeout = options.maybe_duration("idle_timeout");
    let defaults = ServerOptions::default();
    Ok(Box::new(HttpSource {
        tls_spec: tls::listening(options, &addresses, true)?,
        tls: None,
        addresses,
        limits: BodyLimits {
            bytes_max: options.size("max_body") as usize,
            ..BodyLimits::default()
        },
        busy_timeout: options.duration("busy_timeout"),
        connection: ConnectionOptions {
            keepalive: options.maybe_duration("keepalive"),
            ..ConnectionOptions::default()
        },
        connections: Limits::new(
            options.count("max_connections") as usize,
            per_peer.map(|max| max as usize),
        ),
        server: ServerOptions {
            idle_timeout: idle_timeout.map_or(defaults.idle_timeout, |limit| {
                limit.min(defaults.idle_timeout)
            }),
            ..defaults
        },
        running: None,
    }))
}

struct HttpSource {
    addresses: Vec<Address>,
    limits: BodyLimits,
    busy_timeout: Duration,
    connection: ConnectionOptions,
    connections: Rc<Limits>,
    server: ServerOptions,
    tls_spec: Option<ServerSpec>,
    tls: Option<Rc<ServerTls>>,
    running: Option<Running>,
}

struct Running {
    server: Server,
    receiver: Rc<Receiver>,
    /// Each with the scheme of its URLs.
    listeners: Vec<(&'static str, Listener)>,
}

impl Source for HttpSource {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        let component = format!("source.{}", outlet.name());
        let spec = self.tls_spec.clone();
        self.tls = spec.map(|spec| ServerTls::new(network.tls(), spec));
        outlet.answers_after(self.busy_timeout);
        let receiver = Rc::new(Receiver {
            name: outlet.name().as_ref().into(),
            budget: bodies::budget(&outlet, &self.limits, self.busy_timeout),
            outlet,
            limits: self.limits.clone(),
            busy_timeout: self.busy_timeout,
            full_since: Cell::default(),
            counts: Counts::default(),
        });
        let service = Rc::new(Front(Rc::clone(&receiver)));
        let server = Server::new(network.reactor(), component, self.server.clone(), service);
        let mut running = Running {
            server,
            receiver,
            listeners: Vec::new(),
        };
        let mut about = Vec::new();
        for address in &self.addresses {
            let options = ListenOptions {
                bind: BindOptions::default(),
                connection: self.connection.clone(),
                limits: Some(Rc::clone(&self.connections)),
                tls: self.tls.clone(),
            };
            let scheme = match address {
                Address::Tls { .. } => "https",
                _ => "http",
            };
            match network.listen(address, options, Rc::new(running.server.clone())) {
                Ok(listeners) => {
                    let listeners = listeners.into_iter().map(|listener| (scheme, listener));
                    let listeners: Vec<_> = listeners.collect();
                    about.extend(listeners.iter().flat_map(lines_about));
                    running.listeners.extend(listeners);
                }
                Err(error) => {
                    drop(running.stop_listening());
                    return Err(error.into());
                }
            }
        }
        self.running = Some(running);
        Ok(about)
    }

    fn is_single(&self) -> bool {
        false
    }

    /// Fires when every request in progress has its answer: while a sink is stuck, not before
    /// `close`.
    fn stop(&mut self) -> Deferred<()> {
        let Some(running) = &self.running else {
            return Deferred::ready(());
        };
        let server = running.server.clone();
        running.stop_listening().add_both(move |_| server.stop())
    }

    fn log_counts(&self) {
        if let Some(running) = &self.running {
            running.receiver.log_counts();
        }
    }

    fn facts(&self) -> Facts {
        let Some(running) = &self.running else {
            return Facts::default();
        };
        let place = |(scheme, listener): &(&str, Listener)| match listener.local_address() {
            ip if ip.is_ip() => format!("{scheme}://{ip}"),
            path => format!("unix://{path}"),
        };
        let mut facts = Facts {
            places: running.listeners.iter().map(place).collect(),
            counts: running.receiver.counts.named(),
            certificates: self
                .tls
                .as_ref()
                .map_or_else(Vec::new, |tls| tls.certificates()),
            ..Facts::default()
        };
        let losses = Losses::default();
        losses.limited_by(&self.connections);
        losses.add_to(&mut facts);
        facts
    }

    fn peers(&self, most: usize) -> Vec<String> {
        let running = self.running.as_ref();
        running.map_or_else(Vec::new, |running| running.server.peers(most))
    }

    fn close(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.stop_listening());
            running.server.abort();
            running.receiver.log_counts();
        }
    }
}

impl Running {
    fn stop_listening(&self) -> Deferred<()> {
        let listeners = self.listeners.iter();
        let stopped: Vec<_> = listeners.map(|(_, listener)| listener.stop()).collect();
        join_all(stopped).add_both(|_| ())
    }
}

/// Where to post to, and how to see that it works where one can see it from here.
fn lines_about((scheme, listener): &(&'static str, Listener)) -> Vec<String> {
    let local = listener.local_address();
    if !local.is_ip() {
        return vec![format!("listening for HTTP on unix://{local}")];
    }
    let hint = local
        .from_here()
        .map(|address| format!("try it: curl -d hello {scheme}://{address}/"));
    let line = format!("listening on {scheme}://{local}");
    std::iter::once(line).chain(hint).collect()
}

/// What a source of this kind counts beside the events in its pipelines' ledgers.
#[derive(Debug, Default)]
struct Counts {
    /// Requests that were answered with 200.
    accepted: Cell<u64>,
    /// Requests that were refused for what they are: nothing of them was taken.
    refused: Cell<u64>,
    /// Requests that were refused with 429 for want of room: nothing of them was taken.
    busy: Cell<u64>,
    /// Requests whose events a sink gave up on.
    failed: Cell<u64>,
    /// Lines without a byte, which make no event.
    empty_lines: Cell<u64>,
}

impl Counts {
    fn named(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            ("requests_accepted", &self.accepted),
            ("requests_refused", &self.refused),
            ("requests_busy", &self.busy),
            ("requests_failed", &self.failed),
            ("empty_lines", &self.empty_lines),
        ];
        counts.map(|(name, count)| (name, count.get())).to_vec()
    }
}

/// What all requests of a source share.
struct Receiver {
    outlet: Outlet,
    name: Arc<str>,
    limits: BodyLimits,
    budget: Rc<Budget>,
    busy_timeout: Duration,
    /// When the first of the requests was refused that have all been refused for want of room.
    full_since: Cell<Option<Instant>>,
    counts: Counts,
}

struct Front(Rc<Receiver>);

impl Service for Front {
    fn serve(&self, request: Request) -> ServiceFuture {
        let receiver = Rc::clone(&self.0);
        Box::pin(async move {
            let answer = receiver.take(request).await;
            receiver.count(answer.status);
            answer
        })
    }
}

impl Receiver {
    fn log_counts(&self) {
        let Counts {
            accepted,
            refused,
            busy,
            failed,
            empty_lines,
        } = &self.counts;
        let record = HttpCounts {
            source: &self.name,
            accepted: accepted.get(),
            refused: refused.get(),
            busy: busy.get(),
            failed: failed.get(),
            empty_lines: empty_lines.get(),
        };
        record.log();
    }

    fn count(&self, status: u16) {
        let counts = &self.counts;
        if status == 200 {
            self.full_since.set(None);
        }
        add(match status {
            200 => &counts.accepted,
            429 => &counts.busy,
            422 | 503 => &counts.failed,
            _ => &counts.refused,
        });
    }

    async fn take(&self, request: Request) -> Response {
        if !matches!(request.method.as_str(), "POST" | "PUT") {
            return Response::new(405)
                .with("allow", "POST, PUT")
                .because("send events by POST or PUT");
        }
        // What the head alone forbids is refused before the sender is asked for its body.
        if let Err(error) = request.body.check(&self.limits) {
            return self.refusal(&error);
        }
        let intake = self.outlet.intake();
        if !self.has_room(&intake).await {
            return self.busy("the sinks of this source are behind");
        }
        let bytes = match request.body.read(&self.limits, &self.budget).await {
            Ok(bytes) => bytes,
            Err(error) => return self.refusal(&error),
        };
        let Some((events, empty)) = lines(&bytes) else {
            return Response::new(413).because("the body has more than a million lines");
        };
        let empty_lines = &self.counts.empty_lines;
        empty_lines.set(empty_lines.get() + empty);
        if events.is_empty() {
            return Response::new(200);
        }
        let origin = Origin {
            source: Arc::clone(&self.name),
            peer: request.peer,
        };
        let wall = self.outlet.scheduler().wall();
        let mut batch = Batch::new(Arc::new(origin), wall, bytes);
        batch.events = events.into();
        // The failure is answered here also where the asker is gone when it comes.
        let delivered = intake.deliver(batch).add_both(Ok);
        match delivered.await.and_then(|delivered| delivered) {
            Ok(_) => Response::new(200),
            Err(failure) => self.failed(&failure),
        }
    }

    /// The events were not brought as far as the source promises. Senders need not know to whom
    /// they were to go, nor what was said there.
    fn failed(&self, failure: &Failure) -> Response {
        match failure.downcast_ref() {
            Some(Refused::BufferFull { .. }) => return self.busy("a buffer is full"),
            Some(Refused::StorageFailed { .. }) => {
                return unavailable("the events cannot be stored at the moment");
            }
            None => {}
        }
        match failure.downcast_ref() {
            Some(Lost {
                is_for_good: true, ..
            }) => Response::new(422).because("some of the events are refused where they are to go"),
            _ => unavailable("the events could not be delivered"),
        }
    }

    fn refusal(&self, error: &BodyError) -> Response {
        let status = match error {
            BodyError::TooLarge(_) => 413,
            BodyError::Broken(_) | BodyError::Undecodable => 400,
            BodyError::TooSlow => 408,
            BodyError::TooMany | BodyError::NoMemory => return self.busy(&error.to_string()),
            BodyError::UnknownCoding(_) => {
                let refused = Response::new(415).with("accept-encoding", "gzip");
                return refused.because(&error.to_string());
            }
        };
        Response::new(status).because(&error.to_string())
    }

    /// A 429: the longer there has been no room, the longer until it is worth another try.
    fn busy(&self, why: &str) -> Response {
        let now = self.outlet.scheduler().now();
        let since = self.full_since.get().unwrap_or(now);
        self.full_since.set(Some(since));
        let seconds = now.since(since).as_secs().clamp(1, RETRY_AFTER_MAX_SECONDS);
        Response::new(429)
            .with("retry-after", &seconds.to_string())
            .because(why)
    }

    /// Waits until the intake is not blocked; false when that takes too long.
    async fn has_room(&self, intake: &Intake) -> bool {
        let scheduler = self.outlet.scheduler();
        let until = scheduler.now() + self.busy_timeout;
        while intake.is_blocked() {
            let left = until.since(scheduler.now());
            if left.is_zero() {
                return false;
            }
            let (promise, resumed) = Deferred::new();
            let promise = RefCell::new(Some(promise));
            intake.on_resume(move || {
                let promise = promise.borrow_mut().take();
                promise.map(|promise| promise.callback(()));
            });
            drop(resumed.timeout(left, &**scheduler).await);
        }
        true
    }
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// The lines of a body that have a byte, and how many have none; `None`: too many. A carriage
/// return before the newline belongs to the end of the line.
fn lines(bytes: &Bytes) -> Option<(Vec<Event>, u64)> {
    let (mut events, mut empty, mut start) = (Vec::new(), 0, 0);
    let ends = memchr::memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len()));
    for newline in ends {
        let has_return = newline > start && bytes[newline - 1] == b'\r';
        let end = newline - usize::from(has_return);
        if end > start {
            events.push(Event::Raw(Span::new(start, end)));
        } else if newline < bytes.len() {
            empty += 1;
        }
        if events.len() > EVENTS_MAX {
            return None;
        }
        start = newline + 1;
    }
    Some((events, empty))
}

/// The longest that a sender is told to wait for room.
const RETRY_AFTER_MAX_SECONDS: u64 = 30;

/// Events in one request.
const EVENTS_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_spans_of_the_body() {
        let check = |body: &'static str, expected: &[&str], empty: u64| {
            let bytes = Bytes::from_static(body.as_bytes());
            let (events, found_empty) = lines(&bytes).unwrap();
            let text = |event: &Event| match event {
                Event::Raw(span) => &body[span.start as usize..span.end as usize],
                Event::Fields(_) => unreachable!(),
            };
            let found: Vec<&str> = events.iter().map(text).collect();
            assert_eq!((found, found_empty), (expected.to_vec(), empty), "{body:?}");
        };
        check("", &[], 0);
        check("a", &["a"], 0);
        check("a\n", &["a"], 0);
        check("a\r\nb\r\n", &["a", "b"], 0);
        check("\n\r\na\n\nb", &["a", "b"], 3);
        check("a\rb\r", &["a\rb"], 0);
        let many = Bytes::from("x\n".repeat(EVENTS_MAX + 1));
        assert!(lines(&many).is_none());
    }
}
