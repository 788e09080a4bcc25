//! TLS under byte streams: the only place that knows rustls.
//!
//! - [`spec`]: what a component asks for, as plain data; [`pem`]: files to keys and authorities
//! - [`store`]: what the files held when they were last read, exchanged by a reload
//! - [`session`]: from both to sessions, one for each connection
//! - `layer`: ciphertext in, plaintext out and back, without IO; `marks`: positions in between
//! - `explain`: what a failed handshake means, in words an operator can act on
//!
//! What holds: nothing is sent or delivered before the handshake is complete; there is no way
//! around the verification of a peer's certificate; an end of stream without close_notify is
//! never taken for a whole one (RFC 8446 section 6.1); a session that began with one certificate
//! goes on with it, whatever a reload brings.

mod explain;
mod fault;
mod layer;
mod marks;
pub mod pem;
pub mod session;
pub mod spec;
pub mod store;
#[cfg(test)]
mod tests;

pub use explain::HandshakeError;
pub use fault::Fault;
pub use pem::{About, Authorities, Identity, PemError};
pub use session::{ClientTls, ServerTls};
pub use spec::{AuthoritiesName, ClientAuth, ClientSpec, IdentityName, ServerSpec, Version};
pub use store::{CertificateFacts, Materials, Store};

pub(super) use explain::{looks_like_client_hello, speaks_tls_to_plain};
pub(super) use layer::{Layer, Next};

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, ring};

/// The cryptography of all sessions.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}
