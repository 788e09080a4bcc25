//! `http://HOST[:PORT]/PATH[?QUERY]`, or `https://`: what a client may ask for.
//!
//! Credentials have no place in a URL: they would be printed with it. [`Url`] shows itself
//! without its query, which may hold a token all the same.

use std::fmt;

use hyper::Uri;

use crate::transport::Address;

/// A resource on a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Lower case; an IPv6 address without brackets.
    host: String,
    port: u16,
    /// Path and query, beginning with `/`.
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const ALL: [Scheme; 2] = [Scheme::Http, Scheme::Https];

    /// With what stands behind it.
    fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Why a text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError {
    /// The first wrong byte.
    pub offset: usize,
    /// What is wrong there; never quotes the text, which may hold a secret.
    pub message: &'static str,
    /// What to write instead.
    pub help: &'static str,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Reads an absolute URL.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let error = |offset, message, help| UrlError {
            offset,
            message,
            help,
        };
        const FORM: &str = "write http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH";
        if text.len() > URL_BYTES_MAX {
            let help = "the limit is 4096 bytes";
            return Err(error(URL_BYTES_MAX, "the URL is too long", help));
        }
        let known = |scheme: &Scheme| text.starts_with(scheme.prefix());
        let Some(scheme) = Scheme::ALL.into_iter().find(known) else {
            return Err(error(0, "not an http:// or https:// URL", FORM));
        };
        let begin = scheme.prefix().len();
        let rest = &text[begin..];
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        if authority.contains('@') {
            let help = "give user and password as `auth = { basic = { … } }`";
            return Err(error(begin, "a URL must not hold credentials", help));
        }
        let uri: Uri = text.parse().map_err(|_| {
            let valid = |end: &usize| text[..*end].parse::<Uri>().is_ok();
            let mut ends = (begin + 1..text.len()).filter(|end| text.is_char_boundary(*end));
            error(ends.rfind(valid).unwrap_or(0), "not a valid URL", FORM)
        })?;
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = match (uri.port_u16(), authority[host.len()..].strip_prefix(':')) {
            (Some(0), _) | (None, Some(_)) => {
                return Err(error(begin + host.len(), "not a port", FORM));
            }
            (port, _) => port.unwrap_or(scheme.default_port()),
        };
        if bare.is_empty() {
            return Err(error(begin, "the host is missing", FORM));
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Url {
            scheme,
            host: bare.to_lowercase(),
            port,
            target: format!("{slash}{target}"),
        })
    }

    /// The URL that a `Location` field of this one's answer means (RFC 3986 section 5.2, as
    /// far as servers use it). `None` for what is no http:// URL.
    pub fn join(&self, location: &str) -> Option<Url> {
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            let scheme = self.scheme.prefix().trim_end_matches('/');
            return Url::parse(&format!("{scheme}{location}")).ok();
        }
        let scheme_end = location.find(':').unwrap_or(usize::MAX);
        let is_absolute = scheme_end < location.find(['/', '?']).unwrap_or(usize::MAX);
        if is_absolute {
            return Url::parse(location).ok();
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = match location.chars().next() {
            None => self.target.clone(),
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                format!("{folder}{location}")
            }
        };
        Url::parse(&format!("{}{target}", self.origin())).ok()
    }

    /// Whether both are on the same scheme, host and port.
    pub fn is_same_origin(&self, other: &Url) -> bool {
        let is_same_place = self.host == other.host && self.port == other.port;
        is_same_place && self.scheme == other.scheme
    }

    /// Whom to dial.
    pub fn address(&self) -> Address {
        let (host, port) = (self.host.clone(), self.port);
        match self.scheme {
            Scheme::Http => Address::Tcp { host, port },
            Scheme::Https => Address::Tls { host, port },
        }
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Host and port as the `Host` field has them.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            port if port == self.scheme.default_port() => host,
            port => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port: who is asked.
    pub fn origin(&self) -> String {
        format!("{}{}", self.scheme.prefix(), self.authority())
    }
}

/// Without the query.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or("/");
        write!(f, "{}{path}", self.origin())
    }
}

/// Longest URL; looking for what is wrong with one takes the square of its length.
const URL_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_secrets() {
        let check = |text: &str, shown: &str, target: &str| {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.target()), (shown, target));
        };
        check("http://a.example", "http://a.example/", "/");
        check(
            "http://A.example:80/x?token=1",
            "http://a.example/x",
            "/x?token=1",
        );
        check("http://[::1]:8080/x#y", "http://[::1]:8080/x", "/x");
        check("http://h:81?q", "http://h:81/", "/?q");
        check("https://a.example:443/x", "https://a.example/x", "/x");
        check("https://a.example:80/x", "https://a.example:80/x", "/x");
    }

    #[test]
    fn what_is_no_url_is_refused_at_its_place() {
        let check = |text: &str, offset: usize, part: &str| {
            let error = Url::parse(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        };
        check("ftp://x/", 0, "not an http");
        check("https://user:S3CR3T@x/", 8, "credentials");
        check("https:///x", 0, "valid");
        check("http://user:S3CR3T@x/", 7, "credentials");
        check("http://x/a b", 10, "valid");
        check("http://x:0/", 8, "port");
        check("http://x:99999/", 8, "");
        check("http:///x", 0, "valid");
        check(&format!("http://x/{}", "a".repeat(5000)), 4096, "too long");
    }

    #[test]
    fn locations_are_relative_to_their_url() {
        let check = |location: &str, expected: Option<&str>| {
            let url = Url::parse("http://h:81/a/b?q").unwrap();
            let joined = url.join(location);
            let joined = joined.map(|url| format!("{}{}", url.authority(), url.target()));
            assert_eq!(joined.as_deref(), expected, "{location}");
        };
        check("/x?y", Some("h:81/x?y"));
        check("x", Some("h:81/a/x"));
        check("?z", Some("h:81/a/b?z"));
        check("", Some("h:81/a/b?q"));
        check("//other/x", Some("other/x"));
        check("http://other:82/x", Some("other:82/x"));
        check("x?u=http://y", Some("h:81/a/x?u=http://y"));
        check("file:///etc/passwd", None);
        check("http://h:81@evil/", None);
    }

    #[test]
    fn another_scheme_is_another_server() {
        let url = Url::parse("https://h:81/a").unwrap();
        let joined = |location: &str| url.join(location).unwrap();
        assert!(joined("/b").is_same_origin(&url));
        assert!(joined("//h:81/b").is_same_origin(&url));
        assert!(!joined("http://h:81/b").is_same_origin(&url), "a downgrade");
        assert_eq!(url.address().to_string(), "tls://h:81");
    }
}
