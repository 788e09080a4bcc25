//! The resolver and the wiring on a small registry of sample components: every kind of option,
//! in every way that it can be wrong. The real components have their golden tests, which
//! hold the whole output of the real binary.

use std::ffi::OsString;
use std::path::Path;

use super::files::File;
use super::*;
use crate::pipeline::descriptor::{Claims, Kind, Opt, VALUE};
use crate::pipeline::options::Value;

fn no_bang(text: &str) -> Result<(), Mistake> {
    match text.find('!') {
        None => Ok(()),
        Some(at) => Err(Mistake::new("no `!` here").at(at, 1).help("take it out")),
    }
}

static EVERYTHING: Descriptor = Descriptor {
    name: "everything",
    summary: "a step with every kind of option",
    options: &[
        Opt::new("flag", "a flag", Kind::Flag).default("true"),
        Opt::new(
            "count",
            "a count",
            Kind::Count {
                min: 2,
                max: 9,
                words: &["auto"],
            },
        ),
        Opt::new("number", "a number", Kind::Number { min: 0.0, max: 1.0 }),
        Opt::new("time.out", "a duration", Kind::Duration { words: &["off"] }).default("\"off\""),
        Opt::new("time.in", "a duration", Kind::DURATION).default("\"30s\""),
        Opt::new("size", "a size", Kind::SIZE),
        Opt::new("rate", "a rate", Kind::Rate),
        Opt::new("text", "a text", Kind::Text(Some(no_bang))),
        Opt::new("word", "a word", Kind::Word(&["lines", "nul"])),
        Opt::new("path", "a path", Kind::Path),
        Opt::new("secret", "a secret", Kind::Secret),
        Opt::new("any", "anything", Kind::Any),
        Opt::new("list", "texts", Kind::List(&Kind::Text(Some(no_bang)))),
        Opt::new("map", "numbers by name", Kind::Map(&Kind::COUNT)),
        Opt::new("encode", "a form", ENCODE),
    ],
    shared: &[],
    example: "{ everything = { flag = false } }",
    build: Build::Step(|_| Err(Mistake::new("a sample is never built"))),
};

const ENCODE: Kind = Kind::Either(&[
    Kind::Word(&["raw", "json"]),
    Kind::Choice(&[
        Opt::new("template", "a template", Kind::TEXT),
        Opt::new("csv", "columns", Kind::TEXTS),
    ]),
]);

static PLAIN: Descriptor = Descriptor {
    name: "plain",
    summary: "a step with a plain value",
    options: &[Opt::new(
        VALUE,
        "a text without `!`",
        Kind::Text(Some(no_bang)),
    )],
    shared: &[],
    example: "{ plain = \"x\" }",
    build: Build::Step(|options| match options.text(VALUE) {
        "refused" => Err(options.mistake(VALUE, "refused by build").at(2, 3)),
        _ => Err(Mistake::new("a sample is never built")),
    }),
};

static REGISTRY: Registry = Registry {
    sources: &[],
    steps: &[&EVERYTHING, &PLAIN],
    sinks: &[],
    condition: no_bang,
};

fn resolved(text: &str) -> Options {
    Options::for_test(&EVERYTHING, text).unwrap_or_else(|report| panic!("{report}"))
}

/// The report on `text` as the body of an `everything` step, without paths.
fn report(text: &str) -> String {
    Options::for_test(&EVERYTHING, text).expect_err("it has a mistake")
}

#[test]
fn every_kind_of_value_is_resolved() {
    let options = resolved(
        r#"flag = false
        count = 3
        number = 0.5
        time.out = "1m"
        size = "2KiB"
        rate = "5/s"
        text = "abc"
        word = "nul"
        path = "/a/b"
        any = { a = [1, true] }
        list = ["x", "y"]
        map = { b = 2, a = 1 }
        encode = { template = "t" }"#,
    );
    assert!(!options.flag("flag"));
    assert_eq!(options.count("count"), 3);
    assert_eq!(options.number("number"), 0.5);
    assert_eq!(
        options.maybe_duration("time.out").map(|d| d.as_secs()),
        Some(60)
    );
    assert_eq!(options.size("size"), 2048);
    assert_eq!(
        options.rate("rate").map(|rate| rate.per_second()),
        Some(5.0)
    );
    assert_eq!(options.text("text"), "abc");
    assert_eq!(options.word("word"), "nul");
    assert_eq!(options.path("path"), Path::new("/a/b"));
    assert_eq!(options.any("any").to_string(), r#"{"a":[1,true]}"#);
    assert_eq!(options.texts("list"), ["x", "y"]);
    let keys: Vec<_> = options
        .map("map")
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["b", "a"]);
    let encode = options.table("encode").unwrap();
    assert_eq!(
        (encode.chosen(), encode.text("template")),
        ("template", "t")
    );
}

#[test]
fn defaults_words_and_absence() {
    let options = resolved("count = \"auto\"\nencode = \"json\"");
    assert!(options.flag("flag") && !options.is_set("flag"));
    assert_eq!(options.duration("time.in").as_secs(), 30);
    assert_eq!(
        (options.maybe_duration("time.out"), options.word("time.out")),
        (None, "off")
    );
    assert_eq!(
        (options.maybe_count("count"), options.word("count")),
        (None, "auto")
    );
    assert_eq!(options.word("encode"), "json");
    assert!(options.table("encode").is_none() && options.maybe_path("path").is_none());
    assert!(options.list("list").is_empty() && options.secret("secret").is_none());
}

#[test]
fn dotted_keys_and_tables_are_the_same() {
    for text in [
        "time.in = \"5s\"",
        "time = { in = \"5s\" }",
        "[time]\nin = \"5s\"",
    ] {
        assert_eq!(resolved(text).duration("time.in").as_secs(), 5, "{text}");
    }
}

/// One mistake at that column of the first line, with these words.
fn wrong(text: &str, column: usize, words: &str) {
    let report = report(text);
    assert!(
        report.contains(&format!("test.toml:1:{column}\n")),
        "{text}\n{report}"
    );
    assert!(report.contains(words), "{text}\n{report}");
    assert!(report.ends_with("\n1 mistake\n"), "{text}\n{report}");
}

#[test]
fn every_kind_of_value_can_be_wrong() {
    let check = wrong;
    check("flag = \"yes\"", 8, "write true");
    check("count = 1", 9, "at least 2");
    check(
        "count = \"of\"",
        10,
        "expected a whole number or \"auto\", found \"of\"",
    );
    check("count = \"aut\"", 10, "did you mean \"auto\"?");
    check("count = 2.5", 9, "expected a whole number");
    check("number = 2", 10, "at most 1");
    check("time.in = 30", 11, "write \"30s\"");
    check("time.in = \"30 sec\"", 15, "unknown unit `sec`");
    check("time.out = \"of\"", 13, "did you mean \"off\"?");
    check("time = 5", 1, "write time.out, time.in");
    check("size = 65536", 8, "write \"64KiB\"");
    check("rate = 500", 8, "write \"500/s\"");
}

#[test]
fn every_kind_of_text_and_table_can_be_wrong() {
    let check = wrong;
    check("text = \"a\\tb!\"", 13, "no `!` here");
    check("text = 5", 8, "write \"5\"");
    check("word = \"line\"", 9, "did you mean \"lines\"?");
    check("path = \"\"", 8, "the path is empty");
    check("list = \"x\"", 8, "write [\"x\"]");
    check("list = [\"x\", \"y!\"]", 16, "no `!` here");
    check("map = { a = \"x\" }", 13, "expected a whole number");
    check("encode = \"jsn\"", 11, "did you mean \"json\"?");
    check(
        "encode = { templat = \"x\" }",
        12,
        "did you mean `template`?",
    );
    check("encode = { csv = [], template = \"x\" }", 22, "only one of");
    check("encode = {}", 10, "found an empty table");
    check(
        "encode = 3",
        10,
        "expected one of \"raw\", \"json\" or { template = … }",
    );
    check("lisst = []", 1, "did you mean `list`?");
    check("out = \"1s\"", 1, "did you mean `time.out`?");
    check(
        "secret = \"hunter2\"",
        10,
        "does not stand in the configuration",
    );
    check("secret = { env = \"NONE\" }", 19, "`NONE` is not set");
    check(
        "secret = { file = \"/nonexistent\" }",
        20,
        "no such file or directory",
    );
    check(
        "secret = { vault = \"x\" }",
        12,
        "unknown place of a secret `vault`",
    );
}

#[test]
fn a_secret_is_never_shown() {
    let report = report("secret = \"hunter2\"\nflg = 1");
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("| secret = *********\n"), "{report}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "hunter2\n").unwrap();
    let options = resolved(&format!("secret = {{ file = {path:?} }}"));
    assert_eq!(options.secret("secret").unwrap().reveal(), b"hunter2");
    assert!(!format!("{options:?}").contains("hunter2"));
}

/// The report on a whole file.
fn check(text: &str, purpose: Purpose, env: Environment<'_>) -> Loaded {
    let file = File::new(Path::new("test.toml"), text.into());
    load_file(file, &REGISTRY, env, purpose)
}

#[test]
fn a_build_points_into_its_option() {
    let text = "[pipeline.a]\nfrom = [\"b\"]\n[pipeline.b]\nfrom = [\"a\"]";
    let loaded = check(text, Purpose::Run, &|_| None);
    assert!(loaded.report.contains("a -> b -> a"), "{}", loaded.report);
    let options = Options::for_test(&PLAIN, "\"refused\"").unwrap();
    let Build::Step(build) = PLAIN.build else {
        panic!("a step")
    };
    let mistake = build(&options).err().unwrap();
    let place = options
        .place_of(mistake.option.as_deref().unwrap())
        .unwrap();
    assert_eq!((place.start, place.end), (8, 17));
}

#[test]
fn credentials_outside_the_unit_are_a_note_for_a_check_alone() {
    let mut files = Files::default();
    let text = "secret = { credential = \"token\" }";
    files.add(File::new(Path::new("x"), text.into()));
    let (entries, _) = tree::parse(text, 0);
    let declared: Vec<_> = EVERYTHING.all_options().collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t0").unwrap();
    let inside =
        |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| OsString::from(folder.path()));
    let outside = |_: &str| None;
    let resolve = |purpose, env: Environment<'_>| {
        let mut resolver = resolve::Resolver::new(&files, env, purpose);
        let options = resolver.options("x", &declared, &entries, Place::default());
        (options, resolver.findings.render(&files))
    };
    let (options, report) = resolve(Purpose::Check, &outside);
    assert!(
        options.is_some() && report.starts_with("note: the credential"),
        "{report}"
    );
    let (options, report) = resolve(Purpose::Run, &outside);
    assert!(
        options.is_none() && report.starts_with("error: the credential"),
        "{report}"
    );
    let (options, _) = resolve(Purpose::Run, &inside);
    assert_eq!(options.unwrap().secret("secret").unwrap().reveal(), b"t0");
}

#[test]
fn environment_values_are_typed_and_tested() {
    let env = |name: &str| match name {
        "GOOD" => Some(OsString::from("fine")),
        "BAD" => Some(OsString::from("x!")),
        _ => None,
    };
    let resolve = |text: &str| {
        let mut files = Files::default();
        files.add(File::new(Path::new("x"), text.into()));
        let (entries, _) = tree::parse(text, 0);
        let declared: Vec<_> = EVERYTHING.all_options().collect();
        let mut resolver = resolve::Resolver::new(&files, &env, Purpose::Run);
        let options = resolver.options("x", &declared, &entries, Place::default());
        options.ok_or_else(|| resolver.findings.render(&files))
    };
    let value = resolve("text = { env = \"GOOD\" }").unwrap();
    assert_eq!(value.text("text"), "fine");
    assert!(
        resolve("text = { env = \"BAD\" }")
            .unwrap_err()
            .contains("no `!` here")
    );
    assert!(
        resolve("text = { env = \"NONE\" }")
            .unwrap_err()
            .contains("`NONE` is not set")
    );
    assert!(
        resolve("text = { file = \"/x\" }")
            .unwrap_err()
            .contains("is for secrets")
    );
}

#[test]
fn all_defaults_resolve_and_names_are_well_formed() {
    let claims = Opt::new("x", "a listener", Kind::TEXT).claims(Claims::Listener);
    assert_eq!(claims.claims, Claims::Listener);
    for one in [&DAEMON, &PIPELINE, &EVERYTHING] {
        let options: Vec<_> = one.all_options().collect();
        for opt in &options {
            let prefix = format!("{}.", opt.name);
            let clashes = options
                .iter()
                .filter(|o| o.name == opt.name || o.name.starts_with(&prefix));
            assert_eq!(clashes.count(), 1, "{}: `{}`", one.name, opt.name);
        }
    }
    // A default that does not resolve panics here in debug builds.
    let options = Options::for_test(&DAEMON, "").unwrap();
    assert_eq!(options.duration("stop_timeout").as_secs(), 60);
    assert!(matches!(options.value("memory"), Some(Value::Word("auto"))));
}

#[test]
fn there_is_one_worker_or_more() {
    for text in ["workers = 1", "workers = 1024", "workers = \"auto\""] {
        assert!(Options::for_test(&DAEMON, text).is_ok(), "{text}");
    }
    for text in ["workers = 0", "workers = 1025", "workers = \"all\""] {
        assert!(Options::for_test(&DAEMON, text).is_err(), "{text}");
    }
}

#[test]
fn the_admin_socket_is_a_unix_stream_socket_with_a_path() {
    let check = |text: &str, expected: Option<&str>| {
        let found = Options::for_test(&DAEMON, &format!("admin = \"{text}\""));
        match (found, expected) {
            (Ok(_), None) => {}
            (Err(report), Some(part)) => assert!(report.contains(part), "{text}\n{report}"),
            (found, _) => panic!("{text}: {:?}", found.err()),
        }
    };
    check("auto", None);
    check("off", None);
    check("unix:///run/marline/admin.sock", None);
    check("unix://relative", None);
    check(&format!("unix://{}", "x".repeat(107)), None);
    check(&format!("unix://{}", "x".repeat(108)), Some("107 bytes"));
    check("unix://", Some("the path is missing"));
    check("unix://@name", Some("no permissions"));
    check("tcp://127.0.0.1:1", Some("Unix stream socket"));
    check("on", Some("Unix stream socket"));
}
