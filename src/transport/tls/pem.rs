//! PEM files (RFC 7468) to what sessions are made of, with mistakes that say what to do.
//!
//! A certificate file holds a chain, our own certificate first; a key file one unencrypted key
//! in PKCS #8, PKCS #1 or SEC 1. A key that is not that of the certificate is found here, so
//! that nothing unusable ever gets into the [`Store`](super::Store).

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use rustls::pki_types::pem::{self, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::time::WallTime;

/// What is wrong with the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemError {
    /// Whether it is the key's file; else it is the certificate's.
    pub is_key: bool,
    /// What was found.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl PemError {
    fn certificate(message: impl Into<String>, help: impl Into<String>) -> Self {
        PemError {
            is_key: false,
            message: message.into(),
            help: help.into(),
        }
    }

    fn key(message: impl Into<String>, help: impl Into<String>) -> Self {
        PemError {
            is_key: true,
            ..PemError::certificate(message, help)
        }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for PemError {}

/// A certificate chain and its key.
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// What the first certificate says of itself.
    pub about: About,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Whose it is (RFC 4514), cut at [`SUBJECT_BYTES_MAX`].
    pub subject: String,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// When it begins to be valid.
    pub not_before: WallTime,
    /// When it ends.
    pub not_after: WallTime,
}

impl Identity {
    /// The identity in the two files.
    ///
    /// # Errors
    /// One of them is no such file, or they do not belong together.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Identity, PemError> {
        let chain = certificates(certificate)?;
        let about = About::of(&chain[0])?;
        let key = private_key(key)?;
        let provider = super::provider();
        let signing = provider.key_provider.load_private_key(key);
        let signing = signing.map_err(|error| {
            let message = format!("the key cannot be used: {error}");
            PemError::key(
                message,
                "take an RSA key of 2048 bits or more, P-256 or Ed25519",
            )
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(_)) => {
                let message = "this is not the key of the certificate";
                let help = "give the certificate and the key that were made together";
                return Err(PemError::key(message, help));
            }
            Err(error) => {
                let message = format!("the certificate cannot be used: {error}");
                return Err(PemError::certificate(message, REMAKE));
            }
        }
        Ok(Identity {
            certified: Arc::new(certified),
            about,
        })
    }

    pub(super) fn is_same(&self, other: &Identity) -> bool {
        // The key is that of the certificate, in both.
        self.certified.cert == other.certified.cert
    }
}

impl About {
    fn of(certificate: &CertificateDer<'_>) -> Result<About, PemError> {
        let parsed = Certificate::from_der(certificate).map_err(|error| {
            let message = format!("the certificate cannot be read: {error}");
            PemError::certificate(message, REMAKE)
        })?;
        let content = parsed.tbs_certificate();
        let mut subject = content.subject().to_string();
        if subject.len() > SUBJECT_BYTES_MAX {
            let cut = subject.floor_char_boundary(SUBJECT_BYTES_MAX);
            subject.truncate(cut);
        }
        let serial = content.serial_number().as_bytes().iter();
        let serial = serial.map(|byte| format!("{byte:02x}")).collect();
        let validity = content.validity();
        let wall = |time: x509_cert::time::Time| {
            let seconds = time.to_unix_duration().as_secs();
            WallTime::from_micros(
                i64::try_from(seconds)
                    .unwrap_or(0)
                    .saturating_mul(1_000_000),
            )
        };
        Ok(About {
            subject,
            serial,
            not_before: wall(validity.not_before),
            not_after: wall(validity.not_after),
        })
    }

    /// Whole days until the certificate ends; negative once it has.
    pub fn days_left(&self, now: WallTime) -> i64 {
        let left = self.not_after.as_micros().saturating_sub(now.as_micros());
        left.div_euclid(MICROS_PER_DAY)
    }
}

/// Certificates that others may be signed by.
pub struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
}

impl Authorities {
    /// Those in a file; every certificate in it is one.
    ///
    /// # Errors
    /// It is no such file.
    pub fn parse(certificates_file: &[u8]) -> Result<Authorities, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(certificates_file)? {
            roots.add(certificate).map_err(|error| {
                let message = format!("not the certificate of an authority: {error}");
                PemError::certificate(message, REMAKE)
            })?;
        }
        let roots = Arc::new(roots);
        Ok(Authorities { roots })
    }

    /// Those that the system trusts: where OpenSSL has them, or `SSL_CERT_FILE` says. Reads
    /// files, so it is not for the reactor's thread.
    ///
    /// # Errors
    /// There are none.
    pub fn system() -> Result<Authorities, PemError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _ignored) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let message = "this system has no certificate authorities";
            let help = "install its ca-certificates, or set tls.ca to a file with the right one";
            return Err(PemError::certificate(message, help));
        }
        let roots = Arc::new(roots);
        Ok(Authorities { roots })
    }

    pub(super) fn is_same(&self, other: &Authorities) -> bool {
        self.roots.roots == other.roots.roots
    }
}

/// The sections that we know; others are passed over.
fn sections(content: &[u8], is_key: bool) -> Result<Vec<(SectionKind, Vec<u8>)>, PemError> {
    let mut rest = Cursor::new(content);
    let mut sections = Vec::new();
    loop {
        match pem::from_buf(&mut rest) {
            Ok(Some(section)) => sections.push(section),
            Ok(None) => return Ok(sections),
            Err(_) => {
                // What the parser says may quote the file, which may hold a key.
                let line = content[..rest.position() as usize].iter();
                let line = line.filter(|byte| **byte == b'\n').count();
                let message = format!("the file is damaged near its line {line}");
                return Err(PemError {
                    is_key,
                    ..PemError::certificate(message, "it has to be PEM, as `openssl` writes it")
                });
            }
        }
    }
}

/// The certificates of a file, one at least.
fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = sections(content, false)?;
    let kinds: Vec<SectionKind> = found.iter().map(|section| section.0).collect();
    let certificates = found.into_iter().filter_map(|(kind, der)| {
        let is_one = kind == SectionKind::Certificate;
        is_one.then(|| CertificateDer::from(der))
    });
    let certificates: Vec<_> = certificates.collect();
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    let what = "a PEM file that begins with -----BEGIN CERTIFICATE----- is needed";
    Err(match (kinds.first(), is_der(content)) {
        _ if content.is_empty() => PemError::certificate("the file is empty", what),
        (Some(SectionKind::Csr), _) => {
            let message = "this is a request for a certificate, not a certificate";
            PemError::certificate(message, "take what the authority has made of it")
        }
        (Some(_), _) => PemError::certificate("there is a key, not a certificate, in it", what),
        (None, true) => {
            let help = "convert it: openssl x509 -inform der -in FILE -out FILE.pem";
            PemError::certificate("the certificate is DER, not PEM", help)
        }
        (None, false) => PemError::certificate("there is no certificate in it", what),
    })
}

/// The key of a file; the first, as in files that openssl writes with parameters before it.
fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    if is_encrypted(content) {
        let help = "decrypt it: openssl pkey -in FILE -out FILE.plain, for the daemon alone";
        let message = "the key is encrypted, and nobody is there to be asked";
        return Err(PemError::key(message, help));
    }
    for (kind, der) in sections(content, true)? {
        return Ok(match kind {
            SectionKind::PrivateKey => PrivateKeyDer::Pkcs8(der.into()),
            SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
            SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
            _ => continue,
        });
    }
    let what = "a PEM file that begins with -----BEGIN PRIVATE KEY----- is needed";
    Err(if content.is_empty() {
        PemError::key("the file is empty", what)
    } else if is_der(content) {
        let help = "convert it: openssl pkey -inform der -in FILE -out FILE.pem";
        PemError::key("the key is DER, not PEM", help)
    } else {
        PemError::key("there is no private key in it", what)
    })
}

/// Both ways of writing it: PKCS #8 has a label of its own, older ones a header.
fn is_encrypted(content: &[u8]) -> bool {
    [
        &b"ENCRYPTED PRIVATE KEY-----"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| memchr::memmem::find(content, mark).is_some())
}

/// A SEQUENCE with a length of two bytes, as keys and certificates are.
fn is_der(content: &[u8]) -> bool {
    content.starts_with(&[0x30, 0x82])
}

/// Bytes of a subject that are kept.
pub const SUBJECT_BYTES_MAX: usize = 256;

const MICROS_PER_DAY: i64 = 86_400_000_000;

const REMAKE: &str = "have it made again: X.509 version 3, with its names in subjectAltName";
