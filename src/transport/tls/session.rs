//! From rules and files to sessions, one for each connection.
//!
//! A [`ServerTls`] or [`ClientTls`] belongs to a component. What rustls needs is made once and
//! again after the store has changed; sessions that began before go on with what they began
//! with. Where the store has a file no more, because the component is about to go, the last
//! state is used on.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::{ClientConnection, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};

use super::explain::HandshakeError;
use super::fault::Fault;
use super::layer::Layer;
use super::spec::{ClientAuth, ClientSpec, ServerSpec, Version};
use super::store::{CertificateFacts, Store};
use crate::time::Duration;

/// A configuration as of one state of the store.
type Current<T> = RefCell<Option<(u64, Arc<T>)>>;

/// Makes the sessions of connections that are accepted.
pub struct ServerTls {
    spec: ServerSpec,
    store: Rc<Store>,
    current: Current<ServerConfig>,
}

impl ServerTls {
    /// By these rules, with the files of `store`.
    pub fn new(store: &Rc<Store>, spec: ServerSpec) -> Rc<Self> {
        Rc::new(ServerTls {
            spec,
            store: Rc::clone(store),
            current: RefCell::default(),
        })
    }

    /// The limit of a handshake.
    pub fn handshake_timeout(&self) -> Duration {
        self.spec.handshake_timeout
    }

    /// The certificate that new connections see.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.store.facts(&self.spec.identity).into_iter().collect()
    }

    pub(in crate::transport) fn session(&self) -> Result<Layer, HandshakeError> {
        let make = || self.config();
        let config = current(&self.store, &self.current, make)?;
        let session = ServerConnection::new(config);
        session.map(Layer::new).map_err(unusable)
    }

    fn config(&self) -> Result<ServerConfig, HandshakeError> {
        let spec = &self.spec;
        let provider = super::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_protocol_versions(versions(spec.minimum_version))
            .map_err(unusable)?;
        let verifier = match &spec.client_auth {
            ClientAuth::Off => WebPkiClientVerifier::no_client_auth(),
            ClientAuth::Optional(name) | ClientAuth::Required(name) => {
                let roots = Arc::clone(&self.store.authorities(name)?.roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match spec.client_auth {
                    ClientAuth::Optional(_) => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                verifier.build().map_err(unusable)?
            }
        };
        let identity = self.store.identity(&spec.identity)?;
        let certified = Arc::clone(&identity.certified);
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols(spec.is_http);
        // A client that only ever sends does not read them; closing with them unread, it would
        // reset the connection and what it has sent last (RFC 2525 section 2.17).
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Makes the sessions of connections that are dialled.
pub struct ClientTls {
    spec: ClientSpec,
    store: Rc<Store>,
    current: Current<ClientConfig>,
}

impl ClientTls {
    /// By these rules, with the files of `store`.
    pub fn new(store: &Rc<Store>, spec: ClientSpec) -> Rc<Self> {
        Rc::new(ClientTls {
            spec,
            store: Rc::clone(store),
            current: RefCell::default(),
        })
    }

    /// The certificate that servers are shown, if there is one.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        let name = self.spec.identity.as_ref();
        name.and_then(|name| self.store.facts(name))
            .into_iter()
            .collect()
    }

    /// A session with `host`, a name or an IP address.
    pub(in crate::transport) fn session(&self, host: &str) -> Result<Layer, HandshakeError> {
        let config = current(&self.store, &self.current, || self.config())?;
        let name = self.spec.server_name.as_deref().unwrap_or(host);
        let name = server_name(name).ok_or_else(|| {
            HandshakeError::new(
                Fault::Local,
                "the name of the server cannot be in a certificate",
            )
        })?;
        let session = ClientConnection::new(config, name);
        session.map(Layer::new).map_err(unusable)
    }

    fn config(&self) -> Result<ClientConfig, HandshakeError> {
        let spec = &self.spec;
        let roots = Arc::clone(&self.store.authorities(&spec.authorities)?.roots);
        let provider = super::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_protocol_versions(versions(spec.minimum_version))
            .map_err(unusable)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
        let builder = builder.with_webpki_verifier(verifier.build().map_err(unusable)?);
        let mut config = match &spec.identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let certified = Arc::clone(&self.store.identity(name)?.certified);
                let resolver = Arc::new(SingleCertAndKey::from(certified));
                builder.with_client_cert_resolver(resolver)
            }
        };
        config.alpn_protocols = protocols(spec.is_http);
        Ok(config)
    }
}

/// What is right for the store as it is, made anew only where it has changed.
fn current<T>(
    store: &Store,
    kept: &Current<T>,
    make: impl FnOnce() -> Result<T, HandshakeError>,
) -> Result<Arc<T>, HandshakeError> {
    let generation = store.generation();
    let last = kept.borrow().clone();
    if let Some((of, config)) = &last
        && *of == generation
    {
        return Ok(Arc::clone(config));
    }
    match (make(), last) {
        (Ok(config), _) => {
            let config = Arc::new(config);
            *kept.borrow_mut() = Some((generation, Arc::clone(&config)));
            Ok(config)
        }
        (Err(_), Some((_, config))) => Ok(config),
        (Err(error), None) => Err(error),
    }
}

/// The name as a certificate has it; an IPv6 address may stand in brackets.
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::IpAddress(address.into())),
        Err(_) => ServerName::try_from(bare.to_owned()).ok(),
    }
}

/// Whether `name` can be the name of a server.
pub fn is_server_name(name: &str) -> bool {
    server_name(name).is_some()
}

fn versions(minimum: Version) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    static FROM_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match minimum {
        Version::V1_2 => FROM_1_2,
        Version::V1_3 => FROM_1_3,
    }
}

fn protocols(is_http: bool) -> Vec<Vec<u8>> {
    match is_http {
        true => vec![b"http/1.1".to_vec()],
        false => Vec::new(),
    }
}

fn unusable(error: impl std::fmt::Display) -> HandshakeError {
    HandshakeError::new(Fault::Local, format!("TLS cannot be used: {error}"))
}
