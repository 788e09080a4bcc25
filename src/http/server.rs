//! Connections that are served: one coroutine each, which drives hyper until it is over.
//!
//! A connection waits for a request, reads its head, and is busy until the answer is made; each
//! state has its time limit, kept by one alarm. What breaks HTTP is answered by hyper with a
//! 4xx; beyond that a request is refused here for a missing or repeated `Host`, or when it is
//! meant for another server (RFC 9112 section 3.2). A request whose body was not read to its
//! end is the last on its connection.
//!
//! [`Server::stop`] answers the requests in progress, gives those that have just arrived a 503,
//! and closes every connection after its answer; it fires when all of them have gone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;

use super::alarm::Alarm;
use super::body::Body;
use super::message::{Headers, Request, Response};
use super::wire::{Plug, Wire};
use crate::deferred::{BrokenPromise, Deferred, Failure, Promise};
use crate::reactor::Handle;
use crate::telemetry::events::{ConnectionOpened, ConnectionRefused};
use crate::time::Duration;
use crate::transport::{Accept, CloseReason, Connection, ConnectionId, Peer, Protocol, Refusal};

/// The limits of a server's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// From the first byte of a request to the end of its head; for a new connection, from
    /// its start.
    pub head_timeout: Duration,
    /// Between an answer and the next request.
    pub idle_timeout: Duration,
    /// Bytes of request line and header fields together.
    pub head_bytes_max: usize,
    /// Header fields.
    pub headers_max: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            head_bytes_max: 32 << 10,
            headers_max: 100,
        }
    }
}

/// An answer under way.
pub type ServiceFuture = Pin<Box<dyn Future<Output = Response>>>;

/// Who answers. A connection has one request at a time.
pub trait Service {
    /// Makes the answer to one request. The future is dropped when the connection is lost.
    fn serve(&self, request: Request) -> ServiceFuture;
}

/// Serves the connections of any number of listeners; give it to them as their [`Accept`].
#[derive(Clone)]
pub struct Server {
    shared: Rc<Shared>,
}

struct Shared {
    reactor: Handle,
    /// For records: `source.web`.
    component: String,
    options: ServerOptions,
    service: Rc<dyn Service>,
    /// In the order of their coming, so that a stop takes them in an order, too.
    connections: RefCell<BTreeMap<ConnectionId, Rc<Wire>>>,
    is_stopping: Cell<bool>,
    /// Fired when the last connection has gone.
    emptied: RefCell<Option<Promise<()>>>,
}

impl Server {
    /// A server without listeners.
    pub fn new(
        reactor: &Handle,
        component: String,
        options: ServerOptions,
        service: Rc<dyn Service>,
    ) -> Self {
        Server {
            shared: Rc::new(Shared {
                reactor: reactor.clone(),
                component,
                options,
                service,
                connections: RefCell::default(),
                is_stopping: Cell::new(false),
                emptied: RefCell::default(),
            }),
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.connections.borrow().len()
    }

    /// The peers of at most `most` open connections.
    pub fn peers(&self, most: usize) -> Vec<String> {
        let open = self.shared.connections.borrow();
        let connections = open.values().filter_map(|wire| wire.connection());
        let peers = connections.map(|connection| connection.peer().to_string());
        peers.take(most).collect()
    }

    /// Lets the requests in progress be answered, takes no other; fires when every connection
    /// has gone. Stop the listeners first. To be called once.
    pub fn stop(&self) -> Deferred<()> {
        self.shared.is_stopping.set(true);
        if self.connections() == 0 {
            return Deferred::ready(());
        }
        let (promise, deferred) = Deferred::new();
        *self.shared.emptied.borrow_mut() = Some(promise);
        self.shared.each(|wire| wire.wake_driver());
        deferred
    }

    /// Cuts what is still open, answered or not.
    pub fn abort(&self) {
        self.shared.each(|wire| {
            wire.connection().inspect(Connection::abort);
        });
    }
}

impl Accept for Server {
    fn accepted(&self, peer: &Peer) -> Option<Box<dyn Protocol>> {
        let component = &self.shared.component;
        ConnectionOpened { component, peer }.log();
        Some(Box::new(Served {
            shared: Rc::clone(&self.shared),
            plug: Box::new(Plug(Rc::default())),
            peer: peer.to_string().into(),
            id: None,
        }))
    }

    fn refused(&self, peer: &Peer, why: Refusal) -> Option<Box<dyn Protocol>> {
        let reason = why.option();
        let component = &self.shared.component;
        ConnectionRefused {
            component,
            peer,
            reason,
        }
        .log();
        None
    }
}

/// One connection, as the transport sees it.
struct Served {
    shared: Rc<Shared>,
    plug: Box<Plug>,
    peer: Arc<str>,
    id: Option<ConnectionId>,
}

impl Protocol for Served {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.plug.connected(connection)?;
        self.id = Some(connection.id());
        let wire = Rc::clone(&self.plug.0);
        let mut open = self.shared.connections.borrow_mut();
        open.insert(connection.id(), Rc::clone(&wire));
        drop(open);
        let driven = drive(Rc::clone(&self.shared), wire, Arc::clone(&self.peer));
        let connection = connection.clone();
        let ended = self.shared.reactor.spawn(driven).add_both(move |result| {
            match &result {
                Ok(()) => connection.close(),
                // The reactor has ended, and its tasks with it.
                Err(failure) if failure.is::<BrokenPromise>() => return Ok(()),
                Err(_) => connection.abort(),
            }
            result
        });
        ended.log_err("serving an HTTP connection");
        Ok(())
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.plug.received(connection, bytes)
    }

    fn drained(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.plug.drained(connection)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.plug.eof(connection)
    }

    fn closed(self: Box<Self>, reason: &CloseReason) {
        self.plug.closed(reason);
        reason.log_of_accepted(&self.shared.component, &self.peer);
        if let Some(id) = self.id {
            self.shared.forget(id);
        }
    }
}

impl Shared {
    fn each(&self, call: impl Fn(&Wire)) {
        let open: Vec<_> = self.connections.borrow().values().cloned().collect();
        open.iter().for_each(|wire| call(wire));
    }

    fn forget(&self, id: ConnectionId) {
        self.connections.borrow_mut().remove(&id);
        if self.connections.borrow().is_empty() {
            let promise = self.emptied.borrow_mut().take();
            promise.map(|promise| promise.callback(()));
        }
    }
}

/// Serves one connection until hyper is done with it, a limit passes, or it is lost.
async fn drive(shared: Rc<Shared>, wire: Rc<Wire>, peer: Arc<str>) -> Result<(), Failure> {
    let requests: Rc<Requests> = Rc::default();
    let service = {
        let (shared, requests) = (Rc::clone(&shared), Rc::clone(&requests));
        service_fn(move |request: hyper::Request<Incoming>| {
            let (shared, requests) = (Rc::clone(&shared), Rc::clone(&requests));
            let peer = Arc::clone(&peer);
            requests.begun.set(requests.begun.get() + 1);
            async move {
                let answer = answer(&shared, request, peer).await;
                requests.answered.set(requests.answered.get() + 1);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let options = &shared.options;
    let mut builder = Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None) // hyper has no clock; the watch below keeps this limit
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .max_header_size(options.head_bytes_max)
        .max_headers(options.headers_max);
    let mut connection = pin!(builder.serve_connection(wire.io(), service));
    let mut watch = Watch::new(&shared, &wire, requests);
    poll_fn(|context| {
        if wire.is_lost() {
            return Poll::Ready(());
        }
        wire.set_driver(context.waker());
        if watch.stops_now() {
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(context) {
            // What hyper complains of here it has answered already, or cannot answer.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => watch.poll(context),
        }
    })
    .await;
    Ok(())
}

/// The requests of one connection, counted: several may come and go between two looks.
#[derive(Default)]
struct Requests {
    begun: Cell<u64>,
    answered: Cell<u64>,
}

/// The time limits of one connection while no request is being answered.
struct Watch<'a> {
    shared: &'a Shared,
    wire: &'a Wire,
    requests: Rc<Requests>,
    /// Requests answered when it last looked.
    answered: u64,
    phase: Phase,
    alarm: Alarm,
    knows_of_stop: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has come since so many bytes.
    Waiting(u64),
    /// A head is coming in.
    Head,
    Busy,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared, wire: &'a Wire, requests: Rc<Requests>) -> Self {
        let mut alarm = Alarm::new(&shared.reactor);
        alarm.set(shared.options.head_timeout);
        Watch {
            shared,
            wire,
            requests,
            answered: 0,
            phase: Phase::Head,
            alarm,
            knows_of_stop: false,
        }
    }

    /// True once, when the server has begun to stop and the connection waits for its next
    /// request. On others the running request is the last, or one that is on its way is told.
    fn stops_now(&mut self) -> bool {
        let is_new = self.shared.is_stopping.get() && !self.knows_of_stop;
        if is_new {
            self.knows_of_stop = true;
            self.alarm.set(STOP_GRACE);
        }
        is_new && matches!(self.phase, Phase::Waiting(_))
    }

    /// Ready when a limit has passed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let options = &self.shared.options;
        let received = self.wire.received_bytes();
        let answered = self.requests.answered.get();
        let has_answered = std::mem::replace(&mut self.answered, answered) != answered;
        let next = match self.phase {
            _ if self.requests.begun.get() > answered => Phase::Busy,
            _ if has_answered => Phase::Waiting(received),
            Phase::Waiting(since) if received > since => Phase::Head,
            phase => phase,
        };
        if next != self.phase || has_answered {
            self.phase = next;
            match next {
                Phase::Busy => self.alarm.clear(),
                _ if self.knows_of_stop => self.alarm.set(STOP_GRACE),
                Phase::Waiting(_) => self.alarm.set(options.idle_timeout),
                Phase::Head => self.alarm.set(options.head_timeout),
            }
        }
        match self.phase {
            Phase::Busy => Poll::Pending,
            _ => self.alarm.poll(context),
        }
    }
}

/// Checks a request, has it answered, and makes hyper's response of the answer.
async fn answer(
    shared: &Shared,
    request: hyper::Request<Incoming>,
    peer: Arc<str>,
) -> hyper::Response<Full<Bytes>> {
    let fault = misdirected(&request);
    let (head, incoming) = request.into_parts();
    let headers = Headers(head.headers);
    let body = Body::new(incoming, &headers, &shared.reactor);
    let was_read = body.was_read();
    let answer = if let Some(fault) = fault {
        was_read.set(false);
        Response::new(400).because(fault)
    } else if shared.is_stopping.get() {
        unavailable("the server is stopping")
    } else {
        let path = head.uri.path_and_query();
        let request = Request {
            method: head.method.as_str().to_owned(),
            path: path.map_or("/", |path| path.as_str()).to_owned(),
            headers,
            body,
            peer,
        };
        shared.service.serve(request).await
    };
    let is_last = !was_read.get() || shared.is_stopping.get();
    into_hyper(answer, is_last)
}

/// A 503 that says when to try again.
pub fn unavailable(why: &str) -> Response {
    let seconds = RETRY_AFTER_SECONDS.to_string();
    Response::new(503)
        .with(RETRY_AFTER.as_str(), &seconds)
        .because(why)
}

/// Why a request cannot be meant for us (RFC 9112 sections 3.2 and 3.2.2).
fn misdirected(request: &hyper::Request<Incoming>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(hyper::header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some("more than one Host header field");
    }
    if host.is_none() && request.version() == hyper::Version::HTTP_11 {
        return Some("no Host header field");
    }
    let authority = request.uri().authority()?;
    let is_same = host.is_some_and(|host| {
        let named = authority.as_str().as_bytes();
        host.as_bytes().eq_ignore_ascii_case(named)
    });
    (!is_same).then_some("the request is for another host")
}

fn into_hyper(answer: Response, is_last: bool) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(answer.body));
    let status = hyper::StatusCode::from_u16(answer.status);
    *response.status_mut() = status.unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = answer.headers.0;
    if is_last {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// What hyper may hold of one connection's input; a head must fit.
const READ_BUFFER_BYTES_MAX: usize = 64 << 10;

/// How long a connection on which no request was under way may take to send one whole when the
/// server stops.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// What a client that is turned away is told to wait.
const RETRY_AFTER_SECONDS: u32 = 5;
