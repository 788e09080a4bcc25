//! logfmt: what is read, what is refused, and that what is written reads back.
//!
//! The shapes are those of the common writers (Go's slog and logrus, Heroku's router).

use marline::protocol::logfmt::{Form, PAIRS_MAX, Pair, parse};

use super::fuzz_entries;

pub const CORPUS: &[&str] = &[
    "level=info msg=\"hello world\" retry",
    "time=2026-11-23T18:42:00Z level=warn msg=\"said \\\"no\\\"\\n\" err=",
    "  a=1\tb=2\r\n",
    "url=http://x/?a=b&c=d path=\"/a b\"",
    "=x",
    "a\"b=1",
    "a=\"open",
    "a=\"x\"y",
    "a=\"trailing backslash\\",
    "only words here",
    "ключ=значение é=\"\"",
    "",
];

fn check(text: &str, expected: &[(&str, &str, Form)]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    parse(text.as_bytes(), &mut pairs).unwrap();
    let shown: Vec<_> = pairs
        .iter()
        .map(|pair| {
            (
                &text[pair.key.range()],
                &text[pair.value.range()],
                pair.form,
            )
        })
        .collect();
    assert_eq!(shown, expected, "{text}");
    pairs
}

fn error(text: &str) -> String {
    parse(text.as_bytes(), &mut Vec::new())
        .unwrap_err()
        .to_string()
}

#[test]
fn pairs_flags_and_quotes() {
    use Form::{Bare, Flag, Quoted};
    check(
        "level=info msg=\"hello world\" retry",
        &[
            ("level", "info", Bare),
            ("msg", "hello world", Quoted),
            ("retry", "", Flag),
        ],
    );
    check(" a=1\tb= \r\n", &[("a", "1", Bare), ("b", "", Bare)]);
    check(
        "u=http://x/?a=b q=a\"b",
        &[("u", "http://x/?a=b", Bare), ("q", "a\"b", Bare)],
    );
    check("a=1 a=2", &[("a", "1", Bare), ("a", "2", Bare)]);
    let pairs = check(
        r#"m="a \"b\" \\" n="""#,
        &[("m", r#"a \"b\" \\"#, Quoted), ("n", "", Quoted)],
    );
    assert_eq!(
        (pairs[0].escaped, pairs[0].quoted(), pairs[1].escaped),
        (true, true, false)
    );
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(error("just a sentence"), "no key=value pair at byte 0");
    assert_eq!(error(""), "no key=value pair at byte 0");
    assert_eq!(error("a=1 =x"), "value without a key at byte 4");
    assert_eq!(error("a=1 b\"c=x"), "quote in a key at byte 5");
    assert_eq!(error("a=1 m=\"open"), "quote without end at byte 6");
    assert_eq!(error("m=\"open\\\""), "quote without end at byte 2");
    assert_eq!(
        error("m=\"a\"b"),
        "text right behind a quoted value at byte 5"
    );
}

#[test]
fn the_number_of_pairs_is_bounded() {
    let text = "a=1 ".repeat(PAIRS_MAX);
    let mut pairs = Vec::new();
    parse(text.as_bytes(), &mut pairs).unwrap();
    assert_eq!(pairs.len(), PAIRS_MAX);
    assert_eq!(
        error(&format!("{text}b=2")),
        format!("too many pairs at byte {}", text.len())
    );
}

#[test]
fn what_is_written_reads_back() {
    let written = |key: &str, value: &str| {
        fuzz_entries::logfmt_pair(key.as_bytes(), value.as_bytes());
        let mut out = Vec::new();
        marline::protocol::logfmt::pair_into(key.as_bytes(), value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written("a", "b"), "a=b");
    assert_eq!(written("a", "C:\\x"), "a=C:\\x");
    assert_eq!(written("a", ""), "a=\"\"");
    assert_eq!(written("a", "b c"), "a=\"b c\"");
    assert_eq!(written("a", "b=c"), "a=\"b=c\"");
    assert_eq!(written("a", "say \"x\"\n"), "a=\"say \\\"x\\\"\\n\"");
    assert_eq!(written("a b=\"c", "1"), "a_b__c=1");
    assert_eq!(written("", "1"), "_=1");
    assert_eq!(written("é", "ü"), "é=ü");
}
