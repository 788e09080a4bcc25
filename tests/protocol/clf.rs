//! Access-log lines of Apache and nginx, and their times.
//!
//! Fields that a client writes (user, request, referer, agent) are tried with what would move
//! other fields if the parser believed it.

use marline::protocol::clf::{Field, Kind, parse, rfc3339_into, unescape, unix_seconds};

pub const CORPUS: &[&str] = &[
    r#"::2 - alice [23/Nov/2026:18:42:00 +0000] "GET /a?b HTTP/1.1" 200 51 "http://x/" "curl/8""#,
    r#"::1 - - [01/Jan/2026:00:00:00 -0130] "POST / HTTP/2.0" 304 -"#,
    r#"h - - [23/Nov/2026:18:42:00 +0000] "-" 408 - "-" "-" "10.0.0.1, 10.0.0.2""#,
    r#"h - a b] [x [23/Nov/2026:18:42:00 +0000] "GET /\"q\\ HTTP/1.1" 200 1 "-" "\x22""#,
    r#"h - - [23/Nov/2026:18:42:00 +0000] "\x16\x03\x01" 400 157 "" """#,
    r#"h - - [23/Nov/2026:18:42:00 +0000] "GET / HTTP/1.1" 200 1 "only referer""#,
    r#"h - - [23/Nov/2026:18:42:00 +0000] "GET /"#,
    "plain text",
    "",
];

fn fields(text: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    parse(text.as_bytes(), &mut fields).unwrap();
    fields
}

fn check(text: &str, expected: &[(&str, &str)]) {
    let found = fields(text);
    let shown: Vec<_> = found
        .iter()
        .map(|field| (field.name.as_str(), &text[field.value.range()]))
        .collect();
    assert_eq!(shown, expected, "{text}");
}

fn error(text: &str) -> String {
    parse(text.as_bytes(), &mut Vec::new())
        .unwrap_err()
        .to_string()
}

#[test]
fn combined_and_common() {
    check(
        CORPUS[0],
        &[
            ("host", "::2"),
            ("user", "alice"),
            ("timestamp", "23/Nov/2026:18:42:00 +0000"),
            ("method", "GET"),
            ("path", "/a?b"),
            ("protocol", "HTTP/1.1"),
            ("status", "200"),
            ("size", "51"),
            ("referer", "http://x/"),
            ("agent", "curl/8"),
        ],
    );
    check(
        CORPUS[1],
        &[
            ("host", "::1"),
            ("timestamp", "01/Jan/2026:00:00:00 -0130"),
            ("method", "POST"),
            ("path", "/"),
            ("protocol", "HTTP/2.0"),
            ("status", "304"),
        ],
    );
    let integers = fields(CORPUS[0])
        .into_iter()
        .filter(|field| field.kind == Kind::Integer);
    assert_eq!(
        integers
            .map(|field| field.name.as_str())
            .collect::<Vec<_>>(),
        ["status", "size"]
    );
}

#[test]
fn what_nginx_appends_is_extra() {
    check(
        CORPUS[2],
        &[
            ("host", "h"),
            ("timestamp", "23/Nov/2026:18:42:00 +0000"),
            ("status", "408"),
            ("extra", "\"10.0.0.1, 10.0.0.2\""),
        ],
    );
}

#[test]
fn client_text_moves_no_field() {
    check(
        CORPUS[3],
        &[
            ("host", "h"),
            ("user", "a b] [x"),
            ("timestamp", "23/Nov/2026:18:42:00 +0000"),
            ("method", "GET"),
            ("path", r#"/\"q\\"#),
            ("protocol", "HTTP/1.1"),
            ("status", "200"),
            ("size", "1"),
            ("agent", r"\x22"),
        ],
    );
    let escaped: Vec<_> = fields(CORPUS[3])
        .iter()
        .filter(|f| f.escaped)
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(escaped, ["path", "agent"]);
}

#[test]
fn a_request_that_is_none_stays_whole() {
    for request in [
        "",
        r"\x16\x03\x01",
        "GET /",
        "GET / HTTP/1.1 x",
        "GET /a b HTTP/1.1",
        "get / HTTP/1.1",
        "GET  HTTP/1.1",
        "GET / HTTP/",
        "GET / FTP/1.1",
    ] {
        let line = format!("h - - [t] \"{request}\" 400 0");
        check(
            &line,
            &[
                ("host", "h"),
                ("timestamp", "t"),
                ("request", request),
                ("status", "400"),
                ("size", "0"),
            ],
        );
    }
}

#[test]
fn errors_say_what_and_where() {
    let time = "[23/Nov/2026:18:42:00 +0000]";
    assert_eq!(error(""), "no request in quotes at byte 0");
    assert_eq!(
        error("h - - \"GET\""),
        "no time in brackets before the request at byte 6"
    );
    assert_eq!(error("h - -] \"GET\""), "no time in brackets at byte 0");
    assert_eq!(
        error("h - [t] \"GET\""),
        "expected host, ident and user before the time at byte 0"
    );
    assert_eq!(
        error(" - - [t] \"GET\" 1 1"),
        "empty host, ident or user at byte 0"
    );
    assert_eq!(
        error(&format!("h - - {time} \"GET")),
        "quote without end at byte 35"
    );
    assert_eq!(
        error("h - - [t] \"GET\"200 1"),
        "expected a space at byte 15"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 2x0 1"),
        "expected a number at byte 16"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 200"),
        "expected a space at byte 19"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 200 1234567890123456789"),
        "expected a number at byte 20"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 200 1 x"),
        "expected a quote at byte 22"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 200 1 \"r\""),
        "expected a space at byte 25"
    );
    assert_eq!(
        error("h - - [t] \"GET\" 200 1 \"r\" \"a\"x"),
        "expected a space at byte 29"
    );
}

/// Against the slow way: what stands up to the next blank is all digits, not too many, or a dash.
#[test]
fn a_number_is_digits_up_to_a_blank_or_a_dash() {
    let mut values: Vec<String> = vec![String::new()];
    for length in 0..4 {
        let of_length = |value: &&String| value.len() == length;
        let shorter: Vec<String> = values.iter().filter(of_length).cloned().collect();
        for value in shorter {
            values.extend(["0", "9", "-", "x", "/", ":"].map(|end| format!("{value}{end}")));
        }
    }
    values.extend((16..=20).map(|digits| "7".repeat(digits)));
    for value in values {
        let is_digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = (1..=18).contains(&value.len()) && is_digits;
        for after in ["", " \"r\" \"a\""] {
            let line = format!("h - - [t] \"GET\" 200 {value}{after}");
            let mut fields = Vec::new();
            let parsed = parse(line.as_bytes(), &mut fields);
            assert_eq!(parsed.is_ok(), is_number || value == "-", "{line}");
            let size = fields.iter().find(|field| field.name.as_str() == "size");
            let size = size.map(|field| field.value.of(line.as_bytes()));
            let expected = is_number.then_some(value.as_bytes());
            assert_eq!(size, expected, "{line}");
        }
    }
}

#[test]
fn escapes_of_both_servers() {
    let check = |value: &str, expected: &[u8]| {
        let mut out = Vec::new();
        unescape(value.as_bytes(), &mut out);
        assert_eq!(out, expected, "{value}");
    };
    check(r#"a\"b\\c\n\t\r\b\v"#, b"a\"b\\c\n\t\r\x08\x0b");
    check(r"\x22\xc3\xA9", b"\"\xc3\xa9");
    check(r"\x2 \xzz \q", br"\x2 \xzz \q");
    check("\\", b"\\");
}

#[test]
fn times_become_rfc_3339_in_utc() {
    let check = |time: &str, expected: &str| {
        let mut out = Vec::new();
        assert!(rfc3339_into(time.as_bytes(), &mut out), "{time}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check("23/Nov/2026:18:42:00 +0000", "2026-11-23T18:42:00.000000Z");
    check("23/Nov/2026:18:42:01 +0130", "2026-11-23T17:12:01.000000Z");
    check("31/Dec/2026:23:30:00 -0100", "2027-01-01T00:30:00.000000Z");
    check("01/Mar/2028:00:00:00 +0001", "2028-02-29T23:59:00.000000Z");
    check("30/Jun/2026:23:59:60 +0000", "2026-07-01T00:00:00.000000Z");
    check("01/Jan/0001:00:00:00 +2359", "0000-12-31T00:01:00.000000Z");
    assert_eq!(unix_seconds(b"01/Jan/1970:00:00:00 +0000"), Some(0));
    assert_eq!(
        unix_seconds(b"10/Oct/2000:13:55:36 -0700"),
        Some(971_211_336)
    );
}

#[test]
fn every_day_of_four_centuries_follows_the_one_before() {
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut expected = 0;
    for year in 1970..2370 {
        for (index, month) in months.iter().enumerate() {
            for day in 1..=31 {
                let time = format!("{day:02}/{month}/{year}:00:00:00 +0000");
                let Some(seconds) = unix_seconds(time.as_bytes()) else {
                    continue;
                };
                assert_eq!(seconds, expected, "{time}");
                let mut out = Vec::new();
                assert!(rfc3339_into(time.as_bytes(), &mut out));
                let shown = format!("{year}-{:02}-{day:02}T00:00:00.000000Z", index + 1);
                assert_eq!(String::from_utf8(out).unwrap(), shown);
                expected += 86_400;
            }
        }
    }
    assert_eq!(expected, 146_097 * 86_400, "days of 400 years");
}

#[test]
fn what_is_no_time_is_refused() {
    for time in [
        "",
        "-",
        "23/Nov/2026:18:42:00",
        "23/Nov/2026:18:42:00 +000",
        "23/Nov/2026:18:42:00 +00000",
        "23/Nov/2026:18:42:00 0000",
        "23/Nov/2026:18:42:00 +2400",
        "23/Nov/2026 18:42:00 +0000",
        "23-Nov-2026:18:42:00 +0000",
        "23/nov/2026:18:42:00 +0000",
        "31/Nov/2026:18:42:00 +0000",
        "29/Feb/2026:18:42:00 +0000",
        "00/Nov/2026:18:42:00 +0000",
        "23/Nov/0000:18:42:00 +0000",
        "23/Nov/9999:18:42:00 +0000",
        "23/Nov/2026:24:42:00 +0000",
        "23/Nov/2026:18:60:00 +0000",
        "23/Nov/2026:18:42:61 +0000",
        "23/Nov/2026:18:42:0x +0000",
    ] {
        let mut out = Vec::new();
        assert!(
            !rfc3339_into(time.as_bytes(), &mut out) && out.is_empty(),
            "{time}"
        );
    }
}
