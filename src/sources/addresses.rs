//! Options that hold addresses: their kinds and their check. Not a component.
//!
//! What passes here can be listened on or dialled as far as its text goes; whether it can
//! really be had is known at the start.

use crate::pipeline::descriptor::Kind;
use crate::pipeline::options::Mistake;
use crate::transport::Address;

/// `listen = [...]`.
pub const LISTEN_KIND: Kind = Kind::List(&Kind::Text(Some(check_listen)));

/// `listen = [...]` of what speaks streams only.
pub const LISTEN_STREAM_KIND: Kind = Kind::List(&Kind::Text(Some(check_listen_stream)));

/// `addresses = [...]` that are dialled.
pub const DIAL_STREAM_KIND: Kind = Kind::List(&Kind::Text(Some(check_dial_stream)));

fn check_listen(text: &str) -> Result<(), Mistake> {
    parse(text).and_then(|address| no_tls_yet(&address))
}

fn check_listen_stream(text: &str) -> Result<(), Mistake> {
    let address = parse(text)?;
    no_tls_yet(&address)?;
    only_streams(&address)
}

fn check_dial_stream(text: &str) -> Result<(), Mistake> {
    let address = parse(text)?;
    no_tls_yet(&address)?;
    only_streams(&address)?;
    match &address {
        Address::Systemd(_) => Err(Mistake::new("an inherited socket cannot be dialled")
            .at(0, "systemd".len())
            .help("write tcp://HOST:PORT or unix:///PATH")),
        Address::Tcp { port: 0, .. } => Err(Mistake::new("port 0 cannot be dialled")
            .at(text.len() - 1, 1)
            .help("write the port that the server listens on")),
        _ => Ok(()),
    }
}

/// An address that has passed its check.
pub fn parse(text: &str) -> Result<Address, Mistake> {
    text.parse()
        .map_err(|error: crate::transport::AddressError| {
            let length = text.len().saturating_sub(error.offset).max(1);
            Mistake::new(error.message)
                .at(error.offset, length)
                .help(error.help)
        })
}

fn only_streams(address: &Address) -> Result<(), Mistake> {
    if address.is_datagram() != Some(true) {
        return Ok(());
    }
    let scheme = address.scheme();
    Err(Mistake::new(format!(
        "{scheme}:// carries datagrams, this needs a stream"
    ))
    .at(0, scheme.len())
    .help("write tcp://HOST:PORT or unix:///PATH"))
}

fn no_tls_yet(address: &Address) -> Result<(), Mistake> {
    match address {
        Address::Tls { .. } => Err(Mistake::new("tls:// is not available in this version")
            .at(0, "tls".len())
            .help("write tcp:// and let a proxy speak TLS")),
        _ => Ok(()),
    }
}
