//! JSON ranges: hand-written cases, and serde_json as the oracle.
//!
//! The verdicts are compared on a corpus, on every prefix of it, and on numbers around the
//! largest finite one; the seeded mutator goes on from there.

use marline::protocol::json::{
    self, DEPTH_MAX, ELEMENTS_MAX, FIELDS_MAX, JsonError, Kind, elements, escape_into, scan,
    string_into, unescape, validate,
};

use super::fuzz_entries;

/// Texts around every rule of the grammar; the seeded mutator starts from them too.
pub const CORPUS: &[&str] = &[
    "{}",
    " {\t\"a\" :\r\n1 , \"b\":[ ] } ",
    r#"{"time":"2026-11-23T18:42:00Z","level":"info","n":-12,"f":1.5e-3,"ok":true,"no":null}"#,
    r#"{"a":{"b":[1,{"c":"d"},[[]]],"e":{}},"f":[{"g":false}]}"#,
    r#"{"esc\"aped":"tab\tquote\"back\\slash\/ \u00e9 \ud83d\ude00","\u006bey":""}"#,
    r#"{"u":"žluťoučký kůň 😀","long":"this string is longer than sixteen bytes, twice over"}"#,
    r#"{"a":1,"a":2,"":3}"#,
    r#"[1,2.5,"x",null,true,false,{"a":[]}]"#,
    r#"{"s":"\ud800"}"#,
    r#"{"s":"\udc00"}"#,
    r#"{"s":"\ud800\u0041"}"#,
    r#"{"s":"\ud800\n"}"#,
    r#"{"s":"\u12"}"#,
    r#"{"s":"\x41"}"#,
    "{\"s\":\"line\nbreak\"}",
    r#"{"n":01}"#,
    r#"{"n":-}"#,
    r#"{"n":1.}"#,
    r#"{"n":.5}"#,
    r#"{"n":1e}"#,
    r#"{"n":+1}"#,
    r#"{"n":0e99999999999999999999,"m":-0,"o":1e-99999999999}"#,
    r#"{"n":1e308,"m":1.7976931348623157e308,"o":123456789012345678901234567890}"#,
    r#"{"n":1.7976931348623159e308}"#,
    r#"{"n":1e309}"#,
    r#"{"n":1e999999999}"#,
    r#"{"a":1,}"#,
    r#"{"a" 1}"#,
    r#"{a:1}"#,
    r#"{"a":1} x"#,
    r#"{"a":tru}"#,
    r#"{"a":nulll}"#,
    "\u{feff}{}",
    "",
];

/// The fields of an object as text: key, value, kind.
fn fields(text: &str) -> Result<Vec<(String, String, Kind)>, JsonError> {
    let mut fields = Vec::new();
    scan(text.as_bytes(), &mut fields)?;
    let shown = fields.iter().map(|field| {
        (
            text[field.key.range()].to_owned(),
            text[field.value.range()].to_owned(),
            field.kind,
        )
    });
    Ok(shown.collect())
}

/// The error of a text, as it would be logged.
fn error(text: &str) -> String {
    fields(text).unwrap_err().to_string()
}

#[test]
fn fields_are_ranges_of_the_text() {
    let expected = [
        ("s", r#""x y""#, Kind::String),
        ("i", "-12", Kind::Integer),
        ("f", "1.5E+3", Kind::Float),
        ("t", "true", Kind::Bool),
        ("z", "null", Kind::Null),
        ("a", "[1, [2]]", Kind::Array),
        ("o", r#"{"p":{}}"#, Kind::Object),
    ];
    let text = r#" { "s" : "x y", "i":-12,"f" :1.5E+3 ,"t":true,"z":null,"a":[1, [2]],
        "o":{"p":{}} } "#;
    let expected: Vec<_> = expected
        .iter()
        .map(|&(key, value, kind)| (key.into(), value.into(), kind))
        .collect();
    assert_eq!(fields(text), Ok(expected));
}

#[test]
fn escapes_are_flagged() {
    let text = br#"{"plain":"\n","k\u0065y":"plain","n":1}"#;
    let mut fields = Vec::new();
    scan(text, &mut fields).unwrap();
    let flags: Vec<_> = fields
        .iter()
        .map(|f| (f.key_escaped, f.value_escaped))
        .collect();
    assert_eq!(flags, [(false, true), (true, false), (false, false)]);
    assert_eq!(fields[1].content().of(text), b"plain");
    assert_eq!(fields[2].content().of(text), b"1");
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(error("[1]"), "not a JSON object at byte 0");
    assert_eq!(error("  "), "text ends too early at byte 2");
    assert_eq!(error(r#"{"a":1"#), "text ends too early at byte 6");
    assert_eq!(error(r#"{"a":1,}"#), "expected a key in quotes at byte 7");
    assert_eq!(error(r#"{"a":1}}"#), "more text after the value at byte 7");
    assert_eq!(error(r#"{"a":01}"#), "invalid number at byte 5");
    assert_eq!(error(r#"{"a":1e400}"#), "number out of range at byte 5");
    assert_eq!(
        error("{\"a\":\"\u{1}\"}"),
        "control character in a string at byte 6"
    );
    assert_eq!(
        error(r#"{"a":"\ud800"}"#),
        "lone surrogate in an escape at byte 12"
    );
    let mut none = Vec::new();
    let invalid = scan(b"{\"a\":\"x\xff\"}", &mut none).unwrap_err();
    assert_eq!(invalid.to_string(), "invalid UTF-8 at byte 7");
}

#[test]
fn duplicate_keys_are_all_listed_in_order() {
    let values: Vec<_> = fields(r#"{"a":1,"b":2,"a":3}"#)
        .unwrap()
        .into_iter()
        .map(|f| (f.0, f.1))
        .collect();
    assert_eq!(
        values,
        [("a", "1"), ("b", "2"), ("a", "3")].map(|(k, v)| (k.into(), v.into()))
    );
}

#[test]
fn fr_14_nesting_and_size_are_bounded() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [1, 126, 127, 128, 129] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            fuzz_entries::json(text.as_bytes());
            assert_eq!(
                validate(text.as_bytes()).is_ok(),
                depth <= usize::from(DEPTH_MAX)
            );
        }
        let bomb = open.repeat(1_000_000);
        assert_eq!(
            validate(bomb.as_bytes()).unwrap_err().what,
            "nested too deep"
        );
    }
    let body = vec![r#""":0"#; FIELDS_MAX].join(",");
    assert_eq!(fields(&format!("{{{body}}}")).unwrap().len(), FIELDS_MAX);
    assert_eq!(
        fields(&format!(r#"{{{body},"":0}}"#)).unwrap_err().what,
        "too many fields"
    );
    let key = "k".repeat(1 << 20);
    assert_eq!(
        fields(&format!(r#"{{"{key}":1}}"#)).unwrap()[0].0.len(),
        1 << 20
    );
    let many = format!("[{}1]", "1,".repeat(ELEMENTS_MAX));
    assert_eq!(
        elements(many.as_bytes(), &[]).unwrap_err().what,
        "too many elements"
    );
}

#[test]
fn the_verdict_is_serde_jsons_on_the_corpus_and_all_its_prefixes() {
    for text in CORPUS {
        for end in 0..=text.len() {
            fuzz_entries::json(&text.as_bytes()[..end]);
        }
    }
}

#[test]
fn the_verdict_is_serde_jsons_on_numbers_near_the_limit() {
    let mantissas = [
        "1",
        "17976931348623157",
        "17976931348623158",
        "1.7976931348623158079",
        "0.000179769313486231580793",
        "9",
        "18446744073709551615",
        "18446744073709551616",
        "184467440737095516160.5",
        "0",
        "0.0",
    ];
    for mantissa in mantissas {
        for exponent in (270..330).chain([2147483647, 2147483648, 99999999999_i64]) {
            for sign in ["", "+", "-"] {
                fuzz_entries::json(format!("[-{mantissa}e{sign}{exponent}]").as_bytes());
            }
        }
    }
    for digits in [279, 280, 281, 308, 309, 310, 400] {
        for first in ["1", "179769313486231580793", "9"] {
            let zeros = "0".repeat(digits - first.len());
            for tail in ["", ".5", "e-300", "e0", ".0e-1", "e1"] {
                fuzz_entries::json(format!("[{first}{zeros}{tail}]").as_bytes());
            }
        }
    }
}

#[test]
fn elements_of_an_array_at_a_path() {
    let text = br#" {"a":{"items":[1]},"a":{"b":0,"it\u0065ms":[ {"x":1} , "y",[] ]},"e":[]} "#;
    let at = |path: &[&str]| {
        elements(text, path).map(|spans| {
            let texts = spans
                .iter()
                .map(|span| std::str::from_utf8(span.of(text)).unwrap());
            texts.collect::<Vec<_>>()
        })
    };
    assert_eq!(at(&["a", "items"]), Ok(vec![r#"{"x":1}"#, r#""y""#, "[]"]));
    assert_eq!(at(&["e"]), Ok(vec![]));
    assert_eq!(
        at(&["f"]).unwrap_err().to_string(),
        "no such field at byte 0"
    );
    assert_eq!(
        at(&["a", "b"]).unwrap_err().to_string(),
        "not a JSON array at byte 29"
    );
    assert_eq!(
        at(&["e", "b"]).unwrap_err().to_string(),
        "not a JSON object at byte 70"
    );
    assert_eq!(
        at(&[]).unwrap_err().to_string(),
        "not a JSON array at byte 1"
    );
    assert_eq!(elements(b"[1, 2]", &[]).unwrap().len(), 2);
    assert_eq!(
        elements(b"[1,2", &[]).unwrap_err().to_string(),
        "text ends too early at byte 4"
    );
}

#[test]
fn unescape_never_fails() {
    let check = |content: &str, expected: &str| {
        let mut out = Vec::new();
        unescape(content.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{content}");
    };
    check(r#"a\"\\\/\b\f\n\r\tz"#, "a\"\\/\u{8}\u{c}\n\r\tz");
    check(r"\u00e9\ud83d\ude00\uD83D\uDE00", "é😀😀");
    check(r"\ud800 \udc00 \ud800\u0041", "\u{fffd} \u{fffd} \u{fffd}A");
    check(r"\x \u12", "\u{fffd}x \u{fffd}12");
    check("\\", "\u{fffd}");
}

#[test]
fn fr_10_any_bytes_become_a_json_string() {
    let check = |bytes: &[u8], expected: &str| {
        let mut out = b"=".to_vec();
        escape_into(bytes, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("={expected}"));
        fuzz_entries::escape(bytes);
    };
    check(b"", "");
    check(
        b"a\"\\\n\r\t\x08\x0c\x00\x1f\x7f",
        "a\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f\x7f",
    );
    check("e\u{2028}\u{10ffff}".as_bytes(), "e\u{2028}\u{10ffff}");
    check(b"\xff\xfe", "\u{fffd}\u{fffd}");
    check(b"\xc0\xaf\xed\xa0\x80", "\u{fffd}".repeat(5).as_str());
    check(b"cut \xf0\x9f\x98", "cut \u{fffd}");
    check(
        b"long enough for words \"quoted\" and \xe2\x82 more of it",
        "long enough for words \\\"quoted\\\" and \u{fffd} more of it",
    );
    let mut out = Vec::new();
    string_into(b"x\n", &mut out);
    assert_eq!(out, br#""x\n""#);
}

#[test]
fn kinds_of_single_values() {
    let kinds = ["null", "true", "0", "-1.0", "\"\"", "[]", " {} "]
        .map(|text| json::validate(text.as_bytes()).unwrap());
    let expected = [
        Kind::Null,
        Kind::Bool,
        Kind::Integer,
        Kind::Float,
        Kind::String,
        Kind::Array,
        Kind::Object,
    ];
    assert_eq!(kinds, expected);
}
