//! The steps that remember: `dedupe` and `throttle`, over time and at their bounds.
//!
//! Time is handed to the steps with each batch, so that a minute takes no time here.

use marline::event::Batch;
use marline::pipeline::step::Step;

use super::steps_events::{apply_at, build, lines};

/// How many of `text`'s lines pass at `millis`.
fn passes(step: &mut dyn Step, text: &str, millis: u64) -> usize {
    let mut batch: Batch = lines(text);
    apply_at(step, &mut batch, millis, false);
    batch.len()
}

#[test]
fn dedupe_holds_back_repetitions_for_its_window() {
    let mut step = build("dedupe", "{ fields = [\"message\"], window = \"10s\" }");
    assert!(step.remembers());
    assert_eq!(passes(&mut *step, "a\nb\na\na", 0), 2);
    assert_eq!(passes(&mut *step, "a\nc", 9_999), 1);
    // The repetition at 9.999 s did not prolong the window.
    assert_eq!(passes(&mut *step, "a\nb", 10_000), 2);
    assert_eq!(passes(&mut *step, "a\nb\nc", 10_001), 0);
    assert_eq!(passes(&mut *step, "c", 19_999), 1);
}

#[test]
fn dedupe_forgets_the_oldest_at_its_bound() {
    let mut step = build("dedupe", "{ fields = [\"message\"], max_entries = 2 }");
    assert_eq!(passes(&mut *step, "a\nb\nc", 0), 3);
    assert_eq!(passes(&mut *step, "b\nc", 0), 0);
    assert_eq!(passes(&mut *step, "a", 0), 1, "a was forgotten for c");
    assert_eq!(passes(&mut *step, "c\na", 0), 0);
}

#[test]
fn dedupe_tells_fields_and_their_absence_apart() {
    let mut step = build("dedupe", "[\"a\", \"b\", \"%source\"]");
    let mut parse = build("parse", "\"json\"");
    let mut pass = |text: &str| {
        let mut batch = lines(text);
        apply_at(&mut *parse, &mut batch, 0, false);
        apply_at(&mut *step, &mut batch, 0, false);
        batch.len()
    };
    assert_eq!(
        pass("{\"a\":\"xy\",\"b\":\"z\"}\n{\"a\":\"x\",\"b\":\"yz\"}"),
        2
    );
    assert_eq!(
        pass("{\"a\":\"\"}\n{}\n{\"b\":\"\"}\n{\"a\":\"\",\"b\":\"\"}"),
        4
    );
    assert_eq!(pass("{\"b\":\"z\",\"c\":1,\"a\":\"xy\"}\n{\"q\":0}"), 0);
}

#[test]
fn throttle_lets_the_rate_through() {
    let mut step = build("throttle", "\"2/s\"");
    assert!(step.remembers());
    let many = vec!["x"; 100].join("\n");
    assert_eq!(passes(&mut *step, &many, 0), 2);
    assert_eq!(passes(&mut *step, &many, 499), 0);
    assert_eq!(passes(&mut *step, &many, 500), 1);
    assert_eq!(
        passes(&mut *step, &many, 60_000),
        2,
        "a pause is worth one burst"
    );
    let mut total = 0;
    for millis in (61_000..161_000).step_by(7) {
        total += passes(&mut *step, "x\nx", millis);
    }
    assert!((199..=202).contains(&total), "{total} in 100 s");
}

#[test]
fn throttle_counts_each_key_for_itself() {
    let mut step = build(
        "throttle",
        "{ rate = \"60/m\", key = \"message\", burst = 3 }",
    );
    assert_eq!(passes(&mut *step, "a\na\na\na\nb", 0), 4);
    assert_eq!(passes(&mut *step, "a\nb\nb\nb", 0), 2);
    assert_eq!(passes(&mut *step, "a\na\nb\nb", 1000), 2);
}

#[test]
fn throttle_gives_invented_keys_one_rate_together() {
    let mut step = build(
        "throttle",
        "{ rate = \"1/s\", key = \"message\", max_keys = 3 }",
    );
    let names: Vec<_> = (0..1000).map(|i| format!("k{i}")).collect();
    let text = names.join("\n");
    assert_eq!(
        passes(&mut *step, &text, 0),
        4,
        "three keys and the common rate"
    );
    assert_eq!(passes(&mut *step, "k0\nk999", 0), 0);
    // A second later all buckets are full again and forgotten: three others have their turn.
    assert_eq!(passes(&mut *step, "k500\nk501\nk502\nk0", 1000), 4);
}
