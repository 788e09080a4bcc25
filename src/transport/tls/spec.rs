//! What a component asks of TLS: names of files, and rules. Plain data.
//!
//! The files themselves are in the [`Store`](super::Store), under the names that stand here.

use std::path::PathBuf;

use crate::time::Duration;

/// The files of a certificate chain and of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityName {
    /// The chain, our own certificate first.
    pub certificate: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
}

/// Where the authorities are that a peer's certificate may be signed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthoritiesName {
    /// Those that the system trusts.
    System,
    /// Those in a file, and no others.
    File(PathBuf),
}

/// The oldest version of the protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246) and 1.3.
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446) alone.
    V1_3,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is not asked for one.
    #[default]
    Off,
    /// It may have one; one that these authorities have not signed is refused.
    Optional(AuthoritiesName),
    /// It is refused without one that these authorities have signed.
    Required(AuthoritiesName),
}

/// How connections are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// Who we are.
    pub identity: IdentityName,
    /// Who clients have to be.
    pub client_auth: ClientAuth,
    /// The oldest version.
    pub minimum_version: Version,
    /// From the connection's start to the end of the handshake.
    pub handshake_timeout: Duration,
    /// HTTP/1.1 is what is spoken inside (ALPN, RFC 7301).
    pub is_http: bool,
}

/// How servers are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// Who may have signed the server's certificate.
    pub authorities: AuthoritiesName,
    /// Who we are, for a server that asks.
    pub identity: Option<IdentityName>,
    /// The name that the certificate must be for, in place of the host that is dialled.
    pub server_name: Option<String>,
    /// The oldest version.
    pub minimum_version: Version,
    /// HTTP/1.1 is what is spoken inside (ALPN, RFC 7301).
    pub is_http: bool,
}

impl ClientSpec {
    /// The system's authorities, no certificate of ours, the host's name.
    pub fn new() -> Self {
        ClientSpec {
            authorities: AuthoritiesName::System,
            identity: None,
            server_name: None,
            minimum_version: Version::default(),
            is_http: false,
        }
    }
}

impl Default for ClientSpec {
    fn default() -> Self {
        ClientSpec::new()
    }
}
