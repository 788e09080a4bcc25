//! Kinds of failed handshakes: few and fixed, to be counted and to tell complaints apart.
//!
//! What exactly went wrong is in the text of the error, part of which a peer can choose (the
//! dates of its certificate, the number of an alert); the kind is a word of ours.

use rustls::{AlertDescription, Error};

use super::explain;

/// Whose fault it is that there is no session, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer speaks plain text where TLS is spoken.
    PlainText,
    /// The peer speaks TLS where plain text is spoken.
    PlainPort,
    /// What it sends is no TLS, and no text.
    NoTls,
    /// It sent nothing in all the time that it had.
    Silent,
    /// It did not finish in time.
    Timeout,
    /// It ended its stream before.
    BrokenOff,
    /// It speaks no version that is allowed.
    Version,
    /// It has no certificate, and has to have one.
    NoCertificate,
    /// Its certificate is refused.
    Certificate,
    /// It has refused us, or our certificate, by an alert.
    Refused,
    /// It broke the rules, or has no algorithm in common with us.
    Protocol,
    /// Our own: there is no certificate to show.
    Local,
}

impl Fault {
    /// All, in the order in which they are shown.
    pub const ALL: [Fault; 12] = [
        Fault::PlainText,
        Fault::PlainPort,
        Fault::NoTls,
        Fault::Silent,
        Fault::Timeout,
        Fault::BrokenOff,
        Fault::Version,
        Fault::NoCertificate,
        Fault::Certificate,
        Fault::Refused,
        Fault::Protocol,
        Fault::Local,
    ];

    /// Its word in logs, reports and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fault::PlainText => "plain_text",
            Fault::PlainPort => "tls_to_plain_port",
            Fault::NoTls => "no_tls",
            Fault::Silent => "silent",
            Fault::Timeout => "timeout",
            Fault::BrokenOff => "broken_off",
            Fault::Version => "version",
            Fault::NoCertificate => "no_certificate",
            Fault::Certificate => "certificate",
            Fault::Refused => "refused_by_peer",
            Fault::Protocol => "protocol",
            Fault::Local => "local",
        }
    }

    /// What an error of a session comes under.
    pub(super) fn of(error: &Error) -> Fault {
        match error {
            Error::NoCertificatesPresented => Fault::NoCertificate,
            Error::InvalidCertificate(_) => Fault::Certificate,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Fault::Version,
            Error::AlertReceived(_) => Fault::Refused,
            Error::PeerIncompatible(what) if explain::is_of_version(what) => Fault::Version,
            error if explain::is_no_tls(error) => Fault::NoTls,
            _ => Fault::Protocol,
        }
    }
}
