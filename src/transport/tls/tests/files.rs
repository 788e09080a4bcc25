//! What is wrong with files, and what is in good ones.
//!
//! The wrong ones are made out of good ones, so that each has one thing wrong with it.

use super::*;
use crate::time::WallTime;

fn parse(certificate: &str, key: &str) -> Result<Identity, PemError> {
    Identity::parse(certificate.as_bytes(), key.as_bytes())
}

#[test]
fn a_file_that_is_none_says_what_it_is_and_what_to_do() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("a.example"), authority.sign("b.example"));
    let check = |certificate: &str, key: &str, is_key: bool, message: &str| {
        let error = parse(certificate, key).err().unwrap();
        assert_eq!(error.is_key, is_key, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(!error.help.is_empty());
    };
    assert!(parse(&one.certificate, &one.key).is_ok());
    check("", &one.key, false, "the file is empty");
    check(&one.certificate, "", true, "the file is empty");
    check(
        &one.certificate,
        &other.key,
        true,
        "not the key of the certificate",
    );
    check(&one.key, &one.key, false, "a key, not a certificate");
    check(&one.certificate, &one.certificate, true, "no private key");
    check("hello", &one.key, false, "no certificate");
    check("0\u{2}", &one.key, false, "no certificate");
    let request = one
        .certificate
        .replace("CERTIFICATE", "CERTIFICATE REQUEST");
    check(&request, &one.key, false, "a request for a certificate");
    let cut = &one.certificate[..one.certificate.len() / 2];
    check(cut, &one.key, false, "damaged near its line");
    let garbled = one.key.replace("\nM", "\n\u{7f}");
    check(&one.certificate, &garbled, true, "damaged near its line");
    let encrypted = one.key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    check(&one.certificate, &encrypted, true, "the key is encrypted");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    check(&one.certificate, old, true, "the key is encrypted");
}

#[test]
fn der_is_told_from_nonsense() {
    let pair = Authority::new().sign("a.example");
    let der = [0x30, 0x82, 1, 2, 3];
    let error = Identity::parse(&der, pair.key.as_bytes()).err().unwrap();
    assert!(error.help.contains("openssl x509 -inform der"), "{error}");
    let certificate = pair.certificate.as_bytes();
    let error = Identity::parse(certificate, &der).err().unwrap();
    assert!(error.help.contains("openssl pkey -inform der"), "{error}");
}

#[test]
fn no_part_of_a_key_is_in_what_is_said_of_it() {
    let pair = Authority::new().sign("a.example");
    let body = pair.key.lines().nth(1).unwrap();
    for broken in [
        pair.key.replace("-----END", "-----ENT"),
        pair.key.replace('M', "\u{1}"),
        pair.key[..pair.key.len() - 40].to_owned(),
        format!("-----BEGIN {body}\n"),
    ] {
        let error = parse(&pair.certificate, &broken).err().unwrap();
        assert!(!error.to_string().contains(&body[..8]), "{error}");
    }
}

#[test]
fn days_are_counted_down_to_the_end_and_below() {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity = parse(&certificate.pem(), &key.serialize_pem()).unwrap();
    let check = |before_seconds: i64, days: i64| {
        let now = identity.about.not_after.as_micros() - before_seconds * 1_000_000;
        assert_eq!(identity.about.days_left(WallTime::from_micros(now)), days);
    };
    assert_eq!(
        identity.about.not_after.to_string(),
        "2030-01-31T00:00:00.000000Z"
    );
    check(86_400, 1);
    check(86_399, 0);
    check(0, 0);
    check(-1, -1);
    check(-86_401, -2);
}

#[test]
fn adding_changes_nothing_that_is_there_and_replacing_counts_what_it_changes() {
    let authority = Authority::new();
    let materials = |pair: &Pair| {
        let mut materials = Materials::default();
        let identity = Arc::new(parse(&pair.certificate, &pair.key).unwrap());
        materials.identities.insert(identity_name(), identity);
        materials
    };
    let (old, new) = (authority.sign("a.example"), authority.sign("a.example"));
    let store = Store::default();
    let serial = |store: &Store| store.certificates()[0].about.serial.clone();
    store.add(&materials(&old));
    let first = serial(&store);
    store.add(&materials(&new));
    assert_eq!(serial(&store), first, "adding does not renew");
    assert_eq!(store.replace(materials(&old)), 0, "the same content");
    assert_eq!(store.replace(materials(&new)), 1);
    assert_ne!(serial(&store), first);
    assert_eq!(
        store.replace(Materials::default()),
        0,
        "gone is not renewed"
    );
    assert!(store.certificates().is_empty());
}
