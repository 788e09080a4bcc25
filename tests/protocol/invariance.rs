//! The same answer however a stream is cut, and the answer of the slow twin.
//!
//! Every framing, limit, stream and end in combination: whole, one frame at a time, cut at
//! every offset into two and three, byte by byte; then long streams with random cuts by seed.

use bytes::Bytes;
use marline::protocol::{End, Frames, Framing, framer};

use super::harness::{Random, cut, feed, feed_leaving_uncut, feed_one_by_one};
use super::reference::reference;

/// Streams with everything that a framer distinguishes; every framer gets all of them.
pub const CORPUS: &[&[u8]] = &[
    b"",
    b"hello\nworld\n",
    b"abcd\r\nab\rcd\r\n\r\n\n\r\r\nabcde\r\nabcdefgh\r\r\nx",
    b"abcd\r",
    b"abcdefgh\r\r",
    b"\r",
    b"a\0b\0\0abcdefgh\0\r\0tail",
    b"7 <34>abc4 <1>x10 <34>abcdef5 <34>abc",
    b"<34>a\n7 <34>abc<34>b\n12 apples\n2026-11-23 hello\n3 <0>\n\n2 <34>x\n",
    b"7 <34>abc\n7 <34>abc\n12",
    b"4294967297 <34>x\n12345678901 <3>y\n0 <34>x\n07 <34>abc",
    b"123456789 <34>a message that is announced far longer than it is",
    b"18446744073709551616 <34>x",
    b"+7 <34>abc",
    b"5:hello,0:,3:abc,05:hello,",
    b"5:hello;3:abc,",
    b"3:a\nc,6:123456,9:123456789,",
    b"5:hel",
    b"\0\0\0\x05hello\0\0\0\0\0\0\0\x01x\0\0\0\x03ab",
    b"\0\0\0\x08abcdefgh\0\0\0\x09abcdefghi",
    b"\xff\xfe\xc0\xaf\xed\xa0\x80\n\xe2\x80\xa8\n\xf0\x9f\x98\x80\n",
    b"\n\n\n\r\n\r\n\n",
];

/// Limits that are below, at and above the lengths in the corpus.
pub const LIMITS: &[usize] = &[1, 3, 4, 5, 8, 100];

pub const ENDS: &[End] = &[End::Clean, End::Cut("reset by peer")];

/// Framings whose answer must not depend on the cuts; a datagram is its own cut.
fn streams() -> impl Iterator<Item = Framing> {
    Framing::ALL
        .into_iter()
        .filter(|&kind| kind != Framing::Datagram)
}

/// Calls `check` with every framing, limit, stream and end.
fn each_case(mut check: impl FnMut(Framing, usize, &'static [u8], End)) {
    for kind in streams() {
        for &max in LIMITS {
            for &stream in CORPUS {
                for &end in ENDS {
                    check(kind, max, stream, end);
                }
            }
        }
    }
}

#[test]
fn the_whole_stream_gives_what_the_reference_gives() {
    each_case(|kind, max, stream, end| {
        let expected = reference(kind, max, stream, end);
        let case = format!(
            "{kind} {max} {end:?} {:?}",
            stream.escape_ascii().to_string()
        );
        assert_eq!(feed(kind, max, [stream], end), expected, "{case}");
        assert_eq!(
            feed_one_by_one(kind, max, stream, end),
            expected,
            "one by one: {case}"
        );
    });
}

#[test]
fn fr_11_every_cut_into_two_and_three_and_byte_by_byte() {
    each_case(|kind, max, stream, end| {
        let expected = reference(kind, max, stream, end);
        let check = |pieces: Vec<&[u8]>| {
            let got = feed(kind, max, pieces.iter().copied(), end);
            assert_eq!(got, expected, "{kind} {max} {end:?} {pieces:?}");
        };
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                check(cut(stream, &[first, second]));
            }
        }
        check(stream.chunks(1).collect());
    });
}

/// Mostly plain lines, enough of them to be left uncut, and here and there something else.
fn mostly_plain(random: &mut Random) -> Vec<u8> {
    let (odds, kinds) = (1 + random.below(2000), 1 + random.below(4));
    let mut stream = Vec::new();
    while stream.len() < 40_000 {
        if random.below(odds) == 0 {
            stream.extend_from_slice(CORPUS[random.below(CORPUS.len())]);
        }
        // Dates begin with digits; a count takes a bracket, too.
        let starts: [&[u8]; 4] = [b"x", b"<34>", b"2026-11-27 ", b"a <b "];
        stream.extend_from_slice(starts[random.below(kinds)]);
        let length = random.below(120);
        stream.extend((0..length).map(|at| b'a' + (at % 26) as u8));
        stream.push(b'\n');
    }
    stream
}

#[test]
fn lines_that_are_left_uncut_are_the_same_lines() {
    let (mut uncut, mut pushes) = (0, 0);
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let stream = mostly_plain(&mut random);
        for kind in [Framing::Auto, Framing::Lines, Framing::Nul] {
            for max in [100, 130, 100_000] {
                let expected = reference(kind, max, &stream, End::Clean);
                let offsets = random.offsets(stream.len(), 4);
                let pieces = cut(&stream, &offsets);
                pushes += pieces.len();
                let (got, some) = feed_leaving_uncut(kind, max, pieces);
                assert!(
                    got == expected,
                    "seed {seed}, {kind}, max {max}, cut at {offsets:?}"
                );
                uncut += some;
            }
        }
    }
    // Both ways are taken, and often.
    assert!(
        uncut > pushes / 20 && uncut < pushes / 2,
        "{uncut} of {pushes}"
    );
}

#[test]
fn fr_11_random_cuts_of_long_streams() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let stream: Vec<u8> = (0..60)
            .flat_map(|_| CORPUS[random.below(CORPUS.len())])
            .copied()
            .collect();
        for kind in streams() {
            let max = LIMITS[random.below(LIMITS.len())];
            let end = ENDS[random.below(ENDS.len())];
            let expected = reference(kind, max, &stream, end);
            let count = random.below(50);
            let offsets = random.offsets(stream.len(), count);
            let got = feed(kind, max, cut(&stream, &offsets), end);
            assert_eq!(
                got, expected,
                "seed {seed}, {kind}, max {max}, cut at {offsets:?}"
            );
        }
    }
}

#[test]
fn fr_08_mixed_octet_counting_and_lines_by_seed() {
    let pieces: &[&[u8]] = &[
        b"<34>a\n",
        b"7 <34>abc",
        b"<34>b\n",
        b"12 <34>a line\n!",
        b"12 <b>text\n",
        b"99 <34>never comes",
        b"4 <34>x\n",
        b"\r\n",
    ];
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(6);
        let stream: Vec<u8> = (0..count)
            .flat_map(|_| pieces[random.below(pieces.len())])
            .copied()
            .collect();
        let offsets = random.offsets(stream.len(), 3);
        let expected = reference(Framing::Auto, 9, &stream, End::Clean);
        let got = feed(Framing::Auto, 9, cut(&stream, &offsets), End::Clean);
        assert_eq!(got, expected, "seed {seed}, cut at {offsets:?}");
    }
}

#[test]
fn a_run_says_that_it_is_lines_only_where_no_frame_was_counted() {
    let lines = |kind, stream: &'static str| {
        let mut frames = Frames::new();
        framer(kind, 100).push(Bytes::from_static(stream.as_bytes()), &mut frames);
        frames.runs.iter().map(|run| run.lines).collect::<Vec<_>>()
    };
    assert_eq!(lines(Framing::Lines, "a\nb\r\n\nc\n"), [true]);
    assert_eq!(lines(Framing::Auto, "a\n5 is text\nb\n"), [true]);
    assert_eq!(lines(Framing::Auto, "a\n7 <1>a\nb\nc\n"), [false]);
    assert_eq!(lines(Framing::Auto, "7 <1>a\nb\nc\n"), [false]);
    assert_eq!(lines(Framing::OctetCounted, "3 a\nb"), [false]);
    assert_eq!(lines(Framing::Nul, "a\nb\0"), [false]);
    let mut frames = Frames::new();
    let mut auto = framer(Framing::Auto, 100);
    auto.push(Bytes::from_static(b"7 <1>a"), &mut frames);
    auto.push(Bytes::from_static(b"\nb\nc\n"), &mut frames);
    assert!(frames.runs.iter().all(|run| !run.lines), "{frames:?}");
}
