//! The other ends: clients and collectors that speak TLS by themselves, or something near it.
//!
//! Everything a collector reads is read on threads of its own, so that nothing waits for a test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use super::certificates::Pair;
use crate::process::PATIENCE;

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem) {
        roots.add(certificate).unwrap();
    }
    Arc::new(roots)
}

/// What a client trusts, and who it is.
pub fn client_config(authority: &str, identity: Option<&Pair>) -> Arc<ClientConfig> {
    client_of(rustls::DEFAULT_VERSIONS, authority, identity)
}

/// As [`client_config`], of a client that has never heard of TLS 1.3.
pub fn old_client_config(authority: &str, identity: Option<&Pair>) -> Arc<ClientConfig> {
    client_of(&[&rustls::version::TLS12], authority, identity)
}

fn client_of(
    versions: &[&'static SupportedProtocolVersion],
    authority: &str,
    identity: Option<&Pair>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots(authority));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(chain(&pair.certificate), key(&pair.key))
            .unwrap(),
    };
    Arc::new(config)
}

/// Who a server is, and whose clients it takes.
pub fn server_config(pair: &Pair, clients_of: Option<&str>) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let verifier = match clients_of {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(pem) => WebPkiClientVerifier::builder_with_provider(roots(pem), provider)
            .build()
            .unwrap(),
    };
    let builder = builder.with_client_cert_verifier(verifier);
    let config = builder.with_single_cert(chain(&pair.certificate), key(&pair.key));
    Arc::new(config.unwrap())
}

/// A connection to `to` with nothing on it yet.
pub fn plain(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A session that has not begun.
pub fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// A client whose handshake is complete.
pub struct Client(pub StreamOwned<ClientConnection, TcpStream>);

impl Client {
    pub fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        Client::try_connect(to, config).unwrap()
    }

    /// With TLS 1.3 a server that does not want the client says so only after this.
    pub fn try_connect(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Client> {
        let mut stream = StreamOwned::new(session(config), plain(to));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client(stream))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// The serial number of the server's certificate is in it.
    pub fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Ends the stream in order and waits until the server has ended its own; whether it did so
    /// in order, too.
    pub fn close(mut self) -> bool {
        self.0.conn.send_close_notify();
        self.0.flush().unwrap();
        self.0.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).is_ok()
    }

    /// Ends the stream without a close_notify, and waits for the server's end.
    pub fn cut(mut self) {
        self.0.sock.shutdown(Shutdown::Write).unwrap();
        let _ = self.0.sock.read_to_end(&mut Vec::new());
    }
}

/// A collector behind TLS: keeps all lines, and the errors of connections.
pub struct Collector {
    pub address: SocketAddr,
    lines: Receiver<Vec<u8>>,
    pub errors: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub fn start(config: Arc<ServerConfig>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, lines) = channel();
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let complaints = Arc::clone(&errors);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, config) = (sender.clone(), Arc::clone(&config));
                let complaints = Arc::clone(&complaints);
                std::thread::spawn(move || {
                    let session = ServerConnection::new(config).unwrap();
                    let stream = StreamOwned::new(session, stream);
                    for line in BufReader::new(stream).split(b'\n') {
                        match line {
                            Ok(line) => drop(sender.send(line)),
                            Err(error) => {
                                complaints.lock().unwrap().push(error.to_string());
                                return;
                            }
                        }
                    }
                });
            }
        });
        Collector {
            address,
            lines,
            errors,
        }
    }

    /// The next `count` lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(String::from_utf8(line).unwrap()),
                Err(_) => panic!("{} of {count} lines came: {lines:?}", lines.len()),
            }
        }
        lines
    }

    /// What has come by now and was not taken yet.
    pub fn rest(&self) -> usize {
        self.lines.try_iter().count()
    }
}

/// Sends what it is given a byte at a time.
pub struct Trickle(pub TcpStream);

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Read for Trickle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}
