//! Quantities with a unit, written as strings: `"30s"`, `"1h30m"`, `"64KiB"`, `"500/s"`.
//!
//! Units are exact in spelling; a near miss is named. A mistake's offset is the first wrong
//! byte of the text.

use std::time::Duration;

use super::suggest;
use crate::pipeline::options::{Mistake, Rate};

/// The longest duration: ten years of 365 days.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Unit and its nanoseconds.
const TIMES: &[(&str, f64)] = &[
    ("us", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
    ("d", 86_400e9),
];

/// Unit and its bytes.
const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1048576.0),
    ("GiB", 1073741824.0),
    ("TiB", 1099511627776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

/// A duration longer than zero and at most ten years.
pub fn duration(text: &str) -> Result<Duration, Mistake> {
    let expected = "a duration like \"30s\"";
    let mut rest = Rest { text, at: 0 };
    let mut nanos = 0.0;
    loop {
        let part = rest.number(expected)?;
        let factor = rest.unit(TIMES, expected, "s")?;
        nanos += part * factor;
        rest.skip_blanks();
        if rest.at == text.len() {
            break;
        }
    }
    if nanos < 1e3 {
        return Err(Mistake::new("a duration of zero is not possible here").at(0, text.len()));
    }
    if nanos > LONGEST.as_nanos() as f64 {
        return Err(Mistake::new("the longest duration is ten years").at(0, text.len()));
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// An amount of bytes between `min` and `max`.
pub fn size(text: &str, min: u64, max: u64) -> Result<u64, Mistake> {
    let expected = "a size like \"64KiB\"";
    let mut rest = Rest { text, at: 0 };
    let number = rest.number(expected)?;
    let factor = rest.unit(SIZES, expected, "KiB")?;
    rest.end(expected)?;
    let bytes = (number * factor).round();
    if bytes < min as f64 || bytes > max as f64 {
        let (min, max) = (show_size(min), show_size(max));
        let message = format!("{text} is out of range");
        return Err(Mistake::new(message)
            .at(0, text.len())
            .help(format!("from {min} to {max}")));
    }
    Ok(bytes as u64)
}

/// Events in a span of time.
pub fn rate(text: &str) -> Result<Rate, Mistake> {
    let expected = "a rate like \"500/s\"";
    let mut rest = Rest { text, at: 0 };
    let events = rest.number(expected)?;
    rest.skip_blanks();
    if !text[rest.at..].starts_with('/') {
        let mistake = Mistake::new(format!("expected {expected}, found \"{text}\""));
        let at = rest.at.min(text.len());
        let plain = text[..at].trim_end();
        let help = format!("write \"{plain}/s\"");
        return Err(mistake
            .at(if at == text.len() { 0 } else { at }, text.len() - at)
            .help(help));
    }
    rest.at += 1;
    let per = rest.unit(TIMES, expected, "s")?;
    rest.end(expected)?;
    if events <= 0.0 {
        return Err(Mistake::new("a rate of zero is not possible here").at(0, text.len()));
    }
    Ok(Rate {
        events,
        per: Duration::from_nanos(per as u64),
    })
}

/// A size in the largest unit that shows it exactly: `64KiB`.
pub fn show_size(bytes: u64) -> String {
    let exact = |(_, factor): &&(&str, f64)| bytes > 0 && bytes.is_multiple_of(*factor as u64);
    let (unit, factor) = SIZES[..5].iter().rev().find(exact).unwrap_or(&SIZES[0]);
    format!("{}{unit}", bytes / *factor as u64)
}

/// What is left of a text.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl Rest<'_> {
    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(' ').len();
    }

    /// Takes the characters that `is` holds for.
    fn take(&mut self, is: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !is(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn number(&mut self, expected: &str) -> Result<f64, Mistake> {
        let (text, start) = (self.text, self.at);
        let digits = self.take(|c| c.is_ascii_digit() || c == '.');
        let number = digits.parse().ok().filter(|n: &f64| n.is_finite());
        let len = digits
            .len()
            .max(text[start..].chars().next().map_or(0, char::len_utf8));
        number.ok_or_else(|| {
            Mistake::new(format!("expected {expected}, found \"{text}\"")).at(start, len)
        })
    }

    /// Takes a unit and gives its factor; `usual` is the unit of the fix when there is none.
    fn unit(&mut self, units: &[(&str, f64)], expected: &str, usual: &str) -> Result<f64, Mistake> {
        self.skip_blanks();
        let (text, start) = (self.text, self.at);
        let unit = self.take(|c| !c.is_ascii_digit() && c != ' ').to_owned();
        if let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) {
            return Ok(*factor);
        }
        if unit.is_empty() {
            let mistake = Mistake::new(format!(
                "expected {expected}, found \"{text}\" without a unit"
            ));
            return Err(mistake
                .at(0, text.len())
                .help(format!("write \"{text}{usual}\"")));
        }
        let known: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        let help = match meant(&unit) {
            Some(near) if known.contains(&near) => format!("did you mean `{near}`?"),
            _ => suggest::help(&unit, "unit", &known),
        };
        Err(Mistake::new(format!("unknown unit `{unit}`"))
            .at(start, unit.len())
            .help(help))
    }

    fn end(&self, expected: &str) -> Result<(), Mistake> {
        let left = self.text.len() - self.at;
        if left == 0 {
            return Ok(());
        }
        let message = format!("expected {expected}, found \"{}\"", self.text);
        Err(Mistake::new(message).at(self.at, left))
    }
}

/// The unit that people mean by another spelling.
fn meant(unit: &str) -> Option<&'static str> {
    let lower = unit.to_lowercase();
    Some(match lower.as_str() {
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hour" | "hours" | "hr" | "hrs" => "h",
        "day" | "days" => "d",
        "msec" | "millis" | "milliseconds" => "ms",
        "usec" | "micros" | "microseconds" | "µs" => "us",
        "b" | "byte" | "bytes" => "B",
        "k" | "ki" | "kib" => "KiB",
        "m" | "mi" | "mib" => "MiB",
        "g" | "gi" | "gib" => "GiB",
        "t" | "ti" | "tib" => "TiB",
        "kb" => "kB",
        "mb" => "MB",
        "gb" => "GB",
        "tb" => "TB",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, millis| {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("30s", 30_000);
        check("1h30m", 5_400_000);
        check("1.5s", 1_500);
        check("250 ms", 250);
        check("2d 1s", 172_801_000);
    }

    #[test]
    fn wrong_durations_point_at_the_first_wrong_byte() {
        let check = |text, at, words: &str| {
            let mistake = duration(text).unwrap_err();
            assert!(mistake.to_string().contains(words), "{text}: {mistake}");
            assert_eq!(mistake.offset, at, "{text}");
        };
        check("30 secs", 3, "did you mean `s`");
        check("30", 0, "write \"30s\"");
        check("fast", 0, "expected a duration");
        check("", 0, "expected a duration");
        check("1h30", 0, "without a unit");
        check("10y", 2, "unknown unit `y`");
        check("0s", 0, "zero");
        check("-5s", 0, "expected a duration");
        check("99999d", 0, "ten years");
        check("1é", 1, "unknown unit `é`");
    }

    #[test]
    fn sizes() {
        let check = |text, bytes| assert_eq!(size(text, 1, 1 << 44), Ok(bytes), "{text}");
        check("64KiB", 65_536);
        check("1GiB", 1 << 30);
        check("1.5MB", 1_500_000);
        check("512 B", 512);
        let wrong = |text, at, words: &str| {
            let mistake = size(text, 16, 1 << 30).unwrap_err();
            assert!(mistake.to_string().contains(words), "{text}: {mistake}");
            assert_eq!(mistake.offset, at, "{text}");
        };
        wrong("64K", 2, "did you mean `KiB`");
        wrong("1gb", 1, "did you mean `GB`");
        wrong("4B", 0, "from 16B to 1GiB");
        wrong("1MiB extra", 4, "expected a size");
        assert_eq!(show_size(64 << 20), "64MiB");
    }

    #[test]
    fn rates() {
        let half = rate("30/m").unwrap();
        assert_eq!((half.events, half.per_second()), (30.0, 0.5));
        assert_eq!(rate("500").unwrap_err().help.unwrap(), "write \"500/s\"");
        assert_eq!(rate("500/sec").unwrap_err().offset, 4);
        assert!(rate("0/s").is_err());
    }
}
