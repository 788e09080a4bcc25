//! The admin socket: a Unix stream socket, mode 0600, that speaks HTTP/1.1.
//!
//! `curl --unix-socket PATH http://localhost/status` is all it takes. What can be asked is a
//! closed list of [`Route`]s, made at the start; anything else is a 404 that lists them. Requests
//! carry no parameters and no content: there is nothing to parse, and what comes all the same
//! is refused.
//!
//! Nothing of this can hold up the data path or take anything down with it: connections, heads,
//! bodies and times have limits of their own, and a route that panics costs its connection. The
//! path is taken over from a dead owner and removed at the end, as with every listener (F-077).

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

use crate::deferred::{Deferred, join_all};
use crate::http::{
    BodyError, BodyLimits, Budget, Request, Response, Server, ServerOptions, Service, ServiceFuture,
};
use crate::time::Duration;
use crate::transport::{
    Address, BindOptions, ConnectionOptions, Limits, ListenError, ListenOptions, Listener, Network,
};

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

/// The socket, open.
pub struct AdminSocket {
    server: Server,
    listeners: Vec<Listener>,
}

impl AdminSocket {
    /// Listens at `path` for those who ask for one of `routes`.
    ///
    /// # Errors
    /// The path cannot be had; the text says why and what to do.
    pub fn open(
        network: &Network,
        path: &Path,
        routes: Vec<Route>,
    ) -> Result<AdminSocket, ListenError> {
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
        let server = Server::new(network.reactor(), COMPONENT.into(), options, desk);
        let options = ListenOptions {
            tls: None,
            bind: BindOptions {
                mode: 0o600,
                backlog: BACKLOG,
                ..BindOptions::default()
            },
            connection: ConnectionOptions {
                deadline: Some(CONNECTION_AGE_MAX),
                ..ConnectionOptions::default()
            },
            limits: Some(Limits::new(CONNECTIONS_MAX, None)),
        };
        let address = Address::Unix(path.into());
        let listeners = network.listen(&address, options, Rc::new(server.clone()))?;
        Ok(AdminSocket { server, listeners })
    }

    /// Stops listening, removes the path and cuts what is still open. Fires when the path is
    /// gone.
    pub fn close(&self) -> Deferred<()> {
        let stopped: Vec<_> = self.listeners.iter().map(Listener::stop).collect();
        let server = self.server.clone();
        join_all(stopped).add_both(move |_| server.abort())
    }
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

/// Whose records the socket's are.
const COMPONENT: &str = "daemon.admin";

/// Connections at a time, and those that may wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
const BACKLOG: i32 = 16;

/// How long a connection lives at most, whatever is asked on it: no client, however slow, keeps
/// others out for longer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// How long a head, a piece of a body or the next request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request's line and header fields together.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Bytes of content that are read before it is refused, of one request and of all.
const BODY_BYTES_MAX: usize = 64 << 10;
const BODIES_BYTES_MAX: usize = 256 << 10;
