//! Both ends against each other: cut anywhere, damaged, ended; and what marks say.
//!
//! The wire is a vector. Loops are bounded, and every seed is printed where it fails.

use bytes::Bytes;
use rustls::client::ClientConnection;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    CipherSuiteCommon, ClientConfig, RootCertStore, SupportedCipherSuite, Tls12CipherSuite,
};

use super::*;
use crate::sim::Random;
use crate::transport::outbox::Outbox;

/// One end with what it was given to say and what it has heard.
struct End {
    layer: Layer,
    plain: Outbox,
    wire: Outbox,
    heard: Vec<u8>,
    secured: u32,
    ended: bool,
    closes: bool,
    failure: Option<HandshakeError>,
}

impl End {
    fn new(layer: Layer) -> End {
        End {
            layer,
            plain: Outbox::default(),
            wire: Outbox::default(),
            heard: Vec::new(),
            secured: 0,
            ended: false,
            closes: false,
            failure: None,
        }
    }

    fn say(&mut self, text: &[u8]) {
        self.plain.push(Bytes::copy_from_slice(text));
    }

    /// Takes all of `wire`, with room for `room` bytes of plaintext at a time.
    fn hear(&mut self, mut wire: &[u8], room: usize) {
        let mut into = vec![0; room];
        while self.failure.is_none() && !self.ended {
            match self.layer.read(&mut wire, &mut into) {
                Err(error) => self.failure = Some(error),
                Ok((bytes, next)) => {
                    self.heard.extend_from_slice(&into[..bytes]);
                    match next {
                        Next::Again => {}
                        Next::Secured => {
                            assert!(self.heard.is_empty(), "heard before it was secured");
                            self.secured += 1;
                        }
                        Next::Ended => self.ended = true,
                        Next::Receive => {
                            assert!(wire.is_empty(), "asked for more with some left");
                            return;
                        }
                    }
                }
            }
        }
    }

    /// At most `most` bytes for the other end.
    fn send(&mut self, most: usize) -> Vec<u8> {
        self.layer
            .seal(&mut self.plain, &mut self.wire, self.closes);
        let mut front = Vec::new();
        self.wire.with_front(most, |slices| {
            slices
                .iter()
                .for_each(|slice| front.extend_from_slice(slice));
        });
        self.wire.advance(front.len());
        front
    }
}

/// Lets both talk until neither has anything more to send; `cut` says how much goes at once.
fn talk(one: &mut End, other: &mut End, mut cut: impl FnMut() -> usize) {
    for _ in 0..1_000_000 {
        let there = one.send(cut());
        other.hear(&there, cut());
        let back = other.send(cut());
        one.hear(&back, cut());
        if there.is_empty() && back.is_empty() {
            return;
        }
    }
    panic!("they never stop talking");
}

fn text(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A handshake, something to say both ways, and the end of both streams.
fn conversation(
    version: Version,
    length: usize,
    random: &mut Random,
    cut: impl Fn(&mut Random) -> usize,
) {
    let world = World::new(version);
    let (mut client, mut server) = (End::new(world.client()), End::new(world.server()));
    let (question, answer) = (text(random, length), text(random, length / 2));
    // In parts of any size, as lines are.
    for part in question.chunks(1 + random.below(700)) {
        client.say(part);
    }
    server.say(&answer);
    talk(&mut client, &mut server, || cut(random));
    assert_eq!((client.secured, server.secured), (1, 1));
    client.closes = true;
    talk(&mut client, &mut server, || cut(random));
    assert!(server.ended && !client.ended);
    server.closes = true;
    talk(&mut client, &mut server, || cut(random));
    assert!(client.ended);
    assert!(
        server.heard == question && client.heard == answer,
        "not what was said"
    );
    assert!(client.failure.is_none() && server.failure.is_none());
    assert!(client.plain.is_empty() && server.plain.is_empty());
}

#[test]
fn what_is_said_is_heard_however_the_wire_is_cut() {
    for version in [Version::V1_2, Version::V1_3] {
        conversation(version, 3_000, &mut Random::new(1), |_| 1);
        conversation(version, 2_000_000, &mut Random::new(2), |_| 1 << 20);
        for seed in 0..25 {
            eprintln!("seed {seed}");
            let most = 1 << (seed % 18);
            conversation(version, 100_000, &mut Random::new(seed), |random| {
                1 + random.below(most)
            });
        }
    }
}

/// A client and a server after their handshake.
fn secured() -> (End, End) {
    let world = World::new(Version::V1_3);
    let (mut client, mut server) = (End::new(world.client()), End::new(world.server()));
    talk(&mut client, &mut server, || 1 << 16);
    assert_eq!((client.secured, server.secured), (1, 1));
    (client, server)
}

#[test]
fn a_mark_of_plaintext_is_what_the_peer_can_read() {
    let (mut client, mut server) = secured();
    let mut random = Random::new(7);
    let begin = client.wire.written().0;
    let mut wire = Vec::new();
    for _ in 0..40 {
        let length = 1 + random.below(3_000);
        client.say(&text(&mut random, length));
        wire.extend(client.send(usize::MAX));
    }
    client.say(&text(&mut random, 70_000));
    wire.extend(client.send(usize::MAX));
    for (index, byte) in wire.iter().enumerate() {
        let arrived = begin + index as u64;
        assert_eq!(
            client.layer.plain_at(arrived),
            server.heard.len() as u64,
            "{index}"
        );
        if index % 1_000 == 0 {
            assert_eq!(client.layer.arrived(arrived), server.heard.len() as u64);
        }
        server.hear(&[*byte], 1 << 16);
    }
    assert_eq!(client.plain.written().0, server.heard.len() as u64);
    let all = begin + wire.len() as u64;
    assert_eq!(client.layer.arrived(all), server.heard.len() as u64);
}

/// Both ends of a TLS 1.2 session whose keys seal so many records, and no more.
fn short_lived(records: u64) -> (End, End) {
    let suite = ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let SupportedCipherSuite::Tls12(suite) = suite else {
        panic!("it is one of TLS 1.2")
    };
    let common = CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: records,
    };
    let suite = Tls12CipherSuite {
        common,
        prf_provider: suite.prf_provider,
        kx: suite.kx,
        sign: suite.sign,
        aead_alg: suite.aead_alg,
    };
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))],
        ..ring::default_provider()
    });
    let authority = Authority::new();
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let world = World::by(&authority, Version::V1_2);
    let (mut client, mut server) = (End::new(Layer::new(client)), End::new(world.server()));
    talk(&mut client, &mut server, || 1 << 16);
    assert_eq!((client.secured, server.secured), (1, 1));
    (client, server)
}

/// What the key must not seal is not lost: it is still there for another connection.
#[test]
fn what_no_key_may_seal_any_more_stays_where_it_was_and_is_no_end() {
    let (mut client, mut server) = short_lived(20);
    for _ in 0..40 {
        client.say(b"line\n");
        let wire = client.send(usize::MAX);
        server.hear(&wire, 1 << 16);
    }
    assert!(client.layer.is_exhausted());
    assert!(server.heard.len() >= 15 * 5 && server.failure.is_none());
    let heard = server.heard.len();
    assert_eq!(client.plain.written().0, heard as u64);
    assert_eq!(client.plain.queued_bytes(), 40 * 5 - heard);
    let wire = client.wire.written().0;
    assert_eq!(client.layer.arrived(wire), heard as u64);
    client.closes = true;
    assert!(client.send(usize::MAX).is_empty());
    assert!(!server.ended, "the peer takes what is cut for whole");
}

#[test]
fn what_came_before_a_damaged_byte_is_heard_and_nothing_of_what_it_is_in() {
    let mut random = Random::new(3);
    for seed in 0..60 {
        let (mut client, mut server) = secured();
        client.say(&[b'a'; 1_000]);
        let first = client.send(usize::MAX);
        client.say(&[b'b'; 1_000]);
        let mut second = client.send(usize::MAX);
        let at = random.below(second.len());
        second[at] ^= 1 << random.below(8);
        server.hear(&[first, second].concat(), 1 << 16);
        assert!(server.heard == [b'a'; 1_000], "seed {seed}, byte {at}");
        assert!(
            !server.ended,
            "seed {seed}: a damaged stream is never whole"
        );
        // A length that has become longer waits for bytes that do not come; others are seen.
        let is_longer = (3..5).contains(&at);
        assert!(
            server.failure.is_some() || is_longer,
            "seed {seed}, byte {at}"
        );
        if server.failure.is_some() {
            let alert = server.send(usize::MAX);
            client.hear(&alert, 1 << 16);
            assert!(client.failure.is_some(), "the peer is told");
        }
    }
}

#[test]
fn a_stream_that_stops_anywhere_is_not_ended() {
    let (mut client, mut server) = secured();
    client.say(b"a line\n");
    client.closes = true;
    let wire = client.send(usize::MAX);
    for byte in &wire[..wire.len() - 1] {
        server.hear(&[*byte], 100);
        assert!(!server.ended && server.failure.is_none());
    }
    server.hear(&wire[wire.len() - 1..], 100);
    assert!(server.ended && server.heard == b"a line\n");
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_not_missed() {
    for (length, room) in [(10, 100), (100, 100), (250, 100), (70_000, 1 << 18)] {
        let (mut client, mut server) = secured();
        client.say(&vec![b'x'; length]);
        client.closes = true;
        let wire = client.send(usize::MAX);
        server.hear(&wire, room);
        assert!(server.ended, "{length} bytes, room for {room}");
        assert_eq!(server.heard.len(), length);
    }
}

#[test]
fn a_stream_that_comes_whole_with_the_end_of_the_handshake_comes_after_it() {
    for version in [Version::V1_2, Version::V1_3] {
        let world = World::new(version);
        let (mut client, mut server) = (End::new(world.client()), End::new(world.server()));
        client.say(b"all there is");
        for _ in 0..4 {
            let there = client.send(usize::MAX);
            server.hear(&there, 100);
            let back = server.send(usize::MAX);
            // What it says from now on leaves together with its last words of the handshake.
            client.closes = true;
            client.hear(&back, 100);
        }
        assert_eq!((client.secured, server.secured), (1, 1));
        assert!(server.ended && server.heard == b"all there is");
    }
}

#[test]
fn what_is_wrong_right_behind_the_handshake_is_not_wrong_in_it() {
    let world = World::new(Version::V1_3);
    let (mut client, mut server) = (End::new(world.client()), End::new(world.server()));
    let hello = client.send(usize::MAX);
    server.hear(&hello, 100);
    let back = server.send(usize::MAX);
    client.hear(&back, 100);
    let mut finished = client.send(usize::MAX);
    finished.extend([0x17, 3, 3, 0, 20].iter().chain(&[7; 20]));
    server.hear(&finished, 100);
    assert_eq!(server.secured, 1);
    assert!(server.failure.is_some() && server.heard.is_empty());
}

#[test]
fn what_follows_a_close_notify_is_not_heard() {
    let (mut client, mut server) = secured();
    client.closes = true;
    let mut wire = client.send(usize::MAX);
    wire.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    server.hear(&wire, 100);
    assert!(server.ended && server.heard.is_empty() && server.failure.is_none());
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_complete() {
    let world = World::new(Version::V1_3);
    let mut client = End::new(world.client());
    client.say(b"a secret");
    let hello = client.send(usize::MAX);
    assert!(!hello.windows(6).any(|window| window == b"secret"));
    assert_eq!(client.plain.queued_bytes(), 8);
    assert!(explain::looks_like_client_hello(&hello));
}

#[test]
fn what_is_no_tls_is_told_by_what_it_looks_like() {
    let check = |bytes: &[u8], part: &str| {
        let world = World::new(Version::V1_2);
        let mut server = End::new(world.server());
        bytes.iter().for_each(|byte| server.hear(&[*byte], 100));
        let error = match server.failure {
            Some(error) => error,
            None => server.layer.overdue(),
        };
        assert!(error.to_string().contains(part), "{bytes:?}: {error}");
        assert!(server.heard.is_empty());
    };
    check(b"<34>Oct 11 22:14:15 mymachine su: x\n", "plain text");
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plain text");
    check(b"53 <34>1 - - - - - -", "plain text");
    check(b"hi\n", "plain text");
    check(b"", "sent nothing");
    check(&[0x16, 3, 1], "did not finish");
    check(&[0xff; 40], "no TLS");
    check(&[0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 0], "no TLS");
    check(&[0x15, 3, 1, 0, 2, 1, 0], "");
}

#[test]
fn a_client_that_expects_another_name_or_authority_sends_nothing() {
    let (here, there) = (World::new(Version::V1_3), World::new(Version::V1_3));
    let check = |client: Layer, server: Layer, part: &str| {
        let (mut client, mut server) = (End::new(client), End::new(server));
        client.say(b"a secret");
        talk(&mut client, &mut server, || 1 << 16);
        let error = client.failure.unwrap().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(client.secured, 0);
        assert!(server.heard.is_empty() && server.failure.is_some());
    };
    let other = here.client.session("other.example").unwrap();
    check(
        other,
        here.server(),
        "is not for other.example but for localhost",
    );
    check(
        there.client(),
        here.server(),
        "signed by nobody who is trusted here: set tls.ca",
    );
}
