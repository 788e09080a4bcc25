//! Rules on the tests themselves, read off the list that this binary gives of them.
//!
//! What is tested on one poller is tested on all: names that end in `::epoll`, `::poll`,
//! `::select` and `::sim` form four sets that must be equal.

use std::collections::BTreeSet;
use std::process::Command;

const POLLERS: [&str; 4] = ["epoll", "poll", "select", "sim"];

/// The full names of all tests of this binary.
fn names() -> Vec<String> {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--list", "--format=terse"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
    tests.map(str::to_owned).collect()
}

/// Tests that run on some pollers and not on all, each with the poller it lacks.
fn uneven(names: &[String]) -> Vec<String> {
    let of = |poller: &str| -> BTreeSet<&str> {
        let ending = format!("::{poller}");
        names
            .iter()
            .filter_map(|name| name.strip_suffix(&ending))
            .collect()
    };
    let sets = POLLERS.map(of);
    let all: BTreeSet<&str> = sets.iter().flatten().copied().collect();
    let lacks = |test: &&str| {
        let mut without = POLLERS
            .iter()
            .zip(&sets)
            .filter(|(_, set)| !set.contains(test));
        without
            .next()
            .map(|(poller, _)| format!("{test} has no ::{poller}"))
    };
    all.iter().filter_map(lacks).collect()
}

#[test]
fn every_poller_has_the_same_tests() {
    let planted = [
        "a::epoll",
        "a::poll",
        "a::sim",
        "b::epoll",
        "b::poll",
        "b::select",
        "b::sim",
    ];
    let planted: Vec<String> = planted.map(str::to_owned).to_vec();
    assert_eq!(uneven(&planted), ["a has no ::select"]);

    let found = uneven(&names());
    assert!(found.is_empty(), "{}", found.join("\n"));
}
