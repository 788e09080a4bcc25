//! Requests to servers: connections that are used again, redirects, limits on everything.
//!
//! One request at a time is on a connection; when it is over and the server keeps it open, the
//! connection waits for the next request to the same host and port. A server may close it
//! just then: such a request is made again, once, on a new connection (F-103). Redirects are
//! followed for GET, on the same scheme, host and port only, so nothing that was written for one
//! server (not its `Authorization`, not our place in its network) reaches another.
//!
//! A body that was cut off, by a reset or against its own length, is an error; only who refuses
//! a POST has said it all with the status. Time, head, body and the ratio of its packing are
//! bounded, whatever the server sends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header;

use super::body::{Body, BodyError, BodyLimits, reason};
use super::budget::Budget;
use super::message::{Headers, Response};
use super::url::Url;
use super::wire::{Plug, Wire};
use crate::deferred::{Deferred, Failure};
use crate::time::Duration;
use crate::transport::tls::{CertificateFacts, ClientSpec, ClientTls};
use crate::transport::{Address, ConnectOptions, Connection, ConnectionOptions, Network};

/// The limits of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Over everything from the start of a request to the last byte of its answer, redirects
    /// included.
    pub timeout: Duration,
    /// Of that, what making a connection may take: look-up of the name and all addresses.
    pub connect_timeout: Duration,
    /// Of answers' bodies.
    pub body: BodyLimits,
    /// Redirects followed for one request.
    pub redirects_max: usize,
    /// Bytes of status line and header fields together.
    pub head_bytes_max: usize,
    /// Header fields.
    pub headers_max: usize,
    /// How long a connection waits for its next request.
    pub idle_timeout: Duration,
    /// How TLS is spoken with `https://` servers.
    pub tls: Option<ClientSpec>,
    /// Whom to dial in place of the host that a URL names: a Unix socket that speaks HTTP.
    pub dial: Option<Address>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            body: BodyLimits::default(),
            redirects_max: 5,
            head_bytes_max: 32 << 10,
            headers_max: 100,
            idle_timeout: Duration::from_secs(90),
            tls: None,
            dial: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The exchange broke, or was not HTTP; what the parser says.
    Broken(String),
    /// The answer's body was not taken.
    Body(BodyError),
    /// A redirect that is not followed, to this URL.
    Redirect(String),
    /// More redirects than are followed.
    RedirectLoop(usize),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Broken(why) => write!(f, "no complete answer: {why}"),
            ClientError::Body(error) => error.fmt(f),
            ClientError::Redirect(to) => {
                write!(
                    f,
                    "redirected to another server, {to}; write its URL instead"
                )
            }
            ClientError::RedirectLoop(max) => write!(f, "redirected more than {max} times"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Makes requests. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    network: Network,
    options: ClientOptions,
    tls: Option<Rc<ClientTls>>,
    budget: Rc<Budget>,
    idle: RefCell<HashMap<String, Vec<Lane>>>,
    /// Connections that are open.
    open: Rc<Cell<u64>>,
}

/// One request, which may have to be made twice.
#[derive(Clone, Copy)]
struct Outgoing<'a> {
    url: &'a Url,
    headers: &'a Headers,
    /// What is posted; without it the request is a GET.
    body: Option<&'a Bytes>,
}

/// A connection without a request.
struct Lane {
    sender: SendRequest<Full<Bytes>>,
    wire: Rc<Wire>,
}

impl Client {
    /// A client without connections. The bodies under way hold at most `budget` together.
    pub fn new(network: &Network, options: ClientOptions, budget: Rc<Budget>) -> Self {
        let spec = options.tls.clone();
        Client {
            shared: Rc::new(Shared {
                network: network.clone(),
                tls: spec.map(|spec| ClientTls::new(network.tls(), spec)),
                options,
                budget,
                idle: RefCell::default(),
                open: Rc::default(),
            }),
        }
    }

    /// Asks for `url` with these header fields; `Host`, `User-Agent` and `Accept-Encoding` are
    /// added. Any status is an answer. Cancelling closes the connection.
    ///
    /// # Errors
    /// [`ClientError`], a [`ConnectError`](crate::transport::ConnectError) or
    /// [`TimedOut`](crate::deferred::TimedOut).
    pub fn get(&self, url: &Url, headers: &Headers) -> Deferred<Response> {
        let shared = Rc::clone(&self.shared);
        let (url, headers) = (url.clone(), headers.clone());
        let reactor = self.shared.network.reactor();
        self.limit(reactor.spawn(async move { shared.follow(url, &headers).await }))
    }

    /// Posts `body` to `url`. Any status is an answer, a redirect too; the body of one that is
    /// not 2xx is empty where it could not be had. Cancelling closes the connection.
    ///
    /// # Errors
    /// As [`Client::get`]. The server may have taken the body all the same.
    pub fn post(&self, url: &Url, headers: &Headers, body: Bytes) -> Deferred<Response> {
        let shared = Rc::clone(&self.shared);
        let (url, headers) = (url.clone(), headers.clone());
        let reactor = self.shared.network.reactor();
        self.limit(reactor.spawn(async move {
            let outgoing = Outgoing {
                url: &url,
                headers: &headers,
                body: Some(&body),
            };
            shared.ask(outgoing).await
        }))
    }

    fn limit(&self, answer: Deferred<Response>) -> Deferred<Response> {
        let Shared {
            network, options, ..
        } = &*self.shared;
        answer
            .named("the request")
            .timeout(options.timeout, network.reactor())
    }

    /// Connections that are open, with a request or without.
    pub fn connections(&self) -> u64 {
        self.shared.open.get()
    }

    /// The certificate that servers are shown.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        let tls = self.shared.tls.as_ref();
        tls.map_or_else(Vec::new, |tls| tls.certificates())
    }

    /// Closes the connections that wait for a request.
    pub fn close_idle(&self) {
        drop(self.shared.idle.take());
    }
}

impl Shared {
    async fn follow(&self, mut url: Url, headers: &Headers) -> Result<Response, Failure> {
        for _ in 0..=self.options.redirects_max {
            let outgoing = Outgoing {
                url: &url,
                headers,
                body: None,
            };
            let answer = self.ask(outgoing).await?;
            let location = answer.headers.text(header::LOCATION.as_str());
            let Some(location) = location.filter(|_| is_redirect(answer.status)) else {
                return Ok(answer);
            };
            match url.join(location) {
                Some(next) if next.is_same_origin(&url) => url = next,
                Some(other) => return Err(ClientError::Redirect(other.to_string()).into()),
                None => {
                    return Err(ClientError::Redirect("no http:// or https:// URL".into()).into());
                }
            }
        }
        Err(ClientError::RedirectLoop(self.options.redirects_max).into())
    }

    /// One request, on a connection that waits or on a new one.
    async fn ask(&self, outgoing: Outgoing<'_>) -> Result<Response, Failure> {
        while let Some(mut lane) = self.take_idle(outgoing.url) {
            if lane.sender.ready().await.is_err() {
                continue;
            }
            let before = lane.wire.received_bytes();
            let wire = Rc::clone(&lane.wire);
            match self.exchange(lane, outgoing).await {
                // The server closed it while it was idle: not a byte of an answer came.
                Err(ClientError::Broken(_)) if wire.received_bytes() == before => break,
                answer => return Ok(answer?),
            }
        }
        let lane = self.open(outgoing.url).await?;
        Ok(self.exchange(lane, outgoing).await?)
    }

    async fn exchange(
        &self,
        mut lane: Lane,
        outgoing: Outgoing<'_>,
    ) -> Result<Response, ClientError> {
        let request = request(outgoing)?;
        let broken = |error: hyper::Error| ClientError::Broken(reason(&error));
        let answer = lane.sender.send_request(request).await.map_err(broken)?;
        let (head, incoming): (_, Incoming) = answer.into_parts();
        let headers = Headers(head.headers);
        let body = Body::new(incoming, &headers, self.network.reactor());
        let is_refusal = outgoing.body.is_some() && !head.status.is_success();
        let limits = if is_refusal {
            &self.refusal_limits()
        } else {
            &self.options.body
        };
        // What a redirect says in its body is of no use, but read, or the connection is lost.
        let body = match body.read(limits, &self.budget).await {
            Ok(body) => {
                self.keep(lane, outgoing.url);
                body
            }
            Err(_) if is_refusal => Bytes::new(),
            Err(error) => return Err(ClientError::Body(error)),
        };
        Ok(Response {
            status: head.status.as_u16(),
            headers,
            body,
        })
    }

    /// Why something was refused is worth a moment, not the whole time limit.
    fn refusal_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes_max: self.options.body.bytes_max,
            window: REFUSAL_WINDOW.min(self.options.timeout / 2),
            window_bytes_min: 1,
        }
    }

    async fn open(&self, url: &Url) -> Result<Lane, Failure> {
        let wire: Rc<Wire> = Rc::default();
        let options = ConnectOptions {
            timeout: self.options.connect_timeout,
            connection: Rc::new(ConnectionOptions {
                idle_timeout: Some(self.options.idle_timeout.max(self.options.timeout)),
                ..ConnectionOptions::default()
            }),
            tls: self.tls.clone(),
        };
        let plug = Box::new(Plug(Rc::clone(&wire)));
        let given = self.options.dial.clone();
        let address = given.unwrap_or_else(|| url.address());
        let connection = self.network.connect(&address, options, plug).await?;
        let mut builder = Builder::new();
        builder
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .max_header_size(self.options.head_bytes_max)
            .max_headers(self.options.headers_max);
        let (sender, driven) = builder
            .handshake(wire.io())
            .await
            .map_err(|error| ClientError::Broken(reason(&error)))?;
        self.drive(driven, connection);
        Ok(Lane { sender, wire })
    }

    /// Drives hyper until it is done: after an error, or when nobody can send any more. It
    /// learns of a lost connection by reading, so that a body that was cut off hears of it.
    fn drive(
        &self,
        driven: impl Future<Output = Result<(), hyper::Error>> + 'static,
        connection: Connection,
    ) {
        let ended = self.network.reactor().spawn(async move {
            let mut driven = pin!(driven);
            // What went wrong is told to whoever waits for the answer.
            let _ = poll_fn(|context| driven.as_mut().poll(context)).await;
            Ok(())
        });
        let open = Rc::clone(&self.open);
        open.set(open.get() + 1);
        let closed = ended.add_both(move |result: Result<(), Failure>| {
            open.set(open.get() - 1);
            match result {
                Ok(()) => connection.close(),
                Err(_) => connection.abort(),
            }
            result
        });
        closed.log_err("driving an HTTP connection");
    }

    fn take_idle(&self, url: &Url) -> Option<Lane> {
        let mut idle = self.idle.borrow_mut();
        let lanes = idle.get_mut(&url.origin())?;
        lanes.retain(|lane| !lane.sender.is_closed() && !lane.wire.is_lost());
        lanes.pop()
    }

    fn keep(&self, lane: Lane, url: &Url) {
        if lane.sender.is_closed() || lane.wire.is_lost() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_ORIGINS_MAX {
            idle.retain(|_, lanes| {
                lanes.retain(|lane| !lane.sender.is_closed());
                !lanes.is_empty()
            });
        }
        let is_known = idle.contains_key(&url.origin());
        if is_known || idle.len() < IDLE_ORIGINS_MAX {
            let lanes = idle.entry(url.origin()).or_default();
            if lanes.len() < IDLE_PER_ORIGIN_MAX {
                lanes.push(lane);
            }
        }
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn request(outgoing: Outgoing<'_>) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    let Outgoing { url, headers, body } = outgoing;
    let builder = match body {
        Some(_) => hyper::Request::post(url.target()),
        None => hyper::Request::get(url.target()),
    };
    let built = builder
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(Full::new(body.cloned().unwrap_or_default()));
    let mut request = built.map_err(|error| ClientError::Broken(error.to_string()))?;
    for (name, value) in &headers.0 {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}

const USER_AGENT: &str = concat!("marline/", env!("CARGO_PKG_VERSION"));

/// What hyper may hold of one connection's input; a head must fit.
const READ_BUFFER_BYTES_MAX: usize = 64 << 10;

/// How long the body of a refused request may stand still.
const REFUSAL_WINDOW: Duration = Duration::from_secs(5);

/// Connections that wait, for one host and port.
const IDLE_PER_ORIGIN_MAX: usize = 4;

/// Hosts and ports with connections that wait.
const IDLE_ORIGINS_MAX: usize = 1024;
