//! What can be asked over HTTP: a closed list of [`Route`]s, made at the start.
//!
//! Anything else is a 404 that lists them. Requests carry no parameters and no content: there is
//! nothing to parse, and what comes all the same is refused. Heads, bodies and times have limits
//! of their own, and a route that panics costs its connection.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::http::{
    BodyError, BodyLimits, Budget, Request, Response, Server, ServerOptions, Service, ServiceFuture,
};
use crate::time::Duration;
use crate::transport::Network;

/// Something that can be asked.
pub struct Route {
    /// `GET` for what changes nothing, `POST` for what does.
    pub method: &'static str,
    /// The whole target, without a query.
    pub path: &'static str,
    /// One line, for who asked for something else.
    pub about: &'static str,
    /// Makes the answer; the future may take its time.
    pub answer: Box<dyn Fn() -> Pin<Box<dyn Future<Output = Response>>>>,
}

/// A server that answers for `routes`, without listeners yet; its records are `component`'s.
pub fn server(network: &Network, component: &str, routes: Vec<Route>) -> Server {
    let desk = Rc::new(Desk {
        routes,
        budget: Budget::new(BODIES_BYTES_MAX),
    });
    let options = ServerOptions {
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        head_bytes_max: HEAD_BYTES_MAX,
        ..ServerOptions::default()
    };
    Server::new(network.reactor(), component.into(), options, desk)
}

/// Who answers.
struct Desk {
    routes: Vec<Route>,
    budget: Rc<Budget>,
}

impl Service for Desk {
    fn serve(&self, request: Request) -> ServiceFuture {
        let known: Vec<&Route> = self
            .routes
            .iter()
            .filter(|route| route.path == request.path)
            .collect();
        if known.is_empty() {
            return ready(self.unknown());
        }
        let Some(route) = known.iter().find(|route| route.method == request.method) else {
            let methods: Vec<_> = known.iter().map(|route| route.method).collect();
            return ready(not_allowed(&methods.join(", ")));
        };
        let answer = (route.answer)();
        let budget = Rc::clone(&self.budget);
        Box::pin(async move {
            match request.body.read(&body_limits(), &budget).await {
                Ok(content) if content.is_empty() => answer.await,
                Ok(_) => refused(400, "this takes no content"),
                Err(BodyError::TooLarge(_)) => refused(413, "this takes no content"),
                Err(error) => refused(400, &error.to_string()),
            }
        })
    }
}

impl Desk {
    fn unknown(&self) -> Response {
        let mut text = String::from("there is no such thing here; there are:\n");
        for Route {
            method,
            path,
            about,
            ..
        } in &self.routes
        {
            text.push_str(&format!("  {method:4} {path:16} {about}\n"));
        }
        Response::new(404).because(text.trim_end())
    }
}

fn not_allowed(methods: &str) -> Response {
    let mut response = Response::new(405).because(&format!("ask for this by {methods}"));
    let was_set = response.headers.set("allow", methods.as_bytes());
    debug_assert!(was_set, "names of methods are allowed in a header field");
    response
}

fn refused(status: u16, why: &str) -> Response {
    Response::new(status).because(why)
}

fn ready(response: Response) -> ServiceFuture {
    Box::pin(std::future::ready(response))
}

fn body_limits() -> BodyLimits {
    BodyLimits {
        bytes_max: BODY_BYTES_MAX,
        window: PATIENCE,
        window_bytes_min: 1,
    }
}

/// How long a head, a piece of a body or the next request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request's line and header fields together.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Bytes of content that are read before it is refused, of one request and of all.
const BODY_BYTES_MAX: usize = 64 << 10;
const BODIES_BYTES_MAX: usize = 256 << 10;
