//! The options of TLS: for components that listen and for those that dial.
//!
//! A component adds TLS by naming [`LISTENING_TLS`] or [`DIALLING_TLS`] among its shared options
//! and asking [`listening`] or [`dialling`] for what they say. Files are read with the
//! configuration and proved here, so that a pair that does not match never gets further;
//! [`add_materials`] gathers what all components use, for the transports' store.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::descriptor::{Kind, Opt};
use super::options::{FileContent, Mistake, Options};
use crate::transport::address::Address;
use crate::transport::tls::{
    Authorities, AuthoritiesName, ClientAuth, ClientSpec, Identity, IdentityName, Materials,
    PemError, ServerSpec, Version, session,
};

/// A certificate's or an authority's file.
const PEM: Kind = Kind::File {
    words: &[],
    is_private: false,
};

/// A key's file.
const KEY: Kind = Kind::File {
    words: &[],
    is_private: true,
};

const MINIMUM_VERSION: Opt = Opt::new(
    "tls.minimum_version",
    "oldest version of TLS that is spoken",
    Kind::Word(&["1.2", "1.3"]),
)
.default("\"1.2\"");

/// Of components that accept connections.
pub const LISTENING_TLS: &[Opt] = &[
    Opt::new(
        "tls.certificate",
        "PEM file of the certificate that clients see, with the chain behind it; needed where an \
         address is tls:// or https://, together with `tls.key`",
        PEM,
    ),
    Opt::new(
        "tls.key",
        "PEM file of the certificate's key, not encrypted; a reload reads both files again, and \
         connections go on",
        KEY,
    ),
    Opt::new(
        "tls.client_ca",
        "PEM file of the authorities of clients: a client has to show a certificate that one of \
         them has signed",
        PEM,
    ),
    Opt::new(
        "tls.client_auth",
        "\"optional\" also lets clients in that show no certificate. Belongs to `tls.client_ca`",
        Kind::Word(&["required", "optional"]),
    )
    .default("\"required\""),
    MINIMUM_VERSION,
    Opt::new(
        "tls.handshake_timeout",
        "a connection whose TLS handshake takes longer is closed",
        Kind::DURATION,
    )
    .default("\"10s\""),
];

/// Of components that dial.
pub const DIALLING_TLS: &[Opt] = &[
    Opt::new(
        "tls.ca",
        "PEM file of the authorities that may have signed the server's certificate; \"system\" \
         takes those that the system trusts",
        Kind::File {
            words: &["system"],
            is_private: false,
        },
    )
    .default("\"system\""),
    Opt::new(
        "tls.certificate",
        "PEM file of our own certificate, for a server that asks for one; together with `tls.key`",
        PEM,
    ),
    Opt::new(
        "tls.key",
        "PEM file of our certificate's key, not encrypted",
        KEY,
    ),
    Opt::new(
        "tls.server_name",
        "name that the server's certificate must be for; without it the host that is dialled",
        Kind::Text(Some(check_server_name)),
    ),
    MINIMUM_VERSION,
];

fn check_server_name(text: &str) -> Result<(), Mistake> {
    match session::is_server_name(text) {
        true => Ok(()),
        false => Err(Mistake::new("not a name that a certificate can be for")
            .help("write a host name like logs.example.net, or an IP address")),
    }
}

/// Where TLS is asked for: the option and entry by which messages point at it.
fn asked_by<'a>(addresses: impl IntoIterator<Item = &'a Address>, option: &str) -> Option<String> {
    let mut addresses = addresses.into_iter();
    let index = addresses.position(|address| matches!(address, Address::Tls { .. }))?;
    Some(format!("{option}.{index}"))
}

/// How a component listens on the addresses of its option `listen`, if one of them is TLS.
///
/// # Errors
/// The certificate is missing, or of no use, or nobody needs it.
pub fn listening(
    options: &Options,
    addresses: &[Address],
    is_http: bool,
) -> Result<Option<ServerSpec>, Mistake> {
    let Some(asked) = asked_by(addresses, "listen") else {
        return unused(options, LISTENING_TLS, "listens on a tls:// address").map(|()| None);
    };
    let Some(identity) = identity(options)? else {
        return Err(Mistake::new("TLS needs a certificate and its key")
            .of(asked)
            .help("add tls = { certificate = \"FILE.pem\", key = \"FILE.key\" }"));
    };
    let client_ca = options.file("tls.client_ca");
    client_ca.map_or(Ok(()), |file| authorities(file, "tls.client_ca").map(drop))?;
    let name = client_ca.map(|file| AuthoritiesName::File(file.path.clone()));
    let client_auth = match (name, options.word("tls.client_auth")) {
        (Some(name), "optional") => ClientAuth::Optional(name),
        (Some(name), _) => ClientAuth::Required(name),
        (None, _) if options.is_set("tls.client_auth") => {
            let message = "nobody asks clients for a certificate";
            let help = "set tls.client_ca to the file of their authority, or leave it out";
            return Err(options.mistake("tls.client_auth", message).help(help));
        }
        (None, _) => ClientAuth::Off,
    };
    Ok(Some(ServerSpec {
        identity,
        client_auth,
        minimum_version: minimum_version(options),
        handshake_timeout: options.duration("tls.handshake_timeout"),
        is_http,
    }))
}

/// How a component dials, where one of its addresses is TLS.
///
/// # Errors
/// A file is of no use, or nobody needs it.
pub fn dialling<'a>(
    options: &Options,
    addresses: impl IntoIterator<Item = &'a Address>,
    is_http: bool,
) -> Result<Option<ClientSpec>, Mistake> {
    if asked_by(addresses, "").is_none() {
        return unused(options, DIALLING_TLS, "dials a tls:// or https:// address").map(|()| None);
    }
    let authorities_name = match options.file("tls.ca") {
        None => AuthoritiesName::System,
        Some(file) => {
            authorities(file, "tls.ca")?;
            AuthoritiesName::File(file.path.clone())
        }
    };
    Ok(Some(ClientSpec {
        authorities: authorities_name,
        identity: identity(options)?,
        server_name: options.maybe_text("tls.server_name").map(str::to_owned),
        minimum_version: minimum_version(options),
        is_http,
    }))
}

/// TLS options where no TLS is spoken: somebody believes that it is.
fn unused(options: &Options, group: &[Opt], what: &str) -> Result<(), Mistake> {
    let given = group.iter().find(|opt| options.is_set(opt.name));
    given.map_or(Ok(()), |opt| {
        let message = format!("no TLS is spoken here: nothing {what}");
        let help = "write the addresses with tls:// (https://), or leave it out";
        Err(options.mistake(opt.name, message).help(help))
    })
}

fn minimum_version(options: &Options) -> Version {
    match options.word("tls.minimum_version") {
        "1.3" => Version::V1_3,
        _ => Version::V1_2,
    }
}

/// The files of `tls.certificate` and `tls.key`, proved.
fn identity(options: &Options) -> Result<Option<IdentityName>, Mistake> {
    let Some((certificate, key)) = pair(options)? else {
        return Ok(None);
    };
    parse_identity(certificate, key)?;
    Ok(Some(name_of(certificate, key)))
}

fn name_of(certificate: &FileContent, key: &FileContent) -> IdentityName {
    IdentityName {
        certificate: certificate.path.clone(),
        key: key.path.clone(),
    }
}

fn pair(options: &Options) -> Result<Option<(&FileContent, &FileContent)>, Mistake> {
    match (options.file("tls.certificate"), options.file("tls.key")) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(options
            .mistake(
                "tls.certificate",
                "a certificate is of no use without its key",
            )
            .help("add tls.key")),
        (None, Some(_)) => Err(options
            .mistake("tls.key", "a key is of no use without its certificate")
            .help("add tls.certificate")),
    }
}

fn parse_identity(certificate: &FileContent, key: &FileContent) -> Result<Identity, Mistake> {
    let parsed = Identity::parse(certificate.content.reveal(), key.content.reveal());
    parsed.map_err(|error| {
        let option = if error.is_key {
            "tls.key"
        } else {
            "tls.certificate"
        };
        mistake(&error, option)
    })
}

fn authorities(file: &FileContent, option: &str) -> Result<Authorities, Mistake> {
    Authorities::parse(file.content.reveal()).map_err(|error| mistake(&error, option))
}

fn mistake(error: &PemError, option: &str) -> Mistake {
    Mistake::new(error.message.clone())
        .help(error.help.clone())
        .of(option)
}

/// Adds to `materials` what a component with these options uses. The system's authorities are
/// looked up once, where somebody uses them, which reads files.
///
/// # Errors
/// A file is of no use.
pub fn add_materials(options: &Options, materials: &mut Materials) -> Result<(), Mistake> {
    let declares = |name: &str| options.settings().iter().any(|it| it.opt.name == name);
    if !declares("tls.certificate") {
        return Ok(());
    }
    if let Some((certificate, key)) = pair(options)? {
        let place = materials.identities.entry(name_of(certificate, key));
        if let Entry::Vacant(place) = place {
            place.insert(Arc::new(parse_identity(certificate, key)?));
        }
    }
    let option = match declares("tls.ca") {
        true => "tls.ca",
        false => "tls.client_ca",
    };
    let file = options.file(option);
    let name = match file {
        Some(file) => AuthoritiesName::File(file.path.clone()),
        None if option == "tls.ca" && dials_tls(options) => AuthoritiesName::System,
        None => return Ok(()),
    };
    if let Entry::Vacant(place) = materials.authorities.entry(name) {
        let found = match file {
            Some(file) => authorities(file, option)?,
            None => Authorities::system().map_err(|error| mistake(&error, option))?,
        };
        place.insert(Arc::new(found));
    }
    Ok(())
}

/// Whether one of the addresses, whatever the option is called, is one of TLS.
fn dials_tls(options: &Options) -> bool {
    let is_tls = |text: &str| text.starts_with("tls://") || text.starts_with("https://");
    ["address", "addresses", "url", "urls"].iter().any(|name| {
        let settings = options.settings().iter();
        let setting = settings.clone().find(|it| it.opt.name == *name);
        let value = setting.and_then(|it| it.value.as_ref());
        value.is_some_and(|located| match located.as_text() {
            Some(text) => is_tls(text),
            None => options.texts(name).into_iter().any(is_tls),
        })
    })
}
