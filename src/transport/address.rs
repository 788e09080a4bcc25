//! Addresses as a configuration writes them: URLs whose scheme is the transport.
//!
//! `tcp://HOST:PORT`, `udp://HOST:PORT`, `tls://HOST:PORT`, `unix://PATH`, `unixgram://PATH`
//! and `systemd:NAME`. An IPv6 address stands in brackets; a path that begins with `@` is a
//! name of Linux's abstract namespace. Parsing never looks a name up: a host is kept as it is
//! written until somebody dials it. Errors carry the byte offset of the first wrong character,
//! so that a caret can point at it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where to listen or whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `tcp://HOST:PORT`: a byte stream over TCP.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 0 lets the system choose, for listeners only.
        port: u16,
    },
    /// `udp://HOST:PORT`: datagrams over UDP.
    Udp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 0 lets the system choose, for listeners only.
        port: u16,
    },
    /// `tls://HOST:PORT`: a byte stream over TLS over TCP.
    Tls {
        /// A name or an IP address, without brackets.
        host: String,
        /// 0 lets the system choose, for listeners only.
        port: u16,
    },
    /// `unix://PATH`: a byte stream over a Unix domain socket.
    Unix(PathBuf),
    /// `unixgram://PATH`: datagrams over a Unix domain socket.
    UnixGram(PathBuf),
    /// `systemd:NAME`: every inherited socket of that name.
    Systemd(String),
}

impl Address {
    /// The scheme, as written before the colon.
    pub fn scheme(&self) -> &'static str {
        match self {
            Address::Tcp { .. } => "tcp",
            Address::Udp { .. } => "udp",
            Address::Tls { .. } => "tls",
            Address::Unix(_) => "unix",
            Address::UnixGram(_) => "unixgram",
            Address::Systemd(_) => "systemd",
        }
    }

    /// Whether the transport carries datagrams; `None` where only the inherited socket knows.
    pub fn is_datagram(&self) -> Option<bool> {
        match self {
            Address::Udp { .. } | Address::UnixGram(_) => Some(true),
            Address::Tcp { .. } | Address::Tls { .. } | Address::Unix(_) => Some(false),
            Address::Systemd(_) => None,
        }
    }

    /// Host and port of a network address.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self {
            Address::Tcp { host, port }
            | Address::Udp { host, port }
            | Address::Tls { host, port } => Some((host, *port)),
            _ => None,
        }
    }

    /// The path of a Unix domain socket; an abstract name keeps its `@`.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Unix(path) | Address::UnixGram(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match self {
            Address::Systemd(name) => write!(f, "{scheme}:{name}"),
            Address::Unix(path) | Address::UnixGram(path) => {
                write!(f, "{scheme}://{}", path.display())
            }
            Address::Tcp { host, port }
            | Address::Udp { host, port }
            | Address::Tls { host, port } => {
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
        }
    }
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    /// The byte at which the text stops being an address.
    pub offset: usize,
    /// What is wrong there.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl AddressError {
    fn new(offset: usize, message: impl Into<String>, help: impl Into<String>) -> Self {
        AddressError {
            offset,
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(name) = text.strip_prefix("systemd:") {
            return systemd_name(name);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(AddressError::new(0, "the transport is missing", SCHEMES));
        };
        let at = scheme.len() + 3;
        match scheme {
            "tcp" => authority(rest, at).map(|(host, port)| Address::Tcp { host, port }),
            "udp" => authority(rest, at).map(|(host, port)| Address::Udp { host, port }),
            "tls" => authority(rest, at).map(|(host, port)| Address::Tls { host, port }),
            "unix" => socket_path(rest, at, scheme).map(Address::Unix),
            "unixgram" => socket_path(rest, at, scheme).map(Address::UnixGram),
            other => Err(AddressError::new(
                0,
                format!("unknown transport `{other}`"),
                SCHEMES,
            )),
        }
    }
}

fn systemd_name(name: &str) -> Result<Address, AddressError> {
    let at = "systemd:".len();
    if name.starts_with("//") {
        let help = "write systemd:NAME, without slashes";
        return Err(AddressError::new(at, "a socket name, not a host", help));
    }
    // sd_listen_fds_with_names(3): at most 255 characters, no control characters, no colon.
    let wrong = name
        .char_indices()
        .find(|(_, c)| c.is_control() || *c == ':');
    if let Some((index, _)) = wrong {
        let help = "names come from FileDescriptorName= in the .socket unit";
        return Err(AddressError::new(at + index, "not a socket name", help));
    }
    if name.is_empty() || name.len() > 255 {
        let help = "write systemd:NAME with the FileDescriptorName= of the .socket unit";
        return Err(AddressError::new(
            at,
            "a name of 1 to 255 characters is needed",
            help,
        ));
    }
    Ok(Address::Systemd(name.to_string()))
}

fn socket_path(path: &str, at: usize, scheme: &str) -> Result<PathBuf, AddressError> {
    if let Some(index) = path.find('\0') {
        let help = "abstract names are written with a leading @";
        return Err(AddressError::new(at + index, "a NUL in a path", help));
    }
    let rooted = ["/", "./", "../", "@"]
        .iter()
        .any(|start| path.starts_with(start));
    if !rooted || path == "@" || path.ends_with('/') {
        let help = format!("write {scheme}:///run/marline/in.sock, or {scheme}://@name");
        return Err(AddressError::new(at, "not a socket path", help));
    }
    // sun_path holds 108 bytes: a path with its NUL, or NUL and an abstract name (unix(7)).
    if path.len() > PATH_BYTES_MAX {
        let message = format!(
            "a socket path of {} bytes; at most {PATH_BYTES_MAX}",
            path.len()
        );
        let help = "put the socket into a directory with a shorter name";
        return Err(AddressError::new(at + PATH_BYTES_MAX, message, help));
    }
    Ok(PathBuf::from(path))
}

/// `HOST:PORT` or `[V6]:PORT`; `at` is its offset in the whole text.
fn authority(text: &str, at: usize) -> Result<(String, u16), AddressError> {
    let (host, port, port_at) = match text.strip_prefix('[') {
        Some(rest) => bracketed(rest, at)?,
        None => plain_host(text, at)?,
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        let wrong = port.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(0);
        let help = format!("write HOST:PORT with a port of 0 to 65535, such as {host}:5514");
        return Err(AddressError::new(port_at + wrong, "not a port", help));
    }
    match port.parse() {
        Ok(number) => Ok((host, number)),
        Err(_) => Err(AddressError::new(
            port_at,
            format!("port {port} is too large"),
            "ports end at 65535",
        )),
    }
}

fn bracketed(rest: &str, at: usize) -> Result<(String, &str, usize), AddressError> {
    let Some((host, after)) = rest.split_once(']') else {
        let help = "an IPv6 address is written [::1]:5514";
        return Err(AddressError::new(at, "the bracket is never closed", help));
    };
    if !matches!(host.parse::<IpAddr>(), Ok(IpAddr::V6(_))) {
        let help = "only an IPv6 address stands in brackets, as in [::1]:5514";
        return Err(AddressError::new(at + 1, "not an IPv6 address", help));
    }
    let port_at = at + 1 + host.len() + 1;
    match after.strip_prefix(':') {
        Some(port) => Ok((host.to_string(), port, port_at + 1)),
        None => {
            let help = format!("add one, as in [{host}]:5514");
            Err(AddressError::new(port_at, "the port is missing", help))
        }
    }
}

fn plain_host(text: &str, at: usize) -> Result<(String, &str, usize), AddressError> {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    if port.contains(':') {
        let help = "put an IPv6 address into brackets, as in [::1]:5514";
        return Err(AddressError::new(
            at,
            "which colon begins the port is unclear",
            help,
        ));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some((index, wrong)) = host.char_indices().find(|(_, c)| !allowed(*c)) {
        let message = format!("`{wrong}` cannot be in a host name");
        let help = "write HOST:PORT, such as 127.0.0.1:5514";
        return Err(AddressError::new(at + index, message, help));
    }
    if host.is_empty() {
        let help = "write 0.0.0.0 for every IPv4 address, [::] for every IPv6 address";
        return Err(AddressError::new(at, "the host is missing", help));
    }
    // RFC 1035 section 2.3.4.
    if host.len() > 253 {
        let help = "a host name has at most 253 bytes";
        return Err(AddressError::new(
            at + 253,
            "the host name is too long",
            help,
        ));
    }
    if !text.contains(':') {
        let help = format!("add one, as in {host}:5514");
        return Err(AddressError::new(
            at + host.len(),
            "the port is missing",
            help,
        ));
    }
    Ok((host.to_string(), port, at + host.len() + 1))
}

/// The longest path or abstract name (with its `@`) of a Unix domain socket.
pub const PATH_BYTES_MAX: usize = 107;

const SCHEMES: &str = "write tcp://HOST:PORT, udp://HOST:PORT, tls://HOST:PORT, unix:///PATH, \
                       unixgram:///PATH or systemd:NAME";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in [
            "tcp://127.0.0.1:5514",
            "tcp://[::1]:0",
            "udp://0.0.0.0:514",
            "tls://logs.example.net:6514",
            "unix:///run/marline/in.sock",
            "unix://@abstract",
            "unixgram://./dev/log",
            "systemd:syslog",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn mistakes_point_at_their_first_wrong_byte() {
        let check = |text: &str, offset: usize, message: &str| {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(
                (error.offset, error.message.as_str()),
                (offset, message),
                "{text}"
            );
            assert!(!error.help.is_empty());
        };
        check("127.0.0.1:5514", 0, "the transport is missing");
        check("tpc://127.0.0.1:5514", 0, "unknown transport `tpc`");
        check("tcp://127.0.0.1", 15, "the port is missing");
        check("tcp://127.0.0.1:", 16, "not a port");
        check("tcp://127.0.0.1:55x4", 18, "not a port");
        check("tcp://127.0.0.1:+5", 16, "not a port");
        check("tcp://127.0.0.1:65536", 16, "port 65536 is too large");
        check("tcp://:5514", 6, "the host is missing");
        check(
            "tcp://::1:5514",
            6,
            "which colon begins the port is unclear",
        );
        check("tcp://[::1:5514", 6, "the bracket is never closed");
        check("tcp://[::1]5514", 11, "the port is missing");
        check("tcp://[1.2.3.4]:1", 7, "not an IPv6 address");
        check("tcp://a b:1", 7, "` ` cannot be in a host name");
        check("tcp://a:1/path", 9, "not a port");
        check("unix://run/x.sock", 7, "not a socket path");
        check("unix://", 7, "not a socket path");
        check("unix:///run/", 7, "not a socket path");
        check("systemd:", 8, "a name of 1 to 255 characters is needed");
        check("systemd://x", 8, "a socket name, not a host");
        check("systemd:a:b", 9, "not a socket name");
        check("", 0, "the transport is missing");
    }

    #[test]
    fn f_077_a_path_longer_than_sun_path_is_refused_by_name() {
        let long = format!("unix:///{}", "p".repeat(107));
        let error = long.parse::<Address>().unwrap_err();
        assert_eq!(error.offset, 7 + 107);
        assert!(error.message.contains("108 bytes; at most 107"));
        let fits = format!("unix:///{}", "p".repeat(106));
        assert!(fits.parse::<Address>().is_ok());
    }
}
