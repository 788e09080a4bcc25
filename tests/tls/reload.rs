//! Certificates that are renewed while connections are open, and those that are not because
//! something is wrong with them.
//!
//! Which certificate a handshake sees is told by its serial number.

use nix::sys::signal::Signal;

use super::certificates::{Authority, HERE, Keys};
use super::peers::{Client, Collector, client_config, server_config};
use crate::daemon::peers;
use crate::operator::{marline, named, status};
use crate::process::Daemon;

fn config(keys: &Keys, collector: &peers::Collector) -> String {
    format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tls://127.0.0.1:0\"]\nframing = \"lines\"\n{}\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\nencode = \"raw\"\n",
        keys.option("server", ""),
        collector.address
    )
}

/// Reloads and gives the output and exit code of the command.
fn reload(daemon: &Daemon) -> (String, i32) {
    let (out, err, code) = marline(daemon.folder(), &["reload", "--config", "marline.toml"]);
    (format!("{out}{err}"), code)
}

/// The serial number that `marline status` says of a component's certificate.
fn serial(daemon: &Daemon, list: &str, name: &str) -> String {
    let report = status(daemon, &[]);
    let certificate = &named(&report[list], name)["certificates"][0];
    assert!(
        certificate["days_left"].as_i64().unwrap() > 1_000,
        "{certificate}"
    );
    certificate["serial"].as_str().unwrap().to_owned()
}

fn has(certificate: &[u8], serial: &str) -> bool {
    let hex: String = certificate
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.contains(serial)
}

/// F-084.
#[test]
fn f_084_new_handshakes_see_the_new_certificate_and_open_connections_go_on() {
    let (mut keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&config(&keys, &collector));
    let to = daemon.address("source.in", "tls");
    let trust = client_config(&keys.authority.pem(), None);
    let mut open = Client::connect(to, &trust);
    open.send(b"before\n");
    collector.lines(1);
    let old = std::mem::replace(&mut keys.server, keys.authority.sign(HERE));
    assert!(has(&open.certificate(), &old.serial));
    assert_eq!(serial(&daemon, "sources", "in"), old.serial);
    let (table, _, _) = marline(daemon.folder(), &["status", "--config", "marline.toml"]);
    assert!(table.contains("days left"), "{table}");
    keys.write_pair("server", &keys.server);
    let (text, code) = reload(&daemon);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("changed: none") && text.contains("certificates: 1 renewed"),
        "{text}"
    );
    let mut new = Client::connect(to, &trust);
    assert!(has(&new.certificate(), &keys.server.serial));
    assert_eq!(serial(&daemon, "sources", "in"), keys.server.serial);
    open.send(b"still here\n");
    new.send(b"new here\n");
    let mut lines = collector.lines(2);
    lines.sort();
    assert_eq!(lines, ["new here", "still here"]);
    let (text, code) = reload(&daemon);
    assert!(
        code == 0 && !text.contains("renewed"),
        "the same again: {text}"
    );
    assert!(open.close() && new.close());
    let ended = daemon.stop();
    let seen = ended
        .log
        .iter()
        .filter(|record| record["event"] == "certificate");
    let serials: Vec<_> = seen
        .map(|record| record["serial"].as_str().unwrap())
        .collect();
    assert_eq!(
        serials,
        [&old.serial, &keys.server.serial, &keys.server.serial]
    );
}

#[test]
fn f_084_a_pair_that_does_not_match_is_refused_with_its_place_and_the_old_one_stays() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let daemon = Daemon::start(&config(&keys, &collector));
    let to = daemon.address("source.in", "tls");
    let trust = client_config(&keys.authority.pem(), None);
    let other = keys.authority.sign(HERE);
    let refused = |text: &str, words: &str| {
        let (said, code) = reload(&daemon);
        assert_eq!(code, 78, "{text}: {said}");
        assert!(
            said.contains("marline.toml:10:") && said.contains(words),
            "{text}: {said}"
        );
        let client = Client::connect(to, &trust);
        assert!(has(&client.certificate(), &keys.server.serial), "{text}");
        assert!(client.close());
    };
    keys.write("server.pem", &other.certificate);
    refused("only one of both", "this is not the key of the certificate");
    keys.write("server.pem", &other.certificate[..200]);
    refused("half a file", "the file is damaged");
    keys.write("server.pem", "");
    refused("an empty file", "the file is empty");
    std::fs::remove_file(keys.path("server.pem")).unwrap();
    refused("no file", "no such file");
    keys.write_pair("server", &other);
    let (text, code) = reload(&daemon);
    assert_eq!(code, 0, "{text}");
    assert!(has(
        &Client::connect(to, &trust).certificate(),
        &other.serial
    ));
    assert_eq!(daemon.stop().code(), 0);
}

/// A renewed authority counts from the next handshake on; SIGHUP is as good as the command.
#[test]
fn another_authority_of_clients_counts_for_new_connections() {
    let (keys, collector) = (Keys::new(), peers::Collector::start());
    let ca = keys.path("ca.pem");
    let more = format!(", client_ca = \"{ca}\"");
    let plain = keys.option("server", "");
    let text = config(&keys, &collector).replace(&plain, &keys.option("server", &more));
    let daemon = Daemon::start(&text);
    let to = daemon.address("source.in", "tls");
    let trust = client_config(&keys.authority.pem(), Some(&keys.client));
    let mut open = Client::connect(to, &trust);
    open.send(b"one of ours\n");
    collector.lines(1);
    let next = Authority::new();
    keys.write("ca.pem", &next.pem());
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded");
    drop(Client::try_connect(to, &trust));
    daemon.wait_until("the refusal", |record| {
        let reason = record["error"].as_str().unwrap_or_default();
        reason.contains("set tls.client_ca")
    });
    let newer = next.sign(&["new.example"]);
    let mut new = Client::connect(to, &client_config(&keys.authority.pem(), Some(&newer)));
    new.send(b"one of theirs\n");
    collector.lines(1);
    open.send(b"the first one\n");
    collector.lines(1);
    assert!(open.close() && new.close());
    assert_eq!(daemon.stop().code(), 0);
}

/// A sink shows its renewed certificate when it connects the next time.
#[test]
fn a_sink_uses_its_renewed_certificate_on_the_next_connection() {
    let keys = Keys::new();
    let collector = Collector::start(server_config(&keys.server, Some(&keys.authority.pem())));
    let ca = keys.path("ca.pem");
    let daemon = Daemon::start(&format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tls://{}\"\nencode = \"raw\"\n{}",
        collector.address,
        keys.option("client", &format!(", ca = \"{ca}\""))
    ));
    peers::send(daemon.tcp_address("source.in"), b"first\n");
    collector.lines(1);
    let renewed = keys.authority.sign(&["client.example"]);
    keys.write_pair("client", &renewed);
    let (text, code) = reload(&daemon);
    assert!(
        code == 0 && text.contains("certificates: 1 renewed"),
        "{text}"
    );
    assert_eq!(serial(&daemon, "sinks", "out"), renewed.serial);
    peers::send(daemon.tcp_address("source.in"), b"second\n");
    assert_eq!(collector.lines(1), ["second"]);
    let ended = daemon.stop();
    let connected = ended
        .log
        .iter()
        .filter(|record| record["event"] == "connected");
    assert_eq!(connected.count(), 1, "the connection went on");
}
