//! The admin socket: a Unix stream socket, mode 0600, that speaks HTTP/1.1.
//!
//! `curl --unix-socket PATH http://localhost/status` is all it takes. What can be asked is in
//! `routes`, how is in `desk`.
//!
//! Nothing of this can hold up the data path or take anything down with it: connections have
//! limits of their own. The path is taken over from a dead owner and removed at the end, as with
//! every listener (F-077).

use std::path::Path;
use std::rc::Rc;

use crate::deferred::{Deferred, join_all};
use crate::http::Server;
use crate::time::Duration;
use crate::transport::{
    Address, BindOptions, ConnectionOptions, Limits, ListenError, ListenOptions, Listener, Network,
};

use super::desk::{self, Route};

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
        let server = desk::server(network, COMPONENT, routes);
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

/// Whose records the socket's are.
const COMPONENT: &str = "daemon.admin";

/// Connections at a time, and those that may wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
const BACKLOG: i32 = 16;

/// How long a connection lives at most, whatever is asked on it: no client, however slow, keeps
/// others out for longer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
