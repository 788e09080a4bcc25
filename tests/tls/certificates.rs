//! Certificates, good ones and bad ones, in files.
//!
//! [`Keys`] is what a test usually needs; [`Authority::sign_with`] makes what it needs beside.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate with its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    /// In lower-case hexadecimal digits, as the daemon writes it.
    pub serial: String,
}

/// Somebody who signs.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let name = format!("authority {:x?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            params,
            key,
            certificate,
        }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `names`.
    pub fn sign(&self, names: &[&str]) -> Pair {
        self.sign_with(names, |_| {})
    }

    /// A certificate for `names` that `adjust` has made a special one.
    pub fn sign_with(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        let serial = key.public_key_raw()[1..9].to_vec();
        let serial: Vec<u8> = std::iter::once(0x11).chain(serial).collect();
        params.serial_number = Some(serial.clone().into());
        adjust(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// A certificate that ended long ago.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 3, 4);
}

/// A certificate of the far future.
pub fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2999, 1, 2);
}

/// A certificate that is made for clients.
pub fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

/// An authority, and a certificate of a server and one of a client, in files.
pub struct Keys {
    folder: TempDir,
    pub authority: Authority,
    pub server: Pair,
    pub client: Pair,
}

/// Names under which the tests' servers are reached.
pub const HERE: &[&str] = &["localhost", "127.0.0.1"];

impl Keys {
    pub fn new() -> Keys {
        let authority = Authority::new();
        let keys = Keys {
            folder: tempfile::tempdir().unwrap(),
            server: authority.sign(HERE),
            client: authority.sign(&["client.example"]),
            authority,
        };
        keys.write("ca.pem", &keys.authority.pem());
        keys.write_pair("server", &keys.server);
        keys.write_pair("client", &keys.client);
        keys
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `NAME.pem` and `NAME.key`.
    pub fn write_pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.pem"), &pair.certificate);
        self.write(&format!("{name}.key"), &pair.key);
    }

    /// The option `tls` with these files, and what else stands in it.
    pub fn option(&self, name: &str, more: &str) -> String {
        let (certificate, key) = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        );
        format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\"{more} }}\n")
    }
}
