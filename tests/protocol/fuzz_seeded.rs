//! A seeded mutator over a corpus, for every framer and parser, on the stable toolchain.
//!
//! It knows no coverage; it knows what these formats are made of. A run is a seed and an entry:
//! a failure prints both, and `MARLINE_FUZZ_SEED` replays it. `MARLINE_FUZZ_RUNS` sets the
//! executions per entry (default 100 000).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use marline::protocol::Framing;

use super::super::event_codec;
use super::harness::Random;
use super::{clf, fuzz_entries, invariance, json, logfmt, syslog};

/// Executions per entry.
const RUNS: u64 = 100_000;

/// Longest mutated input, in bytes.
const INPUT_BYTES_MAX: usize = 400;

/// Pieces that the formats are made of.
const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b",",
    b"<34>",
    b"7 <34>abc",
    b"12 ",
    b"0",
    b"9",
    b"4294967295 ",
    b"4294967296",
    b"18446744073709551616",
    b"\0\0\0\x04",
    b"\xff\xff\xff\xff",
    b"5:hello,",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud83d\\ude00",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{\"a\":",
    b"\"k\":1,",
    b"true",
    b"null",
    b"-0.5e",
    b"E+308",
    b"=",
    b"\\\"",
    b"\xc3\xa9",
    b"\xf0\x9f\x98",
    b"\x80",
    b"[23/Nov/2026:18:42:00 +0000]",
    b"\"GET / HTTP/1.1\"",
    b" - ",
    b"\\x22",
    b"\x02\0\0\0\0\0\0\0",
    b"\nA\n",
    b"\nA=1\n",
    b"abcdefgh",
    b"<165>1 ",
    b"2026-11-27T10:00:00.5Z ",
    b"Nov 27 10:00:00 ",
    b"[a b=\"",
    b": ",
    b"%SYS-5-X:",
];

/// One mutation of `input`.
fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(20);
    match random.below(8) {
        0 => drop(input.drain(at..end)),
        1 => input.truncate(at),
        2 | 3 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        4 => {
            let copy = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..end, word.iter().copied());
        }
        _ if at < input.len() => {
            let bit = 1 << random.below(8);
            input[at] ^= bit;
        }
        _ => input.push(random.next() as u8),
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// The input of a seed: one of the corpus, or two joined, mutated a few times.
fn input(corpus: &[&[u8]], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut input = corpus[random.below(corpus.len())].to_vec();
    if random.below(3) == 0 {
        input.extend_from_slice(corpus[random.below(corpus.len())]);
    }
    for _ in 0..random.below(6) {
        mutate(&mut input, &mut random);
    }
    input
}

fn number_from(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

#[expect(
    clippy::print_stdout,
    reason = "executions are part of the test report"
)]
/// Runs `entry` on the inputs of many seeds and says how many it did.
fn fuzz(name: &str, corpus: &[&[u8]], entry: impl Fn(&[u8])) {
    if let Some(seed) = number_from("MARLINE_FUZZ_SEED") {
        return entry(&input(corpus, seed));
    }
    let runs = number_from("MARLINE_FUZZ_RUNS").unwrap_or(RUNS);
    let start = Instant::now();
    for seed in 0..runs {
        let input = input(corpus, seed);
        if catch_unwind(AssertUnwindSafe(|| entry(&input))).is_err() {
            let shown = input.escape_ascii();
            panic!("{name} failed: MARLINE_FUZZ_SEED={seed} replays it\ninput: \"{shown}\"");
        }
    }
    let rate = runs as f64 / start.elapsed().as_secs_f64();
    println!("fuzz {name}: {runs} executions, {rate:.0}/s");
}

/// A framer's inputs: the streams, each with two bytes before it that choose limit and cuts.
fn framer(kind: Framing) {
    let mut random = Random::new(7);
    let with_choice = |stream: &&[u8]| {
        let mut input = vec![random.next() as u8, random.next() as u8];
        input.extend_from_slice(stream);
        input
    };
    let corpus: Vec<Vec<u8>> = invariance::CORPUS.iter().map(with_choice).collect();
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    fuzz(kind.as_str(), &corpus, |data| {
        fuzz_entries::framer(kind, data)
    });
}

#[test]
fn auto() {
    framer(Framing::Auto);
}

#[test]
fn lines() {
    framer(Framing::Lines);
}

#[test]
fn nul() {
    framer(Framing::Nul);
}

#[test]
fn octet_counted() {
    framer(Framing::OctetCounted);
}

#[test]
fn length_u32() {
    framer(Framing::LengthU32);
}

#[test]
fn netstring() {
    framer(Framing::Netstring);
}

#[test]
fn datagram() {
    framer(Framing::Datagram);
}

#[test]
fn whole() {
    framer(Framing::Whole);
}

#[test]
fn encode() {
    fuzz("encode", invariance::CORPUS, fuzz_entries::encode);
}

fn bytes_of(corpus: &[&'static str]) -> Vec<&'static [u8]> {
    corpus.iter().map(|text| text.as_bytes()).collect()
}

#[test]
fn json() {
    fuzz("json", &bytes_of(json::CORPUS), fuzz_entries::json);
}

#[test]
fn escape() {
    let corpus = [&bytes_of(json::CORPUS)[..], invariance::CORPUS].concat();
    fuzz("escape", &corpus, fuzz_entries::escape);
}

#[test]
fn logfmt() {
    fuzz("logfmt", &bytes_of(logfmt::CORPUS), fuzz_entries::logfmt);
}

#[test]
fn clf() {
    fuzz("clf", &bytes_of(clf::CORPUS), fuzz_entries::clf);
}

#[test]
fn syslog() {
    let corpus: Vec<&[u8]> = syslog::CORPUS
        .iter()
        .map(|(text, _)| text.as_bytes())
        .collect();
    fuzz("syslog", &corpus, fuzz_entries::syslog);
}

#[test]
fn journal_export() {
    const CORPUS: &[&[u8]] = &[
        b"\x03\x05__CURSOR=s=1\nMESSAGE=a=b\n\nMESSAGE\n\x04\0\0\0\0\0\0\0x\ny\n\n\n",
        b"\x01\x02A=1\nB\n\0\0\0\0\0\0\0\0\n\n=x\n\n\nC=2\n\n",
        b"\x02\x07A\n\x01\0\0\0\0\0\0\0xB=long value of many bytes\n\n",
    ];
    fuzz("journal_export", CORPUS, fuzz_entries::journal_export);
}

#[test]
fn payload() {
    let corpus = event_codec::corpus();
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    fuzz("payload", &corpus, fuzz_entries::payload);
}
