//! The numbered documents: every line has its test or its reason, every cited number a line.
//!
//! A line of `docs/CONFORMANCE.md` or `docs/FAULTS.md` is a table row whose first cell is the
//! number (`C-053`, `F-044`) and whose last is `test` or a reason that starts with `–`. A test
//! of number 53 is a function named `c_053_…` (or `c_051_c_053_…`); what only the compiler can
//! show is a `compile_fail` doc-test with `C-053` in it.

use super::source::Source;

/// A row of a numbered table.
struct Row {
    number: u32,
    /// The last cell.
    proof: String,
    /// 1-based line in the document.
    line: usize,
}

/// Rows without test or reason, tests without row, rows out of order.
pub fn proofs(letter: char, name: &str, document: &str, sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let tests = cited(letter, sources);
    let rows = rows(letter, document);
    for row in &rows {
        let has_test = tests.iter().any(|(number, _)| *number == row.number);
        let says = if row.proof == "test" {
            (!has_test).then_some("says test, and there is none")
        } else if row.proof.starts_with('–') && row.proof.chars().count() >= 10 {
            None
        } else {
            Some("has neither `test` nor `– reason`")
        };
        if let Some(says) = says {
            found.push(format!(
                "{name}:{}: {letter}-{:03} {says}",
                row.line, row.number
            ));
        }
    }
    for (number, place) in tests {
        if !rows.iter().any(|row| row.number == number) {
            found.push(format!("{place}: {letter}-{number:03} is not in {name}"));
        }
    }
    for pair in rows.windows(2) {
        if pair[0].number >= pair[1].number {
            found.push(format!(
                "{name}:{}: {} out of order",
                pair[1].line, pair[1].number
            ));
        }
    }
    found
}

fn rows(letter: char, document: &str) -> Vec<Row> {
    let lines = document.lines().enumerate();
    let rows = lines.filter_map(|(index, line)| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let number = cells.first()?.strip_prefix(letter)?.strip_prefix('-')?;
        let [.., proof, ""] = cells.as_slice() else {
            return None;
        };
        Some(Row {
            number: number.parse().ok()?,
            proof: (*proof).to_owned(),
            line: index + 1,
        })
    });
    rows.collect()
}

/// The numbers that tests cite, each with the place of the test.
fn cited(letter: char, sources: &[Source]) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let prefix = format!("fn {}_", letter.to_ascii_lowercase());
    for source in sources {
        for (at, _) in source.code.match_indices(&prefix) {
            let name = &source.code[at + "fn ".len()..];
            found.extend(
                numbers(letter, name)
                    .into_iter()
                    .map(|n| (n, source.place(at))),
            );
        }
        if source.comments.contains("compile_fail") {
            let cite = format!("{letter}-");
            for (at, _) in source.comments.match_indices(&cite) {
                let text = &source.comments[at + cite.len()..];
                let near = source.comments[..at].lines().rev().take(12);
                let after = text.lines().take(12);
                if near.chain(after).any(|line| line.contains("compile_fail")) {
                    found.extend(number(text).map(|n| (n, source.place(at))));
                }
            }
        }
    }
    found
}

/// The numbers at the head of a test's name: `c_363_c_367_silence_closes` has two.
fn numbers(letter: char, name: &str) -> Vec<u32> {
    let prefix = format!("{}_", letter.to_ascii_lowercase());
    let mut rest = name;
    let mut found = Vec::new();
    while let Some(number) = rest.strip_prefix(&prefix).and_then(number) {
        found.push(number);
        rest = rest[prefix.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        rest = rest.strip_prefix('_').unwrap_or(rest);
    }
    found
}

fn number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
