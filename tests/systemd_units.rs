//! The files in `systemd/`, as systemd itself reads them.
//!
//! `systemd-analyze verify` complains about a unit whose program is not there, so it is shown
//! a copy that names the binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::skips::skip;

/// Runs systemd-analyze; `None`, and a recorded skip, where this machine has none.
fn analyze(test: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(test, &format!("systemd-analyze cannot be run: {error}"));
            None
        }
    }
}

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name)
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn units_verify_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let copies = ["marline.service", "marline.socket"].map(|name| {
        let unit = fs::read_to_string(unit(name)).unwrap();
        let copy = folder.path().join(name);
        fs::write(
            &copy,
            unit.replace("/usr/bin/marline", env!("CARGO_BIN_EXE_marline")),
        )
        .unwrap();
        copy.to_str().unwrap().to_owned()
    });
    let arguments = ["verify", &copies[0], &copies[1]];
    let Some(output) = analyze("units_verify_without_a_word", &arguments) else {
        return;
    };
    assert_eq!(text(&output), "");
    assert!(output.status.success(), "{}", output.status);
}

#[test]
fn the_service_is_exposed_to_little() {
    let path = unit("marline.service");
    let arguments = [
        "security",
        "--offline=true",
        "--threshold=12",
        path.to_str().unwrap(),
    ];
    let Some(output) = analyze("the_service_is_exposed_to_little", &arguments) else {
        return;
    };
    let text = text(&output);
    let score = text
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    assert!(
        score.is_some_and(|line| line.contains("marline.service")),
        "{text}"
    );
    assert!(
        output.status.success(),
        "exposure above 1.2: {}",
        score.unwrap_or(&text)
    );
}

#[test]
fn the_service_keeps_its_promises() {
    let service = fs::read_to_string(unit("marline.service")).unwrap();
    let has = |line: &str| assert!(service.lines().any(|found| found == line), "no {line}");
    has("Type=notify");
    has("RestartPreventExitStatus=2 78");
    has("TasksMax=512");
    has("UMask=0027");
    has("After=network.target nss-lookup.target");
    has("ExecReload=/usr/bin/marline reload --config /etc/marline/marline.toml");
    assert!(
        !service.contains("IPAddress"),
        "an address list in a unit eats traffic silently"
    );
}
