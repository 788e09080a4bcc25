//! Rules on the tests themselves, read off the list that this binary gives of them.
//!
//! What is tested on one poller is tested on all: names that end in `::epoll`, `::poll`,
//! `::select` and `::sim` form four sets that must be equal.

use std::collections::BTreeSet;
use std::process::Command;

const POLLERS: [&str; 4] = ["epoll", "poll", "select", "sim"];

/// Tests of what only a process has: its signals and its abort. The simulated poller watches no
/// descriptors, and a simulated world has no process of its own. They run on the other three.
const NOT_SIMULATED: [&str; 5] = [
    "reactor_threads::a_broken_durability_invariant_aborts_the_process",
    "reactor_threads::c_289_a_second_signal_hastens_and_a_third_aborts",
    "reactor_threads::c_289_sigterm_shuts_an_idle_reactor_down",
    "reactor_threads::c_291_signals_are_left_alone_unless_asked_for",
    "reactor_threads::c_292_equal_signals_that_wait_are_one",
];

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

    let expected = NOT_SIMULATED.map(|test| format!("{test} has no ::sim"));
    let found: Vec<String> = uneven(&names());
    let (known, unknown): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|line| expected.contains(line));
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert_eq!(known.len(), expected.len(), "an exception is out of date");
}
