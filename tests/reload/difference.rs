//! What counts as a change, and how it is shown: names of components and options, no values.
//!
//! Two configurations are loaded as a start loads them, and compared; nothing runs.

use std::ffi::OsString;
use std::path::Path;

use marline::config::difference::Difference;
use marline::config::files::File;
use marline::config::{self, Config, Purpose};
use marline::service::cli;

const BASE: &str = "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
     [pipeline.main]\nfrom = [\"in\"]\nsteps = [{ drop_if = '.message == \"a\"' }]\n\
     to = [\"out\"]\n[sink.out]\ntype = \"discard\"\n";

fn load(text: &str, token: &str) -> Config {
    let file = File::new(Path::new("x.toml"), text.as_bytes().to_vec());
    let env = |name: &str| (name == "TOKEN").then(|| OsString::from(token));
    let loaded = config::load_file(file, &cli::registry(), &env, Purpose::Run);
    loaded
        .config
        .unwrap_or_else(|| panic!("{}", loaded.report))
        .0
}

fn between(old: &str, new: &str) -> Difference {
    Difference::between(&load(old, "t"), &load(new, "t"))
}

#[test]
fn every_kind_of_change_is_named_and_what_means_the_same_is_none() {
    let check = |from: &str, to: &str, expected: &str| {
        let new = BASE.replace(from, to);
        assert_ne!(new, BASE, "{from}");
        assert_eq!(between(BASE, &new).to_string(), expected);
    };
    let none = "kept 3, changed: none, added: none, removed: none";
    check("[sink.out]", "# words\n[sink.out]", none);
    check(
        "type = \"socket\"",
        "type = \"socket\"\nframing = \"auto\"",
        none,
    );
    check("[\"tcp://127.0.0.1:0\"]", "[ 'tcp://127.0.0.1:0', ]", none);
    let changed = |what: &str| format!("kept 2, changed: {what}, added: none, removed: none");
    let listen = "type = \"socket\"\nkeepalive = \"9s\"";
    check(
        "type = \"socket\"",
        listen,
        &changed("source.in (keepalive)"),
    );
    check("discard", "stdout", &changed("sink.out (type)"));
    check("\"a\"'", "\"b\"'", &changed("pipeline.main (steps)"));
    check(
        "[{ drop_if = '.message == \"a\"' }]",
        "[]",
        &changed("pipeline.main (steps)"),
    );
    let route = "to = [{ sink = \"out\", required = false }]";
    check("to = [\"out\"]", route, &changed("pipeline.main (to)"));
    let renamed = "kept 1, changed: pipeline.main (to), added: sink.on, removed: sink.out";
    let new = BASE
        .replace("\"out\"", "\"on\"")
        .replace("sink.out", "sink.on");
    assert_eq!(between(BASE, &new).to_string(), renamed);
    let daemon = "[daemon]\nstop_timeout = \"9s\"\nadmin = \"off\"\nstate_dir = \"/x\"\n[sink.out]";
    let expected = "kept 3, changed: daemon (stop_timeout), added: none, removed: none; with a \
                    restart only: daemon.state_dir, daemon.admin";
    check("[sink.out]", daemon, expected);
}

#[test]
fn a_secrets_new_content_is_a_change_that_is_not_shown() {
    let poll = "[source.poll]\ntype = \"http_poll\"\nurl = \"http://127.0.0.1:1/\"\n\
         every = \"9s\"\nauth = { bearer = { env = \"TOKEN\" } }\n\
         [pipeline.main]\nfrom = [\"poll\"]\nto = [\"out\"]\n[sink.out]\ntype = \"discard\"\n";
    let compare = |new: &str| Difference::between(&load(poll, "first"), &load(poll, new));
    assert!(compare("first").is_empty());
    let text = compare("second").to_string();
    assert_eq!(
        text,
        "kept 2, changed: source.poll (auth), added: none, removed: none"
    );
}
