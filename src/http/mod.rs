//! HTTP/1.1 by hyper on our own transports, as server and as client; the only user of hyper.
//!
//! In reading order:
//! - [`message`]: what others see of HTTP: requests, responses, headers
//! - [`body`]: bodies read whole, within limits of size and time; [`gzip`] for their coding;
//!   [`budget`] for their memory
//! - `wire`: a transport connection as hyper's reader and writer; `alarm`: time limits
//! - [`server`]: connections that are served, and stopped in order
//! - [`client`]: requests to servers, and their [`url`]s
//!
//! hyper parses, frames and keeps order on a connection. Everything that needs a limit has it
//! here: hyper has no clock and no memory bound of its own that we rely on. TLS belongs below,
//! in the transport: nothing here would change with it.

mod alarm;
pub mod body;
pub mod budget;
pub mod client;
pub mod gzip;
pub mod message;
pub mod server;
pub mod url;
mod wire;

pub use body::{Body, BodyError, BodyLimits};
pub use budget::{Budget, Room};
pub use client::{Client, ClientError, ClientOptions};
pub use message::{Headers, Request, Response};
pub use server::{Server, ServerOptions, Service, ServiceFuture};
pub use url::{Url, UrlError};
