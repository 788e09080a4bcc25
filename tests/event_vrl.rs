//! Programs over our view of an event, held against the same programs over an owned object.
//!
//! The reference is VRL's own runtime on an owned object made of the whole event. Ours makes
//! only the fields that are asked for, and must not be told apart by what a program does.

use bytes::Bytes;
use marline::event::{Event, object};
use marline::pipeline::condition::{Condition, Program, Truth};
use vrl::compiler::runtime::Runtime;
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{TargetValue, TimeZone};
use vrl::value::{Secrets, Value};

use super::event_random::{batch_of, seeds};
use super::steps_events::{apply_at, build};

/// What the reference makes of an event: `.` afterwards, or its error.
fn reference(program: &vrl::compiler::Program, event: Value) -> Option<Value> {
    let mut target = TargetValue {
        value: event,
        metadata: Value::Object([("source".into(), "in".into())].into()),
        secrets: Secrets::default(),
    };
    let mut runtime = Runtime::new(RuntimeState::default());
    let done = runtime.resolve(&mut target, program, &TimeZone::parse("UTC").unwrap());
    done.ok().map(|_| target.value)
}

fn whole(event: &Event, bytes: &Bytes) -> Value {
    Value::Object(object(event, bytes))
}

const PROGRAMS: &[&str] = &[
    ".a = 1",
    ".a = .b",
    ".a.x = .b",
    ".a[2] = .message",
    ".a[-1] = 5",
    "del(.a)",
    "del(.a.x); .gone = exists(.a)",
    "del(.a.x, compact: true)",
    "del(.a[0])",
    ". = {\"was\": .}",
    ". = .a",
    "x = .; .a = 1; .copy = x; .now = .",
    ".a = .; .b = .a.b; del(.a.a)",
    "if exists(.b) { del(.b) } else { .b = \"new\" }; .n = length(.)",
    ". = map_keys(.) -> |key| { upcase(key) }",
    "for_each(.) -> |key, value| { .last = key }",
    ".b = to_int!(.a)",
    ".c = string!(.message) + \"!\"; .d = %source",
    ". |= {\"a\": {\"merged\": true}}",
    "del(.); .fresh = true",
    ".\"k y\" = .\"\"; .\"q\\\"A\" = 1",
    "if .a == null { abort }; .b = .a",
    ".a = unnest(.b) ?? []",
    ".x = get(., [\"b\"]) ?? 9",
    ". = set!(., [\"b\", \"deep\"], 3)",
    ".a = compact(.)",
    "return .a",
];

#[test]
fn programs_do_the_same_as_on_an_owned_object() {
    let all = vrl::stdlib::all();
    for text in PROGRAMS {
        let ours = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let theirs = vrl::compiler::compile(text, &all).unwrap().program;
        seeds(300, |random| {
            let mut batch = batch_of(&[random.object(2), random.text(9)], b"\n");
            apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
            for event in &batch.events {
                let before = whole(event, &batch.bytes);
                let mut after = event.clone();
                let changed = ours.change(batch.shared(), event);
                let done = changed.map(|change| change.apply(&mut after, &batch.bytes));
                // What is no object at the end is an error of ours.
                let expected = reference(&theirs, before.clone()).filter(Value::is_object);
                match expected {
                    Some(expected) => {
                        assert!(done.is_ok(), "{text} on {before}: {done:?}");
                        assert_eq!(whole(&after, &batch.bytes), expected, "{text} on {before}");
                    }
                    None => assert!(done.is_err(), "{text} on {before}"),
                }
            }
        });
    }
}

#[test]
fn conditions_hold_where_they_hold_on_an_owned_object() {
    let all = vrl::stdlib::all();
    let texts = [
        ".a == 1",
        ".a == .b",
        ".a.x == \"plain \" || exists(.b[1])",
        "length(.) > 2",
        "is_string(.message) && .message != \"\"",
        "contains(string(.message) ?? \"\", \"a\")",
        ".b[-1] == null",
        "includes(keys(.), \"a\")",
        "%source == \"in\" && !exists(%nothing)",
    ];
    for text in texts {
        let ours = Condition::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let theirs = vrl::compiler::compile(&format!(". = {text}"), &all)
            .unwrap()
            .program;
        seeds(1_000, |random| {
            let mut batch = batch_of(&[random.object(2), random.text(9)], b"\n");
            apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, false);
            for event in &batch.events {
                let before = whole(event, &batch.bytes);
                let expected = reference(&theirs, before.clone());
                let expected = expected == Some(Value::Boolean(true));
                let found = ours.holds(&batch, event) == Truth::True;
                assert_eq!(found, expected, "{text} on {before}");
            }
        });
    }
}
