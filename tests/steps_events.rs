//! Every step on batches of raw and parsed events: what comes out, what is counted, and what a
//! step does with an event that it cannot handle.
//!
//! Steps are built from TOML by their descriptors, as the daemon builds them. Every application
//! here also holds the step to its ledger: before + produced = after + filtered + dead letters.

use std::sync::Arc;

use bytes::Bytes;
use marline::event::{Batch, Event, Origin, Span, json};
use marline::pipeline::condition::Condition;
use marline::pipeline::descriptor::{Build, Descriptor};
use marline::pipeline::guard::Guarded;
use marline::pipeline::options::Options;
use marline::pipeline::step::{Step, StepReport};
use marline::steps;
use marline::time::{Duration, Instant, WallTime};

pub fn descriptor(name: &str) -> &'static Descriptor {
    let found = steps::ALL.iter().find(|descriptor| descriptor.name == name);
    found.unwrap_or_else(|| panic!("no step {name}"))
}

pub fn try_build(name: &str, value: &str) -> Result<Box<dyn Step>, String> {
    let descriptor = descriptor(name);
    let options = Options::for_test(descriptor, value)?;
    match descriptor.build {
        Build::Step(build) => build(&options).map_err(|mistake| mistake.to_string()),
        _ => panic!("{name} is no step"),
    }
}

pub fn build(name: &str, value: &str) -> Box<dyn Step> {
    try_build(name, value).unwrap_or_else(|error| panic!("{name} = {value}: {error}"))
}

/// A batch of one raw event per line.
pub fn lines(text: &str) -> Batch {
    let origin = Origin {
        source: "in".into(),
        peer: "192.0.2.1:5000".into(),
    };
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let mut batch = Batch::new(Arc::new(origin), WallTime::from_micros(0), bytes);
    let mut start = 0;
    for line in text.split('\n') {
        batch
            .events
            .push(Event::Raw(Span::new(start, start + line.len())));
        start += line.len() + 1;
    }
    batch
}

pub fn show(batch: &Batch) -> Vec<String> {
    let writer = json::Writer::new(batch);
    let one = |event| {
        let mut out = Vec::new();
        writer.write(event, &mut out);
        String::from_utf8(out).unwrap()
    };
    batch.events.iter().map(one).collect()
}

pub fn apply_at(step: &mut dyn Step, batch: &mut Batch, now: u64, divert: bool) -> Counts {
    let before = batch.len() as u64;
    let now = Instant::ZERO + Duration::from_millis(now);
    let mut report = StepReport::new(now, divert);
    step.apply(batch, &mut report);
    let (filtered, produced, errors) = (report.filtered, report.produced, report.errors);
    let first_error = report.first_error.clone();
    let letters = report.dead_letters(batch, "main.1:step");
    let dead = letters.as_ref().map_or(0, |letters| letters.len() as u64);
    assert_eq!(
        before + produced,
        batch.len() as u64 + filtered + dead,
        "the ledger"
    );
    Counts {
        filtered,
        produced,
        errors,
        first_error,
        letters,
    }
}

pub struct Counts {
    pub filtered: u64,
    pub produced: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub letters: Option<Batch>,
}

fn apply(step: &mut dyn Step, batch: &mut Batch) -> Counts {
    apply_at(step, batch, 0, false)
}

/// Runs the steps one after the other over `text`, and gives the events as JSON.
fn run(chain: &[(&str, &str)], text: &str) -> Vec<String> {
    let mut batch = lines(text);
    for (name, value) in chain {
        apply(&mut *build(name, value), &mut batch);
    }
    show(&batch)
}

fn check(chain: &[(&str, &str)], text: &str, expected: &[&str]) {
    assert_eq!(run(chain, text), expected, "{chain:?}");
}

/// What a raw event's JSON ends in.
const REST: &str = r#","timestamp":"1970-01-01T00:00:00.000000Z","host":"192.0.2.1","source":"in""#;

fn raw(message: &str, more: &str) -> String {
    format!("{{\"message\":\"{message}\"{REST}{more}}}")
}

#[test]
fn every_example_builds_and_runs() {
    for descriptor in steps::ALL {
        let inner = descriptor
            .example
            .trim()
            .trim_start_matches('{')
            .trim_end_matches('}');
        let (name, value) = inner.split_once('=').unwrap();
        assert_eq!(name.trim(), descriptor.name, "{}", descriptor.example);
        let mut step = build(descriptor.name, value.trim());
        let mut batch = lines("hello\n{\"items\":[1]}\n\n\u{0}");
        apply(&mut *step, &mut batch);
        apply(&mut *step, &mut lines(""));
        let mut none = lines("");
        none.events.clear();
        apply(&mut *step, &mut none);
    }
}

#[test]
fn parse_json_replaces_the_event_and_copies_values_as_they_stand() {
    let json = [("parse", "\"json\"")];
    check(
        &json,
        r#"{"a":1.50,"b":{"c": [1, 2]},"d":"\u00e9"}"#,
        &[r#"{"a":1.50,"b":{"c": [1, 2]},"d":"\u00e9"}"#],
    );
    check(
        &json,
        r#" { "a" : 1 , "b":null } "#,
        &[r#"{"a":1,"b":null}"#],
    );
    check(&json, r#"{"a":1,"b":2,"a":3}"#, &[r#"{"a":3,"b":2}"#]);
    check(
        &json,
        r#"{"a\"b":1,"\u0061\"b":2,"":3}"#,
        &[r#"{"a\"b":2,"":3}"#],
    );
    check(&json, "{}", &["{}"]);
}

#[test]
fn many_keys_with_repetitions_are_read_in_one_go() {
    let members: Vec<_> = (0..8000)
        .map(|i| format!("\"k{}\":{i}", i % 4000))
        .collect();
    let text = format!("{{{}}}", members.join(","));
    let found = run(&[("parse", "\"json\"")], &text);
    let expected: Vec<_> = (0..4000)
        .map(|i| format!("\"k{i}\":{}", i + 4000))
        .collect();
    assert_eq!(found[0], format!("{{{}}}", expected.join(",")));
}

#[test]
fn what_cannot_be_parsed_stays_marked_and_counted() {
    let check = |value: &str, text: &str, reason: &str| {
        let mut batch = lines(text);
        let counts = apply(&mut *build("parse", value), &mut batch);
        assert_eq!(
            (counts.errors, counts.filtered, batch.len()),
            (1, 0, 1),
            "{value}"
        );
        let shown = show(&batch).remove(0);
        let value_of: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(value_of["message"], text);
        let found = value_of["parse_error"].as_str().unwrap();
        assert!(found.contains(reason), "{found}");
        assert_eq!(counts.first_error.as_deref(), Some(found));
    };
    check("\"json\"", "{\"a\":", "not a JSON object");
    check("\"json\"", "[1]", "not a JSON object");
    check("\"json\"", "", "not a JSON object");
    check("\"json\"", "{} x", "at byte 3");
    check("\"logfmt\"", "just a sentence", "not logfmt");
    check("\"clf\"", "hello", "not an access-log line");
    check(
        "\"syslog\"",
        "hello",
        "not syslog: neither a priority nor a time",
    );
    check(
        "\"syslog\"",
        "<192>x",
        "not syslog: the priority is beyond 191",
    );
    check("{ regex = '^(?<a>\\d+)$' }", "x", "does not match");
    check("{ vrl = 'parse_json!(.message)' }", "x", "json");
    check("{ vrl = '1' }", "x", "integer, not an object");
}

#[test]
fn a_failed_event_goes_to_the_dead_letters_as_it_was() {
    let mut batch = lines("bad\n{\"a\":1}\nworse");
    let counts = apply_at(&mut *build("parse", "\"json\""), &mut batch, 0, true);
    assert_eq!(show(&batch), [r#"{"a":1}"#]);
    let letters = show(&counts.letters.unwrap());
    assert_eq!((counts.errors, letters.len()), (2, 2));
    let letter: serde_json::Value = serde_json::from_str(&letters[1]).unwrap();
    assert_eq!(
        (&letter["original"], &letter["source"]),
        (&"worse".into(), &"in".into())
    );
    assert!(letter["reason"].as_str().unwrap().contains("JSON"));
    assert_eq!(letter["step"], "main.1:step");
}

#[test]
fn parse_reads_logfmt_access_logs_and_named_groups() {
    check(
        &[("parse", "\"logfmt\"")],
        r#"level=info msg="a \"b\"" retry n=1 n=2"#,
        &[r#"{"level":"info","msg":"a \"b\"","retry":true,"n":"2"}"#],
    );
    let access =
        r#"192.0.2.1 - al [23/Nov/2026:18:42:00 +0100] "GET /a HTTP/1.1" 200 5 "-" "c\"u""#;
    check(
        &[("parse", "\"clf\"")],
        access,
        &[concat!(
            r#"{"host":"192.0.2.1","user":"al","timestamp":"2026-11-23T17:42:00.000000Z","#,
            r#""method":"GET","path":"/a","protocol":"HTTP/1.1","status":200,"size":5,"#,
            r#""agent":"c\"u"}"#
        )],
    );
    let regex = "{ regex = '^(?<who>\\S+)( (?<what>\\d+))?( .*)?$' }";
    check(
        &[("parse", regex)],
        "al 17 x\nbo",
        &[r#"{"who":"al","what":"17"}"#, r#"{"who":"bo"}"#],
    );
    let vrl = "{ vrl = '{ \"n\": length(string!(.message)), \"from\": %source }' }";
    check(&[("parse", vrl)], "abc", &[r#"{"from":"in","n":3}"#]);
}

#[test]
fn parse_reads_the_message_of_a_parsed_event() {
    let chain = [("parse", "\"json\""), ("parse", "\"json\"")];
    // Once in the batch's bytes, once unescaped.
    check(&chain, r#"{"message":"{}","x":1}"#, &["{}"]);
    check(
        &chain,
        r#"{"message":"{\"a\":\"b\",\"c\":[1,\"d\"],\"a\\\"\":1}"}"#,
        &[r#"{"a":"b","c":[1,"d"],"a\"":1}"#],
    );
    let found = run(&chain, "{\"message\":7}\n{\"x\":1}");
    assert_eq!(
        found[0],
        r#"{"message":7,"parse_error":"the field `message` is not a text"}"#
    );
    assert_eq!(
        found[1],
        r#"{"x":1,"parse_error":"there is no field `message`"}"#
    );
    let logfmt = [("parse", "\"json\""), ("parse", "\"logfmt\"")];
    check(
        &logfmt,
        r#"{"message":"a=\"x y\"\tb=2"}"#,
        &[r#"{"a":"x y","b":"2"}"#],
    );
}

#[test]
fn parse_keeps_the_marks_about_the_bytes() {
    let mut batch = lines("{\"a\":1}\n{\"truncated\":0}");
    let bytes = batch.bytes.clone();
    for event in &mut batch.events {
        event.mark(&bytes, "truncated", "longer than 64KiB");
        event.mark(&bytes, "parse_error", "of an earlier step");
    }
    apply(&mut *build("parse", "\"json\""), &mut batch);
    assert_eq!(
        show(&batch)[0],
        r#"{"a":1,"truncated":"longer than 64KiB"}"#
    );
    assert_eq!(show(&batch)[1], r#"{"truncated":0}"#);
}

#[test]
fn conditions_filter_and_count_what_gives_no_answer() {
    let text = "{\"l\":\"debug\"}\n{\"l\":\"info\"}\n{}\n{\"l\":3}";
    let filter = |name: &str, condition: &str| {
        let mut batch = lines(text);
        apply(&mut *build("parse", "\"json\""), &mut batch);
        let counts = apply(&mut *build(name, condition), &mut batch);
        (
            batch.len(),
            counts.filtered,
            counts.errors,
            counts.first_error,
        )
    };
    assert_eq!(filter("drop_if", "'.l == \"debug\"'"), (3, 1, 0, None));
    assert_eq!(filter("keep_if", "'.l == \"debug\"'"), (1, 3, 0, None));
    let (kept, filtered, errors, first) = filter("drop_if", "'starts_with(.l, \"de\")'");
    assert_eq!((kept, filtered, errors), (3, 1, 2));
    assert_eq!(first.as_deref(), Some("the condition is null"));
    let (kept, filtered, errors, _) = filter("keep_if", "'starts_with(.l, \"de\")'");
    assert_eq!((kept, filtered, errors), (1, 3, 2));
}

#[test]
fn set_gives_constants_and_filled_in_texts() {
    let value = concat!(
        r#"{ s = "x", n = 1, f = 1.5, b = true, l = [1, "a"], t = { k = "v" }, "#,
        r#"m = "{{ a }}-{{ %source }}" }"#
    );
    check(
        &[("parse", "\"json\""), ("set", value)],
        r#"{"a":"\"","n":0}"#,
        &[r#"{"a":"\"","n":1,"s":"x","f":1.5,"b":true,"l":[1,"a"],"t":{"k":"v"},"m":"\"-in"}"#],
    );
    check(
        &[("set", "{ site = \"lab1\" }")],
        "hi",
        &[&raw("hi", ",\"site\":\"lab1\"")],
    );
    check(
        &[("set", "{ host = \"h\", message = \"<{{ message }}>\" }")],
        "hi",
        &[concat!(
            r#"{"timestamp":"1970-01-01T00:00:00.000000Z","source":"in","host":"h","#,
            r#""message":"<hi>"}"#
        )],
    );
    check(
        &[("set", "{ timestamp = 1, host = 2, source = 3 }")],
        "hi",
        &[r#"{"message":"hi","timestamp":1,"host":2,"source":3}"#],
    );
}

#[test]
fn rename_remove_and_keep_work_on_top_level_fields() {
    let parse = ("parse", "\"json\"");
    let text = r#"{"a":1,"b":2,"c":3}"#;
    check(
        &[parse, ("rename", "{ a = \"z\", nowhere = \"y\" }")],
        text,
        &[r#"{"z":1,"b":2,"c":3}"#],
    );
    check(
        &[parse, ("rename", "{ a = \"c\" }")],
        text,
        &[r#"{"c":1,"b":2}"#],
    );
    check(
        &[parse, ("rename", "{ a = \"a\", b = \"a\" }")],
        text,
        &[r#"{"a":2,"c":3}"#],
    );
    check(
        &[parse, ("remove", "[\"a\", \".b\", \"x\"]")],
        text,
        &[r#"{"c":3}"#],
    );
    check(
        &[parse, ("keep", "[\"c\", \"a\"]")],
        text,
        &[r#"{"a":1,"c":3}"#],
    );
    check(&[parse, ("keep", "[\"x\"]")], text, &["{}"]);
}

#[test]
fn a_raw_event_without_its_message_is_a_fielded_one() {
    check(
        &[("rename", "{ message = \"msg\" }")],
        "hi",
        &[r#"{"msg":"hi"}"#],
    );
    check(&[("remove", "[\"message\"]")], "hi", &["{}"]);
    check(&[("remove", "[\"x\"]")], "hi", &[&raw("hi", "")]);
    check(&[("keep", "[\"message\"]")], "hi", &[r#"{"message":"hi"}"#]);
    let set = ("set", "{ message = \"new\", x = 1 }");
    check(&[set, ("remove", "[\"message\"]")], "hi", &[r#"{"x":1}"#]);
    check(
        &[set, ("rename", "{ x = \"message\" }")],
        "hi",
        &[r#"{"message":1}"#],
    );
    check(
        &[("set", "{ x = 1 }"), ("rename", "{ x = \"message\" }")],
        "hi",
        &[r#"{"message":1}"#],
    );
}

#[test]
fn vrl_changes_fields_or_nothing() {
    let parse = ("parse", "\"json\"");
    check(
        &[parse, ("vrl", "'.b = .a + 1 ?? 0; del(.c)'")],
        r#"{"a":1,"c":[1, 2]}"#,
        &[r#"{"a":1,"b":2}"#],
    );
    check(
        &[("vrl", "'. = parse_json!(.message)'")],
        "{\"a\": 1}",
        &[r#"{"a":1}"#],
    );
    check(
        &[("vrl", "'.n = strlen(string!(.message))'")],
        "héllo",
        &[&raw("héllo", ",\"n\":5")],
    );
    let found = run(
        &[parse, ("vrl", "'.a = 2; .b = to_int!(.c)'")],
        r#"{"a":1,"c":"x"}"#,
    );
    assert!(
        found[0].starts_with(r#"{"a":1,"c":"x","parse_error":"#),
        "{found:?}"
    );
}

#[test]
fn split_makes_elements_and_lines_events() {
    let at = |path: &str, text: &str| run(&[("split", path)], text);
    let items = r#"{"items": [{"a": 1}, "x", [2], {"a":{"b":1}}], "n": 1}"#;
    let expected = [
        r#"{"a":1}"#,
        r#"{"message":"x"}"#,
        r#"{"message":[2]}"#,
        r#"{"a":{"b":1}}"#,
    ];
    assert_eq!(at("\".items\"", items), expected);
    assert_eq!(
        run(&[("parse", "\"json\""), ("split", "\".items\"")], items),
        expected
    );
    assert_eq!(
        at("\".\"", r#"[{"a":1},2]"#),
        [r#"{"a":1}"#, r#"{"message":2}"#]
    );
    assert_eq!(at("\".a.b\"", r#"{"a":{"b":[1]}}"#), [r#"{"message":1}"#]);
    let parsed = [("parse", "\"json\""), ("split", "\".a.b\"")];
    assert_eq!(run(&parsed, r#"{"a":{"b":[1]}}"#), [r#"{"message":1}"#]);
    // An array that a program made lies in no bytes.
    let made = [
        ("vrl", "'.items = [{\"k\": .message}, 2]'"),
        ("vrl", "'. = .'"),
        ("split", "\".items\""),
    ];
    assert_eq!(run(&made, "hi"), [r#"{"k":"hi"}"#, r#"{"message":2}"#]);
    assert!(at("\".items\"", "{\"items\":3}")[0].contains("not a JSON array"));
    assert!(at("\".items\"", "{}")[0].contains("no such field"));
    assert!(at("\".items\"", "hi")[0].contains("parse_error"));
    assert_eq!(at("\".items\"", "{\"items\":[]}"), Vec::<String>::new());
}

#[test]
fn split_lines_leaves_raw_events_over_the_same_bytes() {
    let mut batch = lines("");
    batch.bytes = Bytes::from_static(b"one\r\ntwo\n\nthree");
    batch.events = vec![Event::Raw(Span::new(0, 15))].into();
    let counts = apply(&mut *build("split", "\"lines\""), &mut batch);
    assert_eq!(counts.produced, 2);
    let texts: Vec<_> = batch.events.iter().map(|event| batch.raw(event)).collect();
    assert_eq!(texts, [&b"one"[..], b"two", b"three"]);
    assert!(
        batch
            .events
            .iter()
            .all(|event| matches!(event, Event::Raw(_)))
    );
    let inner = run(
        &[("parse", "\"json\""), ("split", "\"lines\"")],
        r#"{"message":"a\nb"}"#,
    );
    assert_eq!(inner, [r#"{"message":"a"}"#, r#"{"message":"b"}"#]);
}

#[test]
fn split_has_a_bound() {
    let many = format!("[{}1]", "1,".repeat(steps::SPLIT_EVENTS_MAX));
    let found = run(&[("split", "\".\"")], &many);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("more than 100000 elements"));
    assert_eq!(
        run(&[("split", "\".\"")], &many.replacen("1,", "", 1)).len(),
        100_000
    );
}

#[test]
fn sample_keeps_one_of_so_many() {
    let mut step = build("sample", "3");
    let mut kept = 0;
    for count in [1, 1, 1, 4, 2] {
        let mut batch = lines(&vec!["x"; count].join("\n"));
        let counts = apply(&mut *step, &mut batch);
        assert_eq!(counts.filtered as usize + batch.len(), count);
        kept += batch.len();
    }
    assert_eq!(kept, 3);
    // By key: a value is kept always or never, and about one value in three is.
    let text: Vec<_> = (0..3000)
        .map(|i| format!("{{\"u\":\"user{}\"}}", i % 300))
        .collect();
    let chain = [
        ("parse", "\"json\""),
        ("sample", "{ one_in = 3, key = \".u\" }"),
    ];
    let kept = run(&chain, &text.join("\n"));
    let values: std::collections::BTreeSet<_> = kept.iter().collect();
    assert_eq!(kept.len(), values.len() * 10);
    assert!((60..140).contains(&values.len()), "{}", values.len());
}

#[test]
fn a_condition_lets_a_step_pass_by() {
    let condition = Condition::compile(".message != \"b\" && %source == \"in\"").unwrap();
    let mut step = Guarded::new(condition, build("set", "{ x = 1 }"));
    let mut batch = lines("a\nb\nb\nc");
    apply(&mut step, &mut batch);
    let with = |message| raw(message, ",\"x\":1");
    assert_eq!(
        show(&batch),
        [with("a"), raw("b", ""), raw("b", ""), with("c")]
    );
    // With steps that add and take away.
    let condition = Condition::compile("starts_with!(.message, \"[\")").unwrap();
    let mut step = Guarded::new(condition, build("split", "\".\""));
    let mut batch = lines("a\n[1,2]\n[]\nb\n[3]");
    let counts = apply(&mut step, &mut batch);
    let of = |number| format!("{{\"message\":{number}}}");
    assert_eq!(
        show(&batch),
        [raw("a", ""), of(1), of(2), raw("b", ""), of(3)]
    );
    assert_eq!((counts.produced, counts.filtered), (1, 1));
}

#[test]
fn wrong_options_are_refused_with_a_reason() {
    let check = |name: &str, value: &str, reason: &str| {
        let error = try_build(name, value).map(drop).unwrap_err();
        assert!(error.contains(reason), "{name} = {value}: {error}");
    };
    check("drop_if", "'.a = 1'", "did you mean `==`?");
    check("drop_if", "''", "empty");
    check("keep_if", "'.a =='", "syntax error");
    check("parse", "{ regex = '(' }", "unclosed group");
    check("parse", "{ regex = 'a(b)' }", "no named group");
    check("parse", "{ regex = '(?<a>\\w{500}){50}' }", "too large");
    check("parse", "{ vrl = '.a = ' }", "syntax error");
    check("set", "{ \"%x\" = 1 }", "metadata");
    check("set", "{ \".a.b\" = 1 }", "top-level");
    check("set", "{ a = \"{{ \" }", "never closed");
    check("rename", "{ a = \"\" }", "empty");
    check("remove", "[\".a[0]\"]", "top-level");
    check("vrl", "'%source = 1'", "read-only");
    check("split", "\"items\"", "did you mean `.items`?");
    check("split", "\".a[0]\"", "index");
    check("dedupe", "[]", "same");
    check("dedupe", "[\"a b\"]", "no path");
    check("throttle", "{ key = \"host\" }", "missing");
}
