//! Syslog messages: the examples of the RFCs, and what devices send.
//!
//! Expected is written as `format|priority|host|app|procid|msgid|structured data|text`, with
//! nothing for what is absent. `CORPUS` is cut at every byte and fuzzed, too.

use marline::protocol::syslog::{Format, Message, Priority, parse};

/// Message and what it is read as.
pub const CORPUS: &[(&str, &str)] = &[
    // RFC 5424, 6.5, examples 1 to 4.
    (
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed \
         for lonvick on /dev/pts/8",
        "rfc5424|34|mymachine.example.com|su||ID47||'su root' failed for lonvick on /dev/pts/8",
    ),
    (
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make \
         the do-nuts.",
        "rfc5424|165|192.0.2.1|myproc|8710|||%% It's time to make the do-nuts.",
    ),
    (
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
         [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"] \u{feff}An \
         application event log entry...",
        "rfc5424|165|mymachine.example.com|evntslog||ID47|[exampleSDID@32473 iut=\"3\" \
         eventSource=\"Application\" eventID=\"1011\"]|An application event log entry...",
    ),
    (
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
         [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"]\
         [examplePriority@32473 class=\"high\"]",
        "rfc5424|165|mymachine.example.com|evntslog||ID47|[exampleSDID@32473 iut=\"3\" \
         eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]|",
    ),
    // RFC 3164, 5.4, examples 1, 3 and 4; 2 has neither priority nor time.
    (
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        "rfc3164|34|mymachine|su||||'su root' failed for lonvick on /dev/pts/8",
    ),
    (
        "<165>Aug 24 05:34:00 CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.",
        "rfc3164|165|mymachine|myproc|10|||%% It's time to make the do-nuts.",
    ),
    (
        "<0>1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All!",
        "rfc3164|0|scapegoat.dmz.example.org|||||10.1.2.3 sched[0]: That's All!",
    ),
    // RFC 5424: everything absent, with and without a text.
    ("<0>1 - - - - - -", "rfc5424|0||||||"),
    ("<191>1 - - - - - - ", "rfc5424|191||||||"),
    ("<191>1 - - - - - -  x\r\n\0", "rfc5424|191|||||| x"),
    ("<191>1 - h a p m [x] - y", "rfc5424|191|h|a|p|m|[x]|- y"),
    (
        r#"<1>1 - - - - - [a b="\"\\\]]"  c="" ][meta sequenceId="7"] t"#,
        r#"rfc5424|1|||||[a b="\"\\\]]"  c="" ][meta sequenceId="7"]|t"#,
    ),
    ("<1>1 - h  p m - t", "rfc5424|1|h||p|m||t"),
    (
        "<1>1 2026-11-27T10:00:00 h a - - t",
        "rfc5424_no_data|1|h|a||||t",
    ),
    (
        "<1>1 - h a p m text [a]",
        "rfc5424_no_data|1|h|a|p|m||text [a]",
    ),
    (
        "<13>1 user logged in",
        "rfc3164_no_time|13||||||1 user logged in",
    ),
    (
        "<13>2 - h a p m - t",
        "rfc3164_no_time|13||||||2 - h a p m - t",
    ),
    // Cisco: IOS, IOS XR, NX-OS, ASA.
    (
        "<189>45: router1: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console",
        "cisco|189|router1|SYS||SYS-5-CONFIG_I||Configured from console",
    ),
    (
        "<189>29: 000045: .Mar  1 2026 18:48:50: %LINK-3-UPDOWN: Interface up",
        "cisco|189||LINK||LINK-3-UPDOWN||Interface up",
    ),
    (
        "<189>*Mar  1 18:48:50.483: %SYS-5-X: t",
        "cisco|189||SYS||SYS-5-X||t",
    ),
    (
        "<189>29: r1.example: %SEC_LOGIN-5-OK: t",
        "cisco|189|r1.example|SEC_LOGIN||SEC_LOGIN-5-OK||t",
    ),
    (
        "<189>2341: RP/0/RSP0/CPU0:Nov 27 10:00:00.123 UTC: config[65742]: %MGBL-SYS-5-I : t",
        "cisco|189|RP/0/RSP0/CPU0|config|65742|||%MGBL-SYS-5-I : t",
    ),
    (
        "<189>: 2026 Nov 27 10:00:00 UTC: %ETHPORT-5-IF_UP: Interface up",
        "cisco|189||ETHPORT||ETHPORT-5-IF_UP||Interface up",
    ),
    (
        "<166>Nov 27 2026 10:00:00 fw1 : %ASA-6-302013: Built outbound TCP",
        "cisco|166|fw1|ASA||ASA-6-302013||Built outbound TCP",
    ),
    (
        "<166>Nov 27 2026 10:00:00 fw1: %ASA-6-302013: t",
        "cisco|166|fw1|ASA||ASA-6-302013||t",
    ),
    (
        "<166>Nov 27 2026 10:00:00: %ASA-6-302013: t",
        "cisco|166||ASA||ASA-6-302013||t",
    ),
    (
        "<166>:Nov 27 10:00:00 fw1 %ASA-session-5-106100: t",
        "cisco|166|fw1|ASA||ASA-session-5-106100||t",
    ),
    ("<166>%ASA-6-302013: t", "cisco|166||ASA||ASA-6-302013||t"),
    // Firepower without a name; uptimes in place of a time; a controller's task.
    (
        "<113>2026-11-27T10:00:00Z  : %FTD-1-430003: t",
        "cisco|113||FTD||FTD-1-430003||t",
    ),
    (
        "<113>2026-11-27T10:00:00Z  %FTD-1-430003: t",
        "cisco|113||FTD||FTD-1-430003||t",
    ),
    (
        "<189>45: 00:00:46: %LINK-3-UPDOWN: t",
        "cisco|189||LINK||LINK-3-UPDOWN||t",
    ),
    (
        "<189>45: r1: 000046: 1w2d: %SYS-5-CONFIG_I: t",
        "cisco|189|r1|SYS||SYS-5-CONFIG_I||t",
    ),
    (
        "<134>wlc1: *apfTask_1: Nov 27 10:00:00.123: %APF-6-RADIUS: [PA]apf.c:1085 t",
        "cisco|134|wlc1|APF||APF-6-RADIUS||[PA]apf.c:1085 t",
    ),
    (
        "<134>app: *note: 2026-11-27 10:00:00 t",
        "rfc3164_no_time|134||app||||*note: 2026-11-27 10:00:00 t",
    ),
    ("<134>a: 1w2d: t", "rfc3164_no_time|134||a||||1w2d: t"),
    ("<134>1 00:00:46", "rfc3164_no_time|134||||||1 00:00:46"),
    // Fortinet, Juniper, VMware, AIX.
    (
        "<189>date=2026-11-27 time=10:00:00 devname=\"FGT\" logid=\"0000000013\"",
        "rfc3164_no_time|189||||||date=2026-11-27 time=10:00:00 devname=\"FGT\" \
         logid=\"0000000013\"",
    ),
    (
        "<28>Nov 27 10:00:00 mx1-re0 mib2d[3050]: SNMP_TRAP_LINK_DOWN: ifIndex 1",
        "rfc3164|28|mx1-re0|mib2d|3050|||SNMP_TRAP_LINK_DOWN: ifIndex 1",
    ),
    (
        "<28>Nov 27 10:00:00  mx1 fpc0 t",
        "rfc3164|28|mx1|||||fpc0 t",
    ),
    (
        "<28>Nov 27 10:00:00  rpd[7]: t",
        "rfc3164_no_host|28||rpd|7|||t",
    ),
    (
        "<6>Nov 27 10:00:00 mx1 /kernel: t",
        "rfc3164|6|mx1|/kernel||||t",
    ),
    (
        "<166>2026-11-27T10:00:00.123Z esx1.local Hostd: info hostd[2099] [x] t",
        "rfc3164_iso|166|esx1.local|Hostd||||info hostd[2099] [x] t",
    ),
    (
        "<13>Nov 27 10:00:00 Message forwarded from aix1: sshd[12]: t",
        "rfc3164|13|aix1|sshd|12|||t",
    ),
    (
        "<13>Nov 27 10:00:00 Message forwarded from ",
        "rfc3164|13|Message|||||forwarded from ",
    ),
    // Snare parts the host from its fields as it parts those from each other.
    (
        "<14>Nov 27 10:00:00 WIN1\tMSWinEventLog\t1\tSecurity",
        "rfc3164|14|WIN1|||||MSWinEventLog\t1\tSecurity",
    ),
    (
        "<14>Nov 27 10:00:00 text\twith tabs",
        "rfc3164_no_host|14||||||text\twith tabs",
    ),
    // Parts missing, and tags of all kinds.
    (
        "<86>Oct 11 22:14:15 h gdm-password]: t",
        "rfc3164|86|h|gdm-password||||t",
    ),
    ("<86>Oct 11 22:14:15 h a] b", "rfc3164|86|h|||||a] b"),
    ("<86>Oct 11 22:14:15 h a]:b", "rfc3164|86|h|||||a]:b"),
    (
        "<34>Oct 11 22:14:15 su: 'su root' failed",
        "rfc3164_no_host|34||su||||'su root' failed",
    ),
    (
        "<34>Oct 11 22:14:15 app[7]: t",
        "rfc3164_no_host|34||app|7|||t",
    ),
    (
        "<34>Oct  1 22:14:15 - app: t",
        "rfc3164_no_host|34||app||||t",
    ),
    ("<34>su: t", "rfc3164_no_time|34||su||||t"),
    ("<34>app[123]: t", "rfc3164_no_time|34||app|123|||t"),
    ("<34>app[123] t", "rfc3164_no_time|34||app|123|||t"),
    ("<34> t: x", "rfc3164_no_time|34|||||| t: x"),
    ("<34>t", "rfc3164_no_time|34||||||t"),
    ("<34>", "rfc3164_no_time|34||||||"),
    (
        "<34>myapp: 2026-11-27 10:00:00 t",
        "rfc3164_no_time|34||myapp||||2026-11-27 10:00:00 t",
    ),
    (
        "Oct 11 22:14:15 h app: t",
        "rfc3164_no_priority||h|app||||t",
    ),
    (
        "2026-11-27T10:00:00+01:00 h app[1]: t",
        "rfc3164_no_priority||h|app|1|||t",
    ),
    (
        "<22>Oct 11 22:14:15 h postfix/smtpd[1]: t",
        "rfc3164|22|h|postfix/smtpd|1|||t",
    ),
    (
        "<86>Oct 11 22:14:15 h CRON(pam_unix)[1]: t",
        "rfc3164|86|h|CRON(pam_unix)|1|||t",
    ),
    (
        "<30>Oct 11 22:14:15 h org.a.b-c@1.service[2]:t",
        "rfc3164|30|h|org.a.b-c@1.service|2|||t",
    ),
    (
        "<30>Oct 11 22:14:15 h app[a/b]: t",
        "rfc3164|30|h|app|a/b|||t",
    ),
    ("<30>Oct 11 22:14:15 h app[]: t", "rfc3164|30|h|app||||t"),
    ("<30>Oct 11 22:14:15 h app:", "rfc3164|30|h|app||||"),
    (
        "<30>Oct 11 22:14:15 192.0.2.1 app: t",
        "rfc3164|30|192.0.2.1|app||||t",
    ),
    (
        "<30>Oct 11 22:14:15 2001:db8::1 app: t",
        "rfc3164|30|2001:db8::1|app||||t",
    ),
    (
        "<30>Oct 11 22:14:15 FACE:b00c::1 app: t",
        "rfc3164|30|FACE:b00c::1|app||||t",
    ),
    (
        "<30>Oct 11 22:14:15 2001:db8:: app: t",
        "rfc3164|30|2001:db8::|app||||t",
    ),
    (
        "<30>Oct 11 22:14:15 [::1] app: t",
        "rfc3164|30|[::1]|app||||t",
    ),
    (
        "<11>Oct 11 22:14:15 [192.0.2.1] app: t",
        "rfc3164|11|[192.0.2.1]|app||||t",
    ),
    (
        "<11>Oct 11 22:14:15 [error] failed",
        "rfc3164_no_host|11||||||[error] failed",
    ),
    (
        "<13>Oct 11 22:14:15 [kern.uptime.filer:info] up 3 days",
        "rfc3164_no_host|13||||||[kern.uptime.filer:info] up 3 days",
    ),
    (
        "<30>Oct 11 22:14:15.123 UTC h app: t",
        "rfc3164|30|h|app||||t",
    ),
    (
        "<30>Oct 11 22:14:15 h http://x/ is up",
        "rfc3164|30|h|||||http://x/ is up",
    ),
    ("<30>Oct 11 22:14:15 h a::b c", "rfc3164|30|h|||||a::b c"),
    (
        "<30>Oct 11 22:14:15 h {\"a\": 1}",
        "rfc3164|30|h|||||{\"a\": 1}",
    ),
    (
        "<30>Oct 11 22:14:15 {\"a\": 1}",
        "rfc3164_no_host|30||||||{\"a\": 1}",
    ),
    (
        "<30>Oct 11 22:14:15 key=value x",
        "rfc3164_no_host|30||||||key=value x",
    ),
    (
        "<30>Oct 11 22:14:15 last message repeated 3 times",
        "rfc3164_no_host|30||||||last message repeated 3 times",
    ),
    (
        "<30>Oct 11 22:14:15 h last message repeated 3 times",
        "rfc3164|30|h|||||last message repeated 3 times",
    ),
    (
        "<46>Oct 11 22:14:15 -- MARK --",
        "rfc3164_no_host|46||||||-- MARK --",
    ),
    ("<30>Oct 11 22:14:15 word", "rfc3164_no_host|30||||||word"),
    ("<30>Oct 11 22:14:15", "rfc3164_no_host|30||||||"),
    ("<030>Oct 11 22:14:15 h app: t", "rfc3164|30|h|app||||t"),
];

/// Text, and what is said against it.
const REFUSED: &[(&str, &str)] = &[
    ("", "the message is empty at byte 0"),
    ("\r\n\0", "the message is empty at byte 0"),
    ("Use the BFG!", "neither a priority nor a time at byte 0"),
    ("<192>x", "the priority is beyond 191 at byte 1"),
    ("<999>x", "the priority is beyond 191 at byte 1"),
    ("<999999>x", "a priority has at most three digits at byte 1"),
    (
        "<2147483648>x",
        "a priority has at most three digits at byte 1",
    ),
    ("<0001>x", "a priority has at most three digits at byte 1"),
    ("<-1>x", "expected a priority in digits at byte 1"),
    ("<>x", "expected a priority in digits at byte 1"),
    ("<", "expected a priority in digits at byte 1"),
    ("<1", "expected `>` after the priority at byte 2"),
    ("<1x>", "expected `>` after the priority at byte 2"),
    ("<34>1 - ", "the header ends before the host at byte 8"),
    ("<34>1 - h", "the header ends before the host at byte 9"),
    (
        "<34>1 2003-10-11T22:14:15Z",
        "the header ends within the time at byte 26",
    ),
    (
        "<34>1 2003-13-11T22:14:15Z h a p m - t",
        "this is no time at byte 6",
    ),
    (
        "<34>1 2003-10-11T22:14:15Zx h a p m - t",
        "this is no time at byte 6",
    ),
    (
        "<34>1 2003-08-24T05:14:15.0000000003Z h a p m - t",
        "this is no time at byte 6",
    ),
    (
        "<34>1 - - - - ",
        "the header ends before the message id at byte 14",
    ),
    (
        "<34>1 - - - - - [a",
        "structured data without end at byte 18",
    ),
    (
        "<34>1 - - - - - [",
        "structured data without end at byte 17",
    ),
    (
        "<34>1 - - - - - []",
        "expected a name in structured data at byte 17",
    ),
    (
        "<34>1 - - - - - [a ",
        "structured data without end at byte 19",
    ),
    (
        "<34>1 - - - - - [a b]",
        "expected `=\"` after a name at byte 20",
    ),
    (
        "<34>1 - - - - - [a b=c]",
        "expected `=\"` after a name at byte 20",
    ),
    ("<34>1 - - - - - [a b=\"c]", "quote without end at byte 21"),
    (
        "<34>1 - - - - - [a b=\"c\\\"]",
        "quote without end at byte 21",
    ),
    (
        "<34>1 - - - - - [a b=\"c\"d=\"e\"]",
        "expected a blank between parameters at byte 24",
    ),
    (
        "<34>1 - - - - - [a]x",
        "expected a blank after the structured data at byte 19",
    ),
];

fn shown(text: &str, message: &Message) -> String {
    let priority = message.priority.map(|p| p.number().to_string());
    let parts = [
        message.host,
        message.app,
        message.procid,
        message.msgid,
        message.structured_data,
        message.message,
    ];
    let parts = parts.map(|part| part.map_or("", |span| &text[span.range()]));
    let format = message.format.as_str();
    format!(
        "{format}|{}|{}",
        priority.unwrap_or_default(),
        parts.join("|")
    )
}

#[test]
fn messages_of_the_rfcs_and_of_devices() {
    for (text, expected) in CORPUS {
        let message = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(shown(text, &message), *expected, "{text}");
    }
}

#[test]
fn every_format_is_in_the_corpus() {
    for format in Format::ALL {
        let start = format!("{}|", format.as_str());
        let mut expected = CORPUS.iter().map(|(_, expected)| expected);
        assert!(expected.any(|line| line.starts_with(&start)), "{format:?}");
    }
}

#[test]
fn what_is_no_message_says_why() {
    for (text, expected) in REFUSED {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), *expected, "{text}");
    }
}

#[test]
fn no_prefix_and_no_lost_byte_panics() {
    let texts = CORPUS
        .iter()
        .chain(REFUSED)
        .map(|(text, _)| text.as_bytes());
    for text in texts {
        for cut in 0..=text.len() {
            super::fuzz_entries::syslog(&text[..cut]);
            let mut lost = text.to_vec();
            lost.drain(cut.saturating_sub(1)..cut);
            super::fuzz_entries::syslog(&lost);
        }
    }
}

#[test]
fn sequence_numbers() {
    let check = |text: &str, expected| {
        assert_eq!(parse(text.as_bytes()).unwrap().sequence, expected, "{text}");
    };
    check(
        "<1>1 - - - - - [a x=\"y\"][meta sequenceId=\"29\"]",
        Some(29),
    );
    check(
        "<1>1 - - - - - [origin ip=\"::1\"][meta sequenceId=\"x\"]",
        None,
    );
    check("<1>1 - - - - - [a sequenceId=\"29\"]", None);
    check(
        "<1>1 - - - - - [meta sequenceId=\"1234567890123456789\"]",
        None,
    );
    check("<189>29: 000045: *Mar  1 18:48:50: %A-1-B: t", Some(45));
    check("<189>45: 00:00:46: %LINK-3-UPDOWN: t", Some(45));
    check("<189>00:00:46: %LINK-3-UPDOWN: t", None);
    check("<34>Oct 11 22:14:15 h app: 45: t", None);
}

#[test]
fn fields_beyond_their_maxima_are_whole_and_counted() {
    let long = "x".repeat(300);
    let text = format!("<34>1 - {long} {long} {long} {long} - t");
    let message = parse(text.as_bytes()).unwrap();
    assert_eq!((message.overlong, message.host.unwrap().len()), (4, 300));
    let text = format!("<34>Oct 11 22:14:15 h {}: t", &long[..49]);
    assert_eq!(parse(text.as_bytes()).unwrap().overlong, 1);
    assert_eq!(parse(CORPUS[0].0.as_bytes()).unwrap().overlong, 0);
}

#[test]
fn priorities_and_their_names() {
    for number in 0..=255u8 {
        let text = format!("<{number}>x");
        let message = parse(text.as_bytes());
        assert_eq!(message.is_ok(), number < 192, "{number}");
        let priority = Priority::new(number);
        assert_eq!(message.ok().and_then(|message| message.priority), priority);
        let Some(priority) = priority else { continue };
        assert_eq!(
            (priority.facility(), priority.severity()),
            (number / 8, number % 8)
        );
    }
    let named = |number| {
        let priority = Priority::new(number).unwrap();
        (priority.facility_name(), priority.severity_name())
    };
    assert_eq!(named(0), ("kern", "emerg"));
    assert_eq!(named(34), ("auth", "crit"));
    assert_eq!(named(165), ("local4", "notice"));
    assert_eq!(named(87), ("authpriv", "debug"));
    assert_eq!(named(191), ("local7", "debug"));
}
