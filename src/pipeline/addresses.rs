//! Options that hold addresses: their kinds and their check, for whoever listens or dials.
//!
//! What passes here can be listened on or dialled as far as its text goes; whether it can
//! really be had is known at the start. Of the transports only the text form of their
//! addresses is used here.

use super::descriptor::Kind;
use super::options::Mistake;
use crate::transport::address::{Address, AddressError};

/// `listen = [...]`.
pub const LISTEN: Kind = Kind::List(&Kind::Text(Some(check_listen)));

/// `listen = [...]` of what speaks streams only.
pub const LISTEN_STREAM: Kind = Kind::List(&Kind::Text(Some(check_listen_stream)));

/// `listen = [...]` of what serves HTTP.
pub const LISTEN_HTTP: Kind = Kind::List(&Kind::Text(Some(check_listen_http)));

/// `address = "..."` that is dialled.
pub const DIAL: Kind = Kind::Text(Some(check_dial));

/// `addresses = [...]` that are dialled.
pub const DIAL_LIST: Kind = Kind::List(&DIAL);

/// `addresses = [...]` that are dialled for streams.
pub const DIAL_STREAM_LIST: Kind = Kind::List(&Kind::Text(Some(check_dial_stream)));

fn check_listen(text: &str) -> Result<(), Mistake> {
    parse(text).map(drop)
}

fn check_listen_stream(text: &str) -> Result<(), Mistake> {
    only_streams(&parse(text)?)
}

fn check_listen_http(text: &str) -> Result<(), Mistake> {
    only_streams(&parse_http(text)?)
}

fn check_dial(text: &str) -> Result<(), Mistake> {
    let help = "write tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:///PATH";
    can_be_dialled(text, &parse(text)?, help)
}

fn check_dial_stream(text: &str) -> Result<(), Mistake> {
    let address = parse(text)?;
    only_streams(&address)?;
    can_be_dialled(text, &address, STREAMS)
}

/// An address.
///
/// # Errors
/// The text is none.
pub fn parse(text: &str) -> Result<Address, Mistake> {
    text.parse().map_err(|error: AddressError| {
        let length = text.len().saturating_sub(error.offset).max(1);
        Mistake::new(error.message)
            .at(error.offset, length)
            .help(error.help)
    })
}

/// An address to serve HTTP on: `http://` stands for `tcp://`, `https://` for `tls://`.
///
/// # Errors
/// The text is no address, or one with a path.
pub fn parse_http(text: &str) -> Result<Address, Mistake> {
    let (written, meant, rest) = match text.split_once("://") {
        Some(("http", rest)) => ("http", "tcp", rest),
        Some(("https", rest)) => ("https", "tls", rest),
        _ => return parse(text),
    };
    // Every path is served; the one that clients are told to use says nothing about listening.
    let place = rest.strip_suffix('/').unwrap_or(rest);
    parse(&format!("{meant}://{place}")).map_err(|mistake| Mistake {
        offset: (mistake.offset + written.len()).saturating_sub(meant.len()),
        ..mistake
    })
}

/// What to write where streams are needed.
const STREAMS: &str = "write tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH";

fn only_streams(address: &Address) -> Result<(), Mistake> {
    if address.is_datagram() != Some(true) {
        return Ok(());
    }
    let scheme = address.scheme();
    let message = format!("{scheme}:// carries datagrams, this needs a stream");
    Err(Mistake::new(message).at(0, scheme.len()).help(STREAMS))
}

fn can_be_dialled(text: &str, address: &Address, help: &str) -> Result<(), Mistake> {
    match address {
        Address::Systemd(_) => Err(Mistake::new("an inherited socket cannot be dialled")
            .at(0, "systemd".len())
            .help(help)),
        Address::Tcp { port: 0, .. }
        | Address::Udp { port: 0, .. }
        | Address::Tls { port: 0, .. } => Err(Mistake::new("port 0 cannot be dialled")
            .at(text.len() - 1, 1)
            .help("write the port that the other side listens on")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, text: &str, expected: Result<(), &str>) {
        let (Kind::Text(Some(check)) | Kind::List(&Kind::Text(Some(check)))) = kind else {
            unreachable!("all of these kinds check a text");
        };
        let found = check(text).map_err(|mistake| mistake.message);
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn http_is_served_under_its_own_schemes_too() {
        let check = |text: &str, expected: Result<&str, usize>| {
            let found = parse_http(text).map(|address| address.to_string());
            let found = found.map_err(|mistake| mistake.offset);
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        };
        check("https://0.0.0.0:8443", Ok("tls://0.0.0.0:8443"));
        check("https://0.0.0.0:8443/", Ok("tls://0.0.0.0:8443"));
        check("http://[::1]:80", Ok("tcp://[::1]:80"));
        check("tls://127.0.0.1:1", Ok("tls://127.0.0.1:1"));
        check("https://127.0.0.1:x", Err(18));
        check("http://127.0.0.1:8/logs", Err(18));
    }

    #[test]
    fn each_kind_takes_what_it_can_use() {
        const DIALLED: Result<(), &str> = Err("an inherited socket cannot be dialled");
        const PORT: Result<(), &str> = Err("port 0 cannot be dialled");
        const STREAM: Result<(), &str> = Err("udp:// carries datagrams, this needs a stream");
        let streams = [LISTEN_STREAM, DIAL_STREAM_LIST];
        let (listening, dialling) = ([LISTEN, LISTEN_STREAM], [DIAL, DIAL_LIST, DIAL_STREAM_LIST]);
        for kind in listening {
            check(kind, "tcp://[::1]:0", Ok(()));
            check(kind, "systemd:name", Ok(()));
        }
        for kind in dialling {
            check(kind, "tcp://[::1]:0", PORT);
            check(kind, "systemd:name", DIALLED);
        }
        check(DIAL, "udp://a.example.net:0", PORT);
        for kind in [LISTEN, DIAL, DIAL_LIST] {
            check(kind, "udp://127.0.0.1:514", Ok(()));
        }
        for kind in streams {
            check(kind, "udp://127.0.0.1:514", STREAM);
        }
        for kind in listening.into_iter().chain(dialling) {
            check(kind, "unix:///run/a.sock", Ok(()));
            check(kind, "tls://127.0.0.1:6514", Ok(()));
        }
    }
}
