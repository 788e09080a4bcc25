//! The whole output of the real binary for configurations with mistakes.
//!
//! Each `tests/config_golden/NAME.toml` goes through `marline check --config NAME.toml`; standard
//! error, standard output and the exit code must be those of `NAME.expected`. The first words
//! of NAME are the class of mistake. `UPDATE_GOLDEN=1` writes the expectations anew: read them
//! with the eyes of a user before they are committed.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Classes of mistakes, each with at least [`LEAST`] files.
const CLASSES: &[&str] = &[
    "unknown_key",
    "unknown_table",
    "wrong_type",
    "bad_unit",
    "bare_number",
    "unknown_component",
    "dangling_name",
    "cycle",
    "duplicate_listener",
    "missing_file",
    "unreadable_secret",
    "bad_vrl",
    "condition_assigns",
    "bad_regex",
    "bad_address",
    "toml_syntax",
];

const LEAST: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_golden")
}

/// The names of all files with that ending, sorted.
fn names(ending: &str) -> Vec<String> {
    let listed = std::fs::read_dir(folder()).unwrap();
    let files = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files
        .filter_map(|name| Some(name.strip_suffix(ending)?.to_owned()))
        .collect();
    names.sort();
    names
}

/// What `marline` prints and answers, run in `place` with an empty environment.
fn marline(arguments: &[&str], place: &Path) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
    let output = command
        .args(arguments)
        .current_dir(place)
        .env_clear()
        .output()
        .unwrap();
    let mut text = String::from_utf8(output.stderr).unwrap();
    text.push_str(&String::from_utf8(output.stdout).unwrap());
    (text, output.status.code())
}

/// Compares with `NAME.expected`, or writes it.
fn hold(name: &str, (text, code): (String, Option<i32>)) -> Result<(), String> {
    let path = folder().join(format!("{name}.expected"));
    let code = code.map_or("killed".to_owned(), |code| code.to_string());
    let found = format!("{text}exit code {code}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
        return Ok(());
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "--- {name}\nexpected:\n{expected}\nfound:\n{found}"
    ))
}

fn report(wrong: Vec<String>) {
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_report_is_the_expected_one() {
    let check = |name: &String| {
        let output = marline(&["check", "--config", &format!("{name}.toml")], &folder());
        hold(name, output).err()
    };
    report(names(".toml").iter().filter_map(check).collect());
}

#[test]
fn every_class_of_mistakes_has_its_files() {
    let expected = names(".expected");
    let mut counts = String::new();
    for class in CLASSES {
        let prefix = format!("{class}_");
        let count = expected
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .count();
        let _ = writeln!(counts, "{class}: {count}");
        assert!(count >= LEAST, "{class} has {count} files, not {LEAST}");
    }
    let stale: Vec<_> = expected
        .iter()
        .filter(|name| !names(".toml").contains(name) && !is_made(name))
        .collect();
    assert!(
        stale.is_empty(),
        "expectations without a configuration: {stale:?}"
    );
}

/// Expectations whose configuration is made by a test: what git cannot hold.
const MADE: &[&str] = &[
    "missing_file_named",
    "missing_file_default",
    "missing_file_is_a_folder",
    "missing_file_is_a_fifo",
    "missing_file_too_large",
    "toml_syntax_not_utf8",
];

fn is_made(name: &str) -> bool {
    MADE.contains(&name)
}

#[test]
fn f_037_a_fifo_a_folder_and_a_gigabyte_are_refused_at_once() {
    let begin = std::time::Instant::now();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("folder.toml")).unwrap();
    nix::unistd::mkfifo(&at("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let large = std::fs::File::create(at("large.toml")).unwrap();
    large.set_len(1 << 30).unwrap();
    std::fs::write(at("bytes.toml"), b"[source.in]\ntype = \"so\xffcket\"\n").unwrap();
    let named = |file: &str| marline(&["check", "--config", file], place.path());
    let cases = [
        ("missing_file_named", named("none.toml")),
        ("missing_file_is_a_folder", named("folder.toml")),
        ("missing_file_is_a_fifo", named("fifo.toml")),
        ("missing_file_too_large", named("large.toml")),
        ("toml_syntax_not_utf8", named("bytes.toml")),
    ];
    let cases = cases.into_iter();
    report(
        cases
            .filter_map(|(name, output)| hold(name, output).err())
            .collect(),
    );
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}

/// Where no file is named the report says which paths were tried. A machine on which marline
/// is installed has one of them.
#[test]
fn a_missing_default_says_what_was_tried() {
    let place = tempfile::tempdir().unwrap();
    if Path::new("/etc/marline/marline.toml").exists() {
        let name = "config_golden::a_missing_default_says_what_was_tried";
        crate::skips::skip(name, "this machine has /etc/marline/marline.toml");
        return;
    }
    let output = marline(&["check"], place.path());
    report(
        hold("missing_file_default", output)
            .err()
            .into_iter()
            .collect(),
    );
}

#[test]
fn eight_mistakes_are_shown_in_one_run() {
    let (text, code) = marline(&["check", "--config", "eight_mistakes.toml"], &folder());
    assert_eq!(text.matches("error: ").count(), 8, "{text}");
    assert!(text.ends_with("\n8 mistakes\n"), "{text}");
    assert_eq!(code, Some(78));
}

#[test]
fn run_gives_the_same_report_and_code() {
    let name = "eight_mistakes.toml";
    let checked = marline(&["check", "--config", name], &folder());
    assert_eq!(marline(&["run", "--config", name], &folder()), checked);
}
