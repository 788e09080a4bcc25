//! What each framer does, line by line of the conformance and fault lists.
//!
//! Delimiter CR LF and a limit of 4 bytes, unless a test says otherwise. Over the limit lines
//! and octet counts truncate; netstrings and binary lengths close the connection.

use bytes::Bytes;
use marline::protocol::{End, FrameError, Framer, Frames, Framing, Mark, framer};

use super::harness::{Outcome, cut, feed, feed_whole};

/// The frames of a stream that is pushed at once and ends in order, and which of them are
/// truncated, shown by a `+` behind them.
fn check(kind: Framing, max: usize, stream: impl AsRef<[u8]>, expected: &[&str]) -> Outcome {
    let outcome = feed_whole(kind, max, stream.as_ref());
    let shown: Vec<String> = outcome
        .frames
        .iter()
        .map(|(bytes, marks)| {
            let plus = if marks.contains(&Mark::Truncated) {
                "+"
            } else {
                ""
            };
            format!("{}{plus}", String::from_utf8_lossy(bytes))
        })
        .collect();
    assert_eq!(
        shown,
        expected,
        "{kind} of {:?}",
        stream.as_ref().escape_ascii().to_string()
    );
    outcome
}

/// The error that a stream ends with, and the frames before it.
fn check_error(kind: Framing, max: usize, stream: &str, frames: &[&str], error: FrameError) {
    let outcome = check(kind, max, stream, frames);
    assert_eq!(outcome.error, Some(error), "{kind} of {stream:?}");
}

fn push(framer: &mut dyn Framer, bytes: &[u8]) -> Outcome {
    let mut frames = Frames::new();
    framer.push(Bytes::copy_from_slice(bytes), &mut frames);
    let mut outcome = Outcome::default();
    outcome.add(&frames);
    outcome
}

#[test]
fn c_337_five_lines_in_chunks_of_any_size() {
    let stream = b"one\r\ntwo\r\nthre\r\nfour\r\nfive\r\n";
    for size in 1..=10 {
        let lines = feed(Framing::Lines, 4, stream.chunks(size), End::Clean);
        assert_eq!(
            lines.texts(),
            ["one", "two", "thre", "four", "five"],
            "chunks of {size}"
        );
    }
}

#[test]
fn c_338_cr_ends_a_chunk_and_lf_begins_the_next() {
    let mut lines = framer(Framing::Lines, 4);
    assert_eq!(push(&mut *lines, b"abc\r").texts(), [""; 0]);
    assert_eq!(push(&mut *lines, b"\nxyz").texts(), ["abc"]);
}

#[test]
fn c_339_a_line_of_exactly_the_limit_passes() {
    check(Framing::Lines, 4, "abcd\r\n", &["abcd"]);
    check(Framing::Lines, 4, "abcd\n", &["abcd"]);
    check(Framing::Nul, 4, "abcd\0", &["abcd"]);
}

#[test]
fn c_341_the_limit_and_half_a_delimiter_decide_nothing() {
    let mut lines = framer(Framing::Lines, 4);
    assert_eq!(push(&mut *lines, b"abcd\r"), Outcome::default());
    assert_eq!(lines.pending_bytes(), 5);
    let over = push(&mut *lines, b"e");
    assert_eq!(over.frames, [(b"abcd".to_vec(), vec![Mark::Truncated])]);
    assert_eq!(over.skipped_bytes, 2);
    assert_eq!(lines.pending_bytes(), 0);
}

#[test]
fn c_342_over_the_limit_the_closing_framings_give_nothing_more() {
    let error = FrameError::TooLong { max: 4 };
    check_error(
        Framing::Netstring,
        4,
        "3:abc,5:abcde,1:x,",
        &["abc"],
        error.clone(),
    );
    let stream = "\0\0\0\x03abc\0\0\0\x05abcde\0\0\0\x01x";
    check_error(Framing::LengthU32, 4, stream, &["abc"], error);
}

#[test]
fn c_343_after_an_error_later_bytes_are_never_parsed() {
    for (kind, broken, good) in [
        (Framing::Netstring, "9:", "1:x,"),
        (Framing::LengthU32, "\x7f\0\0\0", "\0\0\0\x01x"),
        (Framing::OctetCounted, "x", "1 x"),
    ] {
        let mut framer = framer(kind, 4);
        assert!(
            push(&mut *framer, broken.as_bytes()).error.is_some(),
            "{kind}"
        );
        for _ in 0..3 {
            assert_eq!(
                push(&mut *framer, good.as_bytes()),
                Outcome::default(),
                "{kind}"
            );
        }
        let mut frames = Frames::new();
        framer.finish(End::Clean, &mut frames);
        framer.push(Bytes::copy_from_slice(good.as_bytes()), &mut frames);
        assert!(frames.is_empty() && framer.pending_bytes() == 0, "{kind}");
    }
}

#[test]
fn c_344_empty_lines_are_counted_and_make_no_frame() {
    assert_eq!(check(Framing::Lines, 4, "\r\n\r\n", &[]).empty, 2);
    assert_eq!(check(Framing::Nul, 4, "\0\0a\0", &["a"]).empty, 2);
}

#[test]
fn c_346_a_partial_line_at_the_end_is_reported() {
    let clean = feed(Framing::Lines, 4, [&b"one\r\nab"[..]], End::Clean);
    assert_eq!(clean.frames[1], (b"ab".to_vec(), vec![]));
    let cut = feed(
        Framing::Lines,
        4,
        [&b"one\r\nab"[..]],
        End::Cut("reset by peer"),
    );
    assert_eq!(
        cut.frames[1],
        (b"ab".to_vec(), vec![Mark::Incomplete("reset by peer")])
    );
    assert_eq!(cut.frames[0].1, []);
}

#[test]
fn c_347_raw_bytes_behind_a_line_go_to_the_caller_in_the_same_call() {
    let mut lines = framer(Framing::Lines, 100);
    let mut frames = Frames::new();
    let rest = lines.push_up_to(Bytes::from("raw 4\r\n\r\n\0\nafter\n"), &mut frames, 1);
    assert_eq!(frames.iter().collect::<Vec<_>>(), [b"raw 4"]);
    assert_eq!(rest, "\r\n\0\nafter\n");
}

#[test]
fn c_348_bytes_left_of_raw_mode_are_parsed_before_the_next_chunk() {
    let mut lines = framer(Framing::Lines, 100);
    let mut frames = Frames::new();
    let mut rest = lines.push_up_to(Bytes::from("raw 4\r\n\r\n\0\nafter\nhal"), &mut frames, 1);
    frames.clear();
    assert_eq!(rest.split_to(4), "\r\n\0\n");
    lines.push(rest, &mut frames);
    lines.push(Bytes::from("f\n"), &mut frames);
    assert_eq!(frames.iter().collect::<Vec<_>>(), [&b"after"[..], b"half"]);
}

#[test]
fn c_349_ten_thousand_changes_of_mode_in_one_chunk() {
    let mut lines = framer(Framing::Lines, 100);
    let mut frames = Frames::new();
    let mut rest = Bytes::from("line\r\nRAW".repeat(10_000));
    for _ in 0..10_000 {
        rest = lines.push_up_to(rest, &mut frames, 1);
        assert_eq!(frames.iter().collect::<Vec<_>>(), [b"line"]);
        frames.clear();
        assert_eq!(rest.split_to(3), "RAW");
    }
    assert!(rest.is_empty());
}

#[test]
fn c_351_a_caller_that_closes_gets_no_further_line() {
    let mut lines = framer(Framing::Lines, 100);
    let mut frames = Frames::new();
    let rest = lines.push_up_to(Bytes::from("close\r\nmore\r\nand mo"), &mut frames, 1);
    assert_eq!(frames.iter().collect::<Vec<_>>(), [b"close"]);
    drop((lines, rest));
    assert_eq!(frames.len(), 1);
}

#[test]
fn c_352_a_caller_that_fails_on_the_second_line_never_sees_the_third() {
    let mut lines = framer(Framing::Lines, 100);
    let mut frames = Frames::new();
    let rest = lines.push_up_to(Bytes::from("one\r\ntwo\r\nthree\r\n"), &mut frames, 2);
    assert_eq!(frames.iter().collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(rest, "three\r\n");
}

#[test]
fn c_353_the_unparsed_rest_can_be_taken() {
    for kind in [Framing::Lines, Framing::Auto, Framing::Nul, Framing::Whole] {
        let mut framer = framer(kind, 100);
        let mut frames = Frames::new();
        framer.push(Bytes::from("upgra"), &mut frames);
        assert_eq!(framer.take_pending(), "upgra", "{kind}");
        assert_eq!(
            (framer.pending_bytes(), framer.take_pending()),
            (0, Bytes::new()),
            "{kind}"
        );
    }
    let mut auto = framer(Framing::Auto, 100);
    push(&mut *auto, b"12 <");
    assert_eq!(auto.take_pending(), "12 <");
    push(&mut *auto, b"12 <34>ab");
    assert_eq!(auto.take_pending(), "<34>ab");
    let mut counted = framer(Framing::OctetCounted, 100);
    push(&mut *counted, b"12 <34>ab");
    assert_eq!(counted.take_pending(), "<34>ab");
    assert_eq!(push(&mut *counted, b"1 x").texts(), ["x"]);
}

#[test]
fn c_354_short_lines_take_linear_time() {
    // Work is counted in bytes copied: a line inside its chunk is a range, and nothing is copied.
    let chunk = Bytes::from(b"x\n".repeat(1 << 19));
    let mut lines = framer(Framing::Lines, 4);
    let mut frames = Frames::new();
    lines.push(chunk.clone(), &mut frames);
    assert_eq!((frames.len(), frames.runs.len()), (1 << 19, 1));
    assert_eq!(frames.runs[0].bytes.as_ptr(), chunk.as_ptr());
    assert_eq!(lines.pending_bytes(), 0);
}

#[test]
fn c_356_netstrings_in_any_split() {
    let stream = b"5:hello,0:,3:abc,";
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = cut(stream, &[first, second]);
            let outcome = feed(Framing::Netstring, 5, pieces, End::Clean);
            assert_eq!(
                (outcome.texts(), outcome.empty),
                (vec!["hello".into(), "abc".into()], 1)
            );
        }
    }
}

#[test]
fn c_357_a_broken_netstring_closes_at_its_first_wrong_byte() {
    let after = |found| FrameError::AfterCount {
        expected: b':',
        found,
    };
    for (stream, error) in [
        ("05", FrameError::LeadingZero),
        ("00", FrameError::LeadingZero),
        ("5x", after(b'x')),
        ("5 ", after(b' ')),
        (":", FrameError::CountStart(b':')),
        ("-", FrameError::CountStart(b'-')),
        ("5:hello;", FrameError::MissingComma(b';')),
        ("0:x", FrameError::MissingComma(b'x')),
    ] {
        check_error(Framing::Netstring, 100, stream, &[], error);
        let (good, _) = stream.split_at(stream.len() - 1);
        assert_eq!(
            push(&mut *framer(Framing::Netstring, 100), good.as_bytes()).error,
            None
        );
    }
}

#[test]
fn c_358_a_netstring_over_the_limit_is_refused_before_its_payload() {
    let mut netstring = framer(Framing::Netstring, 99_999);
    assert_eq!(push(&mut *netstring, b"99999:").error, None);
    let mut netstring = framer(Framing::Netstring, 99_999);
    let refused = push(&mut *netstring, b"100000:");
    assert_eq!(refused.error, Some(FrameError::TooLong { max: 99_999 }));
    assert_eq!(netstring.pending_bytes(), 0);
    let digits = "9".repeat(1000);
    check_error(
        Framing::Netstring,
        5,
        &digits,
        &[],
        FrameError::TooLong { max: 5 },
    );
}

#[test]
fn c_359_binary_lengths_in_any_split() {
    let stream = b"\0\0\0\x05hello\0\0\0\0\0\0\0\x03abc";
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = cut(stream, &[first, second]);
            let outcome = feed(Framing::LengthU32, 5, pieces, End::Clean);
            assert_eq!(
                (outcome.texts(), outcome.empty),
                (vec!["hello".into(), "abc".into()], 1)
            );
        }
    }
}

#[test]
fn c_362_another_framing_takes_over_in_the_middle_of_a_chunk() {
    let mut frames = Frames::new();
    let stream = Bytes::from(&b"\0\0\0\x03abc5:hello,GET\r\n3 xyz"[..]);
    let rest = framer(Framing::LengthU32, 9).push_up_to(stream, &mut frames, 1);
    let rest = framer(Framing::Netstring, 9).push_up_to(rest, &mut frames, 1);
    let rest = framer(Framing::Lines, 9).push_up_to(rest, &mut frames, 1);
    framer(Framing::OctetCounted, 9).push(rest, &mut frames);
    let texts: Vec<_> = frames
        .iter()
        .map(|frame| frame.escape_ascii().to_string())
        .collect();
    assert_eq!(texts, ["abc", "hello", "GET", "xyz"]);
}

#[test]
fn fr_01_to_03_counts_that_would_wrap_close() {
    let large = FrameError::CountTooLarge;
    check_error(
        Framing::OctetCounted,
        99,
        "18446744073709551616 <34>x",
        &[],
        large.clone(),
    );
    for digit in 0..=9 {
        let stream = format!("1844674407370955161{digit} <34>x");
        check_error(Framing::OctetCounted, 99, &stream, &[], large.clone());
    }
    for count in ["4294967296", "9999999999"] {
        let stream = format!("{count} <34>x");
        check_error(Framing::OctetCounted, 99, &stream, &[], large.clone());
    }
    check_error(
        Framing::OctetCounted,
        99,
        "4294967297 <34>x",
        &[],
        large.clone(),
    );
    check_error(
        Framing::OctetCounted,
        99,
        "9223372036854775808 ",
        &[],
        large,
    );
    let most = check(Framing::OctetCounted, 4, "4294967295 <34>x", &["<34>+"]);
    assert_eq!((most.error, most.skipped_bytes), (None, 1));
}

#[test]
fn fr_04_counts_that_rfc_6587_does_not_know_close() {
    let after = |found| FrameError::AfterCount {
        expected: b' ',
        found,
    };
    for (stream, error) in [
        ("0 <34>x", FrameError::LeadingZero),
        ("00000007 <34>abc", FrameError::LeadingZero),
        ("+7 <34>abc", FrameError::CountStart(b'+')),
        (" 7 <34>abc", FrameError::CountStart(b' ')),
        ("7\t<34>abc", after(b'\t')),
        ("7<34>abc", after(b'<')),
    ] {
        check_error(Framing::OctetCounted, 99, stream, &[], error);
    }
}

#[test]
fn fr_05_a_count_that_ends_inside_the_message_never_merges() {
    let error = FrameError::CountStart(b'b');
    check_error(
        Framing::OctetCounted,
        99,
        "5 <34>abc7 <34>xyz",
        &["<34>a"],
        error,
    );
    check(
        Framing::Auto,
        99,
        "5 <34>abc\n7 <34>xyz",
        &["<34>a", "bc", "<34>xyz"],
    );
}

#[test]
fn fr_06_digits_without_end_close_after_ten() {
    let mut counted = framer(Framing::OctetCounted, 99);
    for _ in 0..10 {
        assert_eq!(push(&mut *counted, b"1"), Outcome::default());
    }
    assert_eq!(
        push(&mut *counted, b"1").error,
        Some(FrameError::CountTooLarge)
    );
}

#[test]
fn fr_07_the_rest_of_a_long_message_is_skipped_exactly() {
    let stream = format!("100000 <34>{}3 abc", "x".repeat(100_000 - 4));
    for size in [1, 7, 4096, 99_999, 100_000, 1 << 20] {
        let pieces = stream.as_bytes().chunks(size);
        let outcome = feed(Framing::OctetCounted, 6, pieces, End::Clean);
        assert_eq!(outcome.texts(), ["<34>xx", "abc"], "chunks of {size}");
        assert_eq!(
            (outcome.skipped_bytes, outcome.frames[0].1[0]),
            (99_994, Mark::Truncated)
        );
    }
}

#[test]
fn fr_08_octet_counting_and_lines_are_told_apart_frame_by_frame() {
    check(
        Framing::Auto,
        99,
        "<34>a\n7 <34>abc<34>b\n",
        &["<34>a", "<34>abc", "<34>b"],
    );
    check(
        Framing::Auto,
        99,
        "7 <34>abc\n7 <34>def\n",
        &["<34>abc", "<34>def"],
    );
}

#[test]
fn auto_takes_text_that_begins_with_digits_for_text() {
    for text in [
        "2026-11-23 hello",
        "42 apples",
        "12 <b>bold</b>",
        "7",
        "7 ",
        "7 <",
        "07 <34>abc",
        "2 <3 is true",
        "18446744073709551616 <34>x",
        "12345678901 <34>x",
        "4294967296 <34>x",
    ] {
        check(
            Framing::Auto,
            99,
            format!("{text}\nnext\n"),
            &[text, "next"],
        );
        check(Framing::Auto, 99, text, &[text]);
    }
}

#[test]
fn fr_09_f_072_a_line_without_end_is_bounded() {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    for kind in [Framing::Lines, Framing::Auto, Framing::Nul, Framing::Whole] {
        let mut framer = framer(kind, 65_536);
        let mut frames = Frames::new();
        let mut outcome = Outcome::default();
        for _ in 0..1024 {
            framer.push(chunk.clone(), &mut frames);
            outcome.add(&frames);
            frames.clear();
            assert!(framer.pending_bytes() <= 65_537, "{kind}");
        }
        framer.finish(End::Cut("time limit"), &mut frames);
        outcome.add(&frames);
        assert_eq!(
            (outcome.frames.len(), outcome.frames[0].0.len()),
            (1, 65_536),
            "{kind}"
        );
        assert!(outcome.frames[0].1.contains(&Mark::Truncated), "{kind}");
        assert_eq!(outcome.skipped_bytes, (1 << 30) - 65_536, "{kind}");
    }
}

#[test]
fn fr_10_f_073_any_bytes_come_through_unchanged() {
    let odd: [&[u8]; 7] = [
        b"\r",
        b"a\rb",
        b"\0",
        "\u{2028}\u{feff}".as_bytes(),
        b"\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
    ];
    for bytes in odd {
        let stream = [bytes, b"x\n"].concat();
        let outcome = feed(Framing::Lines, 99, stream.chunks(1), End::Clean);
        assert_eq!(outcome.frames, [([bytes, b"x"].concat(), vec![])]);
    }
    assert_eq!(
        check(Framing::Lines, 99, "\r\n\0\n\n\n\n", &["\0"]).empty,
        4
    );
}

#[test]
fn fr_12_f_063_a_frame_that_the_end_cuts_is_never_silent() {
    let reset = End::Cut("reset by peer");
    let inside = Mark::Incomplete("the stream ended inside a counted frame");
    for (kind, stream) in [
        (Framing::OctetCounted, "3 abc9 <34>d"),
        (Framing::Netstring, "3:abc,9:<34>d"),
        (Framing::LengthU32, "\0\0\0\x03abc\0\0\0\x09<34>d"),
    ] {
        let stream = stream.as_bytes();
        for end in 0..=stream.len() {
            let cut = feed(kind, 99, [&stream[..end]], reset);
            let clean = feed(kind, 99, [&stream[..end]], End::Clean);
            let whole = usize::from(cut.frames.first().is_some_and(|f| f.1.is_empty()));
            for (outcome, mark) in [(&cut, Mark::Incomplete("reset by peer")), (&clean, inside)] {
                let parts = &outcome.frames[whole..];
                assert!(
                    parts.iter().all(|(_, marks)| *marks == [mark]),
                    "{kind} {end}"
                );
                let told = outcome.frames.len() as u64 + outcome.skipped_bytes + outcome.empty;
                assert_eq!(told == 0, end == 0, "{kind} {end} {outcome:?}");
            }
        }
    }
}

#[test]
fn f_074_ten_million_empty_lines_make_no_frame() {
    let chunk = Bytes::from(vec![b'\n'; 100_000]);
    let mut lines = framer(Framing::Lines, 99);
    let mut frames = Frames::new();
    for _ in 0..100 {
        lines.push(chunk.clone(), &mut frames);
    }
    assert_eq!(
        (frames.empty, frames.len(), frames.runs.capacity()),
        (10_000_000, 0, 0)
    );
}

#[test]
fn f_076_a_datagram_is_a_frame() {
    let mut datagram = framer(Framing::Datagram, 4);
    assert_eq!(push(&mut *datagram, b"").empty, 1);
    assert_eq!(push(&mut *datagram, b"\n").empty, 1);
    for whole in ["a", "a\nb", "abcd", "abcd\n", "abcd\r\n"] {
        let outcome = push(&mut *datagram, whole.as_bytes());
        assert_eq!(
            outcome.frames,
            [(whole.trim_end().as_bytes().to_vec(), vec![])]
        );
    }
    let over = push(&mut *datagram, &[b'x'; 65_507]);
    assert_eq!(over.frames, [(b"xxxx".to_vec(), vec![Mark::Truncated])]);
    assert_eq!(over.skipped_bytes, 65_503);
}

#[test]
fn whole_carries_both_marks() {
    let pieces = || [&b"abc"[..], b"", b"def"];
    let clean = feed(Framing::Whole, 6, pieces(), End::Clean);
    assert_eq!(clean.frames, [(b"abcdef".to_vec(), vec![])]);
    let cut = feed(Framing::Whole, 5, pieces(), End::Cut("time limit"));
    let marks = vec![Mark::Incomplete("time limit"), Mark::Truncated];
    assert_eq!(
        (cut.frames, cut.skipped_bytes),
        (vec![(b"abcde".to_vec(), marks)], 1)
    );
    assert_eq!(feed(Framing::Whole, 5, [], End::Clean).empty, 1);
}

#[test]
fn frames_inside_a_chunk_are_not_copied_and_allocations_are_reused() {
    let chunk = Bytes::from("one\ntwo\nthr");
    let mut lines = framer(Framing::Lines, 99);
    let mut frames = Frames::new();
    lines.push(chunk.clone(), &mut frames);
    let run = frames.take_runs().next().unwrap();
    assert_eq!((run.bytes.as_ptr(), run.spans.len()), (chunk.as_ptr(), 2));
    let spans = run.spans.as_ptr();
    frames.recycle(run.spans);
    lines.push(Bytes::from("ee\nfour\n"), &mut frames);
    assert_eq!(frames.iter().collect::<Vec<_>>(), [&b"three"[..], b"four"]);
    assert_eq!(frames.runs[1].spans.as_ptr(), spans);
}

#[test]
fn clearing_lets_go_of_the_chunk() {
    let chunk = Bytes::from(b"one\ntwo\nthr".to_vec());
    let mut lines = framer(Framing::Lines, 99);
    let mut frames = Frames::new();
    lines.push(chunk.clone(), &mut frames);
    assert!(!chunk.is_unique());
    frames.clear();
    assert!(chunk.is_unique());
    assert_eq!(lines.pending_bytes(), 3);
}

#[test]
fn an_idle_framer_is_small() {
    for kind in Framing::ALL {
        let mut framer = framer(kind, 65_536);
        assert!(
            size_of_val(&*framer) < 100,
            "{kind}: {} bytes",
            size_of_val(&*framer)
        );
        push(&mut *framer, b"3 <1>");
        assert!(framer.pending_bytes() <= 5, "{kind}");
    }
}

#[test]
fn framings_have_names() {
    for kind in Framing::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    let error = "line".parse::<Framing>().unwrap_err().to_string();
    assert!(
        error.starts_with("unknown framing, expected one of auto, lines, nul,"),
        "{error}"
    );
}

#[test]
fn errors_say_what_the_peer_did() {
    let shown = |stream: &str, kind| feed_whole(kind, 9, stream.as_bytes()).error.unwrap();
    let text = shown("\u{1b}", Framing::OctetCounted).to_string();
    assert_eq!(text, "frame does not start with a count, found byte 0x1b");
    let text = shown("7x", Framing::OctetCounted).to_string();
    assert_eq!(text, "count is followed by 'x', not by ' '");
    let text = shown("10:", Framing::Netstring).to_string();
    assert_eq!(text, "frame is longer than max_message (9 bytes)");
    let text = shown("1:ab", Framing::Netstring).to_string();
    assert_eq!(text, "netstring ends with 'b', not with ','");
}
