//! What a component knows of itself, for whoever asks how it is (`marline status`).
//!
//! The ledgers say where events are; this says the rest: where a component is bound or whom it
//! speaks to, how many connections it has, what it counts beside events. Everything here is a
//! copy taken when somebody asks: nothing is kept for it, and nothing costs on the data path.

use crate::transport::tls::CertificateFacts;

/// The facts of one component. A kind that has none of something leaves it out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where it listens, whom it asks or sends to, what it writes: as addresses or paths, with
    /// the real ports. No secrets.
    pub places: Vec<String>,
    /// Connections that are open now; `None` where there are never any.
    pub connections: Option<u64>,
    /// Counts since the start, each with its stable name (`accepted`, `truncated`).
    pub counts: Vec<(&'static str, u64)>,
    /// Connections turned away since the start, by the option that said so.
    pub refused: Vec<(&'static str, u64)>,
    /// Connections that came to nothing because of their TLS since the start, by fault.
    pub failed_handshakes: Vec<(&'static str, u64)>,
    /// Its datagram sockets.
    pub sockets: Vec<SocketFacts>,
    /// What its senders speak, where there is more than one way; bounded.
    pub dialects: Vec<DialectFacts>,
    /// The certificates that its peers see.
    pub certificates: Vec<CertificateFacts>,
}

/// What one sender speaks.
#[derive(Clone, Debug)]
pub struct DialectFacts {
    /// An address without its port, or the path of a socket; `(others)` for who has no row.
    pub sender: String,
    /// Messages by the name of their format (`rfc5424`, `unparsed`).
    pub messages: Vec<(&'static str, u64)>,
}

/// The facts of one datagram socket.
#[derive(Clone, Debug)]
pub struct SocketFacts {
    /// Where it is bound.
    pub address: String,
    /// What the kernel holds for it at most, in bytes; `None` where that does not count.
    pub receive_buffer_bytes: Option<u64>,
    /// Datagrams that the kernel had no room for since the start; `None` where nobody knows.
    pub kernel_drops: Option<u64>,
}

impl Facts {
    /// The count of that name.
    pub fn count(&self, name: &str) -> Option<u64> {
        let mut counts = self.counts.iter();
        counts
            .find(|(known, _)| *known == name)
            .map(|(_, count)| *count)
    }
}
