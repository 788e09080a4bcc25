//! `marline buffer list` and `check`: what there is, and what is wrong with it.
//!
//! `list` reads of each buffer its last segment, its cursor and its oldest record. `check` reads
//! all of one: every record with its checksums, and every batch in it to its last field.

use std::fmt::Write;

use crate::buffer::disk::inspect::{Inspection, Seen};
use crate::buffer::disk::{Finding, ReadRecord, What};
use crate::event::codec::{self, Decoded, NameCache};
use crate::service::cli::answer;

use super::{Buffer, EXIT_DAMAGED, State, Stop};

/// Prints a line for each buffer.
pub(super) fn list(state: &State) -> Result<u8, Stop> {
    let names = state.names()?;
    if names.is_empty() {
        let path = state.path();
        return Ok(answer(&format!(
            "no disk buffer is in {}\n",
            path.display()
        )));
    }
    let header = [
        "SINK",
        "EVENTS",
        "SIZE",
        "OLDEST",
        "SEGMENTS",
        "QUARANTINE",
        "STATE",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for name in names {
        let buffer = state.open(&name)?;
        rows.push(row(state, &buffer)?);
    }
    Ok(answer(&table(&rows)))
}

fn row(state: &State, buffer: &Buffer) -> Result<[String; 7], Stop> {
    let owner = buffer.owner();
    let inspection = buffer.look(owner.is_some())?;
    let mut remarks = Vec::new();
    if let Some(owner) = owner {
        remarks.push(format!("in use by {owner}"));
    }
    if state.has_sink(&buffer.sink) == Some(false) {
        remarks.push("its sink is not in the configuration".to_owned());
    }
    if !inspection.findings.is_empty() {
        remarks.push(format!(
            "damaged: see `marline buffer check {}`",
            buffer.sink
        ));
    }
    Ok([
        buffer.sink.clone(),
        inspection.events().to_string(),
        size(inspection.used_bytes),
        oldest(&inspection).unwrap_or_else(|| "-".to_owned()),
        inspection.segments().to_string(),
        size(inspection.quarantine_bytes),
        match remarks[..] {
            [] => "-".to_owned(),
            _ => remarks.join("; "),
        },
    ])
}

/// When the oldest event that can be read was received.
fn oldest(inspection: &Inspection) -> Option<String> {
    let records = inspection.walk(inspection.first_seq);
    let mut records = records.filter_map(|seen| match seen {
        Seen::Record(record) => Some(record),
        Seen::Finding(_) => None,
    });
    let decoded = codec::decode(records.next()?.payload, &mut NameCache::new()).ok()?;
    Some(decoded.batch.received.to_string())
}

/// Columns as wide as what is in them.
fn table(rows: &[[String; 7]]) -> String {
    let mut out = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let widths = rows.iter().map(|row| row[index].chars().count());
            let width = widths.max().unwrap_or(0);
            let _ = match index + 1 == row.len() {
                true => writeln!(out, "{cell}"),
                false => write!(out, "{cell:width$}  "),
            };
        }
    }
    out
}

/// A size with one digit behind the point, in the largest unit of which there is one.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut number = bytes as f64;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes}{}", UNITS[0]),
        _ => format!("{number:.1}{}", UNITS[unit]),
    }
}

/// Goes through all of a buffer; prints each finding with its place and what it costs.
pub(super) fn check(buffer: &Buffer) -> Result<u8, Stop> {
    let inspection = buffer.look(buffer.owner().is_some())?;
    let mut report = Report {
        buffer,
        first_seq: inspection.first_seq,
        findings: 0,
        lost: 0,
    };
    for finding in &inspection.findings {
        report.finding(finding);
    }
    let mut names = NameCache::new();
    for seen in inspection.walk(0) {
        match seen {
            Seen::Finding(finding) => report.finding(&finding),
            Seen::Record(record) => {
                if let Err(what) = read(&record, &mut names) {
                    report.unreadable(&record, &what);
                }
            }
        }
    }
    let Report { findings, lost, .. } = report;
    let (sink, events) = (&buffer.sink, inspection.events());
    answer(&match findings {
        0 => format!("{sink}: {events} events, nothing is wrong\n"),
        1 => format!("{sink}: {events} events, of which {lost} are lost; 1 finding\n"),
        _ => format!("{sink}: {events} events, of which {lost} are lost; {findings} findings\n"),
    });
    Ok(if findings == 0 { 0 } else { EXIT_DAMAGED })
}

/// The batch of a record; it must have as many events as the record says.
pub(super) fn read(record: &ReadRecord, names: &mut NameCache) -> Result<Decoded, String> {
    let decoded =
        codec::decode(record.payload.clone(), names).map_err(|error| error.to_string())?;
    match decoded.batch.len() == record.count as usize {
        true => Ok(decoded),
        false => Err(format!(
            "it has {} events and should have {}",
            decoded.batch.len(),
            record.count
        )),
    }
}

struct Report<'a> {
    buffer: &'a Buffer,
    first_seq: u64,
    findings: u64,
    lost: u64,
}

impl Report<'_> {
    fn finding(&mut self, finding: &Finding) {
        let mut cost = "";
        if let What::Gap { from_seq, to_seq } = finding.what {
            let lost = to_seq.saturating_sub(from_seq.max(self.first_seq));
            self.lost += lost;
            cost = match lost {
                0 => ": nothing is lost, they were delivered",
                _ if from_seq < self.first_seq => ": lost, but for those that were delivered",
                _ => ": lost",
            };
        }
        self.findings += 1;
        let folder = self.buffer.path.display();
        answer(&format!("{folder}/{finding}{cost}\n"));
    }

    fn unreadable(&mut self, record: &ReadRecord, what: &str) {
        let end_seq = record.first_seq + u64::from(record.count);
        let lost = end_seq.saturating_sub(record.first_seq.max(self.first_seq));
        self.findings += 1;
        self.lost += lost;
        answer(&format!(
            "{}: events {} to {end_seq}: {what}: {lost} lost\n",
            self.buffer.path.display(),
            record.first_seq
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let check = |bytes, text: &str| assert_eq!(size(bytes), text);
        check(0, "0B");
        check(1023, "1023B");
        check(1024, "1.0KiB");
        check(8 << 20, "8.0MiB");
        check(u64::MAX, "16777216.0TiB");
    }
}
