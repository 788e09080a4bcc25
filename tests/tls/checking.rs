//! What a check says of TLS in a configuration: with its place, and what to do.
//!
//! Each mistake is made alone, in a configuration that is right otherwise.

use std::fs;

use super::certificates::Keys;
use crate::operator::marline;

/// Checks a configuration in which `{keys}` is the folder of `keys`: output and exit code.
fn check(keys: &Keys, text: &str) -> (String, i32) {
    let folder = tempfile::tempdir().unwrap();
    let rest = "[pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n";
    let text = format!("{text}{rest}").replace("{keys}", keys.path("").trim_end_matches('/'));
    fs::write(folder.path().join("marline.toml"), text).unwrap();
    let (out, err, code) = marline(folder.path(), &["check", "--config", "marline.toml"]);
    (format!("{out}{err}"), code)
}

const DISCARD: &str = "[sink.out]\ntype = \"discard\"\n";
const GENERATE: &str = "[source.in]\ntype = \"generate\"\n";

/// The source `in` with these lines is wrong at `place`, for a reason with all of `parts` in it.
fn wrong_source(keys: &Keys, lines: &str, place: &str, parts: &[&str]) {
    let (said, code) = check(
        keys,
        &format!("[source.in]\ntype = \"socket\"\n{lines}{DISCARD}"),
    );
    assert_eq!(code, 78, "{said}");
    for part in [&[place][..], parts].concat() {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

/// The sink `out` with these lines is wrong at `place`, for a reason with all of `parts` in it.
fn wrong_sink(keys: &Keys, lines: &str, place: &str, parts: &[&str]) {
    let (said, code) = check(
        keys,
        &format!("[sink.out]\ntype = \"socket\"\n{lines}{GENERATE}"),
    );
    assert_eq!(code, 78, "{said}");
    for part in [&[place][..], parts].concat() {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn a_listener_needs_a_certificate_that_is_one() {
    let keys = Keys::new();
    let listen = "listen = [\"tcp://127.0.0.1:1\", \"tls://127.0.0.1:2\"]\n";
    let with = |tls: &str| format!("{listen}tls = {{ {tls} }}\n");
    let (certificate, key) = (
        "certificate = \"{keys}/server.pem\"",
        "key = \"{keys}/server.key\"",
    );
    let advice = "add tls = { certificate = \"FILE.pem\", key = \"FILE.key\" }";
    wrong_source(
        &keys,
        listen,
        "toml:3:33",
        &["TLS needs a certificate", advice],
    );
    wrong_source(
        &keys,
        &with(certificate),
        "toml:4:",
        &["without its key", "add tls.key"],
    );
    wrong_source(&keys, &with(key), "toml:4:", &["without its certificate"]);
    let other = format!("{certificate}, key = \"{{keys}}/client.key\"");
    wrong_source(
        &keys,
        &with(&other),
        "toml:4:",
        &["not the key of the certificate"],
    );
    let none = format!("{certificate}, key = \"{{keys}}/none.key\"");
    wrong_source(
        &keys,
        &with(&none),
        "toml:4:",
        &["cannot read", "no such file"],
    );
    let folder = format!("{certificate}, key = \"{{keys}}/\"");
    wrong_source(
        &keys,
        &with(&folder),
        "toml:4:",
        &["cannot read", "a directory"],
    );
    let swapped = "certificate = \"{keys}/server.key\", key = \"{keys}/server.pem\"";
    wrong_source(
        &keys,
        &with(swapped),
        "toml:4:",
        &["a key, not a certificate"],
    );
}

#[test]
fn what_a_listener_wants_of_clients_is_looked_at_too() {
    let keys = Keys::new();
    let listen = "listen = [\"tcp://127.0.0.1:1\", \"tls://127.0.0.1:2\"]\n";
    let with = |tls: &str| format!("{listen}tls = {{ {tls} }}\n");
    let pair = "certificate = \"{keys}/server.pem\", key = \"{keys}/server.key\"";
    let alone = format!("{pair}, client_auth = \"optional\"");
    wrong_source(&keys, &with(&alone), "toml:4:", &["set tls.client_ca"]);
    let no_ca = format!("{pair}, client_ca = \"{{keys}}/server.key\"");
    wrong_source(
        &keys,
        &with(&no_ca),
        "toml:4:",
        &["a key, not a certificate"],
    );
    let plain = format!("listen = [\"tcp://127.0.0.1:1\"]\ntls = {{ {pair} }}\n");
    wrong_source(&keys, &plain, "toml:4:", &["no TLS is spoken here"]);
    let version = format!("{pair}, minimum_version = \"1.1\"");
    wrong_source(
        &keys,
        &with(&version),
        "toml:4:",
        &["expected one of \"1.2\", \"1.3\""],
    );
    let (said, code) = check(
        &keys,
        &format!("[source.in]\ntype = \"socket\"\n{}{DISCARD}", with(pair)),
    );
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_key_never_stands_in_what_is_said() {
    let keys = Keys::new();
    let body = keys.server.key.lines().nth(1).unwrap();
    keys.write(
        "broken.key",
        &keys.server.key.replace("-----END", "----END"),
    );
    let listen = "listen = [\"tls://127.0.0.1:2\"]\n";
    for key in ["broken.key", "server.key"] {
        let tls = format!(
            "tls = {{ certificate = \"{{keys}}/client.pem\", key = \"{{keys}}/{key}\" }}\n"
        );
        let (said, code) = check(
            &keys,
            &format!("[source.in]\ntype = \"socket\"\n{listen}{tls}{DISCARD}"),
        );
        assert!(code == 78 && !said.contains(body), "{said}");
    }
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let keys = Keys::new();
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(keys.path("server.key"), mode).unwrap();
    let text = format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tls://127.0.0.1:2\"]\n{}{DISCARD}",
        keys.option("server", "")
    );
    let (said, code) = check(&keys, &text);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("warning") && said.contains("chmod o-rwx"),
        "{said}"
    );
}

#[test]
fn a_sink_is_told_what_its_files_are() {
    let keys = Keys::new();
    let address = "address = \"tls://127.0.0.1:2\"\n";
    let with = |tls: &str| format!("{address}tls = {{ {tls} }}\n");
    wrong_sink(
        &keys,
        &with("ca = \"{keys}/ca.key\""),
        "toml:4:",
        &["cannot read"],
    );
    wrong_sink(
        &keys,
        &with("ca = \"{keys}/server.key\""),
        "toml:4:",
        &["not a certificate"],
    );
    let name = "not a name that a certificate can be for";
    wrong_sink(&keys, &with("server_name = \"a b\""), "toml:4:", &[name]);
    let plain = "address = \"tcp://127.0.0.1:1\"\ntls.ca = \"{keys}/ca.pem\"\n";
    wrong_sink(&keys, plain, "toml:4:", &["no TLS is spoken here"]);
    let port = "address = \"tls://127.0.0.1:0\"\n";
    wrong_sink(&keys, port, "toml:3:", &["port 0 cannot be dialled"]);
    let (said, code) = check(
        &keys,
        &format!(
            "[sink.out]\ntype = \"socket\"\n{}{GENERATE}",
            with("ca = \"{keys}/ca.pem\", server_name = \"a.example\"")
        ),
    );
    assert_eq!(code, 0, "{said}");
}
