//! The judge of several lives: what was acknowledged against what is there in the end.
//!
//! Six sets, by the numbers of the faults' list:
//! - I1 no loss: what was acknowledged is at every required sink. Of a file that is not synced
//!   that holds until the power is cut, as of a disk buffer that does not commit; a bit that
//!   turned may cost the line or the record it is in.
//! - I2 no invention, I3 no corruption: what is there was sent, with the right checksum. A piece
//!   of a line is where a life ended; anything else only in a file that a power cut tore, or of
//!   which the cache has let go what a failed sync never brought to the disk.
//! - I4 bounded doubles: no more than attempts to send, times connections that were lost.
//! - I5 order: the first occurrences of one sender's lines are in order.
//! - I9 accounting: the books of every life balance (the world looks after each turn), and those
//!   of the last life say what came to each file in it.

use std::collections::{BTreeMap, BTreeSet};

use marline::sim::{Death, Fault};

use super::super::plan::Sinking;
use super::poster::parse;
use super::{Ended, Lives};

/// What came out of one sink.
struct Output {
    name: &'static str,
    is_required: bool,
    /// Connections in the order of their beginnings, or files from the oldest on.
    texts: Vec<Vec<u8>>,
    file: Option<File>,
}

/// Of a file: whether each delivered event is durable.
struct File {
    is_synced: bool,
}

/// What the whole of the lives came to.
#[derive(Default)]
pub struct Verdict {
    /// Events that came more than once, so many times more.
    pub doubled: u64,
    /// Pieces and damage, which no promise covers.
    pub pieces: u64,
}

/// Good lines in one output.
#[derive(Default)]
struct Came {
    counts: BTreeMap<(usize, usize), u64>,
    pieces: Vec<Vec<u8>>,
    disordered: Option<String>,
}

/// Fails with the first broken promise.
pub fn judge(lives: &Lives) -> Result<Verdict, String> {
    let mut verdict = Verdict::default();
    for poster in &lives.posters {
        let refusals = poster.refusals.borrow();
        require(refusals.is_empty(), || format!("refused: {refusals:?}"))?;
    }
    for output in outputs(lives)? {
        let came = look(&output);
        let judged = judge_output(lives, &output, &came, &mut verdict);
        judged.map_err(|why| format!("sink {}: {why}", output.name))?;
    }
    Ok(verdict)
}

/// How many good lines each file holds.
pub fn good_lines(lives: &Lives) -> Result<BTreeMap<&'static str, u64>, String> {
    let files = outputs(lives)?.into_iter().filter(|it| it.file.is_some());
    Ok(files
        .map(|output| (output.name, look(&output).counts.values().sum()))
        .collect())
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn outputs(lives: &Lives) -> Result<Vec<Output>, String> {
    let outputs = lives.plan.sinks.iter().map(|sink| match sink {
        Sinking::File(file) => Ok(Output {
            name: file.name,
            is_required: file.is_required,
            texts: file.texts(&lives.outside.storage)?,
            file: Some(File {
                is_synced: file.is_synced,
            }),
        }),
        Sinking::Socket(sink) => {
            let mut collectors = lives.collectors.iter();
            let collector = collectors.find(|it| it.plan.name == sink.name);
            let collector = collector.ok_or("has no collector")?;
            Ok(Output {
                name: sink.name,
                is_required: sink.is_required,
                texts: collector.texts(),
                file: None,
            })
        }
    });
    outputs.collect()
}

fn look(output: &Output) -> Came {
    let mut came = Came::default();
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for text in &output.texts {
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|it| !it.is_empty())
        {
            let Some((sender, number)) = parse(line) else {
                came.pieces.push(line.to_vec());
                continue;
            };
            let count = came.counts.entry((sender, number)).or_default();
            *count += 1;
            if *count > 1 {
                continue;
            }
            let before = last.insert(sender, number);
            if before.is_some_and(|before| before > number) {
                came.disordered = Some(format!("p{sender}-{number} came after {before:?}"));
            }
        }
    }
    came
}

fn judge_output(
    lives: &Lives,
    output: &Output,
    came: &Came,
    verdict: &mut Verdict,
) -> Result<(), String> {
    // A page that the disk never took, and that the cache has let go of, reads as zeros.
    let is_dropped = lives.faults().of(Fault::CacheDropped) > 0;
    let is_torn = output.file.is_some() && (was_cut(&lives.ended, 0) || is_dropped);
    verdict.pieces += came.pieces.len() as u64;
    no_invention(lives, came)?;
    no_corruption(lives, came, is_torn)?;
    verdict.doubled += bounded_doubles(lives, came)?;
    let is_mixed = lives.resets() + lives.faults().of(Fault::AcceptDelayed) > 0;
    let is_disturbed = is_torn || (output.file.is_none() && is_mixed);
    if let Some(disorder) = came.disordered.clone().filter(|_| !is_disturbed) {
        return Err(disorder);
    }
    no_loss(lives, output, came)
}

fn no_invention(lives: &Lives, came: &Came) -> Result<(), String> {
    let mut issued = BTreeSet::new();
    for (id, poster) in lives.posters.iter().enumerate() {
        let mut number = 0;
        for (lines, fate) in poster.plan.requests.iter().zip(poster.fates()) {
            let numbers = number..number + lines.len();
            number = numbers.end;
            if fate.attempts > 0 {
                issued.extend(numbers.map(|number| (id, number)));
            }
        }
    }
    let invented = came.counts.keys().find(|it| !issued.contains(it));
    require(invented.is_none(), || format!("invented: {invented:?}"))
}

/// A piece that is no line is the beginning of one, unless the disk tore it.
fn no_corruption(lives: &Lives, came: &Came, is_torn: bool) -> Result<(), String> {
    let flips = lives.faults().of(Fault::BitFlipped) as usize;
    let lines = || {
        let posters = lives.posters.iter();
        posters.flat_map(|poster| poster.plan.requests.iter().flatten())
    };
    let is_piece = |piece: &&Vec<u8>| lines().any(|line| line.starts_with(piece));
    let odd: Vec<_> = came.pieces.iter().filter(|it| !is_piece(it)).collect();
    let is_allowed = is_torn || odd.len() <= flips;
    require(is_allowed, || format!("damaged: {}", odd[0].escape_ascii()))?;
    let ends = lives.ended.len() + lives.resets() as usize;
    let whole = came.pieces.len() - odd.len();
    require(whole <= ends || is_torn, || {
        format!("{whole} lines are cut off, by {ends} ends")
    })
}

fn bounded_doubles(lives: &Lives, came: &Came) -> Result<u64, String> {
    let losses = 1 + lives.resets() + lives.ended.len() as u64;
    let mut doubled = 0;
    for (id, poster) in lives.posters.iter().enumerate() {
        let mut number = 0;
        for (lines, fate) in poster.plan.requests.iter().zip(poster.fates()) {
            for _ in lines {
                let count = came.counts.get(&(id, number)).copied().unwrap_or(0);
                require(count <= fate.attempts * losses, || {
                    format!("p{id}-{number} came {count} times, {fate:?}")
                })?;
                doubled += count.saturating_sub(1);
                number += 1;
            }
        }
    }
    Ok(doubled)
}

fn no_loss(lives: &Lives, output: &Output, came: &Came) -> Result<(), String> {
    if !output.is_required {
        return Ok(());
    }
    let is_synced = |file: &File| file.is_synced;
    let durability = lives.plan.disks.get(output.name);
    let survives_cuts = output.file.as_ref().is_none_or(is_synced)
        && durability.is_none_or(|durability| *durability == "commit");
    let mut lost = Vec::new();
    for (id, poster) in lives.posters.iter().enumerate() {
        let mut number = 0;
        for (lines, fate) in poster.plan.requests.iter().zip(poster.fates()) {
            for _ in lines {
                let is_owed = fate
                    .acked_in
                    .is_some_and(|life| survives_cuts || !was_cut(&lives.ended, life));
                if is_owed && !came.counts.contains_key(&(id, number)) {
                    lost.push((id, number));
                }
                number += 1;
            }
        }
    }
    // A bit that was a newline costs the lines on both sides of it; one in a disk buffer costs the
    // record that it is in.
    let flips = lives.faults().of(Fault::BitFlipped) as usize;
    let most = match (durability, &output.file) {
        (Some(_), _) if flips > 0 || lives.may_lose_by_sync(output.name) => usize::MAX,
        (None, Some(_)) => 2 * flips,
        _ => 0,
    };
    require(lost.len() <= most, || {
        format!("{} acknowledged lines are lost: {lost:?}", lost.len())
    })
}

/// Whether the power was cut in `life` or later.
fn was_cut(ended: &[Ended], life: u64) -> bool {
    let since = ended.iter().skip(life as usize);
    since.into_iter().any(|it| it.death == Death::PowerCut)
}
