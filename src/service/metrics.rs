//! The metrics listener (`daemon.metrics`): what a monitoring system asks over HTTP.
//!
//! `/metrics` for Prometheus, `/health` while the reactor turns, `/ready` while the daemon takes
//! events: started, and not being stopped. A sink that is away is no reason to be restarted or
//! taken out of service, and is in the metrics.
//!
//! It is on the network, so it answers nothing that changes something, and nothing from a peer.

use std::rc::Rc;

use crate::deferred::{Deferred, Failure, join_all};
use crate::http::{Response, Server, ServiceFuture};
use crate::pipeline::addresses;
use crate::pipeline::options::{Options, Value};
use crate::telemetry::events::MetricsOpened;
use crate::time::Duration;
use crate::transport::{ConnectionOptions, Limits, ListenOptions, Listener, Network};

use super::desk::{self, Route};
use super::exposition;
use super::routes::reported;
use super::status::Status;

/// The listener, open.
pub struct Metrics {
    server: Server,
    listeners: Vec<Listener>,
}

impl Metrics {
    /// Listens where `[daemon]` says, if it says so.
    ///
    /// # Errors
    /// The address cannot be had; the text says why and what to do.
    pub fn open(
        network: &Network,
        daemon: &Options,
        status: &Rc<Status>,
    ) -> Result<Option<Metrics>, Failure> {
        let Some(Value::Text(address)) = daemon.value("metrics") else {
            return Ok(None);
        };
        let address = addresses::parse(address).map_err(|mistake| {
            Failure::msg(mistake.to_string()).context("daemon.metrics is no address")
        })?;
        let network = network.owned_by(COMPONENT);
        let server = desk::server(&network, COMPONENT, routes(status));
        let options = ListenOptions {
            connection: ConnectionOptions {
                deadline: Some(CONNECTION_AGE_MAX),
                ..ConnectionOptions::default()
            },
            limits: Some(Limits::new(CONNECTIONS_MAX, None)),
            ..ListenOptions::default()
        };
        let listened = network.listen(&address, options, Rc::new(server.clone()));
        let listeners = listened.map_err(|error| {
            Failure::new(error).context("cannot open the metrics listener (daemon.metrics)")
        })?;
        for listener in &listeners {
            let address = listener.local_address();
            MetricsOpened { address }.log();
        }
        Ok(Some(Metrics { server, listeners }))
    }

    /// Stops listening and cuts what is still open.
    pub fn close(&self) -> Deferred<()> {
        let stopped: Vec<_> = self.listeners.iter().map(Listener::stop).collect();
        let server = self.server.clone();
        join_all(stopped).add_both(move |_| server.abort())
    }
}

fn routes(status: &Rc<Status>) -> Vec<Route> {
    let (shown, asked) = (Rc::clone(status), Rc::clone(status));
    vec![
        Route {
            method: "GET",
            path: "/metrics",
            about: "ledgers, backlogs, lag and drops, for Prometheus",
            answer: Box::new(move || {
                reported(&shown, false, |status, report| {
                    let page = exposition::page(status, report);
                    response(200, exposition::CONTENT_TYPE, page)
                })
            }),
        },
        Route {
            method: "GET",
            path: "/health",
            about: "200 while the daemon is alive",
            answer: Box::new(|| answer(200, TEXT, "alive\n".to_owned())),
        },
        Route {
            method: "GET",
            path: "/ready",
            about: "200 while it takes events, 503 while it is being stopped",
            answer: Box::new(move || match (asked.is_stopping)() {
                false => answer(200, TEXT, "ready\n".to_owned()),
                true => answer(503, TEXT, "stopping\n".to_owned()),
            }),
        },
    ]
}

fn answer(status: u16, content_type: &str, text: String) -> ServiceFuture {
    Box::pin(std::future::ready(response(status, content_type, text)))
}

fn response(status: u16, content_type: &str, text: String) -> Response {
    let mut response = Response::new(status).with("content-type", content_type);
    response.body = text.into();
    response
}

/// Whose records the listener's are.
const COMPONENT: &str = "daemon.metrics";

const TEXT: &str = "text/plain; charset=utf-8";

/// Connections at a time; who comes beyond that waits in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection lives at most, whatever is asked on it.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
