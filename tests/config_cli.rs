//! The command line around the configuration: `check` on what the project ships, `list`,
//! `explain`, `version`, and the reference that is generated from the descriptors.
//!
//! What loops over the registry holds for every component that there is and will be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use marline::config::files::File;
use marline::config::{self, Loaded, Purpose, Registry, explain, schema};
use marline::pipeline::descriptor::{Build, Descriptor, Opt, Role};
use marline::pipeline::options::Options;
use marline::service::cli;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn registry() -> Registry {
    cli::registry()
}

/// Standard output, standard error and exit code.
fn marline(arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
    let output = command
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

fn check(text: &str) -> Loaded {
    let file = File::new(Path::new("test.toml"), text.into());
    let nothing = |_: &str| None::<OsString>;
    config::load_file(file, &registry(), &nothing, Purpose::Check)
}

#[test]
fn the_configurations_that_we_ship_have_no_mistakes() {
    let mut paths = vec![
        root().join("config/marline.toml"),
        root().join("config/package.toml"),
    ];
    let recipes = std::fs::read_dir(root().join("config/recipes")).unwrap();
    paths.extend(recipes.map(|entry| entry.unwrap().path()));
    assert!(
        paths.len() >= 6,
        "the quick start, the package's and five recipes"
    );
    for path in paths {
        let (out, err, code) = marline(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(
            (err.as_str(), code),
            ("", Some(0)),
            "{}: {out}",
            path.display()
        );
        assert!(out.ends_with(": no mistakes\n"), "{out}");
    }
}

/// A configuration around the example of one component.
fn around(one: &Descriptor) -> String {
    let names = |kind: &str| {
        let header = format!("[{kind}.");
        let lines = one
            .example
            .lines()
            .filter_map(|line| line.trim().strip_prefix(&header));
        let names = lines.map(|rest| format!("\"{}\"", rest.trim_end_matches(']')));
        names.collect::<Vec<_>>().join(", ")
    };
    let source = "[source.in]\ntype = \"generate\"\nformat = \"syslog\"\nrate = \"1/s\"\n";
    let sink = "[sink.out]\ntype = \"discard\"\n";
    let pipeline = |from: &str, steps: &str, to: &str| {
        format!("[pipeline.main]\nfrom = [{from}]\nsteps = [{steps}]\nto = [{to}]\n")
    };
    let example = one.example;
    match one.role() {
        Role::Source => format!(
            "{example}\n{sink}{}",
            pipeline(&names("source"), "", "\"out\"")
        ),
        Role::Sink => format!(
            "{example}\n{source}{}",
            pipeline("\"in\"", "", &names("sink"))
        ),
        Role::Step => format!("{source}{sink}{}", pipeline("\"in\"", example, "\"out\"")),
        Role::Pipeline => format!("{source}{sink}{example}"),
        Role::Daemon => format!(
            "{example}{source}{sink}{}",
            pipeline("\"in\"", "", "\"out\"")
        ),
    }
}

#[test]
fn every_example_passes_the_check() {
    for one in registry().all() {
        let text = around(one);
        let loaded = check(&text);
        assert!(
            loaded.config.is_some(),
            "{}:\n{text}\n{}",
            one.name,
            loaded.report
        );
    }
}

#[test]
fn every_descriptor_is_well_formed() {
    for one in registry().all() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(
            one.name.chars().all(plain) && !one.name.is_empty(),
            "{}",
            one.name
        );
        check_words(one.name, one.summary);
        let options: Vec<&Opt> = one.all_options().collect();
        for opt in &options {
            check_words(&format!("{} {}", one.name, opt.name), opt.doc);
            let below = format!("{}.", opt.name);
            let same = |o: &&&Opt| o.name == opt.name || o.name.starts_with(&below);
            let same = options.iter().filter(same).count();
            assert_eq!(
                same, 1,
                "{}: `{}` stands in another's way",
                one.name, opt.name
            );
            let never = opt.required && opt.default.is_some();
            assert!(
                !never,
                "{}: `{}` is required and has a default",
                one.name, opt.name
            );
        }
    }
}

/// One clause: something, without a full stop, on no line of its own.
fn check_words(of: &str, words: &str) {
    assert!(
        !words.is_empty() && !words.ends_with('.') && !words.contains('\n'),
        "{of}: {words}"
    );
}

/// A default that is not of its option's kind panics in the resolver in debug builds.
#[test]
fn every_default_is_of_its_kind() {
    for one in registry().all().filter(|one| !one.takes_plain_value()) {
        let resolved = Options::for_test(one, "");
        if one.all_options().any(|opt| opt.required) {
            assert!(resolved.unwrap_err().contains("is missing"), "{}", one.name);
        } else {
            resolved.unwrap_or_else(|report| panic!("{}: {report}", one.name));
        }
    }
}

#[test]
fn the_reference_is_what_the_descriptors_say() {
    let path = root().join("config/reference.toml");
    let made = explain::reference(&registry());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let hint = "write it with: marline explain --reference > config/reference.toml";
    assert!(
        kept == made,
        "config/reference.toml is not true any more; {hint}"
    );
    let (printed, _, code) = marline(&["explain", "--reference"]);
    assert_eq!((printed, code), (made, Some(0)));
    let comments = kept
        .lines()
        .all(|line| line.is_empty() || line.starts_with('#'));
    assert!(comments, "the reference configures nothing by itself");
}

#[test]
fn the_schema_has_every_component() {
    let schema: serde_json::Value = serde_json::from_str(&schema::schema(&registry())).unwrap();
    let of = |kind: &str| &schema["properties"][kind]["additionalProperties"]["oneOf"];
    let types = |kind| {
        let types = of(kind).as_array().unwrap().iter();
        types
            .map(|one| one["properties"]["type"]["const"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    let names = |role| {
        registry()
            .of(role)
            .iter()
            .map(|one| one.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(types("source"), names(Role::Source));
    assert_eq!(types("sink"), names(Role::Sink));
    let daemon = &schema["properties"]["daemon"]["properties"];
    assert_eq!(daemon["log"]["properties"]["level"]["enum"][0], "error");
}

#[test]
fn list_names_every_component() {
    let (out, _, code) = marline(&["list"]);
    assert_eq!(code, Some(0));
    for one in registry()
        .all()
        .filter(|one| !matches!(one.build, Build::Pipeline | Build::Daemon))
    {
        let line = out
            .lines()
            .find(|line| line.split_whitespace().next() == Some(one.name));
        assert!(line.is_some(), "{}", one.name);
        assert!(out.contains(one.summary), "{}", one.name);
    }
}

#[test]
fn explain_shows_every_option_of_everything() {
    for one in registry().all() {
        let text = explain::explain(one.name, &registry()).unwrap();
        for opt in one.all_options() {
            assert!(text.contains(opt.name), "{} {}", one.name, opt.name);
            assert!(
                text.contains(opt.default.unwrap_or("")),
                "{} {}",
                one.name,
                opt.name
            );
        }
        assert!(
            text.contains(one.example.trim().lines().next().unwrap()),
            "{}",
            one.name
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
}

#[test]
fn explain_knows_options_and_suggests() {
    let (out, _, code) = marline(&["explain", "stop_timeout"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("stop_timeout = \"60s\"\n") && out.contains("of daemon"),
        "{out}"
    );
    let (_, err, code) = marline(&["explain", "generat"]);
    let expected = "error: nothing is called `generat`: did you mean `generate`?\n";
    assert_eq!((err.as_str(), code), (expected, Some(2)));
    let (_, err, code) = marline(&["explain", "xyzzy"]);
    let expected = "error: nothing is called `xyzzy`: `marline list` shows all components\n";
    assert_eq!((err.as_str(), code), (expected, Some(2)));
}

#[test]
fn usage_mistakes_exit_with_2_and_version_says_it() {
    let check = |arguments: &[&str], words: &str| {
        let (out, err, code) = marline(arguments);
        assert_eq!((out.as_str(), code), ("", Some(2)), "{arguments:?}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    };
    check(&[], "Usage");
    check(&["chekc"], "check");
    check(&["explain"], "NAME");
    check(&["run", "--confg", "x"], "--config");
    let (out, _, code) = marline(&["version"]);
    assert_eq!(
        (out, code),
        (format!("marline {}\n", env!("CARGO_PKG_VERSION")), Some(0))
    );
    let (out, _, code) = marline(&["--version"]);
    assert_eq!(
        (out, code),
        (format!("marline {}\n", env!("CARGO_PKG_VERSION")), Some(0))
    );
    let (out, _, code) = marline(&["--help"]);
    assert!(code == Some(0) && out.contains("explain"), "{out}");
}

/// A small seeded generator (splitmix64): the same seed, the same mutations.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % limit as u64) as usize
    }
}

/// What a hand that slips puts into a file.
const SLIPS: &[&str] = &[
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "\\",
    "\\u00e9",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r\n",
    "\t",
    "é",
    "日本",
    "\u{301}",
    "\u{202e}",
    "\u{0}",
    "\u{1b}",
    "-1",
    "1e400",
    "99999999999999999999",
    "30",
    "0x",
    "true",
    "1979-05-27",
    "tcp://",
    "[::1]:",
    "%",
    "!",
    "null",
    "[[source]]",
    "[source]",
    "if = '='",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(4) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            2 => drop(bytes.splice(at..end, SLIPS[random.below(SLIPS.len())].bytes())),
            _ => drop(bytes.splice(at..at, SLIPS[random.below(SLIPS.len())].bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every text gives a configuration or a report whose lines fit, and never a panic.
#[test]
fn mutated_configurations_never_panic() {
    let folder = root().join("tests/config_golden");
    let listed = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = listed
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    let corpus: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let (mut runs, mut good) = (0, 0);
    let rounds = std::env::var("MARLINE_FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    for seed in 0..rounds.unwrap_or(200) {
        for (text, path) in corpus.iter().zip(&paths) {
            let mut random = Random(seed << 32 | runs);
            let mutated = mutate(text, &mut random);
            let result = std::panic::catch_unwind(|| check(&mutated));
            let context = || format!("seed {seed}, {}:\n{mutated}", path.display());
            let loaded = result.unwrap_or_else(|_| panic!("{}", context()));
            assert_eq!(
                loaded.config.is_none(),
                loaded.mistakes > 0,
                "{}",
                context()
            );
            let shown = loaded.report.matches("error: ").count();
            assert!(shown >= loaded.mistakes, "{}\n{}", loaded.report, context());
            (runs, good) = (runs + 1, good + usize::from(loaded.config.is_some()));
        }
    }
    assert!(good > 0 && good < runs as usize, "{good} of {runs}");
}
