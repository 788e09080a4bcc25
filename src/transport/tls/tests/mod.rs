//! Sessions of both ends against each other without a socket, and files that are none.
//!
//! Certificates are made for each test; randomness comes from seeds.
#![allow(clippy::unwrap_used)]

mod files;
mod sessions;

use std::rc::Rc;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::time::Duration;

/// A certificate with its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

/// An authority that signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Two of the same name would be told apart by their signatures only.
        let name = format!("authority {:x?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            params,
            key,
            certificate,
        }
    }

    fn sign(&self, name: &str) -> Pair {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn identity_name() -> IdentityName {
    IdentityName {
        certificate: "server.pem".into(),
        key: "server.key".into(),
    }
}

/// A server for `localhost` and a client that trusts its authority.
struct World {
    server: Rc<ServerTls>,
    client: Rc<ClientTls>,
}

impl World {
    fn new(minimum_version: Version) -> World {
        World::by(&Authority::new(), minimum_version)
    }

    fn by(authority: &Authority, minimum_version: Version) -> World {
        let pair = authority.sign("localhost");
        let identity = Identity::parse(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap();
        let roots = Authorities::parse(authority.certificate.pem().as_bytes()).unwrap();
        let mut materials = Materials::default();
        materials
            .identities
            .insert(identity_name(), Arc::new(identity));
        let authorities = AuthoritiesName::File("ca.pem".into());
        materials
            .authorities
            .insert(authorities.clone(), Arc::new(roots));
        let store: Rc<Store> = Rc::default();
        store.add(&materials);
        let server = ServerSpec {
            identity: identity_name(),
            client_auth: ClientAuth::Off,
            minimum_version,
            handshake_timeout: Duration::from_secs(10),
            is_http: false,
        };
        let client = ClientSpec {
            authorities,
            minimum_version,
            ..ClientSpec::new()
        };
        World {
            server: ServerTls::new(&store, server),
            client: ClientTls::new(&store, client),
        }
    }

    fn server(&self) -> Layer {
        self.server.session().unwrap()
    }

    fn client(&self) -> Layer {
        self.client.session("localhost").unwrap()
    }
}
