//! The judge of several lives: what was acknowledged against what is there in the end.
//!
//! Six sets, by the numbers of the faults' list:
//! - I1 no loss: what was acknowledged is at every required sink. Of a file that is not synced
//!   that holds until the power is cut, as of a disk buffer that does not commit; a bit that
//!   turned may cost the line or the record it is in, which is counted then ([`Stake`]). What a
//!   collector had in its kernel when it died, and the sink that had sent it was gone before it
//!   could send it again, nobody knows of. A sink that is beside the others for a while has what
//!   began and was acknowledged meanwhile.
//! - I2 no invention, I3 no corruption: what is there was sent, with the right checksum. A piece
//!   of a line is where a life ended; anything else only in a file that a power cut tore, or of
//!   which the cache has let go what a failed sync never brought to the disk.
//! - I4 bounded doubles: no more than attempts to send, times connections that were lost
//!   and components that were replaced. What has one `Idempotency-Key` is one.
//! - I5 order: the first occurrences of one sender's lines are in order.
//! - I9 accounting: the books of every life balance (the world looks after each turn), and those
//!   of the last life say what came to each file in it.

use std::collections::{BTreeMap, BTreeSet};

use marline::sim::{Death, Fault};

use super::super::plan::Sinking;
use super::flips::Stake;
use super::poster::{Fate, parse};
use super::{Ended, Lives};

/// What came out of one sink.
struct Output {
    name: &'static str,
    owed: Owed,
    /// Connections in the order of their beginnings, or files from the oldest on.
    texts: Vec<Vec<u8>>,
    file: Option<File>,
}

/// Which of the acknowledged lines have to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    None,
    All,
    /// Those that began and were acknowledged while the sink was beside the others.
    Beside,
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
    /// Lines that were lost where nobody could know.
    pub unknowable: u64,
    /// Lines that were lost with a bit that turned.
    pub flipped: u64,
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
    for receiver in &lives.receivers {
        if let Some(complaint) = &*receiver.complaint.borrow() {
            return Err(format!("sink {}: {complaint}", receiver.plan.name));
        }
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
    let mut outputs = Vec::new();
    for sink in &lives.plan.sinks {
        let file = match sink {
            Sinking::File(file) => Some(file),
            _ => None,
        };
        outputs.push(Output {
            name: sink.name(),
            owed: match sink.is_required() {
                true => Owed::All,
                false => Owed::None,
            },
            texts: match file {
                Some(file) => file.texts(&lives.outside.storage)?,
                None => received(lives, sink.name()),
            },
            file: file.map(|file| File {
                is_synced: file.is_synced,
            }),
        });
    }
    let name = lives.plan.beside.name;
    outputs.push(Output {
        name,
        owed: Owed::Beside,
        texts: received(lives, name),
        file: None,
    });
    Ok(outputs)
}

/// What has come to the collectors of a sink, wherever it was, in the order in which it came.
fn received(lives: &Lives, name: &str) -> Vec<Vec<u8>> {
    let collectors = lives.collectors.iter().filter(|it| it.plan.name == name);
    let streams = collectors.flat_map(|it| it.connections());
    let streams = streams.map(|it| (it.accepted_at, it.text));
    let receivers = lives.receivers.iter().filter(|it| it.plan.name == name);
    let mut texts: Vec<_> = streams.chain(receivers.flat_map(|it| it.texts())).collect();
    texts.sort_by_key(|(at, _)| *at);
    texts.into_iter().map(|(_, text)| text).collect()
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
    // What a sink gives back that does not stop within five seconds comes out of its order.
    let is_late = lives.replaced.contains(output.name) && lives.faults().of(Fault::JobDelayed) > 0;
    let is_disturbed = is_torn || is_late || (output.file.is_none() && is_mixed);
    if let Some(disorder) = came.disordered.clone().filter(|_| !is_disturbed) {
        return Err(disorder);
    }
    no_loss(lives, output, came, verdict)
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
    let lines = || {
        let posters = lives.posters.iter();
        posters.flat_map(|poster| poster.plan.requests.iter().flatten())
    };
    let is_piece = |piece: &&Vec<u8>| lines().any(|line| line.starts_with(piece));
    let odd: Vec<_> = came.pieces.iter().filter(|it| !is_piece(it)).collect();
    let is_allowed = is_torn || odd.is_empty();
    require(is_allowed, || format!("damaged: {}", odd[0].escape_ascii()))?;
    let ends = lives.ended.len() + lives.resets() as usize + lives.forms.replaced() as usize;
    let whole = came.pieces.len() - odd.len();
    require(whole <= ends || is_torn, || {
        format!("{whole} lines are cut off, by {ends} ends")
    })
}

fn bounded_doubles(lives: &Lives, came: &Came) -> Result<u64, String> {
    let losses = 1 + lives.resets() + lives.ended.len() as u64 + lives.forms.replaced();
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

fn no_loss(
    lives: &Lives,
    output: &Output,
    came: &Came,
    verdict: &mut Verdict,
) -> Result<(), String> {
    let is_synced = |file: &File| file.is_synced;
    let durability = match output.owed {
        Owed::All => lives.plan.disks.get(output.name),
        _ => None,
    };
    let survives_cuts = output.file.as_ref().is_none_or(is_synced)
        && durability.is_none_or(|durability| *durability == "commit");
    let mut lost = Vec::new();
    for (id, poster) in lives.posters.iter().enumerate() {
        let mut number = 0;
        for (lines, fate) in poster.plan.requests.iter().zip(poster.fates()) {
            for _ in lines {
                let is_owed = fate
                    .acked_in
                    .is_some_and(|life| survives_cuts || !was_cut(&lives.ended, life))
                    && is_owed(lives, output.owed, &fate);
                if is_owed && !came.counts.contains_key(&(id, number)) {
                    lost.push((id, number));
                }
                number += 1;
            }
        }
    }
    let before = lost.len();
    let unknowable = unknowable(lives, output.name);
    lost.retain(|line| !unknowable.contains(line));
    verdict.unknowable += (before - lost.len()) as u64;
    if lives.may_lose_by_sync(output.name) && durability.is_some() {
        return Ok(());
    }
    let stake = Stake::of(lives, output.name);
    let before = lost.len();
    lost.retain(|line| !stake.lines.contains(line));
    let in_records = lost.len();
    lost.retain(|line| !stake.records.contains(line));
    let in_records = (in_records - lost.len()) as u64;
    verdict.flipped += (before - lost.len()) as u64;
    require(lost.is_empty(), || {
        format!("{} acknowledged lines are lost: {lost:?}", lost.len())
    })?;
    let counted = lives.damaged.get(output.name).copied().unwrap_or(0);
    require(in_records <= counted, || {
        format!("{in_records} lines are lost in records, {counted} events are counted as damaged")
    })
}

fn is_owed(lives: &Lives, owed: Owed, fate: &Fate) -> bool {
    match owed {
        Owed::None => false,
        Owed::All => true,
        Owed::Beside => fate.acked_between.is_some_and(|(began, acked)| {
            let mut spans = lives.beside.iter();
            spans.any(|(from, until)| *from <= began && until.is_none_or(|until| acked < until))
        }),
    }
}

/// The lines that a collector had in its kernel, acknowledged, and did not read, on a connection
/// whose sink was gone before it had sent them again. A sink sends again first: where something
/// new came on a later connection, it has.
fn unknowable(lives: &Lives, name: &str) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    for collector in lives.collectors.iter().filter(|it| it.plan.name == name) {
        let mut seen: BTreeSet<(u64, (usize, usize))> = BTreeSet::new();
        let mut unread: Vec<(u64, (usize, usize))> = Vec::new();
        for connection in collector.connections() {
            let owner = connection.owner;
            let whole = [&connection.text[..], &connection.unread].concat();
            let mut at = 0;
            let mut mine = Vec::new();
            let mut has_news = false;
            for line in whole.split(|byte| *byte == b'\n') {
                at += line.len() + 1;
                let Some(line) = parse(line) else { continue };
                has_news |= seen.insert((owner, line));
                if at > connection.text.len() {
                    mine.push((owner, line));
                }
            }
            if has_news {
                unread.retain(|(of, _)| *of != owner);
            }
            unread.extend(mine);
        }
        let gone = unread.iter().filter(|(of, _)| *of < collector.owner());
        found.extend(gone.map(|(_, line)| *line));
    }
    found
}

/// Whether the power was cut in `life` or later.
fn was_cut(ended: &[Ended], life: u64) -> bool {
    let since = ended.iter().skip(life as usize);
    since.into_iter().any(|it| it.death == Death::PowerCut)
}
