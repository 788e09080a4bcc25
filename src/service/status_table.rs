//! `marline status` for people: the JSON of the admin socket as aligned text of 100 columns.
//!
//! It is made of the JSON alone, so that the two cannot disagree. A field that is not there (an
//! older daemon) is shown as `-`. Whatever a text holds, the terminal sees no control character.

use std::fmt::Write;

use serde_json::Value;
use unicode_width::UnicodeWidthChar;

use crate::telemetry::escape;

/// Columns of everything.
const COLUMNS_MAX: usize = 100;
/// Columns of a name; of a longer one the beginning is shown.
const NAME_COLUMNS_MAX: usize = 22;
/// Lines of senders and what they speak.
const DIALECT_LINES_MAX: usize = 10;
/// Lines of each list that `--debug` adds.
const DEBUG_LINES_MAX: usize = 20;

/// The whole report.
pub fn table(report: &Value) -> String {
    let mut out = String::new();
    head(&report["daemon"], &mut out);
    sources(list(&report["sources"]), &mut out);
    pipelines(list(&report["pipelines"]), &mut out);
    sinks(list(&report["sinks"]), &mut out);
    if report["debug"].is_object() {
        debug(&report["debug"], &mut out);
    }
    out
}

fn head(daemon: &Value, out: &mut String) {
    let memory = &daemon["memory"];
    let used = memory["used_bytes"].as_u64().unwrap_or(0);
    let limit = memory["limit_bytes"].as_u64().unwrap_or(0);
    let lines = [
        format!(
            "marline {}, {} for {}, pid {}",
            text(&daemon["version"]),
            text(&daemon["state"]),
            span(&daemon["uptime_seconds"]),
            text(&daemon["pid"])
        ),
        format!("config      {}", text(&daemon["config"])),
        format!("memory      {} of {}", bytes(used), bytes(limit)),
    ];
    lines.iter().for_each(|line| wrap(line, 12, out));
    let last = &daemon["last_error"];
    if last.is_object() {
        let (time, component) = (text(&last["time"]), text(&last["component"]));
        let line = format!("last error  {time} {component}: {}", text(&last["text"]));
        wrap(&line, 12, out);
    }
}

fn sources(sources: &[Value], out: &mut String) {
    let titles = [
        "SOURCE", "TYPE", "EVENTS", "OPEN", "REFUSED", "LOST", "HELD", "STATE",
    ];
    let rows = sources.iter().map(|source| {
        let connections = &source["connections"];
        let refused = sum(&connections["refused"]);
        let cells = vec![
            name(source),
            text(&source["type"]),
            text(&source["received_events"]),
            text(&connections["open"]),
            refused.map_or("-".into(), |refused| refused.to_string()),
            lost(source),
            bytes(source["outstanding_bytes"].as_u64().unwrap_or(0)),
            state_of_source(source).to_owned(),
        ];
        Row {
            cells,
            notes: source_notes(source),
        }
    });
    write_table(&titles, &rows.collect::<Vec<_>>(), out);
}

/// A source whose batches wait may still have room for more of them.
fn state_of_source(source: &Value) -> &'static str {
    if source["blocked"].is_object() {
        return "blocked";
    }
    match source["waiting_batches"].as_u64() {
        Some(0) | None => "reading",
        Some(_) => "waiting",
    }
}

/// How long its certificates are valid.
fn certificates(one: &Value) -> Vec<String> {
    let line = |certificate: &Value| {
        let path = text(&certificate["path"]);
        match certificate["days_left"].as_i64() {
            Some(days @ 0..) => format!("certificate {path}: {days} days left"),
            _ => format!(
                "certificate {path}: ended on {}",
                text(&certificate["not_after"])
            ),
        }
    };
    list(&one["certificates"]).iter().map(line).collect()
}

fn source_notes(source: &Value) -> Vec<String> {
    let mut notes = places(source);
    notes.extend(certificates(source));
    let blocked = &source["blocked"];
    if blocked.is_object() {
        let held = bytes(blocked["held_bytes"].as_u64().unwrap_or(0));
        notes.push(format!(
            "blocked for {} by sink.{}, which holds {held}: {}",
            span(&blocked["lasts_seconds"]),
            text(&blocked["sink"]),
            text(&blocked["why"])
        ));
    }
    let told = ["accepted", "bytes"];
    notes.extend(amounts("", &source["counts"], &told));
    let connections = &source["connections"];
    notes.extend(amounts("refused: ", &connections["refused"], &[]));
    let failed = &connections["failed_handshakes"];
    notes.extend(amounts("failed TLS handshakes: ", failed, &[]));
    for socket in list(&source["sockets"]) {
        if socket["kernel_drops"].as_u64().unwrap_or(0) > 0 {
            let buffer = socket["receive_buffer_bytes"].as_u64().unwrap_or(0);
            notes.push(format!(
                "the kernel dropped {} datagrams at {} (receive buffer {})",
                text(&socket["kernel_drops"]),
                text(&socket["address"]),
                bytes(buffer)
            ));
        }
    }
    notes.extend(dialects(source));
    notes.extend(last_error(source));
    notes
}

/// What the senders that sent most speak, one line each.
fn dialects(source: &Value) -> Vec<String> {
    let mut rows: Vec<&Value> = list(&source["dialects"]).iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(sum(&row["messages"])));
    let shown = rows.iter().take(DIALECT_LINES_MAX);
    let shown = shown.filter_map(|row| {
        let prefix = format!("{}: ", text(&row["sender"]));
        amounts(&prefix, &row["messages"], &[])
    });
    let mut lines: Vec<String> = shown.collect();
    let left_out = rows.len().saturating_sub(DIALECT_LINES_MAX);
    if left_out > 0 {
        lines.push(format!("and {left_out} senders more (--json has them)"));
    }
    lines
}

/// Datagrams that the kernel had no room for, at all sockets; `-` where there are none.
fn lost(source: &Value) -> String {
    let drops = list(&source["sockets"])
        .iter()
        .map(|socket| &socket["kernel_drops"]);
    let known: Vec<u64> = drops.filter_map(Value::as_u64).collect();
    match known.is_empty() {
        true => "-".into(),
        false => known.iter().sum::<u64>().to_string(),
    }
}

fn pipelines(pipelines: &[Value], out: &mut String) {
    let titles = [
        "PIPELINE", "RECEIVED", "PRODUCED", "PASSED", "FILTERED", "DROPPED", "DEAD", "INSIDE",
        "ERRORS",
    ];
    let total = |one: &Value| sum(one).unwrap_or(0).to_string();
    let rows = pipelines.iter().map(|pipeline| {
        let cells = vec![
            name(pipeline),
            text(&pipeline["received"]),
            text(&pipeline["produced"]),
            text(&pipeline["passed"]),
            total(&pipeline["filtered"]),
            total(&pipeline["dropped"]),
            text(&pipeline["dead_lettered"]),
            text(&pipeline["in_flight"]),
            total(&pipeline["errors"]),
        ];
        let mut notes = Vec::new();
        notes.extend(amounts("filtered by ", &pipeline["filtered"], &[]));
        notes.extend(amounts("dropped: ", &pipeline["dropped"], &[]));
        notes.extend(amounts("errors in ", &pipeline["errors"], &[]));
        notes.extend(last_error(pipeline));
        Row { cells, notes }
    });
    write_table(&titles, &rows.collect::<Vec<_>>(), out);
}

fn sinks(sinks: &[Value], out: &mut String) {
    let titles = [
        "SINK",
        "TYPE",
        "DELIVERED",
        "DROPPED",
        "DEAD",
        "BACKLOG",
        "BYTES",
        "BUFFER",
        "STATE",
    ];
    let rows = sinks.iter().map(|sink| {
        let (ledger, buffer) = (&sink["ledger"], &sink["buffer"]);
        let held = buffer["bytes"].as_u64().unwrap_or(0);
        let capacity = buffer["capacity_bytes"].as_u64().unwrap_or(0);
        let percent = held.saturating_mul(100).checked_div(capacity).unwrap_or(0);
        let cells = vec![
            name(sink),
            text(&sink["type"]),
            text(&ledger["delivered"]),
            sum(&ledger["dropped"]).unwrap_or(0).to_string(),
            text(&ledger["dead_lettered"]),
            text(&buffer["events"]),
            bytes(held),
            format!("{} {percent}%", text(&buffer["kind"])),
            text(&sink["state"]),
        ];
        Row {
            cells,
            notes: sink_notes(sink),
        }
    });
    write_table(&titles, &rows.collect::<Vec<_>>(), out);
}

fn sink_notes(sink: &Value) -> Vec<String> {
    let mut notes = places(sink);
    notes.extend(certificates(sink));
    let trouble = &sink["trouble"];
    if trouble.is_object() {
        let next = match trouble["next_try_seconds"].is_null() {
            true => String::new(),
            false => format!(", next try in {}", span(&trouble["next_try_seconds"])),
        };
        notes.push(format!(
            "failing for {}, {} attempts{next}: {}",
            span(&trouble["lasts_seconds"]),
            text(&trouble["failures"]),
            text(&trouble["why"])
        ));
    } else {
        notes.extend(last_error(sink));
    }
    let storage = &sink["buffer"]["trouble"];
    if storage.is_string() {
        notes.push(format!("its buffer cannot be written: {}", text(storage)));
    }
    notes.extend(amounts("dropped: ", &sink["ledger"]["dropped"], &[]));
    for (name, what) in [
        ("retries", "attempts made again"),
        ("replayed", "events sent again that may have arrived"),
    ] {
        if sink[name].as_u64().unwrap_or(0) > 0 {
            notes.push(format!("{} {what}", text(&sink[name])));
        }
    }
    notes.extend(amounts("", &sink["counts"], &[]));
    notes
}

fn debug(debug: &Value, out: &mut String) {
    let reactor = &debug["reactor"];
    let millis = |name: &str| reactor[name].as_f64().unwrap_or(0.0) * 1000.0;
    let _ = writeln!(
        out,
        "\nREACTOR  lag {:.1} ms (at most {:.1}), {} turns, {} sources, {} ready, {} tasks, \
         {} panics",
        millis("lag_seconds"),
        millis("lag_peak_seconds"),
        text(&reactor["turns"]),
        text(&reactor["sources"]),
        text(&reactor["ready"]),
        text(&reactor["tasks"]),
        text(&reactor["panics"])
    );
    some_of("TIMERS", &debug["timers"], out, |timer| {
        let (count, due) = (text(&timer["count"]), span(&timer["next_seconds"]));
        format!("{count:>6} next in {due}, set at {}", text(&timer["at"]))
    });
    some_of("PENDING", &debug["pending"], out, |one| {
        let (count, age) = (text(&one["count"]), span(&one["oldest_seconds"]));
        let (name, at) = (text(&one["name"]), text(&one["at"]));
        format!("{count:>6} {name}, for {age}, made at {at}")
    });
    some_of("JOBS", &debug["jobs"], out, |job| {
        let (count, pool) = (text(&job["count"]), text(&job["pool"]));
        format!("{count:>6} {} ({pool})", text(&job["label"]))
    });
    some_of("CONNECTIONS", &debug["connections"], out, |one| {
        format!("  {} {}", text(&one["component"]), text(&one["peer"]))
    });
}

/// The first entries of a list, under its title and length.
fn some_of(title: &str, entries: &Value, out: &mut String, line: impl Fn(&Value) -> String) {
    let entries = list(entries);
    let _ = writeln!(out, "\n{title}  {}", entries.len());
    for entry in entries.iter().take(DEBUG_LINES_MAX) {
        wrap(&line(entry), 9, out);
    }
    if entries.len() > DEBUG_LINES_MAX {
        let more = entries.len() - DEBUG_LINES_MAX;
        let _ = writeln!(out, "       and {more} more: --json has them");
    }
}

/// A line of a table, and what is said below it.
struct Row {
    cells: Vec<String>,
    notes: Vec<String>,
}

/// Numbers stand under each other by their ends, words by their beginnings.
fn write_table(titles: &[&str], rows: &[Row], out: &mut String) {
    let is_word = |column: usize| matches!(titles[column], "TYPE" | "STATE") || column == 0;
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().map(|row| width(&row.cells[column]));
            cells.chain([titles[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let mut text = String::new();
        for (column, cell) in cells.iter().copied().enumerate() {
            let gap = " ".repeat(widths[column] - width(cell));
            match is_word(column) {
                true => text.extend([cell, &gap]),
                false => text.extend([gap.as_str(), cell]),
            }
            text.push_str("  ");
        }
        format!("{}\n", text.trim_end())
    };
    out.push('\n');
    out.push_str(&line(titles));
    for row in rows {
        let cells: Vec<&str> = row.cells.iter().map(String::as_str).collect();
        out.push_str(&line(&cells));
        for note in &row.notes {
            wrap(&format!("    {note}"), 6, out);
        }
    }
}

/// Breaks a line between words, the rest indented, so that all of it can be read.
fn wrap(line: &str, indent: usize, out: &mut String) {
    let mut column = 0;
    let lead = line.len() - line.trim_start().len();
    out.push_str(&line[..lead]);
    column += lead;
    for word in line[lead..].split(' ') {
        let columns = width(word);
        if column > lead && column + 1 + columns > COLUMNS_MAX {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > lead {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += columns;
    }
    out.push('\n');
}

fn places(component: &Value) -> Vec<String> {
    let places: Vec<String> = list(&component["places"]).iter().map(text).collect();
    match places.is_empty() {
        true => Vec::new(),
        false => vec![places.join(", ")],
    }
}

fn last_error(component: &Value) -> Option<String> {
    let last = &component["last_error"];
    let shown = || {
        format!(
            "last error {}: {}",
            text(&last["time"]),
            text(&last["text"])
        )
    };
    last.is_object().then(shown)
}

/// `prefix a=1, b=2` of the amounts that are not zero and not told already.
fn amounts(prefix: &str, amounts: &Value, told: &[&str]) -> Option<String> {
    let entries = amounts.as_object()?.iter();
    let shown: Vec<String> = entries
        .filter(|(name, amount)| amount.as_u64() != Some(0) && !told.contains(&name.as_str()))
        .map(|(name, amount)| format!("{}={}", plain(name), text(amount)))
        .collect();
    (!shown.is_empty()).then(|| format!("{prefix}{}", shown.join(", ")))
}

/// The sum of a table of amounts.
fn sum(amounts: &Value) -> Option<u64> {
    let values = amounts.as_object()?.values();
    Some(values.filter_map(Value::as_u64).sum())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name(component: &Value) -> String {
    let name = text(&component["name"]);
    if width(&name) <= NAME_COLUMNS_MAX {
        return name;
    }
    let mut shown = String::new();
    for c in name.chars() {
        if width(&shown) + c.width().unwrap_or(0) >= NAME_COLUMNS_MAX {
            break;
        }
        shown.push(c);
    }
    shown + "…"
}

/// A value as it is shown: without control characters, `-` where there is none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

fn plain(text: &str) -> String {
    let mut shown = String::new();
    escape::plain(text, &mut shown);
    shown
}

fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `512 B`, `1.5 MiB`.
fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if amount < 1024 {
        return format!("{amount} B");
    }
    let mut value = amount as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.2 s`, `63 s`, `5 min 3 s`, `3 h 12 min`, `12 d 5 h`.
fn span(seconds: &Value) -> String {
    let Some(exact) = seconds.as_f64() else {
        return "-".into();
    };
    let whole = exact as u64;
    match whole {
        0..10 => format!("{exact:.1} s"),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        7200..172_800 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_shown_for_people() {
        let check = |amount, expected: &str| assert_eq!(bytes(amount), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(64 << 20, "64.0 MiB");
        check(u64::MAX, "16384.0 PiB");
        let check = |seconds: f64, expected: &str| assert_eq!(span(&json!(seconds)), expected);
        check(0.25, "0.2 s");
        check(63.9, "63 s");
        check(303.0, "5 min 3 s");
        check(11_520.0, "3 h 12 min");
        check(1_054_800.0, "12 d 5 h");
    }

    #[test]
    fn li_1_a_hostile_text_stays_one_line_of_plain_characters_within_the_columns() {
        let hostile = "x\x1b[2J\r\n\u{202e}\u{9b}31m".repeat(40) + " end";
        let report = json!({
            "daemon": { "version": hostile, "last_error": {
                "time": "t", "component": "source.in", "text": hostile } },
            "sources": [{ "name": hostile, "type": "socket", "counts": { hostile.clone(): 3 },
                "places": [hostile, "tcp://[::1]:1"] }],
            "sinks": [{ "name": "out", "trouble": { "why": hostile } }],
        });
        let shown = table(&report);
        let acting = |c: &char| *c != '\n' && escape::is_hostile(*c);
        assert_eq!(shown.chars().filter(acting).count(), 0, "{shown:?}");
        let words = |line: &str| line.split_whitespace().map(str::len).max().unwrap_or(0);
        for line in shown.lines() {
            // Only a word that is longer than a line makes it longer.
            assert!(width(line) <= COLUMNS_MAX || words(line) > 80, "{line}");
        }
    }

    #[test]
    fn what_an_older_daemon_does_not_say_is_a_dash() {
        let shown = table(&json!({ "sources": [{ "name": "in" }], "pipelines": [{}] }));
        assert!(shown.contains("\nin"), "{shown}");
        assert!(
            shown.lines().all(|line| width(line) <= COLUMNS_MAX),
            "{shown}"
        );
    }
}
