//! Random events for property tests, from a seed.
//!
//! [`seeds`] runs a property over many seeds; a failure names its seed, and `MARLINE_EVENT_SEED`
//! runs that one alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use marline::event::{Batch, Event, Origin, Span};
use marline::time::WallTime;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// Bytes in which everything occurs that somebody escapes, delimits or gets wrong.
    pub fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let pieces: [&[u8]; 16] = [
            b"a",
            b"abcdefgh",
            b" ",
            b"=",
            b"\"",
            b"\\",
            b"\n",
            b"\r\n",
            b"\0",
            b"\x1f",
            b"\x7f",
            "é".as_bytes(),
            "\u{2028}😀".as_bytes(),
            b"\xff",
            b"\xe2\x82",
            b"\xed\xa0\x80",
        ];
        let len = self.below(longest + 1);
        let mut out = Vec::new();
        while out.len() < len {
            out.extend_from_slice(self.one_of(&pieces));
        }
        out
    }

    pub fn text(&mut self, longest: usize) -> String {
        String::from_utf8_lossy(&self.bytes(longest)).into_owned()
    }

    /// A JSON value as text, with whitespace and escapes as writers differ in them.
    pub fn json(&mut self, depth: usize) -> String {
        let scalars = if depth == 0 { 6 } else { 8 };
        match self.below(scalars) {
            0 => self.one_of(&["null", "true", "false"]).to_owned(),
            1 => format!("{}", self.next() as i64 >> self.below(64)),
            2 => self.number(),
            3 => serde_json::to_string(&self.text(12)).unwrap(),
            4 => self
                .one_of(&[r#""\u0041\/\n\ud83d\ude00""#, r#""""#, r#""\\\"""#])
                .to_owned(),
            5 => format!("\"{}\"", "plain ".repeat(self.below(4))),
            6 => {
                let items: Vec<_> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(self.one_of(&[",", ", ", "\n,"])))
            }
            _ => self.object(depth - 1),
        }
    }

    fn number(&mut self) -> String {
        let numbers = [
            "-0",
            "0.5",
            "1e3",
            "-2.50E-2",
            "18446744073709551616",
            "1.7976931348623157e308",
        ];
        self.one_of(&numbers).to_owned()
    }

    /// A JSON object as text; keys repeat at times.
    pub fn object(&mut self, depth: usize) -> String {
        let keys = [
            "a",
            "b",
            "message",
            "k y",
            "",
            "é",
            r#"q\"\u0041"#,
            "long_name_of_a_field",
        ];
        let members: Vec<_> = (0..self.below(7))
            .map(|_| {
                let space = self.one_of(&["", " ", "\t"]);
                let key = self.one_of(&keys);
                format!("{space}\"{key}\"{space}:{space}{}{space}", self.json(depth))
            })
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Runs `property` for the seeds `0..count`, or for the one that the environment names.
pub fn seeds(count: u64, property: impl Fn(&mut Random)) {
    let named = std::env::var("MARLINE_EVENT_SEED").ok();
    let named = named.map(|text| text.parse::<u64>().expect("a seed is a number"));
    for seed in named.map_or(0..count, |seed| seed..seed + 1) {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(&mut random))) {
            eprintln!("failed: MARLINE_EVENT_SEED={seed} replays it");
            resume_unwind(panic);
        }
    }
}

/// A batch over `bytes` with raw events of these spans.
pub fn batch(bytes: &[u8], spans: &[(usize, usize)]) -> Batch {
    let origin = Origin {
        source: "in".into(),
        peer: "192.0.2.1:5000".into(),
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let mut batch = Batch::new(Arc::new(origin), WallTime::from_micros(0), bytes);
    batch.events = spans
        .iter()
        .map(|(start, end)| Event::Raw(Span::new(*start, *end)))
        .collect();
    batch
}

/// A batch with one raw event per text, laid out in the bytes with `between` after each.
pub fn batch_of<T: AsRef<[u8]>>(texts: &[T], between: &[u8]) -> Batch {
    let mut bytes = Vec::new();
    let mut spans = Vec::new();
    for text in texts {
        let start = bytes.len();
        bytes.extend_from_slice(text.as_ref());
        spans.push((start, bytes.len()));
        bytes.extend_from_slice(between);
    }
    batch(&bytes, &spans)
}
