//! The figures as they are shown: rows of a table, or a line of JSON for each.
//!
//! Rows have fixed widths, so that each can be shown when it is known.

use serde_json::json;

use crate::telemetry::escape;

use super::corpus::Look;
use super::trial::{Figures, PACED_LINES_PER_SECOND};

/// Columns of a pipeline's name; of a longer one the beginning is shown.
const NAME_COLUMNS: usize = 16;

/// The head of the table.
pub fn head() -> String {
    format!(
        "{:NAME_COLUMNS$} {:>7} {:>6} {:>12} {:>8} {:>9} {:>9} {:>9} {:>8}\n",
        "PIPELINE", "WORKERS", "CORES", "LINES/S", "NS/LINE", "P50", "P99", "MAX", "SPEEDUP"
    )
}

/// One measurement; `one` is the same with one worker, where that was measured.
pub fn row(name: &str, figures: &Figures, one: Option<f64>) -> String {
    let mut plain = String::new();
    escape::plain(name, &mut plain);
    let name: String = plain.chars().take(NAME_COLUMNS).collect();
    let latency = &figures.latency;
    let speedup = one.map_or("-".to_owned(), |one| {
        format!("{:.2} x", figures.lines_per_second / one)
    });
    format!(
        "{name:NAME_COLUMNS$} {:>7} {:>6.2} {:>12} {:>8.0} {:>9} {:>9} {:>9} {speedup:>8}\n",
        figures.workers,
        figures.cores,
        grouped(figures.lines_per_second),
        figures.cpu_ns_per_line,
        micros(latency.quantile(0.5)),
        micros(latency.quantile(0.99)),
        micros(latency.longest()),
    )
}

/// A word for each step that could make nothing of the lines, and for what sinks dropped.
pub fn failures(figures: &Figures) -> String {
    let account = &figures.account;
    let sent = account.sent;
    let failed = account.failed.iter().map(|(step, events)| {
        format!("  {step} could make nothing of {events} of {sent} lines: see --corpus\n")
    });
    let mut lines: String = failed.collect();
    if account.lost > 0 {
        let lost = account.lost;
        lines +=
            &format!("  {lost} of {sent} lines found no room in a buffer (buffer.when_full)\n");
    }
    lines
}

/// The same for programs; times in nanoseconds.
pub fn json_line(name: &str, look: Look, figures: &Figures, one: Option<f64>) -> String {
    let (latency, account) = (&figures.latency, &figures.account);
    let failed: serde_json::Map<_, _> = account
        .failed
        .iter()
        .map(|(step, events)| (step.clone(), json!(events)))
        .collect();
    let line = json!({
        "pipeline": name,
        "corpus": look.word(),
        "workers": figures.workers,
        "lines_per_second": figures.lines_per_second.round(),
        "cores": tenths(figures.cores * 10.0) / 10.0,
        "cpu_ns_per_line": tenths(figures.cpu_ns_per_line),
        "encoded_bytes_per_line": tenths(figures.encoded_bytes_per_line),
        "latency_ns": {
            "lines_per_second": PACED_LINES_PER_SECOND,
            "lines": latency.total(),
            "p50": latency.quantile(0.5),
            "p99": latency.quantile(0.99),
            "max": latency.longest(),
        },
        "speedup": one.map(|one| tenths(figures.lines_per_second / one * 10.0) / 10.0),
        "lines": {
            "sent": account.sent,
            "settled": account.settled,
            "lost": account.lost,
            "delivered": account.delivered,
            "filtered": account.filtered,
            "failed": failed,
        },
    });
    format!("{line}\n")
}

/// What the figures are and are not.
pub fn foot() -> String {
    format!(
        "\nNS/LINE is processor time of the whole process, CORES how many cores it had: fewer than \
         WORKERS\nwhere the machine is busy otherwise, or workers wait for each other. P50, P99 \
         and MAX are from\nhanding over to settled, at {PACED_LINES_PER_SECOND} lines/s. Left \
         out: the kernel's part of sockets and files,\nTLS, disk buffers, compression; a real \
         daemon needs that on top (docs/PERFORMANCE.md).\n"
    )
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A whole number with a blank between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn micros(nanos: u64) -> String {
    match nanos as f64 / 1e3 {
        short if short < 99.95 => format!("{short:.1} us"),
        long if long < 99_950.0 => format!("{long:.0} us"),
        longer => format!("{:.0} ms", longer / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let check = |number, expected| assert_eq!(grouped(number), expected);
        check(7.0, "7");
        check(999.4, "999");
        check(1000.0, "1 000");
        check(12_345_678.0, "12 345 678");
        let check = |nanos, expected| assert_eq!(micros(nanos), expected);
        check(0, "0.0 us");
        check(12_340, "12.3 us");
        check(99_960, "100 us");
        check(2_500_000, "2500 us");
        check(120_000_000, "120 ms");
    }
}
