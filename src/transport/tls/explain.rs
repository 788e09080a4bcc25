//! What a broken session means: in words that say what is wrong and what to do about it.
//!
//! Nothing that a peer sent is quoted but names out of its certificate, few and short.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::fault::Fault;
use crate::time::WallTime;

/// Why there is no session, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeError {
    fault: Fault,
    text: String,
}

impl HandshakeError {
    pub(in crate::transport) fn new(fault: Fault, text: impl Into<String>) -> Self {
        let text = text.into();
        HandshakeError { fault, text }
    }

    /// Of what kind it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for HandshakeError {}

/// The first bytes of the peer, by which one sees what it speaks.
#[derive(Debug)]
pub(super) struct Opening {
    bytes: [u8; OPENING_BYTES],
    length: u8,
    /// Whether the peer is a client.
    is_server: bool,
}

const OPENING_BYTES: usize = 8;

impl Opening {
    pub(super) fn new(is_server: bool) -> Self {
        Opening {
            bytes: [0; OPENING_BYTES],
            length: 0,
            is_server,
        }
    }

    pub(super) fn saw(&mut self, wire: &[u8]) {
        let known = usize::from(self.length);
        let more = wire.len().min(OPENING_BYTES - known);
        self.bytes[known..known + more].copy_from_slice(&wire[..more]);
        self.length += more as u8;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.length > 0
    }

    fn seen(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether what came is text, as of syslog, HTTP or a greeting.
    fn is_text(&self) -> bool {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        self.has_begun() && self.seen().iter().all(is_text)
    }

    fn peer(&self) -> &'static str {
        if self.is_server { "client" } else { "server" }
    }

    fn speaks_plain(&self) -> HandshakeError {
        let text = match self.is_server {
            true => {
                "the client speaks plain text to a TLS port: it has to send TLS, or to another \
                 port, of tcp:// or http://"
            }
            false => {
                "the server answers in plain text: it is no TLS port; dial its TLS port, or use \
                 tcp:// or http://"
            }
        };
        HandshakeError::new(Fault::PlainText, text)
    }
}

/// Whether the first bytes of a connection are those of a TLS client (RFC 8446 sections 4 and
/// 5.1): a handshake record of version 3.0 to 3.4 that begins with a ClientHello.
pub fn looks_like_client_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 0x03, 0..=4, _, _, 0x01, ..])
}

/// What such bytes mean where no TLS is spoken.
pub fn speaks_tls_to_plain() -> HandshakeError {
    HandshakeError::new(
        Fault::PlainPort,
        "the client speaks TLS to a plain port (its first bytes are a ClientHello): it has to \
         send plain text, or to another port, of tls:// or https://",
    )
}

/// The time for the handshake is over.
pub(super) fn overdue(opening: &Opening) -> HandshakeError {
    let (fault, what) = match (opening.has_begun(), opening.is_text()) {
        (true, true) => return opening.speaks_plain(),
        (true, false) => (Fault::Timeout, "did not finish it within the time limit"),
        (false, _) => (Fault::Silent, "sent nothing within the time limit"),
    };
    HandshakeError::new(fault, format!("the {} {what}", opening.peer()))
}

/// The peer's stream has ended before the handshake was complete.
pub(super) fn broken_off(opening: &Opening) -> HandshakeError {
    match opening.is_text() {
        true => opening.speaks_plain(),
        false => {
            let text = format!("the {} broke it off", opening.peer());
            HandshakeError::new(Fault::BrokenOff, text)
        }
    }
}

/// What broke a session, before or after the handshake was complete.
pub(super) fn session(error: &Error, opening: &Opening, is_secured: bool) -> HandshakeError {
    let peer = opening.peer();
    if !is_secured && opening.is_text() && is_no_tls(error) {
        return opening.speaks_plain();
    }
    let text = match error {
        Error::InvalidCertificate(error) => certificate(error, opening),
        Error::AlertReceived(alert) => self::alert(*alert, opening),
        Error::NoCertificatesPresented => {
            "the client has no certificate, and tls.client_ca asks for one".into()
        }
        Error::PeerIncompatible(what) => incompatible(what, peer),
        error if !is_secured && is_no_tls(error) => {
            format!("what the {peer} sends is no TLS")
        }
        Error::PeerMisbehaved(what) => format!("the {peer} broke the protocol: {what:?}"),
        Error::DecryptError => format!("a record of the {peer} was damaged on its way"),
        Error::PeerSentOversizedRecord => format!("the {peer} sent a record that is too long"),
        error => format!("{error}"),
    };
    HandshakeError::new(Fault::of(error), text)
}

pub(super) fn is_no_tls(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
        )
    )
}

fn incompatible(what: &PeerIncompatible, peer: &str) -> String {
    match is_of_version(what) {
        true => format!(
            "the {peer} speaks no version of TLS that is allowed here: 1.2 and 1.3, or what \
             tls.minimum_version says"
        ),
        false => format!("the {peer} has nothing in common with us: {what:?}"),
    }
}

/// Clients before TLS 1.2 have no such extension as the first (RFC 5246 section 7.4.1.4.1).
pub(super) fn is_of_version(what: &PeerIncompatible) -> bool {
    matches!(
        what,
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
    )
}

fn certificate(error: &CertificateError, opening: &Opening) -> String {
    let peer = opening.peer();
    let authorities = match opening.is_server {
        true => "tls.client_ca",
        false => "tls.ca",
    };
    let date = |time: &rustls::pki_types::UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 1_000_000);
        WallTime::from_micros(seconds.saturating_mul(1_000_000))
    };
    match error {
        CertificateError::Expired => format!("the certificate of the {peer} has expired"),
        CertificateError::ExpiredContext { not_after, .. } => {
            let since = date(not_after);
            format!("the certificate of the {peer} has expired: it was valid until {since}")
        }
        CertificateError::NotValidYet => {
            format!("the certificate of the {peer} is not valid yet: is the clock right?")
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let from = date(not_before);
            format!("the certificate of the {peer} is valid only from {from}: is the clock right?")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of the {peer} is signed by nobody who is trusted here: set \
             {authorities} to the file with the certificate of its authority"
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let wanted = expected.to_str();
            let names = names(presented);
            format!(
                "the certificate of the {peer} is not for {wanted} but for {names}: dial that \
                 name, or set tls.server_name to it"
            )
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            format!("the certificate of the {peer} is not made for a {peer} (extendedKeyUsage)")
        }
        other => {
            let text = other.to_string();
            if text.contains("CaUsedAsEndEntity") {
                return format!(
                    "the certificate of the {peer} is that of an authority (CA:TRUE): make one \
                     for the {peer} with basicConstraints=CA:FALSE"
                );
            }
            format!("the certificate of the {peer} is refused: {text}")
        }
    }
}

/// The names in a certificate: the first few, each cut.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let quoted = name.split_once("(\"").map_or(&**name, |(_, rest)| rest);
        let bare = quoted.trim_end_matches("\")");
        bare.chars().take(NAME_CHARS_MAX).collect::<String>()
    };
    let mut shown: Vec<String> = presented.iter().take(NAMES_MAX).map(plain).collect();
    match presented.len() {
        0 => return "no name at all (it has no subjectAltName)".into(),
        all if all > NAMES_MAX => shown.push(format!("{} more", all - NAMES_MAX)),
        _ => {}
    }
    shown.join(", ")
}

fn alert(alert: AlertDescription, opening: &Opening) -> String {
    let peer = opening.peer();
    match (alert, opening.is_server) {
        (AlertDescription::UnknownCA, true) => format!(
            "the {peer} does not trust our certificate: give it the certificate of our authority"
        ),
        (AlertDescription::UnknownCA, false) => {
            format!("the {peer} does not trust our certificate, that of tls.certificate")
        }
        (AlertDescription::CertificateRequired, false) => {
            format!("the {peer} wants to see a certificate: set tls.certificate and tls.key")
        }
        (AlertDescription::HandshakeFailure, false) => format!(
            "the {peer} refused the handshake: it may want a certificate (tls.certificate and \
             tls.key), or have no cipher in common with us"
        ),
        (
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate,
            _,
        ) => format!("the {peer} refused our certificate: {alert:?}"),
        (AlertDescription::ProtocolVersion, _) => {
            format!("the {peer} speaks no version of TLS that is allowed here")
        }
        (other, _) => format!("the {peer} broke it off: {other:?}"),
    }
}

/// Names of a certificate that are shown, and characters of each.
const NAMES_MAX: usize = 5;
const NAME_CHARS_MAX: usize = 100;
